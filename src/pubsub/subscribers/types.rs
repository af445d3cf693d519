//! Subscriptions and subscriber groups, and what goes in and out of them.

use std::rc::Rc;

use thin_vec::ThinVec;

use crate::ids::{ConnId, GroupId, GroupKey, OptionU32, SubscriptionId, SubscriptionKey};
use crate::pubsub::position::Position;
use crate::pubsub::wire_format::WireFormat;
use crate::slow_policy::SlowConsumerPolicy;

bitflags::bitflags! {
    /// What the caller wants to remember of a subscription.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub(crate) struct SubscriptionFlags: u16 {
        /// The server made it: a client cannot end it, and if state is lost the connection closes.
        const SERVER_SIDE = 1;
        /// It must learn of every gap.
        const POSITIONED = 1 << 1;
        const RECOVERABLE = 1 << 2;
        /// It is in the channel's presence.
        const PRESENCE = 1 << 3;
        /// Its join and its leave are pushed to others.
        const JOIN_LEAVE = 1 << 4;
        /// The client refreshes it, and not the backend.
        const CLIENT_REFRESH = 1 << 5;
        /// The connection token named it.
        const FROM_TOKEN = 1 << 6;
        /// A recovery brings only the channel's newest publication.
        const CACHE = 1 << 7;
    }
}

/// The subscriptions of one connection: the head of a list that is linked through them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct SubscriptionList {
    pub(super) first: OptionU32<SubscriptionKey>,
}

impl SubscriptionList {
    pub(crate) fn is_empty(self) -> bool {
        self.first.is_none()
    }

    /// The subscription that was added last.
    pub(crate) fn first(self) -> Option<SubscriptionKey> {
        self.first.get()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Goes live with its group.
    Pending,
    /// Goes live by an answer of its own.
    Recovering,
    /// Live, but has no publication yet that a delta could be applied to.
    AwaitingBase,
    /// Live from a place of the turn buffer on; a member after the turn.
    Joining,
    Member,
    Left,
}

/// One subscription of one connection. `D` is what the caller keeps with it, if anything.
pub(super) struct Subscription<D> {
    pub(super) conn: ConnId,
    pub(super) group: GroupKey,
    /// Member: its place in the group's vectors. Awaiting its base: its place in that list. Joining: where its share of the
    /// turn buffer begins.
    pub(super) index: u32,
    /// The connection's next subscription.
    pub(super) next: OptionU32<SubscriptionKey>,
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) flags: SubscriptionFlags,
    pub(super) detail: Option<Box<D>>,
}

const _: () = assert!(size_of::<Subscription<u64>>() <= 40);

pub(super) struct SubscriberGroup {
    pub(super) generation: u32,
    /// The next group of the channel, in another wire format.
    pub(super) next_of_channel: OptionU32<GroupKey>,
    pub(super) channel: Rc<str>,
    pub(super) wire_format: WireFormat,
    pub(super) slow_policy: SlowConsumerPolicy,
    /// The home shard has answered: `seq` and `position` are those of the last delivery.
    pub(super) is_live: bool,
    /// A delivery was lost, so that deltas cannot be applied: the next publication goes out whole.
    pub(super) base_lost: bool,
    pub(super) seq: u64,
    pub(super) position: Position,
    /// Subscriptions that did not leave.
    pub(super) count: u32,
    pub(super) member_slots: Rc<Vec<u32>>,
    pub(super) members: Vec<SubscriptionKey>,
    pub(super) pending: ThinVec<SubscriptionKey>,
    pub(super) joining: ThinVec<SubscriptionKey>,
    pub(super) awaiting_base: ThinVec<SubscriptionKey>,
    pub(super) leaving: ThinVec<SubscriptionKey>,
    /// Frames that came since the last flush began.
    pub(super) turn: Vec<u8>,
    pub(super) turn_messages: u32,
    /// Where the newest publication among them begins.
    pub(super) turn_latest: OptionU32<u32>,
    /// It is in the list that the end of the turn goes through.
    pub(super) is_touched: bool,
}

/// A channel with one subscriber costs this, its name, and twice four places of members. The home shard has its own part.
const _: () = assert!(size_of::<SubscriberGroup>() <= 168);

impl SubscriberGroup {
    /// Where the newest publication of the turn begins.
    pub(super) fn latest(&self) -> Option<usize> {
        self.turn_latest.get().map(|at| at as usize)
    }
}

/// What makes a new subscription live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activation {
    /// Its group: at once, or by `activate_group`.
    WithGroup,
    /// An answer of its own, by `activate_recovered`.
    ByRecovery,
}

/// Whether a subscription has the publication that the next delta applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeltaBase {
    Known,
    Missing,
}

/// A subscription to add.
pub(crate) struct NewSubscription<'a, D> {
    pub(crate) conn: ConnId,
    pub(crate) channel: &'a str,
    pub(crate) wire_format: WireFormat,
    /// Of the channel: the same for all its subscriptions.
    pub(crate) slow_policy: SlowConsumerPolicy,
    pub(crate) flags: SubscriptionFlags,
    pub(crate) detail: Option<Box<D>>,
    pub(crate) activation: Activation,
}

/// A subscription that was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AddedSubscription {
    pub(crate) id: SubscriptionId,
    pub(crate) group: GroupId,
    /// The group is new: the caller subscribes to the channel at its home shard.
    pub(crate) opened_group: bool,
    /// Set if the subscription is live at once: the channel's position at this moment.
    pub(crate) live_at: Option<Position>,
}

/// The last subscription of a group left: the caller unsubscribes at the home shard.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct ClosedGroup {
    pub(crate) id: GroupId,
    pub(crate) channel: Rc<str>,
}

/// What the end of a turn sends.
pub(crate) enum TurnOutput<'a> {
    /// To one joining subscription: its part of the turn.
    Unicast(PendingUnicast<'a>),
    Broadcast(PendingBroadcast),
}

/// The frames of a turn for all members of a group.
pub(crate) struct PendingBroadcast {
    pub(crate) group: GroupId,
    pub(crate) slow_policy: SlowConsumerPolicy,
    pub(crate) member_slots: Rc<Vec<u32>>,
    pub(crate) frames: Rc<Vec<u8>>,
    /// Where the newest publication begins in the frames.
    pub(crate) latest: Option<usize>,
    pub(crate) messages: u32,
}

/// The frames of a turn for one subscription that joined during it.
pub(crate) struct PendingUnicast<'a> {
    pub(crate) conn: ConnId,
    pub(crate) group: GroupId,
    pub(crate) slow_policy: SlowConsumerPolicy,
    pub(crate) share: TurnShare<'a>,
}

/// A subscription's part of the turn buffer.
#[derive(Clone, Copy, Default)]
pub(crate) struct TurnShare<'a> {
    pub(crate) frames: &'a [u8],
    /// Where the newest publication begins in the frames.
    pub(crate) latest: Option<usize>,
}
