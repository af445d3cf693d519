//! `fanout`: publishers send, subscribers receive, and every delivery is accounted for.
//!
//! Plan: the first worker also holds the publishers. Delivery frames of a run look alike, so the place of the payload is
//! learned from the first one; after that a delivery costs a comparison of four header bytes, one of the magic, and sixteen
//! digits. Latency is recorded once per publication and turn, with a count. At the end of a turn retired publications are
//! replaced (closed loop) or due ones sent (open loop), each publisher's in one write.
//! Invariants: connections 0..subscribers are subscribers, the rest publishers; a delivery is counted once (`check`), and only
//! counted ones bring a publication nearer to its end.

use crate::check::Checker;
use crate::crew::{Control, Phase};
use crate::dialect::{self, Dialect, Note};
use crate::engine::{Io, Scene};
use crate::frame::{self, Fault, Header};
use crate::greet::arrived;
use crate::harvest::{Figures, Harvest};
use crate::lasts::Lasts;
use crate::net::Target;
use crate::payload::{self, BYTES_MIN, MAGIC, Stamp};
use crate::rate::{Arrivals, NEVER, Rate, Schedule};
use crate::squeeze::Known;
use crate::window::{Issuer, SLOTS, Slots};
use hdrhistogram::Histogram;
use memchr::memmem;
use std::mem::take;
use std::sync::Arc;

/// What every worker of a run has in common.
#[derive(Debug)]
pub struct Plan {
    pub target: Target,
    pub publish_target: Target,
    pub dialect: Dialect,
    pub opcode: u8,
    pub channels: Vec<String>,
    pub publishers: usize,
    /// Publications under way per channel, in closed loop.
    pub window: usize,
    /// Publications per second over all channels, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    pub slots: Slots,
    /// Others hold subscribers too: publications are not counted down here.
    pub apart: Option<Apart>,
}

/// One process's part of a run that has several.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// Nanoseconds that this machine's clock is ahead of the publishers'.
    pub ahead: i64,
}

/// A publication that came to some in this turn.
#[derive(Clone, Copy, Debug)]
struct Touched {
    stamp: Stamp,
    channel: usize,
    /// When it should have been sent.
    time: u64,
}

/// Only the first worker has one.
#[derive(Debug)]
struct Press {
    issuer: Issuer,
    schedule: Option<Schedule>,
    around: Vec<(String, String)>,
    /// Per publisher: the id of its next command, and the frames of this turn.
    ids: Vec<u64>,
    frames: Vec<Vec<u8>>,
    message: Vec<u8>,
    running: bool,
    retired: Vec<u16>,
    /// Publications that were due but could not be numbered.
    held_back: u64,
}

/// Where the payload stands in a delivery's frame.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    /// The frame's first four bytes.
    head: [u8; 4],
    /// Bytes of the whole frame; 0 while nothing was learned.
    total: usize,
    at: usize,
}

pub struct Fanout {
    plan: Arc<Plan>,
    control: Arc<Control>,
    worker: usize,
    /// Subscribers of workers before this one.
    first: usize,
    subscribers: usize,
    press: Option<Press>,
    layout: Layout,
    known: Known,
    compressed_bytes: usize,
    pub checker: Checker,
    /// Deliveries per slot in this turn, the slots that have any, and when they should have been sent.
    counts: Vec<u32>,
    touched: Vec<Touched>,
    figures: Figures,
    /// Deliveries of what was due before the measured time.
    pub calm: Histogram<u64>,
    /// From the intended send to the last subscriber's delivery.
    pub last: Histogram<u64>,
    lasts: Lasts,
    pub publications: u64,
    /// Errors that the server answered publishers with.
    pub refused: Vec<String>,
    pub frames: u64,
}

impl Fanout {
    /// A worker's scene for `subscribers` of the run's, the first of which has the number `first`.
    pub fn new(plan: Arc<Plan>, control: Arc<Control>, worker: usize, first: usize, subscribers: usize) -> Self {
        let checker = Checker::new(subscribers, plan.publishers);
        Self {
            control,
            worker,
            first,
            subscribers,
            press: None,
            layout: Layout::default(),
            known: Known::default(),
            compressed_bytes: 0,
            checker,
            counts: vec![0; SLOTS],
            touched: Vec::new(),
            figures: Figures::new(plan.rate.as_ref()),
            calm: crate::report::histogram(),
            last: crate::report::histogram(),
            lasts: Lasts::default(),
            publications: 0,
            refused: Vec::new(),
            frames: 0,
            plan,
        }
    }

    /// Makes this worker the one that publishes, to `subscribers` per channel.
    pub fn publish(&mut self, subscribers: &[u32]) {
        let publishers = self.plan.publishers;
        self.press = Some(Press {
            issuer: Issuer::new(subscribers, publishers),
            schedule: None,
            around: self.plan.channels.iter().map(|name| self.plan.dialect.around(name)).collect(),
            ids: vec![dialect::SUBSCRIBE_ID; publishers],
            frames: vec![Vec::new(); publishers],
            message: Vec::new(),
            running: false,
            retired: Vec::new(),
            held_back: 0,
        });
    }

    /// Bytes of a delivery's frame, as last seen.
    pub fn frame_bytes(&self) -> usize {
        self.layout.total.max(self.compressed_bytes)
    }

    pub fn held_back(&self) -> u64 {
        self.press.as_ref().map_or(0, |press| press.held_back)
    }

    fn channel_of(&self, id: usize) -> usize {
        (self.first + id) % self.plan.channels.len()
    }

    /// One delivery, its payload at the beginning of `bytes`.
    #[inline]
    fn delivery(&mut self, io: &mut Io, id: usize, channel: u8, bytes: &[u8]) {
        let Some(fixed) = bytes.first_chunk::<20>() else { return };
        let stamp = Stamp::read(fixed);
        if !self.checker.saw(id, channel, stamp) {
            io.tally.faults += 1;
            return;
        }
        let count = &mut self.counts[usize::from(stamp.slot)];
        *count += 1;
        if *count == 1 {
            let channel = self.channel_of(id);
            self.touched.push(Touched { stamp, channel, time: payload::time(bytes) });
        }
        io.tally.received += 1;
    }

    /// A frame that does not look like the last delivery: learn from it, or read what else it says.
    fn unusual(&mut self, io: &mut Io, id: usize, header: Header, frame: &[u8]) -> Result<(), Fault> {
        if header.is_control() {
            io.control(id, header, &frame[header.head..]);
            return Ok(());
        }
        let inflated;
        let mut body = &frame[header.head..];
        if header.compressed {
            inflated = io.inflate(id, body)?;
            body = &inflated;
        }
        let (mut found, mut at, mut stamp) = (0, 0, None);
        while let Some(place) = memmem::find(&body[at..], &MAGIC) {
            at += place;
            if body.len() < at + BYTES_MIN || id >= self.subscribers {
                break;
            }
            let channel = self.channel_of(id) as u8;
            self.delivery(io, id, channel, &body[at..]);
            found += 1;
            stamp = body[at..].first_chunk::<BYTES_MIN>().copied();
            if frame.len() <= 0xffff && !header.compressed {
                let head = [frame[0], frame[1], frame[2], frame[3]];
                self.layout = Layout { head, total: frame.len(), at: header.head + at };
            }
            at += BYTES_MIN;
        }
        if found > 1 {
            // Several in one frame: their number changes, so there is no layout to learn.
            self.layout.total = 0;
        } else if let Some(stamp) = stamp.filter(|_| header.compressed) {
            self.compressed_bytes = frame.len();
            self.known.learn(frame, stamp);
        }
        if found == 0 && self.plan.dialect.is_centrifuge() {
            return self.talk(io, id, body);
        }
        Ok(())
    }

    /// Replies and pings of the message protocol.
    fn talk(&mut self, io: &mut Io, id: usize, message: &[u8]) -> Result<(), Fault> {
        // The usual reply to a publisher, read no further than needed.
        let plain = message.starts_with(b"{\"id\":") && memchr::memchr(b'\n', message).is_none();
        if plain && io.is_ready(id) && memmem::find(message, b"\"error\"").is_none() {
            return Ok(());
        }
        let ready_by = self.plan.dialect.ready_by(id < self.subscribers);
        for note in dialect::notes(message)? {
            arrived(io, id, &note);
            match note {
                Note::Ping => io.send_frame(id, self.plan.opcode, b"{}"),
                Note::Reply(reply) if Some(reply) == ready_by => io.ready(id),
                Note::Reply(_) | Note::Other => {}
                Note::Error(_, text) if !io.is_ready(id) => return Err(Fault::Answer(text)),
                Note::Error(_, text) => {
                    io.tally.faults += 1;
                    self.refused.push(text);
                }
            }
        }
        Ok(())
    }

    /// Counts this turn's deliveries down and records their latency.
    fn settle(&mut self, io: &mut Io, retired: &mut Vec<u16>) {
        for Touched { stamp, channel, time } in self.touched.drain(..) {
            let slot = stamp.slot;
            let n = take(&mut self.counts[usize::from(slot)]);
            let time = self.plan.apart.map_or(time, |apart| time.saturating_add_signed(apart.ahead));
            let age = io.now.saturating_sub(time);
            io.took(age, u64::from(n));
            let measured = self.figures.came(io.measured_from, time, age, u64::from(n));
            if !measured {
                self.calm.saturating_record_n(age, u64::from(n));
            }
            if self.plan.apart.is_some() {
                // Under way are deliveries here; what was sent elsewhere is added where all is added up.
                io.tally.in_flight = io.tally.in_flight.wrapping_sub(u64::from(n));
                self.lasts.note(channel, stamp, age, measured);
                continue;
            }
            if !self.plan.slots.expects(slot, n) {
                self.checker.findings.strange += u64::from(n);
                continue;
            }
            if self.plan.slots.delivered(slot, n) {
                retired.push(slot);
                self.publications += 1;
                if measured {
                    self.last.saturating_record(age);
                }
            }
        }
    }
}

impl Press {
    /// Puts one publication of `channel` among this turn's frames.
    fn set(&mut self, plan: &Plan, io: &mut Io, channel: usize, time: u64) {
        let Some(issue) = self.issuer.issue(&plan.slots, channel) else {
            self.held_back += 1;
            return;
        };
        let due = if plan.apart.is_some() { u64::from(self.issuer.subscribers(channel)) } else { 1 };
        io.tally.in_flight = io.tally.in_flight.wrapping_add(due);
        if plan.apart.is_some() {
            plan.slots.forget(issue.stamp.slot);
        }
        let publisher = usize::from(issue.stamp.publisher);
        self.ids[publisher] += 1;
        self.message.clear();
        let size = plan.dialect.payload_bytes();
        dialect::publication(&mut self.message, &self.around[channel], self.ids[publisher], issue.stamp, time, size);
        let key = fastrand::u32(..).to_ne_bytes();
        frame::put_masked(&mut self.frames[publisher], plan.opcode, key, &[&self.message]);
        io.tally.sent += 1;
    }

    /// What is due in this turn; gives the next moment of the schedule.
    fn turn(&mut self, plan: &Plan, io: &mut Io, figures: &mut Figures, running: bool) -> Option<u64> {
        plan.slots.take_over(&mut self.retired);
        io.tally.in_flight = io.tally.in_flight.wrapping_sub(self.retired.len() as u64);
        let mut next = None;
        let was = std::mem::replace(&mut self.running, running);
        let begins = running && !was;
        let retired = take(&mut self.retired);
        if running && let Some(mut schedule) = self.schedule(plan, io) {
            schedule.measure(io.measured_from);
            while schedule.due(io.now) <= io.now {
                let (at, channel) = (schedule.due(io.now), schedule.advance() as usize % self.issuer.channels());
                io.late(at);
                figures.sent(io.measured_from, at, 1);
                self.set(plan, io, channel, at);
            }
            next = Some(schedule.due(io.now)).filter(|due| *due != NEVER);
            self.schedule = Some(schedule);
        } else if running {
            let window = plan.window * self.issuer.channels();
            let first = if begins { 0..window } else { 0..0 };
            let again = if begins { &[][..] } else { &retired };
            figures.sent(io.measured_from, io.now, (first.len() + again.len()) as u64);
            first.for_each(|i| self.set(plan, io, i % self.issuer.channels(), io.now));
            again.iter().for_each(|&slot| self.set(plan, io, plan.slots.channel_of(slot), io.now));
        } else {
            // The next measurement has a schedule of its own.
            self.schedule = None;
        }
        self.retired = retired;
        self.retired.clear();
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

    fn send(&mut self, io: &mut Io, first: usize) {
        for (i, frames) in self.frames.iter_mut().enumerate().filter(|(_, frames)| !frames.is_empty()) {
            io.send(first + i, frames);
            frames.clear();
        }
    }
}

impl Scene for Fanout {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        if id < self.subscribers { (&self.plan.target, self.first + id) } else { (&self.plan.publish_target, 0) }
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        let subscriber = id < self.subscribers;
        io.delay_acks(id);
        let channel = subscriber.then(|| self.plan.channels[self.channel_of(id)].as_str());
        if let Some(greeting) = self.plan.dialect.greeting(self.first + id, channel) {
            io.send_frame(id, self.plan.opcode, greeting.as_bytes());
        }
        if self.plan.dialect.ready_by(subscriber).is_none() {
            io.ready(id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let channel = self.channel_of(id) as u8;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let layout = self.layout;
            if rest.len() >= layout.total
                && layout.total > 0
                && rest[..4] == layout.head
                && rest[layout.at..layout.at + 4] == MAGIC
                && id < self.subscribers
            {
                self.delivery(io, id, channel, &rest[layout.at..layout.total]);
                self.frames += 1;
                at += layout.total;
                continue;
            }
            let Some(header) = frame::header(rest, io.deflate.is_on())? else { break };
            let Some(frame) = rest.get(..header.total()) else { break };
            self.frames += 1;
            at += header.total();
            match if header.compressed { self.known.find(frame) } else { None } {
                Some(stamp) if id < self.subscribers => self.delivery(io, id, channel, &stamp),
                _ => self.unusual(io, id, header, frame)?,
            }
        }
        Ok(at)
    }

    fn closed(&mut self, _io: &mut Io, _id: usize) {}

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        let mut retired = self.press.as_mut().map(|press| take(&mut press.retired)).unwrap_or_default();
        self.settle(io, &mut retired);
        let running = matches!(phase, Phase::Warm | Phase::Measure);
        let Some(press) = self.press.as_mut() else {
            if !retired.is_empty() {
                self.plan.slots.hand_over(&mut retired);
                self.control.wake(0);
            }
            return None;
        };
        press.retired = retired;
        let next = press.turn(&self.plan, io, &mut self.figures, running);
        press.send(io, self.subscribers);
        debug_assert!(self.worker == 0);
        next
    }

    fn harvest(&mut self) -> Harvest {
        let mut harvest = Harvest { steps: self.figures.take(), lasts: take(&mut self.lasts), ..Harvest::default() };
        for (name, histogram) in [("calm", &mut self.calm), ("last", &mut self.last)] {
            harvest.latency.insert(name.into(), histogram.clone());
            histogram.reset();
        }
        // What follows is of the whole run.
        let found = self.checker.findings;
        for (name, n) in [
            ("publications", self.publications),
            ("published", self.press.as_ref().map_or(0, |press| press.issuer.issued())),
            ("held_back", self.held_back()),
            ("refused", self.refused.len() as u64),
            ("lost", found.lost),
            ("duplicates", found.duplicates),
            ("reordered", found.reordered),
            ("strange", found.strange),
            ("disagreeing", 0),
        ] {
            harvest.add_count(name, n);
        }
        harvest.most.insert("frame_bytes".into(), self.frame_bytes() as u64);
        if let Some(text) = self.refused.first() {
            harvest.texts.insert("first error".into(), text.clone());
        }
        self.orders(&mut harvest);
        harvest
    }
}

impl Fanout {
    /// The order that each channel's first subscriber here saw, and how many others saw another one.
    fn orders(&self, harvest: &mut Harvest) {
        for id in 0..self.subscribers {
            let Some(order) = self.checker.order(id) else { return };
            if *harvest.orders.entry(self.channel_of(id) as u32).or_insert(order) != order {
                harvest.add_count("disagreeing", 1);
            }
        }
    }
}
