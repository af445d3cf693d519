//! Who publishes, what and when: the part of a fan-out that the first worker has beside its subscribers.
//!
//! Plan: at the end of a turn retired publications are replaced (closed loop) or due ones made (open loop), and each mouth's go
//! out in one write. A mouth is a connection that publishes: one that does nothing else, a member of a chat, or a keep-alive
//! connection to a backend's HTTP API, which has one request under way and lets the others wait in their order.
//! Invariant: what one mouth publishes to a channel is in the order of its numbers.

use crate::engine::Io;
use crate::engine::clock::now;
use crate::measure::rate::{NEVER, Rate, Schedule};
use crate::measure::results::{Figures, histogram};
use crate::net::frame::{self, Fault};
use crate::protocols::Protocol;
use crate::protocols::publish_template::{Backend, Mould};
use crate::scenarios::api_publisher;
use crate::scenarios::fanout::Plan;
use crate::scenarios::in_flight::{Issue, Issuer};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::collections::VecDeque;

/// Commands of a greeting have lower ids: a member of a chat is in 100 rooms at most.
const FIRST_ID: u64 = 200;

/// Which channel the next publication goes to.
#[derive(Debug)]
pub enum Choice {
    /// One after the other.
    Turns,
    /// Any.
    Random,
    /// One of these speaks in one of his rooms.
    Talkers(Vec<Talker>),
}

/// One who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talker {
    /// Which member, and so which mouth.
    pub member: usize,
    /// His rooms, and his number among those who speak there.
    pub rooms: Vec<(u32, u8)>,
}

#[derive(Debug, Default)]
struct Mouth {
    /// The id of its last command.
    id: u64,
    /// This turn's frames.
    frames: Vec<u8>,
    /// Requests that wait for the answer to the one under way.
    queue: VecDeque<Vec<u8>>,
    under_way: bool,
    /// When that left.
    since: u64,
    /// Its connection has ended and comes again: there are servers that answer one request on each.
    away: bool,
}

#[derive(Debug)]
pub struct Press {
    issuer: Issuer,
    schedule: Option<Schedule>,
    choice: Choice,
    backend: Option<Backend>,
    /// Made when a channel is first published to.
    moulds: Vec<Option<Box<Mould>>>,
    /// The connection that is the first mouth; the others follow it.
    first: usize,
    mouths: Vec<Mouth>,
    /// Mouths that have something to send.
    full: Vec<usize>,
    message: Vec<u8>,
    running: bool,
    pub retired: Vec<u16>,
    /// Publications that were due but could not be numbered.
    pub held_back: u64,
    /// A backend's: from a request to its answer, in the measured time.
    pub answer: Histogram<u64>,
}

impl Press {
    /// Publications go out over `mouths` connections, of which `first` is the first.
    pub fn new(plan: &Plan, issuer: Issuer, choice: Choice, first: usize, mouths: usize) -> Self {
        let mouth = || Mouth { id: FIRST_ID, ..Mouth::default() };
        Self {
            issuer,
            schedule: None,
            choice,
            backend: plan.backend.clone(),
            moulds: (0..plan.channels.len()).map(|_| None).collect(),
            first,
            mouths: (0..mouths).map(|_| mouth()).collect(),
            full: Vec::new(),
            message: Vec::new(),
            running: false,
            retired: Vec::new(),
            held_back: 0,
            answer: histogram(),
        }
    }

    pub fn published(&self, channel: usize) -> u64 {
        self.issuer.published(channel)
    }

    pub fn issued(&self) -> u64 {
        self.issuer.issued()
    }

    fn issue(&mut self, plan: &Plan, channel: usize) -> Option<(Issue, usize)> {
        let issue = self.issuer.issue(&plan.slots, channel)?;
        Some((issue, usize::from(issue.stamp.publisher)))
    }

    /// The next publication of the schedule, and the mouth that says it.
    fn choose(&mut self, plan: &Plan, n: u64) -> Option<(Issue, usize)> {
        let channels = self.issuer.channels();
        match &self.choice {
            Choice::Turns => self.issue(plan, n as usize % channels),
            Choice::Random => self.issue(plan, fastrand::usize(..channels)),
            Choice::Talkers(talkers) => {
                let talker = &talkers[fastrand::usize(..talkers.len())];
                let (channel, voice) = talker.rooms[fastrand::usize(..talker.rooms.len())];
                let mouth = talker.member;
                if self.backend.is_some() {
                    return self.issue(plan, channel as usize);
                }
                Some((self.issuer.issue_by(&plan.slots, channel as usize, usize::from(voice))?, mouth))
            }
        }
    }

    /// Puts a publication among what its mouth says in this turn.
    fn set(&mut self, plan: &Plan, io: &mut Io, chosen: Option<(Issue, usize)>, time: u64) {
        let Some((issue, mouth)) = chosen else {
            self.held_back += 1;
            return;
        };
        // Where deliveries are counted in several processes, they and not publications are under way.
        let due = match plan.apart.is_some() {
            true => u64::from(self.issuer.subscribers(issue.channel)),
            false => u64::from(self.issuer.subscribers(issue.channel) > 0),
        };
        io.tally.in_flight = io.tally.in_flight.wrapping_add(due);
        if plan.apart.is_some() {
            plan.slots.forget(issue.stamp.slot);
        }
        let backend = self.backend.as_ref();
        let mould = self.moulds[issue.channel]
            .get_or_insert_with(|| Box::new(Mould::new(&plan.dialect, &plan.channels[issue.channel], backend)));
        let by = &mut self.mouths[mouth];
        by.id += 1;
        self.message.clear();
        mould.put(&mut self.message, by.id, issue.stamp, time);
        if by.frames.is_empty() && by.queue.is_empty() {
            self.full.push(mouth);
        }
        if backend.is_some() {
            by.queue.push_back(self.message.clone());
        } else {
            let key = fastrand::u32(..).to_ne_bytes();
            frame::put_masked(&mut by.frames, plan.dialect.opcode(), key, &[&self.message]);
        }
        io.tally.sent += 1;
    }

    /// What is due in this turn; gives the next moment of the schedule.
    pub fn turn(&mut self, plan: &Plan, io: &mut Io, figures: &mut Figures, running: bool) -> Option<u64> {
        plan.slots.take_over(&mut self.retired);
        io.tally.in_flight = io.tally.in_flight.wrapping_sub(self.retired.len() as u64);
        let mut next = None;
        let was = std::mem::replace(&mut self.running, running);
        let begins = running && !was;
        let retired = std::mem::take(&mut self.retired);
        if running && let Some(mut schedule) = self.schedule(plan, io) {
            schedule.measure(io.measured_from);
            while schedule.due(io.now) <= io.now {
                let at = schedule.due(io.now);
                io.late(at);
                let chosen = self.choose(plan, schedule.advance());
                figures.sent(io.measured_from, at, 1);
                self.set(plan, io, chosen, at);
            }
            next = Some(schedule.due(io.now)).filter(|due| *due != NEVER);
            self.schedule = Some(schedule);
        } else if running {
            let (channels, window) = (self.issuer.channels(), plan.window * self.issuer.channels());
            let first = (0..if begins { window } else { 0 }).map(|i| i % channels);
            let again = if begins { &[][..] } else { &retired }.iter().map(|&slot| plan.slots.channel_of(slot));
            for channel in first.chain(again) {
                let chosen = self.issue(plan, channel);
                figures.sent(io.measured_from, io.now, 1);
                self.set(plan, io, chosen, io.now);
            }
        } else {
            // The next measurement has a schedule of its own.
            self.schedule = None;
        }
        self.retired = retired;
        self.retired.clear();
        self.send(io);
        next
    }

    /// The schedule that is followed, in open loop.
    fn schedule(&mut self, plan: &Plan, io: &Io) -> Option<Schedule> {
        let rate = plan.rate.as_ref()?;
        Some(self.schedule.take().unwrap_or_else(|| match io.rate {
            0.0 => Schedule::of(rate, plan.arrivals, 0, 1),
            searched => Schedule::of(&Rate::constant(searched), plan.arrivals, 0, 1),
        }))
    }

    fn send(&mut self, io: &mut Io) {
        for i in std::mem::take(&mut self.full) {
            let (mouth, id) = (&mut self.mouths[i], self.first + i);
            if !mouth.frames.is_empty() {
                io.send(id, &mouth.frames);
                mouth.frames.clear();
            } else if !(mouth.under_way || mouth.away)
                && let Some(request) = mouth.queue.pop_front()
            {
                (mouth.under_way, mouth.since) = (true, io.now);
                io.send(id, &request);
            }
        }
    }

    /// Reads answers of a backend to connection `id`; gives how many bytes are dealt with, and whether the server ends it behind
    /// them. Errors go to `refused`.
    pub fn answers(
        &mut self,
        io: &Io,
        plan: &Plan,
        id: usize,
        bytes: &[u8],
        refused: &mut Vec<String>,
    ) -> Result<(usize, bool), Fault> {
        let mut at = 0;
        while let Some(answer) = api_publisher::answer(&bytes[at..])? {
            let Some(body) = bytes[at..].get(answer.head..answer.head + answer.len) else { break };
            at += answer.head + answer.len;
            if !accepted(plan.dialect.protocol, answer.status, body) {
                refused.push(format!("HTTP {}: {}", answer.status, String::from_utf8_lossy(body)));
            }
            let mouth = &mut self.mouths[id - self.first];
            mouth.under_way = false;
            if io.measured_from > 0 && mouth.since >= io.measured_from {
                // The turn's own clock still shows the turn before.
                self.answer.saturating_record(now().saturating_sub(mouth.since));
            }
            mouth.away = answer.last;
            self.full.push(id - self.first);
            if answer.last {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Connection `id` to a backend has ended; true if a request was under way, so that nobody knows what became of it.
    pub fn ended(&mut self, id: usize) -> bool {
        let mouth = &mut self.mouths[id - self.first];
        mouth.away = true;
        std::mem::take(&mut mouth.under_way)
    }

    /// It stands; true if it was there before.
    pub fn stands(&mut self, id: usize) -> bool {
        self.full.push(id - self.first);
        std::mem::take(&mut self.mouths[id - self.first].away)
    }
}

fn accepted(protocol: Protocol, status: u16, body: &[u8]) -> bool {
    let result = || serde_json::from_slice::<Value>(body).is_ok_and(|value| value["result"].is_object());
    status == 200 && (protocol == Protocol::Pusher || result())
}
