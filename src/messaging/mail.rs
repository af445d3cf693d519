//! What shards tell each other about channels and users. Requests go to a channel's or a user's home, answers and deliveries
//! come from it; names, payloads and frames stand in the batch's arena.

use crate::engine::mailbox::Span;
use crate::ids::{ConnId, GroupId, SubscriptionId};
use crate::protocol::Filter;
use crate::pubsub::{ChannelTop, DeliveryPosition, LostDeliveries, Position, Since, WireFormat};

pub enum Mail {
    /// To home: the sender wants the channel. Exactly one `Unsubscribe` follows.
    Subscribe {
        channel: Span,
        feed: GroupId,
        form: WireFormat,
    },
    Unsubscribe {
        channel: Span,
        feed: GroupId,
    },
    /// To home, behind its feed's `Subscribe`: what a subscription missed since a position.
    Recover {
        channel: Span,
        missed: Missed,
    },
    /// To home: a client is there now, a client has left (`who` is packed).
    Enter {
        channel: Span,
        who: Span,
        presence: bool,
        tell: bool,
    },
    Exit {
        channel: Span,
        who: Span,
        presence: bool,
        tell: bool,
    },
    /// To home: a client's publication. `terms` is empty for an ordinary one.
    Publish {
        channel: Span,
        data: Span,
        who: Span,
        terms: Span,
        reply_to: ReplyTo,
        json: bool,
    },
    /// To home: a question whose answer home encodes.
    Query {
        channel: Span,
        query: Query,
        reply_to: ReplyTo,
        wire: u8,
    },
    /// From home: the feed is live, behind this position.
    Subscribed {
        feed: GroupId,
        top: ChannelTop,
    },
    /// From home: packed publications, or none where it could not be recovered.
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
    /// From home: a whole frame for one client.
    Answer {
        conn: ConnId,
        frame: Span,
    },
    /// From home: a whole frame for the feed's subscribers.
    Deliver {
        feed: GroupId,
        at: DeliveryPosition,
        frame: Span,
    },
    /// The same in both forms that a delta feed needs.
    DeliverDelta {
        feed: GroupId,
        at: DeliveryPosition,
        whole: Span,
        delta: Span,
    },
    /// The same for a feed of filters.
    DeliverTagged {
        feed: GroupId,
        at: DeliveryPosition,
        frame: Span,
        tags: Span,
    },
    /// From home: a join or a leave, as a whole frame.
    Notice {
        feed: GroupId,
        frame: Span,
    },
    /// From home: these deliveries were skipped and are not kept.
    Lost {
        feed: GroupId,
        lost: LostDeliveries,
    },
    /// To a user's home: a connection of the user wants to be let in; it is one, or it is gone.
    UserEnter {
        user: Span,
        conn: ConnId,
    },
    UserLeave {
        user: Span,
        conn: ConnId,
    },
    /// From a user's home.
    UserAnswer {
        conn: ConnId,
        admitted: bool,
    },
    /// From a user's home: another connection of the user took the place.
    Replaced {
        conn: ConnId,
    },
}

const _: () = assert!(size_of::<Mail>() <= 56);

/// What a subscription may have missed.
pub struct Missed {
    pub sub: SubscriptionId,
    pub feed: GroupId,
    pub since: Since,
    /// Only the latest is wanted, of those that pass the filter.
    pub cache: bool,
    pub filter: Option<Box<Filter>>,
}

/// The command that waits for an answer.
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
