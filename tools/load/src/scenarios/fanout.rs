//! `fanout` and the scenarios based on it (`chat`, `notifications`, `slow`): publishers send, subscribers receive, and every delivery
//! is checked.
//!
//! The first worker also holds the publishers (`publisher`). The delivery frames of a run look alike, so the position of the
//! payload is learned from the first one; after that, a delivery costs a comparison of four header bytes, one of the magic, and
//! sixteen digits. Latency is recorded once per publication and turn, with a count. A probe does all that; a sink (`Plan::probes`)
//! only counts frames that look like a delivery, and the count is compared at the end.
//! Invariants: connections 0..subscribers are subscribers, the others publishers; a delivery is counted once (`delivery_check`), and
//! only counted deliveries retire a publication.

use crate::engine::Scenario;
use crate::engine::connection::Io;
use crate::engine::control::{Control, Phase};
use crate::measure::histogram::LatencyHistogram;
use crate::measure::last_delivery::LastDeliveries;
use crate::measure::results::{Results, StepRecorder};
use crate::net::Target;
use crate::net::deflate::KnownFrames;
use crate::net::frame::{self, Header, ProtocolError};
use crate::protocols::connection_setup::ConnectionSetup;
use crate::scenarios::delivery_check::DeliveryChecker;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::in_flight::{SLOTS, Sequencer};
use crate::scenarios::payload::{self, BYTES_MIN, MAGIC, Stamp};
use crate::scenarios::publisher::{ChannelChoice, Publisher};
use crate::scenarios::subscriptions::Subscriptions;
use memchr::memmem;
use std::mem::take;
use std::sync::Arc;

/// A publication that was delivered in this turn.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    stamp: Stamp,
    channel: usize,
    /// The intended send time.
    time: u64,
}

/// The position of the payload in a delivery frame.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    /// The first four bytes of the frame.
    head: [u8; 4],
    /// Bytes of the whole frame; 0: not known yet.
    total: usize,
    at: usize,
}

pub struct Fanout {
    plan: Arc<Plan>,
    control: Arc<Control>,
    /// Subscribers of the workers before this one.
    first: usize,
    subscribers: usize,
    pub publisher: Option<Publisher>,
    layout: Layout,
    known: KnownFrames,
    compressed_bytes: usize,
    setup: ConnectionSetup,
    checker: DeliveryChecker,
    /// Deliveries that each sink counted.
    sink_counts: Vec<u64>,
    /// Deliveries per slot in this turn, and the publications that have any.
    counts: Vec<u32>,
    delivered: Vec<Delivered>,
    steps: StepRecorder,
    /// Deliveries that were due before the measured time.
    before: LatencyHistogram,
    /// From the intended send time to the delivery at the last subscriber.
    last: LatencyHistogram,
    last_deliveries: LastDeliveries,
    publications: u64,
    /// Errors that the server sent to publishers.
    rejected: Vec<String>,
}

impl Fanout {
    /// The scenario of worker number `worker` for `subscribers` of the run, the first of which has the number `first`.
    pub fn new(plan: Arc<Plan>, control: Arc<Control>, worker: usize, first: usize, subscribers: usize) -> Self {
        let probes = plan.probes.saturating_sub(first).min(subscribers);
        let channels = plan.subscriptions.of_range(first, probes);
        let checker = DeliveryChecker::new(channels.into_iter().map(|channel| plan.publishers_of[channel]));
        let publishers = if worker == 0 { plan.publishers } else { 0 };
        Self {
            control,
            first,
            subscribers,
            publisher: None,
            layout: Layout::default(),
            known: KnownFrames::default(),
            compressed_bytes: 0,
            setup: ConnectionSetup::new(subscribers + publishers),
            checker,
            sink_counts: if probes < subscribers { vec![0; subscribers] } else { Vec::new() },
            counts: vec![0; SLOTS],
            delivered: Vec::new(),
            steps: StepRecorder::new(plan.rate.as_ref()),
            before: LatencyHistogram::default(),
            last: LatencyHistogram::default(),
            last_deliveries: LastDeliveries::default(),
            publications: 0,
            rejected: Vec::new(),
            plan,
        }
    }

    /// Makes this worker the publishing one. Members of a chat publish over their own connections, unless an API does; otherwise
    /// the connections behind the subscribers publish.
    pub fn publish(&mut self, choice: ChannelChoice) {
        let plan = &self.plan;
        let mut subscribers = plan.subscriptions.sizes(plan.probes, plan.channels.len());
        if plan.talkers > 0 && !plan.messages.publishers_get_their_own() {
            subscribers.iter_mut().for_each(|n| *n = n.saturating_sub(1));
        }
        let sequencer = Sequencer::new(&subscribers, &plan.publishers_of);
        let (first, senders) = if plan.talkers > 0 { (0, plan.talkers) } else { (self.subscribers, plan.publishers) };
        self.publisher = Some(Publisher::new(plan, sequencer, choice, first, senders));
    }

    fn is_api(&self, id: usize) -> bool {
        id >= self.subscribers && self.plan.api.is_some()
    }

    fn is_sink(&self, id: usize) -> bool {
        id < self.subscribers && self.first + id >= self.plan.probes
    }

    /// The sinks of this worker, with their numbers in the run and the deliveries that they counted.
    pub fn sinks(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.sink_counts.iter().enumerate().filter(|(id, _)| self.is_sink(*id));
        counts.map(|(id, &count)| (self.first + id, count))
    }

    /// The channel of a subscriber, if all subscribers have a single one.
    fn only_channel(&self, id: usize) -> Option<usize> {
        match &self.plan.subscriptions {
            Subscriptions::InTurn { channels } => Some((self.first + id) % channels),
            Subscriptions::Table { .. } => None,
        }
    }

    /// The channels of a connection. A publisher has some only if publishing needs it.
    fn names(&self, plan: &Plan, id: usize) -> Vec<String> {
        if id >= self.subscribers {
            return if plan.messages.publishers_subscribe() { plan.channels.clone() } else { Vec::new() };
        }
        let number = self.first + id;
        let own = plan.own_channel.as_ref().map(|prefix| format!("{prefix}{number}"));
        plan.names(number).into_iter().map(String::from).chain(own).collect()
    }

    /// One delivery whose payload begins at `bytes`; `only` is the result of `only_channel`.
    #[inline]
    fn delivery(&mut self, io: &mut Io, id: usize, only: Option<usize>, bytes: &[u8]) {
        let Some(fixed) = bytes.first_chunk::<20>() else { return };
        let stamp = Stamp::read(fixed);
        let found = only.map(|channel| (id, channel)).or_else(|| {
            // The slot knows the channel until the last delivery.
            let channel = self.plan.in_flight.channel_of(stamp.slot);
            let subscription = self.plan.subscriptions.index(self.first, self.first + id, channel)?;
            Some((subscription, channel))
        });
        let Some((subscription, channel)) = found else {
            self.checker.faults.unknown += 1;
            io.counters.faults += 1;
            return;
        };
        if !self.checker.record(subscription, channel as u8, stamp) {
            io.counters.faults += 1;
            return;
        }
        let count = &mut self.counts[usize::from(stamp.slot)];
        *count += 1;
        if *count == 1 {
            self.delivered.push(Delivered { stamp, channel, time: payload::time(bytes) });
        }
        io.counters.received += 1;
    }

    /// A delivery that is only counted.
    #[inline]
    fn count_delivery(&mut self, io: &mut Io, id: usize) {
        self.sink_counts[id] += 1;
        io.counters.received += 1;
    }

    /// A frame that does not look like the last delivery: learns its layout, or handles what else it contains.
    fn other_frame(&mut self, io: &mut Io, id: usize, header: Header, frame: &[u8]) -> Result<(), ProtocolError> {
        let inflated;
        let mut body = &frame[header.head..];
        if header.is_control() {
            io.control(id, header, body);
            return Ok(());
        }
        if header.compressed {
            inflated = io.inflate(id, body)?;
            body = &inflated;
        }
        let only = self.only_channel(id);
        let (mut found, mut at, mut stamp) = (0, 0, None);
        while let Some(place) = memmem::find(&body[at..], &MAGIC) {
            at += place;
            if id >= self.subscribers {
                // A publisher that had to subscribe gets deliveries too; they do not count.
                return Ok(());
            }
            if body.len() < at + BYTES_MIN {
                break;
            }
            if self.is_sink(id) {
                self.count_delivery(io, id);
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
            // Several deliveries in one frame: their number varies, so there is no layout.
            self.layout.total = 0;
        } else if let Some(stamp) = stamp.filter(|_| header.compressed) {
            self.compressed_bytes = frame.len();
            self.known.insert(frame, stamp);
        }
        if found == 0 || found < self.plan.messages.count(body) {
            return self.handle_events(io, id, body);
        }
        Ok(())
    }

    /// Replies and pings.
    fn handle_events(&mut self, io: &mut Io, id: usize, message: &[u8]) -> Result<(), ProtocolError> {
        let plan = self.plan.clone();
        let names = if io.is_ready(id) { Vec::new() } else { self.names(&plan, id) };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let handled = self.setup.handle(io, &plan.messages, id, &names, message)?;
        if handled.ready {
            io.ready(id);
        }
        io.counters.faults += handled.errors.len() as u64;
        self.rejected.extend(handled.errors);
        Ok(())
    }

    /// Counts the complete frames of a sink.
    fn count_frames(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        let mut at = 0;
        while let Some(header) = frame::header(&bytes[at..], false)? {
            let Some(frame) = bytes[at..].get(..header.total()) else { break };
            at += frame.len();
            match frame.len() == self.layout.total && frame[..4] == self.layout.head {
                true => self.count_delivery(io, id),
                false => self.other_frame(io, id, header, frame)?,
            }
        }
        Ok(at)
    }

    /// Counts the deliveries of this turn down and records their latency.
    fn record_deliveries(&mut self, io: &mut Io, retired: &mut Vec<u16>) {
        for Delivered { stamp, channel, time } in self.delivered.drain(..) {
            let slot = stamp.slot;
            let n = take(&mut self.counts[usize::from(slot)]);
            let time = time.saturating_add_signed(self.plan.clock_ahead.unwrap_or(0));
            let age = io.now.saturating_sub(time);
            io.record_latency(age, u64::from(n));
            let measured = self.steps.received(io.measured_from, time, age, u64::from(n));
            if !measured {
                self.before.saturating_record_n(age, u64::from(n));
            }
            if self.plan.clock_ahead.is_some() {
                // Deliveries are in flight here; the coordinator adds what the publishing process sent.
                io.counters.in_flight = io.counters.in_flight.wrapping_sub(u64::from(n));
                self.last_deliveries.record(channel, stamp, age, measured);
                continue;
            }
            if !self.plan.in_flight.expects(slot, n) {
                self.checker.faults.unknown += u64::from(n);
                continue;
            }
            if self.plan.in_flight.delivered(slot, n) {
                retired.push(slot);
                self.publications += 1;
                if measured {
                    self.last.saturating_record(age);
                }
            }
        }
    }

    /// The order that the first subscription of each channel saw, and the number of subscriptions that saw another one.
    fn compare_orders(&self, results: &mut Results) {
        let plan = &self.plan;
        if plan.talkers > 0 && !plan.messages.publishers_get_their_own() {
            // Without their own publications, all talkers see different orders.
            return;
        }
        let probes = plan.probes.saturating_sub(self.first).min(self.subscribers);
        for (subscription, channel) in plan.subscriptions.of_range(self.first, probes).into_iter().enumerate() {
            let Some(order) = self.checker.order(subscription) else { return };
            if *results.orders.entry(channel as u32).or_insert(order) != order {
                results.add_count("disagreeing", 1);
            }
        }
    }
}

impl Scenario for Fanout {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        if id < self.subscribers { (&self.plan.target, self.first + id) } else { (&self.plan.publish_target, 0) }
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        if self.is_api(id) {
            if let Some(connection) = io.connections[id].as_mut() {
                connection.may_end = true;
            }
            match self.publisher.as_mut().is_some_and(|publisher| publisher.opened(id)) {
                true => drop(io.ready_again(id)),
                false => io.ready(id),
            }
            return;
        }
        io.delay_acks(id);
        let plan = self.plan.clone();
        let names = self.names(&plan, id);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if self.setup.begin(io, &plan.messages, id, self.first + id, &names) {
            io.ready(id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        if self.is_api(id) {
            let Some(publisher) = self.publisher.as_mut() else { return Ok(bytes.len()) };
            let (done, closes) = publisher.responses(io, &self.plan, id, bytes, &mut self.rejected)?;
            if closes {
                io.reset(id);
                io.reopen(id);
            }
            return Ok(done);
        }
        if self.is_sink(id) {
            return self.count_frames(io, id, bytes);
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
                at += layout.total;
                continue;
            }
            let Some(header) = frame::header(rest, io.deflate.is_on())? else { break };
            let Some(frame) = rest.get(..header.total()) else { break };
            at += header.total();
            match if header.compressed { self.known.find(frame) } else { None } {
                Some(stamp) if id < self.subscribers => self.delivery(io, id, only, &stamp),
                _ => self.other_frame(io, id, header, frame)?,
            }
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        if !self.is_api(id) || !io.was_ready {
            return;
        }
        if self.publisher.as_mut().is_some_and(|publisher| publisher.ended(id)) {
            self.rejected.push("the API ended a connection before its response".into());
        }
        io.reopen(id);
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        let mut retired = self.publisher.as_mut().map(|publisher| take(&mut publisher.retired)).unwrap_or_default();
        self.record_deliveries(io, &mut retired);
        let Some(publisher) = self.publisher.as_mut() else {
            if !retired.is_empty() {
                self.plan.in_flight.hand_over(&mut retired);
                self.control.wake(0);
            }
            return None;
        };
        publisher.retired = retired;
        publisher.turn(&self.plan, io, &mut self.steps, matches!(phase, Phase::Warmup | Phase::Measure))
    }

    fn take_results(&mut self) -> Results {
        let mut results = Results {
            steps: self.steps.take(),
            last_deliveries: take(&mut self.last_deliveries),
            frame_bytes: self.layout.total.max(self.compressed_bytes),
            first_error: self.rejected.first().cloned(),
            ..Results::default()
        };
        results.take_histogram("before", &mut self.before);
        results.take_histogram("last", &mut self.last);
        let (mut published, mut held_back) = (0, 0);
        if let Some(publisher) = &mut self.publisher {
            results.take_histogram("api", &mut publisher.api_latency);
            (published, held_back) = (publisher.sequencer.published_in_all(), publisher.held_back);
        }
        // These counts are of the whole run.
        let faults = self.checker.faults;
        for (name, n) in [
            ("publications", self.publications),
            ("published", published),
            ("held_back", held_back),
            ("refused", self.rejected.len() as u64),
            ("lost", faults.lost),
            ("duplicates", faults.duplicates),
            ("reordered", faults.reordered),
            ("strange", faults.unknown),
        ] {
            results.add_count(name, n);
        }
        self.compare_orders(&mut results);
        results
    }
}
