//! The messages between shards about channels and users. Requests go to the home shard of a channel or user; answers and
//! deliveries come from it. Names, payloads and frames are in the batch's arena (`arena`).

use crate::engine::Context;
use crate::engine::mailbox::Span;
use crate::ids::{ConnId, GroupId, ShardId, SubscriptionId};
use crate::protocol::Filter;
use crate::pubsub::{ChannelTop, DeliveryPosition, LostDeliveries, Position, Since, WireFormat};

pub enum Mail {
    /// To home: the sending shard wants the channel's publications. Exactly one `Unsubscribe` follows.
    Subscribe {
        channel: Span,
        group: GroupId,
        wire_format: WireFormat,
    },
    Unsubscribe {
        channel: Span,
        group: GroupId,
    },
    /// To home, behind the `Subscribe` of its group: what did a subscription miss since a position?
    Recover {
        channel: Span,
        request: RecoverRequest,
    },
    /// To home: a client has subscribed or unsubscribed; `client_info` is packed.
    Join {
        channel: Span,
        client_info: Span,
        options: JoinOptions,
    },
    Leave {
        channel: Span,
        client_info: Span,
        options: JoinOptions,
    },
    /// To home: a client's publication. `options` is packed, and empty for an ordinary one. `is_json`: the data is
    /// known to be JSON.
    Publish {
        channel: Span,
        data: Span,
        client_info: Span,
        options: Span,
        reply_to: ReplyTo,
        is_json: bool,
    },
    /// To home: a query whose reply home encodes (`wire` is the index of the encoding).
    Query {
        channel: Span,
        query: Query,
        reply_to: ReplyTo,
        wire: u8,
    },
    /// From home: the group is live, behind this position.
    Subscribed {
        group: GroupId,
        top: ChannelTop,
    },
    /// From home: the missed publications, packed; none if they cannot be recovered.
    Recovered {
        sub: SubscriptionId,
        position: Position,
        recovered: bool,
        records: Span,
    },
    /// From home: the publication was stamped.
    Published {
        reply_to: ReplyTo,
    },
    /// From home: the reply to a query, as a whole frame for one client.
    Reply {
        conn: ConnId,
        frame: Span,
    },
    /// From home: a publication as a whole frame, the same for all subscribers of the group.
    Deliver {
        group: GroupId,
        at: DeliveryPosition,
        frame: Span,
    },
    /// The same in both forms that a group with deltas needs.
    DeliverDelta {
        group: GroupId,
        at: DeliveryPosition,
        whole: Span,
        delta: Span,
    },
    /// The same for a group whose subscribers have tag filters.
    DeliverTagged {
        group: GroupId,
        at: DeliveryPosition,
        frame: Span,
        tags: Span,
    },
    /// From home: a join or leave push, as a whole frame.
    JoinLeavePush {
        group: GroupId,
        frame: Span,
    },
    /// From home: these deliveries were skipped and cannot be sent again.
    Lost {
        group: GroupId,
        lost: LostDeliveries,
    },
    /// To a user's home: a connection of the user asks to be admitted, or has closed.
    UserConnect {
        user: Span,
        conn: ConnId,
    },
    UserDisconnect {
        user: Span,
        conn: ConnId,
    },
    /// From a user's home: the answer to `UserConnect`.
    UserAdmission {
        conn: ConnId,
        admitted: bool,
    },
    /// From a user's home: another connection of the user has replaced this one.
    Replaced {
        conn: ConnId,
    },
}

const _: () = assert!(size_of::<Mail>() <= 56);

/// What a joining or leaving client changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinOptions {
    /// It is part of the channel's presence.
    pub presence: bool,
    /// Subscribers that want join and leave pushes get one.
    pub push: bool,
}

/// What a subscription may have missed.
pub struct RecoverRequest {
    pub sub: SubscriptionId,
    pub group: GroupId,
    pub since: Since,
    /// Only the latest publication that passes the filter is wanted.
    pub cache: bool,
    pub filter: Option<Box<Filter>>,
}

/// The command that a reply is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    pub conn: ConnId,
    pub id: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    History { limit: i32, reverse: bool, since: Option<Since> },
    Presence,
    PresenceStats,
}

/// Whether publications for a shard fit into its mailbox. Unlike replies and unsubscribes, they are only queued while there
/// is room.
pub(crate) fn has_room(cx: &Context<Mail>, shard: ShardId) -> bool {
    cx.mail.waiting_bytes(shard) < cx.config.mail_bytes_max
}
