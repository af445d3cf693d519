//! The admin address and the gRPC address over real sockets, with shards played by a fake that remembers what it was asked
//! and answers as its channels' names say.

// Every test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corecast::admin::{self, AskError, Asked, Settings, ShardApi, Stats};
use corecast::auth::grant::{Publish, RefreshGrant, SubscribeGrant};
use corecast::engine::stats::Snapshot;
use corecast::messaging::control_request::{History, HistoryQuery, Kept, Member, Place, Who};
use corecast::protocol::ErrorCode;
use serde_json::{Value, json};

pub const KEY: &str = "secret";

/// What a shard was asked, less what has no answer of its own.
#[derive(Clone, PartialEq, Debug)]
pub enum Question {
    Publish(String, Publish),
    History(String, HistoryQuery),
    HistoryRemove(String),
    Subscribe(Who, String, SubscribeGrant, Option<Place>),
    Unsubscribe(Who, String),
    Disconnect(Who, Vec<Box<str>>, u16, String),
    Refresh(Who, RefreshGrant),
    Channels(String),
}

#[derive(Clone, Default)]
pub struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Question>>,
    draining: AtomicBool,
}

impl Fake {
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// What was asked since it was last looked at.
    pub fn asked(&self) -> Vec<Question> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    /// As `asked`, where nothing but publications may have been.
    pub fn published(&self) -> Vec<(String, String)> {
        let text = |question| match question {
            Question::Publish(channel, publish) => (channel, String::from_utf8(publish.data).unwrap()),
            other => panic!("{other:?}"),
        };
        self.asked().into_iter().map(text).collect()
    }

    fn note(&self, question: Question) {
        self.0.asked.lock().unwrap().push(question);
    }
}

fn judge(channel: &str) -> Asked<()> {
    match channel {
        "busy" => Err(AskError::TooManyRequests),
        "silent" => Err(AskError::OutcomeUnknown),
        "ns:unknown" => Err(ErrorCode::UnknownChannel.into()),
        "off" => Err(ErrorCode::NotAvailable.into()),
        "lost" => Err(ErrorCode::UnrecoverablePosition.into()),
        _ => Ok(()),
    }
}

fn member(client: &str, user: &str, conn_info: &'static str, chan_info: &'static str) -> Member {
    let (conn_info, chan_info) = (conn_info.as_bytes().into(), chan_info.as_bytes().into());
    Member { client: client.into(), user: user.into(), conn_info, chan_info }
}

impl ShardApi for Fake {
    async fn publish(&self, channel: &str, publish: Publish) -> Asked<Option<Place>> {
        judge(channel)?;
        self.note(Question::Publish(channel.into(), publish));
        Ok((channel == "kept").then(|| Place { offset: 7, epoch: "e".into() }))
    }

    async fn history(&self, channel: &str, query: HistoryQuery) -> Asked<History> {
        judge(channel)?;
        self.note(Question::History(channel.into(), query));
        let top = Place { offset: 9, epoch: "e".into() };
        let kept = |offset, data: &'static [u8]| Kept { offset, data: data.into(), ..Kept::default() };
        let publications = match channel {
            "empty" => return Ok(History::default()),
            "binary" => vec![kept(1, b"\0\xff")],
            _ => {
                let info = Some(member("c1", "u1", "{\"a\":1}", ""));
                vec![kept(8, b"null"), Kept { info, tags: vec![("k".into(), "v".into())], ..kept(9, b"{\"x\":1}") }]
            }
        };
        Ok(History { publications, top })
    }

    async fn history_remove(&self, channel: &str) -> Asked<()> {
        judge(channel)?;
        self.note(Question::HistoryRemove(channel.into()));
        Ok(())
    }

    async fn presence(&self, channel: &str) -> Asked<Vec<Member>> {
        judge(channel)?;
        Ok(match channel {
            "empty" => Vec::new(),
            _ => vec![member("c2", "", "", "[1]"), member("c1", "u1", "{\"a\":1}", "")],
        })
    }

    async fn presence_stats(&self, channel: &str) -> Asked<Stats> {
        judge(channel)?;
        Ok(if channel == "empty" { Stats::default() } else { Stats { clients: 3, users: 2 } })
    }

    async fn subscribe(&self, who: Who, channel: &str, grant: SubscribeGrant, since: Option<Place>) -> Asked<u32> {
        judge(channel)?;
        self.note(Question::Subscribe(who, channel.into(), grant, since));
        Ok(1)
    }

    async fn unsubscribe(&self, who: Who, channel: &str) -> Asked<u32> {
        self.note(Question::Unsubscribe(who, channel.into()));
        Ok(1)
    }

    async fn disconnect(&self, who: Who, spared: Vec<Box<str>>, code: u16, reason: &str) -> Asked<u32> {
        self.note(Question::Disconnect(who, spared, code, reason.into()));
        Ok(1)
    }

    async fn refresh(&self, who: Who, renewal: RefreshGrant) -> Asked<u32> {
        self.note(Question::Refresh(who, renewal));
        Ok(1)
    }

    async fn channels(&self, pattern: &str) -> Asked<BTreeMap<Box<str>, u32>> {
        self.note(Question::Channels(pattern.into()));
        Ok([("b".into(), 2), ("a".into(), 0)].into())
    }

    async fn users(&self) -> Asked<usize> {
        Ok(4)
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        let one = |shard| Snapshot { shard, connections: 5, channels: 3, subscriptions: 6, ..Snapshot::default() };
        (0..2).map(one).collect()
    }

    fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
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
        let (fleet, also) = (fake.clone(), fake.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let settings = tokio::sync::watch::channel(Arc::new(settings)).1;
            runtime.spawn(corecast::api::grpc::serve(grpc_listener, also, settings.clone()));
            runtime.block_on(admin::serve(listener, fleet, settings)).unwrap();
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

    /// `method` is empty for the old style.
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
    Settings {
        api_key: Some(KEY.into()),
        grpc: corecast::api::grpc::Settings { key: Some(KEY.into()), ..Default::default() },
        uid: "the-uid".into(),
        name: "the-name".into(),
        client: Some("127.0.0.1:8000".parse().unwrap()),
        anonymous: true,
        channel_bytes_max: 255,
        data_bytes_max: 1000,
        ..Settings::default()
    }
}

pub fn who(user: &str, client: &str, session: &str) -> Who {
    Who { user: user.into(), client: client.into(), session: session.into() }
}

pub fn publication(data: &[u8]) -> Publish {
    Publish { data: data.into(), ..Publish::default() }
}

/// An error of a call, as JSON has it.
pub fn error(code: u32, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}
