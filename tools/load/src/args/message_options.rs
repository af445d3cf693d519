//! The messages of subscribers and publishers, as options that several subcommands share, and what follows from them.

use crate::RunError;
use crate::args::options::{Common, Cores, Identity};
use crate::net::{Target, Url};
use crate::protocols::publish_template::Api;
use crate::protocols::pusher::{self, App};
use crate::protocols::token::Tokens;
use crate::protocols::{Messages, Protocol, Shape};
use clap::Args;
use std::sync::Arc;

#[derive(Clone, Debug, Args)]
pub struct MessageOptions {
    /// Bytes of a publication's data (message protocol: a JSON string with its quotes); at least 38
    #[arg(long, short, default_value_t = 64)]
    pub size: usize,
    /// The data: a string of letters, or an object like those of services (at least 72 bytes)
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    pub payload: Shape,
    #[arg(long, value_enum, default_value_t = Protocol::Centrifuge)]
    pub protocol: Protocol,
    /// Plain protocol: a frame that each subscriber sends first; {channel} is replaced by its channel
    #[arg(long, value_name = "FRAME")]
    pub hello: Option<String>,
    /// Plain protocol: the frame that publishes; {channel} and {payload} are replaced
    #[arg(long, value_name = "TEMPLATE")]
    pub publish_frame: Option<String>,
    /// Binary frames instead of text
    #[arg(long)]
    pub binary: bool,
    /// Message protocol: subscriptions ask for a position
    #[arg(long)]
    pub positioned: bool,
    /// The URL of the publishers, if it is not the first one of the subscribers
    #[arg(long, value_name = "URL", conflicts_with = "api")]
    pub publish_url: Option<String>,
    /// Connections that only publish, used in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=255))]
    pub publishers: u16,
    /// Publish over the server's HTTP API instead: http://HOST:PORT/api, Pusher http://HOST:PORT. Each of --publishers is a
    /// keep-alive connection with one request in flight
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// Message protocol: the environment variable with the API key
    #[arg(long, value_name = "VAR", requires = "api")]
    pub key_env: Option<String>,
    #[command(flatten)]
    pub pusher: Pusher,
    #[command(flatten)]
    pub identity: Identity,
    /// Subscribers that check and time every delivery, on workers of their own together with the publishers. The others are sinks,
    /// which only count deliveries and compare the count at the end. A window follows the probes. Default: all are probes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub probes: Option<u32>,
    /// Cores of the probes' workers, apart from --cores; by default they have one worker
    #[arg(long, value_parser = crate::args::options::cores, requires = "probes", requires = "cores")]
    pub probe_cores: Option<Cores>,
}

/// An application of a Pusher server.
#[derive(Clone, Debug, Default, Args)]
pub struct Pusher {
    /// Pusher: the ID of the app, for the API (its key is part of the URL: ws://HOST:PORT/app/KEY)
    #[arg(long, value_name = "ID", default_value = "app")]
    pub pusher_app: String,
    /// Pusher: the environment variable with the app's secret, which signs requests and private channels
    #[arg(long, value_name = "VAR")]
    pub pusher_secret_env: Option<String>,
}

impl Pusher {
    /// The app of connections to `url`, which signs, if its secret is given.
    pub fn app(&self, protocol: Protocol, url: &str) -> Result<Option<Arc<App>>, RunError> {
        if protocol != Protocol::Pusher {
            return Ok(None);
        }
        let Some(key) = pusher::key_of(url) else {
            return Err(RunError(format!("{url}: with --protocol pusher the URL is ws://HOST:PORT/app/KEY")));
        };
        let Some(name) = &self.pusher_secret_env else { return Ok(None) };
        let secret = variable("--pusher-secret-env", name)?;
        Ok(Some(Arc::new(App::new(&self.pusher_app, key, &secret))))
    }
}

impl Identity {
    /// What makes tokens, if connections have any.
    pub fn tokens(&self) -> Result<Option<Arc<Tokens>>, RunError> {
        let Some(name) = &self.token_secret_env else { return Ok(None) };
        let secret = variable("--token-secret-env", name)?;
        Ok(Some(Arc::new(Tokens::new(&secret, self.user_bytes, self.info_bytes, self.subscription_tokens))))
    }
}

/// The environment variable that an option names.
pub fn variable(option: &str, name: &str) -> Result<String, RunError> {
    std::env::var(name).map_err(|_| RunError(format!("{option}: the environment variable {name} is not set")))
}

impl MessageOptions {
    /// The messages of connections to `url`.
    pub fn messages(&self, url: &str) -> Result<Messages, RunError> {
        let messages = Messages {
            protocol: self.protocol,
            hello: self.hello.clone(),
            template: self.publish_frame.clone(),
            binary: self.binary,
            shape: self.payload,
            size: self.size,
            tokens: self.identity.tokens()?,
            positioned: self.positioned,
            app: self.pusher.app(self.protocol, url)?,
        };
        if self.protocol == Protocol::Pusher && messages.app.is_none() {
            return Err(RunError("--protocol pusher needs --pusher-secret-env, to sign publications".into()));
        }
        if self.size < messages.size_min() {
            return Err(RunError(format!("--size must be at least {} here, for the stamp", messages.size_min())));
        }
        Ok(messages)
    }

    /// The server of the publishers, and its API if they use one.
    pub fn publish_target(
        &self,
        url: &str,
        common: &Common,
        messages: &Messages,
    ) -> Result<(Target, Option<Api>), RunError> {
        let Some(api) = &self.api else {
            let url = self.publish_url.as_deref().unwrap_or(url);
            return Ok((Target::new(self.protocol, url, &common.transport)?, None));
        };
        let url = Url::parse(api, "http://")?;
        let api = match (&messages.app, self.protocol) {
            (Some(app), _) => Api::Pusher { host: url.host, app: app.clone() },
            (None, Protocol::Plain) => return Err(RunError("--api: the plain protocol has no API".into())),
            (None, _) => {
                let key = self.key_env.as_ref().map(|name| variable("--key-env", name)).transpose()?;
                Api::centrifuge(&url.host, &url.path, key.as_deref())
            }
        };
        Ok((Target::without_upgrade(url.addr), Some(api)))
    }

    /// A channel name that clients may publish to: with Pusher, a private one.
    pub fn channel(&self, name: &str) -> String {
        let private = self.protocol == Protocol::Pusher && self.api.is_none() && !name.starts_with(pusher::PRIVATE);
        format!("{}{name}", if private { pusher::PRIVATE } else { "" })
    }

    /// `n` names of equal length that begin with `name`; only `name` if `n` is 1.
    pub fn channels(&self, name: &str, n: usize) -> Vec<String> {
        let (name, digits) = (self.channel(name), n.saturating_sub(1).to_string().len());
        (0..n).map(|i| if n == 1 { name.clone() } else { format!("{name}{i:0digits$}") }).collect()
    }
}
