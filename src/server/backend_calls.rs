//! How the shards call the operator's backends: they put calls into one bounded queue, the control thread carries them out,
//! and each answer goes back to the shard that asked. Key sets are fetched here too, and sent to every shard.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;

use super::shard_client::ShardClient;
use crate::auth::{KeySet, TokenSettings};
use crate::backend;
use crate::backend::call::{Answer, Call};
use crate::backend::jwks::{KeySetFetcher, KeySettings, key_set};
use crate::backend::{Backend, BreakerSettings, EmptyConnect, ProxySettings, SetupError, StatusAnswer};
use crate::config::{self, Config, StatusToCode};
use crate::messaging::TokenKind;

/// Calls that may wait for the control thread; one more fails at once.
const CALLS_MAX: usize = 4096;

/// A call, with the backend of the settings under which it was made: it names a proxy by its number in those settings.
type QueuedCall = (Arc<Backend>, Call);

/// The queue of calls. It is made before the shards, and runs once they exist.
pub(crate) struct BackendQueue {
    calls: Receiver<QueuedCall>,
    pub access: BackendAccess,
}

/// The part of the backends that a reload replaces.
pub(crate) struct BackendAccess {
    shared: Shared,
    backend: Arc<Backend>,
    /// By `TokenKind`.
    key_tasks: [Option<Arc<KeyTask>>; 2],
}

/// The part that outlives every reload.
#[derive(Clone)]
struct Shared {
    queue: Sender<QueuedCall>,
    /// Set once the shards exist.
    shards: Arc<OnceLock<ShardClient>>,
    runtime: Handle,
}

/// A key set and the task that fetches it. The task ends with the last settings that name the endpoint.
struct KeyTask {
    endpoint: Arc<str>,
    age_max: Duration,
    keys: KeySetFetcher,
    /// Starts the first fetch.
    start: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for KeyTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BackendQueue {
    /// `runtime` runs the tasks that fetch keys. Errors: an endpoint that is not valid.
    pub(crate) fn open(config: &Config, runtime: &Handle) -> Result<Self, SetupError> {
        let (queue, calls) = channel(CALLS_MAX);
        let access =
            BackendAccess::new(config, Shared { queue, shards: Arc::default(), runtime: runtime.clone() }, None)?;
        Ok(Self { calls, access })
    }

    /// The access, and the future that carries out the calls.
    pub(crate) fn split(self) -> (BackendAccess, impl Future<Output = ()>) {
        let shards = Arc::clone(&self.access.shared.shards);
        let deliver = move |shard, conn, serial, answer: Answer| {
            if let Some(shards) = shards.get() {
                shards.send_backend_answer(shard, conn, serial, answer);
            }
        };
        (self.access, backend::run(self.calls, deliver))
    }
}

impl BackendAccess {
    fn new(config: &Config, shared: Shared, previous: Option<&Self>) -> Result<Self, SetupError> {
        let client = &config.client;
        let anonymous = client.insecure || client.allow_anonymous_connect_without_token;
        let proxies = config.proxies.iter().map(|proxy| settings(proxy, anonymous)).collect();
        let key_task = |of: TokenKind, token: Option<&TokenSettings>| {
            let Some(token) = token.filter(|token| !token.jwks_public_endpoint.is_empty()) else { return Ok(None) };
            let (endpoint, age_max) = (&*token.jwks_public_endpoint, token.jwks_age_max);
            let same = previous.and_then(|access| access.key_tasks[of as usize].as_ref());
            match same.filter(|task| *task.endpoint == *endpoint && task.age_max == age_max) {
                Some(task) => Ok(Some(Arc::clone(task))),
                None => KeyTask::new(of, endpoint, age_max, &shared).map(|task| Some(Arc::new(task))),
            }
        };
        let key_tasks = [
            key_task(TokenKind::Connection, Some(&client.token))?,
            key_task(TokenKind::Subscription, client.subscription_token())?,
        ];
        let [connection, subscription] = key_tasks.each_ref().map(|task| task.as_ref().map(|task| task.keys.clone()));
        let previous = previous.map(|access| &*access.backend);
        let backend = Backend::reloaded(previous, proxies)?.with_keys(connection, subscription);
        Ok(Self { shared, backend: Arc::new(backend), key_tasks })
    }

    /// For reloaded settings. Proxies and key sets whose settings are the same go on. Errors: an endpoint that is not valid.
    pub(crate) fn reloaded(&self, config: &Config) -> Result<Self, SetupError> {
        Self::new(config, self.shared.clone(), Some(self))
    }

    /// Where shards with these settings put their calls. It returns false if the queue is full.
    pub(crate) fn sender(&self) -> impl Fn(Call) -> bool + Send + Sync + 'static {
        let (queue, backend) = (self.shared.queue.clone(), Arc::clone(&self.backend));
        move |call| queue.try_send((Arc::clone(&backend), call)).is_ok()
    }

    /// For its numbers.
    pub(crate) fn backend(&self) -> Arc<Backend> {
        Arc::clone(&self.backend)
    }

    /// Starts the first fetch of each key set; a reload fetches the sets again that it keeps. Call it when the shards have the
    /// settings that name the endpoints.
    pub(crate) fn start_key_fetches(&self, shards: &ShardClient) {
        self.shared.shards.get_or_init(|| shards.clone());
        for task in self.key_tasks.iter().flatten() {
            task.start.notify_one();
            let keys = task.keys.clone();
            self.shared.runtime.spawn(async move { keys.refetch().await });
        }
    }
}

impl KeyTask {
    fn new(of: TokenKind, endpoint: &str, age_max: Duration, shared: &Shared) -> Result<Self, SetupError> {
        let section = match of {
            TokenKind::Connection => "client.token",
            TokenKind::Subscription => "client.subscription_token",
        };
        let name = format!("{section}.jwks_public_endpoint");
        let settings = KeySettings { name, endpoint: endpoint.to_owned(), age_max, ..KeySettings::default() };
        let endpoint: Arc<str> = endpoint.into();
        let (shards, source) = (Arc::clone(&shared.shards), Arc::clone(&endpoint));
        let deliver = move |keys: Option<KeySet>| {
            if let Some(shards) = shards.get() {
                shards.send_keys(of, &source, &keys.map(Arc::new));
            }
        };
        let (keys, fetches) = key_set(settings, KeySet::parse, deliver)?;
        let start = Arc::new(Notify::new());
        let started = Arc::clone(&start);
        let task = shared.runtime.spawn(async move {
            started.notified().await;
            fetches.await;
        });
        Ok(Self { endpoint, age_max, keys, start, task: task.abort_handle() })
    }
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
        user_concurrency_max: proxy.user_concurrency_max as usize,
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
