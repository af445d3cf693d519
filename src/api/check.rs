//! Checks a request and makes an `ApiCall` of it: everything that is rejected without asking a shard.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use data_encoding::BASE64;

use super::fields::{PayloadField, StringField, UnsupportedField};
use super::request::{self, ApiRequest, BoolValue};
use super::shard_api::{ApiError, ApiResult};
use crate::auth;
use crate::auth::grant::{self, RefreshGrant, SubscribeGrant};
use crate::messaging::api_call::{
    ApiCall, ConnectionSelector, HistoryQuery, PAST_LIMIT_DEFAULT, PAST_LIMIT_MAX, PastKey, PastQuery, StreamPosition,
};
use crate::protocol::{Disconnect, ErrorCode};
use crate::ws::CLOSE_REASON_BYTES_MAX;

/// Codes with which the API may close a connection: those of the protocol and those of applications.
const DISCONNECT_CODES: RangeInclusive<u32> = 3000..=4999;

/// The limits that a request must meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    /// Bytes of a channel name.
    pub channel_bytes_max: usize,
    /// Bytes of a publication's data.
    pub data_bytes_max: usize,
}

impl RequestLimits {
    /// Errors: the request is wrong as it is, or this server does not serve it.
    ///
    /// The channels of a broadcast are not checked: each has a reply of its own.
    pub(crate) fn check(&self, request: &ApiRequest<'_>) -> ApiResult<ApiCall> {
        match request {
            ApiRequest::Publish(fields) => self.publish(fields),
            ApiRequest::Broadcast(fields) => self.broadcast(fields),
            ApiRequest::Subscribe(fields) => self.subscribe(fields),
            ApiRequest::Unsubscribe(fields) => self.unsubscribe(fields),
            ApiRequest::Disconnect(fields) => disconnect(fields),
            ApiRequest::Refresh(fields) => refresh(fields),
            ApiRequest::Presence(fields) => Ok(ApiCall::Presence { channel: self.channel(&fields.channel)? }),
            ApiRequest::PresenceStats(fields) => Ok(ApiCall::PresenceStats { channel: self.channel(&fields.channel)? }),
            ApiRequest::History(fields) => {
                let since = fields.since.as_ref().map(position);
                let request::History { limit, reverse, time_from, time_to, .. } = *fields;
                let query = HistoryQuery { limit, since, reverse, time_from, time_to };
                Ok(ApiCall::History { channel: self.channel(&fields.channel)?, query })
            }
            ApiRequest::HistoryQuery(fields) => self.history_query(fields),
            ApiRequest::HistoryRemove(fields) => Ok(ApiCall::HistoryRemove { channel: self.channel(&fields.channel)? }),
            ApiRequest::Channels(fields) => match auth::glob(&fields.pattern) {
                Some(_) => Ok(ApiCall::Channels { pattern: (*fields.pattern).into() }),
                None => Err(bad_request("`pattern` is not a valid glob")),
            },
            ApiRequest::Info(_) => Ok(ApiCall::Info),
            ApiRequest::Rpc(fields) if fields.method.is_empty() => Err(bad_request("`method` is missing")),
            // The protocol has this method for extensions that are compiled in. This server has no extensions.
            ApiRequest::Rpc(_) => Err(ErrorCode::MethodNotFound.into()),
        }
    }

    /// Errors: the shards must not be asked about this name. Unlike a client's, it may have any characters.
    pub(crate) fn check_channel(&self, name: &str) -> ApiResult<()> {
        let bytes_max = self.channel_bytes_max;
        match name {
            "" => Err(bad_request("`channel` is missing or empty")),
            _ if name.len() > bytes_max => {
                Err(bad_request(format!("the channel name is longer than {bytes_max} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn channel(&self, name: &str) -> ApiResult<Box<str>> {
        self.check_channel(name).map(|()| name.into())
    }

    fn publish(&self, fields: &request::Publish<'_>) -> ApiResult<ApiCall> {
        if fields.channel.is_empty() && !fields.channels.is_empty() {
            return Err(bad_request("`channels` belongs to broadcast; publish takes `channel`"));
        }
        Ok(ApiCall::Publish { channel: self.channel(&fields.channel)?, publish: self.publication(fields)? })
    }

    fn broadcast(&self, fields: &request::Publish<'_>) -> ApiResult<ApiCall> {
        if fields.channels.is_empty() {
            return Err(match fields.channel.is_empty() {
                true => bad_request("`channels` is missing or empty"),
                false => bad_request("`channel` belongs to publish; broadcast takes `channels`"),
            });
        }
        let channels = fields.channels.iter().map(|channel| (**channel).into()).collect();
        Ok(ApiCall::Broadcast { channels, publish: self.publication(fields)? })
    }

    fn publication(&self, fields: &request::Publish<'_>) -> ApiResult<grant::Publish> {
        let data = match (&fields.data.0, fields.b64data.is_empty()) {
            (Some(data), false) if &**data != b"null" => {
                return Err(bad_request("`data` and `b64data` exclude each other"));
            }
            (Some(data), true) => data.to_vec(),
            (_, false) => decode_base64("b64data", &fields.b64data)?,
            (None, true) => return Err(bad_request("`data` is missing")),
        };
        if data.len() > self.data_bytes_max {
            return Err(bad_request(format!("the data is longer than {} bytes", self.data_bytes_max)));
        }
        Ok(grant::Publish {
            data,
            tags: fields.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            skip_history: fields.skip_history,
            idempotency_key: fields.idempotency_key.to_string(),
            delta: fields.delta,
            version: fields.version,
            version_epoch: fields.version_epoch.to_string(),
        })
    }

    fn history_query(&self, fields: &request::HistoryQuery<'_>) -> ApiResult<ApiCall> {
        let request::HistoryQuery { channel, namespace, user, tag, time_from, time_to, limit, reverse, cursor } =
            fields;
        let channel = if channel.is_empty() { "".into() } else { self.channel(channel)? };
        if !channel.is_empty() && !namespace.is_empty() {
            return Err(bad_request("`channel` and `namespace` exclude each other"));
        }
        let key = match (&**user, tag) {
            ("", None) if channel.is_empty() => {
                return Err(bad_request("one of `user`, `tag` and `channel` is needed"));
            }
            ("", None) => PastKey::Channel,
            ("", Some(tag)) if tag.key.is_empty() => return Err(bad_request("`tag.key` is missing or empty")),
            ("", Some(tag)) => PastKey::Tag { key: (*tag.key).into(), value: (*tag.value).into() },
            (user, None) => PastKey::User(user.into()),
            (_, Some(_)) => return Err(bad_request("`user` and `tag` exclude each other")),
        };
        let limit = match u32::try_from(*limit) {
            Ok(0) => PAST_LIMIT_DEFAULT,
            Ok(limit) if limit <= PAST_LIMIT_MAX => limit,
            _ => return Err(bad_request(format!("`limit` is not within 1 to {PAST_LIMIT_MAX}"))),
        };
        let namespace = (!namespace.is_empty()).then(|| (**namespace).into());
        let (time_from, time_to, reverse, cursor) = (*time_from, *time_to, *reverse, (**cursor).into());
        let query = PastQuery { channel, namespace, key, time_from, time_to, limit, reverse, cursor };
        Ok(ApiCall::HistoryQuery { query: Box::new(query) })
    }

    fn subscribe(&self, fields: &request::Subscribe<'_>) -> ApiResult<ApiCall> {
        reject_unsupported(fields.label_filter, fields.all_users)?;
        let channel = self.channel(&fields.channel)?;
        let is_on = |value: Option<BoolValue>| value.map(|BoolValue { value }| value);
        let overrides = fields.overrides;
        let grant = SubscribeGrant {
            info: plain_or_base64(("info", &fields.info), ("b64info", &fields.b64info))?,
            data: plain_or_base64(("data", &fields.data), ("b64data", &fields.b64data))?,
            expire_at: expire_at(fields.expire_at)?,
            overrides: grant::Overrides {
                presence: is_on(overrides.presence),
                join_leave: is_on(overrides.join_leave),
                force_recovery: is_on(overrides.force_recovery),
                force_positioning: is_on(overrides.force_positioning),
                force_push_join_leave: is_on(overrides.force_push_join_leave),
            },
        };
        let connections = select(&fields.user, &fields.client, &fields.session);
        Ok(ApiCall::Subscribe { connections, channel, grant, since: fields.recover_since.as_ref().map(position) })
    }

    fn unsubscribe(&self, fields: &request::Unsubscribe<'_>) -> ApiResult<ApiCall> {
        reject_unsupported(fields.label_filter, fields.all_users)?;
        let channel = if fields.channel.is_empty() { "".into() } else { self.channel(&fields.channel)? };
        Ok(ApiCall::Unsubscribe { connections: select(&fields.user, &fields.client, &fields.session), channel })
    }
}

fn disconnect(fields: &request::Disconnect<'_>) -> ApiResult<ApiCall> {
    reject_unsupported(fields.label_filter, fields.all_users)?;
    let default = Disconnect::ForceDisconnect;
    let (code, reason) = match &fields.disconnect {
        Some(close) if close.code > 0 || !close.reason.is_empty() => (close.code, &*close.reason),
        _ => (u32::from(default.code()), default.reason()),
    };
    let code = u16::try_from(code).ok().filter(|_| DISCONNECT_CODES.contains(&code)).ok_or_else(|| {
        let (first, last) = (DISCONNECT_CODES.start(), DISCONNECT_CODES.end());
        bad_request(format!("`disconnect.code` is not within {first} to {last}"))
    })?;
    if reason.len() > CLOSE_REASON_BYTES_MAX {
        return Err(bad_request(format!("`disconnect.reason` is longer than {CLOSE_REASON_BYTES_MAX} bytes")));
    }
    let except_clients = fields.whitelist.iter().map(|client| (**client).into()).collect();
    let connections = select(&fields.user, &fields.client, &fields.session);
    Ok(ApiCall::Disconnect { connections, except_clients, code, reason: reason.into() })
}

fn refresh(fields: &request::Refresh<'_>) -> ApiResult<ApiCall> {
    reject_unsupported(fields.label_filter, fields.all_users)?;
    let renewal = RefreshGrant {
        expired: fields.expired,
        expire_at: expire_at(fields.expire_at)?,
        info: fields.info.bytes_unless_null().to_vec(),
        meta: Vec::new(),
    };
    Ok(ApiCall::Refresh { connections: select(&fields.user, &fields.client, &fields.session), renewal })
}

fn bad_request(what: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::BadRequest(what.into())
}

fn select(user: &str, client: &str, session: &str) -> ConnectionSelector {
    ConnectionSelector { user: user.into(), client: client.into(), session: session.into() }
}

fn position(since: &request::Since<'_>) -> StreamPosition {
    StreamPosition { offset: since.offset, epoch: (*since.epoch).into() }
}

/// Ignoring one of these would select more connections than the caller meant, so the call is rejected and the field named.
fn reject_unsupported(label_filter: Option<UnsupportedField>, all_users: bool) -> ApiResult<()> {
    let field = match (label_filter, all_users) {
        (Some(_), _) => "`label_filter`",
        (None, true) => "`all_users`",
        (None, false) => return Ok(()),
    };
    Err(ApiError::NotAvailable(format!("{field} is not supported by this server").into()))
}

/// Seconds since 1970; 0 is never.
fn expire_at(seconds: i64) -> ApiResult<Option<u64>> {
    let seconds = u64::try_from(seconds).map_err(|_| bad_request("`expire_at` is before 1970"))?;
    Ok((seconds > 0).then_some(seconds))
}

fn decode_base64(name: &str, text: &str) -> ApiResult<Vec<u8>> {
    BASE64.decode(text.as_bytes()).map_err(|error| bad_request(format!("`{name}` is not base64: {error}")))
}

/// An optional payload, plain or in base64.
fn plain_or_base64(
    (name, plain): (&str, &PayloadField<'_>),
    (name64, base64): (&str, &StringField<'_>),
) -> ApiResult<Vec<u8>> {
    match (plain.bytes_unless_null(), base64.is_empty()) {
        (plain, true) => Ok(plain.to_vec()),
        ([], false) => decode_base64(name64, base64),
        (_, false) => Err(bad_request(format!("`{name}` and `{name64}` exclude each other"))),
    }
}
