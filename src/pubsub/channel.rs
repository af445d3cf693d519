//! A channel in its home shard, and the shards that have subscribers for it.

use std::rc::Rc;

use smallvec::SmallVec;

use super::epoch::Epoch;
use super::history::ChannelHistory;
use super::position::Position;
use super::presence::Presence;
use super::retention::{Linked, ListKind, ListLinks};
use super::shares::NamespaceNumber;
use super::wire_format::WireFormat;
use crate::ids::{ChannelKey, GroupId, ShardId};

/// A shard that has subscribers for a channel in one wire format. It names them by the id of its subscriber group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InterestedShard {
    pub(crate) shard: ShardId,
    pub(crate) group: GroupId,
    pub(crate) wire_format: WireFormat,
    /// A delivery was skipped for lack of room: the shard gets none before the missed ones are resent.
    pub(super) lagging: bool,
}

const _: () = assert!(size_of::<InterestedShard>() <= 16);

impl InterestedShard {
    pub(crate) fn new(shard: ShardId, group: GroupId, wire_format: WireFormat) -> Self {
        Self { shard, group, wire_format, lagging: false }
    }
}

/// Where a lagging shard stopped. It lacks the deliveries from there to the channel's last one.
pub(super) struct LaggingShard {
    pub(super) channel: ChannelKey,
    pub(super) shard: ShardId,
    pub(super) group: GroupId,
    /// The first delivery that was skipped.
    pub(super) next_seq: u64,
    /// The channel's offset before that delivery.
    pub(super) offset: u64,
}

pub(super) struct Channel {
    pub(super) name: Rc<str>,
    pub(super) top: Position,
    /// The sequence number of the last delivery.
    pub(super) seq: u64,
    /// Most channels have one.
    pub(super) shards: SmallVec<[InterestedShard; 1]>,
    pub(super) history: Option<Box<ChannelHistory>>,
    pub(super) presence: Option<Box<Presence>>,
}

/// A channel with one interested shard takes this and its name.
const _: () = assert!(size_of::<Channel>() <= 88);

/// The memory of an idle channel, without its name: itself, its history, its place in the name index.
pub(super) const IDLE_BYTES: usize = size_of::<Channel>() + size_of::<ChannelHistory>() + 32;

impl Channel {
    pub(super) fn new(name: &str, epoch: Epoch) -> Self {
        let top = Position { epoch, offset: 0 };
        Self { name: name.into(), top, seq: 0, shards: SmallVec::new(), history: None, presence: None }
    }

    /// True if no shard has subscribers and no client is in the presence.
    pub(super) fn is_idle(&self) -> bool {
        self.shards.is_empty() && self.presence.is_none()
    }

    /// The namespace to which its bytes count.
    pub(super) fn namespace(&self) -> NamespaceNumber {
        self.history.as_ref().map_or(0, |history| history.namespace)
    }

    /// What it costs while it is idle, without its records.
    pub(super) fn idle_bytes(&self) -> usize {
        IDLE_BYTES + self.name.len()
    }

    /// What counts to its namespace now.
    pub(super) fn kept_bytes(&self) -> usize {
        let idle = if self.is_listed_idle() { self.idle_bytes() } else { 0 };
        idle + self.history.as_ref().map_or(0, |history| history.bytes())
    }

    /// True if the channel is in the list of idle channels.
    pub(super) fn is_listed_idle(&self) -> bool {
        self.history.as_ref().is_some_and(|history| history.links[ListKind::Idle as usize].is_linked())
    }
}

impl Linked for Channel {
    fn links(&self, kind: ListKind) -> &ListLinks {
        &self.history.as_ref().expect("only channels with a history are listed").links[kind as usize]
    }

    fn links_mut(&mut self, kind: ListKind) -> &mut ListLinks {
        &mut self.history.as_mut().expect("only channels with a history are listed").links[kind as usize]
    }
}
