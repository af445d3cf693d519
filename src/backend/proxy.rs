//! One configured proxy, and the way of one call through it.
//!
//! A call is admitted, or fails at once if the circuit of its method is open or the queue is full. An admitted call waits
//! for a permit of its user and one of its method (`method_calls`) and then makes attempts, until one succeeds, another
//! attempt is not allowed, or the deadline passes. The deadline counts from the admission.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::breaker::{CallKind, Health, Transition};
use super::call::{Answer, Call, Method};
use super::endpoint::Endpoint;
use super::fault::{Fault, Retry};
#[cfg(feature = "grpc")]
use super::grpc::Grpc;
use super::http_client::{HttpClient, read_body};
use super::method_calls::{CallEnd, CallerHash, MethodCalls};
use super::settings::{Headers, ProxySettings, REPLY_BYTES_MAX, SetupError};
use super::stats::{LogThrottle, ProxySnapshot, Reason};
use super::{answers, json};

/// How the protocol closes a JSON client to which bytes would have to be sent.
const UNFIT: (u16, &str) = (3506, "inappropriate protocol");

#[derive(Debug)]
pub(crate) struct Proxy {
    settings: ProxySettings,
    transport: Transport,
    headers: Headers,
    /// By method.
    concurrency: [Semaphore; Method::COUNT],
    callers: CallerHash,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Transport {
    Http {
        client: Box<HttpClient>,
        endpoint: Endpoint,
    },
    #[cfg(feature = "grpc")]
    Grpc(Box<Grpc>),
}

#[derive(Debug)]
struct State {
    /// By method.
    methods: [MethodCalls; Method::COUNT],
    counts: ProxySnapshot,
    log: LogThrottle,
}

/// An admitted call. It reports its outcome to the proxy, also if it is dropped.
#[derive(Debug)]
pub(crate) struct AdmittedCall {
    proxy: Arc<Proxy>,
    method: Method,
    caller: u64,
    /// Of the caller's calls.
    concurrency: Arc<Semaphore>,
    kind: CallKind,
    deadline: Instant,
    is_recorded: bool,
}

impl Proxy {
    pub(crate) fn new(settings: ProxySettings, client: HttpClient) -> Result<Self, SetupError> {
        let concurrency = settings.concurrency_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            transport: Transport::new(&settings, client)?,
            headers: Headers::new(&settings)?,
            concurrency: std::array::from_fn(|_| Semaphore::new(concurrency)),
            callers: CallerHash::default(),
            state: Mutex::new(State {
                methods: std::array::from_fn(|_| MethodCalls::new(settings.breaker)),
                counts: ProxySnapshot { name: settings.name.clone(), ..ProxySnapshot::default() },
                log: LogThrottle::default(),
            }),
            settings,
        })
    }

    pub(crate) fn settings(&self) -> &ProxySettings {
        &self.settings
    }

    pub(crate) fn snapshot(&self) -> ProxySnapshot {
        let state = self.state();
        let open = state.methods.iter().any(|calls| calls.breaker.is_open());
        ProxySnapshot { open, ..state.counts.clone() }
    }

    /// Admits a call; `None` if it fails at once.
    pub(crate) fn admit(self: &Arc<Self>, call: &Call) -> Option<AdmittedCall> {
        let now = Instant::now();
        let Some(method) = call.question.method() else {
            debug_assert!(false, "the dispatcher keeps key sets apart");
            return None;
        };
        let mut state = self.state();
        state.counts.calls += 1;
        let calls = &mut state.methods[method as usize];
        let caller = self.callers.of(&call.caller);
        let bound = self.settings.concurrency_max.saturating_add(self.settings.queue_max) as u64;
        let busy = |detail| Err(Fault::new(Reason::Busy, detail, Retry::Never));
        let admitted = match calls.in_flight >= bound {
            true => busy("too many calls are waiting"),
            // The user first: a probe that the breaker has admitted must be made.
            false => match calls.begin(caller, self.settings.user_concurrency_max.clamp(1, Semaphore::MAX_PERMITS)) {
                None => busy("too many calls of one user are waiting (user_concurrency_max)"),
                Some(concurrency) => match calls.breaker.admit(now.into_std()) {
                    Some(kind) => Ok((concurrency, kind)),
                    None => {
                        calls.end(caller);
                        Err(open_circuit())
                    }
                },
            },
        };
        match admitted {
            Ok((concurrency, kind)) => {
                state.counts.in_flight += 1;
                drop(state);
                let (proxy, deadline) = (Arc::clone(self), now + self.settings.timeout);
                Some(AdmittedCall { proxy, method, caller, concurrency, kind, deadline, is_recorded: false })
            }
            Err(fault) => {
                drop(state);
                self.record_failure(call, &fault);
                None
            }
        }
    }

    /// Counts and logs a failure. Returns the answer for it.
    fn record_failure(&self, call: &Call, fault: &Fault) -> Answer {
        let mut state = self.state();
        state.counts.failures[fault.reason as usize] += 1;
        let to_log = state.log.admit(fault.reason, Instant::now().into_std());
        drop(state);
        if let Some(suppressed) = to_log {
            let (name, kind, detail) = (&self.settings.name, call.question.kind(), &fault.detail);
            log::warn!("backend {name}: {kind} call failed: {detail} ({suppressed} similar failures not logged)");
        }
        match fault.reason {
            Reason::Unfit => Answer::Disconnect { code: UNFIT.0, reason: UNFIT.1.into() },
            _ => Answer::Failed,
        }
    }

    /// One attempt: from the first byte of the request to the last of the response.
    async fn attempt(&self, call: &Call) -> Result<Answer, Fault> {
        let mut headers = self.headers.of(&call.caller.headers);
        match &self.transport {
            Transport::Http { client, endpoint } => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let body = json::request(call, &self.settings)?;
                let response = client.post(endpoint, headers, body).await?;
                let reply = read_body(response, REPLY_BYTES_MAX).await?;
                Ok(json::answer(call, self.settings.empty_connect, &reply)?)
            }
            #[cfg(feature = "grpc")]
            Transport::Grpc(grpc) => grpc.attempt(call, &self.settings, headers).await,
        }
    }

    /// Makes attempts until one succeeds or another is not safe. A probe is one attempt: it finds out whether the backend
    /// is back.
    async fn attempts(&self, call: &Call, kind: CallKind) -> Result<Answer, Fault> {
        let retries_max = if kind == CallKind::Probe { 0 } else { self.settings.retries_max };
        let mut attempts = 1;
        loop {
            let fault = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let may_retry = match fault.retry {
                Retry::Safe => true,
                Retry::IfIdempotent => call.question.is_idempotent(),
                Retry::Never => false,
            };
            if !may_retry || attempts > retries_max || !self.still_admits(call, kind) {
                return Err(fault);
            }
            sleep(self.settings.retry_backoff.wait(attempts, random_share())).await;
            attempts += 1;
            self.state().counts.retries += 1;
        }
    }

    fn still_admits(&self, call: &Call, kind: CallKind) -> bool {
        let calls = |method| self.state().methods[method as usize].breaker.still_admits(kind);
        call.question.method().is_some_and(calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport {
    fn new(settings: &ProxySettings, client: HttpClient) -> Result<Self, SetupError> {
        let name = &settings.name;
        match settings.grpc_authority() {
            #[cfg(feature = "grpc")]
            Some(authority) => Ok(Self::Grpc(Box::new(Grpc::new(name, authority)?))),
            #[cfg(not(feature = "grpc"))]
            Some(_) => Err(SetupError::NoGrpc { name: name.clone() }),
            None => Ok(Self::Http { client: client.into(), endpoint: Endpoint::parse(name, &settings.endpoint)? }),
        }
    }
}

impl AdmittedCall {
    /// Waits for a permit and calls the backend.
    pub(crate) async fn perform(mut self, call: &Call) -> Answer {
        let proxy = Arc::clone(&self.proxy);
        let settings = &proxy.settings;
        let (mut sent_at, own) = (None, Arc::clone(&self.concurrency));
        let result = timeout_at(self.deadline, async {
            // The user's own first: its calls that wait for it take no permit of others.
            let _own = own.acquire().await.expect("the semaphore is never closed");
            let _permit =
                proxy.concurrency[self.method as usize].acquire().await.expect("the semaphore is never closed");
            if !proxy.still_admits(call, self.kind) {
                return Err(open_circuit());
            }
            sent_at = Some(Instant::now());
            proxy.attempts(call, self.kind).await
        });
        let result = result.await.unwrap_or_else(|_| {
            let detail = format!("no response within {:?}", settings.timeout);
            Err(Fault::new(Reason::Late, detail, Retry::Never))
        });
        self.record(sent_at, result.as_ref().err());
        let fault = match result {
            Ok(answer) => return answer,
            Err(fault) => fault,
        };
        let status = fault.status.map(|status| status.as_u16());
        match settings.status_answers.iter().find(|entry| Some(entry.status) == status) {
            Some(entry) => answers::refusal(call, entry.answer.clone()),
            None => proxy.record_failure(call, &fault),
        }
    }

    /// Tells the breaker and the counters how the call ended. `sent_at` is `None` if it never left this process.
    fn record(&mut self, sent_at: Option<Instant>, fault: Option<&Fault>) {
        let now = Instant::now();
        let Self { method, caller, .. } = *self;
        let end = CallEnd { method, caller, sent_at, now, fault, timeout: self.proxy.settings.timeout };
        self.is_recorded = true;
        let mut state = self.proxy.state();
        if let Some(sent_at) = sent_at {
            state.counts.record_duration(now - sent_at);
        }
        let calls = &mut state.methods[method as usize];
        let health = calls.health(&end);
        let transition = calls.breaker.record(self.kind, health, now.into_std());
        state.counts.opened += u64::from(transition == Some(Transition::Opened));
        drop(state);
        let (name, kind) = (&self.proxy.settings.name, method.name());
        match (transition, self.kind, fault) {
            (Some(Transition::Opened), CallKind::Regular, Some(fault)) => {
                let detail = &fault.detail;
                log::warn!(
                    "backend {name}: the circuit for {kind} calls opens after repeated failures, they fail at once: {detail}"
                );
            }
            (Some(Transition::Closed), ..) => {
                log::info!("backend {name}: it responds again, the circuit for {kind} calls closes");
            }
            _ => {}
        }
    }
}

impl Drop for AdmittedCall {
    fn drop(&mut self) {
        let mut state = self.proxy.state();
        state.counts.in_flight -= 1;
        let calls = &mut state.methods[self.method as usize];
        calls.end(self.caller);
        if !self.is_recorded {
            calls.breaker.record(self.kind, Health::Unknown, Instant::now().into_std());
        }
    }
}

fn open_circuit() -> Fault {
    Fault::new(Reason::Open, "the circuit is open", Retry::Never)
}

/// A number in 0..1, random enough to keep retries of many calls apart: every hasher state of the library is different.
fn random_share() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
