//! The frames that policies dropped for slow consumers, until the app is notified.
//!
//! A peer is a slow consumer from a partial write of its socket until the socket accepts bytes again. During this time
//! the policies apply to its backlog, and the app is notified of every gap before any frame after the gap can leave.

use crate::engine::log_ring::LogRecord;
use crate::engine::outbound::{Dropped, Owner};
use crate::engine::stats::{Counters, DROPPED_POLICIES, dropped_index};
use crate::engine::timer_wheel::Millis;
use crate::ids::ConnId;

/// Milliseconds between two log records of what policies dropped.
const DROPS_LOG_INTERVAL: Millis = 10_000;

/// Messages that were dropped for a connection before the app was notified.
pub(crate) struct Gap {
    pub conn: ConnId,
    pub owner: Owner,
    pub messages: u64,
}

#[derive(Default)]
pub(crate) struct SlowConsumers {
    gaps: Vec<Gap>,
    /// Something was dropped since the last record.
    has_news: bool,
    /// The counts of the last record, and when the next may be written.
    logged: [u64; DROPPED_POLICIES.len() + 1],
    log_at: Millis,
}

impl SlowConsumers {
    /// A policy has dropped messages.
    pub(crate) fn add(&mut self, conn: ConnId, dropped: Dropped, counters: &mut Counters) {
        let Dropped { owner, messages } = dropped;
        self.has_news = true;
        counters.dropped[dropped_index(owner.policy)] += messages;
        match self.gaps.last_mut() {
            Some(gap) if gap.conn == conn && gap.owner == owner => gap.messages += messages,
            _ => self.gaps.push(Gap { conn, owner, messages }),
        }
    }

    /// A gap that the app does not know of.
    pub(crate) fn take_gap(&mut self) -> Option<Gap> {
        self.gaps.pop()
    }

    pub(crate) fn has_gap(&self, conn: ConnId, owner: Owner) -> bool {
        self.gaps.iter().any(|gap| gap.conn == conn && gap.owner.id == owner.id)
    }

    /// The app is no longer notified of the gaps of this owner.
    pub(crate) fn forget_owner(&mut self, conn: ConnId, owner: Owner) {
        self.gaps.retain(|gap| gap.conn != conn || gap.owner.id != owner.id);
    }

    /// The connection ends, and its client recovers from where it has read.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.gaps.retain(|gap| gap.conn != conn);
    }

    /// The record of what was dropped since the last one, where it is time for it.
    #[inline]
    pub(crate) fn log_record(&mut self, now: Millis, counters: &Counters) -> Option<LogRecord> {
        if !self.has_news || now < self.log_at {
            return None;
        }
        let [oldest, all_but_latest] = counters.dropped;
        let counts = [oldest, all_but_latest, counters.subscriptions_cut];
        let [oldest, all_but_latest, subscriptions_cut] = std::array::from_fn(|i| counts[i] - self.logged[i]);
        (self.logged, self.has_news) = (counts, false);
        self.log_at = now + DROPS_LOG_INTERVAL;
        Some(LogRecord::Dropped { oldest, all_but_latest, subscriptions_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slow_policy::SlowConsumerPolicy;

    const OWNER: Owner = Owner { id: 7, policy: SlowConsumerPolicy::KeepLatest };

    #[test]
    fn drops_of_one_owner_are_one_gap_until_it_is_taken() {
        let (mut slow, mut counters) = (SlowConsumers::default(), Counters::default());
        let conn = ConnId::new(1, 1);
        for messages in [2, 3] {
            slow.add(conn, Dropped { owner: OWNER, messages }, &mut counters);
        }
        assert!(slow.has_gap(conn, OWNER) && !slow.has_gap(ConnId::new(1, 2), OWNER));
        assert_eq!(slow.take_gap().map(|gap| gap.messages), Some(5));
        assert!(slow.take_gap().is_none());
        assert_eq!(counters.dropped, [0, 5]);
    }

    #[test]
    fn drops_are_logged_once_in_an_interval_with_their_sum() {
        let (mut slow, mut counters) = (SlowConsumers::default(), Counters::default());
        let add = |slow: &mut SlowConsumers, counters: &mut Counters| {
            slow.add(ConnId::new(1, 1), Dropped { owner: OWNER, messages: 1 }, counters);
        };
        let logged = |slow: &mut SlowConsumers, now, counters: &Counters| match slow.log_record(now, counters) {
            Some(LogRecord::Dropped { all_but_latest, .. }) => Some(all_but_latest),
            _ => None,
        };
        assert_eq!(logged(&mut slow, 0, &counters), None);
        add(&mut slow, &mut counters);
        assert_eq!(logged(&mut slow, 0, &counters), Some(1));
        add(&mut slow, &mut counters);
        add(&mut slow, &mut counters);
        assert_eq!(logged(&mut slow, DROPS_LOG_INTERVAL - 1, &counters), None);
        assert_eq!(logged(&mut slow, DROPS_LOG_INTERVAL, &counters), Some(2));
        assert_eq!(logged(&mut slow, 2 * DROPS_LOG_INTERVAL, &counters), None);
    }
}
