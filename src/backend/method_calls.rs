//! The calls of one method at one backend. Each method has a circuit breaker and a concurrency limit of its own, so that slow
//! or failing calls of one method (an rpc with a payload of the client's choice) do not cost those of another (a connect).
//! Within a method each user has a part of the concurrency, so that the slow calls of one user do not cost those of others.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use super::breaker::{Breaker, Health};
use super::call::{Caller, Method};
use super::fault::{Evidence, Fault};
use super::settings::BreakerSettings;
use super::stats::Reason;

/// The state of these calls, behind the lock of its proxy.
#[derive(Debug)]
pub(crate) struct MethodCalls {
    pub breaker: Breaker,
    /// Calls waiting or in progress.
    pub in_flight: u64,
    /// Of them, those of each caller.
    callers: HashMap<u64, CallerCalls>,
    succeeded_at: Option<Instant>,
}

/// The calls of one caller, waiting or in progress: at least one.
#[derive(Debug)]
struct CallerCalls {
    in_flight: usize,
    concurrency: Arc<Semaphore>,
}

/// Calls of one caller that may wait, for each that may be in progress.
const WAITING_PER_CALL: usize = 3;

/// How a call ended.
pub(crate) struct CallEnd<'a> {
    pub method: Method,
    pub caller: u64,
    /// `None` if it never left this process.
    pub sent_at: Option<Instant>,
    pub now: Instant,
    pub fault: Option<&'a Fault>,
    pub timeout: Duration,
}

impl MethodCalls {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { breaker: Breaker::new(settings), in_flight: 0, callers: HashMap::new(), succeeded_at: None }
    }

    /// Counts a call of a caller that may have so many in progress. Returns whose permit it needs; `None` if too many of its
    /// calls wait already.
    pub(crate) fn begin(&mut self, caller: u64, concurrency_max: usize) -> Option<Arc<Semaphore>> {
        let new = || CallerCalls { in_flight: 0, concurrency: Arc::new(Semaphore::new(concurrency_max)) };
        let calls = self.callers.entry(caller).or_insert_with(new);
        if calls.in_flight >= concurrency_max.saturating_mul(1 + WAITING_PER_CALL) {
            return None;
        }
        calls.in_flight += 1;
        self.in_flight += 1;
        Some(Arc::clone(&calls.concurrency))
    }

    /// A call that `begin` has counted is over.
    pub(crate) fn end(&mut self, caller: u64) {
        self.in_flight -= 1;
        if let Some(calls) = self.callers.get_mut(&caller) {
            calls.in_flight -= 1;
            if calls.in_flight == 0 {
                self.callers.remove(&caller);
            }
        }
    }

    /// What the end of a call says about the backend. Keeps when a call succeeded last.
    pub(crate) fn health(&mut self, end: &CallEnd<'_>) -> Health {
        let Some(sent_at) = end.sent_at else { return Health::Unknown };
        let Some(fault) = end.fault else {
            self.succeeded_at = Some(end.now);
            return Health::Up;
        };
        match fault.evidence() {
            _ if fault.reason == Reason::Unsendable => Health::Unknown,
            Evidence::None => Health::Up,
            Evidence::Backend => Health::Down,
            // It spent most of its time waiting for a permit, which says nothing about the backend.
            _ if fault.reason == Reason::Late && end.now - sent_at < end.timeout / 2 => Health::Unknown,
            _ if fault.reason == Reason::Late && end.method.is_paced_by_client() => Health::Unknown,
            // Another call succeeded meanwhile: the backend is there.
            _ if self.succeeded_at.is_some_and(|at| at > sent_at) => Health::Unknown,
            Evidence::Call => Health::Failed { caller: end.caller },
        }
    }
}

/// Tells callers apart: users, and the connections of anonymous users.
#[derive(Default, Debug)]
pub(crate) struct CallerHash(RandomState);

impl CallerHash {
    pub(crate) fn of(&self, caller: &Caller) -> u64 {
        self.0.hash_one(if caller.user.is_empty() { (0, &caller.client) } else { (1, &caller.user) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fault::Retry;

    fn calls() -> MethodCalls {
        MethodCalls::new(BreakerSettings { failures_to_open: 2, open_for: Duration::from_secs(1) })
    }

    fn end(method: Method, times: (Instant, Instant), fault: &Fault) -> CallEnd<'_> {
        let (sent_at, now) = times;
        CallEnd { method, caller: 5, sent_at: Some(sent_at), now, fault: Some(fault), timeout: Duration::from_secs(1) }
    }

    #[test]
    fn failure_is_no_evidence_if_a_call_succeeded_meanwhile_or_the_client_sets_the_pace() {
        let (mut calls, sent) = (calls(), Instant::now());
        let now = sent + Duration::from_secs(1);
        let late = Fault::new(Reason::Late, "late", Retry::Never);
        let gone = Fault::new(Reason::Unreachable, "gone", Retry::Safe);
        assert_eq!(calls.health(&end(Method::Connect, (sent, now), &late)), Health::Failed { caller: 5 });
        assert_eq!(calls.health(&end(Method::Rpc, (sent, now), &late)), Health::Unknown);
        assert_eq!(calls.health(&end(Method::Publish, (sent, now), &late)), Health::Unknown);
        assert_eq!(calls.health(&end(Method::Rpc, (sent, now), &gone)), Health::Down);
        let waited = end(Method::Connect, (now - Duration::from_millis(10), now), &late);
        assert_eq!(calls.health(&waited), Health::Unknown, "it waited for a permit");
        assert_eq!(calls.health(&CallEnd { fault: None, ..waited }), Health::Up);
        assert_eq!(calls.health(&end(Method::Connect, (sent, now), &late)), Health::Unknown);
        assert_eq!(calls.health(&end(Method::Connect, (sent, now), &gone)), Health::Down);
        let later = (now + Duration::from_millis(1), now + Duration::from_secs(1));
        assert_eq!(calls.health(&end(Method::Connect, later, &late)), Health::Failed { caller: 5 });
    }

    #[test]
    fn caller_has_a_part_of_the_calls_and_is_forgotten_with_its_last_one() {
        let mut calls = calls();
        let permits: Vec<_> = (0..8).map_while(|_| calls.begin(5, 2)).collect();
        assert_eq!((permits.len(), permits[0].available_permits()), (8, 2), "two in progress and six that wait");
        assert!(calls.begin(5, 2).is_none() && calls.begin(6, 2).is_some());
        calls.end(5);
        assert!(calls.begin(5, 2).is_some());
        (0..8).for_each(|_| calls.end(5));
        calls.end(6);
        assert!(calls.callers.is_empty() && calls.in_flight == 0);
    }

    #[test]
    fn anonymous_callers_are_told_apart_by_connection_and_others_by_user() {
        let hash = CallerHash::default();
        let caller = |client: &str, user: &str| {
            hash.of(&Caller { client: client.into(), user: user.into(), ..Caller::default() })
        };
        assert_eq!(caller("1", "ann"), caller("2", "ann"));
        assert_ne!(caller("1", ""), caller("2", ""));
        assert_ne!(caller("ann", ""), caller("1", "ann"));
    }
}
