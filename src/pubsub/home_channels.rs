//! What a channel's home shard knows: its order, who wants it, who is in it, and what it keeps.
//!
//! Interests are shards in a wire form, not subscribers: a million subscribers on eight shards are eight interests. A shard
//! that does not keep up is skipped, and repaired when there is room (`repair`).
//!
//! Every delivery has a sequence number, so that a receiver knows a gap. Those of channels with a history have an offset
//! too, which is what subscribers see; a publication that history shall not have goes without one.
//!
//! Invariants: sequence numbers of a channel grow by one; an interest lags exactly while it stands in `lagging`; a channel
//! with no interest, no member and no stream does not exist; one without interests and members stands in the idle lanes;
//! one with records stands in the history lanes; `bytes` is what records and idle channels cost.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use super::history::{self, Record, Stream, Version};
use super::idempotency::Once;
use super::name_index::Names;
use super::presence::Presence;
use super::resend::Lag;
use super::retention::{Kind, Lanes};
use super::{History, Position, Query, Recovery, RecoveryMode, Since, StreamOptions, Unrecoverable, WireFormat};
use crate::ids::{GroupId, ShardId};

/// One shard that wants a channel in one form, under the shard's own name for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterestedShard {
    pub shard: ShardId,
    pub feed: GroupId,
    pub form: WireFormat,
    /// It was skipped, and gets nothing before it was repaired.
    pub(crate) lagging: bool,
}

const _: () = assert!(size_of::<InterestedShard>() <= 16);

pub(crate) struct Channel {
    pub name: Rc<str>,
    pub top: Position,
    /// The last delivery.
    pub seq: u64,
    /// Most channels have one shard that wants them.
    pub interests: SmallVec<[InterestedShard; 1]>,
    pub stream: Option<Box<Stream>>,
    pub presence: Option<Box<Presence>>,
}

/// A channel with one interest takes this and its name.
const _: () = assert!(size_of::<Channel>() <= 88);
impl Channel {
    pub fn is_idle(&self) -> bool {
        self.interests.is_empty() && self.presence.is_none()
    }
}

/// A publication on its way in.
#[derive(Clone, Copy, Default, Debug)]
pub struct Draft<'a> {
    pub data: &'a [u8],
    /// The publishing client as others see it, packed by the caller.
    pub who: Option<&'a [u8]>,
    /// The data is JSON: the caller's word, kept with it.
    pub json: bool,
    /// Packed by the caller; empty for none.
    pub tags: &'a [u8],
    /// History shall not have it, so that it has no offset.
    pub skip_history: bool,
    /// A second one with the same key within five minutes is none. Empty: no key.
    pub idempotency_key: &'a str,
    /// Where not 0: it is dropped unless above the last one's, in the same `version_epoch` (the empty one means any).
    pub version: u64,
    pub version_epoch: &'a str,
    /// Deliveries name the publication before.
    pub use_delta: bool,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Stamped(Position),
    /// Handed to whoever is there; the history has nothing of it.
    Passed,
    /// Nobody is there, and the history has nothing of it.
    Unwanted,
    /// The first with this key got this position, if it got one.
    Duplicate(Option<Position>),
    /// Its version is not above the last one's.
    Stale(Position),
}

impl Outcome {
    /// What the publisher is told.
    pub fn position(self) -> Option<Position> {
        match self {
            Self::Stamped(position) | Self::Stale(position) => Some(position),
            Self::Duplicate(position) => position,
            Self::Passed | Self::Unwanted => None,
        }
    }
}

/// A publication on its way to an interest.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// One above that of the delivery before.
    pub seq: u64,
    /// 0 for none.
    pub offset: u64,
    pub epoch: u32,
    /// What the delivery before brought, where deltas are wanted and history has it.
    pub previous: Option<&'a Record>,
}

/// Where a channel's deliveries begin for a new interest: behind this.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Top {
    pub position: Position,
    pub seq: u64,
}

/// Bytes, about.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Memory {
    /// Records, and channels kept for their position alone. This is what `bytes_max` bounds.
    pub history: usize,
    pub presence: usize,
}

/// All channels of which this shard is home.
pub struct HomeChannels {
    pub(crate) names: Names,
    pub(crate) channels: Slab<Channel>,
    pub(crate) epochs: u32,
    /// Interests that were skipped. Looked at when there is room.
    pub(crate) lagging: VecDeque<Lag>,
    pub(crate) once: Once,
    pub(crate) histories: Lanes,
    pub(crate) idle: Lanes,
    pub(crate) memory: Memory,
    pub(crate) bytes_max: usize,
    pub(crate) evictions: u64,
}

impl HomeChannels {
    /// `epoch` is where this home's epochs begin: unlike an earlier process's. Histories and idle channels may take
    /// `bytes_max`; past it what was used least recently goes.
    pub fn new(epoch: u32, bytes_max: usize) -> Self {
        Self {
            names: Names::default(),
            channels: Slab::new(),
            epochs: epoch,
            lagging: VecDeque::new(),
            once: Once::new(),
            histories: Lanes::new(Kind::History),
            idle: Lanes::new(Kind::Idle),
            memory: Memory::default(),
            bytes_max,
            evictions: 0,
        }
    }

    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Histories and positions that went because all together took too much.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    pub fn interests(&self, name: &str) -> &[InterestedShard] {
        self.key(name).map_or(&[], |key| &self.channels[key as usize].interests)
    }

    pub(crate) fn key(&self, name: &str) -> Option<u32> {
        self.names.find(name, |key| &self.channels[key as usize].name)
    }

    /// A shard wants the channel. Returns behind what its deliveries begin.
    pub fn subscribe(
        &mut self,
        name: &str,
        shard: ShardId,
        feed: GroupId,
        form: WireFormat,
        options: &StreamOptions,
        now: u64,
    ) -> Top {
        let key = self.open(name);
        self.channels[key as usize].interests.push(InterestedShard { shard, feed, form, lagging: false });
        self.settle(key, now);
        if options.keeps() {
            self.touch(key, options, now);
        }
        let channel = &self.channels[key as usize];
        Top { position: channel.top, seq: channel.seq }
    }

    /// Ends what `subscribe` with the same shard and feed began. One follows every subscribe.
    pub fn unsubscribe(&mut self, name: &str, shard: ShardId, feed: GroupId, now: u64) {
        let Some(key) = self.key(name) else { return };
        let channel = &mut self.channels[key as usize];
        let Some(at) = channel.interests.iter().position(|i| i.shard == shard && i.feed == feed) else { return };
        if channel.interests.swap_remove(at).lagging {
            self.lagging.retain(|lag| (lag.shard, lag.feed) != (shard, feed));
        }
        self.settle(key, now);
        self.shed();
    }

    /// Stamps a publication and keeps it, as the options say. `deliver` queues it for an interest, or says false: there is no
    /// room, and the shard is skipped.
    pub fn publish(
        &mut self,
        name: &str,
        draft: Draft<'_>,
        options: &StreamOptions,
        now: u64,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) -> Outcome {
        let once = (!draft.idempotency_key.is_empty()).then(|| self.once.key(name, draft.idempotency_key));
        if let Some(answer) = once.and_then(|key| self.once.answered(key, now)) {
            return Outcome::Duplicate(answer);
        }
        let outcome = match options.keeps() && !draft.skip_history {
            true => self.publish_kept(name, &draft, options, now, deliver),
            false => self.publish_passing(name, deliver),
        };
        if let Some(key) = once
            && !matches!(outcome, Outcome::Stale(_))
        {
            self.once.remember(key, outcome.position(), now);
        }
        outcome
    }

    fn publish_passing(&mut self, name: &str, deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool) -> Outcome {
        let Some(key) = self.key(name) else { return Outcome::Unwanted };
        let channel = &mut self.channels[key as usize];
        if channel.interests.is_empty() {
            return Outcome::Unwanted;
        }
        channel.seq += 1;
        let delivery = Delivery { seq: channel.seq, offset: 0, epoch: channel.top.epoch, previous: None };
        let before = channel.top.offset;
        hand_out(&mut channel.interests, &mut self.lagging, key, &delivery, before, deliver);
        Outcome::Passed
    }

    fn publish_kept(
        &mut self,
        name: &str,
        draft: &Draft<'_>,
        options: &StreamOptions,
        now: u64,
        deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
    ) -> Outcome {
        let key = self.open(name);
        self.touch(key, options, now);
        let channel = &mut self.channels[key as usize];
        let stream = channel.stream.as_mut().expect("a touched channel has a stream");
        if stream.has_version(draft.version, draft.version_epoch) {
            let top = channel.top;
            if stream.len() > 0 {
                self.histories.touch(&mut self.channels, key, options.ttl, now);
            }
            return Outcome::Stale(top);
        }
        let before = channel.top.offset;
        // A delivery that history does not have came between, for whoever got it.
        let previous = stream.last().filter(|last| draft.use_delta && last.seq == channel.seq);
        channel.seq += 1;
        channel.top.offset += 1;
        let Position { epoch, offset } = channel.top;
        let delivery = Delivery { seq: channel.seq, offset, epoch, previous };
        hand_out(&mut channel.interests, &mut self.lagging, key, &delivery, before, deliver);
        let version = || Box::new(Version { number: draft.version, epoch: draft.version_epoch.into() });
        stream.version = (draft.version > 0).then(version);
        let bytes = stream.bytes();
        let record = Record {
            offset: channel.top.offset,
            data: Bytes::copy_from_slice(draft.data),
            who: draft.who.map(Bytes::copy_from_slice),
            json: draft.json,
            tags: Bytes::copy_from_slice(draft.tags),
            version: draft.version,
            time: now,
            seq: channel.seq,
        };
        stream.push(record, options.size);
        self.memory.history = self.memory.history + stream.bytes() - bytes;
        let top = channel.top;
        self.histories.touch(&mut self.channels, key, options.ttl, now);
        self.shed();
        Outcome::Stamped(top)
    }

    /// Where the channel stands. Where it keeps a stream, asking is a use of it, and fixes its epoch.
    pub fn position(&mut self, name: &str, options: &StreamOptions, now: u64) -> Position {
        self.look(name, options, now).map_or(Position::default(), |channel| channel.top)
    }

    /// What a reader gets who read up to `since`. `limit` is the most that he may be owed. A use of the stream.
    pub fn recover(
        &mut self,
        name: &str,
        since: Since,
        limit: usize,
        mode: RecoveryMode<'_>,
        options: &StreamOptions,
        now: u64,
    ) -> Recovery<'_> {
        let channel = self.look(name, options, now);
        let top = channel.map_or(Position::default(), |channel| channel.top);
        history::recover(channel.and_then(|channel| channel.stream.as_deref()), top, since, limit, mode)
    }

    /// A part of the history. A use of the stream.
    pub fn history(
        &mut self,
        name: &str,
        query: Query,
        options: &StreamOptions,
        now: u64,
    ) -> Result<History<'_>, Unrecoverable> {
        let channel = self.look(name, options, now);
        let top = channel.map_or(Position::default(), |channel| channel.top);
        history::history(channel.and_then(|channel| channel.stream.as_deref()), top, query)
    }

    /// The publications go, the position stays.
    pub fn history_remove(&mut self, name: &str) {
        if let Some(key) = self.key(name) {
            self.drop_history(key);
        }
    }

    fn look(&mut self, name: &str, options: &StreamOptions, now: u64) -> Option<&Channel> {
        let key = match options.keeps() {
            true => {
                self.shed();
                let key = self.open(name);
                self.touch(key, options, now);
                key
            }
            false => self.key(name)?,
        };
        Some(&self.channels[key as usize])
    }
}

/// To every interest that does not lag. `before` is the channel's offset before this delivery.
fn hand_out(
    interests: &mut [InterestedShard],
    lagging: &mut VecDeque<Lag>,
    key: u32,
    delivery: &Delivery<'_>,
    before: u64,
    mut deliver: impl FnMut(InterestedShard, &Delivery<'_>) -> bool,
) {
    for interest in interests {
        if !interest.lagging && !deliver(*interest, delivery) {
            interest.lagging = true;
            let InterestedShard { shard, feed, .. } = *interest;
            lagging.push_back(Lag { key, shard, feed, next: delivery.seq, offset: before });
        }
    }
}
