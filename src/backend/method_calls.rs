//! The calls of one method at one backend. Each method has a circuit breaker and a concurrency limit of its own, so that slow
//! or failing calls of one method (an rpc with a payload of the client's choice) do not cost those of another (a connect).

use std::hash::{BuildHasher, RandomState};

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
    succeeded_at: Option<Instant>,
}

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
        Self { breaker: Breaker::new(settings), in_flight: 0, succeeded_at: None }
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
