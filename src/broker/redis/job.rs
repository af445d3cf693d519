//! What a connection for commands is asked to do.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

use super::messages::Stamp;
use crate::broker::message::{PublishRequest, Request, RequestKind};

pub(super) enum Job {
    Request(Request),
    /// A request that another server of the cluster has sent on.
    Redirected(Box<Redirected>),
    /// Tells that everything that was sent before has its answer. Sent as a ping.
    Fence(Box<dyn FnOnce()>),
    /// In front of a request that a server takes only if it is asked.
    Asking,
    /// Publishes a message of the cluster.
    Control {
        channel: String,
        payload: Vec<u8>,
    },
    /// Publishes a probe.
    Probe {
        channel: String,
        outcome: Rc<Cell<ProbeOutcome>>,
    },
    /// Only asks whether the server answers.
    Ping,
}

/// A request that goes from server to server.
pub(super) struct Redirected {
    pub(super) request: Request,
    pub(super) sending: Sending,
    pub(super) first_sent: Instant,
    pub(super) asks: bool,
    pub(super) hops: u8,
}

/// What a command needs besides the job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sending {
    pub(super) stamp: Stamp,
    pub(super) attempt: Attempt,
    /// With the script's text, for a server that does not know it.
    pub(super) with_text: bool,
}

/// What became of a probe's publication.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum ProbeOutcome {
    #[default]
    Sent,
    Accepted,
    Failed,
}

/// How often it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    First,
    /// The answer to the first one was lost.
    Second,
}

pub(super) fn has_history(publish: &PublishRequest) -> bool {
    publish.history.size > 0 && publish.history.ttl_ms > 0
}

impl Job {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Request(request) => request.bytes(),
            Self::Redirected(redirected) => redirected.request.bytes(),
            Self::Control { channel, payload } => size_of::<Self>() + channel.len() + payload.len(),
            Self::Probe { .. } => size_of::<Self>(),
            Self::Fence(_) | Self::Asking | Self::Ping => 0,
        }
    }

    pub(super) fn request(&self) -> Option<&Request> {
        match self {
            Self::Request(request) => Some(request),
            Self::Redirected(redirected) => Some(&redirected.request),
            _ => None,
        }
    }

    fn publication(&self) -> Option<&PublishRequest> {
        match &self.request()?.kind {
            RequestKind::Publish { publish, .. } => Some(publish),
            _ => None,
        }
    }

    /// Whether it may be sent again if its answer was lost: Redis then finds that it is done.
    pub(super) fn can_repeat(&self) -> bool {
        self.publication().is_some_and(|publish| has_history(publish) || !publish.idempotency_key.is_empty())
    }

    /// Whether a lost answer leaves open what happened.
    pub(super) fn has_effect(&self) -> bool {
        !self.request().is_some_and(|request| {
            matches!(
                request.kind,
                RequestKind::History { .. } | RequestKind::Presence { .. } | RequestKind::PresenceStats { .. }
            )
        })
    }

    /// A stamp for the message of a publication.
    pub(super) fn stamp(&self, now_ms: i64, nonce: impl FnOnce() -> u64) -> Stamp {
        let nonce = if self.publication().is_some_and(has_history) { nonce() } else { 0 };
        Stamp { time_ms: now_ms, nonce }
    }
}
