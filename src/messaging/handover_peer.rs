//! The peer process on this host while one server takes over from another. Every publication that a home shard stamps goes
//! to it too and gets an offset of its own there, so that subscribers of both processes get what reaches either.
//!
//! A publication travels as one piece of bytes, and all lengths are checked when it is read. A field is its length (u32,
//! little endian) and its bytes. The order: bits, version (u64), time (u64), client id (16 bytes), channel, data, user, connection info,
//! channel info, tags, idempotency key, version epoch.

use crate::protocol::RawClientInfo;
use crate::pubsub::{Publication, PublishOptions, PublishOutcome};

const JSON: u8 = 1;
const HAS_CLIENT: u8 = 2;
const SKIP_HISTORY: u8 = 4;
const DELTA: u8 = 8;

/// The link to the peer process.
pub trait HandoverPeer: Send + Sync {
    /// Queues a packed publication, whatever waits: it is stamped already. Those of one channel arrive in this order.
    fn send(&self, publication: Vec<u8>);

    /// So much waits that publishers are to wait too.
    fn is_full(&self) -> bool;
}

/// Sends a publication that was stamped here to the peer.
pub(crate) fn forward(peer: &dyn HandoverPeer, publication: &Publication<'_>, outcome: PublishOutcome) {
    match outcome {
        // The peer may have subscribers though this process has none.
        PublishOutcome::Stored(_) | PublishOutcome::NotStored | PublishOutcome::NoSubscribers => {
            let client = publication.client_info.map(RawClientInfo::unpack);
            peer.send(Forwarded { channel: publication.channel, publication: *publication, client }.pack());
        }
        PublishOutcome::Duplicate(_) | PublishOutcome::StaleVersion(_) => {}
    }
}

/// A publication on its way between the two processes.
pub struct Forwarded<'a> {
    pub channel: &'a str,
    pub(crate) publication: Publication<'a>,
    /// The publishing client, which `publication` does not hold here.
    pub(crate) client: Option<RawClientInfo<'a>>,
}

impl<'a> Forwarded<'a> {
    fn pack(&self) -> Vec<u8> {
        let none = RawClientInfo { client: [0; 16], user: "", conn_info: &[], chan_info: &[] };
        let client = self.client.as_ref().unwrap_or(&none);
        let Publication { data, is_json, tags, version, time_ms, options, .. } = self.publication;
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
        let mut out = Vec::with_capacity(33 + fields.iter().map(|field| 4 + field.len()).sum::<usize>());
        let bits = [
            (is_json, JSON),
            (self.client.is_some(), HAS_CLIENT),
            (options.skip_history, SKIP_HISTORY),
            (options.use_delta, DELTA),
        ];
        out.push(bits.iter().filter(|(is_set, _)| *is_set).fold(0, |bits, (_, bit)| bits | bit));
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&time_ms.to_le_bytes());
        out.extend_from_slice(&client.client);
        for field in fields {
            out.extend_from_slice(&(field.len() as u32).to_le_bytes());
            out.extend_from_slice(field);
        }
        out
    }

    /// `None` if the bytes are not a packed publication.
    pub fn unpack(mut bytes: &'a [u8]) -> Option<Self> {
        let [bits] = *array(&mut bytes)?;
        let version = u64::from_le_bytes(*array(&mut bytes)?);
        let time_ms = u64::from_le_bytes(*array(&mut bytes)?);
        let client = *array(&mut bytes)?;
        let channel = text(&mut bytes)?;
        let data = field(&mut bytes)?;
        let (user, conn_info, chan_info) = (text(&mut bytes)?, field(&mut bytes)?, field(&mut bytes)?);
        let client = RawClientInfo { client, user, conn_info, chan_info };
        let tags = field(&mut bytes)?;
        let options = PublishOptions {
            skip_history: bits & SKIP_HISTORY != 0,
            use_delta: bits & DELTA != 0,
            idempotency_key: text(&mut bytes)?,
            version_epoch: text(&mut bytes)?,
        };
        let is_json = bits & JSON != 0;
        let publication =
            Publication { channel, data, is_json, tags, version, time_ms, options, ..Publication::default() };
        let client = (bits & HAS_CLIENT != 0).then_some(client);
        bytes.is_empty().then_some(Self { channel, publication, client })
    }
}

fn array<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(head)
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(*array(bytes)?);
    let (field, rest) = bytes.split_at_checked(length as usize)?;
    *bytes = rest;
    Some(field)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(field(bytes)?).ok()
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
            time_ms: 1_700_000_000_123,
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
        let Publication { data, is_json, version, time_ms, options, .. } = again.publication;
        assert_eq!(time_ms, 1_700_000_000_123);
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
