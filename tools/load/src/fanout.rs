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
use crate::net::Target;
use crate::payload::{self, BYTES_MIN, MAGIC, Stamp};
use crate::squeeze::Known;
use crate::window::{Issuer, SLOTS, Schedule, Slots};
use hdrhistogram::Histogram;
use memchr::memmem;
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
    pub slots: Slots,
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
    started: bool,
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
    touched: Vec<(u16, u64)>,
    phase: Phase,
    pub latency: Histogram<u64>,
    /// The same for what came before the measured time.
    pub calm: Histogram<u64>,
    /// From the intended send to the last subscriber's delivery.
    pub last: Histogram<u64>,
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
            phase: Phase::Open,
            latency: crate::report::histogram(),
            calm: crate::report::histogram(),
            last: crate::report::histogram(),
            publications: 0,
            refused: Vec::new(),
            frames: 0,
            plan,
        }
    }

    /// Makes this worker the one that publishes, to `subscribers` per channel, in open loop if a rate is given.
    pub fn publish(&mut self, subscribers: &[u32], rate: Option<f64>) {
        let publishers = self.plan.publishers;
        self.press = Some(Press {
            issuer: Issuer::new(subscribers, publishers),
            schedule: rate.map(Schedule::new),
            around: self.plan.channels.iter().map(|name| self.plan.dialect.around(name)).collect(),
            ids: vec![dialect::SUBSCRIBE_ID; publishers],
            frames: vec![Vec::new(); publishers],
            message: Vec::new(),
            started: false,
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
            self.touched.push((stamp.slot, payload::time(bytes)));
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
        for (slot, time) in self.touched.drain(..) {
            let n = std::mem::take(&mut self.counts[usize::from(slot)]);
            let age = io.now.saturating_sub(time);
            match self.phase {
                Phase::Measure => self.latency.saturating_record_n(age, u64::from(n)),
                Phase::Warm => self.calm.saturating_record_n(age, u64::from(n)),
                _ => {}
            }
            if !self.plan.slots.expects(slot, n) {
                self.checker.findings.strange += u64::from(n);
                continue;
            }
            if self.plan.slots.delivered(slot, n) {
                retired.push(slot);
                self.publications += 1;
                if self.phase == Phase::Measure {
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
        let publisher = usize::from(issue.stamp.publisher);
        self.ids[publisher] += 1;
        self.message.clear();
        let size = plan.dialect.payload_bytes();
        dialect::publication(&mut self.message, &self.around[channel], self.ids[publisher], issue.stamp, time, size);
        let key = fastrand::u32(..).to_ne_bytes();
        frame::put_masked(&mut self.frames[publisher], plan.opcode, key, &[&self.message]);
        io.tally.sent += 1;
        io.tally.in_flight += 1;
    }

    /// What is due in this turn; gives the next moment of the schedule.
    fn turn(&mut self, plan: &Plan, io: &mut Io, running: bool) -> Option<u64> {
        plan.slots.take_over(&mut self.retired);
        io.tally.in_flight -= self.retired.len() as u64;
        let mut next = None;
        let retired = std::mem::take(&mut self.retired);
        if running && let Some(mut schedule) = self.schedule.take() {
            while schedule.due(io.now) <= io.now {
                let (at, channel) = (schedule.due(io.now), schedule.advance() as usize % self.issuer.channels());
                self.set(plan, io, channel, at);
            }
            next = Some(schedule.due(io.now));
            self.schedule = Some(schedule);
        } else if running && !self.started {
            self.started = true;
            for i in 0..plan.window * self.issuer.channels() {
                self.set(plan, io, i % self.issuer.channels(), io.now);
            }
        } else if running {
            retired.iter().for_each(|&slot| self.set(plan, io, plan.slots.channel_of(slot), io.now));
        }
        self.retired = retired;
        self.retired.clear();
        next
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
        let mut retired = self.press.as_mut().map(|press| std::mem::take(&mut press.retired)).unwrap_or_default();
        self.settle(io, &mut retired);
        self.phase = phase;
        let running = matches!(phase, Phase::Warm | Phase::Measure);
        let Some(press) = self.press.as_mut() else {
            if !retired.is_empty() {
                self.plan.slots.hand_over(&mut retired);
                self.control.wake(0);
            }
            return None;
        };
        press.retired = retired;
        let next = press.turn(&self.plan, io, running);
        press.send(io, self.subscribers);
        debug_assert!(self.worker == 0);
        next
    }
}

/// Subscribers that saw their channel's publications in another order than the first subscriber of that channel.
pub fn disagreeing(scenes: &[Fanout], channels: usize) -> u64 {
    let mut first: Vec<Option<u64>> = vec![None; channels];
    let mut count = 0;
    for scene in scenes {
        for id in 0..scene.subscribers {
            let Some(order) = scene.checker.order(id) else { return 0 };
            count += u64::from(*first[scene.channel_of(id)].get_or_insert(order) != order);
        }
    }
    count
}
