//! The way to the operator's backends: shards put calls into one bounded queue, the control thread carries them out, answers
//! go to the shard that asked. Key sets are fetched here too, and told to every shard.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;

use super::shard_client::ShardClient;
use crate::auth::KeySet;
use crate::backend;
use crate::backend::call::{Answer, Call};
use crate::backend::jwks::{KeySetFetcher, KeySettings, key_set};
use crate::backend::{Backend, BreakerSettings, EmptyConnect, ProxySettings, SetupError, StatusAnswer};
use crate::config::{self, Config, StatusToCode};

/// Calls that wait for the control thread; one more fails at once.
const CALLS_MAX: usize = 4096;

/// A call, and the backend of the settings that it was asked under: the numbers of proxies are those of its settings.
type Asked = (Arc<Backend>, Call);

/// Made before the shards are, run once they are there.
pub struct Backends {
    calls: Receiver<Asked>,
    pub desk: Desk,
}

/// What of the backends changes when the settings are read again.
pub struct Desk {
    sender: Sender<Asked>,
    backend: Arc<Backend>,
    /// Of connections, and of subscriptions.
    keys: [Option<Arc<Keeper>>; 2],
    shards: Arc<OnceLock<ShardClient>>,
}

/// One key set and the task that fetches it, which ends with the last settings that name it.
struct Keeper {
    endpoint: Arc<str>,
    desk: KeySetFetcher,
    fetches: Mutex<Fetches>,
}

enum Fetches {
    Waiting(Pin<Box<dyn Future<Output = ()> + Send>>),
    Running(AbortHandle),
    /// Only for the moment between the two.
    Neither,
}

impl Keeper {
    /// Fetches from now on, if it does not yet.
    fn begin(&self) {
        let mut fetches = self.fetches.lock().expect("nobody panics with it");
        *fetches = match std::mem::replace(&mut *fetches, Fetches::Neither) {
            Fetches::Waiting(task) => Fetches::Running(tokio::spawn(task).abort_handle()),
            other => other,
        };
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Ok(Fetches::Running(task)) = self.fetches.get_mut() {
            task.abort();
        }
    }
}

impl Backends {
    /// Errors: an endpoint that cannot be one.
    pub fn open(config: &Config) -> Result<Self, SetupError> {
        let (sender, calls) = channel(CALLS_MAX);
        Ok(Self { calls, desk: Desk::new(config, sender, Arc::default(), None)? })
    }

    /// Its calls, for `Desk::begin` to be called when the shards know the settings.
    pub fn split(self) -> (Desk, impl Future<Output = ()>) {
        let told = Arc::clone(&self.desk.shards);
        let deliver = move |shard, conn, serial, answer: Answer| {
            if let Some(shards) = told.get() {
                shards.tell_answer(shard, conn, serial, answer);
            }
        };
        (self.desk, backend::run(self.calls, deliver))
    }
}

impl Desk {
    fn new(
        config: &Config,
        sender: Sender<Asked>,
        shards: Arc<OnceLock<ShardClient>>,
        before: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let client = &config.client;
        let anonymous = client.insecure || client.allow_anonymous_connect_without_token;
        let proxies = config.proxies.iter().map(|proxy| settings(proxy, anonymous)).collect();
        let keys = |subscription: bool, endpoint: &str| {
            let same = before.and_then(|desk| desk.keys[usize::from(subscription)].as_ref());
            match same.filter(|keeper| *keeper.endpoint == *endpoint) {
                Some(keeper) => Ok(Some(Arc::clone(keeper))),
                None => keeper(subscription, endpoint, &shards),
            }
        };
        let connection = keys(false, &client.token.jwks_public_endpoint)?;
        let own = client.subscription_token().map_or("", |token| &token.jwks_public_endpoint);
        let keys = [connection, keys(true, own)?];
        let [connection, subscription] = keys.each_ref().map(|keeper| keeper.as_ref().map(|one| one.desk.clone()));
        let backend =
            Backend::reloaded(before.map(|desk| &*desk.backend), proxies)?.with_keys(connection, subscription);
        Ok(Self { sender, backend: Arc::new(backend), keys, shards })
    }

    /// For other settings: what is the same in both goes on. Errors: an endpoint that cannot be one.
    pub fn renewed(&self, config: &Config) -> Result<Self, SetupError> {
        Self::new(config, self.sender.clone(), Arc::clone(&self.shards), Some(self))
    }

    /// Where shards with these settings put their calls; false where there is no room.
    pub fn entrance(&self) -> impl Fn(Call) -> bool + Send + Sync + 'static {
        let (sender, backend) = (self.sender.clone(), Arc::clone(&self.backend));
        move |call| sender.try_send((Arc::clone(&backend), call)).is_ok()
    }

    /// Who carries the calls out, for its numbers.
    pub fn caller(&self) -> Arc<Backend> {
        Arc::clone(&self.backend)
    }

    /// Key sets are fetched from here on: the shards know the settings.
    pub fn begin(&self, shards: &ShardClient) {
        self.shards.get_or_init(|| shards.clone());
        self.keys.iter().flatten().for_each(|keeper| keeper.begin());
    }
}

fn keeper(
    subscription: bool,
    endpoint: &str,
    shards: &Arc<OnceLock<ShardClient>>,
) -> Result<Option<Arc<Keeper>>, SetupError> {
    if endpoint.is_empty() {
        return Ok(None);
    }
    let section = if subscription { "client.subscription_token" } else { "client.token" };
    let name = format!("{section}.jwks_public_endpoint");
    let settings = KeySettings { name, endpoint: endpoint.to_owned(), ..KeySettings::default() };
    let endpoint: Arc<str> = endpoint.into();
    let (shards, from) = (Arc::clone(shards), Arc::clone(&endpoint));
    let deliver = move |keys: KeySet| {
        if let Some(shards) = shards.get() {
            shards.tell_keys(subscription, &from, &Arc::new(keys));
        }
    };
    let (desk, task) = key_set(settings, KeySet::parse, deliver)?;
    Ok(Some(Arc::new(Keeper { endpoint, desk, fetches: Mutex::new(Fetches::Waiting(Box::pin(task))) })))
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
        empty_connect: if anonymous { EmptyConnect::Anonymous } else { EmptyConnect::Reject },
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
