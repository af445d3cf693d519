//! The admin address and the gRPC address over real sockets, with fake shards that record their calls and answer by the
//! name of the channel.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corecast::admin::{self, Settings};
use corecast::api::settings::{GrpcSettings, Settings as ApiSettings};
use corecast::api::{ApiError, ApiResult, ShardApi};
use corecast::auth::grant::Publish;
use corecast::cluster::view::{ClusterView, NodeInfo, NodeMetrics, NodeState, NodeView};
use corecast::engine::stats::Snapshot;
use corecast::messaging::api_call::{
    ApiCall, ApiReply, CallScope, ConnectionSelector, HistoryPage, HistoryPublication, MemberInfo, PastPage,
    PastPublication, PresenceStats, StreamPosition,
};
use corecast::protocol::ErrorCode;
use serde_json::{Value, json};

pub const KEY: &str = "secret";

/// Shards that record their calls, except reads of presence and of the users of `info`.
#[derive(Clone, Default)]
pub struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    asked: Mutex<Vec<ApiCall>>,
    is_draining: AtomicBool,
    is_in_cluster: AtomicBool,
}

impl Fake {
    /// From here on there are two other servers, one of them lost.
    pub fn join_cluster(&self) {
        self.0.is_in_cluster.store(true, Ordering::Relaxed);
    }

    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    /// The calls since the last call of this function.
    pub fn asked(&self) -> Vec<ApiCall> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    /// Like `asked`, for tests that expect only publications.
    pub fn published(&self) -> Vec<(String, String)> {
        let text = |call| match call {
            ApiCall::Publish { channel, publish } => (channel.into(), String::from_utf8(publish.data).unwrap()),
            other => panic!("{other:?}"),
        };
        self.asked().into_iter().map(text).collect()
    }
}

fn check_channel(channel: &str) -> ApiResult<()> {
    match channel {
        "busy" => Err(ApiError::TooManyRequests),
        "silent" => Err(ApiError::OutcomeUnknown),
        "ns:unknown" => Err(ErrorCode::UnknownChannel.into()),
        "off" => Err(ErrorCode::NotAvailable.into()),
        "lost" => Err(ErrorCode::UnrecoverablePosition.into()),
        _ => Ok(()),
    }
}

fn member(client: &str, user: &str, conn_info: &'static str, chan_info: &'static str) -> MemberInfo {
    let (conn_info, chan_info) = (conn_info.as_bytes().into(), chan_info.as_bytes().into());
    MemberInfo { client: client.into(), user: user.into(), conn_info, chan_info }
}

fn history(channel: &str) -> HistoryPage {
    let kept = |offset, data: &'static [u8]| HistoryPublication { offset, data: data.into(), ..Default::default() };
    let publications = match channel {
        "empty" => return HistoryPage::default(),
        "binary" => vec![kept(1, b"\0\xff")],
        _ => {
            let info = Some(member("c1", "u1", "{\"a\":1}", ""));
            let tags = vec![("k".into(), "v".into())];
            vec![kept(8, b"null"), HistoryPublication { info, tags, ..kept(9, b"{\"x\":1}") }]
        }
    };
    HistoryPage { publications, top: StreamPosition { offset: 9, epoch: "e".into() } }
}

impl ShardApi for Fake {
    async fn call(&self, call: ApiCall) -> ApiResult<ApiReply> {
        match (call.scope(), &call) {
            (CallScope::HomeOf(channel), _) => check_channel(channel)?,
            (_, ApiCall::Subscribe { channel, .. }) => check_channel(channel)?,
            _ => {}
        }
        let reply = match &call {
            ApiCall::Publish { channel, .. } => {
                ApiReply::Publish((&**channel == "kept").then(|| StreamPosition { offset: 7, epoch: "e".into() }))
            }
            ApiCall::Broadcast { .. } => panic!("a broadcast was not split"),
            ApiCall::Subscribe { .. }
            | ApiCall::Unsubscribe { .. }
            | ApiCall::Disconnect { .. }
            | ApiCall::Refresh { .. } => ApiReply::Connections(1),
            ApiCall::History { channel, .. } => ApiReply::History(history(channel)),
            ApiCall::HistoryRemove { .. } => ApiReply::Done,
            ApiCall::HistoryQuery { .. } => {
                let publication = HistoryPublication {
                    offset: 9,
                    data: b"{\"x\":1}"[..].into(),
                    time_ms: 1_700_000_000_123,
                    ..HistoryPublication::default()
                };
                let publications = vec![PastPublication { channel: "a".into(), publication }];
                ApiReply::PastPage(PastPage { publications, cursor: "next".into() })
            }
            ApiCall::Channels { .. } => ApiReply::Channels([("b".into(), 2), ("a".into(), 0)].into()),
            ApiCall::Presence { channel } if &**channel == "empty" => return Ok(ApiReply::Presence(Vec::new())),
            ApiCall::Presence { .. } => {
                let members = vec![member("c2", "", "", "[1]"), member("c1", "u1", "{\"a\":1}", "")];
                return Ok(ApiReply::Presence(members));
            }
            ApiCall::PresenceStats { channel } if &**channel == "empty" => {
                return Ok(ApiReply::PresenceStats(PresenceStats::default()));
            }
            ApiCall::PresenceStats { .. } => {
                return Ok(ApiReply::PresenceStats(PresenceStats { clients: 3, users: 2 }));
            }
            ApiCall::Info => {
                return Ok(ApiReply::Info { users: ["a", "b", "c", "d"].map(Box::from).into() });
            }
        };
        self.0.asked.lock().unwrap().push(call);
        Ok(reply)
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        let one = |shard| Snapshot { shard, connections: 5, channels: 3, subscriptions: 6, ..Snapshot::default() };
        (0..2).map(one).collect()
    }

    fn cluster(&self) -> Option<ClusterView> {
        let node = |uid: &str, state| {
            let items = [("a.b".to_owned(), 2.5), ("c".to_owned(), 7.0)].into();
            let metrics = Some(NodeMetrics { interval_s: 60.0, items });
            let (uid, name, version) = (uid.to_owned(), "other-name".to_owned(), "6.9.1".to_owned());
            let numbers =
                NodeInfo { clients: 1, users: 2, channels: 3, subscriptions: 4, uptime_s: 5, ..NodeInfo::default() };
            NodeView { info: NodeInfo { uid, name, version, metrics, ..numbers }, state, heard_ms_ago: 1_500 }
        };
        let others = vec![node("running", NodeState::Running), node("lost", NodeState::Lost)];
        let view = ClusterView { others, ..ClusterView::default() };
        self.0.is_in_cluster.load(Ordering::Relaxed).then_some(view)
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub grpc: SocketAddr,
    pub fake: Fake,
}

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Server {
    pub fn start(settings: Settings) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (listener, grpc_listener, fake) = (bind(), bind(), Fake::default());
        let (address, grpc) = (listener.local_addr().unwrap(), grpc_listener.local_addr().unwrap());
        let (shards, grpc_shards) = (fake.clone(), fake.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let settings = tokio::sync::watch::channel(Arc::new(settings)).1;
            runtime.spawn(corecast::api::grpc::service::serve(
                grpc_listener,
                grpc_shards,
                admin::api_settings(&settings),
            ));
            runtime.block_on(admin::serve(listener, shards, settings)).unwrap();
        });
        Self { address, grpc, fake }
    }

    pub fn with_key() -> Self {
        Self::start(settings())
    }

    pub fn request(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut text = format!("{line} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.into(), b.into())).collect();
        Answer { status, headers, body: body.into() }
    }

    /// An empty `method` makes a request in the old style.
    pub fn call_text(&self, method: &str, body: &str) -> Answer {
        let path = if method.is_empty() { "/api".into() } else { format!("/api/{method}") };
        self.request(&format!("POST {path}"), &[("X-API-Key", KEY)], body)
    }

    pub fn call(&self, method: &str, body: &Value) -> Answer {
        self.call_text(method, &body.to_string())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), &[], "")
    }
}

pub fn settings() -> Settings {
    settings_with(|_| {})
}

/// The same, with a change to the settings of the server API.
pub fn settings_with(change: impl FnOnce(&mut ApiSettings)) -> Settings {
    let mut api = ApiSettings {
        key: Some(KEY.into()),
        grpc: GrpcSettings { key: Some(KEY.into()), ..GrpcSettings::default() },
        uid: "the-uid".into(),
        name: "the-name".into(),
        channel_bytes_max: 255,
        data_bytes_max: 1000,
        ..ApiSettings::default()
    };
    change(&mut api);
    let client = Some("127.0.0.1:8000".parse().unwrap());
    Settings { api: Arc::new(api), client, anonymous: true, ..Settings::default() }
}

pub fn connections(user: &str, client: &str, session: &str) -> ConnectionSelector {
    ConnectionSelector { user: user.into(), client: client.into(), session: session.into() }
}

pub fn publication(data: &[u8]) -> Publish {
    Publish { data: data.into(), ..Publish::default() }
}

/// An error of a call, in JSON.
pub fn error(code: u32, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}
