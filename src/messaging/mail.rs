//! The messages between shards about channels and users. Requests go to the home shard of a channel or user; answers and
//! deliveries come from it. Names, payloads and frames are in the batch's arena (`arena`).

use bytes::Bytes;

use super::api_call::PastQuery;
use crate::broker::query::QueryPage;
use crate::engine::log_ring::RestartCause;
use crate::engine::mailbox::Span;
use crate::engine::{Context, Injection};
use crate::ids::{ConnId, GroupId, ShardId, SubscriptionId};
use crate::protocol::{Encoding, ErrorCode, Filter, Tags};
use crate::pubsub::{
    ChannelTop, DeliveryPosition, HistoryFilter, LostDeliveries, Position, PublicationRecord, RecoveryMode,
    RecoveryRequest, Since, TimeRange, WireFormat,
};

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
    /// To home: a query (`wire` is the index of the encoding). `allows_small`: a small reply needs no payment.
    Query {
        channel: Span,
        query: Query,
        reply_to: ReplyTo,
        wire: u8,
        allows_small: bool,
    },
    /// From home: the reply to a `Query` or `Recover` has to be paid for. To home: it is paid for.
    TooLarge(Box<LargeRequest>),
    PaidRequest(Box<LargeRequest>),
    /// From home: the group is live, behind this position.
    Subscribed {
        group: GroupId,
        top: ChannelTop,
    },
    /// From home: the missed publications; none if they cannot be recovered.
    Recovered {
        sub: SubscriptionId,
        position: Position,
        recovered: bool,
        records: Box<[PublicationRecord]>,
        reserved: Reserved,
    },
    /// From home: the broker is away, and the subscribes that wait for the group fail.
    SubscribeFailed {
        group: GroupId,
    },
    /// From home: the broker is away, and the subscribe fails.
    RecoveryFailed {
        sub: SubscriptionId,
        reserved: Reserved,
    },
    /// From home: a query failed, or a publication was not made.
    QueryFailed {
        reply_to: ReplyTo,
        error: ErrorCode,
        reserved: Reserved,
    },
    PublishFailed {
        reply_to: ReplyTo,
        error: ErrorCode,
    },
    /// From home: the group goes on at another position of the broker.
    Restart {
        group: GroupId,
        top: ChannelTop,
        cause: RestartCause,
    },
    /// From home: a part of a history.
    History(Box<HistoryAnswer>),
    /// To home: a question about the past, whose reply is paid for. From home: the answer.
    Past(Box<PastRequest>),
    PastReply(Box<PastReply>),
    /// From home: the entries of a presence, encoded and shared by all replies with them.
    Presence {
        reply_to: ReplyTo,
        entries: Bytes,
        reserved: Reserved,
    },
    /// From home: the publication was stamped.
    Published {
        reply_to: ReplyTo,
    },
    /// From home: a short reply to a query, as a whole frame for one client.
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
    /// To the shard of a stream: commands that came for it by another connection.
    Emulate {
        conn: ConnId,
        by: ConnId,
        data: Span,
    },
    /// The answer to `Emulate`.
    Emulated {
        by: ConnId,
        outcome: Injection,
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

/// Bytes that were reserved for a reply before it was requested.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Reserved(pub u32);

/// A request whose reply is too large to be produced before it is paid for.
pub struct LargeRequest {
    pub channel: Box<str>,
    pub question: Question,
    /// What the reply takes.
    pub bytes: u32,
    pub reserved: Reserved,
}

impl LargeRequest {
    /// So many bytes or more.
    pub(super) const BYTES_MAX: u32 = u32::MAX;

    pub(super) fn new(channel: &str, question: Question, bytes: usize, reserved: Reserved) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(Self::BYTES_MAX);
        Self { channel: channel.into(), question, bytes, reserved }
    }
}

pub enum Question {
    Query {
        query: Query,
        reply_to: ReplyTo,
        encoding: Encoding,
    },
    /// `is_refused`: there is no memory for it, and the subscription begins without what it missed.
    Recovery {
        request: RecoverRequest,
        is_refused: bool,
    },
}

/// A part of a history, by reference.
pub struct HistoryAnswer {
    pub reply_to: ReplyTo,
    /// None if the position that the client named is of another epoch.
    pub records: Option<Box<[PublicationRecord]>>,
    pub top: Position,
    pub reserved: Reserved,
}

/// A question about the past by one of the reserved rpc methods.
pub struct PastRequest {
    /// Empty for a query across channels.
    pub channel: Box<str>,
    pub question: PastQuestion,
    pub reply_to: ReplyTo,
    pub reserved: Reserved,
}

pub enum PastQuestion {
    History { filter: HistoryFilter, range: TimeRange },
    Query(Box<PastQuery>),
}

pub struct PastReply {
    pub reply_to: ReplyTo,
    pub reserved: Reserved,
    pub result: Result<PastAnswer, ErrorCode>,
}

pub enum PastAnswer {
    History { records: Box<[PublicationRecord]>, top: Position },
    Page(QueryPage),
}

/// What a subscription may have missed.
pub struct RecoverRequest {
    pub sub: SubscriptionId,
    pub group: GroupId,
    pub since: Since,
    /// Only the latest publication that passes the filter is wanted.
    pub cache: bool,
    /// A small answer needs no payment.
    pub allows_small: bool,
    pub filter: Option<Box<Filter>>,
}

impl RecoverRequest {
    /// Whether the subscription wants a publication.
    pub(super) fn accepts(&self, record: &PublicationRecord) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(Tags::from_bytes(&record.tags)))
    }

    /// What a history is asked for. `accepts` is that of this request.
    pub(super) fn asked<'a>(
        &self,
        limit: usize,
        accepts: &'a dyn Fn(&PublicationRecord) -> bool,
    ) -> RecoveryRequest<'a> {
        let filter = self.filter.is_some().then_some(accepts);
        let mode = if self.cache { RecoveryMode::Cache { filter } } else { RecoveryMode::Stream };
        RecoveryRequest { since: self.since, limit, mode }
    }
}

/// The command that a reply is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    pub conn: ConnId,
    pub id: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    /// `has_since`: it begins at `since`. Both are one field in `HistoryFilter`, which would make every message larger.
    History {
        limit: i32,
        reverse: bool,
        has_since: bool,
        since: Since,
    },
    Presence,
    PresenceStats,
}

/// The client that gets a reply, and what may be sent to it.
#[derive(Clone, Copy)]
pub(crate) struct Inquiry {
    pub shard: ShardId,
    pub query: Query,
    pub reply_to: ReplyTo,
    pub encoding: Encoding,
    /// A larger reply has to be paid for first.
    pub bytes_max: usize,
    pub reserved: Reserved,
}

impl Query {
    pub(super) fn history(filter: HistoryFilter) -> Self {
        let HistoryFilter { since, limit, reverse } = filter;
        let none = Since { epoch: None, offset: 0 };
        Self::History { limit, reverse, has_since: since.is_some(), since: since.unwrap_or(none) }
    }

    /// Which part of a history it asks for, if it asks for one.
    pub(super) fn filter(self) -> Option<HistoryFilter> {
        let Self::History { limit, reverse, has_since, since } = self else { return None };
        Some(HistoryFilter { since: has_since.then_some(since), limit, reverse })
    }
}

/// Whether publications for a shard fit into its mailbox. Unlike replies and unsubscribes, they are only queued while there
/// is room.
pub(crate) fn has_room(cx: &Context<Mail>, shard: ShardId) -> bool {
    cx.mail.waiting_bytes(shard) < cx.config.mail_bytes_max
}
