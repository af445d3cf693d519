//! The way to the operator's backends: shards put calls into one bounded queue, the control thread carries them out, answers
//! go to the shard that asked. Key sets are fetched here too, and told to every shard.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::fleet::Shards;
use crate::auth::KeySet;
use crate::backend::{Answer, Call};
use crate::config::{self, Config, StatusToCode};
use crate::control::backend::{self, Backend, BreakerSettings, ProxySettings, SetupError, StatusAnswer};
use crate::control::keys::{KeyDesk, KeySettings, key_set};

/// Calls that wait for the control thread; one more fails at once.
const CALLS_MAX: usize = 4096;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Made before the shards are, run once they are there.
pub struct Backends {
    calls: Receiver<Call>,
    backend: Arc<Backend>,
    keepers: Vec<Task>,
    shards: Arc<OnceLock<Shards>>,
}

impl Backends {
    /// Also returns the shards' end. Errors: an endpoint that cannot be one.
    pub fn open(config: &Config) -> Result<(Self, Sender<Call>), SetupError> {
        let (sender, calls) = channel(CALLS_MAX);
        let client = &config.client;
        let anonymous = client.insecure || client.allow_anonymous_connect_without_token;
        let proxies = config.proxies.iter().map(|proxy| settings(proxy, anonymous)).collect();
        let shards: Arc<OnceLock<Shards>> = Arc::default();
        let mut keepers = Vec::new();
        let mut desk = |subscription: bool, endpoint: &str| -> Result<Option<KeyDesk>, SetupError> {
            if endpoint.is_empty() {
                return Ok(None);
            }
            let section = if subscription { "client.subscription_token" } else { "client.token" };
            let name = format!("{section}.jwks_public_endpoint");
            let settings = KeySettings { name, endpoint: endpoint.to_owned(), ..KeySettings::default() };
            let shards = Arc::clone(&shards);
            let deliver = move |keys: KeySet| {
                if let Some(shards) = shards.get() {
                    shards.tell_keys(subscription, &Arc::new(keys));
                }
            };
            let (desk, keeper) = key_set(settings, KeySet::parse, deliver)?;
            keepers.push(Box::pin(keeper) as Task);
            Ok(Some(desk))
        };
        let connection = desk(false, &client.token.jwks_public_endpoint)?;
        let own = client.subscription_token().map_or("", |token| &token.jwks_public_endpoint);
        let subscription = desk(true, own)?;
        let backend = Arc::new(Backend::new(proxies)?.with_keys(connection, subscription));
        Ok((Self { calls, backend, keepers, shards }, sender))
    }

    /// Who carries the calls out, for its numbers.
    pub fn caller(&self) -> Arc<Backend> {
        Arc::clone(&self.backend)
    }

    /// For ever: carries out calls, keeps the key sets.
    pub async fn run(self, shards: Shards) {
        let Self { calls, backend, keepers, shards: told } = self;
        _ = told.set(shards.clone());
        let deliver = move |shard, conn, serial, answer: Answer| shards.tell_answer(shard, conn, serial, answer);
        let calls = backend::run(calls, backend, deliver);
        let mut keepers: Vec<Task> = keepers;
        keepers.push(Box::pin(calls));
        every(keepers).await;
    }
}

/// Drives all to their ends, in this task.
async fn every(mut tasks: Vec<Task>) {
    std::future::poll_fn(|cx| {
        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn settings(proxy: &config::Proxy, anonymous: bool) -> ProxySettings {
    let default = ProxySettings::default();
    ProxySettings {
        name: proxy.name.clone(),
        endpoint: proxy.endpoint.clone(),
        timeout: proxy.timeout,
        http_headers: proxy.http_headers.iter().chain(&proxy.emulated_headers).cloned().collect(),
        static_http_headers: proxy.static_headers.clone(),
        include_connection_meta: proxy.include_connection_meta,
        binary_encoding: proxy.binary_encoding,
        status_answers: proxy.status_to_code.iter().map(status_answer).collect(),
        anonymous_without_result: anonymous,
        retries_max: proxy.retries_max,
        retry_backoff: backend::Backoff {
            min: proxy.retry_backoff,
            max: proxy.retry_backoff_max,
            ..default.retry_backoff
        },
        concurrency_max: proxy.concurrency_max as usize,
        queue_max: proxy.queue_max as usize,
        breaker: BreakerSettings { failures_to_open: proxy.breaker_failures, open_for: proxy.breaker_open },
    }
}

fn status_answer(one: &StatusToCode) -> StatusAnswer {
    let answer = match one.disconnect_code {
        0 => Answer::Error { code: one.error_code, message: one.error_message.clone(), temporary: one.error_temporary },
        code => Answer::Disconnect { code: code as u16, reason: one.disconnect_reason.clone() },
    };
    StatusAnswer { status: one.status, answer }
}
