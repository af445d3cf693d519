//! What shards tell each other about channels. Requests go to a channel's home, answers and deliveries come from it; names,
//! payloads and frames stand in the batch's arena.

use crate::bus::Span;
use crate::hub::{Form, Position};
use crate::ids::{ConnId, FeedId};

pub enum Mail {
    /// To home: the sender wants the channel. Exactly one `Unsubscribe` follows.
    Subscribe {
        channel: Span,
        feed: FeedId,
        form: Form,
    },
    Unsubscribe {
        channel: Span,
        feed: FeedId,
    },
    /// To home: a client's publication.
    Publish {
        channel: Span,
        data: Span,
        conn: ConnId,
        client: [u8; 16],
        id: u32,
    },
    /// From home: the feed is live, behind this position.
    Subscribed {
        feed: FeedId,
        position: Position,
    },
    /// From home: the publication was stamped.
    Published {
        conn: ConnId,
        id: u32,
    },
    /// From home: a whole frame for the feed's subscribers.
    Deliver {
        feed: FeedId,
        offset: u64,
        frame: Span,
    },
    /// From home: publications up to this offset were skipped and are not kept.
    Lost {
        feed: FeedId,
        first: u64,
        last: u64,
    },
}

const _: () = assert!(size_of::<Mail>() <= 56);
