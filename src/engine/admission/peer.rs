//! Whom a connection is from, and what follows from it: his place in the table of addresses, the header of a proxy before
//! the first byte, the address that a trusted proxy names, and how many bytes he may send.
//!
//! An address is known at accept, or after the PROXY header (listeners marked for it), or after the request's head
//! (`X-Forwarded-For` of a trusted proxy): it is judged at the first of these that says whom the connection is from. Kept
//! is only what the socket itself does not say; the arrays by slot grow only where the limit is set that needs them.

use std::cmp::Reverse;
use std::net::IpAddr;

use rustix::io::Errno;

use super::address_table::{AddressSlot, Entered};
use super::overload::retry_after;
use super::proxy_protocol::{self, HEADER_BYTES_MAX};
use crate::engine::connection::state::{Edges, Phase};
use crate::engine::net::source::Source;
use crate::engine::stats::{Bound, Closed, Refused};
use crate::engine::token_bucket::Full;
use crate::engine::{App, Millis, Shard};
use crate::ids::ConnId;
use crate::ws::Refusal;

/// How long one who is refused for his address is asked to stay away, at least.
const ADDRESS_RETRY_S: u32 = 5;
/// The same while the server is overloaded.
const OVERLOADED_RETRY_S: u32 = 2;

/// A newcomer, as the listener knows him.
#[derive(Clone, Copy, Default, Debug)]
pub struct Peer {
    /// None on a unix socket.
    pub address: Option<IpAddr>,
    /// A proxy's header comes before his first byte.
    pub proxied: bool,
}

/// By slot, and only as far as somebody needs them.
#[derive(Default)]
pub(crate) struct PeerTable {
    seats: Vec<AddressSlot>,
    /// Of the bytes that each may send.
    bytes: Vec<Full>,
    /// Those who sent too much, and when they are read again. Each at most once.
    resting: std::collections::BinaryHeap<Reverse<(Millis, u32, u32)>>,
}

impl<A: App, S: Source> Shard<A, S> {
    /// Takes over a fresh connection, or gives it back with what it is to be told.
    pub fn admit(&mut self, source: S, guest: Peer) -> Result<ConnId, (S, Refusal)> {
        let refused = match self.knock(guest) {
            Ok(seat) => {
                let phase = if guest.proxied { Phase::Proxied } else { Phase::Upgrading };
                match self.adopt_seated(source, seat, phase) {
                    Ok(conn) => return Ok(conn),
                    Err(source) => {
                        self.cx.door.leave(seat);
                        self.cx.reached_by(Bound::ShardConnections, guest.address);
                        (source, Refusal::Unavailable { retry_after_s: self.retry_after(1) })
                    }
                }
            }
            Err(refusal) => (source, refusal),
        };
        self.cx.counters.refused[crate::engine::connection::receive::refused(refused.1, false) as usize] += 1;
        Err(refused)
    }

    /// Judges a newcomer before he costs anything. Where he is let in his seat must be kept, or left.
    fn knock(&mut self, guest: Peer) -> Result<AddressSlot, Refusal> {
        self.look_at_lag();
        if self.is_shut() {
            return Err(Refusal::Overloaded { retry_after_s: self.retry_after(OVERLOADED_RETRY_S) });
        }
        match guest.address {
            Some(address) if !guest.proxied && !self.is_trusted(address) => self.enter(address),
            _ => Ok(AddressSlot::NONE),
        }
    }

    /// Nobody new is let in now.
    pub fn is_shut(&self) -> bool {
        self.lag.shut || self.cx.door.is_memory_full()
    }

    fn retry_after(&self, least: u32) -> u32 {
        retry_after(least, u64::from(self.generations) + self.cx.counters.refused.iter().sum::<u64>())
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.cx.limits.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    fn enter(&mut self, address: IpAddr) -> Result<AddressSlot, Refusal> {
        let canonical = address.to_canonical();
        if !self.cx.door.counts() || self.cx.limits.exempt.iter().any(|net| net.contains(&canonical)) {
            return Ok(AddressSlot::NONE);
        }
        let retry_after_s = self.retry_after(ADDRESS_RETRY_S);
        let (bound, refusal) = match self.cx.door.enter(address, self.cx.now) {
            Entered::Seated(seat) => return Ok(seat),
            Entered::Uncounted => {
                self.cx.reached_by(Bound::AddressTable, Some(address));
                return Ok(AddressSlot::NONE);
            }
            Entered::TooMany => (Bound::AddressConnections, Refusal::AddressFull { retry_after_s }),
            Entered::TooFast => (Bound::AddressHandshakes, Refusal::AddressTooFast { retry_after_s }),
        };
        self.cx.reached_by(bound, Some(address));
        Err(refusal)
    }

    pub(crate) fn seat(&mut self, slot: u32, seat: AddressSlot) {
        if seat != AddressSlot::NONE || (slot as usize) < self.guests.seats.len() {
            if self.guests.seats.len() <= slot as usize {
                self.guests.seats.resize(slot as usize + 1, AddressSlot::NONE);
            }
            self.guests.seats[slot as usize] = seat;
        }
        if let Some(full) = self.guests.bytes.get_mut(slot as usize) {
            *full = 0;
        }
    }

    /// The connection is gone, or turns out to be from somebody else.
    pub(crate) fn unseat(&mut self, slot: u32) {
        if let Some(seat) = self.guests.seats.get_mut(slot as usize) {
            self.cx.door.leave(std::mem::replace(seat, AddressSlot::NONE));
        }
        self.cx.addresses.remove(&slot);
    }

    /// A proxy has said whom a connection is from.
    fn is_from(&mut self, slot: u32, address: IpAddr) -> Result<(), Refusal> {
        self.unseat(slot);
        self.cx.addresses.insert(slot, address);
        if !self.is_trusted(address) {
            let seat = self.enter(address)?;
            self.seat(slot, seat);
        }
        Ok(())
    }

    /// Looks for the proxy's header, in the socket itself, so that what follows is read by whoever reads next. False
    /// where it is not there yet, or never will be.
    pub(crate) fn take_proxy_header(&mut self, slot: u32) -> bool {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let Some(source) = &mut self.sources[slot as usize] else { return false };
        let seen = match source.peek(&mut bytes) {
            Ok(seen) => seen,
            Err(Errno::AGAIN) => 0,
            Err(_) => {
                self.die(slot, Closed::Reset);
                return false;
            }
        };
        let header = match proxy_protocol::decode(&bytes[..seen]) {
            Ok(Some(header)) => header,
            Ok(None) => {
                self.conn(slot).edges.clear(Edges::READABLE);
                if self.conn(slot).edges.has(Edges::READ_CLOSED) {
                    self.refuse_proxy(slot);
                }
                return false;
            }
            Err(proxy_protocol::Malformed) => {
                self.refuse_proxy(slot);
                return false;
            }
        };
        // What was seen is there to be read.
        if source.take_peeked(&mut bytes[..header.bytes]) != Ok(header.bytes) {
            self.die(slot, Closed::Reset);
            return false;
        }
        self.conn(slot).phase = Phase::Upgrading;
        // A proxy that speaks for itself is its own client.
        let address = header.client.or_else(|| self.address_of(slot));
        match address.map_or(Ok(()), |address| self.is_from(slot, address)) {
            Ok(()) => true,
            Err(refusal) => {
                self.turn_away(slot, refusal);
                false
            }
        }
    }

    /// Nothing is said to one who does not speak the protocol that the listener is for.
    pub(crate) fn refuse_proxy(&mut self, slot: u32) {
        let address = self.address_of(slot);
        self.cx.counters.refused[Refused::ProxyHeader as usize] += 1;
        self.cx.reached_by(Bound::ProxyHeader, address);
        self.die(slot, Closed::Protocol);
    }

    /// A whole request head: whom a trusted proxy speaks for in it is who is judged.
    pub(crate) fn judge_forwarded(&mut self, slot: u32, request: &crate::ws::Request<'_>) -> Result<(), Refusal> {
        if self.cx.limits.trusted_proxies.is_empty() {
            return Ok(());
        }
        let Some(peer) = self.address_of(slot).filter(|&peer| self.is_trusted(peer)) else { return Ok(()) };
        match client_of(request.values("x-forwarded-for"), |address| self.is_trusted(address)) {
            Some(client) => self.is_from(slot, client),
            // The proxy itself, whose place in the table was left open until now.
            None => {
                let seat = self.enter(peer)?;
                self.seat(slot, seat);
                Ok(())
            }
        }
    }

    /// Whom a connection is from: as a proxy said, or as the socket says.
    pub(crate) fn address_of(&self, slot: u32) -> Option<IpAddr> {
        let told = self.cx.addresses.get(&slot).copied();
        told.or_else(|| self.sources[slot as usize].as_ref().and_then(Source::peer))
    }

    /// So many bytes were read. True where the connection has sent more than it may and is not read for a while: TCP
    /// tells the peer.
    pub(crate) fn rest_after(&mut self, slot: u32, n: usize) -> bool {
        let Some(rate) = self.byte_rate else { return false };
        if self.conn(slot).phase != Phase::Open {
            return false;
        }
        let bytes = &mut self.guests.bytes;
        if bytes.len() <= slot as usize {
            bytes.resize(slot as usize + 1, 0);
        }
        let ms = rate.owe(&mut bytes[slot as usize], n as u64, self.cx.now);
        if ms == 0 {
            return false;
        }
        let id = self.id(slot);
        self.cx.reached(Bound::ByteRate, id);
        if self.cx.limits.bytes_dry_run {
            // What is owed is forgiven, so that the next excess is counted as one.
            self.guests.bytes[slot as usize] = 0;
            return false;
        }
        self.conn(slot).edges.set(Edges::RESTING);
        self.guests.resting.push(Reverse((self.cx.now + ms, slot, id.generation)));
        true
    }

    /// Reads those again who have rested.
    pub(crate) fn wake_rested(&mut self) {
        while let Some(&Reverse((at, slot, generation))) = self.guests.resting.peek()
            && at <= self.cx.now
        {
            self.guests.resting.pop();
            if self.cx.conn_at(slot) == Some(ConnId::new(slot, generation)) {
                self.conn(slot).edges.clear(Edges::RESTING);
                self.read(slot);
            }
        }
    }

    /// When somebody has rested.
    pub(crate) fn next_rested(&self) -> Option<Millis> {
        self.guests.resting.peek().map(|Reverse((at, ..))| at.saturating_sub(self.cx.now))
    }

    /// Limits that may be spoken of now, with whoever reached them last.
    pub(crate) fn say_reached(&mut self) {
        while let Some((bound, count, conn)) = self.cx.to_say.pop() {
            let address =
                self.cx.conn_at(conn.slot).filter(|&now| now == conn).and_then(|now| self.address_of(now.slot));
            self.cx.note(crate::engine::log_ring::LogRecord::Reached { bound, count, address });
        }
    }
}

/// The client that a chain of proxies names: each adds whom it heard from at the right end, so the right-most that is not
/// one of ours is the client, and what stands left of it is what that client claims. None where the chain names nobody,
/// or begins with what is no address.
pub fn client_of<'a>(fields: impl Iterator<Item = &'a [u8]>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let fields: Vec<&[u8]> = fields.collect();
    let mut farthest = None;
    for element in fields.iter().rev().flat_map(|field| field.rsplit(|byte| *byte == b',')) {
        let Some(address) = std::str::from_utf8(element).ok().and_then(|text| address(text.trim())) else { break };
        farthest = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    farthest
}

/// An address as proxies write it, with a port or in brackets where they do.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    Some(bare.parse().ok().or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(fields: &[&str]) -> Option<String> {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client_of(fields.iter().map(|field| field.as_bytes()), trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_of_ours_is_the_client() {
        for (fields, expected) in [
            (&["203.0.113.9"][..], Some("203.0.113.9")),
            (&["6.6.6.6, 203.0.113.9"], Some("203.0.113.9")),
            (&["6.6.6.6, 203.0.113.9, 10.0.0.1,10.0.0.2"], Some("203.0.113.9")),
            (&["6.6.6.6", "203.0.113.9, 10.0.0.1"], Some("203.0.113.9")),
            (&["10.0.0.3, 10.0.0.1"], Some("10.0.0.3")),
            (&["nonsense, 10.0.0.1"], Some("10.0.0.1")),
            (&["203.0.113.9, unknown"], None),
            (&["203.0.113.9:4711"], Some("203.0.113.9")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:203.0.113.9"], Some("203.0.113.9")),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(client(fields).as_deref(), expected, "{fields:?}");
        }
    }
}
