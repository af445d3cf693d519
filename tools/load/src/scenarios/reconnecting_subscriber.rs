//! Subscribers that stay: closed, they come back and say where they were; every number of every publisher is followed.
//!
//! Plan: a publication says its publisher and its number. On one connection the numbers of a publisher have no gap; across two
//! they may, where the server answered `recovered: false`. A life is one connection, from its subscription to its end: what was
//! acknowledged to a publisher in it must have come (`missing`).
//! Invariant: a gap is noted with whether the server told of it; whether it is one is known when the publishers' logs are.

use crate::engine::workers::Phase;
use crate::engine::{Io, Scene};
use crate::net::Target;
use crate::net::frame::{self, Fault};
use crate::protocols::{self, CONNECT_ID, Dialect, SUBSCRIBE_ID, Since};
use crate::scenarios::restart_publisher::{Log, Outcome};
use serde_json::Value;

/// Nanoseconds before one that was closed comes back, at least; as much again by chance.
const PAUSE: u64 = 50_000_000;
/// Nanoseconds by which an acknowledgement may be ahead of the delivery.
const AHEAD: u64 = 500_000_000;

/// Numbers `from..to` of a publisher that a subscriber did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub publisher: usize,
    pub from: u32,
    pub to: u32,
    /// It lies between two connections, and the server said that it could not recover.
    pub told: bool,
}

/// One connection of a subscriber.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub begun: u64,
    pub ended: u64,
    /// The last number of each publisher that was seen until then, in this life or an earlier one.
    pub last: Vec<Option<u32>>,
}

#[derive(Clone, Debug, Default)]
struct Subscriber {
    since: Option<Since>,
    connected: bool,
    begun: u64,
    /// What the subscription was answered; false also where nothing was to be recovered.
    recovered: bool,
    last: Vec<Option<u32>>,
    /// Publishers of whom this connection has brought something.
    followed: Vec<bool>,
}

/// What the server answered those who came back, and what was wrong with what they got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Findings {
    pub recovered: u64,
    pub not_recovered: u64,
    /// On one connection: seen before, or out of order.
    pub twice: u64,
    /// Across two connections: seen before; allowed where nothing was recovered.
    pub seen_again: u64,
    pub unsubscribed: u64,
    pub deliveries: u64,
}

pub struct Faithful {
    target: Target,
    dialect: Dialect,
    channel: String,
    publishers: usize,
    subscribers: Vec<Subscriber>,
    due: Vec<(u64, usize)>,
    pub findings: Findings,
    pub gaps: Vec<Gap>,
    pub lives: Vec<Life>,
}

impl Faithful {
    pub fn new(target: Target, channel: &str, subscribers: usize, publishers: usize) -> Self {
        let one = Subscriber { last: vec![None; publishers], ..Subscriber::default() };
        Self {
            target,
            dialect: Dialect { positioned: true, ..Dialect::default() },
            channel: channel.into(),
            publishers,
            subscribers: vec![one; subscribers],
            due: Vec::new(),
            findings: Findings::default(),
            gaps: Vec::new(),
            lives: Vec::new(),
        }
    }

    /// Ends the lives that still go on; nothing comes after this.
    pub fn end(&mut self, now: u64) {
        (0..self.subscribers.len()).for_each(|id| self.bury(id, now));
    }

    fn bury(&mut self, id: usize, now: u64) {
        let subscriber = &mut self.subscribers[id];
        let begun = std::mem::take(&mut subscriber.begun);
        if begun > 0 {
            self.lives.push(Life { begun, ended: now, last: subscriber.last.clone() });
        }
    }

    fn line(&mut self, io: &mut Io, id: usize, line: &[u8]) -> Result<(), Fault> {
        if line == b"{}" {
            io.send_frame(id, frame::TEXT, b"{}");
            return Ok(());
        }
        let value = protocols::reply(line)?;
        if !value["error"].is_null() {
            return Err(Fault::Answer(value["error"].to_string()));
        }
        match value["id"].as_u64() {
            Some(CONNECT_ID) => self.subscribers[id].connected = true,
            Some(SUBSCRIBE_ID) if self.subscribers[id].connected => self.subscribed(io, id, &value["subscribe"]),
            Some(_) => return Err(Fault::Answer("a reply that is none of ours, or before its time".into())),
            None => {
                let push = &value["push"];
                if push["pub"].is_object() {
                    self.publication(io, id, &push["pub"]);
                } else if push["unsubscribe"].is_object() {
                    self.findings.unsubscribed += 1;
                    io.cut(id);
                    self.bury(id, io.now);
                    self.come_back(io, id);
                }
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, io: &mut Io, id: usize, result: &Value) {
        let subscriber = &mut self.subscribers[id];
        let recovered = result["recovered"] == true;
        if subscriber.since.is_some() {
            *(if recovered { &mut self.findings.recovered } else { &mut self.findings.not_recovered }) += 1;
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
        self.subscribers[id].since = Some(Since { epoch, offset });
    }

    fn publication(&mut self, io: &mut Io, id: usize, publication: &Value) {
        let data = &publication["data"];
        let (Some(publisher), Some(n)) = (data["publisher"].as_u64(), data["n"].as_u64()) else { return };
        let (publisher, n) = (publisher as usize, n as u32);
        if publisher >= self.publishers {
            return;
        }
        io.tally.received += 1;
        self.findings.deliveries += 1;
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
            *(if followed { &mut self.findings.twice } else { &mut self.findings.seen_again }) += 1;
        } else {
            subscriber.last[publisher] = Some(n);
        }
        if n > last + 1 {
            let told = !followed && !subscriber.recovered;
            self.gaps.push(Gap { publisher, from: last + 1, to: n, told });
        }
    }

    fn come_back(&mut self, io: &Io, id: usize) {
        self.due.push((io.now + PAUSE + fastrand::u64(..PAUSE), id));
    }
}

impl Scene for Faithful {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.target, id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        self.subscribers[id].connected = false;
        let greeting = match &self.subscribers[id].since {
            None => protocols::json::greeting(&self.dialect, id, &[&self.channel]),
            Some(since) => protocols::json::returning(&self.dialect, id, &self.channel, since),
        };
        io.send_frame(id, frame::TEXT, greeting.as_bytes());
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        io.messages(id, bytes, |io, message| protocols::lines(message).try_for_each(|line| self.line(io, id, line)))
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        self.bury(id, io.now);
        self.come_back(io, id);
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        if phase < Phase::Stop {
            let now = io.now;
            self.due.extract_if(.., |(at, _)| *at <= now).for_each(|(_, id)| io.again(id));
        }
        self.due.iter().map(|(at, _)| *at).min()
    }
}

/// How many of the numbers in a gap were acknowledged, so that they should have come.
pub fn lost(gap: &Gap, logs: &[Log]) -> u64 {
    let sent = logs[gap.publisher].get(gap.from as usize..gap.to as usize).unwrap_or_default();
    sent.iter().filter(|sent| sent.outcome == Outcome::Acknowledged).count() as u64
}

/// How many publications of a life's own time never came in it: sent when it had begun, acknowledged well before it ended.
/// (Those before the last that came are gaps, and counted there.)
pub fn missing(life: &Life, logs: &[Log]) -> u64 {
    let of = |(log, last): (&Log, &Option<u32>)| {
        let behind = log.iter().skip(last.map_or(0, |last| last as usize + 1));
        let due = |sent: &&crate::scenarios::restart_publisher::Sent| {
            sent.outcome == Outcome::Acknowledged && sent.at > life.begun && sent.answered + AHEAD < life.ended
        };
        behind.filter(due).count() as u64
    };
    logs.iter().zip(&life.last).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::restart_publisher::Sent;

    fn log(outcomes: &[Outcome]) -> Log {
        let sent = |(i, outcome): (usize, &Outcome)| {
            let at = i as u64 * 2 * AHEAD;
            Sent { at, answered: at, outcome: outcome.clone() }
        };
        outcomes.iter().enumerate().map(sent).collect()
    }

    #[test]
    fn a_gap_is_a_loss_only_by_what_was_acknowledged() {
        let logs = [log(&[Outcome::Acknowledged, Outcome::Doubt, Outcome::Refused("x".into()), Outcome::Acknowledged])];
        let gap = |from, to| Gap { publisher: 0, from, to, told: false };
        assert_eq!([lost(&gap(1, 3), &logs), lost(&gap(0, 4), &logs), lost(&gap(1, 9), &logs)], [0, 2, 0]);
    }

    #[test]
    fn a_life_misses_what_was_acknowledged_in_its_time_and_not_what_came_before_or_at_its_end() {
        let logs = [log(&vec![Outcome::Acknowledged; 6])];
        let life =
            |last, from: u64, to: u64| Life { begun: from * 2 * AHEAD + 1, ended: to * 2 * AHEAD, last: vec![last] };
        assert_eq!(missing(&life(Some(3), 0, 4), &logs), 0);
        assert_eq!(missing(&life(Some(3), 0, 6), &logs), 2, "4 and 5");
        assert_eq!(missing(&life(None, 3, 6), &logs), 2);
        assert_eq!(missing(&life(None, 3, 4), &logs), 0, "4 was sent as it ended");
    }
}
