//! One shard over simulated sockets, shared by the benches of pubsub and engine. Its counts and times are those of user
//! space only.

// Every bench is a crate of its own and uses its part of this module.
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

/// Accepts every write whole, and has the same bytes to read whenever it is readable.
pub struct Stub {
    input: Rc<[u8]>,
    bytes_out: u64,
}

impl Source for Stub {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        into[..self.input.len()].copy_from_slice(&self.input);
        Ok(self.input.len())
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        into.extend_from_slice(&self.input);
        Ok(self.input.len())
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

/// A shard with connections that a turn makes readable.
pub struct Bench<A: App> {
    shard: Shard<A, Stub>,
    conns: Vec<ConnId>,
}

const READABLE: Readiness = Readiness { readable: true, writable: true, read_closed: false, error: false };
const BROKEN: Readiness = Readiness { readable: true, writable: true, read_closed: true, error: true };

impl<A: App> Bench<A> {
    /// A shard with room for this many connections.
    fn new(app: A, connections_max: usize) -> Self {
        let wakers = vec![Box::new(NeverAsleep) as Box<dyn Wake>];
        let mail = mesh(wakers, Bounds { mailbox_batches_max: 256 }).pop().expect("one waker, one endpoint");
        let limits = Arc::new(EngineConfig { connections_max: connections_max as u32, ..EngineConfig::default() });
        let (log_ring, _) = LogRing::new(ShardId(0));
        Self { shard: Shard::new(app, mail, limits, log_ring, 0), conns: Vec::new() }
    }

    /// Opens a connection whose first bytes are this request.
    fn open(&mut self, request: &Rc<[u8]>) -> ConnId {
        let source = Stub { input: Rc::clone(request), bytes_out: 0 };
        let conn = self.shard.adopt(source).unwrap_or_else(|_| unreachable!("there is room for all"));
        self.shard.read_new(conn);
        conn
    }

    /// The same, for a connection that stays open.
    fn open_and_keep(&mut self, request: &Rc<[u8]>) {
        let conn = self.open(request);
        self.conns.push(conn);
    }

    /// Sets the frames that this connection sends whenever it is readable.
    fn set_input(&mut self, conn: usize, frames: &Rc<[u8]>) {
        self.set_input_of(self.conns[conn], frames);
    }

    fn set_input_of(&mut self, conn: ConnId, frames: &Rc<[u8]>) {
        self.shard.source(conn).expect("the connection is open").input = Rc::clone(frames);
    }

    /// Makes the first `speakers` connections readable; then runs turns until the shard is idle.
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

    /// Messages delivered to subscribers, replies, and writes.
    pub fn delivered(&self) -> (u64, u64, u64) {
        let counters = &self.shard.cx.counters;
        (counters.deliveries, counters.replies, counters.writes)
    }
}
