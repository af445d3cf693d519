//! Two and three clusters in one process, joined by a bus in memory. The time is virtual.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::stats::{Dropped, SurveyEnd};
use super::view::NodeState;
use super::{Cluster, ClusterSetup, ConnectedUsers, OwnShards, connected_users, proto};
use crate::api::settings::{Current, Settings};
use crate::auth::grant::{RefreshGrant, SubscribeGrant};
use crate::broker::control::{ControlPort, control_bus};
use crate::cluster::channels::SurveyError;
use crate::engine::stats::Snapshot;
use crate::messaging::api_call::{ConnectionSelector, MemberInfo};
use crate::messaging::{ApiCall, ApiReply};

/// A broker in memory: it delivers control messages, except those of the servers that are cut off.
#[derive(Clone, Default)]
struct Bus(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    servers: HashMap<Box<str>, mpsc::Sender<Vec<u8>>>,
    cut: HashSet<Box<str>>,
    /// Messages to one server: the sender's command, and the receiver.
    to_one: Vec<(proto::Command, Box<str>)>,
}

type ChannelCounts = Vec<(Box<str>, u32)>;

/// Shards that record what they carry out.
#[derive(Clone)]
struct Shards {
    carried_out: Arc<Mutex<Vec<ApiCall>>>,
    channels: Arc<Mutex<ChannelCounts>>,
    members: Arc<Mutex<Vec<MemberInfo>>>,
    /// Without a permit, nothing is answered or carried out.
    is_running: Arc<Semaphore>,
}

struct Server {
    cluster: Cluster,
    shards: Shards,
    users: ConnectedUsers,
}

impl Bus {
    fn join(&self, uid: &str) -> Server {
        let (bus, ControlPort { mut outgoing, incoming, uid }) = control_bus(uid);
        self.0.lock().unwrap().servers.insert(uid.clone(), incoming);
        let shards = Shards {
            carried_out: Arc::default(),
            channels: Arc::default(),
            members: Arc::default(),
            is_running: Arc::new(Semaphore::new(1)),
        };
        let (users, reports) = connected_users();
        let setup = ClusterSetup::new(bus, reports);
        let settings = Settings { uid: uid.to_string(), name: format!("name-{uid}"), ..Settings::default() };
        let settings = Arc::new(settings);
        let cluster = setup.start(Current::new(move || Arc::clone(&settings)), shards.clone());
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(message) = outgoing.recv().await {
                let mut state = state.lock().unwrap();
                if state.cut.contains(&uid) {
                    continue;
                }
                if let Some(to) = &message.to {
                    let command = proto::Command::decode(&*message.payload).unwrap();
                    state.to_one.push((command, to.clone()));
                }
                let receives = |one: &str| message.to.as_deref().is_none_or(|to| to == one);
                for (one, server) in state.servers.iter().filter(|(one, _)| receives(one) && !state.cut.contains(*one))
                {
                    server.try_send(message.payload.clone()).unwrap_or_else(|_| panic!("{one} does not read"));
                }
            }
        });
        Server { cluster, shards, users }
    }

    /// Servers that are cut off send and receive nothing.
    fn cut(&self, uids: &[&str]) {
        self.0.lock().unwrap().cut = uids.iter().map(|&uid| Box::from(uid)).collect();
    }

    fn send(&self, to: &str, payload: &[u8]) {
        self.0.lock().unwrap().servers[to].try_send(payload.to_vec()).expect("it reads");
    }

    /// Answers to surveys that were sent to this server.
    fn answers_to(&self, uid: &str) -> Vec<proto::SurveyResponse> {
        let state = self.0.lock().unwrap();
        let to = state.to_one.iter().filter(|(_, to)| **to == *uid);
        to.filter_map(|(command, _)| command.survey_response.clone()).collect()
    }
}

impl OwnShards for Shards {
    async fn ask(&self, call: ApiCall) -> Option<ApiReply> {
        let _running = self.is_running.acquire().await.ok()?;
        Some(match call {
            ApiCall::Channels { pattern } => {
                let glob = crate::auth::glob(&pattern)?;
                let channels = self.channels.lock().unwrap().clone();
                let matches = |name: &str| pattern.is_empty() || glob.is_match(name);
                ApiReply::Channels(channels.into_iter().filter(|(name, _)| matches(name)).collect())
            }
            ApiCall::Info => ApiReply::Info { users: ["ann", "bob"].map(Box::from).into() },
            ApiCall::Presence { .. } => ApiReply::Presence(self.members.lock().unwrap().clone()),
            other => panic!("{other:?}"),
        })
    }

    async fn carry_out(&self, call: ApiCall) -> bool {
        let _running = self.is_running.acquire().await;
        self.carried_out.lock().unwrap().push(call);
        true
    }

    async fn numbers(&self) -> Vec<Snapshot> {
        let shard = Snapshot { connections: 5, users: 2, channels: 3, subscriptions: 7, ..Snapshot::default() };
        vec![shard; 2]
    }
}

impl Shards {
    fn carried_out(&self) -> Vec<ApiCall> {
        std::mem::take(&mut self.carried_out.lock().unwrap())
    }

    fn set_channels(&self, channels: &[(&str, u32)]) {
        *self.channels.lock().unwrap() = channels.iter().map(|&(name, count)| (name.into(), count)).collect();
    }
}

impl Server {
    fn others(&self) -> Vec<(String, NodeState)> {
        self.cluster.view().others.into_iter().map(|node| (node.info.uid, node.state)).collect()
    }

    fn running(&self) -> usize {
        self.others().iter().filter(|(_, state)| *state == NodeState::Running).count()
    }

    /// The channels of the other servers, and how the survey ended.
    async fn channels(&self, pattern: &str) -> Result<Vec<(Box<str>, u32)>, SurveyError> {
        match self.cluster.ask_channels(pattern)? {
            Some(survey) => survey.channels().await.map(|channels| channels.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }

    fn surveys(&self) -> [u64; SurveyEnd::ALL.len()] {
        self.cluster.view().counts.surveys
    }

    fn dropped(&self, why: Dropped) -> u64 {
        self.cluster.view().counts.dropped[why as usize]
    }
}

/// Waits for an event, at most a minute.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lets a time pass in which something must not happen, or in which the servers notice something.
async fn wait(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

async fn three(bus: &Bus) -> [Server; 3] {
    let servers = ["a", "b", "c"].map(|uid| bus.join(uid));
    until("all know each other", || servers.iter().all(|server| server.running() == 2)).await;
    servers
}

fn ann() -> ConnectionSelector {
    ConnectionSelector { user: "ann".into(), ..ConnectionSelector::default() }
}

#[tokio::test(start_paused = true)]
async fn servers_list_each_other_with_their_numbers() {
    let bus = Bus::default();
    let [a, _b, _c] = three(&bus).await;
    wait(4).await;
    let view = a.cluster.view();
    let b = &view.others[0].info;
    assert_eq!((&*b.uid, &*b.name, &*b.version), ("b", "name-b", env!("CARGO_PKG_VERSION")));
    assert_eq!((b.clients, b.users, b.channels, b.subscriptions), (10, 2, 6, 14));
    let metrics = b.metrics.as_ref().expect("they come with the first announcement and stay");
    assert_eq!((metrics.interval_s, metrics.items["centrifugo.node.num_clients"]), (60.0, 10.0));
    assert_eq!(view.metrics.expect("of the first announcement").items["centrifugo.node.num_users"], 2.0);
}

#[tokio::test(start_paused = true)]
async fn server_that_joins_is_answered_at_once_and_alone() {
    let bus = Bus::default();
    let a = bus.join("a");
    wait(1).await;
    let b = bus.join("b");
    until("b knows a", || b.running() == 1).await;
    let answers: Vec<_> =
        bus.0.lock().unwrap().to_one.iter().map(|(command, to)| (command.uid.clone(), to.clone())).collect();
    assert!(answers.contains(&("a".into(), "b".into())), "{answers:?}");
    until("a knows b", || a.running() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn server_that_is_not_heard_stalls_is_lost_and_returns() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    bus.cut(&["b"]);
    let b_is = |state: NodeState| move |server: &Server| server.others().contains(&("b".into(), state));
    until("b stalls", || b_is(NodeState::Stalled)(&a)).await;
    until("b is lost", || [&a, &c].into_iter().all(b_is(NodeState::Lost))).await;
    assert_eq!(a.cluster.view().counts.nodes_lost, 1);
    assert_eq!(b.cluster.view().counts.nodes_lost, 2, "it hears none");
    bus.cut(&[]);
    until("b returns", || [&a, &b, &c].into_iter().all(|server| server.running() == 2)).await;
    assert_eq!(a.cluster.view().counts.nodes_returned, 1);
}

#[tokio::test(start_paused = true)]
async fn server_that_leaves_is_removed_at_once_and_still_carries_out_calls() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    b.cluster.leave();
    until("b is gone", || [&a, &c].into_iter().all(|server| server.others().len() == 1)).await;
    wait(10).await;
    assert_eq!(a.others(), [("c".to_owned(), NodeState::Running)], "it announces itself no more");
    let call = ApiCall::Refresh { connections: ann(), renewal: RefreshGrant::default() };
    assert!(a.cluster.share(&call));
    until("b gets it", || !b.shards.carried_out.lock().unwrap().is_empty()).await;
    assert_eq!(a.cluster.view().counts.nodes_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_reach_the_other_servers_once_and_in_order() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    let channel = || Box::from("news");
    let calls = [
        ApiCall::Subscribe { connections: ann(), channel: channel(), grant: SubscribeGrant::default(), since: None },
        ApiCall::Unsubscribe { connections: ann(), channel: channel() },
        ApiCall::Refresh { connections: ann(), renewal: RefreshGrant { expire_at: Some(9), ..Default::default() } },
        ApiCall::Disconnect { connections: ann(), except_clients: vec![], code: 3503, reason: "bye".into() },
    ];
    assert!(calls.iter().all(|call| a.cluster.share(call)));
    for server in [&b, &c] {
        until("all arrive", || server.shards.carried_out.lock().unwrap().len() == calls.len()).await;
        let received = server.shards.carried_out();
        assert_eq!(received[1..], calls[1..]);
        assert!(matches!(&received[0], ApiCall::Subscribe { channel, .. } if &**channel == "news"));
    }
    wait(1).await;
    assert!(a.shards.carried_out().is_empty(), "its own messages are ignored");
}

#[tokio::test(start_paused = true)]
async fn survey_sums_the_channels_of_the_others() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    b.shards.set_channels(&[("news:1", 2), ("chat", 1)]);
    c.shards.set_channels(&[("news:1", 3), ("news:2", u32::MAX)]);
    let channels = a.channels("news:*").await;
    assert_eq!(channels, Ok(vec![("news:1".into(), 5), ("news:2".into(), u32::MAX)]));
    b.shards.set_channels(&[("news:2", 2)]);
    assert_eq!(a.channels("").await, Ok(vec![("news:1".into(), 3), ("news:2".into(), u32::MAX)]));
    assert_eq!(a.surveys(), [2, 0, 0]);
    assert_eq!(b.cluster.view().counts.surveys_answered, 2);
}

#[tokio::test(start_paused = true)]
async fn survey_does_not_wait_for_a_dead_server() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    b.shards.set_channels(&[("chat", 1)]);
    c.shards.set_channels(&[("chat", 4)]);
    bus.cut(&["b"]);
    assert_eq!(a.channels("").await, Ok(vec![("chat".into(), 4)]), "b is left out when it misses an announcement");
    assert_eq!(a.surveys(), [0, 1, 0]);
    until("b is lost", || a.others().contains(&("b".into(), NodeState::Lost))).await;
    assert_eq!(a.channels("").await, Ok(vec![("chat".into(), 4)]));
    assert_eq!(a.surveys(), [1, 1, 0], "it was not asked");
}

#[tokio::test(start_paused = true)]
async fn survey_fails_if_a_server_that_announces_itself_does_not_answer() {
    let bus = Bus::default();
    let [a, b, _c] = three(&bus).await;
    let held = b.shards.is_running.clone().acquire_owned().await;
    assert!(matches!(a.channels("").await, Err(SurveyError::NoAnswer(_))));
    assert_eq!(a.surveys(), [0, 0, 1]);
    drop(held);
    assert_eq!(a.channels("").await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn survey_fails_if_the_broker_delivers_nothing() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    b.shards.set_channels(&[("chat", 1)]);
    // The broker stops. At first it looks as if the other servers had stopped.
    bus.cut(&["a", "b", "c"]);
    assert_eq!(a.channels("").await, Err(SurveyError::Silent));
    wait(5).await;
    assert_eq!(a.channels("").await, Err(SurveyError::Silent), "it does not wait");
    assert_eq!(a.surveys(), [0, 0, 2]);
    bus.cut(&[]);
    until("all are back", || [&a, &b, &c].iter().all(|server| server.running() == 2)).await;
    assert_eq!(a.channels("").await, Ok(vec![("chat".into(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn server_that_missed_the_question_is_asked_again() {
    let bus = Bus::default();
    let [a, b, _c] = three(&bus).await;
    b.shards.set_channels(&[("chat", 1)]);
    bus.cut(&["b"]);
    let survey = a.cluster.ask_channels("").unwrap().expect("there are others");
    wait(1).await;
    bus.cut(&[]);
    let channels = survey.channels().await.expect("it is answered");
    assert_eq!(channels.into_iter().collect::<Vec<_>>(), [("chat".into(), 1)]);
    assert_eq!(a.surveys(), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn users_for_whom_there_is_no_room_are_counted() {
    let bus = Bus::default();
    let [a, _b, _c] = three(&bus).await;
    // The cluster does not run between two awaits.
    (0..5_000).for_each(|_| a.users.report("ann", "c1", "#ann"));
    until("they are counted", || a.dropped(Dropped::UsersFull) == 5_000 - 4_096).await;
}

#[tokio::test(start_paused = true)]
async fn survey_fails_with_an_error_of_another_server() {
    let bus = Bus::default();
    let [a, _b, _c] = three(&bus).await;
    assert!(matches!(a.channels("[").await, Err(SurveyError::Refused(_, 2))), "it is not a glob");
}

#[tokio::test(start_paused = true)]
async fn surveys_of_the_original_that_have_no_meaning_here_are_answered() {
    let bus = Bus::default();
    let b = bus.join("b");
    for (id, op) in [(1, "centrifuge_emulation"), (2, "connections"), (3, "channels")] {
        let survey_request = Some(proto::SurveyRequest { id, op: op.into(), data: Vec::new() });
        let command = proto::Command { uid: "a".into(), survey_request, ..proto::Command::default() };
        bus.send("b", &command.encode_to_vec());
        until("it is answered", || bus.answers_to("a").len() == id as usize).await;
    }
    let codes: Vec<_> = bus.answers_to("a").iter().map(|answer| (answer.id, answer.code)).collect();
    assert_eq!(codes, [(1, 2), (2, 3), (3, 0)]);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_message_are_counted() {
    let bus = Bus::default();
    let [a, b, _c] = three(&bus).await;
    for bytes in [&b""[..], b"\xff", b"\x0a\x01", b"\x0a\x01x\x2a\x02\x08"] {
        bus.send("a", bytes);
    }
    until("they are counted", || a.dropped(Dropped::Malformed) == 4).await;
    let by_label = proto::Refresh { user: "ann".into(), label_filter: Some(Vec::new()), ..Default::default() };
    let command = proto::Command { uid: "x".into(), refresh: Some(by_label), ..proto::Command::default() };
    bus.send("a", &command.encode_to_vec());
    until("it is counted", || a.dropped(Dropped::Unsupported) == 1).await;
    assert!(a.shards.carried_out().is_empty());
    assert_eq!((a.running(), b.running()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn calls_are_not_kept_without_bound_while_the_shards_do_not_take_them() {
    let bus = Bus::default();
    let b = bus.join("b");
    let held = b.shards.is_running.clone().acquire_owned().await;
    let refresh = proto::Refresh { user: "ann".into(), info: vec![b'1'; 1024 * 1024], ..proto::Refresh::default() };
    let command = proto::Command { uid: "a".into(), refresh: Some(refresh), ..proto::Command::default() };
    for _ in 0..20 {
        bus.send("b", &command.encode_to_vec());
    }
    until("calls are dropped", || b.dropped(Dropped::IncomingFull) == 5).await;
    drop(held);
    until("the others are carried out", || b.shards.carried_out.lock().unwrap().len() == 15).await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_rejected_while_the_broker_takes_no_messages() {
    let (bus, _port) = control_bus("a");
    let settings = Arc::new(Settings { uid: "a".into(), ..Settings::default() });
    let shards = Bus::default().join("other").shards;
    let cluster =
        ClusterSetup::new(bus, connected_users().1).start(Current::new(move || Arc::clone(&settings)), shards);
    let info = vec![b'1'; 1024 * 1024];
    let call = ApiCall::Refresh { connections: ann(), renewal: RefreshGrant { info, ..RefreshGrant::default() } };
    let taken = (0..100).filter(|_| cluster.share(&call)).count();
    assert!((60..64).contains(&taken), "{taken} messages of 1 MiB wait");
    assert_eq!(cluster.view().counts.dropped[Dropped::OutgoingFull as usize], 100 - taken as u64);
    wait(8).await;
    assert_eq!(cluster.ask_channels("").err(), Some(SurveyError::Silent), "nothing arrives");
}

#[tokio::test(start_paused = true)]
async fn user_with_a_single_connection_is_disconnected_from_the_other_servers() {
    let bus = Bus::default();
    let [a, b, c] = three(&bus).await;
    let member = |client: &str| MemberInfo { client: client.into(), user: "ann".into(), ..MemberInfo::default() };
    a.users.report("ann", "c1", "#ann");
    wait(1).await;
    *a.shards.members.lock().unwrap() = vec![member("c1")];
    a.users.report("ann", "c1", "#ann");
    wait(1).await;
    assert_eq!(a.cluster.view().counts.single_connections, 0, "the user has no other connection");
    *a.shards.members.lock().unwrap() = vec![member("c1"), member("c2")];
    a.users.report("ann", "c1", "#ann");
    let expected = ApiCall::Disconnect {
        connections: ann(),
        except_clients: vec!["c1".into()],
        code: 3504,
        reason: "connection limit".into(),
    };
    for server in [&b, &c] {
        until("it arrives", || !server.shards.carried_out.lock().unwrap().is_empty()).await;
        assert_eq!(server.shards.carried_out(), std::slice::from_ref(&expected));
    }
    assert_eq!(a.cluster.view().counts.single_connections, 1);
}
