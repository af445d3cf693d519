//! One shard over simulated sockets, shared by the benches of pubsub and engine. Counts and times of it are those of
//! user space alone.

// Every bench is a crate of its own and uses its part of this.
#![allow(dead_code, unused_imports)]

mod scenes;

pub use scenes::{Room, Storm, echo};

use std::hint::black_box;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{Bounds, Wake, mesh};
use corecast::engine::net::source::Source;
use corecast::engine::{App, Readiness, Shard, Wait};
use corecast::ids::{ConnId, ShardId};
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

/// Every shard is awake.
struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// A shard with connections that a turn may make readable.
pub struct Bench<A: App> {
    shard: Shard<A, Stub>,
    conns: Vec<ConnId>,
}

const READABLE: Readiness = Readiness { readable: true, writable: true, read_closed: false, error: false };
const BROKEN: Readiness = Readiness { readable: true, writable: true, read_closed: true, error: true };

impl<A: App> Bench<A> {
    /// Room for so many connections, and none yet.
    fn new(app: A, connections_max: usize) -> Self {
        let wakers = vec![Box::new(NeverAsleep) as Box<dyn Wake>];
        let mail = mesh(wakers, Bounds { mailbox_batches_max: 256 }).pop().expect("one waker, one end");
        let limits = Arc::new(EngineConfig { connections_max: connections_max as u32, ..EngineConfig::default() });
        let (journal, _) = LogRing::new(ShardId(0));
        Self { shard: Shard::new(app, mail, limits, journal, 0), conns: Vec::new() }
    }

    /// One more connection, which says this request.
    fn open(&mut self, request: &Rc<[u8]>) -> ConnId {
        let source = Stub { says: Rc::clone(request), bytes_out: 0 };
        let conn = self.shard.adopt(source).unwrap_or_else(|_| unreachable!("there is room for all"));
        self.shard.read_new(conn);
        conn
    }

    /// The same, to stay.
    fn enter(&mut self, request: &Rc<[u8]>) {
        let conn = self.open(request);
        self.conns.push(conn);
    }

    /// From now on this connection says these frames whenever it is readable.
    fn says(&mut self, conn: usize, frames: &Rc<[u8]>) {
        self.tell(self.conns[conn], frames);
    }

    fn tell(&mut self, conn: ConnId, frames: &Rc<[u8]>) {
        self.shard.source(conn).expect("the connection is open").says = Rc::clone(frames);
    }

    /// The first `speakers` connections are readable; then turns until nothing is left to do.
    pub fn turn(&mut self, speakers: usize) {
        self.shard.begin(0);
        self.conns[..speakers].iter().for_each(|&conn| self.shard.event(conn, READABLE));
        self.run_until_idle();
    }

    fn run_until_idle(&mut self) {
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
