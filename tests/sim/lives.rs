//! The world of those who come and go: readers with positions, cut at random, back on any shard; publishers; the server
//! API; and homes whose memory is short. At rest, everybody is where the truth is.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use corecast::auth::grant::{Publish, SubscribeGrant};
use corecast::config::{Config, SlowConsumer};
use corecast::engine::Readiness;
use corecast::messaging::control_request::{Answer, History, HistoryQuery, Place, Who};
use corecast::messaging::{Ask, Settings};
use corecast::protocol::ErrorCode;

use super::cluster::{Bounds, Cluster};
use super::end::End;
use super::reader::{Reader, Stand, Taste};
use super::seen::Seen;
use super::truth::{CHANNELS, Keeps, Truth, name, payload};
use super::world::TURNS_MAX;

const TAGS: [char; 3] = ['a', 'b', 'c'];
const HOUR: u64 = 3_600_000;

/// What kind of world it is, beside the engine's bounds.
#[derive(Clone, Copy)]
pub struct Story {
    pub readers: usize,
    pub keeps: Keeps,
    /// Milliseconds that the clock goes at once, at most.
    pub leap: u64,
    /// Every subscription is recoverable, those of the server too.
    pub forced: bool,
    /// Every publication may leave as a difference.
    pub deltas: bool,
    /// Mailboxes have room for all: no join is left out, and nobody is skipped.
    pub roomy: bool,
}

impl Story {
    /// Homes forget, and it is known what.
    fn forgets(&self) -> bool {
        self.keeps.exact && self.keeps.ttl < HOUR
    }
}

/// What the server API was told.
type Published = (u64, Result<Option<Place>, ErrorCode>);

pub struct Lives {
    cluster: Cluster,
    readers: Vec<Reader>,
    /// Ends that nobody speaks through any more, and that the server may not have closed yet.
    ghosts: Vec<End>,
    truth: Truth,
    story: Story,
    random: fastrand::Rng,
    told: mpsc::Receiver<Published>,
    tell: mpsc::Sender<Published>,
    /// Publications of the server API that are not answered.
    open: u64,
    /// Publications without an offset.
    passed: u64,
    /// Whose history was asked to be removed before the home's next turn.
    removed: BTreeSet<usize>,
    pub seen: Seen,
}

impl Lives {
    pub fn new(bounds: &Bounds, story: Story, mut random: fastrand::Rng) -> Self {
        let cluster = Cluster::new(bounds, settings(&story, bounds.slow), &mut random);
        let mut reader = |_| {
            let conflated = bounds.slow.0 == SlowConsumer::KeepLatest;
            let mut taste = || match random.u8(..8) {
                0..4 => Taste::Whole,
                4.. if conflated => Taste::Tag(TAGS[random.usize(..TAGS.len())]),
                4..6 => Taste::Delta,
                6 => Taste::Tag(TAGS[random.usize(..TAGS.len())]),
                _ => Taste::DeltaAndTag('a'),
            };
            let lags = bounds.slow.0 != SlowConsumer::Close;
            Reader::new([taste(), taste(), taste(), taste()], random.bool(), story.roomy, lags)
        };
        let readers = (0..story.readers).map(&mut reader).collect();
        let (tell, told) = mpsc::channel();
        let truth = Truth::new(story.keeps);
        let (removed, seen) = (BTreeSet::new(), Seen::default());
        Self {
            cluster,
            readers,
            ghosts: Vec::new(),
            truth,
            story,
            random,
            told,
            tell,
            open: 0,
            passed: 0,
            removed,
            seen,
        }
    }

    /// One thing happens: a shard takes a turn, somebody does something, or time passes.
    pub fn step(&mut self) {
        match self.random.u8(..100) {
            0..55 => {
                let shard = self.random.usize(..self.cluster.len());
                self.turn(shard);
            }
            55..62 => self.ask_as_server(),
            62 => self.cluster.now += self.random.u64(1..=self.story.leap),
            _ => {
                let reader = self.random.usize(..self.readers.len());
                if self.readers[reader].is_there() { self.act(reader) } else { self.come(reader) }
            }
        }
    }

    /// A shard's turn; then a look into what it is home to.
    fn turn(&mut self, shard: usize) -> bool {
        if !self.cluster.turn(shard) {
            return false;
        }
        while let Ok((n, answer)) = self.told.try_recv() {
            self.open -= 1;
            let channel = self.truth.published[n as usize].channel;
            let place = answer.expect("it may be published");
            assert_eq!(place.is_some(), self.truth.published[n as usize].kept);
            match place {
                Some(place) => self.truth.stands(channel, &place.epoch, place.offset, n),
                None => self.passed += 1,
            }
        }
        if self.story.keeps.exact {
            for channel in 0..CHANNELS {
                if self.cluster.home_of(&name(channel)) == shard {
                    self.look(channel);
                }
            }
        }
        true
    }

    /// What home has of a channel: its first publication, and where it stands.
    fn look(&mut self, channel: usize) {
        let (tell, told) = mpsc::channel();
        let query = HistoryQuery { limit: 1, ..HistoryQuery::default() };
        let answer: Answer<_> = Box::new(move |history| tell.send(history).expect("somebody waits"));
        self.cluster
            .look(self.cluster.home_of(&name(channel)), Ask::History { channel: name(channel).into(), query, answer });
        let History { publications, top } = told.recv().expect("an answer").expect("there is a history");
        let first = publications.first().map_or(top.offset + 1, |publication| publication.offset);
        let (turn, now, removed) = (self.cluster.turns, self.cluster.now, self.removed.remove(&channel));
        self.truth.observe(channel, &top.epoch, first, top.offset, turn, now, removed);
    }

    /// Somebody who is nowhere comes to any shard, in any encoding.
    fn come(&mut self, index: usize) {
        let shard = self.random.usize(..self.cluster.len());
        let room = self.random.usize(200..2_000);
        let (conn, wire) = self.cluster.connect(shard, room);
        let text = self.random.bool();
        let end = End::new(wire, shard, conn, if text { "centrifuge-json" } else { "centrifuge-protobuf" });
        let turn = self.cluster.turns;
        let reader = &mut self.readers[index];
        self.ghosts.extend(reader.die());
        reader.begin(end, text);
        let wishes: Vec<usize> = (0..CHANNELS).filter(|&channel| reader.seats[channel].wish).collect();
        match self.random.u8(..3) {
            0 if self.story.forced => {
                // A filter cannot come with a connect.
                let with = |&channel: &usize| !matches!(reader.seats[channel].taste, Taste::Tag(_));
                let channels: Vec<usize> = wishes.into_iter().filter(with).collect();
                reader.connect(&channels, turn);
            }
            0 | 1 => {
                reader.connect(&[], turn);
                let all = !wishes.is_empty();
                wishes.into_iter().for_each(|channel| reader.subscribe(channel, false, turn));
                self.seen.one_frames += u64::from(all);
            }
            _ => reader.connect(&[], turn),
        }
        self.flush(index);
        // The upgrade itself, where nothing was flushed.
        self.cluster.readable(shard, conn);
    }

    fn flush(&mut self, index: usize) {
        if let Some((shard, conn)) = self.readers[index].flush() {
            self.cluster.readable(shard, conn);
        }
    }

    fn act(&mut self, index: usize) {
        let channel = self.random.usize(..CHANNELS);
        let (turn, reject) = (self.cluster.turns, self.random.u8(..10) == 0);
        let reader = &mut self.readers[index];
        let seat = &reader.seats[channel];
        match self.random.u8(..100) {
            0..22 if seat.stand == Stand::Off && !seat.unsubscribing => {
                let reject = reject && seat.place.is_some();
                reader.subscribe(channel, reject, turn);
            }
            0..22 => self.read(index, 500),
            22..26 if seat.stand != Stand::Off && !seat.unsubscribing => reader.unsubscribe(channel),
            22..45 => {
                for _ in 0..self.random.usize(1..5) {
                    let n = self.truth.publish(channel, true, None, true);
                    self.readers[index].publish(channel, payload(n));
                }
            }
            45..50 => reader.ask_presence(channel),
            50..54 => reader.ask_history(channel),
            54..94 => {
                let room = self.random.usize(..2_000);
                self.read(index, room);
            }
            _ => return self.leave(index),
        }
        self.flush(index);
    }

    fn read(&mut self, index: usize, room: usize) {
        let Self { cluster, readers, ghosts, truth, seen, .. } = self;
        let reader = &mut readers[index];
        let edge = reader.read(room, cluster.turns, truth, seen);
        let Some(life) = &reader.life else { return };
        let (shard, conn) = (life.end.shard, life.end.conn);
        if edge {
            cluster.edge(shard, conn, Readiness { writable: true, ..Readiness::default() });
        }
        let Some(code) = life.end.close_code else { return };
        match code {
            3001 | 3503 => {}
            3008 => seen.closed_as_slow += 1,
            3010 => {
                // Before the connect is answered it is not known which of its subscriptions were live.
                let connecting = life.client.is_empty();
                let lost = reader.seats.iter().enumerate().any(|(c, seat)| seat.by_server && seat.is_lost(c, truth));
                assert!(connecting || lost || reader.lags, "closed for a loss that nobody had");
                seen.closed_for_loss += 1;
            }
            code => panic!("closed with {code}"),
        }
        life.end.wire.borrow_mut().client_ended = true;
        cluster.edge(shard, conn, Readiness { readable: true, read_closed: true, ..Readiness::default() });
        ghosts.extend(reader.die());
    }

    /// A reader is cut: by a reset, or by an end of its stream; with or without what lay in its socket.
    fn leave(&mut self, index: usize) {
        if self.random.bool() {
            self.read(index, 0);
        }
        let Some(life) = &self.readers[index].life else { return };
        let reset = self.random.bool();
        *(if reset { &mut self.seen.resets } else { &mut self.seen.ends }) += 1;
        life.end.wire.borrow_mut().reset |= reset;
        life.end.wire.borrow_mut().client_ended = true;
        let readiness = Readiness { readable: true, read_closed: true, error: reset, ..Readiness::default() };
        self.cluster.edge(life.end.shard, life.end.conn, readiness);
        self.ghosts.extend(self.readers[index].die());
    }

    fn ask_as_server(&mut self) {
        let channel = self.random.usize(..CHANNELS);
        let home = self.cluster.home_of(&name(channel));
        match self.random.u8(..100) {
            0..85 => self.publish_as_server(channel, home),
            85..88 if self.story.forgets() => {
                self.seen.removed += 1;
                self.removed.insert(channel);
                let answer: Answer<_> = Box::new(|answer| assert_eq!(answer, Ok(())));
                self.cluster.ask(home, Ask::HistoryRemove { channel: name(channel).into(), answer });
            }
            _ => self.ask_about_somebody(channel),
        }
    }

    fn publish_as_server(&mut self, channel: usize, home: usize) {
        let tag = self.random.bool().then(|| TAGS[self.random.usize(..TAGS.len())]);
        let kept = self.random.u8(..20) > 0;
        let n = self.truth.publish(channel, false, tag, kept);
        let publish = Publish {
            data: payload(n),
            tags: tag.map(|tag| ("k".to_owned(), tag.to_string())).into_iter().collect(),
            skip_history: !kept,
            delta: self.random.bool(),
            ..Publish::default()
        };
        let tell = self.tell.clone();
        let answer: Answer<_> = Box::new(move |answer| tell.send((n, answer)).expect("somebody waits"));
        self.open += 1;
        self.cluster.ask(home, Ask::Publish { channel: name(channel).into(), publish, answer });
    }

    /// The server API subscribes, unsubscribes or disconnects a client.
    fn ask_about_somebody(&mut self, channel: usize) {
        let reader = &self.readers[self.random.usize(..self.readers.len())];
        let Some(client) = reader.client() else { return };
        let who = Who { client: client.into(), ..Who::default() };
        let shard = reader.life.as_ref().map_or(0, |life| life.end.shard);
        let whole = reader.seats[channel].taste == Taste::Whole;
        let since = reader.seats[channel].place.clone().filter(|_| self.random.bool());
        let since = since.map(|(epoch, offset)| Place { offset, epoch: epoch.into() });
        let channel: Box<str> = name(channel).into();
        let ask = match self.random.u8(..10) {
            0 => {
                self.seen.disconnected += 1;
                let answer: Answer<u32> = Box::new(|_| ());
                Ask::Disconnect { who, spared: Vec::new(), code: 3503, reason: "go".into(), answer }
            }
            1..6 if self.story.forced && whole => {
                let answer: Answer<Result<u32, ErrorCode>> = Box::new(|answer| assert!(answer.is_ok()));
                Ask::Subscribe { who, channel, grant: SubscribeGrant::default(), since, answer }
            }
            _ => Ask::Unsubscribe { who, channel, answer: Box::new(|_| ()) },
        };
        self.cluster.ask(shard, ask);
    }

    /// Where nobody is left to read: some are read to their end all the same, of others the kernel says that they are gone.
    fn haunt(&mut self) {
        for end in &mut self.ghosts {
            let reset = end.conn.slot % 2 == 0;
            end.wire.borrow_mut().reset |= reset;
            if reset || end.pull(usize::MAX / 2) {
                let readiness = Readiness { writable: !reset, error: reset, ..Readiness::default() };
                self.cluster.edge(end.shard, end.conn, readiness);
            }
        }
        self.ghosts.retain(|end| !end.wire.borrow().server_closed);
    }

    /// Everybody reads all there is, until every shard sleeps. The clock stands: no deadline may be what saves us.
    pub fn settle(&mut self) {
        self.cluster.stop_the_clock();
        for _ in 0..TURNS_MAX {
            (0..self.readers.len()).for_each(|index| self.read(index, usize::MAX / 2));
            self.haunt();
            let mut moved = false;
            for shard in 0..self.cluster.len() {
                moved |= self.turn(shard);
            }
            let lives = self.readers.iter().filter_map(|reader| reader.life.as_ref());
            if !moved && lives.into_iter().all(|life| life.end.wire.borrow().to_client.is_empty()) {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Everybody who is away comes back, and reads on.
    pub fn gather(&mut self) {
        for index in 0..self.readers.len() {
            if !self.readers[index].is_there() {
                self.come(index);
            }
        }
        self.settle();
        for index in 0..self.readers.len() {
            let turn = self.cluster.turns;
            let reader = &mut self.readers[index];
            for channel in 0..CHANNELS {
                let seat = &reader.seats[channel];
                if reader.client().is_some() && seat.wish && seat.stand == Stand::Off {
                    reader.subscribe(channel, false, turn);
                }
            }
            self.flush(index);
        }
        self.settle();
    }

    /// At rest: every command is answered, every subscriber is at its channel's top, and present is who is subscribed.
    pub fn check(&mut self) {
        assert_eq!(self.open, 0, "the server API was not answered");
        let mut epochs: Vec<BTreeSet<String>> = vec![BTreeSet::new(); CHANNELS];
        let mut lasts: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); CHANNELS];
        for reader in self.readers.iter().filter(|reader| reader.is_there()) {
            let life = reader.life.as_ref().expect("it is there");
            assert!(life.open.is_empty(), "never answered: {:?}", life.open);
            for (channel, seat) in reader.seats.iter().enumerate() {
                assert!(seat.stand != Stand::Asked && !seat.unsubscribing);
                let Some((epoch, last)) = seat.place.as_ref().filter(|_| seat.stand == Stand::Live) else { continue };
                epochs[channel].insert(epoch.clone());
                let top = self.truth.top(channel, epoch);
                if let Taste::Tag(tag) = seat.taste {
                    self.truth.withheld(channel, epoch, last + 1, top, tag);
                    continue;
                }
                lasts[channel].insert(*last);
                let right = if self.story.keeps.exact { *last == top } else { *last >= top };
                assert!(right, "c{channel}: asleep at {last} before the last publication {top}");
            }
        }
        assert!(epochs.iter().all(|epochs| epochs.len() < 2), "never left, and yet it has two lives: {epochs:?}");
        assert!(lasts.iter().all(|lasts| lasts.len() < 2), "not all are at the same place: {lasts:?}");
        if self.story.keeps.exact {
            let stamped: u64 = self.cluster.places.iter().map(|place| place.shard.cx.counters.publications).sum();
            assert_eq!(self.truth.stamped() + self.passed, stamped, "offsets and publications");
        }
        self.check_presence();
    }

    fn check_presence(&mut self) {
        for index in (0..self.readers.len()).filter(|&index| self.readers[index].client().is_some()).collect::<Vec<_>>()
        {
            self.readers[index].ask_presence(index % CHANNELS);
            self.flush(index);
        }
        self.settle();
        let subscribed: Vec<BTreeSet<String>> = (0..CHANNELS).map(|channel| self.subscribed(channel)).collect();
        for (index, reader) in self.readers.iter().enumerate().filter(|(_, reader)| reader.client().is_some()) {
            let channel = index % CHANNELS;
            assert_eq!(reader.presence.get(&channel), Some(&subscribed[channel]), "c{channel}: who is there");
            self.seen.presences += 1;
            let strict = self.story.roomy && reader.seats[channel].stand == Stand::Live;
            for (client, there) in reader.seats[channel].others.iter().filter(|_| strict) {
                assert_eq!(subscribed[channel].contains(client), *there, "c{channel}: {client} by joins and leaves");
            }
        }
        for (channel, subscribed) in subscribed.iter().enumerate() {
            assert_eq!(self.counted(channel) as usize, subscribed.len(), "c{channel}: how many home counts");
        }
    }

    fn subscribed(&self, channel: usize) -> BTreeSet<String> {
        let live = self.readers.iter().filter(|reader| reader.seats[channel].stand == Stand::Live);
        live.filter_map(|reader| Some(reader.client()?.to_owned())).collect()
    }

    /// Clients in a channel, as its home knows.
    fn counted(&mut self, channel: usize) -> u32 {
        let (tell, told) = mpsc::channel();
        let answer: Answer<_> = Box::new(move |stats| tell.send(stats).expect("somebody waits"));
        let ask = Ask::PresenceStats { channel: name(channel).into(), answer };
        self.cluster.look(self.cluster.home_of(&name(channel)), ask);
        told.recv().expect("an answer").expect("presence is on").0
    }

    /// Orderly end: everybody is told, nobody is present, and with time nothing is left of any channel.
    pub fn end(mut self) -> Seen {
        self.cluster.begin_drain();
        self.settle();
        assert!(self.readers.iter().all(|reader| !reader.is_there()), "a client was forgotten");
        self.cluster.assert_empty();
        (0..CHANNELS).for_each(|channel| assert_eq!(self.counted(channel), 0, "c{channel}: somebody is still present"));
        self.seen.withheld = self.truth.check_withheld();
        self.seen.expired = self.truth.expired;
        self.seen.lives = self.truth.lives() as u64;
        self.count();
        self.cluster.now += 2 * HOUR;
        for _ in 0..1_000 {
            (0..self.cluster.len()).for_each(|shard| _ = self.cluster.turn(shard));
        }
        for place in &self.cluster.places {
            let snapshot = place.shard.snapshot();
            assert_eq!((snapshot.channels, snapshot.history_bytes), (0, 0), "kept for nobody");
        }
        self.seen
    }

    fn count(&mut self) {
        let Self { seen, cluster, .. } = self;
        seen.slots_reused = cluster.slots_reused;
        for place in &cluster.places {
            let counters = &place.shard.cx.counters;
            seen.overflows += counters.mail_overflows;
            seen.repaired += counters.publications_repaired;
            seen.lost += counters.publications_lost;
            seen.dropped += counters.dropped.iter().sum::<u64>();
            seen.cut += counters.subscriptions_cut;
            seen.flushes_cut += counters.flushes_cut;
            seen.writes_short += counters.writes_short;
        }
    }
}

fn settings(story: &Story, slow: (SlowConsumer, usize)) -> Settings {
    let Keeps { size, ttl, meta_ttl, recovered_max, .. } = story.keeps;
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.allowed_origins = Vec::new();
    config.client.ping_interval = Duration::from_secs(1_000_000);
    config.client.pong_timeout = Duration::from_secs(1);
    config.client.stale_close_delay = Duration::from_secs(1_000_000);
    config.client.recovery_max_publication_limit = recovered_max as u32;
    let namespace = &mut config.channel.without_namespace;
    namespace.history_size = size as u32;
    namespace.history_ttl = Duration::from_millis(ttl);
    namespace.history_meta_ttl = Duration::from_millis(meta_ttl);
    namespace.force_recovery = story.forced;
    (namespace.slow_consumer, namespace.slow_consumer_bytes_max) = slow;
    namespace.delta_publish = story.deltas;
    Settings::new(&config, |_| false)
}
