//! `fanout` and the scenarios based on it (`chat`, `notifications`, `slow`): publishers send, subscribers receive, and every delivery
//! is checked.
//!
//! The first worker also holds the publishers (`publisher`). The delivery frames of a run look alike, so the position of the
//! payload is learned from the first one; after that, a delivery costs a comparison of four header bytes, one of the magic, and
//! sixteen digits. Latency is recorded once per publication and turn, with a count. A probe does all that; a sink (`Plan::probes`)
//! only counts frames that look like a delivery, and the count is compared at the end.
//! With several nodes, figures are kept for each; clients that reconnect (`reconnect`) get what they missed with the reply to their
//! subscription, where it is found like any delivery.
//! Invariants: connections 0..subscribers are subscribers, the others publishers; a delivery is counted once (`delivery_check`), and
//! only counted deliveries retire a publication.

use crate::engine::Scenario;
use crate::engine::connection::{Io, NO_CLOSE_FRAME};
use crate::engine::control::{Control, Phase};
use crate::measure::results::Results;
use crate::net::Target;
use crate::net::deflate::KnownFrames;
use crate::net::frame::{self, Header, ProtocolError};
use crate::protocols::connection_setup::ConnectionSetup;
use crate::protocols::{lines, reply};
use crate::scenarios::delivery_check::{DeliveryChecker, DeliveryFaults};
use crate::scenarios::delivery_times::DeliveryTimes;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::in_flight::Sequencer;
use crate::scenarios::payload::{BYTES_MIN, MAGIC, Stamp};
use crate::scenarios::publisher::{ChannelChoice, FIRST_ID, Publisher};
use crate::scenarios::reconnect::ReconnectingClients;
use crate::scenarios::subscriptions::Subscriptions;
use memchr::memmem;
use serde_json::Value;
use std::mem::take;
use std::sync::Arc;

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
    /// Instead of `setup`, if closed clients reconnect.
    clients: Option<ReconnectingClients>,
    pub checker: DeliveryChecker,
    /// The node of each connection; that of publishers is the number of nodes.
    nodes: Vec<u8>,
    /// Deliveries that each sink counted.
    sink_counts: Vec<u64>,
    pub times: DeliveryTimes,
    /// Errors that the server sent to publishers.
    rejected: Vec<String>,
}

impl Fanout {
    /// The scenario of worker number `worker` for `subscribers` of the run, the first of which has the number `first`.
    pub fn new(plan: Arc<Plan>, control: Arc<Control>, worker: usize, first: usize, subscribers: usize) -> Self {
        let probes = plan.probes.saturating_sub(first).min(subscribers);
        let channels = plan.subscriptions.of_range(first, probes);
        let publishers_of = channels.into_iter().map(|channel| plan.publishers_of[channel]);
        let publishers = if worker == 0 { plan.publishers } else { 0 };
        let count = plan.targets.len();
        let mut nodes: Vec<u8> = (first..first + subscribers).map(|number| plan.node(number)).collect();
        nodes.resize(subscribers + publishers, count as u8);
        let clients = |reconnects| ReconnectingClients::new(reconnects, first, subscribers, publishers);
        Self {
            control,
            first,
            subscribers,
            publisher: None,
            layout: Layout::default(),
            known: KnownFrames::default(),
            compressed_bytes: 0,
            setup: ConnectionSetup::new(subscribers + publishers),
            clients: plan.reconnects.map(clients),
            checker: DeliveryChecker::new(publishers_of, count),
            nodes,
            sink_counts: if probes < subscribers { vec![0; subscribers] } else { Vec::new() },
            times: DeliveryTimes::new(plan.clone()),
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
        match id >= self.subscribers {
            true if plan.messages.publishers_subscribe() => plan.channels.clone(),
            true => Vec::new(),
            false => plan.all_names(self.first + id),
        }
    }

    /// The nodes of the subscribers of this worker.
    pub fn nodes(&self) -> impl Iterator<Item = u8> {
        self.nodes[..self.subscribers].iter().copied()
    }

    /// The numbers in the run of the subscribers of this worker that check their deliveries, with their nodes.
    pub fn probes(&self) -> impl Iterator<Item = (usize, u8)> {
        let probes = self.plan.probes.saturating_sub(self.first).min(self.subscribers);
        (self.first..).zip(self.nodes[..probes].iter().copied())
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
            self.checker.faults[usize::from(self.nodes[id])].unknown += 1;
            io.counters.faults += 1;
            return;
        };
        let node = self.nodes[id];
        if !self.checker.record(node, subscription, channel as u8, stamp) {
            io.counters.faults += 1;
            return;
        }
        if let Some(clients) = &mut self.clients {
            // After a duplicate, the slot may be of another channel.
            let number = self.first + id;
            clients.delivered(id, self.plan.subscriptions.index(number, number, channel).unwrap_or(0), bytes);
        }
        self.times.delivered(stamp, channel, node, bytes);
        io.counters.received += 1;
    }

    /// A delivery that is only counted.
    #[inline]
    fn count_delivery(&mut self, io: &mut Io, id: usize) {
        self.sink_counts[id] += 1;
        self.times.figures[usize::from(self.nodes[id])].deliveries += 1;
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
        let (found, last) = match self.clients {
            None => self.deliveries(io, id, body),
            Some(_) => self.lines(io, id, body)?,
        };
        if found > 1 {
            // Several deliveries in one frame: their number varies, so there is no layout.
            self.layout.total = 0;
        } else if let Some(stamp) = last.and_then(|at| body[at..].first_chunk()).filter(|_| header.compressed) {
            self.compressed_bytes = frame.len();
            self.known.insert(frame, *stamp);
        } else if let Some(at) = last.filter(|_| frame.len() <= 0xffff) {
            let head = [frame[0], frame[1], frame[2], frame[3]];
            self.layout = Layout { head, total: frame.len(), at: header.head + at };
        }
        // A publisher that had to subscribe gets deliveries too; they do not count.
        let is_handled = self.clients.is_some() || id >= self.subscribers && memmem::find(body, &MAGIC).is_some();
        if !is_handled && (found == 0 || found < self.plan.messages.count(body)) {
            return self.handle_events(io, id, body);
        }
        Ok(())
    }

    /// The deliveries in a message, or in a part of it: their number, and where the last payload begins.
    fn deliveries(&mut self, io: &mut Io, id: usize, body: &[u8]) -> (usize, Option<usize>) {
        let (only, mut found, mut last) = (self.only_channel(id), 0, None);
        let mut next = 0;
        while let Some(place) = memmem::find(&body[next..], &MAGIC).filter(|_| id < self.subscribers) {
            let at = next + place;
            if body.len() < at + BYTES_MIN {
                break;
            }
            if self.is_sink(id) {
                self.count_delivery(io, id);
            } else {
                self.delivery(io, id, only, &body[at..]);
            }
            (found, last, next) = (found + 1, Some(at), at + BYTES_MIN);
        }
        (found, last)
    }

    /// The same for a client that reconnects. Each line is handled before its deliveries, which come with the reply to a
    /// subscription that recovers. A frame with anything else has no layout, because its replies must be read.
    fn lines(&mut self, io: &mut Io, id: usize, body: &[u8]) -> Result<(usize, Option<usize>), ProtocolError> {
        let (mut all, mut only_deliveries, mut last) = (0, true, None);
        for line in lines(body) {
            let is_publication = line.starts_with(b"{\"push\":") && memmem::find(line, &MAGIC).is_some();
            if line == b"{}" {
                io.send_frame(id, frame::TEXT, b"{}");
            } else if !is_publication {
                self.reply(io, id, &reply(line)?)?;
            }
            self.times.recovering = !is_publication;
            let (found, at) = self.deliveries(io, id, line);
            (all, last) = (all + found, at);
            only_deliveries &= is_publication;
        }
        self.times.recovering = false;
        Ok((all, last.filter(|_| only_deliveries && all == 1)))
    }

    fn reply(&mut self, io: &mut Io, id: usize, value: &Value) -> Result<(), ProtocolError> {
        if value["id"].as_u64().is_some_and(|n| n >= FIRST_ID) {
            self.publisher.iter_mut().for_each(|publisher| publisher.answered(id, value, &mut self.rejected));
            return Ok(());
        }
        let (Some(clients), plan) = (&mut self.clients, self.plan.clone()) else { return Ok(()) };
        clients.handle(io, &plan, id, value, &mut self.times.figures[usize::from(self.nodes[id])])
    }

    /// A connection of a client that reconnects has ended.
    fn client_closed(&mut self, io: &mut Io, id: usize) {
        if let Some(publisher) = &mut self.publisher {
            publisher.disconnected(id, self.plan.api.is_some());
        }
        let Some(clients) = &mut self.clients else { return };
        let (node, nodes) = (self.nodes[id], self.plan.targets.len());
        self.nodes[id] = clients.closed(io, id, (node, nodes), &mut self.times.figures[usize::from(node)]);
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
        match self.plan.targets.get(usize::from(self.nodes[id])) {
            Some(target) => (target, self.first + id),
            None => (&self.plan.publish_target, 0),
        }
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        if self.is_api(id) {
            let was_away = self.publisher.as_mut().is_some_and(|publisher| publisher.opened(id));
            if let Some(clients) = &mut self.clients {
                return clients.api_opened(io, id);
            }
            if let Some(connection) = io.connections[id].as_mut() {
                connection.may_end = true;
            }
            if was_away {
                io.ready_again(id);
            } else {
                io.ready(id);
            }
            return;
        }
        io.delay_acks(id);
        let plan = self.plan.clone();
        if let Some(clients) = &mut self.clients {
            return clients.opened(io, &plan, id);
        }
        let names = self.names(&plan, id);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if self.setup.begin(io, &plan.messages, id, self.first + id, &names) {
            io.ready(id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        let may_skip = self.clients.as_mut().is_none_or(|clients| clients.hears(id, io.now));
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
            if may_skip
                && rest.len() >= layout.total
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
            // What is known of a compressed frame does not include its offset.
            match if header.compressed && self.clients.is_none() { self.known.find(frame) } else { None } {
                Some(stamp) if id < self.subscribers => self.delivery(io, id, only, &stamp),
                _ => self.other_frame(io, id, header, frame)?,
            }
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        if self.clients.is_some() {
            return self.client_closed(io, id);
        }
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
        self.times.record(io, &mut retired, &mut self.checker);
        let mut due = None;
        if let Some(clients) = &mut self.clients {
            let (next, silent) = clients.turn(io, &self.plan);
            due = Some(next);
            for id in silent {
                io.reset(id);
                io.close_code = NO_CLOSE_FRAME;
                self.times.figures[usize::from(self.nodes[id])].silent += 1;
                self.client_closed(io, id);
            }
        }
        let Some(publisher) = self.publisher.as_mut() else {
            if !retired.is_empty() {
                self.plan.in_flight.hand_over(&mut retired);
                self.control.wake(0);
            }
            return due;
        };
        publisher.retired = retired;
        let next =
            publisher.turn(&self.plan, io, &mut self.times.steps, matches!(phase, Phase::Warmup | Phase::Measure));
        next.into_iter().chain(due).min()
    }

    fn take_results(&mut self) -> Results {
        let mut results = self.times.take_results();
        results.frame_bytes = self.layout.total.max(self.compressed_bytes);
        results.first_error = self.rejected.first().cloned();
        let (mut published, mut held_back) = (0, 0);
        if let Some(publisher) = &mut self.publisher {
            results.take_histogram("api", &mut publisher.api_latency);
            (published, held_back) = (publisher.sequencer.published_in_all(), publisher.held_back);
        }
        // These counts are of the whole run.
        let faults: DeliveryFaults = self.checker.faults.iter().copied().sum();
        for (name, n) in [
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
