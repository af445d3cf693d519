//! Calls of the server API that a broker carries out: the home shard checks them, and asks.

use super::api_call::{ApiCall, ApiReply};
use super::api_checks::{HistoryPart, check_history, check_presence, check_range, history_part, publication};
use super::broker_calls;
use super::control_request::Answer;
use super::home_broker::Publisher;
use super::mail::Mail;
use super::state::Messaging;
use crate::broker::message::RequestKind;
use crate::engine::Context;
use crate::protocol::ErrorCode;

/// Whether a broker has what the call is about.
pub(super) fn is_of_broker(state: &Messaging, call: &ApiCall) -> bool {
    let Some(broker) = &state.broker else { return false };
    match call {
        ApiCall::Publish { channel, .. } | ApiCall::History { channel, .. } | ApiCall::HistoryRemove { channel } => {
            state.is_brokered(channel)
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
    let none = HistoryPart::default();
    let checked = match &call {
        ApiCall::History { channel, query } => {
            history_part(state, channel, query).and_then(|part| check_range(state, part.range).map(|()| part))
        }
        ApiCall::HistoryRemove { channel } => check_history(state, channel).map(|()| none),
        ApiCall::Presence { channel } | ApiCall::PresenceStats { channel } => {
            check_presence(state, channel).map(|()| none)
        }
        _ => Ok(none),
    };
    let part = match checked {
        Ok(part) => part,
        Err(error) => return answer(Err(error)),
    };
    match call {
        ApiCall::Publish { channel, publish } => {
            if state.is_handover_peer_full() {
                return answer(Err(ErrorCode::TooManyRequests));
            }
            let mut tags = Vec::new();
            match publication(state, &channel, &publish, &mut tags) {
                Ok(publication) => broker_calls::publish(state, cx, &publication, Publisher::Api(answer)),
                Err(error) => answer(Err(error)),
            }
        }
        ApiCall::History { channel, .. } => {
            let options = state.settings.history_options(&channel);
            let HistoryPart { filter, range, .. } = part;
            let kind = |ticket| RequestKind::History { ticket, filter, range, options };
            broker_calls::api_call(state, &channel, part, answer, kind);
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
