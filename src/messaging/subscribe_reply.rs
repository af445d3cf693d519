//! The reply to a subscribe, with the recovered publications, and how it is encoded.

use std::borrow::Cow;

use super::large_replies::records_bytes;
use crate::protocol::fossil;
use crate::protocol::{ClientInfo, Encoding, Expiry, Filter, JsonForm, SubscribeResult, Tags, WirePublication};
use crate::protocol::{RawClientInfo, client_text, delta_fits_json};
use crate::pubsub::{Epoch, EpochText, Position, PublicationRecord, SubscriptionFlags};

/// Bytes of recovered publications to search for differences; those behind them come whole. It takes much longer than a copy.
pub(crate) const DELTA_BYTES_MAX: usize = 512 * 1024;

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
    pub(super) fn plain(record: &'a PublicationRecord, epoch: Epoch, encoding: Encoding) -> Self {
        let is_base64 = encoding != Encoding::Protobuf && !record.is_json;
        let json_form = if is_base64 { JsonForm::Base64 } else { JsonForm::Value };
        let epoch = (record.offset == 1).then(|| epoch.text());
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
            time_ms: self.record.time_ms(),
            version: self.record.version,
            epoch: self.epoch.as_ref().map_or("", EpochText::as_str),
            channel: "",
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

    /// `delta_bytes`: of the publications to search for differences, in one message.
    pub(super) fn parts(&self, encoding: Encoding, delta_bytes: &mut usize) -> SubscribeReplyParts<'_> {
        // A delta applies to the publication before it, whether that passes the filter or not.
        let all = self.delta || self.filter.is_none();
        let wanted = |record: &&PublicationRecord| {
            let tags = Tags::from_bytes(&record.tags);
            all || self.filter.as_ref().is_some_and(|filter| filter.matches(tags))
        };
        let mut publications = Vec::new();
        let mut previous: Option<&[u8]> = None;
        for record in self.records.iter().filter(wanted) {
            let previous = previous.replace(&record.data).filter(|_| *delta_bytes > 0);
            *delta_bytes = delta_bytes.saturating_sub(record.data.len());
            publications.push(match self.delta {
                true => PublicationParts::delta(record, previous, encoding),
                false => PublicationParts::plain(record, self.position.epoch, encoding),
            });
        }
        SubscribeReplyParts { reply: self, epoch: self.position.epoch.text(), publications }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::{HistoryFilter, HistoryOptions, HomeChannels, Publication};

    #[test]
    fn differences_are_searched_within_their_bytes_and_later_publications_come_whole() {
        let options = HistoryOptions { namespace: 0, size: 10, ttl_ms: 1_000, meta_ttl_ms: 0 };
        let mut channels = HomeChannels::new(1, 1 << 30);
        let data = |n: u8| {
            [b"{\"n\":\"".to_vec(), vec![b'x'; DELTA_BYTES_MAX / 2 + 1], vec![b'0' + n], b"\"}".to_vec()].concat()
        };
        for n in 0..4 {
            let publication = Publication { channel: "a", data: &data(n), is_json: true, ..Publication::default() };
            channels.publish(&publication, &options, 0, |_, _| true);
        }
        let filter = HistoryFilter { limit: -1, ..HistoryFilter::default() };
        let found = channels.history("a", filter, &options, 0).unwrap_or_else(|_| panic!("it has no epoch to miss"));
        let records = found.publications.cloned().collect();
        let reply = SubscribeReply { delta: true, records, ..SubscribeReply::default() };
        let mut delta_bytes = DELTA_BYTES_MAX;
        let parts = reply.parts(Encoding::Protobuf, &mut delta_bytes);
        let deltas: Vec<bool> = parts.publications().iter().map(|publication| publication.delta).collect();
        assert_eq!((deltas, delta_bytes), (vec![false, true, false, false], 0));
    }
}
