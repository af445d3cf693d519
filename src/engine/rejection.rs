//! What a client was refused, and the codes with which connections were closed: the kinds that the metrics count and the
//! log names. Both are bounded by the tables here, whatever clients and backends send.

use std::fmt::Write;

/// Text of a client that a log line shows, in bytes.
const SHOWN_BYTES_MAX: usize = 128;

/// Why a command or a frame of an open connection was refused. The index is the place in `Counters::rejections`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Rejection {
    /// A token, or what it granted, has expired or is not valid yet.
    TokenExpired,
    TokenMalformed,
    TokenAlgorithm,
    /// The key set lacks the key of a token.
    TokenKey,
    /// The key set could not be fetched: the client may try again.
    TokenKeysAbsent,
    TokenSignature,
    TokenClaims,
    TokenAudience,
    TokenIssuer,
    /// A valid token of another user, channel or client.
    TokenMismatch,
    /// A frame that breaks RFC 6455.
    MalformedFrame,
    MalformedCommand,
    /// A command at the wrong time, or with fields that mean nothing.
    BadRequest,
    Permission,
    UnknownChannel,
    /// A command or a method that is disabled.
    NotAvailable,
    AlreadySubscribed,
    /// No room for another call to the backend.
    TooManyRequests,
    /// The backend refused the command.
    Backend,
}

impl Rejection {
    /// Each with its label in the metrics.
    pub const ALL: [(Self, &'static str); 19] = [
        (Self::TokenExpired, "token_expired"),
        (Self::TokenMalformed, "token_malformed"),
        (Self::TokenAlgorithm, "token_algorithm"),
        (Self::TokenKey, "token_key_unknown"),
        (Self::TokenKeysAbsent, "token_keys_absent"),
        (Self::TokenSignature, "token_signature"),
        (Self::TokenClaims, "token_claims"),
        (Self::TokenAudience, "token_audience"),
        (Self::TokenIssuer, "token_issuer"),
        (Self::TokenMismatch, "token_mismatch"),
        (Self::MalformedFrame, "malformed_frame"),
        (Self::MalformedCommand, "malformed_command"),
        (Self::BadRequest, "bad_request"),
        (Self::Permission, "permission_denied"),
        (Self::UnknownChannel, "unknown_channel"),
        (Self::NotAvailable, "not_available"),
        (Self::AlreadySubscribed, "already_subscribed"),
        (Self::TooManyRequests, "too_many_requests"),
        (Self::Backend, "backend"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The token is at fault, not the command that brought it.
    pub fn is_of_token(self) -> bool {
        (self as usize) <= Self::TokenMismatch as usize
    }
}

/// The close codes that are counted one by one: those of RFC 6455 that a server sends, and those of the client protocol.
/// Backends and the server API choose among all of 3000 to 4999; others count together.
pub const CLOSE_CODES: [u16; 30] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 3000, 3001, 3004, 3005, 3006, 3008, 3009, 3010, 3011, 3012, 3013,
    3014, 3500, 3501, 3502, 3503, 3504, 3505, 3506, 3507, 3508, 3509,
];

/// How often the server closed a connection, by code; the last one is for codes that are not in `CLOSE_CODES`.
#[derive(Clone, Default, Debug)]
pub struct Closes([u64; CLOSE_CODES.len() + 1]);

impl Closes {
    pub fn count(&mut self, code: u16) {
        self.0[CLOSE_CODES.binary_search(&code).unwrap_or(CLOSE_CODES.len())] += 1;
    }

    /// The count of each code, and last of all others.
    pub fn by_code(&self) -> [(Option<u16>, u64); CLOSE_CODES.len() + 1] {
        std::array::from_fn(|at| (CLOSE_CODES.get(at).copied(), self.0[at]))
    }
}

/// Appends text that a client chose: quoted, without control characters, and cut.
pub fn show(out: &mut String, text: &str) {
    let end = (0..=text.len().min(SHOWN_BYTES_MAX)).rfind(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let shown = &text[..end];
    let rest = if shown.len() < text.len() { "…" } else { "" };
    write!(out, "{shown:?}{rest}").expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_of_a_rejection_is_its_place_in_the_table() {
        for (index, (rejection, name)) in Rejection::ALL.iter().enumerate() {
            assert_eq!((*rejection as usize, rejection.name()), (index, *name));
        }
    }

    #[test]
    fn closes_are_counted_by_known_code_and_together_otherwise() {
        assert!(CLOSE_CODES.is_sorted());
        let mut closes = Closes::default();
        for code in [3500, 3500, 1000, 4999, 65535, 0, 3002] {
            closes.count(code);
        }
        let counted: Vec<_> = closes.by_code().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Some(1000), 1), (Some(3500), 2), (None, 4)]);
    }

    #[test]
    fn text_of_a_client_is_quoted_and_cut() {
        let mut out = String::new();
        show(&mut out, "a\n\u{1b}[31m\"");
        assert_eq!(out, r#""a\n\u{1b}[31m\"""#);
        out.clear();
        show(&mut out, &"ü".repeat(1000));
        assert_eq!(out, format!("\"{}\"…", "ü".repeat(64)));
    }
}
