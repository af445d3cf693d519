//! The state of waiting connections, in one table by the slot of the connection: a connection that does not wait has no
//! entry.

use std::collections::HashMap;
use std::rc::Rc;

use super::session::Headers;
use super::subscribe_reply::SubscribeReply;
use crate::auth::grant::SubscribeGrant;
use crate::ids::ConnId;
use crate::protocol::Disconnect;
use crate::pubsub::{Since, SubscriptionFlags};

/// What an upgrade request leaves for the connect command.
#[derive(Default)]
pub(crate) struct HandshakeData {
    pub headers: Headers,
    /// A connect request in the URL, decoded.
    pub connect: Option<Box<[u8]>>,
    pub held_head: Option<Box<HeldHead>>,
}

/// The head of a stream that is sent when the connect is granted. If it is not, another response is.
pub(crate) struct HeldHead {
    pub head: Vec<u8>,
    /// Header fields of the other response.
    pub fields: String,
}

/// A granted connect that waits for its subscriptions, or for the user's home shard.
pub(crate) struct PendingConnect {
    pub id: u32,
    pub data: Vec<u8>,
    /// Live subscriptions, in the order in which they became live.
    pub live: Vec<(Rc<str>, SubscribeReply)>,
    /// How many are not live yet.
    pub waiting: usize,
    /// Bytes reserved for the publications in `live`.
    pub reserved: usize,
    /// What is to be subscribed once the user's home shard has admitted the connection; `None` once that has begun.
    pub requested: Option<Vec<ConnectSubscription>>,
}

/// A subscription that the connect brings.
pub(crate) struct ConnectSubscription {
    pub channel: String,
    pub grant: SubscribeGrant,
    pub flags: SubscriptionFlags,
    pub since: Option<Since>,
    pub delta: bool,
}

#[derive(Default)]
struct PendingConnection {
    /// From `open` to the grant of the connect.
    headers: Headers,
    connect: Option<PendingConnect>,
    /// A connect request in the URL whose token waits for its check.
    request: Option<Box<[u8]>>,
    held_head: Option<Box<HeldHead>>,
    /// It closes with this as soon as the commands before the fatal one are answered.
    close: Option<Disconnect>,
}

impl PendingConnection {
    fn is_empty(&self) -> bool {
        self.headers.is_none()
            && self.connect.is_none()
            && self.request.is_none()
            && self.close.is_none()
            && self.held_head.is_none()
    }
}

#[derive(Default)]
pub(crate) struct PendingConnections {
    /// Of the upgrade that is being answered: `open` follows at once.
    pub handshake: HandshakeData,
    by_slot: HashMap<u32, PendingConnection>,
    /// The header fields of the responses to emulation requests that wait for their sessions.
    pub emulation_fields: HashMap<ConnId, String>,
}

impl PendingConnections {
    pub(super) fn remove(&mut self, conn: ConnId) {
        self.by_slot.remove(&conn.slot);
    }

    pub(super) fn headers(&self, conn: ConnId) -> Option<&[(String, String)]> {
        self.by_slot.get(&conn.slot)?.headers.as_deref()
    }

    pub(super) fn take_headers(&mut self, conn: ConnId) -> Headers {
        self.take(conn, |pending| pending.headers.take())
    }

    pub(super) fn set_headers(&mut self, conn: ConnId, headers: Headers) {
        if headers.is_some() {
            self.by_slot.entry(conn.slot).or_default().headers = headers;
        }
    }

    pub(super) fn begin_connect(&mut self, conn: ConnId, connect: PendingConnect) {
        self.by_slot.entry(conn.slot).or_default().connect = Some(connect);
    }

    pub(super) fn connect_mut(&mut self, conn: ConnId) -> Option<&mut PendingConnect> {
        self.by_slot.get_mut(&conn.slot)?.connect.as_mut()
    }

    pub(super) fn has_connect(&self, conn: ConnId) -> bool {
        self.by_slot.get(&conn.slot).is_some_and(|pending| pending.connect.is_some())
    }

    pub(super) fn take_connect(&mut self, conn: ConnId) -> Option<PendingConnect> {
        self.take(conn, |pending| pending.connect.take())
    }

    pub(super) fn keep_request(&mut self, conn: ConnId, request: Box<[u8]>) {
        self.by_slot.entry(conn.slot).or_default().request = Some(request);
    }

    pub(super) fn has_request(&self, conn: ConnId) -> bool {
        self.by_slot.get(&conn.slot).is_some_and(|pending| pending.request.is_some())
    }

    pub(super) fn take_request(&mut self, conn: ConnId) -> Option<Box<[u8]>> {
        self.take(conn, |pending| pending.request.take())
    }

    pub(super) fn hold_head(&mut self, conn: ConnId, head: Option<Box<HeldHead>>) {
        if head.is_some() {
            self.by_slot.entry(conn.slot).or_default().held_head = head;
        }
    }

    pub(super) fn take_held_head(&mut self, conn: ConnId) -> Option<Box<HeldHead>> {
        self.take(conn, |pending| pending.held_head.take())
    }

    pub(super) fn close_later(&mut self, conn: ConnId, disconnect: Disconnect) {
        self.by_slot.entry(conn.slot).or_default().close = Some(disconnect);
    }

    pub(super) fn is_closing(&self, conn: ConnId) -> bool {
        self.by_slot.get(&conn.slot).is_some_and(|pending| pending.close.is_some())
    }

    pub(super) fn take_close(&mut self, conn: ConnId) -> Option<Disconnect> {
        self.take(conn, |pending| pending.close.take())
    }

    /// Takes one part; the entry goes with its last part.
    fn take<T>(&mut self, conn: ConnId, part: impl FnOnce(&mut PendingConnection) -> Option<T>) -> Option<T> {
        // Once per answered command: mostly there is no entry at all, and no hash to compute.
        if self.by_slot.is_empty() {
            return None;
        }
        let pending = self.by_slot.get_mut(&conn.slot)?;
        let taken = part(pending);
        if pending.is_empty() {
            self.by_slot.remove(&conn.slot);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_removed_with_its_last_part() {
        let conn = ConnId::new(5, 0);
        let mut pending = PendingConnections::default();
        pending.set_headers(conn, None);
        assert!(pending.by_slot.is_empty());
        pending.set_headers(conn, Some([("a".to_owned(), "b".to_owned())].into()));
        pending.close_later(conn, Disconnect::Stale);
        assert!(pending.is_closing(conn) && pending.headers(conn).is_some());
        assert!(pending.take_headers(conn).is_some() && pending.take_connect(conn).is_none());
        assert_eq!(pending.take_close(conn), Some(Disconnect::Stale));
        assert!(pending.by_slot.is_empty());
    }
}
