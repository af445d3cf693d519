//! All configured proxies and key sets: takes the shards' calls, carries each out with the right one, and delivers the
//! answers.

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use super::call::{Answer, Call, Question};
use super::http_client::{HttpClient, Schemes};
use super::jwks::{KeySetFetcher, KeySetSnapshot};
use super::proxy::{AdmittedCall, Proxy};
use super::settings::{ProxySettings, SetupError};
use super::stats::ProxySnapshot;
use crate::ids::{ConnId, ShardId};

/// Most idle connections kept to one backend. Fewer are kept if fewer calls may be in progress.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// The configured proxies and key sets.
#[derive(Debug)]
pub struct Backend {
    /// `Call::proxy` is the index.
    proxies: Vec<Arc<Proxy>>,
    /// For the tokens of connections.
    connection_keys: Option<KeySetFetcher>,
    /// For the tokens of subscriptions.
    subscription_keys: Option<KeySetFetcher>,
}

/// A call that was admitted.
enum Admitted {
    Proxy(AdmittedCall),
    Keys(KeySetFetcher),
}

impl Backend {
    /// Checks the settings. Nothing is sent yet.
    pub fn new(proxies: Vec<ProxySettings>) -> Result<Self, SetupError> {
        Self::reloaded(None, proxies)
    }

    /// The backend after a reload. A proxy of `before` whose settings are the same is kept, with its calls, its circuit
    /// breaker and its counters.
    pub fn reloaded(before: Option<&Self>, proxies: Vec<ProxySettings>) -> Result<Self, SetupError> {
        let is_https = |endpoint: &str| endpoint.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let any_https = proxies.iter().any(|proxy| is_https(&proxy.endpoint));
        let schemes = if any_https { Schemes::HttpAndHttps } else { Schemes::Http };
        let idle = proxies.iter().map(|proxy| proxy.concurrency_max).max().unwrap_or(0).min(IDLE_CONNECTIONS_MAX);
        let client = HttpClient::new(schemes, idle)?;
        let same =
            |settings: &ProxySettings| before?.proxies.iter().find(|proxy| proxy.settings() == settings).cloned();
        let proxies = proxies.into_iter().map(|settings| match same(&settings) {
            Some(proxy) => Ok(proxy),
            None => Proxy::new(settings, client.clone()).map(Arc::new),
        });
        Ok(Self { proxies: proxies.collect::<Result<_, _>>()?, connection_keys: None, subscription_keys: None })
    }

    /// Sets where `Question::Keys` is answered. Without a key set such a call fails.
    pub fn with_keys(self, connection: Option<KeySetFetcher>, subscription: Option<KeySetFetcher>) -> Self {
        Self { connection_keys: connection, subscription_keys: subscription, ..self }
    }

    /// Carries out a call. Takes at most the proxy's timeout, or the time of a key set's fetch. A call that fails has
    /// the answer `Answer::Failed`.
    pub async fn ask(&self, call: Call) -> Answer {
        match self.admit(&call) {
            Some(admitted) => admitted.perform(&call).await,
            None => Answer::Failed,
        }
    }

    /// The counters of every proxy, in the order of the configuration.
    pub fn snapshot(&self) -> Vec<ProxySnapshot> {
        self.proxies.iter().map(|proxy| proxy.snapshot()).collect()
    }

    /// The counters of the configured key sets.
    pub fn key_sets(&self) -> Vec<KeySetSnapshot> {
        [&self.connection_keys, &self.subscription_keys].into_iter().flatten().map(KeySetFetcher::snapshot).collect()
    }

    /// `None` if the call fails at once.
    fn admit(&self, call: &Call) -> Option<Admitted> {
        if let Question::Keys { subscription } = call.question {
            let keys = if subscription { &self.subscription_keys } else { &self.connection_keys };
            return keys.clone().map(Admitted::Keys);
        }
        let Some(proxy) = self.proxies.get(usize::from(call.proxy)) else {
            debug_assert!(false, "shards use only the configured proxies");
            return None;
        };
        proxy.admit(call).map(Admitted::Proxy)
    }
}

impl Admitted {
    async fn perform(self, call: &Call) -> Answer {
        match self {
            Self::Proxy(admitted) => admitted.perform(call).await,
            Self::Keys(fetcher) => fetcher.refetch().await.map_or(Answer::Failed, Answer::Keys),
        }
    }
}

/// Carries out the shards' calls, each with the backend that was configured when the call was made, until all senders are
/// gone and the last call is answered. Calls run concurrently; the proxies limit their number. `deliver` sends an answer
/// to the shard.
pub async fn run(mut calls: Receiver<(Arc<Backend>, Call)>, deliver: impl Fn(ShardId, ConnId, u32, Answer)) {
    let mut in_progress = JoinSet::new();
    let mut is_open = true;
    while is_open || !in_progress.is_empty() {
        tokio::select! {
            call = calls.recv(), if is_open => match call {
                Some((backend, call)) => match backend.admit(&call) {
                    Some(admitted) => drop(in_progress.spawn(async move {
                        let answer = admitted.perform(&call).await;
                        (call, answer)
                    })),
                    None => deliver(call.shard, call.conn, call.serial, Answer::Failed),
                },
                None => is_open = false,
            },
            Some(done) = in_progress.join_next() => match done {
                Ok((call, answer)) => deliver(call.shard, call.conn, call.serial, answer),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
        }
    }
}
