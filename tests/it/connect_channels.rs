//! A connect command that requests many channels: the limit is checked before anything is done for them, and within the
//! limit each channel is looked at once.

#[path = "../sim/socket.rs"]
#[allow(dead_code)]
mod socket;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corecast::config::Config;
use corecast::embed::{Denied, HookClient, Hooks};
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::{Readiness, Shard, Wait};
use corecast::messaging::{Messaging, PATH, Settings};
use corecast::pubsub::Placement;
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;
use socket::{Pipe, Socket};

/// As many as fit into a message.
const CHANNELS: usize = 6_000;

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// Counts the channels that it is asked about.
struct Count(Arc<AtomicUsize>);

impl Hooks for Count {
    fn authorize_subscribe(&self, _: &HookClient<'_>, _: &str) -> Result<(), Denied> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What the client gets for a connect with so many channels, each of them `times` times, and how often the hook was asked.
fn connect(channel_limit: usize, channels: usize, times: usize) -> (String, usize) {
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.channel_limit = channel_limit;
    let asked = Arc::new(AtomicUsize::new(0));
    let hooks: Option<Arc<dyn Hooks>> = Some(Arc::new(Count(Arc::clone(&asked))));
    let settings = Settings { hooks, ..Settings::new(&config, |_| false) };
    let messaging = Messaging::new(Arc::new(settings), Placement::new(1, [7; 16]), 1);
    let wakers = vec![Box::new(Silent) as Box<dyn Wake>];
    let mail = mailbox::mesh(wakers, mailbox::Bounds { mailbox_batches_max: 64 }).pop().expect("one endpoint");
    let (log_ring, _) = LogRing::new(mail.me());
    let limits = EngineConfig { connections_max: 10, ..EngineConfig::default() };
    let mut shard = Shard::new(messaging, mail, Arc::new(limits), log_ring, 0);
    let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
    let Ok(conn) = shard.adopt(Socket(Rc::clone(&pipe))) else { panic!("there is room") };
    let upgrade = format!(
        "GET {PATH} HTTP/1.1\r\nHost: link\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let subs: Vec<_> = (0..channels * times).map(|n| format!("\"{:x}\":{{}}", n % channels)).collect();
    let mut bytes = upgrade.into_bytes();
    let command = format!("{{\"id\":1,\"connect\":{{\"subs\":{{{}}}}}}}", subs.join(","));
    client_frame(&mut bytes, Opcode::Text, command.as_bytes(), [1, 2, 3, 4]);
    pipe.borrow_mut().to_server.extend(bytes);
    shard.begin(0);
    shard.event(conn, Readiness { readable: true, ..Readiness::default() });
    for _ in 0..1_000 {
        if shard.end() != Wait::No {
            break;
        }
        shard.begin(0);
    }
    let received = String::from_utf8_lossy(&pipe.borrow().to_client).into_owned();
    (received, asked.load(Ordering::Relaxed))
}

#[test]
fn request_for_more_channels_than_the_limit_is_closed_before_any_of_them_is_looked_at() {
    for (channels, times) in [(CHANNELS, 1), (129, 1), (1, CHANNELS)] {
        let (received, asked) = connect(128, channels, times);
        assert_eq!(asked, 0, "{channels} channels, {times} times");
        assert!(received.ends_with("channel limit"), "{received:?}");
    }
}

#[test]
fn request_within_the_limit_brings_each_channel_once() {
    let (received, asked) = connect(CHANNELS, CHANNELS / 2, 2);
    assert_eq!(asked, CHANNELS, "the hook is asked once for each entry");
    assert_eq!(received.matches(":{").count() - received.matches("\"connect\":{").count(), CHANNELS / 2 + 1);
    let (received, _) = connect(128, 128, 1);
    assert!(received.contains("\"connect\":{"), "{received:?}");
}
