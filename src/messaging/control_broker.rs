//! Calls of the server API that a broker carries out: the home shard checks them, and asks.

use super::api_call::{ApiCall, ApiReply};
use super::api_checks::{check_history, check_presence, history_filter, publication};
use super::broker_calls;
use super::control_request::Answer;
use super::home_broker::Publisher;
use super::mail::Mail;
use super::state::Messaging;
use crate::broker::message::RequestKind;
use crate::engine::Context;
use crate::protocol::ErrorCode;
use crate::pubsub::{HistoryFilter, TimeRange};

/// Whether a broker has what the call is about.
pub(super) fn is_of_broker(state: &Messaging, call: &ApiCall) -> bool {
    let Some(broker) = &state.broker else { return false };
    match call {
        ApiCall::Publish { .. } | ApiCall::History { .. } | ApiCall::HistoryRemove { .. } => {
            broker.links.publications.is_some()
        }
        ApiCall::Presence { .. } | ApiCall::PresenceStats { .. } => broker.links.presence.is_some(),
        _ => false,
    }
}

pub(super) fn api_call(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    call: ApiCall,
    answer: Answer<Result<ApiReply, ErrorCode>>,
) {
    let none = HistoryFilter::default();
    let checked = match &call {
        ApiCall::History { channel, query } => history_filter(state, channel, query),
        ApiCall::HistoryRemove { channel } => check_history(state, channel).map(|()| none),
        ApiCall::Presence { channel } | ApiCall::PresenceStats { channel } => {
            check_presence(state, channel).map(|()| none)
        }
        _ => Ok(none),
    };
    let filter = match checked {
        Ok(filter) => filter,
        Err(error) => return answer(Err(error)),
    };
    match call {
        ApiCall::Publish { channel, publish } => {
            let mut tags = Vec::new();
            match publication(state, &channel, &publish, &mut tags) {
                Ok(publication) => broker_calls::publish(state, cx, &publication, Publisher::Api(answer)),
                Err(error) => answer(Err(error)),
            }
        }
        ApiCall::History { channel, .. } => {
            let options = state.settings.history_options(&channel);
            let kind = |ticket| RequestKind::History { ticket, filter, range: TimeRange::ALL, options };
            broker_calls::api_call(state, &channel, filter, answer, kind);
        }
        ApiCall::HistoryRemove { channel } => {
            broker_calls::api_call(state, &channel, none, answer, |ticket| RequestKind::HistoryRemove { ticket });
        }
        ApiCall::Presence { channel } => {
            broker_calls::api_call(state, &channel, none, answer, |ticket| RequestKind::Presence { ticket });
        }
        ApiCall::PresenceStats { channel } => {
            broker_calls::api_call(state, &channel, none, answer, |ticket| RequestKind::PresenceStats { ticket });
        }
        _ => answer(Err(ErrorCode::BadRequest)),
    }
}
