//! A simulation of clients that are cut at random and reconnect to any shard, of publishers, of the server API, and of
//! histories that expire. Whenever it is idle, every client must be where the model is.

use std::collections::BTreeSet;
use std::sync::mpsc;

use corecast::auth::grant::{Publish, SubscribeGrant};
use corecast::config::SlowConsumer;
use corecast::engine::Readiness;
use corecast::messaging::ControlRequest;
use corecast::messaging::api_call::{ApiCall, ApiReply, ConnectionSelector, HistoryPage, HistoryQuery, StreamPosition};
use corecast::protocol::ErrorCode;

use super::client_socket::ClientSocket;
use super::cluster::{Bounds, Cluster};
use super::counts::Counts;
use super::model::{CHANNELS, Model, Observation, name, payload};
use super::publish_simulation::TURNS_MAX;
use super::reconnecting_client::{ClientOptions, Format, ReconnectingClient, SubscriptionState};
use super::scenario::{HOUR, Scenario};

const TAGS: [char; 3] = ['a', 'b', 'c'];

/// A publication's number, and the reply of the server API.
type PublishReply = (u64, Result<ApiReply, ErrorCode>);

pub struct ReconnectSimulation {
    cluster: Cluster,
    clients: Vec<ReconnectingClient>,
    /// Sockets of clients that have disconnected, which the server may not have closed yet.
    abandoned: Vec<ClientSocket>,
    model: Model,
    scenario: Scenario,
    random: fastrand::Rng,
    replies: mpsc::Receiver<PublishReply>,
    reply_to: mpsc::Sender<PublishReply>,
    /// Publications of the server API that are not answered.
    open: u64,
    /// Publications without an offset.
    not_stored: u64,
    /// Channels whose history the server API removes in the home shard's next turn.
    removed: BTreeSet<usize>,
    pub counts: Counts,
}

impl ReconnectSimulation {
    pub fn new(bounds: &Bounds, scenario: Scenario, mut random: fastrand::Rng) -> Self {
        let cluster = Cluster::new(bounds, scenario.settings(bounds.slow_consumer), &mut random);
        let mut client = |_| {
            let keeps_latest = bounds.slow_consumer.0 == SlowConsumer::KeepLatest;
            let mut format = || match random.u8(..8) {
                0..4 => Format::Whole,
                4.. if keeps_latest => Format::Tag(TAGS[random.usize(..TAGS.len())]),
                4..6 => Format::Delta,
                6 => Format::Tag(TAGS[random.usize(..TAGS.len())]),
                _ => Format::DeltaAndTag('a'),
            };
            let formats = [format(), format(), format(), format()];
            let may_lag = bounds.slow_consumer.0 != SlowConsumer::Close;
            let gets_joins = random.bool();
            ReconnectingClient::new(formats, ClientOptions { gets_joins, exact_joins: scenario.has_room, may_lag })
        };
        let clients = (0..scenario.clients).map(&mut client).collect();
        let (reply_to, replies) = mpsc::channel();
        Self {
            cluster,
            clients,
            abandoned: Vec::new(),
            model: Model::new(scenario.history),
            scenario,
            random,
            replies,
            reply_to,
            open: 0,
            not_stored: 0,
            removed: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// One step: a shard takes a turn, a client or the server API acts, or time passes.
    pub fn step(&mut self) {
        let kind = self.random.u8(..100);
        self.counts.actions += u64::from(kind >= 55 && kind != 62);
        match kind {
            0..55 => {
                let shard = self.random.usize(..self.cluster.len());
                self.turn(shard);
            }
            55..62 => self.call_api(),
            62 => self.cluster.now += self.random.u64(1..=self.scenario.clock_step_max),
            _ => {
                let client = self.random.usize(..self.clients.len());
                if self.clients[client].is_open() { self.act(client) } else { self.reconnect(client) }
            }
        }
    }

    /// A shard's turn; then the histories of its channels are compared with the model.
    fn turn(&mut self, shard: usize) -> bool {
        if !self.cluster.turn(shard) {
            return false;
        }
        while let Ok((n, reply)) = self.replies.try_recv() {
            self.open -= 1;
            let published = &self.model.published[n as usize];
            let channel = published.channel;
            let Ok(ApiReply::Publish(position)) = reply else { panic!("{reply:?}") };
            assert_eq!(position.is_some(), published.is_stored);
            match position {
                Some(at) => self.model.record(channel, &at.epoch, at.offset, n),
                None => self.not_stored += 1,
            }
        }
        if self.scenario.history.exact {
            for channel in 0..CHANNELS {
                if self.cluster.home_of(&name(channel)) == shard {
                    self.observe(channel);
                }
            }
        }
        true
    }

    /// Compares the history of a channel with the model.
    fn observe(&mut self, channel: usize) {
        let query = HistoryQuery { limit: 1, ..HistoryQuery::default() };
        let call = ApiCall::History { channel: name(channel).into(), query };
        let Ok(ApiReply::History(HistoryPage { publications, top })) = self.call_now(channel, call) else {
            panic!("the channel has a history")
        };
        let first = publications.first().map_or(top.offset + 1, |publication| publication.offset);
        let (turn, now, removed) = (self.cluster.turns, self.cluster.now, self.removed.remove(&channel));
        self.model.observe(channel, &top.epoch, Observation { first, top: top.offset, turn, now, removed });
    }

    /// A call of the server API to the channel's home shard, between two turns.
    fn call_now(&mut self, channel: usize, call: ApiCall) -> Result<ApiReply, ErrorCode> {
        let (reply_to, reply) = mpsc::channel();
        let answer = Box::new(move |reply| reply_to.send(reply).expect("the receiver is below"));
        let home = self.cluster.home_of(&name(channel));
        self.cluster.request_now(home, ControlRequest::Api { call, answer });
        reply.recv().expect("the shard answers at once")
    }

    /// A disconnected client connects to any shard, in any encoding.
    fn reconnect(&mut self, index: usize) {
        let shard = self.random.usize(..self.cluster.len());
        let room = self.random.usize(200..2_000);
        let (conn, pipe) = self.cluster.connect(shard, room);
        let text = self.random.bool();
        let socket = ClientSocket::new(pipe, shard, conn, if text { "centrifuge-json" } else { "centrifuge-protobuf" });
        let turn = self.cluster.turns;
        let client = &mut self.clients[index];
        self.abandoned.extend(client.disconnect());
        client.open(socket, text);
        let wanted: Vec<usize> = (0..CHANNELS).filter(|&channel| client.subscriptions[channel].is_wanted).collect();
        match self.random.u8(..3) {
            0 if self.scenario.force_recovery => {
                // A connect cannot carry a filter.
                let has_no_filter = |&channel: &usize| !matches!(client.subscriptions[channel].format, Format::Tag(_));
                let channels: Vec<usize> = wanted.into_iter().filter(has_no_filter).collect();
                client.connect(&channels, turn);
            }
            0 | 1 => {
                client.connect(&[], turn);
                self.counts.one_frames += u64::from(!wanted.is_empty());
                wanted.into_iter().for_each(|channel| client.subscribe(channel, false, turn));
            }
            _ => client.connect(&[], turn),
        }
        self.flush(index);
        // For the upgrade request, if nothing was flushed.
        self.cluster.readable(shard, conn);
    }

    fn flush(&mut self, index: usize) {
        if let Some((shard, conn)) = self.clients[index].flush() {
            self.cluster.readable(shard, conn);
        }
    }

    fn act(&mut self, index: usize) {
        let channel = self.random.usize(..CHANNELS);
        let (turn, reject) = (self.cluster.turns, self.random.u8(..10) == 0);
        let client = &mut self.clients[index];
        let subscription = &client.subscriptions[channel];
        match self.random.u8(..100) {
            0..22 if subscription.state == SubscriptionState::Unsubscribed && !subscription.unsubscribing => {
                let reject = reject && subscription.position.is_some();
                client.subscribe(channel, reject, turn);
            }
            0..22 => self.read(index, 500),
            22..26 if subscription.state != SubscriptionState::Unsubscribed && !subscription.unsubscribing => {
                client.unsubscribe(channel);
            }
            22..45 => {
                for _ in 0..self.random.usize(1..5) {
                    let n = self.model.publish(channel, true, None, true);
                    self.clients[index].publish(channel, payload(n));
                }
            }
            45..50 => client.query_presence(channel),
            50..54 => client.query_history(channel),
            54..94 => {
                let room = self.random.usize(..2_000);
                self.read(index, room);
            }
            _ => return self.leave(index),
        }
        self.flush(index);
    }

    fn read(&mut self, index: usize, room: usize) {
        let Self { cluster, clients, abandoned, model, counts, .. } = self;
        let client = &mut clients[index];
        let edge = client.read(room, cluster.turns, model, counts);
        let Some(connection) = &client.connection else { return };
        let (shard, conn) = (connection.socket.shard, connection.socket.conn);
        if edge {
            cluster.edge(shard, conn, Readiness { writable: true, ..Readiness::default() });
        }
        let Some(code) = connection.socket.close_code else { return };
        match code {
            3001 | 3503 => {}
            3008 => counts.closed_as_slow += 1,
            3010 => {
                // Before the connect reply it is not known which of its subscriptions were live.
                let is_connecting = connection.client.is_empty();
                let mut subscriptions = client.subscriptions.iter().enumerate();
                let lost = subscriptions.any(|(channel, one)| one.by_server && one.is_lost(channel, model));
                assert!(is_connecting || lost || client.options.may_lag, "closed without a loss");
                counts.closed_for_loss += 1;
            }
            code => panic!("closed with {code}"),
        }
        connection.socket.pipe.borrow_mut().client_ended = true;
        cluster.edge(shard, conn, Readiness { readable: true, read_closed: true, ..Readiness::default() });
        abandoned.extend(client.disconnect());
    }

    /// A client is cut, by a reset or by the end of its stream, with or without what its socket holds.
    fn leave(&mut self, index: usize) {
        if self.random.bool() {
            self.read(index, 0);
        }
        let Some(connection) = &self.clients[index].connection else { return };
        let reset = self.random.bool();
        *(if reset { &mut self.counts.resets } else { &mut self.counts.ends }) += 1;
        let socket = &connection.socket;
        socket.pipe.borrow_mut().reset |= reset;
        socket.pipe.borrow_mut().client_ended = true;
        let readiness = Readiness { readable: true, read_closed: true, error: reset, ..Readiness::default() };
        self.cluster.edge(socket.shard, socket.conn, readiness);
        self.abandoned.extend(self.clients[index].disconnect());
    }

    fn call_api(&mut self) {
        let channel = self.random.usize(..CHANNELS);
        let home = self.cluster.home_of(&name(channel));
        match self.random.u8(..100) {
            0..85 => self.publish_by_api(channel, home),
            85..88 if self.scenario.has_expiry() => {
                self.counts.removed += 1;
                self.removed.insert(channel);
                let call = ApiCall::HistoryRemove { channel: name(channel).into() };
                let answer = Box::new(|reply: Result<_, _>| assert!(reply.is_ok(), "{reply:?}"));
                self.cluster.request(home, ControlRequest::Api { call, answer });
            }
            _ => self.call_api_about_client(channel),
        }
    }

    fn publish_by_api(&mut self, channel: usize, home: usize) {
        let tag = self.random.bool().then(|| TAGS[self.random.usize(..TAGS.len())]);
        let is_stored = self.random.u8(..20) > 0;
        let n = self.model.publish(channel, false, tag, is_stored);
        let publish = Publish {
            data: payload(n),
            tags: tag.map(|tag| ("k".to_owned(), tag.to_string())).into_iter().collect(),
            skip_history: !is_stored,
            delta: self.random.bool(),
            ..Publish::default()
        };
        let reply_to = self.reply_to.clone();
        let answer = Box::new(move |reply| reply_to.send((n, reply)).expect("the simulation has the receiver"));
        self.open += 1;
        let call = ApiCall::Publish { channel: name(channel).into(), publish };
        self.cluster.request(home, ControlRequest::Api { call, answer });
    }

    /// The server API subscribes, unsubscribes or disconnects a client.
    fn call_api_about_client(&mut self, channel: usize) {
        let client = &self.clients[self.random.usize(..self.clients.len())];
        let Some(id) = client.client() else { return };
        let connections = ConnectionSelector { client: id.into(), ..ConnectionSelector::default() };
        let shard = client.connection.as_ref().map_or(0, |connection| connection.socket.shard);
        let whole = client.subscriptions[channel].format == Format::Whole;
        let since = client.subscriptions[channel].position.clone().filter(|_| self.random.bool());
        let since = since.map(|(epoch, offset)| StreamPosition { offset, epoch: epoch.into() });
        let channel: Box<str> = name(channel).into();
        let call = match self.random.u8(..10) {
            0 => {
                self.counts.disconnected += 1;
                ApiCall::Disconnect { connections, except_clients: Vec::new(), code: 3503, reason: "go".into() }
            }
            1..6 if self.scenario.force_recovery && whole => {
                ApiCall::Subscribe { connections, channel, grant: SubscribeGrant::default(), since }
            }
            _ => ApiCall::Unsubscribe { connections, channel },
        };
        let must_succeed = matches!(call, ApiCall::Subscribe { .. });
        let answer = Box::new(move |reply: Result<_, _>| assert!(!must_succeed || reply.is_ok(), "{reply:?}"));
        self.cluster.request(shard, ControlRequest::Api { call, answer });
    }

    /// Sockets without a client: some are read to their end all the same, others are reset.
    fn drain_abandoned(&mut self) {
        for socket in &mut self.abandoned {
            let reset = socket.conn.slot % 2 == 0;
            socket.pipe.borrow_mut().reset |= reset;
            if reset || socket.read(usize::MAX / 2) {
                let readiness = Readiness { writable: !reset, error: reset, ..Readiness::default() };
                self.cluster.edge(socket.shard, socket.conn, readiness);
            }
        }
        self.abandoned.retain(|socket| !socket.pipe.borrow().server_closed);
    }

    /// All clients read everything until every shard sleeps. The clock does not advance, so that no timeout hides a
    /// missing wake-up.
    pub fn run_until_idle(&mut self) {
        self.cluster.stop_clock();
        for _ in 0..TURNS_MAX {
            (0..self.clients.len()).for_each(|index| self.read(index, usize::MAX / 2));
            self.drain_abandoned();
            let mut moved = false;
            for shard in 0..self.cluster.len() {
                moved |= self.turn(shard);
            }
            let mut open = self.clients.iter().filter_map(|client| client.connection.as_ref());
            if !moved && open.all(|connection| connection.socket.pipe.borrow().to_client.is_empty()) {
                return;
            }
        }
        panic!("the shards do not become idle");
    }

    /// All disconnected clients connect and subscribe again.
    pub fn reconnect_all(&mut self) {
        for index in 0..self.clients.len() {
            if !self.clients[index].is_open() {
                self.reconnect(index);
            }
        }
        self.run_until_idle();
        for index in 0..self.clients.len() {
            let turn = self.cluster.turns;
            let client = &mut self.clients[index];
            for channel in 0..CHANNELS {
                let subscription = &client.subscriptions[channel];
                let is_off = subscription.state == SubscriptionState::Unsubscribed;
                if client.client().is_some() && subscription.is_wanted && is_off {
                    client.subscribe(channel, false, turn);
                }
            }
            self.flush(index);
        }
        self.run_until_idle();
    }

    /// When idle: every command is answered, every subscriber is at its channel's top, and the presence is the subscribers.
    pub fn check(&mut self) {
        assert_eq!(self.open, 0, "the server API was not answered");
        let mut epochs: Vec<BTreeSet<String>> = vec![BTreeSet::new(); CHANNELS];
        let mut lasts: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); CHANNELS];
        for client in self.clients.iter().filter(|client| client.is_open()) {
            let connection = client.connection.as_ref().expect("it is open");
            assert!(connection.open.is_empty(), "never answered: {:?}", connection.open);
            for (channel, subscription) in client.subscriptions.iter().enumerate() {
                assert!(subscription.state != SubscriptionState::Pending && !subscription.unsubscribing);
                let is_live = subscription.state == SubscriptionState::Live;
                let Some((epoch, last)) = subscription.position.as_ref().filter(|_| is_live) else { continue };
                epochs[channel].insert(epoch.clone());
                let top = self.model.top(channel, epoch);
                if let Format::Tag(tag) = subscription.format {
                    self.model.record_filtered_out(channel, epoch, last + 1, top, tag);
                    continue;
                }
                lasts[channel].insert(*last);
                let right = if self.scenario.history.exact { *last == top } else { *last >= top };
                assert!(right, "c{channel}: idle at {last} before the last publication {top}");
            }
        }
        assert!(epochs.iter().all(|epochs| epochs.len() < 2), "a channel with subscribers has two epochs: {epochs:?}");
        assert!(lasts.iter().all(|lasts| lasts.len() < 2), "subscribers have different last offsets: {lasts:?}");
        if self.scenario.history.exact {
            let stamped: u64 = self.cluster.shards.iter().map(|sim| sim.shard.cx.counters.publications).sum();
            assert_eq!(self.model.stamped() + self.not_stored, stamped, "offsets and publications");
        }
        self.check_presence();
    }

    fn check_presence(&mut self) {
        let is_connected = |&index: &usize| self.clients[index].client().is_some();
        for index in (0..self.clients.len()).filter(is_connected).collect::<Vec<_>>() {
            self.clients[index].query_presence(index % CHANNELS);
            self.flush(index);
        }
        self.run_until_idle();
        let subscribed: Vec<BTreeSet<String>> = (0..CHANNELS).map(|channel| self.subscribed(channel)).collect();
        for (index, client) in self.clients.iter().enumerate().filter(|(_, client)| client.client().is_some()) {
            let channel = index % CHANNELS;
            assert_eq!(client.presence.get(&channel), Some(&subscribed[channel]), "c{channel}: the presence");
            self.counts.presences += 1;
            let subscription = &client.subscriptions[channel];
            let is_exact = self.scenario.has_room && subscription.state == SubscriptionState::Live;
            for (other, joined) in subscription.others.iter().filter(|_| is_exact) {
                assert_eq!(subscribed[channel].contains(other), *joined, "c{channel}: {other} by joins and leaves");
            }
        }
        for (channel, subscribed) in subscribed.iter().enumerate() {
            assert_eq!(self.presence_count(channel) as usize, subscribed.len(), "c{channel}: the presence count");
        }
    }

    fn subscribed(&self, channel: usize) -> BTreeSet<String> {
        let is_live = |client: &&ReconnectingClient| client.subscriptions[channel].state == SubscriptionState::Live;
        let live = self.clients.iter().filter(is_live);
        live.filter_map(|client| Some(client.client()?.to_owned())).collect()
    }

    /// Clients in a channel, as its home shard counts them.
    fn presence_count(&mut self, channel: usize) -> u32 {
        match self.call_now(channel, ApiCall::PresenceStats { channel: name(channel).into() }) {
            Ok(ApiReply::PresenceStats(stats)) => stats.clients,
            reply => panic!("{reply:?}"),
        }
    }

    /// Orderly shutdown: every client is closed, every presence is empty, and all channels expire.
    pub fn end(mut self) -> Counts {
        self.cluster.begin_drain();
        self.run_until_idle();
        assert!(self.clients.iter().all(|client| !client.is_open()), "a client was not closed");
        self.cluster.assert_empty();
        (0..CHANNELS).for_each(|channel| assert_eq!(self.presence_count(channel), 0, "c{channel}: the presence"));
        self.counts.withheld = self.model.check_filtered_out();
        self.counts.expired = self.model.expired;
        self.counts.epochs = self.model.epochs() as u64;
        self.add_counters();
        self.cluster.now += 2 * HOUR;
        for _ in 0..1_000 {
            (0..self.cluster.len()).for_each(|shard| _ = self.cluster.turn(shard));
        }
        for sim in &self.cluster.shards {
            let snapshot = sim.shard.snapshot();
            assert_eq!((snapshot.channels, snapshot.history_bytes), (0, 0), "a channel did not expire");
        }
        self.counts
    }

    fn add_counters(&mut self) {
        let Self { counts, cluster, .. } = self;
        counts.slots_reused = cluster.slots_reused;
        for sim in &cluster.shards {
            let counters = &sim.shard.cx.counters;
            counts.overflows += counters.mail_overflows;
            counts.repaired += counters.publications_repaired;
            counts.lost += counters.publications_lost;
            counts.dropped += counters.dropped.iter().sum::<u64>();
            counts.cut += counters.subscriptions_cut;
            counts.flushes_cut += counters.flushes_cut;
            counts.writes_short += counters.writes_short;
        }
    }
}
