//! The reply to a subscribe, with the recovered publications, and how it is encoded.

use std::borrow::Cow;

use super::arena::{RawClientInfo, client_text};
use super::large_replies::records_bytes;
use crate::protocol::delta_fits_json;
use crate::protocol::fossil;
use crate::protocol::{ClientInfo, Encoding, Expiry, Filter, JsonForm, SubscribeResult, Tags, WirePublication};
use crate::pubsub::{EpochText, Position, PublicationRecord, SubscriptionFlags};

/// Bytes of recovered publications to search for differences; those behind them come whole. It takes much longer than a copy.
const DELTA_BYTES_MAX: usize = 512 * 1024;

/// What the client learns of its new subscription, by a reply, the connect reply or a push.
#[derive(Default)]
pub(crate) struct SubscribeReply {
    pub flags: SubscriptionFlags,
    /// Seconds since 1970; 0 is never.
    pub expire_at: u64,
    pub data: Box<[u8]>,
    pub delta: bool,
    pub was_recovering: bool,
    pub recovered: bool,
    pub position: Position,
    /// The offset that the client gets: its own, if the reply brings what came after it.
    pub offset: u64,
    /// The recovered publications.
    pub records: Box<[PublicationRecord]>,
    /// Which of them the client gets.
    pub filter: Option<Filter>,
}

/// What the home shard says about the publications that a subscription missed.
pub(crate) enum Recovery {
    NotRequested,
    Failed,
    /// The missed publications.
    Complete(Box<[PublicationRecord]>),
}

/// A reply with its parts in the form that the encoder borrows.
pub(crate) struct SubscribeReplyParts<'a> {
    reply: &'a SubscribeReply,
    epoch: EpochText,
    publications: Vec<PublicationParts<'a>>,
}

/// A publication of the history in the form that the encoder borrows.
pub(crate) struct PublicationParts<'a> {
    record: &'a PublicationRecord,
    data: Cow<'a, [u8]>,
    json_form: JsonForm,
    delta: bool,
    client: String,
    /// The channel's epoch, which only its first publication carries.
    epoch: Option<EpochText>,
}

impl<'a> PublicationParts<'a> {
    pub(super) fn plain(record: &'a PublicationRecord, epoch: u32, encoding: Encoding) -> Self {
        let is_base64 = encoding != Encoding::Protobuf && !record.is_json;
        let json_form = if is_base64 { JsonForm::Base64 } else { JsonForm::Value };
        let epoch = (record.offset == 1).then(|| EpochText::of(epoch));
        let data = Cow::Borrowed(&*record.data);
        Self { record, data, json_form, delta: false, client: publisher(record), epoch }
    }

    /// For a subscriber with deltas: the difference to `previous` if there is one and it is shorter.
    fn delta(record: &'a PublicationRecord, previous: Option<&[u8]>, encoding: Encoding) -> Self {
        let json = encoding != Encoding::Protobuf;
        let json_form = if json { JsonForm::Text } else { JsonForm::Value };
        let whole = &*record.data;
        let mut difference = Vec::new();
        let is_shorter = previous.is_some_and(|previous| fossil::create(previous, whole, &mut difference));
        let delta = is_shorter && (!json || delta_fits_json(&difference));
        let data = if delta { Cow::Owned(difference) } else { Cow::Borrowed(whole) };
        Self { record, data, json_form, delta, client: publisher(record), epoch: None }
    }

    pub(super) fn publication(&self) -> WirePublication<'_> {
        let info = self.record.client_info.as_deref().map(RawClientInfo::unpack).map(|info| ClientInfo {
            user: info.user,
            client: &self.client,
            conn_info: info.conn_info,
            chan_info: info.chan_info,
        });
        WirePublication {
            data: &self.data,
            json_form: self.json_form,
            info,
            offset: self.record.offset,
            tags: Tags::from_bytes(&self.record.tags),
            delta: self.delta,
            version: self.record.version,
            epoch: self.epoch.as_ref().map_or("", EpochText::as_str),
            ..WirePublication::default()
        }
    }
}

/// The id of the client that published it; empty if the server API did.
fn publisher(record: &PublicationRecord) -> String {
    let mut text = uuid::Uuid::encode_buffer();
    let info = record.client_info.as_deref().map(RawClientInfo::unpack);
    info.map(|info| client_text(info.client, &mut text).to_owned()).unwrap_or_default()
}

impl SubscribeReply {
    /// What it takes, at most about.
    pub(super) fn bytes(&self, encoding: Encoding) -> usize {
        records_bytes(self.records.iter(), encoding) + self.data.len()
    }

    pub(super) fn parts(&self, encoding: Encoding) -> SubscribeReplyParts<'_> {
        // A delta applies to the publication before it, whether that passes the filter or not.
        let all = self.delta || self.filter.is_none();
        let wanted = |record: &&PublicationRecord| {
            let tags = Tags::from_bytes(&record.tags);
            all || self.filter.as_ref().is_some_and(|filter| filter.matches(tags))
        };
        let mut publications = Vec::new();
        let (mut previous, mut bytes_left): (Option<&[u8]>, _) = (None, DELTA_BYTES_MAX);
        for record in self.records.iter().filter(wanted) {
            let previous = previous.replace(&record.data).filter(|_| bytes_left > 0);
            bytes_left = bytes_left.saturating_sub(record.data.len());
            publications.push(match self.delta {
                true => PublicationParts::delta(record, previous, encoding),
                false => PublicationParts::plain(record, self.position.epoch, encoding),
            });
        }
        SubscribeReplyParts { reply: self, epoch: EpochText::of(self.position.epoch), publications }
    }
}

impl SubscribeReplyParts<'_> {
    pub(super) fn publications(&self) -> Vec<WirePublication<'_>> {
        self.publications.iter().map(PublicationParts::publication).collect()
    }

    pub(super) fn result<'s>(&'s self, now_s: u64, publications: &'s [WirePublication<'s>]) -> SubscribeResult<'s> {
        let reply = self.reply;
        let has = |flag| reply.flags.contains(flag);
        let ends_at = if has(SubscriptionFlags::CLIENT_REFRESH) { reply.expire_at } else { 0 };
        SubscribeResult {
            expiry: Expiry::at(ends_at, now_s),
            recoverable: has(SubscriptionFlags::RECOVERABLE),
            epoch: if has(SubscriptionFlags::POSITIONED) { self.epoch.as_str() } else { "" },
            publications,
            recovered: reply.recovered,
            offset: if has(SubscriptionFlags::POSITIONED) { reply.offset } else { 0 },
            positioned: has(SubscriptionFlags::POSITIONED),
            data: &reply.data,
            was_recovering: reply.was_recovering,
            delta: reply.delta,
        }
    }
}
