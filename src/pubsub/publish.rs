//! Publishing in the home shard: stamps a publication, delivers it and stores it.

use std::collections::VecDeque;

use super::channel::{InterestedShard, LaggingShard};
use super::history::HistoryOptions;
use super::home_channels::HomeChannels;
use super::position::{DeliveryPosition, Position};
use super::publication::{Delivery, Publication, PublicationRecord};
use super::retention::ListClass;
use crate::ids::ChannelKey;

/// What happened to a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PublishOutcome {
    /// Delivered, and stored in the history at this position.
    Stored(Position),
    /// Delivered, but not stored.
    NotStored,
    /// Neither delivered nor stored: no shard has subscribers.
    NoSubscribers,
    /// Not made: its idempotency key is known. The first publication got this position, if it got one.
    Duplicate(Option<Position>),
    /// Not made: its version is not above the last one. The channel's position.
    StaleVersion(Position),
}

impl PublishOutcome {
    /// The position in the answer to the publisher.
    pub(crate) fn position(self) -> Option<Position> {
        match self {
            Self::Stored(position) | Self::StaleVersion(position) => Some(position),
            Self::Duplicate(position) => position,
            Self::NotStored | Self::NoSubscribers => None,
        }
    }
}

impl HomeChannels {
    /// Stamps a publication, and stores it if the options say so. `deliver` queues it for a shard; it returns false if there
    /// is no room, and the shard is skipped.
    pub(crate) fn publish(
        &mut self,
        publication: &Publication<'_>,
        options: &HistoryOptions,
        now: u64,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) -> PublishOutcome {
        let key = publication.options.idempotency_key;
        let key = (!key.is_empty()).then(|| self.idempotency_keys.hash(publication.channel, key));
        if let Some(answer) = key.and_then(|key| self.idempotency_keys.find(key, now)) {
            return PublishOutcome::Duplicate(answer);
        }
        let outcome = match options.has_history() && !publication.options.skip_history {
            true => self.publish_stored(publication, options, now, deliver),
            false => self.publish_not_stored(publication, deliver),
        };
        if let Some(key) = key
            && !matches!(outcome, PublishOutcome::StaleVersion(_))
        {
            self.idempotency_keys.insert(key, outcome.position(), now);
        }
        outcome
    }

    fn publish_not_stored(
        &mut self,
        publication: &Publication<'_>,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) -> PublishOutcome {
        let Some(key) = self.find(publication.channel) else { return PublishOutcome::NoSubscribers };
        let channel = &mut self.channels[key.index()];
        if channel.shards.is_empty() {
            return PublishOutcome::NoSubscribers;
        }
        channel.seq += 1;
        let at = DeliveryPosition { seq: channel.seq, offset: 0 };
        let delivery = Delivery { publication, at, epoch: channel.top.epoch, previous: None };
        let behind = Behind { lagging: &mut self.lagging, channel: key, offset: channel.top.offset };
        deliver_to_shards(&mut channel.shards, &delivery, behind, deliver);
        PublishOutcome::NotStored
    }

    fn publish_stored(
        &mut self,
        publication: &Publication<'_>,
        options: &HistoryOptions,
        now: u64,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) -> PublishOutcome {
        let key = self.find_or_create(publication.channel, true);
        self.open_history(key, options, now);
        let channel = &mut self.channels[key.index()];
        let history = channel.history.as_mut().expect("open_history has created the history");
        let class = ListClass { namespace: options.namespace, span: options.ttl_ms };
        if history.is_stale(publication.version, publication.options.version_epoch) {
            let top = channel.top;
            if history.len() > 0 {
                self.with_records.touch(&mut self.channels, key, class, now);
            }
            return PublishOutcome::StaleVersion(top);
        }
        PublishOutcome::Stored(self.append(key, publication, options, now, deliver))
    }

    /// Gives the publication the next offset, delivers and stores it. The channel has a history.
    fn append(
        &mut self,
        key: ChannelKey,
        publication: &Publication<'_>,
        options: &HistoryOptions,
        now: u64,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) -> Position {
        let channel = &mut self.channels[key.index()];
        let history = channel.history.as_mut().expect("open_history has created the history");
        let class = ListClass { namespace: options.namespace, span: options.ttl_ms };
        let behind = Behind { lagging: &mut self.lagging, channel: key, offset: channel.top.offset };
        // A clock may have been set back: times within a history do not go back.
        let last_ms = history.last().map_or(0, |last| last.time_ms());
        let later;
        let publication = if publication.time_ms < last_ms {
            later = Publication { time_ms: last_ms, ..*publication };
            &later
        } else {
            publication
        };
        // If a delivery that is not stored came after the last record, receivers of it have no base for a delta.
        let previous = history.last().filter(|last| publication.options.use_delta && last.seq == channel.seq);
        channel.seq += 1;
        channel.top.offset += 1;
        let Position { epoch, offset } = channel.top;
        let at = DeliveryPosition { seq: channel.seq, offset };
        deliver_to_shards(&mut channel.shards, &Delivery { publication, at, epoch, previous }, behind, deliver);
        history.set_version(publication.version, publication.options.version_epoch);
        let bytes = history.bytes();
        history.push(PublicationRecord::new(publication, at), options.size);
        self.history_bytes.replace(options.namespace, bytes, history.bytes());
        let top = channel.top;
        self.with_records.touch(&mut self.channels, key, class, now);
        self.evict(options.namespace);
        top
    }

    /// A publication that a broker has stamped. `stored`: it has the offset after the channel's top, and is kept so that it can
    /// be sent again; otherwise it has none. Without subscribers it is ignored.
    pub(crate) fn publish_stamped(
        &mut self,
        publication: &Publication<'_>,
        stored: bool,
        options: &HistoryOptions,
        now: u64,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) {
        let Some(key) = self.find(publication.channel).filter(|_| stored) else {
            self.publish_not_stored(publication, deliver);
            return;
        };
        self.open_history(key, options, now);
        self.append(key, publication, options, now, deliver);
    }
}

/// Where shards that are skipped are noted.
struct Behind<'a> {
    lagging: &'a mut VecDeque<LaggingShard>,
    channel: ChannelKey,
    /// The channel's offset before the delivery.
    offset: u64,
}

/// Delivers to every shard that does not lag.
fn deliver_to_shards(
    shards: &mut [InterestedShard],
    delivery: &Delivery<'_>,
    behind: Behind<'_>,
    mut deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
) {
    for interested in shards {
        if !interested.lagging && !deliver(*interested, delivery) {
            interested.lagging = true;
            let InterestedShard { shard, group, .. } = *interested;
            let (next_seq, offset, channel) = (delivery.at.seq, behind.offset, behind.channel);
            behind.lagging.push_back(LaggingShard { channel, shard, group, next_seq, offset });
        }
    }
}
