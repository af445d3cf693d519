//! Token key sets (JWKS): fetched from an endpoint at the start, when they are old, and when a token names a key that they do
//! not contain.
//!
//! One task per set makes all fetches, one at a time. A request for an unknown key goes to the task through
//! `KeySetFetcher` and is answered after a fetch, when its result has been delivered to the shards. The answer says whether
//! that fetch began after the request: only then does a key that the set lacks not exist. Fetches begin at least
//! `fetch_interval_min` apart, so that a flood of tokens with made-up key ids causes one fetch, which also brings the keys
//! of honest clients. A fetch that fails keeps the present keys, until they are older than `age_max`.
//!
//! Endpoints are plain URLs; Centrifugo's templates, which are filled from a token's issuer and audience, are not supported.
//! Redirects are not followed: they could lead to any address, and the keys there would sign tokens.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::call::Fetched;
use super::endpoint::Endpoint;
use super::fault::{Fault, Retry};
use super::http_client::{HttpClient, Schemes, read_body};
use super::settings::SetupError;
use super::stats::Reason;

/// Longest key set document, in bytes; a longer one is a failure. A large one has about ten keys of half a KiB.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// Requests that may wait for a fetch; a further one fails at once.
pub const KEY_WAITERS_MAX: usize = 4096;
/// After failures the wait before the next fetch doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct KeySettings {
    /// The name of the setting, for log lines and metrics.
    pub name: String,
    pub endpoint: String,
    /// Limit of one fetch.
    pub timeout: Duration,
    /// A set older than this is fetched again.
    pub refetch_after: Duration,
    /// Keys whose set was not fetched again for this time are not used any more.
    pub age_max: Duration,
    /// Shortest time between the beginnings of two fetches.
    pub fetch_interval_min: Duration,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            name: "jwks".into(),
            endpoint: String::new(),
            timeout: Duration::from_secs(1),
            refetch_after: Duration::from_secs(3600),
            age_max: Duration::from_secs(24 * 3600),
            fetch_interval_min: Duration::from_secs(3),
        }
    }
}

/// A request for a fetch; its answer is `None` if the fetch failed.
type Request = oneshot::Sender<Option<Fetched>>;

/// Requests fetches of one key set. Clones share the task.
#[derive(Clone, Debug)]
pub struct KeySetFetcher {
    requests: mpsc::Sender<Request>,
    counts: Arc<Mutex<KeySetSnapshot>>,
}

/// The counters of one key set.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeySetSnapshot {
    /// `KeySettings::name`.
    pub name: String,
    pub fetches: u64,
    /// Fetches that failed, or whose document is not a key set.
    pub failures: u64,
    /// Keys of a fetch are in use.
    pub present: bool,
}

impl KeySetFetcher {
    /// Waits until a fetch has ended and its keys were delivered to the shards: at most `fetch_interval_min` and the
    /// timeout of a fetch. `None` if the fetch failed or too many requests wait.
    pub async fn refetch(&self) -> Option<Fetched> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(answer).ok()?;
        answered.await.ok()?
    }

    pub fn snapshot(&self) -> KeySetSnapshot {
        self.counts.lock().expect("never poisoned: no code panics while holding the lock").clone()
    }
}

/// The handle of a key set, and its task, which fetches at once and runs until it is dropped. `parse` reads a document;
/// `deliver` sends its keys to every shard, and is called only if the document has changed; `None` means that the keys became
/// too old.
pub fn key_set<K, E: Display>(
    settings: KeySettings,
    parse: impl Fn(&[u8]) -> Result<K, E>,
    deliver: impl Fn(Option<K>),
) -> Result<(KeySetFetcher, impl Future<Output = ()>), SetupError> {
    if settings.endpoint.contains("{{") {
        return Err(SetupError::Template { name: settings.name });
    }
    let endpoint = Endpoint::parse(&settings.name, &settings.endpoint)?;
    let client = HttpClient::new(if endpoint.is_https() { Schemes::HttpAndHttps } else { Schemes::Http }, 1)?;
    let limit = settings.timeout;
    let fetch = move || {
        let (client, endpoint) = (client.clone(), endpoint.clone());
        async move {
            match timeout(limit, fetch(&client, &endpoint)).await {
                Ok(fetched) => fetched.map_err(|fault| fault.detail.into_owned()),
                Err(_) => Err(format!("no response within {limit:?}")),
            }
        }
    };
    let (fetcher, task) = FetchTask::new(settings, parse, deliver);
    Ok((fetcher, task.run(fetch)))
}

/// The document.
async fn fetch(client: &HttpClient, endpoint: &Endpoint) -> Result<Vec<u8>, Fault> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let response = client.get(endpoint, headers).await?;
    if response.status().is_redirection() {
        let detail = format!(
            "status {}: redirects are not followed; configure the URL to which this one redirects",
            response.status().as_u16()
        );
        return Err(Fault::new(Reason::Status, detail, Retry::Never));
    }
    read_body(response, KEY_SET_BYTES_MAX).await
}

/// Makes all fetches of one key set.
struct FetchTask<P, D> {
    settings: KeySettings,
    requests: mpsc::Receiver<Request>,
    parse: P,
    deliver: D,
    /// The document whose keys were delivered last, unless they became too old.
    document: Option<Vec<u8>>,
    /// The beginning of the last fetch that succeeded, at first of the task: the shards may have keys of the task before.
    current_at: Instant,
    /// The shards were told that the keys are too old.
    is_outdated: bool,
    /// Consecutive failures.
    failures: u32,
    counts: Arc<Mutex<KeySetSnapshot>>,
}

impl<K, E: Display, P: Fn(&[u8]) -> Result<K, E>, D: Fn(Option<K>)> FetchTask<P, D> {
    fn new(settings: KeySettings, parse: P, deliver: D) -> (KeySetFetcher, Self) {
        let (sender, requests) = mpsc::channel(KEY_WAITERS_MAX);
        let counts = Arc::new(Mutex::new(KeySetSnapshot { name: settings.name.clone(), ..KeySetSnapshot::default() }));
        let fetcher = KeySetFetcher { requests: sender, counts: Arc::clone(&counts) };
        let (document, current_at, is_outdated, failures) = (None, Instant::now(), false, 0);
        (fetcher, Self { settings, requests, parse, deliver, document, current_at, is_outdated, failures, counts })
    }

    async fn run<F: Future<Output = Result<Vec<u8>, String>>>(mut self, fetch: impl Fn() -> F) {
        self.current_at = Instant::now();
        let mut waiting: Vec<Request> = Vec::new();
        loop {
            let began = Instant::now();
            waiting.extend(std::iter::from_fn(|| self.requests.try_recv().ok()));
            let succeeded = self.apply(fetch().await, began);
            self.count(succeeded);
            // The connection that waited may be closed, so that an answer may have no receiver.
            for request in waiting.drain(..) {
                let _ = request.send(succeeded.then_some(Fetched::AfterCall));
            }
            // What was requested during the fetch may need keys that the endpoint published after it had answered.
            while let Ok(request) = self.requests.try_recv() {
                let _ = request.send(succeeded.then_some(Fetched::BeforeCall));
            }
            let next = began + if succeeded { self.refetch_after() } else { self.retry_after() };
            let next = if self.is_outdated { next } else { next.min(self.current_at + self.settings.age_max) };
            tokio::select! {
                () = sleep_until(next) => {}
                request = self.requests.recv() => match request {
                    Some(request) => waiting.push(request),
                    // All handles are gone, but the keys in use still age.
                    None => sleep_until(next).await,
                },
            }
            sleep_until(began + self.settings.fetch_interval_min).await;
        }
    }

    /// Delivers the keys of a document whose fetch began at `began`, if it has changed. False if the fetch or the document
    /// failed.
    fn apply(&mut self, fetched: Result<Vec<u8>, String>, began: Instant) -> bool {
        let parsed = fetched.and_then(|document| match self.document.as_ref() == Some(&document) {
            true => Ok(None),
            false => (self.parse)(&document).map(|keys| Some((document, keys))).map_err(|error| error.to_string()),
        });
        match parsed {
            Ok(new) => {
                if let Some((document, keys)) = new {
                    self.document = Some(document);
                    (self.deliver)(Some(keys));
                }
                (self.current_at, self.is_outdated, self.failures) = (began, false, 0);
                true
            }
            Err(error) => {
                let name = &self.settings.name;
                let effect = match self.document {
                    None => "no keys are known, clients with tokens are told to try again later",
                    Some(_) => "the present keys stay in use",
                };
                // Only the first of consecutive failures is a warning.
                let level = if self.failures == 0 { log::Level::Warn } else { log::Level::Debug };
                log::log!(level, "{name}: the key set could not be fetched: {error}; {effect}");
                self.failures = self.failures.saturating_add(1);
                self.drop_old_keys();
                false
            }
        }
    }

    /// A key that was revoked must not be valid for as long as the endpoint is away.
    fn drop_old_keys(&mut self) {
        let KeySettings { name, age_max, .. } = &self.settings;
        if self.is_outdated || self.current_at.elapsed() < *age_max {
            return;
        }
        self.is_outdated = true;
        if self.document.take().is_some() {
            log::error!(
                "{name}: the key set could not be fetched for {age_max:?}; its keys are not used any more, and clients with \
                 tokens are told to try again later"
            );
        }
        (self.deliver)(None);
        self.counts.lock().expect("never poisoned: no code panics while holding the lock").present = false;
    }

    fn count(&self, succeeded: bool) {
        let mut counts = self.counts.lock().expect("never poisoned: no code panics while holding the lock");
        counts.fetches += 1;
        counts.failures += u64::from(!succeeded);
        counts.present |= succeeded;
    }

    /// Sooner than the keys become too old, so that one failed fetch does not end them.
    fn refetch_after(&self) -> Duration {
        self.settings.refetch_after.min(self.settings.age_max / 2)
    }

    fn retry_after(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.settings.fetch_interval_min.saturating_mul(doubled).min(RETRY_MAX)
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
