//! From accept to an open connection: admission, the PROXY header, and every refusal. `request` answers the requests.

use std::mem;
use std::net::IpAddr;

use rustix::io::Errno;

use super::state::{ConnFlags, Phase, WriteFlags};
use crate::engine::admission::address_table::AddressSlot;
use crate::engine::admission::peers::Peer;
use crate::engine::admission::proxy_protocol::{self, HEADER_BYTES_MAX};
use crate::engine::app::App;
use crate::engine::log_ring::{LogRecord, RefusalKind};
use crate::engine::net::source::Source;
use crate::engine::rejection::show;
use crate::engine::shard::Shard;
use crate::engine::stats::{Bound, Closed, Refused};
use crate::engine::timer_wheel::Millis;
use crate::ids::ConnId;
use crate::ws::{self, Refusal, RequestBounds};

/// What a refusal counts as.
fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::BadRequest(_) => Refused::BadRequest,
        Refusal::ForeignOrigin(_) => Refused::Origin,
        Refusal::NotFound | Refusal::WrongAddress(_) => Refused::NotFound,
        Refusal::MethodNotAllowed | Refusal::OtherMethods(_) => Refused::MethodNotAllowed,
        Refusal::BodyTooLarge => Refused::BodyTooLarge,
        Refusal::Timeout => Refused::Timeout,
        Refusal::TargetTooLong => Refused::TargetTooLong,
        Refusal::UpgradeRequired => Refused::UpgradeRequired,
        Refusal::HeadTooLarge => Refused::HeadTooLarge,
        Refusal::Unavailable { .. } => Refused::Full,
        Refusal::TooManyNow { .. } => Refused::ConnectionRate,
        Refusal::Overloaded { .. } => Refused::Overloaded,
        Refusal::AddressFull { .. } => Refused::Address,
        Refusal::AddressTooFast { .. } => Refused::AddressRate,
    }
}

/// What the log says of a refused request. The query of the target and the other fields may hold secrets.
fn describe(refusal: Refusal, head: &[u8], bounds: &RequestBounds) -> String {
    let mut text = "rejected a request".to_owned();
    if let Ok(Some(request)) = ws::parse_request(head, bounds) {
        text.push_str(" for ");
        show(&mut text, request.path);
        if let (Refusal::ForeignOrigin(_), Some(origin)) = (refusal, request.origin) {
            text.push_str(" from a page of origin ");
            show(&mut text, origin);
        }
    }
    text + ": " + refusal.words() + &format!("; answered with {}", refusal.status())
}

impl<A: App, S: Source> Shard<A, S> {
    /// Takes over a new connection, or gives it back with the response that it should get.
    pub fn admit(&mut self, source: S, peer: Peer) -> Result<ConnId, (S, Refusal)> {
        let refused_with = match self.peers.judge(&mut self.cx, peer) {
            Ok(address_slot) => {
                let phase = if peer.proxied { Phase::ProxyHeader } else { Phase::Upgrading };
                match self.insert(source, address_slot, phase) {
                    Ok(conn) => return Ok(conn),
                    Err(source) => {
                        self.peers.release_unused(address_slot);
                        self.cx.reached_by(Bound::ShardConnections, peer.address);
                        (source, Refusal::Unavailable { retry_after_s: self.peers.retry_after(&self.cx, 1) })
                    }
                }
            }
            Err(refusal) => (source, refusal),
        };
        self.cx.counters.refused[refused(refused_with.1) as usize] += 1;
        Err(refused_with)
    }

    /// Takes over a new connection that is not judged, or gives it back if the shard is full.
    pub fn adopt(&mut self, source: S) -> Result<ConnId, S> {
        self.insert(source, AddressSlot::NONE, Phase::Upgrading)
    }

    fn insert(&mut self, source: S, address_slot: AddressSlot, phase: Phase) -> Result<ConnId, S> {
        if self.cx.connections.len() >= self.cx.config.connections_max as usize {
            return Err(source);
        }
        let conn = self.cx.connections.insert(phase);
        self.sockets.insert(conn.slot, source);
        self.cx.counters.accepted += 1;
        self.peers.insert(conn.slot, address_slot);
        self.cx.wheel.set(conn.slot, self.cx.now + self.cx.config.upgrade_timeout.as_millis() as Millis);
        Ok(conn)
    }

    /// Looks for the PROXY header, in the socket itself, so that what follows it is read as usual. False if it is not whole
    /// yet, or never will be.
    pub(crate) fn take_proxy_header(&mut self, slot: u32) -> bool {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let Some(source) = self.sockets.get_mut(slot) else { return false };
        let seen = match source.peek(&mut bytes) {
            Ok(seen) => seen,
            Err(Errno::AGAIN) => 0,
            Err(_) => {
                self.close_socket(slot, Closed::Reset);
                return false;
            }
        };
        let header = match proxy_protocol::decode(&bytes[..seen]) {
            Ok(Some(header)) => header,
            Ok(None) => {
                self.conn(slot).flags.remove(ConnFlags::READABLE);
                if self.conn(slot).flags.contains(ConnFlags::READ_CLOSED) {
                    self.refuse_proxy(slot);
                }
                return false;
            }
            Err(proxy_protocol::Malformed) => {
                self.refuse_proxy(slot);
                return false;
            }
        };
        // What was peeked at is there to be read.
        if source.take_peeked(&mut bytes[..header.bytes]) != Ok(header.bytes) {
            self.close_socket(slot, Closed::Reset);
            return false;
        }
        self.conn(slot).phase = Phase::Upgrading;
        // A proxy that sends LOCAL is the client itself.
        let address = header.client.or_else(|| self.address_of(slot));
        match address.map_or(Ok(()), |address| self.peers.set_header_address(&mut self.cx, slot, address)) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse_now(slot, refusal);
                false
            }
        }
    }

    /// Closes without a response: the peer does not speak the protocol that the listener is for.
    pub(crate) fn refuse_proxy(&mut self, slot: u32) {
        let address = self.address_of(slot);
        self.cx.counters.refused[Refused::ProxyHeader as usize] += 1;
        self.cx.reached_by(Bound::ProxyHeader, address);
        self.close_socket(slot, Closed::Protocol);
    }

    /// The address of the client: from a proxy, or from the socket.
    pub(crate) fn address_of(&self, slot: u32) -> Option<IpAddr> {
        self.peers.client_address(slot).or_else(|| self.socket_address(slot))
    }

    fn socket_address(&self, slot: u32) -> Option<IpAddr> {
        self.sockets.get(slot).and_then(Source::peer)
    }

    /// Whether a connection may keep so many bytes of an incomplete head. Within the bound of the shard any may. Past it,
    /// one may that keeps less than an equal part, so that large slow heads do not crowd out ordinary ones. All together
    /// keep at most twice the bound: what was kept before it was reached, and the equal parts.
    pub(crate) fn may_keep_head(&self, bytes: usize) -> bool {
        let bound = self.cx.config.pending_heads_bytes_max / self.cx.mail.shards().max(1);
        self.cx.pending_heads.bytes + bytes <= bound || bytes <= bound / (self.cx.pending_heads.count + 1)
    }

    /// The address of the socket or of the PROXY header, if it is that of a trusted proxy, which may name its client in
    /// the request head.
    pub(crate) fn address_of_trusted_proxy(&self, slot: u32) -> Option<IpAddr> {
        let config = &self.cx.config;
        if config.trusted_proxies.is_empty() {
            return None;
        }
        let named = self.peers.header_address(slot);
        named.or_else(|| self.socket_address(slot)).filter(|&address| config.trusts(address))
    }

    pub(crate) fn open(&mut self, slot: u32, route: u8) {
        let conn = self.conn(slot);
        conn.phase = Phase::Open;
        conn.flags.remove(ConnFlags::FORGOTTEN);
        self.cx.connections.clear(slot, WriteFlags::NOT_OPEN);
        self.cx.wheel.cancel(slot);
        self.cx.connections.open += 1;
        if self.app.wants_address_keys() {
            let address = self.address_of(slot);
            self.cx.address_keys.set(slot, address);
        }
        let id = self.cx.connections.id(slot);
        self.app.open(&mut self.cx, id, route);
    }

    /// Refuses a connection without a request that caused it.
    pub(crate) fn refuse_now(&mut self, slot: u32, refusal: Refusal) {
        self.refuse(slot, refusal, b"");
        self.send_response(slot);
        self.send_replies(slot);
    }

    /// The kernel reports nothing about a new connection: it is closed without a response, for which it would have to wait.
    pub(crate) fn refuse_unwatched(&mut self, conn: ConnId) {
        self.cx.counters.refused[Refused::Kernel as usize] += 1;
        self.close_socket(conn.slot, Closed::Reset);
    }

    /// `head`: the request, as far as it was received.
    pub(crate) fn refuse(&mut self, slot: u32, refusal: Refusal, head: &[u8]) {
        let why = match refused(refusal) {
            Refused::Full if self.is_draining() => Refused::Draining,
            why => why,
        };
        self.cx.counters.refused[why as usize] += 1;
        if why.is_fault_of_request() {
            let bounds = self.cx.config.request_bounds();
            self.log_refusal(slot, RefusalKind::Request(why), || describe(refusal, head, &bounds));
        }
        refusal.write(&mut self.cx.reply_buffer);
        self.finish_after_replies(slot);
    }

    /// Logs a refusal now and then. `describe` runs only if it is logged.
    pub(crate) fn log_refusal(&mut self, slot: u32, kind: RefusalKind, describe: impl FnOnce() -> String) {
        if let Some(suppressed) = self.cx.log.throttle_refusal(kind, self.cx.now) {
            let (what, address) = (describe().into_boxed_str(), self.address_of(slot));
            self.cx.log(LogRecord::Refused { what, suppressed, address });
        }
    }

    /// Sends the HTTP response that is in the reply buffer.
    pub(crate) fn send_response(&mut self, slot: u32) {
        let mut response = mem::take(&mut self.cx.reply_buffer);
        if !response.is_empty() {
            let after = self.sockets.send_response(&mut self.cx, slot, &response);
            self.after_write(slot, after);
        }
        response.clear();
        self.cx.reply_buffer = response;
    }
}
