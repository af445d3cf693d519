//! Calls to the operator's backends over HTTP or gRPC (PROTOCOL.md, 14): from a shard's `Call` to its `Answer`.
//!
//! ```text
//!  Call ─► admit ─► wait for a place ─► try, try again ─► read the reply ─► Answer
//!            │ circuit open, queue full                        every other way out ─► Answer::Failed
//!            └─► Answer::Failed, at once
//! ```
//!
//! A backend that is gone, slow or mad costs its own calls an answer and nobody else anything: every call has a deadline,
//! every proxy a bound on calls under way and waiting, every reply a bound on its bytes.
//!
//! Differences from the dialect's original: redirects are not followed, since they would carry the clients' headers
//! elsewhere; calls are repeated where that is safe; there is a circuit breaker.

pub(crate) mod breaker;
pub mod call;
pub(crate) mod decode_reply;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod json_request;
pub mod jwks;
pub(crate) mod messages;
pub(crate) mod proxy;
pub(crate) mod reply;
pub(crate) mod settings;
pub(crate) mod stats;

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use crate::ids::{ConnId, ShardId};
use call::{Answer, Call, Question};
use jwks::{KeyDesk, KeySetSnapshot};

pub use http::REPLY_BYTES_MAX;
pub use settings::{Backoff, BreakerSettings, ProxySettings, SetupError, StatusAnswer};
pub use stats::{DURATION_BUCKETS_MS, ProxySnapshot, Reason};

/// The messages and both sides of `proxy.proto`.
pub mod proto {
    tonic::include_proto!("centrifugal.centrifugo.proxy");
}

pub(crate) use http::{Fault, client, take};
pub(crate) use settings::endpoint;

use proxy::{Proxy, Ticket};

/// Idle connections kept to one backend: as many as calls may be under way, and no more than this.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// The configured proxies, and the key sets, which are asked for by the same way.
#[derive(Debug)]
pub struct Backend {
    /// `Call::proxy` is the index.
    proxies: Vec<Arc<Proxy>>,
    /// For tokens of connections, and of subscriptions.
    keys: [Option<KeyDesk>; 2],
}

/// A call that was let in.
enum Admitted {
    Proxy(Ticket),
    Keys(KeyDesk),
}

impl Backend {
    /// Checks the settings; asks nobody yet.
    pub fn new(proxies: Vec<ProxySettings>) -> Result<Self, SetupError> {
        Self::after(None, proxies)
    }

    /// The same, where what is in `before` with the same settings goes on as it is, with its calls, its circuit and its
    /// numbers.
    pub fn after(before: Option<&Self>, proxies: Vec<ProxySettings>) -> Result<Self, SetupError> {
        let https = |endpoint: &str| endpoint.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let https = proxies.iter().any(|proxy| https(&proxy.endpoint));
        let idle = proxies.iter().map(|proxy| proxy.concurrency_max).max().unwrap_or(0).min(IDLE_CONNECTIONS_MAX);
        let client = client(https, 0, idle)?;
        let same =
            |settings: &ProxySettings| before?.proxies.iter().find(|proxy| proxy.settings() == settings).cloned();
        let proxies = proxies.into_iter().map(|settings| match same(&settings) {
            Some(proxy) => Ok(proxy),
            None => Proxy::new(settings, client.clone()).map(Arc::new),
        });
        Ok(Self { proxies: proxies.collect::<Result<_, _>>()?, keys: [None, None] })
    }

    /// Where `Question::Keys` goes: for the tokens of connections and of subscriptions. Without one such a call fails.
    pub fn with_keys(self, connection: Option<KeyDesk>, subscription: Option<KeyDesk>) -> Self {
        Self { keys: [connection, subscription], ..self }
    }

    /// The answer to a call; `Answer::Failed` where there is no good one. Takes no longer than the proxy's timeout, or
    /// what a question for keys may take.
    pub async fn ask(&self, call: Call) -> Answer {
        match self.admit(&call) {
            Some(admitted) => admitted.carry_out(&call).await,
            None => Answer::Failed,
        }
    }

    /// The numbers of every proxy, in the order of the configuration.
    pub fn snapshot(&self) -> Vec<ProxySnapshot> {
        self.proxies.iter().map(|proxy| proxy.snapshot()).collect()
    }

    /// The numbers of the key sets that there are.
    pub fn key_sets(&self) -> Vec<KeySetSnapshot> {
        self.keys.iter().flatten().map(KeyDesk::snapshot).collect()
    }

    /// None has failed at once.
    fn admit(&self, call: &Call) -> Option<Admitted> {
        if let Question::Keys { subscription, .. } = call.question {
            return self.keys[usize::from(subscription)].clone().map(Admitted::Keys);
        }
        let Some(proxy) = self.proxies.get(usize::from(call.proxy)) else {
            debug_assert!(false, "a shard knows no proxies but the configured");
            return None;
        };
        proxy.admit(call).map(Admitted::Proxy)
    }
}

impl Admitted {
    async fn carry_out(self, call: &Call) -> Answer {
        match self {
            Self::Proxy(ticket) => ticket.carry_out(call).await,
            Self::Keys(desk) => match desk.asked_again().await {
                true => Answer::Keys,
                false => Answer::Failed,
            },
        }
    }
}

/// Carries out the shards' calls, each with the backend of the settings that it was asked under, until their senders are gone and the last one is answered. Each runs on its own; how
/// many there are at once is bounded by the proxies' places and queues. `deliver` hands an answer to the shard.
pub async fn run(mut calls: Receiver<(Arc<Backend>, Call)>, deliver: impl Fn(ShardId, ConnId, u32, Answer)) {
    let mut under_way = JoinSet::new();
    let mut more = true;
    while more || !under_way.is_empty() {
        tokio::select! {
            call = calls.recv(), if more => match call {
                Some((backend, call)) => match backend.admit(&call) {
                    Some(admitted) => drop(under_way.spawn(async move {
                        let answer = admitted.carry_out(&call).await;
                        (call, answer)
                    })),
                    None => deliver(call.shard, call.conn, call.serial, Answer::Failed),
                },
                None => more = false,
            },
            Some(done) = under_way.join_next() => match done {
                Ok((call, answer)) => deliver(call.shard, call.conn, call.serial, answer),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
        }
    }
}
