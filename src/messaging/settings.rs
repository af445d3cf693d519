//! What the operator decided about the message protocol, as shards use it; and the two numbers that all shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::auth::grant::ConnectGrant;
use crate::auth::{KeySet, Origins, TokenError, Verifier};
use crate::backend::call::Call;
use crate::config;
use crate::engine::stats::Bound;
use crate::engine::token_bucket::Rate;
use crate::protocol;
use crate::ws::Request;

use super::session::Headers;
use super::{HandoverPeer, Messaging};

/// Bytes of the headers that one connection may keep for the backend; what is beyond is left out.
const KEPT_HEADERS_BYTES_MAX: usize = 4 * 1024;

/// One copy for all shards.
pub struct Settings {
    pub client: config::Client,
    pub channel: config::Channel,
    pub origins: Origins,
    pub tokens: Verifier,
    /// Of subscriptions, where they have keys of their own.
    pub subscription_tokens: Option<Verifier>,
    pub uni_websocket: config::UniWebsocket,
    /// The connect reply tells the shard.
    pub tell_shard: bool,
    pub connect_proxy: Option<u16>,
    pub refresh_proxy: Option<u16>,
    pub rpc: config::Rpc,
    /// Header fields that some proxy is to see, in lower case: of the upgrade request, and of the connect command.
    pub proxied_headers: Vec<String>,
    pub emulated_headers: Vec<String>,
    /// Bytes of history in all shards together.
    pub history_bytes_max: usize,
    /// The zero of the shards' clock, by the wall clock at start.
    pub began_unix_ms: u64,
    /// Where calls to the backend go; false where there is no room.
    pub backend: Arc<dyn Fn(Call) -> bool + Send + Sync>,
    pub shared: Arc<Shared>,
    /// Of the commands of one connection.
    pub command_rate: Option<Rate>,
    /// What a node begins with: the server that this one takes over from.
    pub twin: Option<Arc<dyn HandoverPeer>>,
}

impl Settings {
    /// Of a checked configuration. `backend` takes the shards' calls, or says that there is no room.
    pub fn new(config: &config::Config, backend: impl Fn(Call) -> bool + Send + Sync + 'static) -> Self {
        Self::of(config, Arc::new(backend), Arc::default())
    }

    /// Those of another configuration and its backends, for a server that runs. Clients were told when pings come, and
    /// wait for them no longer than that.
    pub fn renewed(&self, config: &config::Config, backend: impl Fn(Call) -> bool + Send + Sync + 'static) -> Self {
        let config::Client { ping_interval, pong_timeout, .. } = self.client;
        let new = Self::of(config, Arc::new(backend), Arc::clone(&self.shared));
        Self { client: config::Client { ping_interval, pong_timeout, ..new.client }, ..new }
    }

    fn of(config: &config::Config, backend: Arc<dyn Fn(Call) -> bool + Send + Sync>, shared: Arc<Shared>) -> Self {
        let client = &config.client;
        // Keys and origins passed the same checks when the settings were read.
        let verifier = |settings| Verifier::new(settings).expect("the settings were checked");
        let names = |of: fn(&config::Proxy) -> &Vec<String>| {
            let mut names: Vec<String> = config.proxies.iter().flat_map(|proxy| of(proxy).iter().cloned()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        Settings {
            client: client.clone(),
            channel: config.channel.clone(),
            origins: Origins::new(&client.allowed_origins).expect("the settings were checked"),
            tokens: verifier(&client.token),
            subscription_tokens: client.subscription_token().map(verifier),
            uni_websocket: config.uni_websocket.clone(),
            tell_shard: config.dev,
            connect_proxy: config.connect_proxy,
            refresh_proxy: config.refresh_proxy,
            rpc: config.rpc.clone(),
            proxied_headers: names(|proxy| &proxy.http_headers),
            emulated_headers: names(|proxy| &proxy.emulated_headers),
            history_bytes_max: config.engine.history_bytes_max,
            began_unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            backend,
            shared,
            command_rate: Rate::new(client.command_rate_limit.into(), client.command_rate_burst.into()),
            twin: None,
        }
    }

    /// The namespace of a channel, by its place and its options.
    pub fn namespace(&self, channel: &str) -> Option<(usize, &config::Namespace)> {
        self.channel.find(channel)
    }

    /// The fields of an upgrade request that some proxy is to see.
    pub(crate) fn keep_headers(&self, request: &Request<'_>) -> Headers {
        let mut bytes = 0;
        let mut kept = Vec::new();
        for name in &self.proxied_headers {
            for value in request.values(name).filter_map(|value| std::str::from_utf8(value).ok()) {
                bytes += name.len() + value.len();
                if bytes <= KEPT_HEADERS_BYTES_MAX {
                    kept.push((name.clone(), value.to_owned()));
                }
            }
        }
        (!kept.is_empty()).then(|| kept.into_boxed_slice())
    }

    /// To the headers of the upgrade come those of the connect command that some proxy is to see. False: they are malformed.
    pub(crate) fn keep_emulated(&self, kept: &mut Headers, emulated: protocol::Headers<'_>) -> bool {
        let mut all = kept.take().map(Vec::from).unwrap_or_default();
        let mut bytes = 0;
        for header in emulated {
            let Ok((name, value)) = header else { return false };
            let name = name.to_ascii_lowercase();
            bytes += name.len() + value.len();
            if bytes <= KEPT_HEADERS_BYTES_MAX && self.emulated_headers.contains(&name) {
                all.push((name, value.into_owned()));
            }
        }
        *kept = (!all.is_empty()).then(|| all.into_boxed_slice());
        true
    }

    /// Where keys for the tokens of connections, or of subscriptions, are fetched; empty for nowhere.
    pub fn key_endpoint(&self, subscription: bool) -> &str {
        let own = self.client.subscription_token().filter(|_| subscription);
        match (subscription, own) {
            (true, None) => "",
            (true, Some(own)) => &own.jwks_public_endpoint,
            (false, _) => &self.client.token.jwks_public_endpoint,
        }
    }

    pub fn connect_token(&self, token: &str, keys: &Keys, now_s: u64) -> Result<ConnectGrant, TokenError> {
        self.tokens.connect(token, keys.connection.as_deref(), now_s)
    }
}

impl Messaging {
    /// Other settings hold for whatever is asked from now on. Fetched keys of an endpoint that is not asked any more go.
    pub(crate) fn decided_anew(&mut self, settings: Arc<Settings>) {
        for (subscription, keys) in [(false, &mut self.keys.connection), (true, &mut self.keys.subscription)] {
            if settings.key_endpoint(subscription) != self.settings.key_endpoint(subscription) {
                *keys = None;
            }
        }
        self.settings = settings;
    }

    /// Whether a token may be checked in this turn: signatures of public keys are many times as costly as the others.
    pub(crate) fn may_check(&mut self, token: &str, subscription: bool) -> bool {
        let own = self.settings.subscription_tokens.as_ref().filter(|_| subscription);
        if !own.unwrap_or(&self.settings.tokens).is_costly(token) {
            return true;
        }
        let may = self.costly_left > 0;
        self.costly_waits |= !may;
        self.costly_left = self.costly_left.saturating_sub(1);
        may
    }
}

/// The key sets that were fetched.
#[derive(Clone, Default)]
pub struct Keys {
    pub connection: Option<Arc<KeySet>>,
    pub subscription: Option<Arc<KeySet>>,
}

/// Touched when a connection comes and goes, and only then: the one exception to "nothing shared".
pub struct Shared {
    open: AtomicU64,
    began: Instant,
    /// The current second and the connections that came in it, in one word.
    arrivals: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { open: AtomicU64::new(0), began: Instant::now(), arrivals: AtomicU64::new(0) }
    }
}

impl Shared {
    /// Says where the limit of connections, or of new ones in a second, is reached.
    pub(crate) fn may_enter(&self, client: &config::Client) -> Result<(), Bound> {
        if client.connection_limit > 0 && self.open.load(Ordering::Relaxed) >= client.connection_limit as u64 {
            return Err(Bound::Connections);
        }
        let rate = client.connection_rate_limit;
        match rate == 0 || self.arrive(self.began.elapsed().as_secs(), rate as u64) {
            true => Ok(()),
            false => Err(Bound::ConnectionRate),
        }
    }

    fn arrive(&self, second: u64, limit: u64) -> bool {
        let counted = self.arrivals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (then, count) = (word >> 32, word & 0xffff_ffff);
            let count = if then == second & 0xffff_ffff { count } else { 0 };
            (count < limit).then_some((second & 0xffff_ffff) << 32 | (count + 1))
        });
        counted.is_ok()
    }

    pub(crate) fn entered(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn left(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_so_many_in_and_the_next_as_many_again() {
        let shared = Shared::default();
        assert_eq!((0..5).filter(|_| shared.arrive(7, 3)).count(), 3);
        assert_eq!((0..5).filter(|_| shared.arrive(8, 3)).count(), 3);
    }
}
