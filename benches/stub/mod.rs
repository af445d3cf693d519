//! One shard over sockets that are none: what the benches of hub and engine share. Counts and times of it are those of
//! user space alone.

use std::hint::black_box;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corecast::bus::{Bounds, Wake, mesh};
use corecast::echo::{self, Echo};
use corecast::hub::Homes;
use corecast::ids::{ConnId, ShardId};
use corecast::limits::EngineLimits;
use corecast::node::{self, Node, Settings};
use corecast::shard::journal::Journal;
use corecast::shard::source::Source;
use corecast::shard::{App, Readiness, Shard, Wait};
use corecast::ws::{Opcode, encode};
use rustix::io::Errno;

/// Takes all at once, and has the same bytes to say whenever it is readable.
pub struct Stub {
    says: Rc<[u8]>,
    bytes_out: u64,
}

impl Source for Stub {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        into[..self.says.len()].copy_from_slice(&self.says);
        Ok(self.says.len())
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        into.extend_from_slice(&self.says);
        Ok(self.says.len())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.bytes_out += black_box(bytes).len() as u64;
        Ok(bytes.len())
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.bytes_out += bytes as u64;
        Ok(bytes)
    }

    fn shutdown_write(&mut self) {}
}

/// Nobody sleeps.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// A shard with `count` connections, which a turn may make readable.
pub struct Bench<A: App> {
    shard: Shard<A, Stub>,
    conns: Vec<ConnId>,
}

impl<A: App> Bench<A> {
    fn new(app: A, path: &str, count: usize) -> Self {
        let wakers = vec![Box::new(Nobody) as Box<dyn Wake>];
        let mail = mesh(wakers, Bounds { mailbox_batches_max: 256 }).pop().expect("one waker, one end");
        let limits = Arc::new(EngineLimits { connections_max: count as u32, ..EngineLimits::default() });
        let (journal, _) = Journal::new(ShardId(0));
        let mut shard = Shard::new(app, mail, limits, journal, 0);
        let request: Rc<[u8]> = Rc::from(upgrade(path).into_bytes());
        let adopt = |_| {
            let source = Stub { says: Rc::clone(&request), bytes_out: 0 };
            let conn = shard.adopt(source).unwrap_or_else(|_| unreachable!("there is room for all"));
            shard.read_fresh(conn);
            conn
        };
        let conns = (0..count).map(adopt).collect();
        Self { shard, conns }
    }

    /// From now on this connection says these frames whenever it is readable.
    fn says(&mut self, conn: usize, frames: &Rc<[u8]>) {
        self.shard.source(self.conns[conn]).expect("the connection is open").says = Rc::clone(frames);
    }

    /// The first `speakers` connections are readable; then turns until nothing is left to do.
    pub fn turn(&mut self, speakers: usize) {
        const READABLE: Readiness = Readiness { readable: true, writable: true, read_closed: false, error: false };
        self.shard.begin(0);
        self.conns[..speakers].iter().for_each(|&conn| self.shard.event(conn, READABLE));
        while self.shard.end() == Wait::No {
            self.shard.begin(0);
        }
    }

    /// Messages that casts have brought to subscribers, replies, and the writes that took.
    pub fn delivered(&self) -> (u64, u64, u64) {
        let counters = &self.shard.cx.counters;
        (counters.deliveries, counters.replies, counters.writes)
    }
}

/// A hub: `subscribers` of one channel. The first of them publishes `window` messages of 64 bytes when it speaks.
pub fn hub(subscribers: usize, window: usize) -> Bench<Node> {
    let settings = Settings {
        insecure: true,
        allow_subscribe: true,
        allow_publish: true,
        any_namespace: true,
        tell_shard: false,
        allowed_origins: Vec::new(),
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        stale_close_delay: Duration::from_secs(10),
        channels_max: 128,
        channel_bytes_max: 255,
        history_max: 0,
    };
    let mut bench = Bench::new(Node::new(Arc::new(settings), Homes::new(1, [7; 16]), 1), node::PATH, subscribers);
    let enter = frames("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"bench\"}}", 1);
    (0..subscribers).for_each(|conn| bench.says(conn, &enter));
    bench.turn(subscribers);
    assert_eq!(bench.shard.snapshot().subscriptions, subscribers as u64);
    let data = "x".repeat(62);
    let publish = format!("{{\"id\":3,\"publish\":{{\"channel\":\"bench\",\"data\":\"{data}\"}}}}");
    bench.says(0, &frames(&publish, window));
    let (deliveries, ..) = bench.delivered();
    bench.turn(1);
    assert_eq!(bench.delivered().0 - deliveries, (subscribers * window) as u64);
    bench
}

/// Echo: `clients`, each of which says `depth` messages of `payload_bytes` when it speaks.
pub fn echo(clients: usize, payload_bytes: usize, depth: usize) -> Bench<Echo> {
    let mut bench = Bench::new(Echo::default(), echo::PATH, clients);
    let train = frames(&"x".repeat(payload_bytes), depth);
    (0..clients).for_each(|conn| bench.says(conn, &train));
    let (_, replies, writes) = bench.delivered();
    bench.turn(clients);
    let (_, replied, written) = bench.delivered();
    assert_eq!((replied - replies, written - writes), ((clients * depth) as u64, clients as u64));
    bench
}

/// Text frames as a client sends them.
fn frames(text: &str, count: usize) -> Rc<[u8]> {
    let mut out = Vec::new();
    (0..count).for_each(|_| encode::client_frame(&mut out, Opcode::Text, text.as_bytes(), [0x12, 0x34, 0x56, 0x78]));
    out.into()
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
