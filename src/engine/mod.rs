//! The event loop of one core: sockets, frames and deadlines. It knows no dialect and no channels.
//!
//! - `app`     what a shard asks of the layer above · `cx` what it offers it
//! - `conn`    a connection's phase, edges and gate · `source` the byte source below the codec
//! - `read`    bytes in · `handle` what they mean: upgrade, frames, messages
//! - `flush`   bytes out: replies and casts · `endings` every way to end
//! - `turn`    one turn, in its order, over fake or real sockets · `run` the same over mio
//! - `engine` all shards of a process, and how a program puts its own app on them
//! - `slow`    peers that do not read: policies carried out, and what the app is told of it
//! - `squeeze` permessage-deflate: the compressors of the shard · `tls` the byte source that encrypts
//! - `door`    who is let in · `addresses` the table behind it · `proxied` the PROXY header · `guests` whom connections are from
//! - `listen`  listeners and their options · `tables` a file table for each shard · `timers` the wheel · `pin` cores · `port` the control thread's mailbox
//!
//! `Shard` is generic over its app and its sources, so that the simulation runs this very code over fake sockets.

pub mod admission;
pub mod app;
pub mod config;
pub mod connection;
pub mod context;
pub mod control_port;
pub(crate) mod deflate;
pub mod event_loop;
pub(crate) mod flush;
pub mod log_ring;
pub mod mailbox;
pub mod net;
pub mod outbound;
pub mod stats;
pub mod threads;
pub mod timer_wheel;
pub mod token_bucket;
pub mod turn;

pub use admission::overload::Admission;
pub use admission::peer::{Peer, client_of};
pub use app::{App, EngineClose, Flow, Message, Route};
pub use context::{Context, Mailbox};
pub use timer_wheel::Millis;
pub use turn::{Readiness, Wait};

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::config::{EngineConfig, RECEIVE_BYTES};
use crate::ids::ConnId;
use crate::sys::advise_huge;
use admission::address_table::AddressSlot;
use connection::state::{Conn, Phase};
use flush::Flush;
use log_ring::LogRing;
use mailbox::Batch;
use net::source::Source;

/// One shard: an app, its connections, and where they stand in a turn.
pub struct Shard<A: App, S: Source> {
    pub app: A,
    pub cx: Context<A::Mail>,
    /// In slab order beside `cx.conns`; `None` where the socket is closed.
    sources: Vec<Option<S>>,
    receive: Box<[u8]>,
    flush: Flush,
    /// Deliveries in the next slice of a flush.
    slice: u32,
    /// Connections that must be looked at although no new edge will come.
    ready: VecDeque<ConnId>,
    /// Connections whose app could not take a message whole.
    stalled: Vec<ConnId>,
    /// Those who are no longer open and that the app has not forgotten yet; then slots that wait for the end of a flush.
    leaving: VecDeque<ConnId>,
    graves: Vec<u32>,
    /// A batch that a budget cut in two.
    held: Option<Batch<A::Mail>>,
    drain: Option<turn::Drain>,
    generations: u32,
    due: Vec<u32>,
    guests: crate::engine::admission::peer::PeerTable,
    lag: crate::engine::admission::overload::Lag,
    byte_rate: Option<crate::engine::token_bucket::Rate>,
    /// The kernel may have something to tell that deadlines wait for.
    deadlines_held: bool,
}

impl<A: App, S: Source> Shard<A, S> {
    pub fn new(app: A, mail: Mailbox<A::Mail>, limits: Arc<EngineConfig>, journal: LogRing, now: Millis) -> Self {
        let connections_max = limits.connections_max as usize;
        Self {
            app,
            cx: Context::new(mail, Arc::clone(&limits), journal, now),
            sources: Vec::with_capacity(connections_max),
            receive: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            flush: Flush::default(),
            slice: limits.deliveries_per_slice,
            ready: VecDeque::new(),
            stalled: Vec::new(),
            leaving: VecDeque::new(),
            graves: Vec::new(),
            held: None,
            drain: None,
            generations: 0,
            due: Vec::new(),
            guests: crate::engine::admission::peer::PeerTable::default(),
            lag: crate::engine::admission::overload::Lag::default(),
            byte_rate: crate::engine::token_bucket::Rate::new(limits.bytes_per_second, limits.bytes_burst),
            deadlines_held: false,
        }
    }

    /// Asks for huge pages under what every connection has a place in, where that is wished. No such pages: no harm.
    pub(crate) fn settle(&mut self) {
        if !self.cx.limits.machine.huge_pages {
            return;
        }
        let most = self.cx.limits.connections_max as usize;
        self.cx.gates.reserve(most);
        // A slab shows where it lies only by what it holds.
        let key = self.cx.conns.insert(Conn::fresh(0, Phase::Dead));
        let slab = advise_huge(&raw const self.cx.conns[key], most);
        self.cx.conns.remove(key);
        let beside = advise_huge(self.sources.as_ptr(), most).and(advise_huge(self.cx.gates.as_ptr(), most));
        if let Err(error) = slab.and(beside) {
            self.note(crate::engine::log_ring::LogRecord::NoHugePages { errno: error.raw_os_error().unwrap_or(0) });
        }
    }

    /// From now on these hold.
    pub fn set_limits(&mut self, limits: Arc<EngineConfig>) {
        self.byte_rate = crate::engine::token_bucket::Rate::new(limits.bytes_per_second, limits.bytes_burst);
        self.slice = limits.deliveries_per_slice;
        self.cx.limits = limits;
    }

    /// Takes over a fresh connection, or gives it back where the shard is full.
    pub fn adopt(&mut self, source: S) -> Result<ConnId, S> {
        self.adopt_seated(source, AddressSlot::NONE, Phase::Upgrading)
    }

    fn adopt_seated(&mut self, source: S, seat: AddressSlot, phase: Phase) -> Result<ConnId, S> {
        if self.cx.conns.len() >= self.cx.limits.connections_max as usize {
            return Err(source);
        }
        self.generations = self.generations.wrapping_add(1);
        let conn = Conn::fresh(self.generations, phase);
        let slot = self.cx.conns.insert(conn);
        if slot == self.sources.len() {
            self.sources.push(Some(source));
            self.cx.gates.push(crate::engine::connection::state::gate::DEAF);
        } else {
            self.sources[slot] = Some(source);
            self.cx.gates[slot] = crate::engine::connection::state::gate::DEAF;
        }
        self.cx.counters.accepted += 1;
        let slot = slot as u32;
        self.seat(slot, seat);
        self.cx.wheel.set(slot, self.cx.now + self.cx.limits.upgrade_timeout.as_millis() as Millis);
        Ok(ConnId::new(slot, self.generations))
    }

    pub fn source(&mut self, conn: ConnId) -> Option<&mut S> {
        self.cx.conn_at(conn.slot).filter(|&now| now == conn)?;
        self.sources[conn.index()].as_mut()
    }

    /// Connections whose slot is taken, dead ones among them.
    pub fn occupied(&self) -> usize {
        self.cx.conns.len()
    }

    fn conn(&mut self, slot: u32) -> &mut Conn {
        &mut self.cx.conns[slot as usize]
    }

    fn id(&self, slot: u32) -> ConnId {
        ConnId::new(slot, self.cx.conns[slot as usize].generation)
    }
}
