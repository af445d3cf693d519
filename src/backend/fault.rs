//! Why a call to the backend failed, whether another attempt is safe, and what it says about the backend.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use hyper::StatusCode;

use super::stats::Reason;

/// A failed attempt, or a failed call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub reason: Reason,
    /// For the log. It contains nothing of a payload, a header or the endpoint, which may be secret.
    pub detail: Cow<'static, str>,
    pub retry: Retry,
    /// Of the response, if there was one.
    pub status: Option<StatusCode>,
}

/// Whether another attempt is safe and may help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retry {
    /// Nothing of the call was sent.
    Safe,
    /// The backend may have acted on the call.
    IfIdempotent,
    Never,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>, retry: Retry) -> Self {
        Self { reason, detail: detail.into(), retry, status: None }
    }

    /// What the circuit breaker makes of it. A backend that sends any response, even a malformed one, is there.
    pub(crate) fn evidence(&self) -> Evidence {
        match self.reason {
            Reason::Unreachable => Evidence::Backend,
            Reason::Broken | Reason::Late => Evidence::Call,
            Reason::Status if self.retry == Retry::IfIdempotent => Evidence::Call,
            _ => Evidence::None,
        }
    }
}

/// What a fault says about the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Evidence {
    /// Nothing was sent: the backend is gone for every client.
    Backend,
    /// The backend may be gone, or this call's payload provoked it.
    Call,
    None,
}

/// Why a response cannot be used. It never contains the content of the response, which may be secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// Not JSON, or not of the expected structure; where.
    WireFormat { line: usize, column: usize },
    /// The field is not base64.
    Base64(&'static str),
    /// The field must be JSON.
    NotJson(&'static str),
    /// The payload must be JSON because the client's protocol is.
    Unfit,
    /// An error without a code.
    ErrorCode,
    /// A code that a close frame must not carry.
    DisconnectCode(u32),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WireFormat { line, column } => write!(f, "the response is malformed at line {line}, column {column}"),
            Self::Base64(field) => write!(f, "`{field}` is not base64"),
            Self::NotJson(field) => write!(f, "`{field}` is not JSON"),
            Self::Unfit => f.write_str("`data` is not JSON, but the client uses the JSON protocol"),
            Self::ErrorCode => f.write_str("`error` has no code"),
            Self::DisconnectCode(code) => write!(f, "`disconnect` has code {code}; use 3000 to 4999"),
        }
    }
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self::WireFormat { line: error.line(), column: error.column() }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        let reason = if malformed == Malformed::Unfit { Reason::Unfit } else { Reason::Malformed };
        Self::new(reason, malformed.to_string(), Retry::Never)
    }
}

/// The cause at the bottom of an error, such as what the kernel reported. The texts above it may name the URL.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}
