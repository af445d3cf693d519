//! Requests and responses as the messages of `proxy.proto`: requests are made from calls, responses are converted to the form
//! that JSON is read into.

use data_encoding::BASE64;

use super::call::Caller;
use super::proto;
use super::reply::{
    ConnectResult, DisconnectPart, ErrorPart, Flag, Object, Override, PublishResult, RefreshResult, Reply, RpcResult,
    SubscribeResult,
};
use super::settings::ProxySettings;

/// The message of a request: the fields that describe the connection, and those of the kind of call.
macro_rules! request {
    ($message:ident, $caller:expr, $settings:expr, { $($field:ident: $value:expr),* $(,)? }) => {
        proto::$message {
            client: $caller.client.clone(),
            transport: $caller.transport.into(),
            protocol: if $caller.binary { "protobuf" } else { "json" }.into(),
            encoding: if $settings.binary_encoding { "binary" } else { "json" }.into(),
            $($field: $value,)*
        }
    };
}

fn meta(caller: &Caller, settings: &ProxySettings) -> Vec<u8> {
    if settings.include_connection_meta { caller.meta.clone() } else { Vec::new() }
}

/// `data` and `b64data`, of which one is empty.
fn payload(data: &[u8], settings: &ProxySettings) -> (Vec<u8>, String) {
    match settings.binary_encoding {
        true => (Vec::new(), BASE64.encode(data)),
        false => (data.into(), String::new()),
    }
}

/// `library` is the client library's name and version.
pub(crate) fn connect(
    caller: &Caller,
    settings: &ProxySettings,
    library: (&str, &str),
    data: &[u8],
    channels: &[String],
) -> proto::ConnectRequest {
    let (data, b64data) = payload(data, settings);
    let (name, version) = (library.0.into(), library.1.into());
    request!(ConnectRequest, caller, settings, {
        name: name, version: version, channels: channels.to_vec(), data: data, b64data: b64data,
    })
}

pub(crate) fn refresh(caller: &Caller, settings: &ProxySettings) -> proto::RefreshRequest {
    request!(RefreshRequest, caller, settings, { user: caller.user.clone(), meta: meta(caller, settings) })
}

pub(crate) fn subscribe(
    caller: &Caller,
    settings: &ProxySettings,
    channel: &str,
    token: &str,
    data: &[u8],
) -> proto::SubscribeRequest {
    let (data, b64data) = payload(data, settings);
    request!(SubscribeRequest, caller, settings, {
        user: caller.user.clone(), meta: meta(caller, settings),
        channel: channel.into(), token: token.into(), data: data, b64data: b64data,
    })
}

pub(crate) fn publish(caller: &Caller, settings: &ProxySettings, channel: &str, data: &[u8]) -> proto::PublishRequest {
    let (data, b64data) = payload(data, settings);
    request!(PublishRequest, caller, settings, {
        user: caller.user.clone(), meta: meta(caller, settings), channel: channel.into(), data: data, b64data: b64data,
    })
}

pub(crate) fn sub_refresh(caller: &Caller, settings: &ProxySettings, channel: &str) -> proto::SubRefreshRequest {
    request!(SubRefreshRequest, caller, settings, {
        user: caller.user.clone(), meta: meta(caller, settings), channel: channel.into(),
    })
}

pub(crate) fn rpc(caller: &Caller, settings: &ProxySettings, method: &str, data: &[u8]) -> proto::RpcRequest {
    let (data, b64data) = payload(data, settings);
    request!(RpcRequest, caller, settings, {
        user: caller.user.clone(), meta: meta(caller, settings), method: method.into(), data: data, b64data: b64data,
    })
}

/// Empty bytes are no payload: Protobuf does not distinguish the two.
fn some(bytes: Vec<u8>) -> Option<Vec<u8>> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

impl From<proto::Error> for ErrorPart {
    fn from(error: proto::Error) -> Self {
        Self { code: error.code, message: error.message, temporary: error.temporary }
    }
}

impl From<proto::Disconnect> for DisconnectPart {
    fn from(disconnect: proto::Disconnect) -> Self {
        Self { code: disconnect.code, reason: disconnect.reason }
    }
}

impl From<proto::SubscribeOptionOverride> for Override {
    fn from(flags: proto::SubscribeOptionOverride) -> Self {
        let flag = |flag: Option<proto::BoolValue>| flag.map(|flag| Object(Flag { value: flag.value }));
        Self {
            presence: flag(flags.presence),
            join_leave: flag(flags.join_leave),
            force_recovery: flag(flags.force_recovery),
            force_positioning: flag(flags.force_positioning),
            force_push_join_leave: flag(flags.force_push_join_leave),
        }
    }
}

/// Two messages have the fields of a subscription.
macro_rules! subscription {
    ($($message:ident),*) => {$(
        impl From<proto::$message> for SubscribeResult {
            fn from(from: proto::$message) -> Self {
                Self {
                    expire_at: from.expire_at,
                    info: some(from.info),
                    b64info: from.b64info,
                    data: some(from.data),
                    b64data: from.b64data,
                    overrides: Object(from.r#override.map(Override::from).unwrap_or_default()),
                }
            }
        }
    )*};
}

subscription!(SubscribeOptions, SubscribeResult);

impl From<proto::ConnectResult> for ConnectResult {
    fn from(from: proto::ConnectResult) -> Self {
        Self {
            user: from.user,
            expire_at: from.expire_at,
            info: some(from.info),
            b64info: from.b64info,
            data: some(from.data),
            b64data: from.b64data,
            meta: some(from.meta),
            channels: from.channels,
            subs: from.subs.into_iter().map(|(channel, sub)| (channel, Some(Object(sub.into())))).collect(),
        }
    }
}

impl From<proto::RefreshResult> for RefreshResult {
    fn from(from: proto::RefreshResult) -> Self {
        let proto::RefreshResult { expired, expire_at, info, b64info, meta } = from;
        Self { expired, expire_at, info: some(info), b64info, meta: some(meta) }
    }
}

impl From<proto::SubRefreshResult> for RefreshResult {
    fn from(from: proto::SubRefreshResult) -> Self {
        let proto::SubRefreshResult { expired, expire_at, info, b64info } = from;
        Self { expired, expire_at, info: some(info), b64info, meta: None }
    }
}

impl From<proto::PublishResult> for PublishResult {
    fn from(from: proto::PublishResult) -> Self {
        Self {
            data: some(from.data),
            b64data: from.b64data,
            skip_history: from.skip_history,
            tags: from.tags.into_iter().map(|(key, value)| (key, Some(value))).collect(),
            idempotency_key: from.idempotency_key,
            delta: from.delta,
            version: from.version,
            version_epoch: from.version_epoch,
        }
    }
}

impl From<proto::RpcResult> for RpcResult {
    fn from(from: proto::RpcResult) -> Self {
        Self { data: some(from.data), b64data: from.b64data }
    }
}

/// Every response has a result, an error and a disconnect.
macro_rules! response {
    ($($message:ident => $result:ident),* $(,)?) => {$(
        impl From<proto::$message> for Reply<$result> {
            fn from(from: proto::$message) -> Self {
                Self {
                    result: from.result.map(Into::into),
                    error: from.error.map(Into::into),
                    disconnect: from.disconnect.map(Into::into),
                }
            }
        }
    )*};
}

response! {
    ConnectResponse => ConnectResult,
    SubscribeResponse => SubscribeResult,
    RefreshResponse => RefreshResult,
    SubRefreshResponse => RefreshResult,
    PublishResponse => PublishResult,
    RpcResponse => RpcResult,
}
