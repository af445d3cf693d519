//! Subscribers that stay: if they are closed, they reconnect and recover from their position; every number of every publisher is
//! checked.
//!
//! A publication contains its publisher and its number. On one connection the numbers of a publisher have no gap;
//! between two connections they may, if the server replied `recovered: false`. A session is one connection, from its
//! subscription to its end: every publication acknowledged in that time must have been delivered (`missing`).
//! Invariant: a gap is recorded with whether the server announced it; whether it is a loss is decided with the logs of
//! the publishers.

use crate::restart_publisher::{Log, Outcome, Sent};
use corecast_load::engine::Scenario;
use corecast_load::engine::connection::Io;
use corecast_load::engine::control::Phase;
use corecast_load::net::Target;
use corecast_load::net::frame::{self, ProtocolError};
use corecast_load::protocols::{self, CONNECT_ID, Messages, Position, SUBSCRIBE_ID, json};
use serde_json::Value;

/// The shortest delay in nanoseconds before a closed subscriber reconnects; a random delay up to the same length is added.
const RECONNECT_DELAY: u64 = 50_000_000;
/// Nanoseconds by which an acknowledgment may be ahead of the delivery.
const ACK_AHEAD: u64 = 500_000_000;

/// Numbers `from..to` of a publisher that a subscriber did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub publisher: usize,
    pub from: u32,
    pub to: u32,
    /// It lies between two connections, and the server replied that it did not recover.
    pub announced: bool,
}

/// One connection of a subscriber.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pub begun: u64,
    pub ended: u64,
    /// The last number of each publisher, in this session or an earlier one.
    pub last: Vec<Option<u32>>,
}

#[derive(Clone, Debug, Default)]
struct Subscriber {
    since: Option<Position>,
    connected: bool,
    begun: u64,
    /// The reply to the subscription; also false if there was nothing to recover.
    recovered: bool,
    last: Vec<Option<u32>>,
    /// Whether this connection has delivered anything of a publisher.
    followed: Vec<bool>,
}

/// The replies to reconnecting subscribers, and the errors in their deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub recovered: u64,
    pub not_recovered: u64,
    /// On one connection: duplicates, or out of order.
    pub twice: u64,
    /// Over two connections: duplicates, which are allowed if nothing was recovered.
    pub seen_again: u64,
    pub unsubscribed: u64,
    pub deliveries: u64,
}

pub struct ReconnectingSubscribers {
    target: Target,
    messages: Messages,
    channel: String,
    publishers: usize,
    subscribers: Vec<Subscriber>,
    /// When closed subscribers reconnect.
    due: Vec<(u64, usize)>,
    pub counts: Counts,
    pub gaps: Vec<Gap>,
    pub sessions: Vec<Session>,
}

impl ReconnectingSubscribers {
    pub fn new(target: Target, channel: &str, subscribers: usize, publishers: usize) -> Self {
        let one = Subscriber { last: vec![None; publishers], ..Subscriber::default() };
        Self {
            target,
            messages: Messages { positioned: true, ..Messages::default() },
            channel: channel.into(),
            publishers,
            subscribers: vec![one; subscribers],
            due: Vec::new(),
            counts: Counts::default(),
            gaps: Vec::new(),
            sessions: Vec::new(),
        }
    }

    /// Ends the open sessions; nothing is received after this.
    pub fn end_all(&mut self, now: u64) {
        (0..self.subscribers.len()).for_each(|id| self.end_session(id, now));
    }

    fn end_session(&mut self, id: usize, now: u64) {
        let subscriber = &mut self.subscribers[id];
        let begun = std::mem::take(&mut subscriber.begun);
        if begun > 0 {
            self.sessions.push(Session { begun, ended: now, last: subscriber.last.clone() });
        }
    }

    fn line(&mut self, io: &mut Io, id: usize, line: &[u8]) -> Result<(), ProtocolError> {
        if line == b"{}" {
            io.send_frame(id, frame::TEXT, b"{}");
            return Ok(());
        }
        let value = protocols::reply(line)?;
        if !value["error"].is_null() {
            return Err(ProtocolError::Response(value["error"].to_string()));
        }
        match value["id"].as_u64() {
            Some(CONNECT_ID) => self.subscribers[id].connected = true,
            Some(SUBSCRIBE_ID) if self.subscribers[id].connected => self.subscribed(io, id, &value["subscribe"]),
            Some(_) => return Err(ProtocolError::Response("an unexpected reply".into())),
            None => {
                let push = &value["push"];
                if push["pub"].is_object() {
                    self.publication(io, id, &push["pub"]);
                } else if push["unsubscribe"].is_object() {
                    self.counts.unsubscribed += 1;
                    io.reset(id);
                    self.end_session(id, io.now);
                    self.reconnect_later(io, id);
                }
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, io: &mut Io, id: usize, result: &Value) {
        let subscriber = &mut self.subscribers[id];
        let recovered = result["recovered"] == true;
        if subscriber.since.is_some() {
            *(if recovered { &mut self.counts.recovered } else { &mut self.counts.not_recovered }) += 1;
        }
        let epoch = result["epoch"].as_str().unwrap_or_default().to_string();
        let offset = result["offset"].as_u64().unwrap_or(0);
        subscriber.recovered = recovered;
        subscriber.begun = io.now;
        subscriber.followed = vec![false; self.publishers];
        io.ready(id);
        for publication in result["publications"].as_array().into_iter().flatten() {
            self.publication(io, id, publication);
        }
        self.subscribers[id].since = Some(Position { epoch, offset });
    }

    fn publication(&mut self, io: &mut Io, id: usize, publication: &Value) {
        let data = &publication["data"];
        let (Some(publisher), Some(n)) = (data["publisher"].as_u64(), data["n"].as_u64()) else { return };
        let (publisher, n) = (publisher as usize, n as u32);
        if publisher >= self.publishers {
            return;
        }
        io.counters.received += 1;
        self.counts.deliveries += 1;
        let subscriber = &mut self.subscribers[id];
        if let (Some(since), Some(offset)) = (&mut subscriber.since, publication["offset"].as_u64()) {
            since.offset = offset;
        }
        let followed = std::mem::replace(&mut subscriber.followed[publisher], true);
        let Some(last) = subscriber.last[publisher] else {
            subscriber.last[publisher] = Some(n);
            return;
        };
        if n <= last {
            *(if followed { &mut self.counts.twice } else { &mut self.counts.seen_again }) += 1;
        } else {
            subscriber.last[publisher] = Some(n);
        }
        if n > last + 1 {
            let announced = !followed && !subscriber.recovered;
            self.gaps.push(Gap { publisher, from: last + 1, to: n, announced });
        }
    }

    fn reconnect_later(&mut self, io: &Io, id: usize) {
        self.due.push((io.now + RECONNECT_DELAY + fastrand::u64(..RECONNECT_DELAY), id));
    }
}

impl Scenario for ReconnectingSubscribers {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.target, id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        self.subscribers[id].connected = false;
        let channel = (self.channel.as_str(), self.subscribers[id].since.as_ref());
        let message = json::setup(&self.messages, id, [channel]);
        io.send_frame(id, frame::TEXT, message.as_bytes());
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        io.messages(id, bytes, |io, message| protocols::lines(message).try_for_each(|line| self.line(io, id, line)))
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        self.end_session(id, io.now);
        self.reconnect_later(io, id);
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        if phase < Phase::Stop {
            let now = io.now;
            self.due.extract_if(.., |(at, _)| *at <= now).for_each(|(_, id)| io.reopen(id));
        }
        self.due.iter().map(|(at, _)| *at).min()
    }
}

/// The numbers in a gap that were acknowledged, so that they are lost.
pub fn lost(gap: &Gap, logs: &[Log]) -> u64 {
    let sent = logs[gap.publisher].get(gap.from as usize..gap.to as usize).unwrap_or_default();
    sent.iter().filter(|sent| sent.outcome == Outcome::Acknowledged).count() as u64
}

/// The publications during a session that were not delivered in it: sent after it had begun, acknowledged well before
/// it ended. (Those before the last delivery are gaps and counted there.)
pub fn missing(session: &Session, logs: &[Log]) -> u64 {
    let of = |(log, last): (&Log, &Option<u32>)| {
        let behind = log.iter().skip(last.map_or(0, |last| last as usize + 1));
        let is_due = |sent: &&Sent| {
            sent.outcome == Outcome::Acknowledged
                && sent.at > session.begun
                && sent.answered + ACK_AHEAD < session.ended
        };
        behind.filter(is_due).count() as u64
    };
    logs.iter().zip(&session.last).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(outcomes: &[Outcome]) -> Log {
        let sent = |(i, outcome): (usize, &Outcome)| {
            let at = i as u64 * 2 * ACK_AHEAD;
            Sent { at, answered: at, outcome: outcome.clone() }
        };
        outcomes.iter().enumerate().map(sent).collect()
    }

    #[test]
    fn gap_is_a_loss_of_its_acknowledged_publications_only() {
        let logs =
            [log(&[Outcome::Acknowledged, Outcome::InDoubt, Outcome::Rejected("x".into()), Outcome::Acknowledged])];
        let gap = |from, to| Gap { publisher: 0, from, to, announced: false };
        assert_eq!([lost(&gap(1, 3), &logs), lost(&gap(0, 4), &logs), lost(&gap(1, 9), &logs)], [0, 2, 0]);
    }

    #[test]
    fn session_misses_only_publications_acknowledged_within_it() {
        let logs = [log(&vec![Outcome::Acknowledged; 6])];
        let session = |last, from: u64, to: u64| Session {
            begun: from * 2 * ACK_AHEAD + 1,
            ended: to * 2 * ACK_AHEAD,
            last: vec![last],
        };
        assert_eq!(missing(&session(Some(3), 0, 4), &logs), 0);
        assert_eq!(missing(&session(Some(3), 0, 6), &logs), 2, "4 and 5");
        assert_eq!(missing(&session(None, 3, 6), &logs), 2);
        assert_eq!(missing(&session(None, 3, 4), &logs), 0, "4 was sent as it ended");
    }
}
