//! The other server on this host while one takes over from the other: every publication that a home stamps goes to it too,
//! where it gets an offset of its own, so that subscribers of both get what reaches either.
//!
//! A publication travels as one piece of bytes, all lengths checked on arrival: fields are a length (u32, little endian) and
//! so many bytes. Order: bits · version (u64) · client (16 bytes) · channel · data · user · connection info · channel info ·
//! tags · idempotency key · epoch of the version.

use std::borrow::Cow;

use super::arena::{Terms, Who};
use super::{Mail, Messaging};
use crate::engine::Context;
use crate::pubsub::PublishOutcome;

const JSON: u8 = 1;
const WHO: u8 = 2;
const SKIP_HISTORY: u8 = 4;
const DELTA: u8 = 8;

/// The way to the other server.
pub trait HandoverPeer: Send + Sync {
    /// Takes an encoded publication, in any case: it is stamped already. Of one channel they arrive in this order.
    fn send(&self, publication: Vec<u8>);

    /// So much waits that publishers shall wait too.
    fn is_full(&self) -> bool;
}

/// A publication of the other server.
pub struct Forwarded<'a> {
    pub channel: &'a str,
    data: &'a [u8],
    json: bool,
    who: Option<Who<'a>>,
    terms: Terms<'a>,
}

impl<'a> Forwarded<'a> {
    fn pack(&self) -> Vec<u8> {
        let nobody = Who { client: [0; 16], user: "", conn_info: &[], chan_info: &[] };
        let (who, terms) = (self.who.as_ref().unwrap_or(&nobody), &self.terms);
        let fields = [
            self.channel.as_bytes(),
            self.data,
            who.user.as_bytes(),
            who.conn_info,
            who.chan_info,
            &terms.tags,
            terms.idempotency_key.as_bytes(),
            terms.version_epoch.as_bytes(),
        ];
        let mut out = Vec::with_capacity(25 + fields.iter().map(|field| 4 + field.len()).sum::<usize>());
        let bits =
            [(self.json, JSON), (self.who.is_some(), WHO), (terms.skip_history, SKIP_HISTORY), (terms.delta, DELTA)];
        out.push(bits.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit));
        out.extend_from_slice(&terms.version.to_le_bytes());
        out.extend_from_slice(&who.client);
        for field in fields {
            out.extend_from_slice(&(field.len() as u32).to_le_bytes());
            out.extend_from_slice(field);
        }
        out
    }

    /// `None`: this is none.
    pub fn unpack(mut bytes: &'a [u8]) -> Option<Self> {
        let [bits] = *array(&mut bytes)?;
        let version = u64::from_le_bytes(*array(&mut bytes)?);
        let client = *array(&mut bytes)?;
        let channel = text(&mut bytes)?;
        let data = field(&mut bytes)?;
        let who = Who { client, user: text(&mut bytes)?, conn_info: field(&mut bytes)?, chan_info: field(&mut bytes)? };
        let terms = Terms {
            tags: Cow::Borrowed(field(&mut bytes)?),
            skip_history: bits & SKIP_HISTORY != 0,
            delta: bits & DELTA != 0,
            idempotency_key: text(&mut bytes)?,
            version,
            version_epoch: text(&mut bytes)?,
        };
        let who = (bits & WHO != 0).then_some(who);
        bytes.is_empty().then_some(Self { channel, data, json: bits & JSON != 0, who, terms })
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

impl Messaging {
    /// A publication that was stamped here, to the other server if there is one.
    pub(crate) fn tell_twin(
        &self,
        outcome: PublishOutcome,
        channel: &str,
        data: &[u8],
        who: Option<&[u8]>,
        terms: &Terms<'_>,
        json: bool,
    ) {
        let Some(twin) = &self.twin else { return };
        // The other process may have subscribers where this one has none.
        if matches!(outcome, PublishOutcome::Duplicate(_) | PublishOutcome::StaleVersion(_)) {
            return;
        }
        let who = who.map(Who::unpack);
        let terms = Terms { tags: Cow::Borrowed(&*terms.tags), ..*terms };
        twin.send(Forwarded { channel, data, json, who, terms }.pack());
    }

    /// Publishers wait, so that the way to the other server stays within its bound.
    pub(crate) fn twin_is_full(&self) -> bool {
        self.twin.as_ref().is_some_and(|twin| twin.is_full())
    }

    /// A publication of the other server becomes one of ours, and does not go back.
    pub(crate) fn publish_forwarded(&mut self, cx: &mut Context<Mail>, publication: &[u8]) {
        let Some(Forwarded { channel, data, json, who, terms }) = Forwarded::unpack(publication) else { return };
        let mut packed = Vec::new();
        let who = who.map(|who| {
            who.pack(&mut packed);
            &*packed
        });
        let twin = self.twin.take();
        self.publish_at_home(cx, channel, data, who, &terms, json);
        self.twin = twin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> Vec<u8> {
        let who = Who { client: [7; 16], user: "ann", conn_info: b"{}", chan_info: b"[1]" };
        let tags = Cow::Borrowed(&b"\x01a\x01b"[..]);
        let terms =
            Terms { tags, skip_history: true, delta: false, idempotency_key: "key", version: 9, version_epoch: "e" };
        Forwarded { channel: "news:1", data: b"{\"n\":1}", json: true, who: Some(who), terms }.pack()
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let bytes = publication();
        let again = Forwarded::unpack(&bytes).expect("it was packed");
        assert_eq!((again.channel, again.data, again.json), ("news:1", &b"{\"n\":1}"[..], true));
        let who = again.who.as_ref().expect("a client published it");
        assert_eq!((who.client, who.user, who.chan_info), ([7; 16], "ann", &b"[1]"[..]));
        assert_eq!((again.terms.version, again.terms.idempotency_key, again.terms.skip_history), (9, "key", true));
        assert_eq!(again.pack(), bytes);
    }

    #[test]
    fn cut_anywhere_or_longer_than_it_says_it_is_none() {
        let mut bytes = publication();
        for length in 0..bytes.len() {
            assert!(Forwarded::unpack(&bytes[..length]).is_none(), "{length}");
        }
        bytes.push(0);
        assert!(Forwarded::unpack(&bytes).is_none());
    }

    #[test]
    fn no_byte_of_it_makes_it_panic() {
        let bytes = publication();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                if let Some(read) = Forwarded::unpack(&broken) {
                    _ = crate::protocol::Tags::from_bytes(&read.terms.tags).iter().count();
                }
            }
        }
    }
}
