//! One proxy: its settings, its places, its circuit, its numbers; and the carrying out of one call.
//!
//! A call is admitted or answered on the spot (circuit open, queue full). Admitted, it waits for a place, then tries
//! until it has a reply, may not or need not try again, or its time is over. Its deadline begins with its admission.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::breaker::{Breaker, Change, Pass, Verdict};
use super::call::{Answer, Call};
use super::grpc::Grpc;
use super::http::{self, Again, Fault, REPLY_BYTES_MAX};
use super::settings::{Headers, ProxySettings, SetupError, endpoint};
use super::stats::{LogGate, ProxySnapshot, Reason};
use super::{decode_reply, json_request};

/// What the dialect closes a JSON client with where it would have to send it bytes.
const UNFIT: (u16, &str) = (3506, "inappropriate protocol");

#[derive(Debug)]
pub struct Proxy {
    settings: ProxySettings,
    carrier: Carrier,
    headers: Headers,
    places: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Carrier {
    Http { client: Client, endpoint: Url },
    Grpc(Box<Grpc>),
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    counts: ProxySnapshot,
    log: LogGate,
}

/// An admitted call. Whatever becomes of it, the proxy hears of its end.
#[derive(Debug)]
pub struct Ticket {
    proxy: Arc<Proxy>,
    pass: Pass,
    deadline: Instant,
    settled: bool,
}

impl Proxy {
    pub fn new(settings: ProxySettings, client: Client) -> Result<Self, SetupError> {
        let places = settings.concurrency_max.clamp(1, Semaphore::MAX_PERMITS);
        let carrier = match settings.grpc_authority() {
            Some(authority) => Carrier::Grpc(Box::new(Grpc::new(&settings.name, authority)?)),
            None => Carrier::Http { client, endpoint: endpoint(&settings.name, &settings.endpoint)? },
        };
        Ok(Self {
            carrier,
            headers: Headers::new(&settings)?,
            places: Semaphore::new(places),
            state: Mutex::new(State {
                breaker: Breaker::new(settings.breaker),
                counts: ProxySnapshot { name: settings.name.clone(), ..ProxySnapshot::default() },
                log: LogGate::default(),
            }),
            settings,
        })
    }

    pub fn settings(&self) -> &ProxySettings {
        &self.settings
    }

    pub fn snapshot(&self) -> ProxySnapshot {
        let state = self.state();
        ProxySnapshot { open: state.breaker.is_open(), ..state.counts.clone() }
    }

    /// Lets a call in; none has failed at once.
    pub fn admit(self: &Arc<Self>, call: &Call) -> Option<Ticket> {
        let now = Instant::now();
        let mut state = self.state();
        state.counts.calls += 1;
        let bound = self.settings.concurrency_max.saturating_add(self.settings.queue_max) as u64;
        let admitted = match state.counts.in_flight >= bound {
            true => Err(Fault::new(Reason::Busy, "too many calls are waiting", Again::No)),
            false => state.breaker.admit(now.into_std()).ok_or_else(open_circuit),
        };
        match admitted {
            Ok(pass) => {
                state.counts.in_flight += 1;
                drop(state);
                let deadline = now + self.settings.timeout;
                Some(Ticket { proxy: Arc::clone(self), pass, deadline, settled: false })
            }
            Err(fault) => {
                drop(state);
                self.failed(call, &fault);
                None
            }
        }
    }

    /// Notes a failure and gives the answer for it.
    fn failed(&self, call: &Call, fault: &Fault) -> Answer {
        let mut state = self.state();
        state.counts.failures[fault.reason as usize] += 1;
        let line = state.log.pass(fault.reason, Instant::now().into_std());
        drop(state);
        if let Some(others) = line {
            let (name, kind, detail) = (&self.settings.name, json_request::kind(&call.question), &fault.detail);
            log::warn!("backend {name}: {kind} failed: {detail} ({others} more like it since the last such line)");
        }
        match fault.reason {
            Reason::Unfit => Answer::Disconnect { code: UNFIT.0, reason: UNFIT.1.into() },
            _ => Answer::Failed,
        }
    }

    /// One try: from the request's first byte to the reply's last.
    async fn exchange(&self, call: &Call) -> Result<Answer, Fault> {
        let mut headers = self.headers.of(&call.caller.headers);
        match &self.carrier {
            Carrier::Http { client, endpoint } => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let body = json_request::body(call, &self.settings)?;
                let response = client.post(endpoint.clone()).headers(headers).body(body).send().await?;
                let reply = http::take(response, REPLY_BYTES_MAX).await?;
                Ok(json_request::read(call, self.settings.anonymous_without_result, &reply)?)
            }
            Carrier::Grpc(grpc) => grpc.exchange(call, &self.settings, headers).await,
        }
    }

    /// Tries until one brings an answer or no other is safe. A probe is one try: it asks whether the backend is there.
    async fn tries(&self, call: &Call, pass: Pass) -> Result<Answer, Fault> {
        let idempotent = json_request::is_idempotent(&call.question);
        let retries_max = if pass == Pass::Probe { 0 } else { self.settings.retries_max };
        let mut tries = 1;
        loop {
            let fault = match self.exchange(call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let again = fault.again == Again::Yes || fault.again == Again::IfIdempotent && idempotent;
            if !again || tries > retries_max || !self.state().breaker.stands(pass) {
                return Err(fault);
            }
            sleep(self.settings.retry_backoff.wait(tries, chance())).await;
            tries += 1;
            self.state().counts.retries += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Asks the backend, with everything that spares it.
    pub async fn carry_out(mut self, call: &Call) -> Answer {
        let proxy = Arc::clone(&self.proxy);
        let settings = &proxy.settings;
        let mut sent = None;
        let asked = timeout_at(self.deadline, async {
            let _place = proxy.places.acquire().await.expect("the places are never closed");
            if !proxy.state().breaker.stands(self.pass) {
                return Err(open_circuit());
            }
            sent = Some(Instant::now());
            proxy.tries(call, self.pass).await
        });
        let asked = asked.await.unwrap_or_else(|_| {
            let detail = format!("no answer within {:?}", settings.timeout);
            Err(Fault::new(Reason::Late, detail, Again::No))
        });
        self.settle(sent, asked.as_ref().err());
        let fault = match asked {
            Ok(answer) => return answer,
            Err(fault) => fault,
        };
        let status = fault.status.map(|status| status.as_u16());
        match settings.status_answers.iter().find(|entry| Some(entry.status) == status) {
            Some(entry) => decode_reply::refused(call, entry.answer.clone()),
            None => proxy.failed(call, &fault),
        }
    }

    /// `sent`: when the call left for the backend, if it did.
    fn settle(&mut self, sent: Option<Instant>, fault: Option<&Fault>) {
        let now = Instant::now();
        let under_way = sent.map_or(Duration::ZERO, |sent| now - sent);
        let verdict = match fault {
            _ if sent.is_none() => Verdict::Unknown,
            Some(fault) if fault.reason == Reason::Unsendable => Verdict::Unknown,
            // It waited here for most of its time: that says nothing about the backend.
            Some(fault) if fault.reason == Reason::Late && under_way < self.proxy.settings.timeout / 2 => {
                Verdict::Unknown
            }
            Some(fault) if fault.is_of_a_dead_backend() => Verdict::Dead,
            _ => Verdict::Alive,
        };
        self.settled = true;
        let mut state = self.proxy.state();
        if sent.is_some() {
            state.counts.took(under_way);
        }
        let change = state.breaker.settle(self.pass, verdict, now.into_std());
        state.counts.opened += u64::from(change == Some(Change::Opened));
        drop(state);
        let name = &self.proxy.settings.name;
        match (change, self.pass) {
            (Some(Change::Opened), Pass::Call) => log::warn!("backend {name}: the circuit is open, calls fail at once"),
            (Some(Change::Closed), _) => log::info!("backend {name}: it answers again, the circuit is closed"),
            _ => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.proxy.state();
        state.counts.in_flight -= 1;
        if !self.settled {
            state.breaker.settle(self.pass, Verdict::Unknown, Instant::now().into_std());
        }
    }
}

fn open_circuit() -> Fault {
    Fault::new(Reason::Open, "the circuit is open", Again::No)
}

/// A number in 0..1, good enough to keep tries out of step: each hasher state of the library begins elsewhere.
fn chance() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
