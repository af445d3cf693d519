//! The peer process on this host while one server takes over from another. Every publication that a home shard stamps goes
//! to it too, so that subscribers of both processes get what reaches either.
//!
//! One of the two processes orders all channels, and the other follows it (`handover_message`, `handover_copy`). With a process
//! of an earlier version both order on their own: a publication gets an offset of its own in the other one.
//!
//! A publication travels as one piece of bytes, and all lengths are checked when it is read. A field is its length (u32,
//! little endian) and its bytes. The order: bits, version (u64), client id (16 bytes), channel, data, user, connection info,
//! channel info, tags, idempotency key, version epoch.

use std::collections::HashSet;
use std::sync::Arc;

use super::handover_fields::{Fields, Kind, begin, put_position};
use crate::engine::Millis;
use crate::protocol::RawClientInfo;
use crate::pubsub::{Position, Publication, PublishOptions, PublishOutcome};

const JSON: u8 = 1;
const HAS_CLIENT: u8 = 2;
const SKIP_HISTORY: u8 = 4;
const DELTA: u8 = 8;

/// The link to the peer process.
pub trait HandoverPeer: Send + Sync {
    /// Queues a packed publication, whatever waits: it is stamped already. Those of one channel arrive in this order.
    fn send(&self, publication: Vec<u8>);

    /// The same for a message of `handover_message`.
    fn send_message(&self, message: Vec<u8>);

    /// So much waits that publishers are to wait too.
    fn is_full(&self) -> bool;

    /// So little waits that another piece of a channel may be sent.
    fn has_room_for_copy(&self) -> bool;

    /// How the two processes agree on the order of channels.
    fn order(&self) -> PeerOrder;

    /// What the peer process has published last may not have arrived here: it orders, and has clients.
    fn may_be_ahead(&self) -> bool;

    /// This home shard has sent all of its channels, or it has sent the last publication that it orders.
    fn report(&self, progress: HomeProgress);
}

/// How the two processes of a handover agree on the order of channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerOrder {
    /// They do not: each gives offsets of its own.
    Separate,
    /// This process orders until the peer has all channels.
    GivesAway,
    /// This process takes all channels over.
    TakesOver,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HomeProgress {
    Copied,
    Switched,
}

/// The peer process in the state of a home shard.
pub(crate) struct PeerState {
    pub(super) link: Arc<dyn HandoverPeer>,
    /// How far the copy of the channels is, until the peer has all of them.
    pub(super) copying: Option<Copying>,
    /// Clients of the peer process in the presences of this one.
    pub(super) members: HashSet<(Box<str>, [u8; 16])>,
}

/// What each turn does a portion of, since another process orders or is gone.
#[derive(Default)]
pub(crate) struct HandoverRest {
    /// Clients of a peer process that is gone, in the presences of this one.
    pub(super) departed: Vec<(Box<str>, [u8; 16])>,
    /// Channels that are subscribed to again, since another process has the log.
    pub(super) resubscribed: Vec<Box<str>>,
}

/// Where the copy of the channels goes on.
#[derive(Default)]
pub(crate) struct Copying {
    /// A channel.
    pub(super) slot: usize,
    /// The offset after which its next piece begins; `None` for the first.
    pub(super) after: Option<u64>,
    /// The channel of which a part was sent: what is published to it follows in its next pieces.
    pub(super) partial: Option<Box<str>>,
    /// A slot of its presence.
    pub(super) member: Option<u32>,
    /// An idempotency key, once all channels are sent.
    pub(super) key: Option<u64>,
    /// Everything was sent.
    pub(super) is_complete: bool,
    /// When the link is asked for room again.
    pub(super) retry_at: Millis,
}

impl PeerState {
    pub(super) fn new(link: Arc<dyn HandoverPeer>) -> Self {
        let copying = (link.order() == PeerOrder::GivesAway).then(Copying::default);
        Self { link, copying, members: HashSet::new() }
    }

    /// Sends a publication that was stamped here to the peer.
    #[cold]
    pub(super) fn forward(&self, publication: &Publication<'_>, outcome: PublishOutcome) {
        let position = match outcome {
            PublishOutcome::Stored(position) => Some(position),
            // The peer may have subscribers though this process has none.
            PublishOutcome::NotStored | PublishOutcome::NoSubscribers => None,
            PublishOutcome::Duplicate(_) | PublishOutcome::StaleVersion(_) => return,
        };
        let client = publication.client_info.map(RawClientInfo::unpack);
        let forwarded = Forwarded { channel: publication.channel, publication: *publication, client };
        if self.link.order() == PeerOrder::Separate {
            self.link.send(forwarded.pack());
        } else if position.is_none() || !self.is_partial(publication.channel) {
            self.link.send_message(pack_stamped(&forwarded, position));
        }
    }

    /// A piece of the channel is still to be sent.
    fn is_partial(&self, channel: &str) -> bool {
        self.copying.as_ref().is_some_and(|copying| copying.partial.as_deref() == Some(channel))
    }

    /// When the copy of the channels needs a turn.
    pub(super) fn next_sweep(&self) -> Option<Millis> {
        self.copying.as_ref().filter(|copying| !copying.is_complete).map(|copying| copying.retry_at)
    }

    /// Sends a message if the two processes have one order.
    pub(super) fn tell(&self, message: impl FnOnce() -> Vec<u8>) {
        if self.link.order() != PeerOrder::Separate {
            self.link.send_message(message());
        }
    }
}

/// A publication of this channel with its time and, if the channel has a history, its position.
pub(super) fn pack_stamped(forwarded: &Forwarded<'_>, position: Option<Position>) -> Vec<u8> {
    let mut out = begin(Kind::Stamped, forwarded.channel);
    put_position(&mut out, position);
    out.extend_from_slice(&forwarded.publication.time_ms.to_le_bytes());
    out.extend_from_slice(&forwarded.pack());
    out
}

/// A publication on its way between the two processes.
pub struct Forwarded<'a> {
    pub channel: &'a str,
    pub(crate) publication: Publication<'a>,
    /// The publishing client, which `publication` does not hold here.
    pub(crate) client: Option<RawClientInfo<'a>>,
}

impl<'a> Forwarded<'a> {
    /// The publication with its client, packed in the form that this process keeps.
    pub(super) fn with_client<'b>(&self, packed: &'b mut Vec<u8>) -> Publication<'b>
    where
        'a: 'b,
    {
        let client_info = self.client.as_ref().map(|client| {
            client.pack(packed);
            &**packed
        });
        Publication { client_info, ..self.publication }
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        let none = RawClientInfo { client: [0; 16], user: "", conn_info: &[], chan_info: &[] };
        let client = self.client.as_ref().unwrap_or(&none);
        let Publication { data, is_json, tags, version, options, .. } = self.publication;
        let fields = [
            self.channel.as_bytes(),
            data,
            client.user.as_bytes(),
            client.conn_info,
            client.chan_info,
            tags,
            options.idempotency_key.as_bytes(),
            options.version_epoch.as_bytes(),
        ];
        let mut out = Vec::with_capacity(25 + fields.iter().map(|field| 4 + field.len()).sum::<usize>());
        let bits = [
            (is_json, JSON),
            (self.client.is_some(), HAS_CLIENT),
            (options.skip_history, SKIP_HISTORY),
            (options.use_delta, DELTA),
        ];
        out.push(bits.iter().filter(|(is_set, _)| *is_set).fold(0, |bits, (_, bit)| bits | bit));
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&client.client);
        for field in fields {
            out.extend_from_slice(&(field.len() as u32).to_le_bytes());
            out.extend_from_slice(field);
        }
        out
    }

    /// `None` if the bytes are not a packed publication.
    pub fn unpack(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let bits = fields.byte()?;
        let version = fields.u64()?;
        let client = fields.array()?;
        let (channel, data) = (fields.text()?, fields.bytes()?);
        let (user, conn_info, chan_info) = (fields.text()?, fields.bytes()?, fields.bytes()?);
        let client = RawClientInfo { client, user, conn_info, chan_info };
        let tags = fields.bytes()?;
        let options = PublishOptions {
            skip_history: bits & SKIP_HISTORY != 0,
            use_delta: bits & DELTA != 0,
            idempotency_key: fields.text()?,
            version_epoch: fields.text()?,
        };
        let is_json = bits & JSON != 0;
        let publication = Publication { channel, data, is_json, tags, version, options, ..Publication::default() };
        let client = (bits & HAS_CLIENT != 0).then_some(client);
        fields.0.is_empty().then_some(Self { channel, publication, client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Tags;

    fn packed() -> Vec<u8> {
        let client = RawClientInfo { client: [7; 16], user: "ann", conn_info: b"{}", chan_info: b"[1]" };
        let publication = Publication {
            channel: "news:1",
            data: b"{\"n\":1}",
            is_json: true,
            tags: b"\x01a\x01b",
            version: 9,
            options: PublishOptions {
                skip_history: true,
                use_delta: false,
                idempotency_key: "key",
                version_epoch: "e",
            },
            ..Publication::default()
        };
        Forwarded { channel: "news:1", publication, client: Some(client) }.pack()
    }

    #[test]
    fn forwarded_publication_unpacks_to_the_same() {
        let bytes = packed();
        let again = Forwarded::unpack(&bytes).expect("packed above");
        let Publication { data, is_json, version, options, .. } = again.publication;
        assert_eq!((again.channel, data, is_json), ("news:1", &b"{\"n\":1}"[..], true));
        let client = again.client.as_ref().expect("a client published it");
        assert_eq!((client.client, client.user, client.chan_info), ([7; 16], "ann", &b"[1]"[..]));
        assert_eq!((version, options.idempotency_key, options.skip_history), (9, "key", true));
        assert_eq!(again.pack(), bytes);
    }

    #[test]
    fn forwarded_publication_of_the_wrong_length_is_rejected() {
        let mut bytes = packed();
        for length in 0..bytes.len() {
            assert!(Forwarded::unpack(&bytes[..length]).is_none(), "{length}");
        }
        bytes.push(0);
        assert!(Forwarded::unpack(&bytes).is_none());
    }

    #[test]
    fn forwarded_publication_with_any_wrong_byte_does_not_panic() {
        let bytes = packed();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                if let Some(read) = Forwarded::unpack(&broken) {
                    _ = Tags::from_bytes(read.publication.tags).iter().count();
                }
            }
        }
    }
}
