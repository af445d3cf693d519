//! The verification of a command's token: within the budget of the turn, and with fetched keys.

use super::arena::client_text;
use super::backend_calls;
use super::rejections::Fault;
use super::settings::TokenKind;
use super::state::{CommandContext, Messaging, OnAnswer, Progress};
use crate::auth::grant::SubscribeGrant;
use crate::auth::{KeySet, TokenError, Verifier};
use crate::backend::call::Question;

/// Why a token grants nothing.
pub(crate) enum TokenFailure {
    Expired,
    Invalid,
    /// It is not decided yet: there is no budget in this turn, or its key is fetched and the command runs again.
    Undecided(Progress),
}

/// Verifies a token of a command. If its key is unknown, the key sets are fetched once, and `on_keys` runs the command again.
pub(crate) fn verify_token<T>(
    cx: &mut CommandContext<'_>,
    kind: TokenKind,
    token: &str,
    verify: fn(&Verifier, &str, Option<&KeySet>, u64) -> Result<T, TokenError>,
    on_keys: OnAnswer,
) -> Result<T, TokenFailure> {
    let now_s = cx.unix_s();
    let Messaging { settings, token_checks, .. } = &mut *cx.state;
    let verifier = match (kind, &settings.subscription_tokens) {
        (TokenKind::Subscription, Some(own)) => own,
        _ => &settings.tokens,
    };
    if !cx.retry && !token_checks.admit(verifier, token) {
        return Err(TokenFailure::Undecided(Progress::NoRoom));
    }
    match verify(verifier, token, token_checks.keys(settings, kind), now_s) {
        Ok(grant) => Ok(grant),
        Err(error @ TokenError::Expired) => {
            cx.fault = Some(Fault::of_token(&error));
            Err(TokenFailure::Expired)
        }
        Err(TokenError::UnknownKey { kid }) if !cx.retry => {
            let question = Question::Keys { subscription: kind == TokenKind::Subscription, kid };
            Err(TokenFailure::Undecided(backend_calls::call(cx, 0, question, on_keys)))
        }
        Err(error) => {
            // An unknown key of a subscription token is rejected like a missing permission, and not counted.
            if kind == TokenKind::Connection || matches!(error, TokenError::Invalid(_)) {
                cx.engine.counters.tokens_refused += 1;
            }
            cx.fault = Some(Fault::of_token(&error));
            Err(TokenFailure::Invalid)
        }
    }
}

/// Why a subscription token grants nothing.
pub(crate) enum SubscriptionTokenError {
    Token(TokenFailure),
    /// It is valid, and for another channel, user or client.
    Mismatch,
}

/// What a subscription token grants to this connection in this channel.
pub(crate) fn subscription_token(
    cx: &mut CommandContext<'_>,
    channel: &str,
    token: &str,
    on_keys: OnAnswer,
) -> Result<SubscribeGrant, SubscriptionTokenError> {
    let token = verify_token(cx, TokenKind::Subscription, token, Verifier::subscribe, on_keys)
        .map_err(SubscriptionTokenError::Token)?;
    let session = cx.session();
    let mut text = uuid::Uuid::encode_buffer();
    let client = client_text(session.client, &mut text);
    let matches = token.channel == channel
        && token.user == session.user()
        && token.client.as_deref().is_none_or(|named| named.is_empty() || named == client);
    if !matches {
        cx.fault = Some(Fault::OTHER_SUBSCRIPTION);
        return Err(SubscriptionTokenError::Mismatch);
    }
    Ok(token.grant)
}
