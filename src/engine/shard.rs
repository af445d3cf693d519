//! One shard: an app, its connections, and their state within a turn. This file declares the parts; the methods are in
//! `turn` (the order of a turn) and in `connection` (`read`, `frames`, `upgrade`, `close`).
//!
//! `Shard` is generic over its app and its sources, so that the simulation runs the production code over simulated
//! sockets.

use std::collections::VecDeque;
use std::sync::Arc;

use super::admission::overload::Admission;
use super::admission::peers::Peers;
use super::app::App;
use super::config::{EngineConfig, RECEIVE_BYTES};
use super::connection::state::Conn;
use super::connection::write::Sockets;
use super::context::{Context, Mailbox};
use super::drain::{Drain, Upgrades};
use super::flush::Flush;
use super::log_ring::{LogRecord, LogRing};
use super::mailbox::Batch;
use super::net::source::Source;
use super::stats::Snapshot;
use super::timer_wheel::Millis;
use super::turn_time::Clock;
use crate::ids::ConnId;

/// One shard: an app, its connections, and where they are in a turn.
pub struct Shard<A: App, S: Source> {
    /// The app of this shard.
    pub app: A,
    /// What the app acts on.
    pub cx: Context<A::Mail>,
    pub(super) sockets: Sockets<S>,
    pub(super) peers: Peers,
    /// What one read takes, of any connection.
    pub(super) receive: Box<[u8]>,
    /// Bytes that one read takes at most.
    pub(super) read_bytes_max: usize,
    pub(super) flush: Flush,
    /// Connections that the kernel reported and that were not read yet, since the time of the turn was over. No new edge
    /// will come for them.
    pub(super) ready: VecDeque<ConnId>,
    /// Connections that have used up their share of a turn and have more: they are read after all others.
    pub(super) spent: VecDeque<ConnId>,
    /// How many of them did so before this turn.
    pub(super) spent_before: usize,
    /// Connections whose app could not take a message whole.
    pub(super) stalled: VecDeque<ConnId>,
    /// The time of the turn was over before each of them was offered its message again.
    pub(super) stalled_wait: bool,
    /// Connections that are no longer open and that the app has not forgotten yet.
    pub(super) leaving: VecDeque<ConnId>,
    /// Slots that the app has forgotten, and that wait for the end of the flush.
    pub(super) closed_slots: Vec<u32>,
    /// A batch of mail that a budget cut in two.
    pub(super) partial_batch: Option<Batch<A::Mail>>,
    /// Turns in a row that began with mail of earlier reads left to handle.
    pub(super) turns_behind: u32,
    pub(super) drain: Option<Drain>,
    /// Connections that close as soon as the app has answered them.
    pub(super) answering: Vec<ConnId>,
    /// Slots whose deadline has come, in the turn that handles them.
    pub(super) due: Vec<u32>,
    /// The kernel may have something to report that deadlines have to wait for.
    pub(super) deadlines_held: bool,
}

impl<A: App, S: Source> Shard<A, S> {
    /// A shard without connections. `now` is the time of its clock.
    pub fn new(app: A, mail: Mailbox<A::Mail>, config: Arc<EngineConfig>, log_ring: LogRing, now: Millis) -> Self {
        let connections_max = config.connections_max as usize;
        Self {
            app,
            cx: Context::new(mail, Arc::clone(&config), log_ring, now),
            sockets: Sockets::new(connections_max),
            peers: Peers::new(&config),
            receive: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            read_bytes_max: RECEIVE_BYTES,
            flush: Flush::new(config.deliveries_per_slice),
            ready: VecDeque::new(),
            spent: VecDeque::new(),
            spent_before: 0,
            stalled: VecDeque::new(),
            stalled_wait: false,
            leaving: VecDeque::new(),
            closed_slots: Vec::new(),
            partial_batch: None,
            turns_behind: 0,
            drain: None,
            answering: Vec::new(),
            due: Vec::new(),
            deadlines_held: false,
        }
    }

    /// From now on this shard counts addresses, and sheds load, together with others.
    pub(crate) fn share_admission(&mut self, admission: Arc<Admission>) {
        self.peers.share(admission);
    }

    /// Asks for huge pages under what every connection has a part of, if the settings ask for them. Small pages do as well.
    pub(crate) fn advise_huge_pages(&mut self) {
        if !self.cx.config.machine.huge_pages {
            return;
        }
        let most = self.cx.config.connections_max as usize;
        let advised = self.cx.connections.advise_huge_pages(most).and(self.sockets.advise_huge_pages(most));
        if let Err(error) = advised {
            self.cx.log(LogRecord::NoHugePages { errno: error.raw_os_error().unwrap_or(0) });
        }
    }

    /// From now on these settings hold.
    pub fn set_config(&mut self, config: Arc<EngineConfig>) {
        self.peers.set_config(&config);
        self.flush.set_slice(config.deliveries_per_slice);
        self.cx.time.set_config(&config);
        self.cx.config = config;
    }

    /// From now on the time of a turn is measured by this clock. A simulation has one of its own.
    pub fn set_clock(&mut self, clock: Clock) {
        self.cx.time.set_clock(clock);
    }

    /// The socket of a connection that is not closed.
    pub fn source(&mut self, conn: ConnId) -> Option<&mut S> {
        self.cx.connections.get(conn)?;
        self.sockets.get_mut(conn.slot)
    }

    /// Taken slots: connections in any phase, closed ones among them.
    pub fn occupied(&self) -> usize {
        self.cx.connections.len()
    }

    /// From here on no new connection is admitted, and open ones are closed in waves until `window` is over, served until then.
    pub fn begin_drain(&mut self, window: Millis, upgrades: Upgrades) {
        let now = self.cx.now;
        self.drain.get_or_insert_with(|| Drain::new(now, window, upgrades));
    }

    /// Upgrades under way are refused with 503.
    pub(crate) fn refuses_upgrades(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.upgrades == Upgrades::Refuse)
    }

    /// `begin_drain` was called.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// A flush was cut and goes on in the next turn.
    pub fn is_flushing(&self) -> bool {
        self.flush.is_open()
    }

    /// No connection is left and nothing is on its way out.
    pub fn is_idle(&self) -> bool {
        let all_written = !self.flush.is_open() && self.partial_batch.is_none();
        self.cx.connections.is_empty() && all_written && !self.cx.mail.has_overflow()
    }

    /// The counters, and the gauges of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            shard: self.cx.me().0,
            counters: self.cx.counters.clone(),
            connections: self.cx.connections.open,
            occupied: self.occupied() as u64,
            backlog_bytes: self.cx.queues.bytes(),
            backlog_kept_bytes: self.cx.queues.kept_bytes() as u64,
            backlog_reserved_bytes: self.cx.queues.reserved as u64,
            backlog_connections: self.cx.queues.len() as u64,
            spill_bytes: self.cx.spill_bytes as u64,
            deflate_contexts: self.cx.compressors.contexts(),
            idle: self.is_idle(),
            lag_us: self.peers.lag_us(),
            shedding: self.peers.is_shedding(),
            draining: self.is_draining(),
            ..Snapshot::default()
        };
        self.app.gauges(&mut snapshot);
        snapshot
    }

    #[inline]
    pub(super) fn conn(&mut self, slot: u32) -> &mut Conn {
        &mut self.cx.connections[slot]
    }
}
