//! Token key sets (JWKS): fetched from an endpoint at the start, when they are old, and when a token names a key that they do
//! not contain.
//!
//! One task per set makes all fetches, one at a time. A request for an unknown key goes to the task through
//! `KeySetFetcher` and is answered after a fetch that ended later, when its result has been delivered to the shards. Fetches
//! begin at least `fetch_interval_min` apart, so that a flood of tokens with made-up key ids causes one fetch. A fetch that
//! fails keeps the present keys.
//!
//! Endpoints are plain URLs; Centrifugo's templates, which are filled from a token's issuer and audience, are not supported.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::endpoint::Endpoint;
use super::fault::Fault;
use super::http_client::{HttpClient, Schemes, read_body};
use super::settings::SetupError;

/// Longest key set document, in bytes; a longer one is a failure. A large one has about ten keys of half a KiB.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// Requests that may wait for a fetch; a further one fails at once.
pub const KEY_WAITERS_MAX: usize = 4096;
/// Redirects that a fetch follows. Its request contains nothing secret but the password of the URL, which stays with its host.
const REDIRECTS_MAX: usize = 3;
/// After failures the wait before the next fetch doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct KeySettings {
    /// The name of the setting, for log lines and metrics.
    pub name: String,
    pub endpoint: String,
    /// Limit of one fetch with its redirects.
    pub timeout: Duration,
    /// A set older than this is fetched again.
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
            age_max: Duration::from_secs(3600),
            fetch_interval_min: Duration::from_secs(3),
        }
    }
}

/// Requests fetches of one key set. Clones share the task.
#[derive(Clone, Debug)]
pub struct KeySetFetcher {
    requests: mpsc::Sender<oneshot::Sender<bool>>,
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
    /// A fetch has succeeded.
    pub present: bool,
}

impl KeySetFetcher {
    /// Waits until a fetch has ended and its keys were delivered to the shards: at most `fetch_interval_min` and the
    /// timeouts of two fetches. False if the fetch failed or too many requests wait.
    pub async fn refetch(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(answer).is_ok() && answered.await.unwrap_or(false)
    }

    pub fn snapshot(&self) -> KeySetSnapshot {
        self.counts.lock().expect("never poisoned: no code panics while holding the lock").clone()
    }
}

/// The handle of a key set, and its task, which fetches at once and runs until it is dropped. `parse` reads a document;
/// `deliver` sends its keys to every shard, and is called only if the document has changed.
pub fn key_set<K, E: Display>(
    settings: KeySettings,
    parse: impl Fn(&[u8]) -> Result<K, E>,
    deliver: impl Fn(K),
) -> Result<(KeySetFetcher, impl Future<Output = ()>), SetupError> {
    if settings.endpoint.contains("{{") {
        return Err(SetupError::Template { name: settings.name });
    }
    let endpoint = Endpoint::parse(&settings.name, &settings.endpoint)?;
    // A redirect from http to https fails, because no root certificates are read then.
    let client = HttpClient::new(if endpoint.is_https() { Schemes::HttpAndHttps } else { Schemes::Http }, 1)?;
    let limit = settings.timeout;
    let fetch = move || {
        let (client, endpoint) = (client.clone(), endpoint.clone());
        async move {
            match timeout(limit, fetch(&client, endpoint)).await {
                Ok(fetched) => fetched.map_err(|fault| fault.detail.into_owned()),
                Err(_) => Err(format!("no response within {limit:?}")),
            }
        }
    };
    let (fetcher, task) = FetchTask::new(settings, parse, deliver);
    Ok((fetcher, task.run(fetch)))
}

/// The document, if need be behind redirects.
async fn fetch(client: &HttpClient, mut endpoint: Endpoint) -> Result<Vec<u8>, Fault> {
    let mut redirects = 0;
    loop {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let response = client.get(&endpoint, headers).await?;
        let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match location.and_then(|location| endpoint.redirected(location)) {
            Some(next) if is_redirect && redirects < REDIRECTS_MAX => (endpoint, redirects) = (next, redirects + 1),
            _ => return read_body(response, KEY_SET_BYTES_MAX).await,
        }
    }
}

/// Makes all fetches of one key set.
struct FetchTask<P, D> {
    settings: KeySettings,
    requests: mpsc::Receiver<oneshot::Sender<bool>>,
    parse: P,
    deliver: D,
    /// The document whose keys were delivered last.
    document: Option<Vec<u8>>,
    /// Consecutive failures.
    failures: u32,
    counts: Arc<Mutex<KeySetSnapshot>>,
}

impl<K, E: Display, P: Fn(&[u8]) -> Result<K, E>, D: Fn(K)> FetchTask<P, D> {
    fn new(settings: KeySettings, parse: P, deliver: D) -> (KeySetFetcher, Self) {
        let (sender, requests) = mpsc::channel(KEY_WAITERS_MAX);
        let counts = Arc::new(Mutex::new(KeySetSnapshot { name: settings.name.clone(), ..KeySetSnapshot::default() }));
        let fetcher = KeySetFetcher { requests: sender, counts: Arc::clone(&counts) };
        (fetcher, Self { settings, requests, parse, deliver, document: None, failures: 0, counts })
    }

    async fn run<F: Future<Output = Result<Vec<u8>, String>>>(mut self, fetch: impl Fn() -> F) {
        let mut waiting = Vec::new();
        loop {
            let began = Instant::now();
            let succeeded = self.apply(fetch().await);
            self.count(succeeded);
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            for request in waiting.drain(..) {
                // The connection that waited may be closed.
                let _ = request.send(succeeded);
            }
            let next = if succeeded { self.settings.age_max } else { self.retry_after() };
            tokio::select! {
                () = sleep_until(began + next) => {}
                request = self.requests.recv() => match request {
                    Some(request) => waiting.push(request),
                    // All handles are gone, but the keys in use still age.
                    None => sleep_until(began + next).await,
                },
            }
            sleep_until(began + self.settings.fetch_interval_min).await;
        }
    }

    /// Delivers the keys of a fetched document, if it has changed. False if the fetch or the document failed.
    fn apply(&mut self, fetched: Result<Vec<u8>, String>) -> bool {
        let parsed = fetched.and_then(|document| match self.document.as_ref() == Some(&document) {
            true => Ok(None),
            false => (self.parse)(&document).map(|keys| Some((document, keys))).map_err(|error| error.to_string()),
        });
        match parsed {
            Ok(new) => {
                if let Some((document, keys)) = new {
                    self.document = Some(document);
                    (self.deliver)(keys);
                }
                self.failures = 0;
                true
            }
            Err(error) => {
                let name = &self.settings.name;
                let effect = match self.document {
                    None => "no keys are known, tokens that need one are rejected",
                    Some(_) => "the present keys stay in use",
                };
                // Only the first of consecutive failures is a warning.
                let level = if self.failures == 0 { log::Level::Warn } else { log::Level::Debug };
                log::log!(level, "{name}: the key set could not be fetched: {error}; {effect}");
                self.failures = self.failures.saturating_add(1);
                false
            }
        }
    }

    fn count(&self, succeeded: bool) {
        let mut counts = self.counts.lock().expect("never poisoned: no code panics while holding the lock");
        counts.fetches += 1;
        counts.failures += u64::from(!succeeded);
        counts.present |= succeeded;
    }

    fn retry_after(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.settings.fetch_interval_min.saturating_mul(doubled).min(RETRY_MAX)
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
