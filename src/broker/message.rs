//! What a home shard asks of a broker, and what the broker answers.
//!
//! A request with a [`Ticket`] is answered exactly once, also if the broker is away. The others are carried out when the broker
//! can be reached, in the order in which they were sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::query::{LogQuery, QueryPage, QueryRefusal};
pub use crate::durable::Durability;
use crate::ids::ShardId;
use crate::protocol::{is_json, one_line};
use crate::pubsub::{HistoryFilter, HistoryOptions, Position, PublicationRecord, TimeRange};

/// Names a request. The home shard chooses it, and may use it again after the answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub(crate) u32);

/// One life of a home shard's subscription to a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeSerial(pub(crate) u32);

/// A request of a home shard about one channel.
pub struct Request {
    pub from: ShardId,
    pub channel: Box<str>,
    pub kind: RequestKind,
}

pub enum RequestKind {
    /// The home shard wants the channel's publications, joins and leaves: `Event::Subscribed` follows, and before it
    /// `Event::SubscribeDelayed` if the broker is away. A second one replaces the first.
    Subscribe(SubscribeSerial),
    /// Ends what `Subscribe` began.
    Unsubscribe,
    Publish {
        ticket: Ticket,
        publish: Box<PublishRequest>,
    },
    /// A client joined or left. `client_info` is packed (`protocol::RawClientInfo`).
    JoinLeave {
        is_join: bool,
        client_info: Bytes,
    },
    /// Reads a part of the history. An epoch in the filter that is not the channel's is not an error here: the answer has the
    /// channel's position, and the caller compares.
    History {
        ticket: Ticket,
        filter: HistoryFilter,
        /// Only a log is asked for less than all times.
        range: TimeRange,
        options: HistoryOptions,
    },
    /// Finds publications of the past, also of other channels. Only a log is asked.
    Query {
        ticket: Ticket,
        query: Box<LogQuery>,
    },
    /// Drops the publications and keeps the position.
    HistoryRemove {
        ticket: Ticket,
    },
    /// Adds a client to the presence, or renews it.
    PresenceSet {
        client: [u8; 16],
        client_info: Bytes,
    },
    PresenceRemove {
        client: [u8; 16],
        user: Box<str>,
    },
    Presence {
        ticket: Ticket,
    },
    PresenceStats {
        ticket: Ticket,
    },
}

/// A publication to make.
#[derive(Clone, Default, Debug)]
pub struct PublishRequest {
    pub data: Bytes,
    /// Packed; empty if the server API published.
    pub client_info: Bytes,
    /// Packed (`protocol::Tags`).
    pub tags: Bytes,
    pub version: u64,
    /// Empty for any.
    pub version_epoch: Box<str>,
    /// Empty for none.
    pub idempotency_key: Box<str>,
    pub use_delta: bool,
    /// Without a history the publication gets no position.
    pub history: HistoryOptions,
    /// What only a log needs.
    pub log: Option<Box<LogFields>>,
}

/// What a log has to know of a publication besides its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFields {
    pub durability: Durability,
    /// The publisher, if queries find publications by it; otherwise empty.
    pub user: Box<str>,
    /// The value of the tag by which queries find it; empty for none.
    pub tag: Box<str>,
}

/// From the broker to a channel's home shard. Those of one channel come in the broker's order.
#[derive(Debug)]
pub enum Event {
    /// From here on every publication arrives; earlier ones may be missing. It comes again when a connection was lost and is
    /// back, and when the mailbox of the shard had no room for a publication.
    Subscribed {
        channel: Box<str>,
        serial: SubscribeSerial,
    },
    /// The broker is away: `Subscribed` follows when it is back.
    SubscribeDelayed {
        channel: Box<str>,
        serial: SubscribeSerial,
    },
    Publication {
        channel: Box<str>,
        record: PublicationRecord,
        position: Option<Position>,
    },
    /// One without a position to a subscription whose channel may be a pattern, with the channel to which it was published.
    PatternPublication {
        channel: Box<str>,
        record: PublicationRecord,
        published_to: Box<str>,
    },
    JoinLeave {
        channel: Box<str>,
        is_join: bool,
        client_info: Bytes,
    },
    Answer {
        ticket: Ticket,
        answer: Result<Answer, BrokerError>,
    },
}

/// The answer to a request with a ticket.
#[derive(Clone, Debug)]
pub enum Answer {
    Published(Published),
    History(HistoryRead),
    HistoryRemoved,
    Query(Result<QueryPage, QueryRefusal>),
    /// Packed client infos.
    Presence(Arc<[Bytes]>),
    PresenceStats {
        clients: u32,
        users: u32,
    },
}

/// What became of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Published {
    /// `None`: the channel has no history.
    pub position: Option<Position>,
    /// It was not made, since its idempotency key or its version is known.
    pub is_suppressed: bool,
}

/// A part of a history: in the order that the filter asks for, with the position at the moment of the read.
#[derive(Clone, Debug)]
pub struct HistoryRead {
    pub records: Vec<PublicationRecord>,
    pub top: Position,
    /// The position in the filter is of an earlier generation of the stream, of which nothing up to its offset was lost: the
    /// records continue it, though its epoch is not that of `top`. Only a log says so.
    pub since_is_kept: bool,
}

impl HistoryRead {
    /// Whether the records continue the position of the filter.
    pub fn continues(&self, filter: HistoryFilter) -> bool {
        self.since_is_kept || filter.is_of_epoch(self.top)
    }
}

/// Why the broker did not do it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerError {
    /// It is away, or the queue to it is full. Nothing happened.
    Unavailable,
    /// The connection was lost, or the time was over, before the answer: it may have happened.
    OutcomeUnknown,
    /// This broker does not have it.
    NotSupported,
    /// It refused the request; its reason.
    Refused(Box<str>),
    /// What was asked for is lost. The position of the channel.
    Missing(Position),
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("the broker is not available"),
            Self::OutcomeUnknown => f.write_str("no answer of the broker, the outcome is unknown"),
            Self::NotSupported => f.write_str("the broker does not support it"),
            Self::Refused(reason) => write!(f, "the broker refused it: {reason}"),
            Self::Missing(_) => f.write_str("a part of the history is lost"),
        }
    }
}

impl Request {
    /// What it takes while it waits, about.
    pub fn bytes(&self) -> usize {
        let content = match &self.kind {
            RequestKind::Publish { publish, .. } => {
                let PublishRequest { data, client_info, tags, version_epoch, idempotency_key, log, .. } = &**publish;
                data.len()
                    + client_info.len()
                    + tags.len()
                    + version_epoch.len()
                    + idempotency_key.len()
                    + log.as_ref().map_or(0, |log| size_of::<LogFields>() + log.user.len() + log.tag.len())
                    + size_of::<PublishRequest>()
            }
            RequestKind::JoinLeave { client_info, .. } | RequestKind::PresenceSet { client_info, .. } => {
                client_info.len()
            }
            RequestKind::PresenceRemove { user, .. } => user.len(),
            RequestKind::Query { query, .. } => query.bytes(),
            _ => 0,
        };
        size_of::<Self>() + self.channel.len() + content
    }

    /// The answer that a refused request gets, if it gets one.
    pub fn ticket(&self) -> Option<Ticket> {
        match self.kind {
            RequestKind::Publish { ticket, .. }
            | RequestKind::History { ticket, .. }
            | RequestKind::HistoryRemove { ticket }
            | RequestKind::Query { ticket, .. }
            | RequestKind::Presence { ticket }
            | RequestKind::PresenceStats { ticket } => Some(ticket),
            _ => None,
        }
    }
}

impl Event {
    /// What other servers published comes unchecked: says of every publication whether it is JSON, and puts that on one line.
    pub(super) fn check(&mut self) {
        match self {
            Self::Publication { record, .. } | Self::PatternPublication { record, .. } => check(record),
            Self::Answer { answer: Ok(Answer::History(read)), .. } => read.records.iter_mut().for_each(check),
            Self::Answer { answer: Ok(Answer::Query(Ok(page))), .. } => {
                page.publications.iter_mut().for_each(|(_, record)| check(record));
            }
            _ => {}
        }
    }

    /// What it takes while it waits, about.
    pub fn bytes(&self) -> usize {
        let content = match self {
            Self::Subscribed { channel, .. } | Self::SubscribeDelayed { channel, .. } => channel.len(),
            Self::Publication { channel, record, .. } => channel.len() + record.bytes(),
            Self::PatternPublication { channel, record, published_to } => {
                channel.len() + record.bytes() + published_to.len()
            }
            Self::JoinLeave { channel, client_info, .. } => channel.len() + client_info.len(),
            Self::Answer { answer: Ok(Answer::History(read)), .. } => {
                read.records.iter().map(PublicationRecord::bytes).sum()
            }
            Self::Answer { answer: Ok(Answer::Query(Ok(page))), .. } => {
                page.publications.iter().map(|(channel, record)| channel.len() + record.bytes()).sum()
            }
            Self::Answer { answer: Ok(Answer::Presence(members)), .. } => {
                members.iter().map(|member| size_of::<Bytes>() + member.len()).sum()
            }
            Self::Answer { .. } => 0,
        };
        size_of::<Self>() + content
    }
}

/// The one check of a publication of a broker; encoders depend on it.
pub(crate) fn check(record: &mut PublicationRecord) {
    if record.is_json {
        return;
    }
    record.is_json = is_json(&record.data);
    if record.is_json
        && let Cow::Owned(line) = one_line(&record.data)
    {
        record.data = line.into();
    }
}
