//! Makes the answer for a shard from a backend's response in either encoding.
//!
//! A disconnect code must be valid in a close frame. Codes that the protocol itself defines (103, 3501) are allowed, because
//! many backends use them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::value::RawValue;

use super::call::{Answer, Call, Question};
use super::fault::Malformed;
use super::reply::{
    ConnectResult, DisconnectPart, ErrorPart, Flag, Object, Override, PublishResult, RefreshResult, Reply, RpcResult,
    SubscribeResult, one_line,
};
use super::settings::EmptyConnect;
use crate::auth::grant::{ConnectGrant, Overrides, Publish, RefreshGrant, SubscribeGrant};
use crate::ws::CLOSE_REASON_BYTES_MAX;

/// Codes that a close frame may carry: the protocol's and the application's (RFC 6455, section 7.4.2).
const DISCONNECT_CODES: std::ops::RangeInclusive<u32> = 3000..=4999;
/// How the protocol closes a connection that has no user.
const NO_USER: (u16, &str) = (3501, "bad request");

/// The answer if the backend rejects a call. A refresh that is rejected means that the connection or subscription has expired.
pub(crate) fn refusal(call: &Call, refusal: Answer) -> Answer {
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

/// The part of a response that counts.
fn content<T>(call: &Call, reply: Reply<T>) -> Result<Content<T>, Malformed> {
    if let Some(DisconnectPart { code, mut reason }) = reply.disconnect {
        if !DISCONNECT_CODES.contains(&code) {
            return Err(Malformed::DisconnectCode(code));
        }
        let fits = (0..=CLOSE_REASON_BYTES_MAX.min(reason.len())).rev().find(|&end| reason.is_char_boundary(end));
        reason.truncate(fits.unwrap_or(0));
        return Ok(Content::Refusal(refusal(call, Answer::Disconnect { code: code as u16, reason })));
    }
    match reply.error {
        Some(ErrorPart { code: 0, .. }) => Err(Malformed::ErrorCode),
        Some(ErrorPart { code, message, temporary }) => {
            Ok(Content::Refusal(refusal(call, Answer::Error { code, message, temporary })))
        }
        None => Ok(Content::Result(reply.result)),
    }
}

enum Content<T> {
    Result(Option<T>),
    Refusal(Answer),
}

pub(crate) fn connect(call: &Call, reply: Reply<ConnectResult>, empty: EmptyConnect) -> Result<Answer, Malformed> {
    Ok(match content(call, reply)? {
        Content::Result(Some(result)) => Answer::Connect(connect_grant(result, call.caller.binary)?),
        Content::Result(None) if empty == EmptyConnect::Anonymous => Answer::Connect(ConnectGrant::default()),
        Content::Result(None) => Answer::Disconnect { code: NO_USER.0, reason: NO_USER.1.into() },
        Content::Refusal(refusal) => refusal,
    })
}

pub(crate) fn subscribe(call: &Call, reply: Reply<SubscribeResult>) -> Result<Answer, Malformed> {
    Ok(match content(call, reply)? {
        Content::Result(result) => Answer::Subscribe(subscribe_grant(result.unwrap_or_default(), call.caller.binary)?),
        Content::Refusal(refusal) => refusal,
    })
}

pub(crate) fn publish(call: &Call, reply: Reply<PublishResult>) -> Result<Answer, Malformed> {
    Ok(match content(call, reply)? {
        Content::Result(result) => Answer::Publish(publication(result.unwrap_or_default())?),
        Content::Refusal(refusal) => refusal,
    })
}

pub(crate) fn rpc(call: &Call, reply: Reply<RpcResult>) -> Result<Answer, Malformed> {
    Ok(match content(call, reply)? {
        Content::Result(result) => {
            let RpcResult { data, b64data } = result.unwrap_or_default();
            Answer::Rpc { data: for_client(data, &b64data, call.caller.binary)? }
        }
        Content::Refusal(refusal) => refusal,
    })
}

/// For `refresh` and `sub_refresh`. An error or a disconnect refuses whatever its code is: a malformed response would extend
/// what the backend wants to end.
pub(crate) fn refresh(call: &Call, reply: Reply<RefreshResult>) -> Result<Answer, Malformed> {
    Ok(match reply {
        Reply { result: Some(result), error: None, disconnect: None } => renewed(call, renewal(result)?),
        _ => renewed(call, EXPIRED),
    })
}

fn connect_grant(result: ConnectResult, binary: bool) -> Result<ConnectGrant, Malformed> {
    let channels = result.channels.into_iter();
    let mut subs: BTreeMap<String, SubscribeGrant> = channels.map(|channel| (channel, Default::default())).collect();
    for (channel, sub) in result.subs {
        // In this protocol a server-side subscription does not expire on its own.
        let grant = sub.map(|Object(sub)| subscribe_grant(sub, binary)).transpose()?.unwrap_or_default();
        subs.insert(channel, SubscribeGrant { expire_at: None, ..grant });
    }
    Ok(ConnectGrant {
        user: result.user,
        expire_at: expiry(result.expire_at),
        info: bytes("info", result.info, &result.b64info)?,
        data: for_client(result.data, &result.b64data, binary)?,
        meta: as_json("meta", result.meta.unwrap_or_default())?,
        subs: subs.into_iter().collect(),
    })
}

fn subscribe_grant(result: SubscribeResult, binary: bool) -> Result<SubscribeGrant, Malformed> {
    let Object(Override { presence, join_leave, force_recovery, force_positioning, force_push_join_leave }) =
        result.overrides;
    let value = |flag: Option<Object<Flag>>| flag.map(|Object(Flag { value })| value);
    Ok(SubscribeGrant {
        info: bytes("info", result.info, &result.b64info)?,
        data: for_client(result.data, &result.b64data, binary)?,
        expire_at: expiry(result.expire_at),
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
        expire_at: expiry(result.expire_at),
        info: bytes("info", result.info, &result.b64info)?,
        meta: as_json("meta", result.meta.unwrap_or_default())?,
    })
}

/// Here `data` has precedence over `b64data`, unlike elsewhere. The channel's home shard checks the publication.
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

fn expiry(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|&seconds| seconds > 0)
}

/// The bytes of a payload: decoded from base64 if there is any, else as received.
fn bytes(field: &'static str, raw: Option<Vec<u8>>, b64: &str) -> Result<Vec<u8>, Malformed> {
    match b64 {
        "" => Ok(raw.unwrap_or_default()),
        _ => BASE64.decode(b64.as_bytes()).map_err(|_| Malformed::Base64(field)),
    }
}

/// A payload for the client of the call, which must be JSON unless the client uses the Protobuf protocol.
fn for_client(raw: Option<Vec<u8>>, b64: &str, binary: bool) -> Result<Vec<u8>, Malformed> {
    let found = bytes("data", raw, b64)?;
    if binary { Ok(found) } else { as_json("data", found).map_err(|_| Malformed::Unfit) }
}

/// The bytes, which must be one JSON value or empty.
fn as_json(field: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let json: &RawValue = serde_json::from_slice(&bytes).map_err(|_| Malformed::NotJson(field))?;
    Ok(one_line(json.get()))
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
