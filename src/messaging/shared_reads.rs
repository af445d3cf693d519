//! Reads that several askers share: of a history, of a presence, or of its numbers.
//!
//! While a read has no answer, the same reads wait behind it and become one request when the answer is there. So at most two of
//! them reach the broker however many ask, and no asker gets an answer that was read before it asked.
//!
//! Bounds: `WAITING_MAX` askers for each read; the next ones send requests of their own, which the queue of the broker thread
//! bounds in bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::broker::message::{RequestKind, Ticket};
use crate::pubsub::{HistoryFilter, HistoryOptions, TimeRange};

/// Askers that wait for one read. All of them are answered in one turn.
const WAITING_MAX: usize = 256;

/// What is read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Read {
    pub(super) channel: Box<str>,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Part {
    History(HistoryFilter, TimeRange, HistoryOptions),
    Presence,
    PresenceStats,
}

impl Read {
    /// `None`: the request is not a read.
    pub(super) fn of(channel: &str, kind: &RequestKind) -> Option<Self> {
        let part = match kind {
            RequestKind::History { filter, range, options, .. } => Part::History(*filter, *range, *options),
            RequestKind::Presence { .. } => Part::Presence,
            RequestKind::PresenceStats { .. } => Part::PresenceStats,
            _ => return None,
        };
        Some(Self { channel: channel.into(), part })
    }

    pub(super) fn request(&self, ticket: Ticket) -> RequestKind {
        match self.part {
            Part::History(filter, range, options) => RequestKind::History { ticket, filter, range, options },
            Part::Presence => RequestKind::Presence { ticket },
            Part::PresenceStats => RequestKind::PresenceStats { ticket },
        }
    }
}

/// `C` is a call that waits for an answer.
pub(crate) struct SharedReads<C> {
    under_way: HashMap<Read, UnderWay<C>>,
    /// Askers that sent no request of their own, since they were counted last.
    merged: u64,
}

/// A request without an answer.
pub(super) struct UnderWay<C> {
    /// They get its answer.
    pub(super) askers: Vec<C>,
    /// They asked later.
    pub(super) waiting: Vec<C>,
}

/// What becomes of a read.
pub(super) enum Begun<C> {
    /// It is the first: its request is to be sent.
    First,
    Waits,
    /// Too many wait: the call sends a request of its own.
    Full(C),
}

impl<C> Default for SharedReads<C> {
    fn default() -> Self {
        Self { under_way: HashMap::new(), merged: 0 }
    }
}

impl<C> SharedReads<C> {
    pub(super) fn begin(&mut self, read: &Read, call: C) -> Begun<C> {
        match self.under_way.entry(read.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(UnderWay { askers: vec![call], waiting: Vec::new() });
                Begun::First
            }
            Entry::Occupied(entry) if entry.get().waiting.len() >= WAITING_MAX => Begun::Full(call),
            Entry::Occupied(mut entry) => {
                let waiting = &mut entry.get_mut().waiting;
                self.merged += u64::from(!waiting.is_empty());
                waiting.push(call);
                Begun::Waits
            }
        }
    }

    /// Those that waited for an answer ask together.
    pub(super) fn begin_again(&mut self, read: Read, askers: Vec<C>) {
        self.under_way.insert(read, UnderWay { askers, waiting: Vec::new() });
    }

    /// The request of a read has ended, or was not sent.
    pub(super) fn end(&mut self, read: &Read) -> Option<UnderWay<C>> {
        self.under_way.remove(read)
    }

    pub(super) fn take_merged(&mut self) -> u64 {
        std::mem::take(&mut self.merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::{Epoch, Since};

    fn history(limit: i32, offset: u64) -> RequestKind {
        let since = Some(Since { epoch: None, offset });
        let filter = HistoryFilter { since, limit, reverse: false };
        RequestKind::History { ticket: Ticket(7), filter, range: TimeRange::ALL, options: HistoryOptions::default() }
    }

    #[test]
    fn reads_are_the_same_if_they_read_the_same_part_of_the_same_channel() {
        let read = |channel, kind| Read::of(channel, &kind).expect("it is a read");
        let presence = || RequestKind::Presence { ticket: Ticket(1) };
        assert_eq!(read("a", presence()), read("a", RequestKind::Presence { ticket: Ticket(2) }));
        assert_eq!(read("a", history(10, 1)), read("a", history(10, 1)));
        let mut different = vec![read("a", presence()), read("b", presence()), read("a", history(10, 1))];
        different.extend([read("a", history(10, 2)), read("a", history(9, 1))]);
        different.push(read("a", RequestKind::PresenceStats { ticket: Ticket(1) }));
        let filter =
            HistoryFilter { since: Some(Since { epoch: Some(Epoch::default()), offset: 1 }), ..Default::default() };
        let options = HistoryOptions { size: 1, ..HistoryOptions::default() };
        different.push(read("a", RequestKind::History { ticket: Ticket(1), filter, range: TimeRange::ALL, options }));
        for (at, one) in different.iter().enumerate() {
            assert!(different[..at].iter().all(|other| other != one), "{one:?}");
        }
        assert!(Read::of("a", &RequestKind::HistoryRemove { ticket: Ticket(1) }).is_none());
    }

    #[test]
    fn askers_of_a_read_under_way_wait_up_to_the_bound() {
        let mut reads = SharedReads::<()>::default();
        let read = Read::of("a", &history(1, 1)).expect("it is a read");
        assert!(matches!(reads.begin(&read, ()), Begun::First));
        for _ in 0..WAITING_MAX {
            assert!(matches!(reads.begin(&read, ()), Begun::Waits));
        }
        assert!(matches!(reads.begin(&read, ()), Begun::Full(_)));
        assert_eq!((reads.take_merged(), reads.take_merged()), (WAITING_MAX as u64 - 1, 0), "one of them asks for all");
    }

    #[test]
    fn read_that_cannot_be_sent_gives_its_call_back() {
        let mut reads = SharedReads::<()>::default();
        let read = Read::of("a", &history(1, 1)).expect("it is a read");
        assert!(matches!(reads.begin(&read, ()), Begun::First));
        assert!(reads.end(&read).is_some_and(|ended| ended.askers.len() == 1) && reads.end(&read).is_none());
        assert!(matches!(reads.begin(&read, ()), Begun::First));
    }
}
