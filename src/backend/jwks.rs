//! Key sets for tokens (JWKS): fetched from an endpoint, kept, and fetched again when they are old or a token names a key
//! that they lack.
//!
//! One task per set does every fetch, so that no two run at once. Whoever misses a key asks it through the `KeyDesk` and
//! hears when a fetch that ended after the question has been told to the shards. Fetches keep a distance: a flood of
//! tokens with invented key ids is answered by one fetch in `ask_gap`. A fetch that fails changes nothing: the keys stay.
//!
//! Endpoints are plain URLs; the original's templates, filled from a token's issuer and audience, are not supported.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::ACCEPT;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Fault, SetupError, client, endpoint, take};

/// Bytes of a key set document; a longer one is a failure. A large one has some ten keys of half a KiB.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// Those who wait for a key set; past it a question fails at once.
pub const KEY_WAITERS_MAX: usize = 4096;
/// Redirects that a fetch follows. It carries nothing that others may not see.
const REDIRECTS_MAX: usize = 3;
/// After failures the distance to the next unasked fetch doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct KeySettings {
    /// In log lines: the name of the setting.
    pub name: String,
    pub endpoint: String,
    /// Of one fetch in all.
    pub timeout: Duration,
    /// A set older than this is fetched again, unasked.
    pub age_max: Duration,
    /// Between the beginnings of two fetches, however many ask.
    pub ask_gap: Duration,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            name: "jwks".into(),
            endpoint: String::new(),
            timeout: Duration::from_secs(1),
            age_max: Duration::from_secs(3600),
            ask_gap: Duration::from_secs(3),
        }
    }
}

/// Where a missing key is asked for.
#[derive(Clone, Debug)]
pub struct KeyDesk {
    asks: mpsc::Sender<oneshot::Sender<bool>>,
    counts: Arc<Mutex<KeySetSnapshot>>,
}

/// The numbers of one key set.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeySetSnapshot {
    /// `KeySettings::name`.
    pub name: String,
    /// Over its life, and those of them that brought no key set.
    pub fetches: u64,
    pub failures: u64,
    /// There has been one that brought keys.
    pub present: bool,
}

impl KeyDesk {
    /// Waits until the set was fetched after this question, or a fetch under way has ended, and the shards were told:
    /// at most the distance of two fetches and their timeouts. False: it could not be fetched, or too many ask.
    pub async fn asked_again(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(answer).is_ok() && answered.await.unwrap_or(false)
    }

    pub fn snapshot(&self) -> KeySetSnapshot {
        self.counts.lock().expect("nobody panics with it").clone()
    }
}

/// The desk of a key set, and the task behind it, which fetches at once and runs until dropped. `parse` makes keys of a
/// document's bytes; `deliver` tells them to every shard, and is called when the document is another than before.
pub fn key_set<K, E: Display>(
    settings: KeySettings,
    parse: impl Fn(&[u8]) -> Result<K, E>,
    deliver: impl Fn(K),
) -> Result<(KeyDesk, impl Future<Output = ()>), SetupError> {
    if settings.endpoint.contains("{{") {
        return Err(SetupError::Template { name: settings.name });
    }
    let url = endpoint(&settings.name, &settings.endpoint)?;
    let client = client(url.scheme() == "https", REDIRECTS_MAX, 1)?;
    let limit = settings.timeout;
    let fetch = move || {
        let request = client.get(url.clone()).header(ACCEPT, "application/json");
        async move {
            match timeout(limit, fetch(request)).await {
                Ok(fetched) => fetched.map_err(|fault| fault.detail.into_owned()),
                Err(_) => Err(format!("no answer within {limit:?}")),
            }
        }
    };
    let (desk, keeper) = Keeper::new(settings, parse, deliver);
    Ok((desk, keeper.run(fetch)))
}

async fn fetch(request: reqwest::RequestBuilder) -> Result<Vec<u8>, Fault> {
    take(request.send().await?, KEY_SET_BYTES_MAX).await
}

struct Keeper<P, D> {
    settings: KeySettings,
    asks: mpsc::Receiver<oneshot::Sender<bool>>,
    parse: P,
    deliver: D,
    /// As it was last told to the shards.
    document: Option<Vec<u8>>,
    /// In a row.
    failures: u32,
    counts: Arc<Mutex<KeySetSnapshot>>,
}

impl<K, E: Display, P: Fn(&[u8]) -> Result<K, E>, D: Fn(K)> Keeper<P, D> {
    fn new(settings: KeySettings, parse: P, deliver: D) -> (KeyDesk, Self) {
        let (sender, asks) = mpsc::channel(KEY_WAITERS_MAX);
        let counts = Arc::new(Mutex::new(KeySetSnapshot { name: settings.name.clone(), ..KeySetSnapshot::default() }));
        let desk = KeyDesk { asks: sender, counts: Arc::clone(&counts) };
        (desk, Self { settings, asks, parse, deliver, document: None, failures: 0, counts })
    }

    async fn run<F: Future<Output = Result<Vec<u8>, String>>>(mut self, fetch: impl Fn() -> F) {
        let mut waiting = Vec::new();
        loop {
            let began = Instant::now();
            let fine = self.note(fetch().await);
            self.count(fine);
            while let Ok(asker) = self.asks.try_recv() {
                waiting.push(asker);
            }
            for asker in waiting.drain(..) {
                // Who does not wait any more has gone.
                let _ = asker.send(fine);
            }
            let next = if fine { self.settings.age_max } else { self.retry_after() };
            tokio::select! {
                () = sleep_until(began + next) => {}
                asker = self.asks.recv() => match asker {
                    Some(asker) => waiting.push(asker),
                    // Nobody can ask any more, but what there is still ages.
                    None => sleep_until(began + next).await,
                },
            }
            sleep_until(began + self.settings.ask_gap).await;
        }
    }

    /// Takes over what was fetched; false where it is no use.
    fn note(&mut self, fetched: Result<Vec<u8>, String>) -> bool {
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
                let rest = if self.document.is_none() { "there are no keys" } else { "the keys stay as they are" };
                match self.failures {
                    0 => log::warn!("{name}: the key set could not be fetched: {error}; {rest}"),
                    _ => log::debug!("{name}: the key set could not be fetched: {error}; {rest}"),
                }
                self.failures = self.failures.saturating_add(1);
                false
            }
        }
    }

    fn count(&self, fine: bool) {
        let mut counts = self.counts.lock().expect("nobody panics with it");
        counts.fetches += 1;
        counts.failures += u64::from(!fine);
        counts.present |= fine;
    }

    fn retry_after(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.settings.ask_gap.saturating_mul(doubled).min(RETRY_MAX)
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
