//! A broker in memory for several simulated servers, which loses, delays, repeats, cuts, forgets and fails over.
//!
//! It answers each request once, in order, on one way, and delivers publications in order on another: the two have no order to
//! each other, as with the connections of a real broker.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use corecast::broker::Broker;
use corecast::broker::message::{
    Answer, BrokerError, Event, HistoryRead, Published, Request, RequestKind, SubscribeSerial, Ticket,
};
use corecast::broker::port::{EventBatch, EventPort, RequestQueue, request_queue};
use corecast::pubsub::{Epoch, HistoryFilter, Position, PublicationRecord};

/// The stream of a channel.
struct Stream {
    epoch: String,
    top: u64,
    entries: VecDeque<(u64, Vec<u8>)>,
}

/// One server's end of the broker.
struct Node {
    requests: RequestQueue,
    /// For each shard, and what it posts.
    ports: Vec<EventPort>,
    posted: Vec<Arc<Mutex<Vec<EventBatch>>>>,
    subscribed: BTreeMap<String, (usize, SubscribeSerial)>,
    /// Answers on their way, and deliveries on theirs.
    answers: VecDeque<(usize, Event)>,
    deliveries: VecDeque<(usize, Event)>,
    /// The connection for deliveries is up.
    is_up: bool,
    /// Commands are carried out.
    is_reachable: bool,
}

#[derive(Default, Debug)]
pub struct Faults {
    pub lost: u64,
    pub repeated: u64,
    pub cuts: u64,
    pub outages: u64,
    pub flushes: u64,
    pub failovers: u64,
    pub unanswered: u64,
}

pub struct SimBroker {
    streams: HashMap<String, Stream>,
    nodes: Vec<Node>,
    /// Publications that one stream keeps.
    kept_max: usize,
    epochs: u64,
    /// Offsets that two publications may have had. A reader of the first cannot know of the second: the layout has nothing to
    /// tell them apart.
    pub reused: HashSet<(String, String, u64)>,
    pub faults: Faults,
}

impl SimBroker {
    pub fn new(kept_max: usize) -> Self {
        Self {
            streams: HashMap::new(),
            nodes: Vec::new(),
            kept_max,
            epochs: 0,
            reused: HashSet::new(),
            faults: Faults::default(),
        }
    }

    /// A server with so many shards joins.
    pub fn join(&mut self, shards: usize) -> Broker {
        let (port, requests) = request_queue(1 << 20);
        let posted: Vec<_> = (0..shards).map(|_| Arc::<Mutex<Vec<EventBatch>>>::default()).collect();
        let to = |posted: &Arc<Mutex<Vec<EventBatch>>>| {
            let posted = Arc::clone(posted);
            EventPort::new(
                Arc::new(move |batch| {
                    posted.lock().expect("no test panics with it").push(batch);
                    Ok(())
                }),
                1 << 20,
            )
        };
        let ports = posted.iter().map(to).collect();
        let subscribed = BTreeMap::new();
        let (answers, deliveries) = (VecDeque::new(), VecDeque::new());
        let (is_up, is_reachable) = (true, true);
        self.nodes.push(Node { requests, ports, posted, subscribed, answers, deliveries, is_up, is_reachable });
        Broker::new(vec![port])
    }

    /// Carries out what a server has asked, in order.
    pub fn work(&mut self, node: usize) {
        for request in self.nodes[node].requests.take_waiting() {
            self.carry_out(node, request);
        }
    }

    fn carry_out(&mut self, node: usize, request: Request) {
        let (shard, channel) = (request.from.index(), request.channel.to_string());
        let reached = self.nodes[node].is_reachable;
        let answer = |ticket: Ticket, answer| Event::Answer { ticket, answer };
        match request.kind {
            RequestKind::Subscribe(serial) => {
                let node = &mut self.nodes[node];
                node.subscribed.insert(channel.clone(), (shard, serial));
                let channel = channel.into();
                let event = match node.is_up {
                    true => Event::Subscribed { channel, serial },
                    false => Event::SubscribeDelayed { channel, serial },
                };
                node.deliveries.push_back((shard, event));
            }
            RequestKind::Unsubscribe => _ = self.nodes[node].subscribed.remove(&channel),
            RequestKind::Publish { ticket, .. } | RequestKind::History { ticket, .. } if !reached => {
                let event = answer(ticket, Err(BrokerError::Unavailable));
                self.nodes[node].answers.push_back((shard, event));
            }
            RequestKind::Publish { ticket, publish } => {
                let position = self.publish(&channel, publish.data.to_vec());
                let published = Published { position: Some(position), is_suppressed: false };
                self.nodes[node].answers.push_back((shard, answer(ticket, Ok(Answer::Published(published)))));
            }
            RequestKind::History { ticket, filter, .. } => {
                let read = self.read(&channel, filter);
                self.nodes[node].answers.push_back((shard, answer(ticket, Ok(Answer::History(read)))));
            }
            other => assert!(matches!(other, RequestKind::JoinLeave { .. }), "this simulation has no presence"),
        }
    }

    fn stream(&mut self, channel: &str) -> &mut Stream {
        let epochs = &mut self.epochs;
        self.streams.entry(channel.into()).or_insert_with(|| {
            *epochs += 1;
            Stream { epoch: format!("epoch{epochs:03}"), top: 0, entries: VecDeque::new() }
        })
    }

    fn publish(&mut self, channel: &str, data: Vec<u8>) -> Position {
        let kept_max = self.kept_max;
        let stream = self.stream(channel);
        stream.top += 1;
        let offset = stream.top;
        stream.entries.push_back((offset, data.clone()));
        while stream.entries.len() > kept_max {
            stream.entries.pop_front();
        }
        let position = Position { epoch: Epoch::from_broker(&stream.epoch).expect("short"), offset };
        for node in &mut self.nodes {
            if let Some(&(shard, _)) = node.subscribed.get(channel).filter(|_| node.is_up) {
                node.deliveries.push_back((shard, publication(channel, offset, &data, position)));
            }
        }
        position
    }

    fn read(&mut self, channel: &str, filter: HistoryFilter) -> HistoryRead {
        let stream = self.stream(channel);
        let top = Position { epoch: Epoch::from_broker(&stream.epoch).expect("short"), offset: stream.top };
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let after = filter.since.map_or(0, |since| since.offset);
        let wanted = stream.entries.iter().filter(|(offset, _)| filter.reverse || *offset > after);
        let record = |(offset, data): &(u64, Vec<u8>)| record(*offset, data);
        let records = match filter.reverse {
            true => wanted.rev().take(limit).map(record).collect(),
            false => wanted.take(limit).map(record).collect(),
        };
        HistoryRead { records, top, since_is_kept: false }
    }

    /// Moves up to so many answers or deliveries to a server's shards. Returns the batches for each shard.
    pub fn deliver(&mut self, node: usize, answers: usize, deliveries: usize) -> Vec<(usize, EventBatch)> {
        let node = &mut self.nodes[node];
        for (shard, event) in node.answers.drain(..answers.min(node.answers.len())) {
            node.ports[shard].push(event);
        }
        for (shard, event) in node.deliveries.drain(..deliveries.min(node.deliveries.len())) {
            node.ports[shard].push(event);
        }
        let mut batches = Vec::new();
        for (shard, port) in node.ports.iter_mut().enumerate() {
            assert!(port.flush());
            let posted = std::mem::take(&mut *node.posted[shard].lock().expect("no test panics with it"));
            batches.extend(posted.into_iter().map(|batch| (shard, batch)));
        }
        batches
    }

    pub fn is_idle(&self) -> bool {
        self.nodes.iter().all(|node| node.answers.is_empty() && node.deliveries.is_empty())
    }

    /// A publication on its way is lost, and no server is told.
    pub fn lose_one(&mut self, node: usize, random: &mut fastrand::Rng) {
        let deliveries = &mut self.nodes[node].deliveries;
        let at = random.usize(..deliveries.len().max(1));
        if matches!(deliveries.get(at), Some((_, Event::Publication { .. }))) {
            deliveries.remove(at);
            self.faults.lost += 1;
        }
    }

    /// A publication comes twice.
    pub fn repeat_one(&mut self, node: usize) {
        let deliveries = &mut self.nodes[node].deliveries;
        let last = deliveries.back().map(|(shard, event)| (*shard, event));
        if let Some((shard, Event::Publication { channel, record, position })) = last {
            let event = Event::Publication { channel: channel.clone(), record: record.clone(), position: *position };
            deliveries.push_back((shard, event));
            self.faults.repeated += 1;
        }
    }

    /// The connection for deliveries is lost, with what was on its way.
    pub fn cut(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.deliveries.retain(|(_, event)| !matches!(event, Event::Publication { .. }));
        node.is_up = false;
        self.faults.cuts += 1;
    }

    /// Commands fail.
    pub fn lose_commands(&mut self, node: usize) {
        self.nodes[node].is_reachable = false;
        self.faults.outages += 1;
    }

    /// Everything is up again, and every channel is subscribed to anew.
    pub fn restore(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.is_reachable = true;
        if !node.is_up {
            node.is_up = true;
            for (channel, &(shard, serial)) in &node.subscribed {
                let channel = channel.as_str().into();
                node.deliveries.push_back((shard, Event::Subscribed { channel, serial }));
            }
        }
    }

    /// Answers to publications are lost: their outcome is unknown.
    pub fn lose_answers(&mut self, node: usize) {
        for (_, event) in &mut self.nodes[node].answers {
            if let Event::Answer { answer, .. } = event {
                *answer = Err(BrokerError::OutcomeUnknown);
                self.faults.unanswered += 1;
            }
        }
    }

    /// All data is gone.
    pub fn flush_all(&mut self) {
        self.streams.clear();
        self.faults.flushes += 1;
    }

    /// A replica takes over that lacks the last publications, and gives their offsets again. Every connection is lost.
    pub fn fail_over(&mut self, random: &mut fastrand::Rng) {
        for (channel, stream) in &mut self.streams {
            for _ in 0..random.usize(..3) {
                if stream.entries.pop_back().is_some() {
                    self.reused.insert((channel.clone(), stream.epoch.clone(), stream.top));
                    stream.top -= 1;
                }
            }
        }
        self.faults.failovers += 1;
        (0..self.nodes.len()).for_each(|node| self.cut(node));
    }

    /// The position of a channel.
    pub fn top(&self, channel: &str) -> (String, u64) {
        self.streams.get(channel).map(|stream| (stream.epoch.clone(), stream.top)).unwrap_or_default()
    }
}

fn record(offset: u64, data: &[u8]) -> PublicationRecord {
    PublicationRecord::of_broker(offset, data.to_vec().into(), None, bytes::Bytes::new(), 0)
}

fn publication(channel: &str, offset: u64, data: &[u8], position: Position) -> Event {
    Event::Publication { channel: channel.into(), record: record(offset, data), position: Some(position) }
}
