//! The reply to a subscribe, with the recovered publications, and how it is encoded.

use std::borrow::Cow;

use super::arena::{HistoryEntry, RawClientInfo, client_text};
use crate::protocol::delta_fits_json;
use crate::protocol::fossil;
use crate::protocol::{ClientInfo, Encoding, Expiry, Filter, JsonForm, SubscribeResult, Tags, WirePublication};
use crate::pubsub::{EpochText, Position, SubscriptionFlags};

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
    /// The recovered publications, packed.
    pub records: Box<[u8]>,
    /// Which of them the client gets.
    pub filter: Option<Filter>,
}

/// A reply with its parts in the form that the encoder borrows.
pub(crate) struct SubscribeReplyParts<'a> {
    reply: &'a SubscribeReply,
    epoch: EpochText,
    publications: Vec<PublicationParts<'a>>,
}

/// A publication of the history in the form that the encoder borrows.
pub(crate) struct PublicationParts<'a> {
    entry: HistoryEntry<'a>,
    data: Cow<'a, [u8]>,
    json_form: JsonForm,
    delta: bool,
    client: String,
    /// The channel's epoch, which only its first publication carries.
    epoch: Option<EpochText>,
}

impl<'a> PublicationParts<'a> {
    pub(super) fn plain(entry: HistoryEntry<'a>, epoch: u32, encoding: Encoding) -> Self {
        let is_base64 = encoding != Encoding::Protobuf && !entry.publication.is_json;
        let json_form = if is_base64 { JsonForm::Base64 } else { JsonForm::Value };
        let epoch = (entry.offset == 1).then(|| EpochText::of(epoch));
        let data = Cow::Borrowed(entry.publication.data);
        Self { entry, data, json_form, delta: false, client: publisher(&entry), epoch }
    }

    /// For a subscriber with deltas: the difference to `previous` if there is one and it is shorter.
    fn delta(entry: HistoryEntry<'a>, previous: Option<&[u8]>, encoding: Encoding) -> Self {
        let json = encoding != Encoding::Protobuf;
        let json_form = if json { JsonForm::Text } else { JsonForm::Value };
        let whole = entry.publication.data;
        let mut difference = Vec::new();
        let is_shorter = previous.is_some_and(|previous| fossil::create(previous, whole, &mut difference));
        let delta = is_shorter && (!json || delta_fits_json(&difference));
        let data = if delta { Cow::Owned(difference) } else { Cow::Borrowed(whole) };
        Self { entry, data, json_form, delta, client: publisher(&entry), epoch: None }
    }

    pub(super) fn publication(&self) -> WirePublication<'_> {
        let info = self.entry.publication.client_info.map(RawClientInfo::unpack).map(|info| ClientInfo {
            user: info.user,
            client: &self.client,
            conn_info: info.conn_info,
            chan_info: info.chan_info,
        });
        WirePublication {
            data: &self.data,
            json_form: self.json_form,
            info,
            offset: self.entry.offset,
            tags: Tags::from_bytes(self.entry.publication.tags),
            delta: self.delta,
            version: self.entry.publication.version,
            epoch: self.epoch.as_ref().map_or("", EpochText::as_str),
            ..WirePublication::default()
        }
    }
}

/// The id of the client that published it; empty if the server API did.
fn publisher(entry: &HistoryEntry<'_>) -> String {
    let mut text = uuid::Uuid::encode_buffer();
    let info = entry.publication.client_info.map(RawClientInfo::unpack);
    info.map(|info| client_text(info.client, &mut text).to_owned()).unwrap_or_default()
}

impl SubscribeReply {
    pub(super) fn parts(&self, encoding: Encoding) -> SubscribeReplyParts<'_> {
        // A delta applies to the publication before it, whether that passes the filter or not.
        let all = self.delta || self.filter.is_none();
        let wanted = |entry: &HistoryEntry<'_>| {
            let tags = Tags::from_bytes(entry.publication.tags);
            all || self.filter.as_ref().is_some_and(|filter| filter.matches(tags))
        };
        let mut publications = Vec::new();
        let mut previous: Option<&[u8]> = None;
        for entry in HistoryEntry::unpack_all(&self.records).filter(wanted) {
            publications.push(match self.delta {
                true => PublicationParts::delta(entry, previous, encoding),
                false => PublicationParts::plain(entry, self.position.epoch, encoding),
            });
            previous = Some(entry.publication.data);
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
