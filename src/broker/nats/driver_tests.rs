//! The thread against a server whose every line the test decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::LocalSet;

use super::{ChannelUse, Subjects, ThreadArgs, run};
use crate::broker::Broker;
use crate::broker::control::{ControlBus, ControlMessage, control_bus};
use crate::broker::message::{
    Answer, BrokerError, Event, PublishRequest, Published, Request, RequestKind, SubscribeSerial, Ticket,
};
use crate::broker::port::{EventBatch, EventPort, request_queue};
use crate::broker::stats::{BrokerStats, LinkState};
use crate::config::{Nats, NatsRawMode};
use crate::ids::ShardId;
use crate::pubsub::{HistoryFilter, HistoryOptions, TimeRange};

const PATIENCE: Duration = Duration::from_secs(30);
const UID: &str = "node-1";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes before the deadline")
}

/// A connection as the server sees it.
struct Peer(BufReader<TcpStream>);

impl Peer {
    /// The next connection, logged in, with its first subscriptions and its probe answered.
    async fn accept(listener: &TcpListener) -> Self {
        let mut peer = Self::accept_without_login(listener).await;
        peer.log_in(100).await;
        peer
    }

    async fn accept_without_login(listener: &TcpListener) -> Self {
        Self(BufReader::new(soon(listener.accept()).await.expect("a connection").0))
    }

    async fn log_in(&mut self, max_payload: usize) {
        self.send(&format!("INFO {{\"max_payload\":{max_payload}}}\r\n")).await;
        assert!(self.line().await.starts_with("CONNECT {"));
        self.pong().await;
        assert_eq!(self.line().await, "SUB centrifugo.control 1");
        assert_eq!(self.line().await, format!("SUB centrifugo.node.{UID} 2"));
        assert!(self.line().await.starts_with("SUB centrifugo.node."));
        let probe = self.line().await;
        assert!(probe.starts_with("PUB centrifugo.node."), "{probe}");
        assert_eq!(self.line().await, "1");
        self.send("MSG probe 3 1\r\n1\r\n").await;
    }

    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.expect("the client reads");
    }

    /// The next line, without its end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.expect("text");
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("{line:?} is no line")).to_owned()
    }

    /// The next publication: subject and payload.
    async fn publication(&mut self) -> (String, Vec<u8>) {
        let line = self.line().await;
        let mut words = line.strip_prefix("PUB ").unwrap_or_else(|| panic!("{line}")).split(' ');
        let (subject, length) = (words.next().expect("a subject").to_owned(), words.next().expect("a length"));
        let mut payload = vec![0; length.parse::<usize>().expect("a number") + 2];
        soon(self.0.read_exact(&mut payload)).await.expect("a payload");
        payload.truncate(payload.len() - 2);
        (subject, payload)
    }

    /// Answers the PING that comes next.
    async fn pong(&mut self) {
        assert_eq!(self.line().await, "PING");
        self.send("PONG\r\n").await;
    }

    async fn deliver(&mut self, subject: &str, sid: u64, payload: &[u8]) {
        self.send(&format!("MSG {subject} {sid} {}\r\n", payload.len())).await;
        self.0.get_mut().write_all(payload).await.expect("the client reads");
        self.send("\r\n").await;
    }
}

/// The home shard's end of a running thread.
struct Shard {
    broker: Broker,
    batches: UnboundedReceiver<EventBatch>,
    waiting: Vec<Event>,
    control: ControlBus,
    stats: Arc<BrokerStats>,
}

impl Shard {
    fn start(listener: &TcpListener, change: impl FnOnce(&mut Nats)) -> Self {
        Self::with_room(listener, change, 1 << 20)
    }

    fn with_room(listener: &TcpListener, change: impl FnOnce(&mut Nats), events_bytes_max: usize) -> Self {
        let mut config = super::subjects::tests::config();
        config.url = format!("nats://{}", listener.local_addr().expect("it is bound"));
        (config.dial_timeout, config.write_timeout) = (PATIENCE, PATIENCE);
        change(&mut config);
        let (port, requests) = request_queue(1 << 20);
        let (sender, batches) = unbounded_channel();
        let post = Arc::new(move |batch| sender.send(batch).map_err(|rejected| rejected.0));
        let (control, control_port) = control_bus(UID);
        let stats = Arc::<BrokerStats>::default();
        let broker = Broker::new(vec![port]).with_subjects(Subjects::new(&config));
        let args = ThreadArgs {
            config,
            requests,
            events: vec![EventPort::new(post, events_bytes_max)],
            control: Some(control_port),
            stats: Arc::clone(&stats),
            queue_bytes_max: 1 << 20,
        };
        tokio::task::spawn_local(run(args));
        Self { broker, batches, waiting: Vec::new(), control, stats }
    }

    fn send(&self, channel: &str, kind: RequestKind) {
        let request = Request { from: ShardId(0), channel: channel.into(), kind };
        assert!(self.broker.send(request).is_ok(), "there is room");
        self.broker.flush();
    }

    fn subscribe(&self, channel: &str, serial: u32) {
        self.send(channel, RequestKind::Subscribe(SubscribeSerial(serial)));
    }

    fn publish(&self, channel: &str, ticket: u32, data: &'static [u8]) {
        let publish = Box::new(PublishRequest { data: Bytes::from_static(data), ..PublishRequest::default() });
        self.send(channel, RequestKind::Publish { ticket: Ticket(ticket), publish });
    }

    async fn event(&mut self) -> Event {
        while self.waiting.is_empty() {
            let mut batch = soon(self.batches.recv()).await.expect("the thread runs");
            self.waiting.extend(batch.events.by_ref());
        }
        self.waiting.remove(0)
    }

    async fn answer(&mut self, ticket: u32) -> Result<Answer, BrokerError> {
        match self.event().await {
            Event::Answer { ticket: Ticket(answered), answer } if answered == ticket => answer,
            event => panic!("{event:?}"),
        }
    }

    async fn expect_published(&mut self, ticket: u32) {
        match self.answer(ticket).await {
            Ok(Answer::Published(published)) => assert_eq!(published, Published::default()),
            answer => panic!("{answer:?}"),
        }
    }

    async fn expect_subscribed(&mut self, channel: &str, serial: u32) {
        match self.event().await {
            Event::Subscribed { channel: known, serial: SubscribeSerial(known_serial) } => {
                assert_eq!((&*known, known_serial), (channel, serial));
            }
            event => panic!("{event:?}"),
        }
    }

    async fn expect_delayed(&mut self, channel: &str, serial: u32) {
        match self.event().await {
            Event::SubscribeDelayed { channel: known, serial: SubscribeSerial(known_serial) } => {
                assert_eq!((&*known, known_serial), (channel, serial));
            }
            event => panic!("{event:?}"),
        }
    }

    /// Channel, data, and the channel to which it was published if that is another one.
    async fn publication(&mut self) -> (String, Bytes, String) {
        match self.event().await {
            Event::Publication { channel, record, position: None } => {
                (channel.into(), record.data.clone(), String::new())
            }
            Event::PatternPublication { channel, record, published_to } => {
                (channel.into(), record.data.clone(), published_to.into())
            }
            event => panic!("{event:?}"),
        }
    }

    fn state(&self) -> LinkState {
        self.stats.connections()[0].state()
    }
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

#[test]
fn publication_is_acknowledged_and_comes_back_as_the_server_delivers_it() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        shard.subscribe("news", 7);
        assert_eq!(peer.line().await, "SUB centrifugo.client.news 16");
        peer.pong().await;
        shard.expect_subscribed("news", 7).await;
        shard.publish("news", 1, b"{}");
        let (subject, payload) = peer.publication().await;
        assert_eq!(subject, "centrifugo.client.news");
        peer.deliver(&subject, 16, &payload).await;
        peer.pong().await;
        assert_eq!(shard.publication().await, ("news".into(), Bytes::from_static(b"{}"), String::new()));
        shard.expect_published(1).await;
        shard.subscribe("news", 8);
        shard.expect_subscribed("news", 8).await;
        shard.send("news", RequestKind::Unsubscribe);
        assert_eq!(peer.line().await, "UNSUB 16");
        assert_eq!(shard.state(), LinkState::Up);
    });
}

#[test]
fn outage_is_an_event_of_each_channel_and_an_error_of_each_publication() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        shard.subscribe("news", 1);
        assert_eq!(peer.line().await, "SUB centrifugo.client.news 16");
        peer.pong().await;
        shard.expect_subscribed("news", 1).await;
        shard.publish("news", 1, b"lost");
        peer.publication().await;
        drop(peer);
        assert_eq!(shard.answer(1).await.expect_err("no PONG"), BrokerError::OutcomeUnknown);
        shard.expect_delayed("news", 1).await;
        // The next connection gets no login for now: this is the outage.
        let mut peer = Peer::accept_without_login(&listener).await;
        shard.publish("news", 2, b"during the outage");
        assert_eq!(shard.answer(2).await.expect_err("away"), BrokerError::Unavailable);
        shard.subscribe("late", 2);
        shard.expect_delayed("late", 2).await;
        assert_eq!(shard.state(), LinkState::Down);
        peer.log_in(100).await;
        let mut again = [peer.line().await, peer.line().await];
        again.sort();
        assert_eq!(again, ["SUB centrifugo.client.late 17", "SUB centrifugo.client.news 16"]);
        peer.pong().await;
        let mut subscribed = Vec::new();
        for _ in 0..2 {
            match shard.event().await {
                Event::Subscribed { channel, serial } => subscribed.push((channel.to_string(), serial.0)),
                event => panic!("{event:?}"),
            }
        }
        subscribed.sort();
        assert_eq!(subscribed, [("late".into(), 2), ("news".into(), 1)]);
        shard.publish("news", 3, b"after it");
        peer.publication().await;
        peer.pong().await;
        shard.expect_published(3).await;
    });
}

#[test]
fn what_nats_does_not_have_is_not_supported_also_in_an_outage() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept_without_login(&listener).await;
        for is_up in [false, true] {
            if is_up {
                peer.log_in(100).await;
                peer.pong().await;
            }
            let history = HistoryOptions::default();
            let ticket = Ticket;
            shard.send(
                "a",
                RequestKind::History {
                    ticket: ticket(1),
                    filter: HistoryFilter::default(),
                    range: TimeRange::ALL,
                    options: history,
                },
            );
            shard.send("a", RequestKind::HistoryRemove { ticket: ticket(2) });
            shard.send("a", RequestKind::Presence { ticket: ticket(3) });
            shard.send("a", RequestKind::PresenceStats { ticket: ticket(4) });
            for ticket in 1..=4 {
                assert_eq!(shard.answer(ticket).await.expect_err("not supported"), BrokerError::NotSupported);
            }
        }
    });
}

#[test]
fn pattern_brings_publications_with_the_channel_of_each() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::start(&listener, |config| config.allow_wildcards = true);
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        shard.subscribe("news.*", 1);
        assert_eq!(peer.line().await, "SUB centrifugo.client.news.* 16");
        peer.pong().await;
        shard.expect_subscribed("news.*", 1).await;
        shard.publish("news.sport", 1, b"1");
        let (subject, payload) = peer.publication().await;
        peer.deliver(&subject, 16, &payload).await;
        assert_eq!(shard.publication().await, ("news.*".into(), Bytes::from_static(b"1"), "news.sport".into()));
        assert!(!shard.broker.accepts("news.*", ChannelUse::Publish));
    });
}

#[test]
fn raw_mode_sends_and_takes_data_without_anything_else() {
    local(async {
        let listener = listen().await;
        let channel_replacements = [(":".to_owned(), ".".to_owned())].into();
        let raw_mode = Some(NatsRawMode { channel_replacements, prefix: "app.".into() });
        let mut shard = Shard::start(&listener, |config| config.raw_mode = raw_mode);
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        shard.subscribe("news:a", 1);
        assert_eq!(peer.line().await, "SUB app.news.a 16");
        peer.pong().await;
        shard.expect_subscribed("news:a", 1).await;
        shard.send("news:a", RequestKind::JoinLeave { is_join: true, client_info: Bytes::new() });
        shard.publish("news:a", 1, b"raw");
        assert_eq!(peer.publication().await, ("app.news.a".into(), b"raw".to_vec()), "no join before it");
        peer.deliver("app.news.a", 16, b"\xff\0").await;
        assert_eq!(shard.publication().await, ("news:a".into(), Bytes::from_static(b"\xff\0"), "news.a".into()));
    });
}

#[test]
fn publication_that_the_server_does_not_take_is_refused() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        static LONG: [u8; 200] = [b'1'; 200];
        shard.publish("news", 1, &LONG);
        shard.publish("a b", 2, b"1");
        shard.publish("a\r\nPUB x 0\r\n", 3, b"1");
        for ticket in 1..=3 {
            assert!(matches!(shard.answer(ticket).await, Err(BrokerError::Refused(_))));
        }
        shard.publish("secret", 4, b"1");
        peer.publication().await;
        peer.send("-ERR 'Permissions Violation for Publish to \"centrifugo.client.secret\"'\r\n").await;
        peer.pong().await;
        assert!(matches!(shard.answer(4).await, Err(BrokerError::Refused(_))));
        shard.publish("news", 5, b"1");
        peer.publication().await;
        peer.pong().await;
        shard.expect_published(5).await;
    });
}

#[test]
fn probe_that_does_not_arrive_ends_the_connection_and_is_reported() {
    local(async {
        let listener = listen().await;
        let shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        let (subject, _) = peer.publication().await;
        assert!(subject.ends_with(".probe"), "{subject}");
        // It is accepted and not delivered.
        peer.pong().await;
        let mut again = Peer::accept_without_login(&listener).await;
        assert_eq!(shard.state(), LinkState::Undelivering);
        assert!(shard.stats.health().is_err_and(|cause| cause.contains("a probe did not arrive")));
        again.log_in(100).await;
        again.pong().await;
        again.publication().await;
        again.send("MSG probe 3 1\r\n1\r\n").await;
        again.pong().await;
        assert_eq!(again.line().await.split(' ').next(), Some("PUB"), "the connection goes on");
        assert_eq!((shard.state(), shard.stats.health()), (LinkState::Up, Ok(())));
    });
}

#[test]
fn control_messages_go_to_all_servers_or_to_one() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        for (to, subject) in [(None, "centrifugo.control"), (Some("node-2"), "centrifugo.node.node-2")] {
            let message = ControlMessage { to: to.map(Into::into), payload: b"x".to_vec() };
            shard.control.outgoing.send(message).await.expect("there is room");
            assert_eq!(peer.publication().await, (subject.into(), b"x".to_vec()));
        }
        peer.deliver("centrifugo.control", 1, b"to all").await;
        peer.deliver("centrifugo.node.node-1", 2, b"to one").await;
        for payload in [&b"to all"[..], b"to one"] {
            assert_eq!(soon(shard.control.incoming.recv()).await.as_deref(), Some(payload));
        }
    });
}

#[test]
fn publications_without_room_are_dropped_and_the_channel_is_reported() {
    local(async {
        let listener = listen().await;
        let mut shard = Shard::with_room(&listener, |_| {}, 1);
        let mut peer = Peer::accept(&listener).await;
        peer.pong().await;
        shard.subscribe("news", 1);
        peer.line().await;
        peer.pong().await;
        // The event of the subscription fills the room as long as its batch is kept.
        let mut kept = soon(shard.batches.recv()).await.expect("the thread runs");
        assert!(matches!(kept.events.next(), Some(Event::Subscribed { .. })));
        let payload = super::payload::publication("news", &PublishRequest::default(), 0);
        peer.deliver("centrifugo.client.news", 16, &payload).await;
        let dropped = || shard.stats.connections()[0].dropped.load(std::sync::atomic::Ordering::Relaxed);
        while dropped() == 0 {
            tokio::task::yield_now().await;
        }
        drop(kept);
        shard.expect_subscribed("news", 1).await;
    });
}

#[test]
fn bytes_of_another_protocol_end_the_connection() {
    local(async {
        let listener = listen().await;
        let _shard = Shard::start(&listener, |_| {});
        let mut peer = Peer::accept(&listener).await;
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let mut peer = Peer::accept_without_login(&listener).await;
        peer.send("+OK\r\n").await;
        Peer::accept(&listener).await;
    });
}
