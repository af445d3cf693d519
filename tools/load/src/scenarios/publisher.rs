//! The publishing side of a fan-out: which connection publishes to which channel, and when. It belongs to the first worker.
//!
//! At the end of a turn, retired publications are replaced (closed loop) or due ones are made (open loop), and those of each sender
//! leave in one write. A sender is a connection that only publishes, a member of a chat, or a keep-alive connection to a server
//! API, which has one request in flight and queues the others.
//! If clients reconnect, the answer to each publication is kept (`Answers`), so that only what was acknowledged can be lost.
//! Invariant: what a sender publishes to a channel is in the order of its sequence numbers.

use crate::engine::clock::now;
use crate::engine::connection::Io;
use crate::measure::histogram::LatencyHistogram;
use crate::measure::rate::{NEVER, Rate, Schedule};
use crate::measure::results::StepRecorder;
use crate::net::frame::{self, ProtocolError};
use crate::net::http;
use crate::protocols::Protocol;
use crate::protocols::publish_template::PublishTemplate;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::in_flight::{Publication, Sequencer};
use crate::scenarios::payload::Stamp;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::mem::take;

/// The first command ID. The setup uses lower ones: a member of a chat is in 100 rooms at most.
pub const FIRST_ID: u64 = 200;

/// The channel of the next publication.
#[derive(Clone, Debug)]
pub enum ChannelChoice {
    /// One channel after the other.
    InTurn,
    Random,
    /// A random room of a random talker.
    Talkers(Vec<Talker>),
}

/// A member of a chat that publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talker {
    /// The member's number, which is also that of its sender.
    pub member: usize,
    /// Its rooms, and its publisher number in each.
    pub rooms: Vec<(u32, u8)>,
}

/// How the server answered the publications of a run.
#[derive(Debug, Default)]
pub struct Answers {
    /// Whether it was acknowledged, by channel and publisher, then sequence number.
    acknowledged: HashMap<(usize, u8), Vec<bool>>,
    pub accepted: u64,
    pub refused: u64,
    /// Fell due while their sender was not connected.
    pub unsent: u64,
}

impl Answers {
    fn accept(&mut self, channel: usize, stamp: Stamp) {
        let all = self.acknowledged.entry((channel, stamp.publisher)).or_default();
        all.resize(all.len().max(stamp.seq as usize + 1), false);
        all[stamp.seq as usize] = true;
        self.accepted += 1;
    }

    pub fn is_acknowledged(&self, channel: usize, publisher: u8, seq: u32) -> bool {
        self.acknowledged.get(&(channel, publisher)).and_then(|all| all.get(seq as usize)) == Some(&true)
    }
}

#[derive(Debug, Default)]
struct Sender {
    /// The ID of its last command.
    id: u64,
    /// The frames of this turn.
    frames: Vec<u8>,
    /// API requests that wait for the response to the one in flight.
    queue: VecDeque<Vec<u8>>,
    /// When the request in flight left.
    in_flight: Option<u64>,
    /// The connection has ended and is opened again: some servers close it after each response.
    away: bool,
    /// Publications without an answer: the ID of the command, the channel, the stamp. Only if answers are kept.
    unanswered: VecDeque<(u64, Publication)>,
}

#[derive(Debug)]
pub struct Publisher {
    pub sequencer: Sequencer,
    schedule: Option<Schedule>,
    choice: ChannelChoice,
    /// Made when a channel is first published to.
    templates: Vec<Option<Box<PublishTemplate>>>,
    /// The connection of the first sender; the others follow it.
    first: usize,
    senders: Vec<Sender>,
    /// Senders that have something to send.
    pending: Vec<usize>,
    message: Vec<u8>,
    running: bool,
    pub retired: Vec<u16>,
    /// Publications that were due but had no free slot.
    pub held_back: u64,
    /// Only with an API: from a request to its response, in the measured time.
    pub api_latency: LatencyHistogram,
    /// Only if clients reconnect.
    pub answers: Option<Answers>,
}

impl Publisher {
    /// Publishes over `senders` connections, of which `first` is the first.
    pub fn new(plan: &Plan, sequencer: Sequencer, choice: ChannelChoice, first: usize, senders: usize) -> Self {
        let sender = || Sender { id: FIRST_ID, ..Sender::default() };
        Self {
            sequencer,
            schedule: None,
            choice,
            templates: (0..plan.channels.len()).map(|_| None).collect(),
            first,
            senders: std::iter::repeat_with(sender).take(senders).collect(),
            pending: Vec::new(),
            message: Vec::new(),
            running: false,
            retired: Vec::new(),
            held_back: 0,
            api_latency: LatencyHistogram::default(),
            answers: plan.reconnects.map(|_| Answers::default()),
        }
    }

    /// The next publication to a channel, and its sender.
    fn next(&mut self, plan: &Plan, channel: usize) -> Option<(Publication, usize)> {
        let publication = self.sequencer.next(&plan.in_flight, channel)?;
        Some((publication, usize::from(publication.stamp.publisher)))
    }

    /// The `n`-th publication of the schedule, and its sender.
    fn choose(&mut self, plan: &Plan, n: u64) -> Option<(Publication, usize)> {
        let channels = self.sequencer.channels();
        match &self.choice {
            ChannelChoice::InTurn => self.next(plan, n as usize % channels),
            ChannelChoice::Random => self.next(plan, fastrand::usize(..channels)),
            ChannelChoice::Talkers(talkers) => {
                let talker = &talkers[fastrand::usize(..talkers.len())];
                let (channel, publisher) = talker.rooms[fastrand::usize(..talker.rooms.len())];
                if plan.api.is_some() {
                    return self.next(plan, channel as usize);
                }
                let sender = talker.member;
                let by = usize::from(publisher);
                Some((self.sequencer.next_by(&plan.in_flight, channel as usize, by)?, sender))
            }
        }
    }

    /// Adds a publication to what its sender sends in this turn.
    fn add(&mut self, plan: &Plan, io: &mut Io, chosen: Option<(Publication, usize)>, time: u64) {
        let Some((publication, number)) = chosen else {
            self.held_back += 1;
            return;
        };
        let Publication { channel, stamp } = publication;
        let sender = &mut self.senders[number];
        if let Some(answers) = &mut self.answers {
            if plan.api.is_none() && !io.is_ready(self.first + number) {
                plan.in_flight.forget(stamp.slot);
                answers.unsent += 1;
                return;
            }
            sender.unanswered.push_back((sender.id + 1, publication));
        }
        let subscribers = self.sequencer.subscribers(channel);
        // If several processes count deliveries, `in_flight` counts deliveries instead of publications.
        let due = if plan.clock_ahead.is_some() { subscribers } else { subscribers.min(1) };
        io.counters.in_flight = io.counters.in_flight.wrapping_add(u64::from(due));
        if plan.clock_ahead.is_some() {
            plan.in_flight.forget(stamp.slot);
        }
        let template = self.templates[channel].get_or_insert_with(|| {
            Box::new(PublishTemplate::new(&plan.messages, &plan.channels[channel], plan.api.as_ref()))
        });
        sender.id += 1;
        self.message.clear();
        template.write(&mut self.message, sender.id, stamp, time);
        if sender.frames.is_empty() && sender.queue.is_empty() {
            self.pending.push(number);
        }
        if plan.api.is_some() {
            sender.queue.push_back(self.message.clone());
        } else {
            let key = fastrand::u32(..).to_ne_bytes();
            frame::write_masked(&mut sender.frames, plan.messages.opcode(), key, &[&self.message]);
        }
        io.counters.sent += 1;
    }

    /// Publishes what is due in this turn; returns the next moment of the schedule.
    pub fn turn(&mut self, plan: &Plan, io: &mut Io, recorder: &mut StepRecorder, running: bool) -> Option<u64> {
        plan.in_flight.take_over(&mut self.retired);
        io.counters.in_flight = io.counters.in_flight.wrapping_sub(self.retired.len() as u64);
        let mut next = None;
        let begins = !std::mem::replace(&mut self.running, running) && running;
        let retired = take(&mut self.retired);
        if running && let Some(mut schedule) = self.take_schedule(plan, io) {
            schedule.measure(io.measured_from);
            while let Some((at, n)) = schedule.pop(io.now) {
                io.record_lag(at);
                let chosen = self.choose(plan, n);
                recorder.sent(io.measured_from, at, 1);
                self.add(plan, io, chosen, at);
            }
            next = Some(schedule.due(io.now)).filter(|due| *due != NEVER);
            self.schedule = Some(schedule);
        } else if running {
            let channels = self.sequencer.channels();
            let channels: Vec<usize> = match begins {
                true => (0..plan.window * channels).map(|i| i % channels).collect(),
                false => retired.iter().map(|&slot| plan.in_flight.channel_of(slot)).collect(),
            };
            for channel in channels {
                let chosen = self.next(plan, channel);
                recorder.sent(io.measured_from, io.now, 1);
                self.add(plan, io, chosen, io.now);
            }
        } else {
            // The next measurement has a schedule of its own.
            self.schedule = None;
        }
        self.send(io);
        next
    }

    /// The schedule in open loop.
    fn take_schedule(&mut self, plan: &Plan, io: &Io) -> Option<Schedule> {
        let rate = plan.rate.as_ref()?;
        let new = |rate: &Rate| Schedule::new(rate, plan.arrivals, 0, 1);
        let schedule = self.schedule.take();
        Some(schedule.unwrap_or_else(|| if io.rate > 0.0 { new(&Rate::constant(io.rate)) } else { new(rate) }))
    }

    fn send(&mut self, io: &mut Io) {
        for number in take(&mut self.pending) {
            let (sender, id) = (&mut self.senders[number], self.first + number);
            if !sender.frames.is_empty() {
                io.send(id, &sender.frames);
                sender.frames.clear();
            } else if sender.in_flight.is_none()
                && !sender.away
                && let Some(request) = sender.queue.pop_front()
            {
                sender.in_flight = Some(io.now);
                io.send(id, &request);
            }
        }
    }

    /// Reads API responses on connection `id`; returns the bytes consumed, and whether the server closes the connection behind
    /// them. Errors go to `rejected`.
    pub fn responses(
        &mut self,
        io: &Io,
        plan: &Plan,
        id: usize,
        bytes: &[u8],
        rejected: &mut Vec<String>,
    ) -> Result<(usize, bool), ProtocolError> {
        let mut at = 0;
        while let Some(response) = http::response(&bytes[at..])? {
            at += response.bytes;
            let accepted = is_accepted(plan.messages.protocol, &response);
            self.record_answer(id, 0, accepted);
            if !accepted {
                rejected.push(format!("HTTP {}: {}", response.status, String::from_utf8_lossy(response.body)));
            }
            let sender = &mut self.senders[id - self.first];
            if let Some(since) =
                sender.in_flight.take().filter(|since| io.measured_from > 0 && *since >= io.measured_from)
            {
                // `io.now` is still the time of the turn before.
                self.api_latency.saturating_record(now().saturating_sub(since));
            }
            sender.away = response.closes;
            self.pending.push(id - self.first);
            if response.closes {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// The reply to a publication over connection `id`.
    pub fn answered(&mut self, id: usize, value: &Value, rejected: &mut Vec<String>) {
        let Some(sender) = id.checked_sub(self.first).and_then(|number| self.senders.get(number)) else { return };
        // Mostly the first one: errors may be early.
        let at = sender.unanswered.iter().position(|(n, _)| value["id"] == *n);
        at.into_iter().for_each(|at| self.record_answer(id, at, value["error"].is_null()));
        if !value["error"].is_null() {
            rejected.push(value["error"].to_string());
        }
    }

    /// The `at`-th of the publications without an answer was answered.
    fn record_answer(&mut self, id: usize, at: usize, accepted: bool) {
        let publication = self.senders[id - self.first].unanswered.remove(at);
        if let (Some(answers), Some((_, Publication { channel, stamp }))) = (&mut self.answers, publication) {
            match accepted {
                true => answers.accept(channel, stamp),
                false => answers.refused += 1,
            }
        }
    }

    /// Connection `id` has ended, so the outcome of its publications without an answer is unknown. Over an API, that is only the
    /// one in flight; the others have not left.
    pub fn disconnected(&mut self, id: usize, is_api: bool) {
        let Some(sender) = id.checked_sub(self.first).and_then(|number| self.senders.get_mut(number)) else { return };
        match is_api {
            false => sender.unanswered.clear(),
            true => {
                sender.away = true;
                if sender.in_flight.take().is_some() {
                    sender.unanswered.pop_front();
                }
            }
        }
    }

    /// API connection `id` has ended; true if the outcome of a request in flight is unknown.
    pub fn ended(&mut self, id: usize) -> bool {
        let sender = &mut self.senders[id - self.first];
        sender.away = true;
        sender.in_flight.take().is_some()
    }

    /// API connection `id` is established; true if it was before.
    pub fn opened(&mut self, id: usize) -> bool {
        self.pending.push(id - self.first);
        take(&mut self.senders[id - self.first].away)
    }
}

fn is_accepted(protocol: Protocol, response: &http::Response) -> bool {
    let has_result = || serde_json::from_slice::<Value>(response.body).is_ok_and(|value| value["result"].is_object());
    response.status == 200 && (protocol == Protocol::Pusher || has_result())
}
