//! `fanout` and what is made of it (`chat`, `notifications`, `slow`): publishers send, subscribers receive, and every delivery is
//! accounted for.
//!
//! Plan: the first worker also holds the publishers (`press`). Delivery frames of a run look alike, so the place of the payload
//! is learned from the first one; after that a delivery costs a comparison of four header bytes, one of the magic, and sixteen
//! digits. Latency is recorded once per publication and turn, with a count. A probe does all that; a sink (`Plan::probes`) only
//! counts frames that look like a delivery, and at the end must have counted what was published to its channels.
//! Invariants: connections 0..subscribers are subscribers, the rest publishers; a delivery is counted once (`check`), and only
//! counted ones bring a publication nearer to its end.

use crate::engine::workers::{Control, Phase};
use crate::engine::{Io, Scene};
use crate::measure::last_delivery::{Apart, Lasts};
use crate::measure::rate::{Arrivals, Rate};
use crate::measure::results::{Figures, Harvest};
use crate::net::Target;
use crate::net::deflate::Known;
use crate::net::frame::{self, Fault, Header};
use crate::protocols::Dialect;
use crate::protocols::connection_setup::Welcome;
use crate::protocols::publish_template::Backend;
use crate::scenarios::delivery_check::Checker;
use crate::scenarios::in_flight::{Issuer, SLOTS, Slots};
use crate::scenarios::members::Members;
use crate::scenarios::payload::{self, BYTES_MIN, MAGIC, Stamp};
use crate::scenarios::publisher::{Choice, Press};
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
    /// Publications go over its API, and `publish_target` is where that is.
    pub backend: Option<Backend>,
    pub channels: Vec<String>,
    /// Each subscriber has a channel beside the others', to which nobody publishes: his number is appended.
    pub own_channel: Option<String>,
    pub members: Members,
    /// Connections that publish and do nothing else.
    pub publishers: usize,
    /// How many publish to each channel; the same number everywhere if it is empty.
    pub voices: Vec<usize>,
    /// Publications under way per channel, in closed loop.
    pub window: usize,
    /// Publications per second over all channels, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    /// Subscribers below this number follow every delivery, the others count.
    pub probes: usize,
    pub slots: Slots,
    /// Others hold subscribers too: publications are not counted down here.
    pub apart: Option<Apart>,
}

/// A publication that came to some in this turn.
#[derive(Clone, Copy, Debug)]
struct Touched {
    stamp: Stamp,
    channel: usize,
    /// When it should have been sent.
    time: u64,
}

impl Plan {
    pub fn names(&self, number: usize) -> Vec<&str> {
        self.members.channels(number).into_iter().map(|channel| self.channels[channel].as_str()).collect()
    }
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
    pub plan: Arc<Plan>,
    control: Arc<Control>,
    worker: usize,
    /// Subscribers of workers before this one.
    pub first: usize,
    pub subscribers: usize,
    pub press: Option<Press>,
    layout: Layout,
    known: Known,
    compressed_bytes: usize,
    welcome: Welcome,
    pub checker: Checker,
    /// Deliveries that each sink counted.
    pub sunk: Vec<u64>,
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
        let probes = plan.probes.saturating_sub(first).min(subscribers);
        let checker = match plan.voices.is_empty() {
            true => Checker::new(plan.members.seats(first, probes).len(), plan.publishers),
            false => Checker::each(plan.members.seats(first, probes).into_iter().map(|channel| plan.voices[channel])),
        };
        let publishers = if worker == 0 { plan.publishers } else { 0 };
        Self {
            control,
            worker,
            first,
            subscribers,
            press: None,
            layout: Layout::default(),
            known: Known::default(),
            compressed_bytes: 0,
            welcome: Welcome::new(subscribers + publishers),
            checker,
            sunk: if probes < subscribers { vec![0; subscribers] } else { Vec::new() },
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

    /// Makes this worker the one that publishes. Members of a chat speak for themselves,
    /// unless a backend does; otherwise the connections behind the subscribers do.
    pub fn publish(&mut self, choice: Choice) {
        let plan = &self.plan;
        let mut followed = plan.members.sizes(plan.probes, plan.channels.len());
        let speak = match &choice {
            Choice::Talkers(talkers) if plan.backend.is_none() => talkers.last().map(|last| last.member + 1),
            _ => None,
        };
        if speak.is_some() && !plan.dialect.hears_itself() {
            followed.iter_mut().for_each(|n| *n = n.saturating_sub(1));
        }
        let issuer = match plan.voices.is_empty() {
            true => Issuer::new(&followed, plan.publishers),
            false => Issuer::each(&followed, &plan.voices),
        };
        let (first, mouths) = speak.map_or((self.subscribers, plan.publishers), |talkers| (0, talkers));
        self.press = Some(Press::new(plan, issuer, choice, first, mouths));
    }

    /// The channel that a subscriber has for himself.
    fn own(&self, plan: &Plan, id: usize) -> Option<String> {
        let prefix = plan.own_channel.as_ref().filter(|_| id < self.subscribers)?;
        Some(format!("{prefix}{}", self.first + id))
    }

    /// Bytes of a delivery's frame, as last seen.
    pub fn frame_bytes(&self) -> usize {
        self.layout.total.max(self.compressed_bytes)
    }

    pub fn held_back(&self) -> u64 {
        self.press.as_ref().map_or(0, |press| press.held_back)
    }

    /// Whether that connection is one to a backend's API.
    fn is_backend(&self, id: usize) -> bool {
        id >= self.subscribers && self.plan.backend.is_some()
    }

    pub fn is_sink(&self, id: usize) -> bool {
        id < self.subscribers && self.first + id >= self.plan.probes
    }

    /// The one channel of a subscriber, where everybody has just one.
    fn only_channel(&self, id: usize) -> Option<usize> {
        match &self.plan.members {
            Members::Dealt { channels } => Some((self.first + id) % channels),
            Members::Table { .. } => None,
        }
    }

    /// One delivery, its payload at the beginning of `bytes`; `only` is what `only_channel` says.
    #[inline]
    fn delivery(&mut self, io: &mut Io, id: usize, only: Option<usize>, bytes: &[u8]) {
        let Some(fixed) = bytes.first_chunk::<20>() else { return };
        let stamp = Stamp::read(fixed);
        let place = only.map(|channel| (id, channel)).or_else(|| {
            // The slot knows the channel until the last delivery came.
            let channel = self.plan.slots.channel_of(stamp.slot);
            self.plan.members.seat(self.first, self.first + id, channel).map(|seat| (seat, channel))
        });
        let Some((seat, channel)) = place else {
            self.checker.findings.strange += 1;
            io.tally.faults += 1;
            return;
        };
        if !self.checker.saw(seat, channel as u8, stamp) {
            io.tally.faults += 1;
            return;
        }
        let count = &mut self.counts[usize::from(stamp.slot)];
        *count += 1;
        if *count == 1 {
            self.touched.push(Touched { stamp, channel, time: payload::time(bytes) });
        }
        io.tally.received += 1;
    }

    /// A delivery that nobody looks into.
    #[inline]
    fn sink(&mut self, io: &mut Io, id: usize) {
        self.sunk[id] += 1;
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
        let only = self.only_channel(id);
        let (mut found, mut at, mut stamp) = (0, 0, None);
        while let Some(place) = memmem::find(&body[at..], &MAGIC) {
            at += place;
            if id >= self.subscribers {
                // A publisher that had to subscribe hears the others; nobody waits for that.
                return Ok(());
            }
            if body.len() < at + BYTES_MIN {
                break;
            }
            if self.is_sink(id) {
                self.sink(io, id);
            } else {
                self.delivery(io, id, only, &body[at..]);
            }
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
        if found == 0 || found < self.plan.dialect.messages_in(body) {
            return self.talk(io, id, body);
        }
        Ok(())
    }

    /// Replies and pings.
    fn talk(&mut self, io: &mut Io, id: usize, message: &[u8]) -> Result<(), Fault> {
        let plan = self.plan.clone();
        let own = if io.is_ready(id) { None } else { self.own(&plan, id) };
        let mut names = if io.is_ready(id) { Vec::new() } else { self.names(&plan, id) };
        names.extend(own.as_deref());
        let heard = self.welcome.hear(io, &plan.dialect, id, &names, message)?;
        if heard.ready {
            io.ready(id);
        }
        io.tally.faults += heard.errors.len() as u64;
        self.refused.extend(heard.errors);
        Ok(())
    }

    /// The channels of a connection; a publisher has some only where publishing needs it.
    fn names<'a>(&self, plan: &'a Plan, id: usize) -> Vec<&'a str> {
        match id < self.subscribers {
            true => plan.names(self.first + id),
            false if plan.dialect.publishers_subscribe() => plan.channels.iter().map(String::as_str).collect(),
            false => Vec::new(),
        }
    }

    /// Whole frames of a sink.
    fn count(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(header) = frame::header(&bytes[at..], false)? {
            let rest = &bytes[at..];
            let Some(frame) = rest.get(..header.total()) else { break };
            self.frames += 1;
            at += frame.len();
            match frame.len() == self.layout.total && frame[..4] == self.layout.head {
                true => self.sink(io, id),
                false => self.unusual(io, id, header, frame)?,
            }
        }
        Ok(at)
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

    /// The order that each channel's first seat here saw, and how many others saw another one.
    fn orders(&self, harvest: &mut Harvest) {
        let plan = &self.plan;
        if !(plan.voices.is_empty() || plan.dialect.hears_itself()) {
            // Where a talker does not hear itself, no two orders are the same.
            return;
        }
        let probes = plan.probes.saturating_sub(self.first).min(self.subscribers);
        for (seat, channel) in plan.members.seats(self.first, probes).into_iter().enumerate() {
            let Some(order) = self.checker.order(seat) else { return };
            if *harvest.orders.entry(channel as u32).or_insert(order) != order {
                harvest.add_count("disagreeing", 1);
            }
        }
    }
}

impl Scene for Fanout {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        if id < self.subscribers { (&self.plan.target, self.first + id) } else { (&self.plan.publish_target, 0) }
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        if self.is_backend(id) {
            io.fleeting(id);
            return match self.press.as_mut().is_some_and(|press| press.stands(id)) {
                true => io.back(id),
                false => io.ready(id),
            };
        }
        io.delay_acks(id);
        let plan = self.plan.clone();
        let (own, mut names) = (self.own(&plan, id), self.names(&plan, id));
        names.extend(own.as_deref());
        if self.welcome.begin(io, &plan.dialect, id, self.first + id, &names) {
            io.ready(id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        if self.is_backend(id) {
            let Some(press) = self.press.as_mut() else { return Ok(bytes.len()) };
            let (done, last) = press.answers(io, &self.plan, id, bytes, &mut self.refused)?;
            if last {
                io.cut(id);
                io.again(id);
            }
            return Ok(done);
        }
        if self.is_sink(id) {
            return self.count(io, id, bytes);
        }
        let only = self.only_channel(id);
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
                self.delivery(io, id, only, &rest[layout.at..layout.total]);
                self.frames += 1;
                at += layout.total;
                continue;
            }
            let Some(header) = frame::header(rest, io.deflate.is_on())? else { break };
            let Some(frame) = rest.get(..header.total()) else { break };
            self.frames += 1;
            at += header.total();
            match if header.compressed { self.known.find(frame) } else { None } {
                Some(stamp) if id < self.subscribers => self.delivery(io, id, only, &stamp),
                _ => self.unusual(io, id, header, frame)?,
            }
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        if !self.is_backend(id) || !io.was_ready {
            return;
        }
        if self.press.as_mut().is_some_and(|press| press.ended(id)) {
            self.refused.push("the API ended a connection before it answered".into());
        }
        io.again(id);
    }

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
        debug_assert!(self.worker == 0);
        press.turn(&self.plan, io, &mut self.figures, running)
    }

    fn harvest(&mut self) -> Harvest {
        let mut harvest = Harvest { steps: self.figures.take(), lasts: take(&mut self.lasts), ..Harvest::default() };
        for (name, histogram) in [("calm", &mut self.calm), ("last", &mut self.last)] {
            harvest.latency.insert(name.into(), histogram.clone());
            histogram.reset();
        }
        if let Some(press) = self.press.as_mut().filter(|press| !press.answer.is_empty()) {
            harvest.latency.insert("answer".into(), press.answer.clone());
            press.answer.reset();
        }
        // What follows is of the whole run.
        let found = self.checker.findings;
        for (name, n) in [
            ("publications", self.publications),
            ("published", self.press.as_ref().map_or(0, Press::issued)),
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
