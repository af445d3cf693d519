//! A publication on its way: [`Publication`] borrows it while it travels, [`PublicationRecord`] owns it while the history
//! keeps it, and a [`Delivery`] adds its position for the shards that get it.

use bytes::Bytes;

use super::epoch::Epoch;
use super::position::DeliveryPosition;
use super::time::RecordTime;

/// A publication to one channel.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) channel: &'a str,
    pub(crate) data: &'a [u8],
    /// `data` is valid JSON. The caller checks it; encoders depend on it.
    pub(crate) is_json: bool,
    /// The publishing client, packed by the caller. `None` if a server API call published.
    pub(crate) client_info: Option<&'a [u8]>,
    /// Packed by the caller; empty for none.
    pub(crate) tags: &'a [u8],
    /// The publisher's own version of the state that `data` describes; 0 for none.
    pub(crate) version: u64,
    /// When it was published, in milliseconds since 1970; 0 if that is not known.
    pub(crate) time_ms: u64,
    /// The channel to which it was published, if `channel` is a pattern of a broker; empty otherwise.
    pub(crate) published_to: &'a str,
    pub(crate) options: PublishOptions<'a>,
}

/// How the home shard treats a publication. The history does not keep it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PublishOptions<'a> {
    /// The history does not store the publication, and it gets no offset.
    pub(crate) skip_history: bool,
    /// Deliveries name the publication before, so that deltas can be made.
    pub(crate) use_delta: bool,
    /// A second publication with the same key within five minutes is not made. Empty: no key.
    pub(crate) idempotency_key: &'a str,
    /// If `version` is not 0, the publication is dropped unless `version` is above the last one of this epoch. The empty
    /// epoch matches any.
    pub(crate) version_epoch: &'a str,
}

/// A publication as the history keeps it, whose parts are shared with every clone: all wire formats are encoded from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicationRecord {
    pub(crate) offset: u64,
    /// Shared with the replies that still have to be sent.
    pub(crate) data: Bytes,
    pub(crate) client_info: Option<Bytes>,
    pub(crate) is_json: bool,
    /// When it was published.
    pub(crate) time: RecordTime,
    pub(crate) tags: Bytes,
    pub(crate) version: u64,
    /// Its number among all deliveries of the channel, those without an offset included.
    pub(super) seq: u64,
}

// The time takes bytes that alignment would leave unused.
const _: () = assert!(size_of::<PublicationRecord>() == 128);

impl PublicationRecord {
    pub(super) fn new(publication: &Publication<'_>, at: DeliveryPosition) -> Self {
        Self {
            offset: at.offset,
            data: Bytes::copy_from_slice(publication.data),
            client_info: publication.client_info.map(Bytes::copy_from_slice),
            is_json: publication.is_json,
            time: RecordTime::of_ms(publication.time_ms),
            tags: Bytes::copy_from_slice(publication.tags),
            version: publication.version,
            seq: at.seq,
        }
    }

    /// As a broker keeps it: not known to be JSON, and without a time. Its sequence number is given when it is delivered.
    pub fn of_broker(offset: u64, data: Bytes, client_info: Option<Bytes>, tags: Bytes, version: u64) -> Self {
        Self { offset, data, client_info, is_json: false, time: RecordTime::default(), tags, version, seq: 0 }
    }

    /// The same with the time of publishing, in milliseconds since 1970.
    pub fn published_at(self, time_ms: u64) -> Self {
        Self { time: RecordTime::of_ms(time_ms), ..self }
    }

    /// For a client, which gets the time only if its namespace says so.
    pub(crate) fn into_reply(self, with_time: bool) -> Self {
        let time = if with_time { self.time } else { RecordTime::default() };
        Self { time, ..self }
    }

    /// A copy for a client.
    pub(crate) fn for_reply(&self, with_time: bool) -> Self {
        self.clone().into_reply(with_time)
    }

    /// When it was published, in milliseconds since 1970; 0 if that is not known.
    pub fn time_ms(&self) -> u64 {
        self.time.ms()
    }

    /// As another process has kept it.
    pub(crate) fn with_json(self, is_json: bool) -> Self {
        Self { is_json, ..self }
    }

    /// The publication again, without its options.
    pub(crate) fn publication<'a>(&'a self, channel: &'a str) -> Publication<'a> {
        Publication {
            channel,
            data: &self.data,
            is_json: self.is_json,
            client_info: self.client_info.as_deref(),
            tags: &self.tags,
            version: self.version,
            time_ms: self.time_ms(),
            published_to: "",
            options: PublishOptions::default(),
        }
    }

    /// Its cost against the limit on history memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.data.len() + self.client_info.as_ref().map_or(0, Bytes::len) + self.tags.len()
    }
}

/// How many records fit into so many bytes. The last of them may go past.
pub(crate) fn count_within<'a>(records: impl Iterator<Item = &'a PublicationRecord>, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fitting = records.take_while(|record| {
        let fits = bytes < bytes_max;
        bytes += record.bytes();
        fits
    });
    fitting.count()
}

/// A publication with its position, for one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) publication: &'a Publication<'a>,
    pub(crate) at: DeliveryPosition,
    /// The epoch of `at.offset`.
    pub(crate) epoch: Epoch,
    /// What the delivery before brought. Set if the publication uses deltas and the history stores the one before.
    pub(crate) previous: Option<&'a PublicationRecord>,
}
