//! What one connection waits for.
//!
//! The server handles the operations of a connection in order, so a PONG says that everything before its PING was done. Each
//! batch of requests ends with a PING, and its answers wait for the PONG: a publication is acknowledged when the server has it,
//! and a subscription is reported when every later message arrives.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::wire;
use crate::broker::message::Ticket;
use crate::ids::ShardId;

/// A PING without an answer for this long ends the connection.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// A probe is sent this often.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How often deadlines are judged.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// A tick that comes so late means that this process was stopped, and not the server.
const STALL: Duration = Duration::from_secs(1);

pub(super) const CONTROL_SID: u64 = 1;
pub(super) const NODE_SID: u64 = 2;
pub(super) const PROBE_SID: u64 = 3;

/// The payload of a probe.
pub(super) const PROBE: &[u8] = b"1";

/// A publication without an answer.
pub(super) struct Unanswered {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) channel: Box<str>,
}

/// What one PONG answers.
#[derive(Default)]
pub(super) struct Group {
    pub(super) publications: Vec<Unanswered>,
    /// Sids.
    pub(super) subscribed: Vec<u64>,
    /// What its requests take.
    pub(super) bytes: usize,
    pub(super) has_probe: bool,
}

pub(super) struct Link {
    /// Bytes on their way to the server.
    pub(super) out: Vec<u8>,
    pub(super) received: BytesMut,
    /// The longest payload that the server takes.
    pub(super) payload_bytes_max: usize,
    groups: VecDeque<(Instant, Group)>,
    group_bytes: usize,
    /// Subjects that the server refused since the last PONG.
    pub(super) refused: HashSet<Box<str>>,
    /// What the server said last before it closes.
    pub(super) last_error: Option<String>,
    pub(super) probe_subject: String,
    /// False if the server does not allow the subject.
    pub(super) may_probe: bool,
    pub(super) probe_arrived: bool,
    /// The server answered the PING behind a probe that did not arrive.
    pub(super) probe_failed: bool,
    /// The first PING was answered.
    pub(super) is_up: bool,
    probed: Instant,
    /// When the socket took bytes, or had none to take.
    pub(super) wrote: Instant,
    ticked: Instant,
}

/// Why a connection is given up.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Overdue {
    Answer,
    Write,
}

impl Link {
    pub(super) fn new(received: BytesMut, payload_bytes_max: usize, probe_subject: String) -> Self {
        let now = Instant::now();
        Self {
            out: Vec::new(),
            received,
            payload_bytes_max,
            groups: VecDeque::new(),
            group_bytes: 0,
            refused: HashSet::new(),
            last_error: None,
            probe_subject,
            may_probe: true,
            probe_arrived: false,
            probe_failed: false,
            is_up: false,
            probed: now,
            wrote: now,
            ticked: now,
        }
    }

    /// Ends a batch. One that nothing waits for needs no PING.
    pub(super) fn end_group(&mut self, group: Group) {
        if group.publications.is_empty() && group.subscribed.is_empty() && group.bytes == 0 && !group.has_probe {
            return;
        }
        self.group_bytes += group.bytes;
        wire::ping(&mut self.out);
        self.groups.push_back((Instant::now(), group));
    }

    /// What a PONG answers, and how long it took. `None`: there was no PING.
    pub(super) fn pong(&mut self) -> Option<(Duration, Group)> {
        let (sent, group) = self.groups.pop_front()?;
        self.group_bytes -= group.bytes;
        Some((sent.elapsed(), group))
    }

    /// Everything that will get no answer.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = Unanswered> {
        self.groups.into_iter().flat_map(|(_, group)| group.publications)
    }

    pub(super) fn unanswered(&self) -> usize {
        self.groups.iter().map(|(_, group)| group.publications.len()).sum()
    }

    /// Requests whose outcome is not known yet.
    pub(super) fn unanswered_bytes(&self) -> usize {
        self.group_bytes
    }

    /// Sends a probe if it is time, and judges the deadlines.
    pub(super) fn tick(&mut self, write_timeout: Duration) -> Result<(), Overdue> {
        let now = Instant::now();
        let is_late = now - std::mem::replace(&mut self.ticked, now) > STALL;
        if is_late {
            // What arrived in the meantime was not read yet.
            self.groups.iter_mut().for_each(|(sent, _)| *sent = now);
            self.wrote = now;
        }
        if self.groups.front().is_some_and(|(sent, _)| now - *sent > ANSWER_TIMEOUT) {
            return Err(Overdue::Answer);
        }
        if !self.out.is_empty() && now - self.wrote > write_timeout {
            return Err(Overdue::Write);
        }
        if now - self.probed >= PROBE_INTERVAL {
            self.probed = now;
            let has_probe = self.may_probe;
            if has_probe {
                self.probe_arrived = false;
                wire::publish(&mut self.out, &self.probe_subject, PROBE);
            }
            // Without a probe the PONG still tells that the server is there.
            self.end_group(Group { has_probe, bytes: usize::from(!has_probe), ..Group::default() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new(BytesMut::new(), 100, "p.probe".into())
    }

    fn publications(count: u32) -> Group {
        let one = |ticket| Unanswered { shard: ShardId(0), ticket: Ticket(ticket), channel: "a".into() };
        Group { publications: (0..count).map(one).collect(), bytes: 10, ..Group::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn pong_answers_the_oldest_batch() {
        let mut link = link();
        link.end_group(Group::default());
        assert!(link.out.is_empty(), "nothing waits");
        link.end_group(publications(1));
        link.end_group(publications(2));
        assert_eq!((link.unanswered(), link.unanswered_bytes(), &link.out[..]), (3, 20, &b"PING\r\nPING\r\n"[..]));
        tokio::time::advance(Duration::from_millis(7)).await;
        let (took, group) = link.pong().expect("the first");
        assert_eq!((took, group.publications.len(), link.unanswered_bytes()), (Duration::from_millis(7), 1, 10));
        assert_eq!(link.pong().expect("the second").1.publications.len(), 2);
        assert!(link.pong().is_none());
        assert_eq!(link.into_unanswered().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_does_not_come_ends_the_connection() {
        let mut link = link();
        link.end_group(publications(1));
        link.out.clear();
        let tick = |link: &mut Link| {
            let result = link.tick(Duration::from_secs(1));
            link.out.clear();
            result
        };
        for _ in 0..16 {
            tokio::time::advance(TICK).await;
            assert_eq!(tick(&mut link), Ok(()));
        }
        tokio::time::advance(TICK).await;
        assert_eq!(tick(&mut link), Err(Overdue::Answer));
        assert_eq!(link.into_unanswered().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_this_process_was_stopped_does_not_count() {
        let mut link = link();
        link.end_group(publications(1));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(link.tick(Duration::from_secs(1)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_does_not_read_ends_the_connection() {
        let mut link = link();
        link.out.extend(b"PUB");
        tokio::time::advance(TICK).await;
        assert_eq!(link.tick(TICK * 2), Ok(()));
        tokio::time::advance(TICK * 2).await;
        assert_eq!(link.tick(TICK * 2), Err(Overdue::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn probes_follow_the_way_of_publications() {
        let mut link = link();
        for _ in 0..8 {
            assert!(link.out.is_empty());
            tokio::time::advance(TICK).await;
            link.tick(Duration::from_secs(1)).expect("nothing is overdue");
        }
        assert_eq!(link.out, b"PUB p.probe 1\r\n1\r\nPING\r\n");
        assert!(link.pong().expect("a PING").1.has_probe);
        (link.may_probe, link.out) = (false, Vec::new());
        for _ in 0..8 {
            tokio::time::advance(TICK).await;
            link.tick(Duration::from_secs(1)).expect("nothing is overdue");
        }
        assert_eq!(link.out, b"PING\r\n");
    }
}
