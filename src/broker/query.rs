//! A query over the past of a log, across its channels.

use std::fmt;
use std::sync::Arc;

use crate::pubsub::{PublicationRecord, TimeRange};

/// Whether a query is about a channel.
pub type ChannelFilter = dyn Fn(&str) -> bool + Send + Sync;

/// What is asked of a log: publications of some channels, by what is indexed.
#[derive(Clone)]
pub struct LogQuery {
    pub by: QueryKey,
    /// Which of several logs is asked; without one, that of the request's channel.
    pub log: Option<usize>,
    pub range: TimeRange,
    /// Publications, at most; above 0.
    pub limit: u32,
    /// The page ends behind the publication that passes it.
    pub bytes_max: usize,
    /// Newest first.
    pub reverse: bool,
    /// Where the page before ended; empty for the first page.
    pub cursor: Box<str>,
    /// Publications of other channels are left out.
    pub accepts: Arc<ChannelFilter>,
}

/// What finds the publications of a query, besides the time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryKey {
    /// The publisher, if it was a client.
    User(Box<str>),
    /// The tag that its namespace names (`history_index_tag`).
    Tag { key: Box<str>, value: Box<str> },
}

/// A page of the publications that a query finds, by time.
#[derive(Clone, Default, Debug)]
pub struct QueryPage {
    pub publications: Vec<(Box<str>, PublicationRecord)>,
    /// Where the next page begins; empty after the last one.
    pub cursor: Box<str>,
}

/// Why a log does not answer a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryRefusal {
    /// The log did not make the cursor, or it made it for another query.
    BadCursor,
    /// Nothing indexes what the query asks for.
    NoIndex,
}

impl LogQuery {
    /// What it takes while it waits, about.
    pub(super) fn bytes(&self) -> usize {
        let key = match &self.by {
            QueryKey::User(name) => name.len(),
            QueryKey::Tag { key, value } => key.len() + value.len(),
        };
        size_of::<Self>() + key + self.cursor.len()
    }
}

impl fmt::Debug for LogQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, range, limit, reverse, cursor, .. } = self;
        write!(f, "LogQuery({by:?}, {range:?}, {limit}, {reverse}, {cursor:?})")
    }
}
