//! After the disk has failed, `durable.on_failure = "memory"` keeps the publications of `process` channels in memory. Each such
//! channel begins another epoch, so that no reader takes them for a continuation of what the log has.

use bytes::Bytes;
use uuid::Uuid;

use crate::broker::message::{HistoryRead, PublishRequest, Published};
use crate::pubsub::{
    HistoryFilter, HistoryOptions, HistorySlice, HomeChannels, Publication, PublicationRecord, PublishOptions,
    PublishOutcome, TimeRange,
};

/// Bytes of what a lane keeps in memory; past it the oldest go.
const BYTES_MAX: usize = 256 << 20;
const EXPIRY_STEPS: u32 = 256;

/// Times are milliseconds since the disk has failed.
pub(super) struct Fallback {
    channels: HomeChannels,
    began: u64,
}

impl Fallback {
    pub(super) fn new(now: u64) -> Self {
        let key = Uuid::new_v4();
        let channels = HomeChannels::with_key(key.as_u64_pair().0 as u32, BYTES_MAX, Uuid::new_v4().into_bytes());
        Self { channels, began: now }
    }

    pub(super) fn publish(
        &mut self,
        channel: &str,
        publish: &PublishRequest,
        now: u64,
    ) -> (Published, PublicationRecord) {
        let since = now.saturating_sub(self.began);
        self.channels.expire(since, &mut { EXPIRY_STEPS });
        let options = PublishOptions {
            skip_history: false,
            use_delta: publish.use_delta,
            idempotency_key: &publish.idempotency_key,
            version_epoch: &publish.version_epoch,
        };
        let publication = Publication {
            channel,
            data: &publish.data,
            client_info: Some(&publish.client_info[..]).filter(|info| !info.is_empty()),
            tags: &publish.tags,
            version: publish.version,
            time_ms: now,
            options,
            ..Publication::default()
        };
        let outcome = self.channels.publish(&publication, &publish.history, since, |_, _| true);
        let is_suppressed = matches!(outcome, PublishOutcome::Duplicate(_) | PublishOutcome::StaleVersion(_));
        let position = outcome.position();
        let record = record_of(publish, position.map_or(0, |position| position.offset), now);
        (Published { position, is_suppressed }, record)
    }

    pub(super) fn history(
        &mut self,
        channel: &str,
        (filter, range): (HistoryFilter, TimeRange),
        options: &HistoryOptions,
        now: u64,
    ) -> HistoryRead {
        let since = now.saturating_sub(self.began);
        match self.channels.history_within(channel, filter, range, options, since) {
            Ok(HistorySlice { publications, top }) => {
                HistoryRead { records: publications.cloned().collect(), top, since_is_kept: false }
            }
            Err(unrecoverable) => HistoryRead { records: Vec::new(), top: unrecoverable.top, since_is_kept: false },
        }
    }

    pub(super) fn remove_history(&mut self, channel: &str) {
        self.channels.history_remove(channel);
    }

    /// Whether something was published in the channel since the failure.
    pub(super) fn has(&self, channel: &str) -> bool {
        self.channels.top(channel).is_some()
    }
}

/// What subscribers get of a publication.
pub(super) fn record_of(publish: &PublishRequest, offset: u64, time: u64) -> PublicationRecord {
    let PublishRequest { data, client_info, tags, version, .. } = publish;
    let client_info: Option<Bytes> = Some(client_info.clone()).filter(|info| !info.is_empty());
    PublicationRecord::of_broker(offset, data.clone(), client_info, tags.clone(), *version).published_at(time)
}
