//! What the metrics and the log say of a command that is rejected.
//!
//! `CommandContext::reject` and `end` report every rejection, so that no place that rejects can forget it. A place that
//! knows more than the error code says leaves it in `CommandContext::fault` first. A line shows the client's id, user and
//! channel, and never a token or data.

use super::session::Session;
use crate::auth::{InvalidToken, TokenError};
use crate::engine::rejection::{Rejection, show};
use crate::protocol::{Body, Disconnect, ErrorCode, client_text};

const EXPIRED: &str = "it has expired or is not valid yet";

/// Why a command is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub why: Rejection,
    /// The cause, as part of a sentence.
    pub detail: &'static str,
}

/// What the server does about it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// The code of an error reply.
    Error(u32),
    /// The code of a close frame.
    Close(u16),
}

impl Fault {
    pub(super) const OTHER_USER: Self = Self { why: Rejection::TokenMismatch, detail: "it is valid for another user" };
    pub(super) const OTHER_SUBSCRIPTION: Self =
        Self { why: Rejection::TokenMismatch, detail: "it is valid for another channel, user or client" };

    pub(super) const NO_KEYS: Self = Self {
        why: Rejection::TokenKeysAbsent,
        detail: "its key is unknown, and the key set could not be fetched or has no keys",
    };
    pub(super) const BACKEND: Self = Self { why: Rejection::Backend, detail: "the backend rejected it" };

    pub(super) const fn malformed(detail: &'static str) -> Self {
        Self { why: Rejection::MalformedCommand, detail }
    }

    /// The key id and the claims of the token are not shown.
    pub(super) fn of_token(error: &TokenError) -> Self {
        match error {
            TokenError::Expired => Self { why: Rejection::TokenExpired, detail: EXPIRED },
            TokenError::UnknownKey { .. } => Self { why: Rejection::TokenKey, detail: "the key set lacks its key" },
            TokenError::Invalid(invalid) => of_invalid_token(*invalid),
        }
    }
}

fn of_invalid_token(invalid: InvalidToken) -> Fault {
    let why = match invalid {
        InvalidToken::TooLong | InvalidToken::Form | InvalidToken::Header | InvalidToken::Critical => {
            Rejection::TokenMalformed
        }
        InvalidToken::Algorithm | InvalidToken::NoKey | InvalidToken::KeyKind => Rejection::TokenAlgorithm,
        InvalidToken::NoKeyId => Rejection::TokenKey,
        InvalidToken::Signature => Rejection::TokenSignature,
        InvalidToken::Audience => Rejection::TokenAudience,
        InvalidToken::Issuer => Rejection::TokenIssuer,
        InvalidToken::Claims
        | InvalidToken::Base64
        | InvalidToken::UserClaim
        | InvalidToken::ChannelInConnectToken
        | InvalidToken::NoChannel => Rejection::TokenClaims,
    };
    Fault { why, detail: invalid.text() }
}

/// The kind of an error reply. `None` if something else reports it: a limit, a failed call, a recovery.
pub(super) fn of_error(error: ErrorCode) -> Option<Fault> {
    let why = match error {
        ErrorCode::Unauthorized | ErrorCode::PermissionDenied => Rejection::Permission,
        ErrorCode::UnknownChannel => Rejection::UnknownChannel,
        ErrorCode::MethodNotFound | ErrorCode::NotAvailable => Rejection::NotAvailable,
        ErrorCode::AlreadySubscribed => Rejection::AlreadySubscribed,
        ErrorCode::BadRequest => Rejection::BadRequest,
        ErrorCode::TokenExpired | ErrorCode::Expired => Rejection::TokenExpired,
        ErrorCode::TooManyRequests => Rejection::TooManyRequests,
        ErrorCode::Internal
        | ErrorCode::LimitExceeded
        | ErrorCode::UnrecoverablePosition
        | ErrorCode::ConcurrentPagination => return None,
    };
    let detail = if why == Rejection::TokenExpired { EXPIRED } else { error.message() };
    Some(Fault { why, detail })
}

/// The kind of a close. `None` if it is no rejection of what the client sent, or a limit reports it.
pub(super) fn of_disconnect(disconnect: Disconnect) -> Option<Fault> {
    let why = match disconnect {
        Disconnect::InvalidToken => Rejection::TokenMismatch,
        Disconnect::BadRequest => Rejection::BadRequest,
        Disconnect::InappropriateProtocol => Rejection::MalformedCommand,
        Disconnect::PermissionDenied => Rejection::Permission,
        Disconnect::NotAvailable => Rejection::NotAvailable,
        _ => return None,
    };
    Some(Fault { why, detail: disconnect.reason() })
}

/// The line without the address: what was rejected, why, what the server does, and of which client.
pub(super) fn describe(session: &Session, raw: &[u8], Fault { why, detail }: Fault, action: Action) -> String {
    let command = session.encoding.command(raw);
    let body = command.as_ref().map(|command| &command.body);
    let (what, channel) = (body.map_or("a command", Body::name), body.and_then(Body::channel));
    let action = match action {
        Action::Error(code) => format!("answered with error {code}"),
        Action::Close(code) => format!("closing the connection with {code}"),
    };
    let of_token = if why.is_of_token() { "the token of " } else { "" };
    let mut line = format!("rejected {of_token}{what}: {detail}; {action}");
    if session.client != [0; 16] {
        let mut text = uuid::Uuid::encode_buffer();
        line = line + "; client " + client_text(session.client, &mut text);
    }
    for (label, text) in [("; user ", Some(session.user()).filter(|user| !user.is_empty())), ("; channel ", channel)] {
        if let Some(text) = text {
            line.push_str(label);
            show(&mut line, text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::session::{Phase, Transport};
    use crate::protocol::Encoding;

    #[test]
    fn line_names_command_cause_action_client_and_channel_and_shows_no_token() {
        let mut session = Session::new(Encoding::Json, Phase::Connected, Transport::WebSocket);
        session.client = [0x11; 16];
        let raw = br#"{"id":1,"subscribe":{"channel":"news:\u001b[0m","token":"hush"}}"#;
        let fault = Fault::of_token(&TokenError::Invalid(InvalidToken::Signature));
        assert_eq!(
            describe(&session, raw, fault, Action::Error(103)),
            "rejected the token of subscribe: its signature was not made with the configured key; answered with error 103; \
             client 11111111-1111-1111-1111-111111111111; channel \"news:\\u{1b}[0m\""
        );
        let line = describe(&session, b"", Fault::malformed("it is not a command"), Action::Close(3501));
        assert!(
            line.starts_with("rejected a command: it is not a command; closing the connection with 3501"),
            "{line}"
        );
    }

    #[test]
    fn key_id_of_a_token_is_not_shown() {
        let fault = Fault::of_token(&TokenError::UnknownKey { kid: "hush".into() });
        assert!(fault.why == Rejection::TokenKey && !fault.detail.contains("hush"));
    }
}
