//! From a backend's reply, in whichever encoding it came, to the answer that a shard acts on.
//!
//! Codes are checked for what can be sent at all, not for what is the backend's to use: many answer with the dialect's
//! own codes (103, 3501).

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::value::RawValue;

use super::call::{Answer, Call, Question};
use super::reply::{
    ConnectResult, DisconnectPart, ErrorPart, Flag, Object, Override, PublishResult, RefreshResult, Reply, RpcResult,
    SubscribeResult, one_line,
};
use crate::auth::grant::{ConnectGrant, Overrides, Publish, RefreshGrant, SubscribeGrant};
use crate::ws::CLOSE_REASON_BYTES_MAX;

/// Codes that a close frame of ours may carry: the dialect's and the application's (RFC 6455, 7.4.2).
const DISCONNECT_CODES: std::ops::RangeInclusive<u32> = 3000..=4999;
/// What the dialect closes with where nobody said who a connection is.
const NO_USER: (u16, &str) = (3501, "bad request");

/// Why a reply cannot be acted on: never what it holds, which may be a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Not JSON, or not of the form; where.
    WireFormat { line: usize, column: usize },
    /// The field is no base64.
    Base64(&'static str),
    /// The field must be JSON.
    NotJson(&'static str),
    /// The payload must be JSON because the client's protocol is.
    Unfit,
    /// An error without a code.
    ErrorCode,
    /// A code that no close frame may carry.
    DisconnectCode(u32),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WireFormat { line, column } => write!(f, "the reply is malformed at line {line}, column {column}"),
            Self::Base64(field) => write!(f, "`{field}` is not base64"),
            Self::NotJson(field) => write!(f, "`{field}` is not JSON"),
            Self::Unfit => f.write_str("`data` is not JSON, but the client speaks JSON"),
            Self::ErrorCode => f.write_str("`error` has no code"),
            Self::DisconnectCode(code) => {
                write!(f, "a connection cannot be closed with code {code}, but with 3000-4999")
            }
        }
    }
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self::WireFormat { line: error.line(), column: error.column() }
    }
}

/// A refusal in the form that the kind of call knows. A renewal knows none: what is not renewed has expired.
pub fn refused(call: &Call, refusal: Answer) -> Answer {
    match &call.question {
        Question::Refresh | Question::SubRefresh { .. } => renewed(call, EXPIRED),
        _ => refusal,
    }
}

const EXPIRED: RefreshGrant = RefreshGrant { expired: true, expire_at: None, info: Vec::new(), meta: Vec::new() };

fn renewed(call: &Call, renewal: RefreshGrant) -> Answer {
    match &call.question {
        Question::SubRefresh { .. } => Answer::SubRefresh(RefreshGrant { meta: Vec::new(), ..renewal }),
        _ => Answer::Refresh(renewal),
    }
}

/// A reply without its refusals, or the refusal. `disconnect` goes before `error`, and either before a result.
fn taken<T>(call: &Call, reply: Reply<T>) -> Result<Taken<T>, Malformed> {
    if let Some(DisconnectPart { code, mut reason }) = reply.disconnect {
        if !DISCONNECT_CODES.contains(&code) {
            return Err(Malformed::DisconnectCode(code));
        }
        let fits = (0..=CLOSE_REASON_BYTES_MAX.min(reason.len())).rev().find(|&end| reason.is_char_boundary(end));
        reason.truncate(fits.unwrap_or(0));
        return Ok(Taken::Refusal(refused(call, Answer::Disconnect { code: code as u16, reason })));
    }
    match reply.error {
        Some(ErrorPart { code: 0, .. }) => Err(Malformed::ErrorCode),
        Some(ErrorPart { code, message, temporary }) => {
            Ok(Taken::Refusal(refused(call, Answer::Error { code, message, temporary })))
        }
        None => Ok(Taken::Result(reply.result)),
    }
}

enum Taken<T> {
    Result(Option<T>),
    Refusal(Answer),
}

/// `anonymous`: a reply without a result is the anonymous user.
pub fn connected(call: &Call, reply: Reply<ConnectResult>, anonymous: bool) -> Result<Answer, Malformed> {
    Ok(match taken(call, reply)? {
        Taken::Result(Some(result)) => Answer::Connect(connect(result, call.caller.binary)?),
        Taken::Result(None) if anonymous => Answer::Connect(ConnectGrant::default()),
        Taken::Result(None) => Answer::Disconnect { code: NO_USER.0, reason: NO_USER.1.into() },
        Taken::Refusal(refusal) => refusal,
    })
}

pub fn subscribed(call: &Call, reply: Reply<SubscribeResult>) -> Result<Answer, Malformed> {
    Ok(match taken(call, reply)? {
        Taken::Result(result) => Answer::Subscribe(subscription(result.unwrap_or_default(), call.caller.binary)?),
        Taken::Refusal(refusal) => refusal,
    })
}

pub fn published(call: &Call, reply: Reply<PublishResult>) -> Result<Answer, Malformed> {
    Ok(match taken(call, reply)? {
        Taken::Result(result) => Answer::Publish(publication(result.unwrap_or_default())?),
        Taken::Refusal(refusal) => refusal,
    })
}

pub fn called(call: &Call, reply: Reply<RpcResult>) -> Result<Answer, Malformed> {
    Ok(match taken(call, reply)? {
        Taken::Result(result) => {
            let RpcResult { data, b64data } = result.unwrap_or_default();
            Answer::Rpc { data: for_client(data, &b64data, call.caller.binary)? }
        }
        Taken::Refusal(refusal) => refusal,
    })
}

/// Of both kinds of renewal.
pub fn refreshed(call: &Call, reply: Reply<RefreshResult>) -> Result<Answer, Malformed> {
    Ok(match taken(call, reply)? {
        Taken::Result(Some(result)) => renewed(call, renewal(result)?),
        Taken::Result(None) => renewed(call, EXPIRED),
        Taken::Refusal(refusal) => refusal,
    })
}

fn connect(result: ConnectResult, binary: bool) -> Result<ConnectGrant, Malformed> {
    let channels = result.channels.into_iter();
    let mut subs: BTreeMap<String, SubscribeGrant> = channels.map(|channel| (channel, Default::default())).collect();
    for (channel, sub) in result.subs {
        // The dialect gives a server-side subscription no end of its own.
        let grant = sub.map(|Object(sub)| subscription(sub, binary)).transpose()?.unwrap_or_default();
        subs.insert(channel, SubscribeGrant { expire_at: None, ..grant });
    }
    Ok(ConnectGrant {
        user: result.user,
        expire_at: at(result.expire_at),
        info: bytes("info", result.info, &result.b64info)?,
        data: for_client(result.data, &result.b64data, binary)?,
        meta: as_json("meta", result.meta.unwrap_or_default())?,
        subs: subs.into_iter().collect(),
    })
}

fn subscription(result: SubscribeResult, binary: bool) -> Result<SubscribeGrant, Malformed> {
    let Object(Override { presence, join_leave, force_recovery, force_positioning, force_push_join_leave }) =
        result.overrides;
    let value = |flag: Option<Object<Flag>>| flag.map(|Object(Flag { value })| value);
    Ok(SubscribeGrant {
        info: bytes("info", result.info, &result.b64info)?,
        data: for_client(result.data, &result.b64data, binary)?,
        expire_at: at(result.expire_at),
        overrides: Overrides {
            presence: value(presence),
            join_leave: value(join_leave),
            force_recovery: value(force_recovery),
            force_positioning: value(force_positioning),
            force_push_join_leave: value(force_push_join_leave),
        },
    })
}

fn renewal(result: RefreshResult) -> Result<RefreshGrant, Malformed> {
    if result.expired {
        return Ok(EXPIRED);
    }
    Ok(RefreshGrant {
        expired: false,
        expire_at: at(result.expire_at),
        info: bytes("info", result.info, &result.b64info)?,
        meta: as_json("meta", result.meta.unwrap_or_default())?,
    })
}

/// Here `data` goes before `b64data`, unlike elsewhere. Whether it may be published, its channel's home judges.
fn publication(result: PublishResult) -> Result<Publish, Malformed> {
    let b64data = if result.data.is_some() { "" } else { result.b64data.as_str() };
    Ok(Publish {
        data: bytes("data", result.data, b64data)?,
        tags: result.tags.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        skip_history: result.skip_history,
        idempotency_key: result.idempotency_key,
        delta: result.delta,
        version: result.version,
        version_epoch: result.version_epoch,
    })
}

fn at(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|&seconds| seconds > 0)
}

/// A payload's bytes: base64 where there is some, else as they came.
fn bytes(field: &'static str, raw: Option<Vec<u8>>, b64: &str) -> Result<Vec<u8>, Malformed> {
    match b64 {
        "" => Ok(raw.unwrap_or_default()),
        _ => BASE64.decode(b64.as_bytes()).map_err(|_| Malformed::Base64(field)),
    }
}

/// A payload for the caller itself, whose frames take JSON only unless its protocol is the binary one.
fn for_client(raw: Option<Vec<u8>>, b64: &str, binary: bool) -> Result<Vec<u8>, Malformed> {
    let found = bytes("data", raw, b64)?;
    if binary { Ok(found) } else { as_json("data", found).map_err(|_| Malformed::Unfit) }
}

/// The bytes where they are one JSON value, or none.
fn as_json(field: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let json: &RawValue = serde_json::from_slice(&bytes).map_err(|_| Malformed::NotJson(field))?;
    Ok(one_line(json.get()))
}

#[cfg(test)]
#[path = "decode_reply_tests.rs"]
mod tests;
