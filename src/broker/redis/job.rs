//! What a connection for commands is asked to do.

use std::cell::Cell;
use std::rc::Rc;

use super::messages::Stamp;
use crate::broker::message::{PublishRequest, Request, RequestKind};

pub(super) enum Job {
    Request(Request),
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
            Self::Control { channel, payload } => size_of::<Self>() + channel.len() + payload.len(),
            Self::Probe { .. } => size_of::<Self>(),
            // The link itself sends it.
            Self::Ping => 0,
        }
    }

    /// Whether it may be sent again if its answer was lost: Redis then finds that it is done.
    pub(super) fn can_repeat(&self) -> bool {
        match self {
            Self::Request(Request { kind: RequestKind::Publish { publish, .. }, .. }) => {
                has_history(publish) || !publish.idempotency_key.is_empty()
            }
            _ => false,
        }
    }

    /// Whether a lost answer leaves open what happened.
    pub(super) fn has_effect(&self) -> bool {
        let reads = |kind: &RequestKind| {
            matches!(
                kind,
                RequestKind::History { .. } | RequestKind::Presence { .. } | RequestKind::PresenceStats { .. }
            )
        };
        !matches!(self, Self::Request(request) if reads(&request.kind))
    }

    /// A stamp for the message of a publication.
    pub(super) fn stamp(&self, now_ms: i64, nonce: impl FnOnce() -> u64) -> Stamp {
        let nonce = match self {
            Self::Request(Request { kind: RequestKind::Publish { publish, .. }, .. }) if has_history(publish) => {
                nonce()
            }
            _ => 0,
        };
        Stamp { time_ms: now_ms, nonce }
    }
}
