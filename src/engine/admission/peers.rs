//! The addresses of the connections of a shard, and their effects: the count in the address table, the address that a
//! trusted proxy names, the bytes that a connection may send, and whether the shard admits new connections.
//!
//! An address is known at accept, or after the PROXY header (on listeners that require it), or after the request head
//! (`X-Forwarded-For` of a trusted proxy): admission happens at the first of these that names the client. Only
//! addresses that the socket itself does not have are stored, and an array by slot grows only while a limit needs it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use super::address_table::{AddressSlot, Entered};
use super::client_address::client_of;
use super::overload::{Admission, Lag, retry_after};
use crate::engine::config::EngineConfig;
use crate::engine::connection::state::{ConnFlags, Phase};
use crate::engine::context::Context;
use crate::engine::log_ring::LogRecord;
use crate::engine::stats::Bound;
use crate::engine::timer_wheel::Millis;
use crate::engine::token_bucket::{Rate, TokenBucket};
use crate::ids::ConnId;
use crate::ws::{Refusal, Request};

/// The `Retry-After` of a response that refuses an address, at least.
const ADDRESS_RETRY_S: u32 = 5;
/// The same while the server is overloaded.
const OVERLOADED_RETRY_S: u32 = 2;

/// A new connection, as its listener knows it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Peer {
    /// None on a unix socket.
    pub address: Option<IpAddr>,
    /// A PROXY header comes before the first byte of the client.
    pub proxied: bool,
}

/// When a connection that sent too much is read again. Each at most once.
type Resting = Reverse<(Millis, u32, u32)>;

pub(crate) struct Peers {
    /// What all shards share.
    admission: Arc<Admission>,
    lag: Lag,
    /// By slot: the address in the PROXY header.
    addresses: HashMap<u32, IpAddr>,
    /// By slot: the client that a trusted proxy names in the head of the request under way. `None`: it names none.
    forwarded: HashMap<u32, Option<IpAddr>>,
    /// By slot, as far as one is counted.
    address_slots: Vec<AddressSlot>,
    byte_rate: Option<Rate>,
    /// By slot, as far as one was limited.
    byte_buckets: Vec<TokenBucket>,
    resting: BinaryHeap<Resting>,
}

impl Peers {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self {
            admission: Arc::new(Admission::new(config, config.connections_max as usize)),
            lag: Lag::default(),
            addresses: HashMap::new(),
            forwarded: HashMap::new(),
            address_slots: Vec::new(),
            byte_rate: Rate::new(config.bytes_per_second, config.bytes_burst),
            byte_buckets: Vec::new(),
            resting: BinaryHeap::new(),
        }
    }

    pub(crate) fn set_config(&mut self, config: &EngineConfig) {
        self.byte_rate = Rate::new(config.bytes_per_second, config.bytes_burst);
    }

    /// From now on this shard counts addresses together with others.
    pub(crate) fn share(&mut self, admission: Arc<Admission>) {
        self.admission = admission;
    }

    /// Judges a new connection before it costs anything. If it is admitted its address slot must be given to `insert`, or to
    /// `release_unused`.
    pub(crate) fn judge<M: Send>(&mut self, cx: &mut Context<M>, peer: Peer) -> Result<AddressSlot, Refusal> {
        self.update_lag(cx);
        if self.is_shedding() {
            return Err(Refusal::Overloaded { retry_after_s: self.retry_after(cx, OVERLOADED_RETRY_S) });
        }
        match peer.address {
            Some(address) if !peer.proxied && !cx.config.trusts(address) => self.count(cx, address),
            _ => Ok(AddressSlot::NONE),
        }
    }

    /// No new connection is admitted now.
    pub(crate) fn is_shedding(&self) -> bool {
        self.lag.shedding || self.admission.is_memory_full()
    }

    pub(crate) fn lag_us(&self) -> u64 {
        self.lag.lag_us
    }

    /// A turn took so long.
    pub(crate) fn turn_took<M: Send>(&mut self, cx: &mut Context<M>, us: u32) {
        self.lag.turn(us);
        self.update_lag(cx);
    }

    /// Measures the lag if it is time to, and logs when it starts or ends the shedding.
    fn update_lag<M: Send>(&mut self, cx: &mut Context<M>) {
        let max_us = cx.config.lag_max.as_micros() as u64;
        if self.lag.update(cx.now, max_us) {
            let (lag_us, shedding) = (self.lag.lag_us, self.lag.shedding);
            cx.log(LogRecord::Lagging { lag_us, shedding });
        }
    }

    /// Seconds after which a refused peer may come again, at least `least` and spread.
    pub(crate) fn retry_after<M: Send>(&self, cx: &Context<M>, least: u32) -> u32 {
        let nth = u64::from(cx.connections.generations()) + cx.counters.refused.iter().sum::<u64>();
        retry_after(least, nth)
    }

    /// Counts a connection for its address.
    fn count<M: Send>(&mut self, cx: &mut Context<M>, address: IpAddr) -> Result<AddressSlot, Refusal> {
        if !self.admission.counts() || cx.config.exempts(address) {
            return Ok(AddressSlot::NONE);
        }
        let retry_after_s = self.retry_after(cx, ADDRESS_RETRY_S);
        let (bound, refusal) = match self.admission.enter(address, cx.now) {
            Entered::Counted(slot) => return Ok(slot),
            Entered::Uncounted => {
                cx.reached_by(Bound::AddressTable, Some(address));
                return Ok(AddressSlot::NONE);
            }
            Entered::TooMany => (Bound::AddressConnections, Refusal::AddressFull { retry_after_s }),
            Entered::TooFast => (Bound::AddressHandshakes, Refusal::AddressTooFast { retry_after_s }),
        };
        cx.reached_by(bound, Some(address));
        Err(refusal)
    }

    /// A connection has taken a slot.
    pub(crate) fn insert(&mut self, slot: u32, address_slot: AddressSlot) {
        self.set_address_slot(slot, address_slot);
        if let Some(bucket) = self.byte_buckets.get_mut(slot as usize) {
            *bucket = TokenBucket::FULL;
        }
    }

    fn set_address_slot(&mut self, slot: u32, address_slot: AddressSlot) {
        if address_slot != AddressSlot::NONE || (slot as usize) < self.address_slots.len() {
            if self.address_slots.len() <= slot as usize {
                self.address_slots.resize(slot as usize + 1, AddressSlot::NONE);
            }
            self.address_slots[slot as usize] = address_slot;
        }
    }

    /// The connection is closed.
    pub(crate) fn release(&mut self, slot: u32) {
        self.leave(slot);
        self.addresses.remove(&slot);
        self.forwarded.remove(&slot);
    }

    /// The connection is not counted any more.
    fn leave(&mut self, slot: u32) {
        if let Some(address_slot) = self.address_slots.get_mut(slot as usize) {
            self.admission.leave(mem::replace(address_slot, AddressSlot::NONE));
        }
    }

    /// An admitted connection did not take a slot.
    pub(crate) fn release_unused(&self, address_slot: AddressSlot) {
        self.admission.leave(address_slot);
    }

    /// The PROXY header has named the client.
    pub(crate) fn set_header_address<M: Send>(
        &mut self,
        cx: &mut Context<M>,
        slot: u32,
        address: IpAddr,
    ) -> Result<(), Refusal> {
        self.addresses.insert(slot, address);
        if cx.config.trusts(address) { Ok(()) } else { self.count_as(cx, slot, address) }
    }

    /// Counts a connection for its client, and no longer for whom it was counted before.
    fn count_as<M: Send>(&mut self, cx: &mut Context<M>, slot: u32, client: IpAddr) -> Result<(), Refusal> {
        self.leave(slot);
        let address_slot = self.count(cx, client)?;
        self.set_address_slot(slot, address_slot);
        Ok(())
    }

    /// The address in the PROXY header.
    pub(crate) fn header_address(&self, slot: u32) -> Option<IpAddr> {
        self.addresses.get(&slot).copied()
    }

    /// The address that a proxy has named, in the request head or in the PROXY header.
    pub(crate) fn client_address(&self, slot: u32) -> Option<IpAddr> {
        self.forwarded.get(&slot).copied().flatten().or_else(|| self.header_address(slot))
    }

    /// Judges the request head that a trusted proxy has sent: the client that it names, or the proxy itself, which is not
    /// counted until now. The head is judged once, however often it is read until the body is whole.
    pub(crate) fn judge_forwarded<M: Send>(
        &mut self,
        cx: &mut Context<M>,
        slot: u32,
        proxy: IpAddr,
        request: &Request<'_>,
    ) -> Result<(), Refusal> {
        if self.forwarded.contains_key(&slot) {
            return Ok(());
        }
        let client = client_of(request.values("x-forwarded-for"), |address| cx.config.trusts(address));
        self.forwarded.insert(slot, client);
        match client {
            Some(client) if cx.config.trusts(client) => Ok(()),
            _ => self.count_as(cx, slot, client.unwrap_or(proxy)),
        }
    }

    /// The request is answered: the next one of the connection may be that of another client.
    pub(crate) fn forget_forwarded(&mut self, slot: u32) {
        if self.forwarded.remove(&slot).is_some() {
            self.leave(slot);
        }
    }

    /// So many bytes were read. True if the connection is open and has sent more than it may: it is not read for a while, and
    /// TCP slows the peer down.
    #[inline]
    pub(crate) fn exceeds_byte_rate<M: Send>(&mut self, cx: &mut Context<M>, slot: u32, n: usize) -> bool {
        self.byte_rate.is_some_and(|rate| self.takes_too_much(cx, slot, rate, n))
    }

    fn takes_too_much<M: Send>(&mut self, cx: &mut Context<M>, slot: u32, rate: Rate, n: usize) -> bool {
        let buckets = &mut self.byte_buckets;
        if buckets.len() <= slot as usize {
            buckets.resize(slot as usize + 1, TokenBucket::FULL);
        }
        if cx.connections[slot].phase != Phase::Open {
            return false;
        }
        let ms = rate.owe(&mut buckets[slot as usize], n as u64, cx.now);
        if ms == 0 {
            return false;
        }
        if cx.connections[slot].flags.contains(ConnFlags::RATE_LIMITED) {
            // It rests already, with a larger debt now.
            return true;
        }
        let conn = cx.connections.id(slot);
        cx.reached(Bound::ByteRate, conn);
        if cx.config.bytes_dry_run {
            // The debt is forgiven, so that the next excess is counted as one.
            self.byte_buckets[slot as usize] = TokenBucket::FULL;
            return false;
        }
        cx.connections[slot].flags.insert(ConnFlags::RATE_LIMITED);
        self.resting.push(Reverse((cx.now + ms, slot, conn.generation)));
        true
    }

    /// A connection that may be read again. It may have closed in the meantime.
    pub(crate) fn next_rested(&mut self, now: Millis) -> Option<ConnId> {
        let Reverse((at, slot, generation)) = *self.resting.peek()?;
        if at > now {
            return None;
        }
        self.resting.pop();
        Some(ConnId::new(slot, generation))
    }

    /// Milliseconds until a connection may be read again.
    pub(crate) fn next_rested_in(&self, now: Millis) -> Option<Millis> {
        self.resting.peek().map(|Reverse((at, ..))| at.saturating_sub(now))
    }
}
