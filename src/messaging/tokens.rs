//! The verification of a command's token: costly ones in the order of the signature queue, and with fetched keys.

use super::backend_calls;
use super::rejections::Fault;
use super::settings::TokenKind;
use super::state::{CommandContext, KeyFetch, Messaging, OnAnswer, Progress};
use crate::auth::grant::SubscribeGrant;
use crate::auth::{InvalidToken, KeySet, TokenError, Verifier};
use crate::backend::call::{Fetched, Question};
use crate::protocol::client_text;

/// The work of a token besides reading its bytes twice, in bytes that cost the same: a hash, and the claims.
const TOKEN_WORK: usize = 1024;
/// And that of a signature of a public key.
const SIGNATURE_WORK: usize = 8 * 1024;

/// Why a token grants nothing.
pub(crate) enum TokenFailure {
    Expired,
    Invalid,
    /// Its key is unknown, and the key set could not be fetched or has no keys. The token may be valid: the client tries again later.
    NoKeys,
    /// It is not decided yet: its signature waits in the queue (`Progress::Deferred`), or its key is fetched and the command
    /// runs again.
    Undecided(Progress),
}

/// Verifies a token of a command. If its key is unknown, the key sets are fetched, and `on_keys` runs the command again. An
/// unknown key refuses the token only if the set was fetched after the token had arrived.
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
    let (address, now) = (cx.engine.address_key(cx.conn), cx.engine.now());
    let is_costly = verifier.is_costly(token);
    if is_costly && cx.keys == KeyFetch::NotRequested && !token_checks.signatures.admit(cx.conn, address, now) {
        return Err(TokenFailure::Undecided(Progress::Deferred));
    }
    let work = TOKEN_WORK + 2 * token.len() + if is_costly { SIGNATURE_WORK } else { 0 };
    cx.engine.charge(work as u32);
    match verify(verifier, token, token_checks.keys(settings, kind), now_s) {
        Ok(grant) => Ok(grant),
        Err(error @ TokenError::Expired) => {
            cx.fault = Some(Fault::of_token(&error));
            Err(TokenFailure::Expired)
        }
        Err(TokenError::UnknownKey { .. }) if cx.keys == KeyFetch::Failed => {
            cx.fault = Some(Fault::NO_KEYS);
            Err(TokenFailure::NoKeys)
        }
        Err(TokenError::UnknownKey { .. }) if cx.keys != KeyFetch::Done(Fetched::AfterCall) => {
            let question = Question::Keys { subscription: settings.has_own_keys(kind) };
            Err(TokenFailure::Undecided(backend_calls::call(cx, 0, question, on_keys)))
        }
        // A set without keys is rather a mistake of its provider, under which no client has a better token.
        Err(TokenError::UnknownKey { .. }) if token_checks.keys(settings, kind).is_some_and(KeySet::is_empty) => {
            cx.fault = Some(Fault::NO_KEYS);
            Err(TokenFailure::NoKeys)
        }
        Err(error) => {
            if is_costly && error == TokenError::Invalid(InvalidToken::Signature) {
                token_checks.signatures.forged(address, now);
            }
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
