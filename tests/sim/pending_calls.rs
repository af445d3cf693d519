//! Calls of the server API about connections that wait for a home shard, and a shutdown while they wait. The home shard takes no
//! turn until the test says so: every pending state lasts as long as it must.

use std::sync::mpsc;

use corecast::auth::Hash;
use corecast::auth::grant::{Publish, RefreshGrant, SubscribeGrant};
use corecast::auth::sign::SigningKey;
use corecast::config::{Config, SlowConsumer};
use corecast::messaging::api_call::{ApiCall, ApiReply, ConnectionSelector};
use corecast::messaging::{ControlRequest, Settings};
use corecast::ws::Opcode;
use serde_json::{Value, json};

use super::client_socket::ClientSocket;
use super::cluster::{Bounds, Cluster};

const SECRET: &str = "the-secret-of-the-simulated-tokens";
/// The client's shard, and the home shard that does not answer.
const HERE: usize = 0;
const HOME: usize = 1;

struct World {
    cluster: Cluster,
    client: ClientSocket,
}

impl World {
    /// A client of the user "ann" whose connect command is sent, with the channels that its token names.
    fn new(channels: &[&str]) -> Self {
        let bounds = Bounds {
            shards: 2,
            mailbox_batches: 4,
            mail_bytes: 1 << 20,
            slice: 100,
            backlog_bytes: 1 << 20,
            backlogs_bytes: 1 << 30,
            slow_consumer: (SlowConsumer::Close, 0),
        };
        let mut config = Config { dev: false, ..Config::dev() };
        config.client.token.hmac_secret_key = SECRET.into();
        config.client.allowed_origins = Vec::new();
        let settings = Settings::new(&config, |_| false);
        let mut random = fastrand::Rng::with_seed(1);
        let mut cluster = Cluster::new(&bounds, settings, &mut random);
        while cluster.home_of("far") != HOME || cluster.home_of("near") != HERE || cluster.home_of("far2") != HOME {
            let settings = Settings::new(&config, |_| false);
            cluster = Cluster::new(&bounds, settings, &mut random);
        }
        let (conn, pipe) = cluster.connect(HERE, 1 << 20);
        let client = ClientSocket::new(pipe, HERE, conn, "centrifuge-json");
        let mut world = Self { cluster, client };
        let claims = json!({"sub": "ann", "channels": channels}).to_string();
        let token = SigningKey::secret(Hash::S256, SECRET).sign(&claims, None).expect("claims are JSON");
        world.send(&json!({"id": 1, "connect": {"token": token}}));
        world
    }

    /// The same, connected.
    fn connected() -> Self {
        let mut world = Self::new(&[]);
        assert!(world.here()[0]["connect"].is_object());
        world
    }

    fn send(&mut self, command: &Value) {
        self.client.send(Opcode::Text, command.to_string().as_bytes());
        self.cluster.readable(HERE, self.client.conn);
    }

    /// Turns of the client's shard until it sleeps; what the client has got since the last call.
    fn here(&mut self) -> Vec<Value> {
        self.turns(HERE);
        self.client.read(1 << 20);
        let mut messages = Vec::new();
        while let Some(payload) = self.client.message() {
            let text = String::from_utf8(payload).expect("JSON");
            messages.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
        }
        messages
    }

    fn turns(&mut self, shard: usize) {
        for _ in 0..100 {
            if !self.cluster.turn(shard) {
                return;
            }
        }
        panic!("shard {shard} does not sleep");
    }

    /// The home shard answers all that waits, and the client's shard handles it.
    fn home_answers(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        for _ in 0..4 {
            self.turns(HOME);
            messages.extend(self.here());
        }
        messages
    }

    /// A call about the client, which its shard must answer at once.
    fn call(&mut self, call: ApiCall) {
        let reply = self.call_at(HERE, call);
        assert_eq!(reply, ApiReply::Connections(1));
    }

    fn call_at(&mut self, shard: usize, call: ApiCall) -> ApiReply {
        let (reply_to, reply) = mpsc::channel();
        let answer = Box::new(move |reply| reply_to.send(reply).expect("the receiver is below"));
        self.cluster.request_now(shard, ControlRequest::Api { call, answer });
        // A request wakes the shard in production.
        self.cluster.request(shard, ControlRequest::Health { is_ready: true });
        reply.recv().expect("the shard answers at once").expect("no error")
    }

    fn unsubscribe(&mut self, channel: &str) {
        self.call(ApiCall::Unsubscribe { connections: ann(), channel: channel.into() });
    }

    fn subscribe(&mut self, channel: &str) {
        let grant = SubscribeGrant::default();
        self.call(ApiCall::Subscribe { connections: ann(), channel: channel.into(), grant, since: None });
    }

    fn publish(&mut self, channel: &str) {
        let publish = Publish { data: b"1".into(), ..Publish::default() };
        let home = self.cluster.home_of(channel);
        self.call_at(home, ApiCall::Publish { channel: channel.into(), publish });
    }

    /// Nothing that is published reaches the client, and it is in no presence.
    fn assert_unsubscribed(&mut self, channel: &str) {
        self.publish(channel);
        assert_eq!(self.home_answers(), [] as [Value; 0], "{channel}");
        let home = self.cluster.home_of(channel);
        let ApiReply::PresenceStats(stats) = self.call_at(home, ApiCall::PresenceStats { channel: channel.into() })
        else {
            panic!("presence is on")
        };
        assert_eq!(stats.clients, 0, "{channel}");
    }
}

fn ann() -> ConnectionSelector {
    ConnectionSelector { user: "ann".into(), ..ConnectionSelector::default() }
}

fn channels_of(connect: &Value) -> Vec<&str> {
    connect["connect"]["subs"].as_object().map_or(Vec::new(), |subs| subs.keys().map(String::as_str).collect())
}

#[test]
fn unsubscribe_call_rejects_a_subscribe_that_waits_for_its_home_shard() {
    for named in ["far", ""] {
        let mut world = World::connected();
        world.send(&json!({"id": 2, "subscribe": {"channel": "far"}}));
        assert_eq!(world.here(), [] as [Value; 0]);
        world.unsubscribe(named);
        let replies = world.here();
        assert_eq!((replies.len(), &replies[0]["id"], &replies[0]["error"]["code"]), (1, &json!(2), &json!(103)));
        assert_eq!(world.home_answers(), [] as [Value; 0]);
        world.assert_unsubscribed("far");
        // The client may subscribe anew.
        world.send(&json!({"id": 3, "subscribe": {"channel": "far"}}));
        world.here();
        assert!(world.home_answers()[0]["subscribe"].is_object());
    }
}

#[test]
fn unsubscribe_call_rejects_a_recovery_in_flight() {
    let mut world = World::connected();
    // The home shard knows the channel's group: only the recovery is in flight.
    let (conn, pipe) = world.cluster.connect(HERE, 1 << 20);
    let mut other = ClientSocket::new(pipe, HERE, conn, "centrifuge-json");
    other.send(Opcode::Text, br#"{"id":1,"connect":{}}"#);
    other.send(Opcode::Text, br#"{"id":2,"subscribe":{"channel":"far"}}"#);
    world.cluster.readable(HERE, conn);
    world.here();
    world.home_answers();
    world.publish("far");
    world.home_answers();
    let recover = json!({"channel": "far", "recoverable": true, "recover": true, "offset": 0});
    world.send(&json!({"id": 2, "subscribe": recover}));
    assert_eq!(world.here(), [] as [Value; 0]);
    world.unsubscribe("far");
    assert_eq!(world.here()[0]["error"]["code"], 103);
    world.publish("far");
    assert_eq!(world.home_answers(), [] as [Value; 0], "neither what it missed nor what follows");
}

#[test]
fn subscription_by_the_server_ends_before_its_home_shard_answers() {
    let mut world = World::connected();
    world.subscribe("far");
    world.unsubscribe("far");
    assert_eq!(world.here(), [] as [Value; 0]);
    assert_eq!(world.home_answers(), [] as [Value; 0]);
    world.assert_unsubscribed("far");
}

#[test]
fn subscribe_call_holds_for_a_subscribe_that_would_be_rejected_as_unrecovered() {
    let mut world = World::connected();
    let lost = json!({"channel": "far", "recoverable": true, "recover": true, "offset": 9, "epoch": "x", "flag": 2});
    world.send(&json!({"id": 2, "subscribe": lost}));
    world.here();
    world.subscribe("far");
    let replies = world.home_answers();
    assert!(replies[0]["subscribe"].is_object(), "{replies:?}");
    world.publish("far");
    assert!(world.home_answers()[0]["push"]["pub"].is_object());
}

#[test]
fn unsubscribe_call_holds_for_a_connect_that_waits_for_its_subscriptions() {
    // One of the two is live, and what is published to it is held for the connect reply.
    let mut world = World::new(&["far", "near"]);
    assert_eq!(world.here(), [] as [Value; 0]);
    world.publish("near");
    assert_eq!(world.here(), [] as [Value; 0]);
    world.unsubscribe("near");
    world.publish("near");
    let replies = world.home_answers();
    assert_eq!((replies.len(), channels_of(&replies[0])), (3, vec!["far", "near"]), "{replies:?}");
    assert!(replies[1]["push"]["pub"].is_object(), "only what was published before the call");
    assert_eq!(replies[2]["push"]["unsubscribe"]["code"], 2000);
    world.assert_unsubscribed("near");

    let mut world = World::new(&["far", "near"]);
    world.here();
    world.unsubscribe("far");
    let replies = world.here();
    assert_eq!((replies.len(), channels_of(&replies[0])), (1, vec!["near"]), "nothing is left to wait for");
    world.assert_unsubscribed("far");

    let mut world = World::new(&["far", "near"]);
    world.here();
    world.unsubscribe("");
    let replies = world.here();
    assert_eq!((replies.len(), channels_of(&replies[0])), (2, vec!["near"]), "{replies:?}");
    assert_eq!(replies[1]["push"]["unsubscribe"]["code"], 2000);
    world.assert_unsubscribed("far");
    world.assert_unsubscribed("near");
}

#[test]
fn other_calls_hold_for_a_connect_that_waits_for_its_subscriptions() {
    let mut world = World::new(&["far"]);
    world.here();
    world.subscribe("far2");
    world.subscribe("near");
    let in_an_hour =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() + 3600;
    let renewal = RefreshGrant { expire_at: Some(in_an_hour), ..RefreshGrant::default() };
    world.call(ApiCall::Refresh { connections: ann(), renewal });
    assert_eq!(world.here(), [] as [Value; 0]);
    let replies = world.home_answers();
    assert_eq!((replies.len(), channels_of(&replies[0])), (1, vec!["far", "far2", "near"]), "{replies:?}");
    assert_eq!(replies[0]["connect"]["expires"], true);
    world.publish("far2");
    assert!(world.home_answers()[0]["push"]["pub"].is_object());

    let mut world = World::new(&["far"]);
    world.here();
    let (code, reason) = (3503, "go".into());
    world.call(ApiCall::Disconnect { connections: ann(), except_clients: Vec::new(), code, reason });
    assert_eq!(world.here(), [] as [Value; 0], "no connect reply");
    assert_eq!(world.client.close_code, Some(3503));
    world.assert_unsubscribed("far");
}

#[test]
fn shutdown_answers_commands_that_wait_for_a_home_shard_and_then_closes() {
    for (command, reply) in [
        (json!({"id": 2, "publish": {"channel": "far", "data": 1}}), "publish"),
        (json!({"id": 2, "history": {"channel": "far", "limit": 1}}), "history"),
        (json!({"id": 2, "presence": {"channel": "far"}}), "presence"),
        (json!({"id": 2, "subscribe": {"channel": "far"}}), "subscribe"),
    ] {
        let mut world = World::connected();
        world.send(&command);
        assert_eq!(world.here(), [] as [Value; 0]);
        world.cluster.begin_drain();
        for _ in 0..20 {
            world.cluster.now += 100;
            assert_eq!(world.here(), [] as [Value; 0]);
        }
        assert_eq!(world.client.close_code, None, "{reply} is not answered yet");
        // What arrives after the shutdown began is not taken.
        world.send(&json!({"id": 3, "publish": {"channel": "near", "data": 2}}));
        let mut replies = world.home_answers();
        world.cluster.now += 100;
        replies.extend(world.here());
        assert_eq!((replies.len(), replies[0]["id"].as_u64()), (1, Some(2)), "{replies:?}");
        assert!(replies[0][reply].is_object(), "{replies:?}");
        assert_eq!(world.client.close_code, Some(3001));
    }
}
