//! Clients that follow one channel through every outage, and publishers that remember what was acknowledged. Publications are
//! numbers, so that a test knows which one is missing, which came twice and which came too early.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use super::{KEY, try_http, until};

/// How long a follower waits for bytes before it looks whether it is to end.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// What a follower got so far.
#[derive(Clone, Default, Debug)]
pub struct Followed {
    /// The numbers, in the order in which they came.
    pub numbers: Vec<u64>,
    /// Recoveries that the server declared incomplete.
    pub unrecovered: usize,
    /// Recoveries that brought everything.
    pub recovered: usize,
    /// Unsubscribe pushes that ask to come back (2500 and above).
    pub unsubscribed: usize,
    /// Connections that the server closed.
    pub closed: Vec<String>,
    /// Temporary errors of subscribes.
    pub delayed: usize,
    pub is_subscribed: bool,
}

pub struct Follower {
    followed: Arc<Mutex<Followed>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows a channel at one of these addresses, the first that accepts. Ends its wait when it is subscribed.
    pub fn start(at: &[SocketAddr], channel: &str) -> Self {
        let (followed, stop) = (Arc::<Mutex<Followed>>::default(), Arc::<AtomicBool>::default());
        let session = Session {
            at: at.to_vec(),
            channel: channel.into(),
            position: None,
            followed: Arc::clone(&followed),
            stop: Arc::clone(&stop),
        };
        let thread = Some(std::thread::spawn(move || session.run()));
        let follower = Self { followed, stop, thread };
        until(|| format!("no subscription: {:?}", follower.so_far()), || follower.so_far().is_subscribed.then_some(()));
        follower
    }

    pub fn so_far(&self) -> Followed {
        self.followed.lock().expect("never poisoned: no code panics while holding the lock").clone()
    }

    /// Waits for a number.
    pub fn wait_for(&self, number: u64) {
        until(
            || format!("{number} does not come: {}", self.summary()),
            || self.so_far().numbers.contains(&number).then_some(()),
        );
    }

    /// Waits for any number behind this one.
    pub fn wait_for_later_than(&self, number: u64) {
        until(
            || format!("nothing comes after {number}: {}", self.summary()),
            || self.so_far().numbers.iter().any(|later| *later > number).then_some(()),
        );
    }

    fn summary(&self) -> String {
        let last = self.so_far().numbers.last().copied();
        format!("the last is {last:?}: {:?}", Followed { numbers: Vec::new(), ..self.so_far() })
    }

    /// Ends it. Panics unless every acknowledged publication came once and in order, or the server said that some are lost.
    pub fn finish(mut self, acknowledged: &[u64]) -> Followed {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("it does not panic");
        let followed = self.so_far();
        followed.check(acknowledged);
        followed
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Followed {
    fn check(&self, acknowledged: &[u64]) {
        let mut known = HashSet::new();
        let twice: Vec<_> = self.numbers.iter().filter(|number| !known.insert(**number)).collect();
        assert!(twice.is_empty(), "came twice: {twice:?}");
        let wanted: HashSet<_> = acknowledged.iter().copied().collect();
        let came: Vec<_> = self.numbers.iter().copied().filter(|number| wanted.contains(number)).collect();
        assert!(came.is_sorted(), "not in order: {came:?}");
        let lost: Vec<_> = acknowledged.iter().filter(|number| !known.contains(number)).collect();
        assert!(
            lost.is_empty() || self.unrecovered > 0,
            "{} of {} acknowledged publications are lost without a word: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
    }
}

/// A follower's side of its connections.
struct Session {
    at: Vec<SocketAddr>,
    channel: String,
    /// Epoch and offset of the last publication.
    position: Option<(String, u64)>,
    followed: Arc<Mutex<Followed>>,
    stop: Arc<AtomicBool>,
}

/// Why the follower leaves a connection.
enum Leave {
    /// It is to end.
    Stop,
    Closed(String),
}

impl Session {
    fn run(mut self) {
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let at = self.at[next % self.at.len()];
            let left = match open(at) {
                Some(ws) => self.follow(ws),
                None => {
                    next += 1;
                    wait_a_little();
                    continue;
                }
            };
            self.note(|followed| followed.is_subscribed = false);
            match left {
                Leave::Stop => return,
                Leave::Closed(why) => {
                    next += 1;
                    self.note(|followed| followed.closed.push(why));
                }
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Followed)) {
        change(&mut self.followed.lock().expect("never poisoned: no code panics while holding the lock"));
    }

    fn follow(&mut self, mut ws: WebSocket<TcpStream>) -> Leave {
        if let Err(why) = send(&mut ws, &json!({"id": 1, "connect": {}})) {
            return Leave::Closed(why);
        }
        let mut must_subscribe = true;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Leave::Stop;
            }
            let text = match ws.read() {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(close)) => return Leave::Closed(format!("{close:?}")),
                Ok(_) => continue,
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    continue;
                }
                Err(error) => return Leave::Closed(error.to_string()),
            };
            for line in text.trim_end().split('\n') {
                let message: Value = serde_json::from_str(line).expect("JSON");
                if line == "{}" {
                    let _ = send(&mut ws, &json!({}));
                }
                must_subscribe |= self.handle(message);
            }
            if std::mem::take(&mut must_subscribe)
                && let Err(why) = send(&mut ws, &self.subscribe())
            {
                return Leave::Closed(why);
            }
        }
    }

    fn subscribe(&self) -> Value {
        let mut subscribe = json!({"channel": self.channel, "recoverable": true, "positioned": true});
        if let Some((epoch, offset)) = &self.position {
            subscribe["recover"] = json!(true);
            subscribe["epoch"] = json!(epoch);
            subscribe["offset"] = json!(offset);
        }
        json!({"id": 2, "subscribe": subscribe})
    }

    /// True if the follower has to subscribe (again).
    fn handle(&mut self, mut message: Value) -> bool {
        if let Some(code) = message["error"]["code"].as_u64() {
            assert!(message["error"]["temporary"] == json!(true), "not a temporary error: {code} {message}");
            self.note(|followed| followed.delayed += 1);
            wait_a_little();
            return true;
        }
        if message["subscribe"].is_object() {
            self.subscribed(message["subscribe"].take());
        }
        let push = &mut message["push"];
        if push["channel"] == json!(self.channel) && push["pub"].is_object() {
            self.publication(&push["pub"]);
        }
        if let Some(code) = push["unsubscribe"]["code"].as_u64() {
            assert!(code >= 2500, "unsubscribed for good: {message}");
            self.note(|followed| (followed.unsubscribed, followed.is_subscribed) = (followed.unsubscribed + 1, false));
            return true;
        }
        false
    }

    fn subscribed(&mut self, reply: Value) {
        let epoch = reply["epoch"].as_str().unwrap_or_default().to_owned();
        let was_recovering = self.position.is_some();
        let is_recovered = reply["recovered"] == json!(true);
        for publication in reply["publications"].as_array().into_iter().flatten() {
            self.publication(publication);
        }
        // A reply with publications has the client's own offset.
        let last = reply["publications"].as_array().and_then(|publications| publications.last()).unwrap_or(&reply);
        self.position = Some((epoch, last["offset"].as_u64().unwrap_or(0)));
        self.note(|followed| {
            followed.is_subscribed = true;
            if was_recovering && is_recovered {
                followed.recovered += 1;
            } else if was_recovering {
                followed.unrecovered += 1;
            }
        });
    }

    fn publication(&mut self, publication: &Value) {
        if let (Some(offset), Some((_, last))) = (publication["offset"].as_u64(), &mut self.position) {
            *last = offset;
        }
        let number = publication["data"]["n"].as_u64().expect("a number");
        self.note(|followed| followed.numbers.push(number));
    }
}

fn open(at: SocketAddr) -> Option<WebSocket<TcpStream>> {
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(super::PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let url = format!("ws://{at}/connection/websocket");
    let (ws, _) = tungstenite::client::client_with_config(url, stream, Some(config)).ok()?;
    ws.get_ref().set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    Some(ws)
}

fn send(ws: &mut WebSocket<TcpStream>, command: &Value) -> Result<(), String> {
    ws.send(Message::text(command.to_string())).map_err(|error| error.to_string())
}

/// Between two attempts, and between two publications: what an outage holds up stays within the bounds of recovery.
fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Lets time pass while something is stopped: the outage itself is what takes this long.
pub fn wait_out(time: Duration) {
    std::thread::sleep(time);
}

/// Publishes numbers to one channel, one after the other, until it is stopped.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    count: Arc<Mutex<Published>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Default, Debug)]
pub struct Published {
    pub acknowledged: Vec<u64>,
    /// Those with an error, or without an answer.
    pub failed: usize,
}

impl Publisher {
    /// Publishes through the server API at these addresses in turn.
    pub fn start(api: &[SocketAddr], channel: &str) -> Self {
        Self::with_padding(api, channel, 0)
    }

    /// With so many bytes besides the number.
    pub fn with_padding(api: &[SocketAddr], channel: &str, padding: usize) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Published>>::default());
        let (ending, counting) = (Arc::clone(&stop), Arc::clone(&count));
        let (api, channel, padding) = (api.to_vec(), channel.to_owned(), "x".repeat(padding));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !ending.load(Ordering::Relaxed) {
                number += 1;
                let is_acknowledged = publish(api[number as usize % api.len()], &channel, number, &padding);
                let mut count = counting.lock().expect("never poisoned: no code panics while holding the lock");
                if is_acknowledged {
                    count.acknowledged.push(number);
                } else {
                    count.failed += 1;
                }
                drop(count);
                wait_a_little();
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    pub fn so_far(&self) -> Published {
        self.count.lock().expect("never poisoned: no code panics while holding the lock").clone()
    }

    /// Waits until so many more are acknowledged.
    pub fn wait_for_more(&self, count: usize) {
        let before = self.so_far().acknowledged.len();
        until(
            || format!("no publication is acknowledged any more: {} so far", self.so_far().acknowledged.len()),
            || (self.so_far().acknowledged.len() >= before + count).then_some(()),
        );
    }

    /// Waits until so many more have failed.
    pub fn wait_for_failures(&self, count: usize) {
        let before = self.so_far().failed;
        until(|| "no publication fails".into(), || (self.so_far().failed >= before + count).then_some(()));
    }

    /// Ends it, and returns what was acknowledged.
    pub fn finish(mut self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("it does not panic");
        self.so_far()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Publishes one number; false if it failed.
pub fn publish(api: SocketAddr, channel: &str, number: u64, padding: &str) -> bool {
    let body = json!({"channel": channel, "data": {"n": number, "padding": padding}}).to_string();
    match try_http(api, "POST", "/api/publish", &[("X-API-Key", KEY)], &body) {
        Ok((200, answer)) => serde_json::from_str::<Value>(&answer).is_ok_and(|answer| answer["result"].is_object()),
        _ => false,
    }
}
