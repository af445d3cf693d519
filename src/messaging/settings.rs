//! The settings of messaging, in the form in which shards use them: one copy for all shards, replaced at a reload. And the
//! connection counts, which all shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::auth::{Origins, Verifier};
use crate::backend::call::Call;
use crate::config;
use crate::engine::stats::Bound;
use crate::engine::token_bucket::Rate;
use crate::protocol;
use crate::ws::Request;

use super::handover_peer::HandoverPeer;
use super::hooks::Hooks;
use super::session::{Headers, Transport};
use super::session_ids::SessionIds;

/// Bytes of header fields that one connection keeps for the backend; fields past it are left out.
const HEADERS_BYTES_MAX: usize = 4 * 1024;

/// Connections and subscriptions have tokens, which may have keys of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    Connection,
    Subscription,
}

/// Takes a user, the client id of the user's new connection, and the user's personal channel.
pub type UserConnected = dyn Fn(&str, &str, &str) + Send + Sync;

/// One copy for all shards.
pub struct Settings {
    pub client: config::Client,
    pub channel: config::Channel,
    pub origins: Origins,
    pub tokens: Verifier,
    /// If subscription tokens have keys of their own.
    pub subscription_tokens: Option<Verifier>,
    pub uni_websocket: config::UniWebsocket,
    pub http_stream: config::HttpStream,
    pub sse: config::Sse,
    pub emulation: config::Emulation,
    pub uni_http_stream: config::UniHttpStream,
    pub uni_sse: config::UniSse,
    pub init: config::ConnInit,
    /// The id by which clients and other servers know this server.
    pub node: Arc<str>,
    pub session_ids: Arc<SessionIds>,
    /// The connect reply names the shard.
    pub shows_shard: bool,
    /// The endpoint `/echo` sends messages back.
    pub echo: bool,
    pub connect_proxy: Option<u16>,
    pub refresh_proxy: Option<u16>,
    pub rpc: config::Rpc,
    /// Header fields that some proxy is to see, in lower case: of the upgrade request, and of the connect command.
    pub proxied_headers: Vec<String>,
    pub emulated_headers: Vec<String>,
    /// Bytes of history in all shards together.
    pub history_bytes_max: usize,
    /// The zero of the shards' clock in wall-clock time, in milliseconds since 1970.
    pub clock_zero_unix_ms: u64,
    /// Queues a call to the backend; false if there is no room.
    pub backend: Arc<dyn Fn(Call) -> bool + Send + Sync>,
    pub connection_counts: Arc<ConnectionCounts>,
    /// For the commands of one connection.
    pub command_rate: Option<Rate>,
    /// At start: the process that this one takes over from.
    pub handover_peer: Option<Arc<dyn HandoverPeer>>,
    /// The rules of the program that embeds the server.
    pub hooks: Option<Arc<dyn Hooks>>,
    /// Called when a user connects who may have a single connection, if other servers may have connections of the user.
    pub user_connected: Option<Arc<UserConnected>>,
}

impl Settings {
    /// From a checked configuration. `backend` queues a shard's call, or returns false if there is no room.
    pub fn new(config: &config::Config, backend: impl Fn(Call) -> bool + Send + Sync + 'static) -> Self {
        Self::of(config, Arc::new(backend), Arc::default())
    }

    /// After a reload. The ping interval stays, since connected clients know it and close without a ping; so does what
    /// only a restart changes.
    pub fn reloaded(&self, config: &config::Config, backend: impl Fn(Call) -> bool + Send + Sync + 'static) -> Self {
        let config::Client { ping_interval, pong_timeout, .. } = self.client;
        let new = Self::of(config, Arc::new(backend), Arc::clone(&self.connection_counts));
        let client = config::Client { ping_interval, pong_timeout, ..new.client };
        let (hooks, user_connected) = (self.hooks.clone(), self.user_connected.clone());
        let (node, session_ids) = (Arc::clone(&self.node), Arc::clone(&self.session_ids));
        let channel = with_durabilities(new.channel, &self.channel);
        Self { client, channel, echo: self.echo, hooks, user_connected, node, session_ids, ..new }
    }

    fn of(
        config: &config::Config,
        backend: Arc<dyn Fn(Call) -> bool + Send + Sync>,
        connection_counts: Arc<ConnectionCounts>,
    ) -> Self {
        let client = &config.client;
        let verifier = |settings| Verifier::new(settings).expect("config validation builds the same verifier");
        let names = |of: fn(&config::Proxy) -> &Vec<String>| {
            let mut names: Vec<String> = config.proxies.iter().flat_map(|proxy| of(proxy).iter().cloned()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        Settings {
            client: client.clone(),
            channel: config.channel.clone(),
            origins: Origins::new(&client.allowed_origins).expect("config validation builds the same origins"),
            tokens: verifier(&client.token),
            subscription_tokens: client.subscription_token().map(verifier),
            uni_websocket: config.uni_websocket.clone(),
            http_stream: config.http_stream.clone(),
            sse: config.sse.clone(),
            emulation: config.emulation.clone(),
            uni_http_stream: config.uni_http_stream.clone(),
            uni_sse: config.uni_sse.clone(),
            init: config.init.clone(),
            node: uuid::Uuid::new_v4().to_string().into(),
            session_ids: Arc::default(),
            shows_shard: config.dev,
            echo: config.echo.enabled,
            connect_proxy: config.connect_proxy,
            refresh_proxy: config.refresh_proxy,
            rpc: config.rpc.clone(),
            proxied_headers: names(|proxy| &proxy.http_headers),
            emulated_headers: names(|proxy| &proxy.emulated_headers),
            history_bytes_max: config.engine.history_bytes_max,
            clock_zero_unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            backend,
            connection_counts,
            command_rate: Rate::new(client.command_rate_limit.into(), client.command_rate_burst.into()),
            handover_peer: None,
            hooks: None,
            user_connected: None,
        }
    }

    /// The namespace of a channel: its index and its options.
    pub fn namespace(&self, channel: &str) -> Option<(usize, &config::Namespace)> {
        self.channel.find(channel)
    }

    /// What a connect that fails is answered with, in the transports that answer by a response.
    pub(super) fn response_codes(&self, transport: Transport) -> &config::ResponseCodes {
        match transport {
            Transport::UniSse => &self.uni_sse.connect_code_to_http_response,
            _ => &self.uni_http_stream.connect_code_to_http_response,
        }
    }

    /// The header fields of an upgrade request that some proxy is to see.
    pub(crate) fn keep_headers(&self, request: &Request<'_>) -> Headers {
        let mut bytes = 0;
        let mut kept = Vec::new();
        for name in &self.proxied_headers {
            for value in request.values(name).filter_map(|value| std::str::from_utf8(value).ok()) {
                bytes += name.len() + value.len();
                if bytes <= HEADERS_BYTES_MAX {
                    kept.push((name.clone(), value.to_owned()));
                }
            }
        }
        (!kept.is_empty()).then(|| kept.into_boxed_slice())
    }

    /// Adds the header fields of the connect command that some proxy is to see. False if they are malformed.
    pub(crate) fn keep_emulated(&self, kept: &mut Headers, emulated: protocol::Headers<'_>) -> bool {
        let mut all = kept.take().map(Vec::from).unwrap_or_default();
        let mut bytes = 0;
        for header in emulated {
            let Ok((name, value)) = header else { return false };
            let name = name.to_ascii_lowercase();
            bytes += name.len() + value.len();
            if bytes <= HEADERS_BYTES_MAX && self.emulated_headers.contains(&name) {
                all.push((name, value.into_owned()));
            }
        }
        *kept = (!all.is_empty()).then(|| all.into_boxed_slice());
        true
    }

    /// True for subscription tokens that the keys of connection tokens do not verify.
    pub(crate) fn has_own_keys(&self, kind: TokenKind) -> bool {
        kind == TokenKind::Subscription && self.subscription_tokens.is_some()
    }

    /// Where the key set of these tokens is fetched; empty if it is not.
    pub fn key_endpoint(&self, kind: TokenKind) -> &str {
        match kind {
            TokenKind::Connection => &self.client.token.jwks_public_endpoint,
            TokenKind::Subscription => self.client.subscription_token().map_or("", |own| &own.jwks_public_endpoint),
        }
    }
}

/// A namespace keeps its durability until a restart: its channels are in the memory of their home shards, or in the log.
fn with_durabilities(mut new: config::Channel, running: &config::Channel) -> config::Channel {
    new.without_namespace.durability = running.without_namespace.durability;
    for namespace in &mut new.namespaces {
        if let Some(before) = running.namespaces.iter().find(|before| before.name == namespace.name) {
            namespace.durability = before.durability;
        }
    }
    new
}

/// Connections of all shards, touched only when one opens and closes: an exception to "shards share nothing".
pub struct ConnectionCounts {
    open: AtomicU64,
    started: Instant,
    /// The current second and the connections that opened in it, in one word.
    this_second: AtomicU64,
}

impl Default for ConnectionCounts {
    fn default() -> Self {
        Self { open: AtomicU64::new(0), started: Instant::now(), this_second: AtomicU64::new(0) }
    }
}

impl ConnectionCounts {
    /// Err: the limit of connections, or of new ones per second, is reached.
    pub(crate) fn admit(&self, client: &config::Client) -> Result<(), Bound> {
        if client.connection_limit > 0 && self.open.load(Ordering::Relaxed) >= client.connection_limit as u64 {
            return Err(Bound::Connections);
        }
        let rate = client.connection_rate_limit;
        match rate == 0 || self.count_in_second(self.started.elapsed().as_secs(), rate as u64) {
            true => Ok(()),
            false => Err(Bound::ConnectionRate),
        }
    }

    fn count_in_second(&self, second: u64, limit: u64) -> bool {
        let counted = self.this_second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (then, count) = (word >> 32, word & 0xffff_ffff);
            let count = if then == second & 0xffff_ffff { count } else { 0 };
            (count < limit).then_some((second & 0xffff_ffff) << 32 | (count + 1))
        });
        counted.is_ok()
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_per_second_are_limited_in_each_second() {
        let counts = ConnectionCounts::default();
        assert_eq!((0..5).filter(|_| counts.count_in_second(7, 3)).count(), 3);
        assert_eq!((0..5).filter(|_| counts.count_in_second(8, 3)).count(), 3);
    }
}
