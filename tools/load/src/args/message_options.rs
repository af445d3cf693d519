//! What subscribers and publishers say, as options that several subcommands share, and what is made of them.

use crate::args::options::Cores;
use crate::args::{Common, Identity};
use crate::net::{Place, Target};
use crate::protocols::publish_template::Backend;
use crate::protocols::pusher::{self, App};
use crate::protocols::{Dialect, Protocol, Shape};
use crate::runs::{self, Refusal};
use clap::Args;
use std::sync::Arc;

#[derive(Clone, Debug, Args)]
pub struct Speech {
    /// Bytes of a publication's data (message protocol: a JSON string with its quotes); at least 38
    #[arg(long, short, default_value_t = 64)]
    pub size: usize,
    /// What the data is: a string of letters, or an object as services send them (at least 72 bytes)
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    pub payload: Shape,
    #[arg(long, value_enum, default_value_t = Protocol::Centrifuge)]
    pub protocol: Protocol,
    /// Plain protocol: a frame that each subscriber sends first; {channel} stands for its channel
    #[arg(long, value_name = "FRAME")]
    pub hello: Option<String>,
    /// Plain protocol: the frame that publishes; {channel} and {payload} stand for what they say
    #[arg(long, value_name = "TEMPLATE")]
    pub publish_frame: Option<String>,
    /// Binary frames instead of text
    #[arg(long)]
    pub binary: bool,
    /// Message protocol: subscriptions ask for a position
    #[arg(long)]
    pub positioned: bool,
    /// Where publishers connect, if elsewhere
    #[arg(long, value_name = "URL", conflicts_with = "api")]
    pub publish_url: Option<String>,
    /// Connections that publish, apart from the subscribers; they take turns
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=255))]
    pub publishers: u16,
    /// Publish over the server's HTTP API instead: http://HOST:PORT/api, Pusher http://HOST:PORT. Each of --publishers is a
    /// keep-alive connection with one request under way
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// Message protocol: the variable that holds the API's key
    #[arg(long, value_name = "VAR", requires = "api")]
    pub key_env: Option<String>,
    #[command(flatten)]
    pub pusher: Pusher,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub probing: Probing,
}

/// An application of a Pusher server.
#[derive(Clone, Debug, Default, Args)]
pub struct Pusher {
    /// Pusher: the app's id, which the API is asked by (its key stands in the URL: ws://HOST:PORT/app/KEY)
    #[arg(long, value_name = "ID", default_value = "app")]
    pub pusher_app: String,
    /// Pusher: the variable that holds the app's secret, which signs requests and private channels
    #[arg(long, value_name = "VAR")]
    pub pusher_secret_env: Option<String>,
}

impl Pusher {
    /// What signs for connections to `url`, if it is known.
    pub fn app(&self, protocol: Protocol, url: &str) -> Result<Option<Arc<App>>, Refusal> {
        if protocol != Protocol::Pusher {
            return Ok(None);
        }
        let Some(key) = pusher::key_of(url) else {
            return Err(Refusal(format!("{url}: with --protocol pusher the URL is ws://HOST:PORT/app/KEY")));
        };
        let Some(name) = &self.pusher_secret_env else { return Ok(None) };
        let secret = variable("--pusher-secret-env", name)?;
        Ok(Some(Arc::new(App::new(&self.pusher_app, key, &secret))))
    }
}

/// Who looks into what comes.
#[derive(Clone, Debug, Default, Args)]
pub struct Probing {
    /// Subscribers that follow and time every delivery, on workers of their own with the publishers; the others are sinks, which
    /// only count and must have counted right at the end. A window is refilled by what probes got. Without it all follow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub probes: Option<u32>,
    /// Cores of the probes' workers, apart from --cores; without it they have one worker
    #[arg(long, value_parser = crate::args::options::cores, requires = "probes", requires = "cores")]
    pub probe_cores: Option<Cores>,
}

/// An environment variable that an option names.
pub fn variable(option: &str, name: &str) -> Result<String, Refusal> {
    std::env::var(name).map_err(|_| Refusal(format!("{option}: {name} is not set")))
}

impl Speech {
    /// How connections to `url` are spoken with.
    pub fn dialect(&self, url: &str) -> Result<Dialect, Refusal> {
        let dialect = Dialect {
            protocol: self.protocol,
            hello: self.hello.clone(),
            template: self.publish_frame.clone(),
            binary: self.binary,
            shape: self.payload,
            size: self.size,
            tokens: runs::tokens(&self.identity)?,
            positioned: self.positioned,
            app: self.pusher.app(self.protocol, url)?,
        };
        if self.protocol == Protocol::Pusher && dialect.app.is_none() {
            return Err(Refusal("--protocol pusher needs --pusher-secret-env, to sign what is published".into()));
        }
        if self.size < dialect.size_min() {
            return Err(Refusal(format!("--size must be at least {} here, to carry its stamp", dialect.size_min())));
        }
        Ok(dialect)
    }

    /// Where publishers connect, and what makes requests of publications if it is an API.
    pub fn publishing(
        &self,
        url: &str,
        common: &Common,
        dialect: &Dialect,
    ) -> Result<(Target, Option<Backend>), Refusal> {
        let Some(api) = &self.api else {
            let url = self.publish_url.as_deref().unwrap_or(url);
            return Ok((Target::speaking(self.protocol, url, &common.transport).map_err(Refusal)?, None));
        };
        let place = Place::parse(api, "http://").map_err(Refusal)?;
        let backend = match (&dialect.app, self.protocol) {
            (Some(app), _) => Backend::Pusher { host: place.host.clone(), app: app.clone() },
            (None, Protocol::Plain) => return Err(Refusal("--api: the plain protocol has no API".into())),
            (None, _) => {
                let key = self.key_env.as_ref().map(|name| variable("--key-env", name)).transpose()?;
                Backend::centrifuge(&place.host, &place.path, key.as_deref())
            }
        };
        Ok((Target::silent(place.addr), Some(backend)))
    }

    /// A channel's name as clients may use it: Pusher's clients publish to private ones only.
    pub fn channel(&self, name: &str) -> String {
        let private = self.protocol == Protocol::Pusher && self.api.is_none() && !name.starts_with(pusher::PRIVATE);
        format!("{}{name}", if private { pusher::PRIVATE } else { "" })
    }

    /// `n` names that begin with `name`, of one length; just `name` if it is one.
    pub fn channels(&self, name: &str, n: usize) -> Vec<String> {
        let (name, digits) = (self.channel(name), n.saturating_sub(1).to_string().len());
        (0..n).map(|i| if n == 1 { name.clone() } else { format!("{name}{i:0digits$}") }).collect()
    }
}
