//! The counters of the cluster, which `/metrics` shows.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, Instant};

/// How often the log names what is dropped for one reason.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why a control message was dropped. The index is the place in `Counts::dropped`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Its bytes, or its fields, are not those of a control message.
    Malformed,
    TooLarge,
    /// It selects connections in a way that this server does not know.
    Unsupported,
    /// The shards do not take received calls fast enough.
    IncomingFull,
    /// The broker does not take messages fast enough.
    OutgoingFull,
    /// Too many questions of other servers are being answered.
    SurveysFull,
    /// The table of servers is full.
    NodesFull,
    /// Too many users with a single connection connect.
    UsersFull,
}

impl Dropped {
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Malformed, "malformed"),
        (Self::TooLarge, "too_large"),
        (Self::Unsupported, "unsupported"),
        (Self::IncomingFull, "incoming_full"),
        (Self::OutgoingFull, "outgoing_full"),
        (Self::SurveysFull, "surveys_full"),
        (Self::NodesFull, "nodes_full"),
        (Self::UsersFull, "users_full"),
    ];

    /// What follows from it.
    pub(crate) fn consequence(self) -> &'static str {
        match self {
            Self::Malformed => "it is ignored",
            Self::TooLarge => "it is ignored; a survey that waits for it fails",
            Self::Unsupported => {
                "it is not carried out on this server: `label_filter` and `all_users` are not supported here"
            }
            Self::IncomingFull => "the call is not carried out on this server",
            Self::OutgoingFull => "the other servers do not get it; a call of the server API is rejected",
            Self::SurveysFull => "the server that asks gets an error",
            Self::NodesFull => "the server is not listed and no survey waits for it",
            Self::UsersFull => "the user keeps the connections on other servers",
        }
    }
}

/// How a survey of this server ended. The index is the place in `Counts::surveys`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SurveyEnd {
    Complete,
    /// A server was left out, since it does not announce itself any more.
    Partial,
    Failed,
}

impl SurveyEnd {
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Complete, "complete"), (Self::Partial, "partial"), (Self::Failed, "failed")];
}

/// The counters at one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Messages of other servers.
    pub received: u64,
    pub sent: u64,
    pub dropped: [u64; Dropped::ALL.len()],
    pub surveys: [u64; SurveyEnd::ALL.len()],
    /// Surveys of other servers that this one answered.
    pub surveys_answered: u64,
    pub nodes_lost: u64,
    pub nodes_returned: u64,
    /// Users whose connections on other servers were closed, since they have a single connection.
    pub single_connections: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    surveys: [AtomicU64; SurveyEnd::ALL.len()],
    pub(crate) surveys_answered: AtomicU64,
    pub(crate) nodes_lost: AtomicU64,
    pub(crate) nodes_returned: AtomicU64,
    pub(crate) single_connections: AtomicU64,
}

impl Counters {
    pub(crate) fn drop_message(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn survey_ended(&self, how: SurveyEnd) {
        add(&self.surveys[how as usize]);
    }

    pub(crate) fn read(&self) -> Counts {
        let all = |counters: &[AtomicU64]| counters.iter().map(read).collect::<Vec<_>>();
        Counts {
            received: read(&self.received),
            sent: read(&self.sent),
            dropped: all(&self.dropped).try_into().unwrap_or_default(),
            surveys: all(&self.surveys).try_into().unwrap_or_default(),
            surveys_answered: read(&self.surveys_answered),
            nodes_lost: read(&self.nodes_lost),
            nodes_returned: read(&self.nodes_returned),
            single_connections: read(&self.single_connections),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Lets one log line a minute pass for each reason.
#[derive(Default)]
pub(crate) struct DropLog([Option<Instant>; Dropped::ALL.len()]);

impl DropLog {
    pub(crate) fn may_log(&mut self, why: Dropped, now: Instant) -> bool {
        let last = &mut self.0[why as usize];
        let may = last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL);
        if may {
            *last = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_a_line_a_minute() {
        let counters = Counters::default();
        for (index, (why, _)) in Dropped::ALL.iter().enumerate() {
            assert_eq!(*why as usize, index);
            counters.drop_message(*why);
        }
        assert_eq!(counters.read().dropped, [1; Dropped::ALL.len()]);
        let (mut log, now) = (DropLog::default(), Instant::now());
        assert!(log.may_log(Dropped::Malformed, now) && log.may_log(Dropped::TooLarge, now));
        assert!(!log.may_log(Dropped::Malformed, now + LOG_INTERVAL / 2));
        assert!(log.may_log(Dropped::Malformed, now + LOG_INTERVAL));
    }
}
