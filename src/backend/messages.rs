//! The messages of `proxy.proto`: requests from calls, replies into the form that JSON ones are read into.

use data_encoding::BASE64;

use super::call::Caller;
use super::proto;
use super::reply::{
    ConnectResult, DisconnectPart, ErrorPart, Flag, Object, Override, PublishResult, RefreshResult, Reply, RpcResult,
    SubscribeResult,
};
use super::settings::ProxySettings;

/// What every request begins with.
struct Start {
    client: String,
    transport: String,
    protocol: String,
    encoding: String,
}

fn start(caller: &Caller, settings: &ProxySettings) -> Start {
    Start {
        client: caller.client.clone(),
        transport: caller.transport.into(),
        protocol: if caller.binary { "protobuf" } else { "json" }.into(),
        encoding: if settings.binary_encoding { "binary" } else { "json" }.into(),
    }
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
pub fn connect(
    caller: &Caller,
    settings: &ProxySettings,
    library: (&str, &str),
    data: &[u8],
    channels: &[String],
) -> proto::ConnectRequest {
    let (data, b64data) = payload(data, settings);
    let Start { client, transport, protocol, encoding } = start(caller, settings);
    proto::ConnectRequest {
        client,
        transport,
        protocol,
        encoding,
        name: library.0.into(),
        version: library.1.into(),
        channels: channels.to_vec(),
        data,
        b64data,
    }
}

pub fn refresh(caller: &Caller, settings: &ProxySettings) -> proto::RefreshRequest {
    let Start { client, transport, protocol, encoding } = start(caller, settings);
    proto::RefreshRequest {
        client,
        transport,
        protocol,
        encoding,
        user: caller.user.clone(),
        meta: meta(caller, settings),
    }
}

pub fn subscribe(
    caller: &Caller,
    settings: &ProxySettings,
    channel: &str,
    token: &str,
    data: &[u8],
) -> proto::SubscribeRequest {
    let (data, b64data) = payload(data, settings);
    let Start { client, transport, protocol, encoding } = start(caller, settings);
    proto::SubscribeRequest {
        client,
        transport,
        protocol,
        encoding,
        channel: channel.into(),
        token: token.into(),
        data,
        b64data,
        user: caller.user.clone(),
        meta: meta(caller, settings),
    }
}

pub fn publish(caller: &Caller, settings: &ProxySettings, channel: &str, data: &[u8]) -> proto::PublishRequest {
    let (data, b64data) = payload(data, settings);
    let Start { client, transport, protocol, encoding } = start(caller, settings);
    proto::PublishRequest {
        client,
        transport,
        protocol,
        encoding,
        channel: channel.into(),
        data,
        b64data,
        user: caller.user.clone(),
        meta: meta(caller, settings),
    }
}

pub fn sub_refresh(caller: &Caller, settings: &ProxySettings, channel: &str) -> proto::SubRefreshRequest {
    let Start { client, transport, protocol, encoding } = start(caller, settings);
    proto::SubRefreshRequest {
        client,
        transport,
        protocol,
        encoding,
        channel: channel.into(),
        user: caller.user.clone(),
        meta: meta(caller, settings),
    }
}

pub fn rpc(caller: &Caller, settings: &ProxySettings, method: &str, data: &[u8]) -> proto::RpcRequest {
    let (data, b64data) = payload(data, settings);
    let Start { client, transport, protocol, encoding } = start(caller, settings);
    proto::RpcRequest {
        client,
        transport,
        protocol,
        encoding,
        method: method.into(),
        data,
        b64data,
        user: caller.user.clone(),
        meta: meta(caller, settings),
    }
}

/// No bytes are no payload: Protobuf knows no difference.
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

/// The parts that `SubscribeOptions` and `SubscribeResult` have in common.
fn subscription(
    expire_at: i64,
    info: (Vec<u8>, String),
    data: (Vec<u8>, String),
    overrides: Option<proto::SubscribeOptionOverride>,
) -> SubscribeResult {
    SubscribeResult {
        expire_at,
        info: some(info.0),
        b64info: info.1,
        data: some(data.0),
        b64data: data.1,
        overrides: Object(overrides.map(Override::from).unwrap_or_default()),
    }
}

impl From<proto::ConnectResponse> for Reply<ConnectResult> {
    fn from(reply: proto::ConnectResponse) -> Self {
        let result = reply.result.map(|result| ConnectResult {
            user: result.user,
            expire_at: result.expire_at,
            info: some(result.info),
            b64info: result.b64info,
            data: some(result.data),
            b64data: result.b64data,
            meta: some(result.meta),
            channels: result.channels,
            subs: result.subs.into_iter().map(|(channel, sub)| (channel, Some(Object(sub.into())))).collect(),
        });
        Self { result, error: reply.error.map(Into::into), disconnect: reply.disconnect.map(Into::into) }
    }
}

impl From<proto::SubscribeOptions> for SubscribeResult {
    fn from(sub: proto::SubscribeOptions) -> Self {
        subscription(sub.expire_at, (sub.info, sub.b64info), (sub.data, sub.b64data), sub.r#override)
    }
}

impl From<proto::SubscribeResponse> for Reply<SubscribeResult> {
    fn from(reply: proto::SubscribeResponse) -> Self {
        let result = reply
            .result
            .map(|sub| subscription(sub.expire_at, (sub.info, sub.b64info), (sub.data, sub.b64data), sub.r#override));
        Self { result, error: reply.error.map(Into::into), disconnect: reply.disconnect.map(Into::into) }
    }
}

impl From<proto::RefreshResponse> for Reply<RefreshResult> {
    fn from(reply: proto::RefreshResponse) -> Self {
        let result = reply.result.map(|result| RefreshResult {
            expired: result.expired,
            expire_at: result.expire_at,
            info: some(result.info),
            b64info: result.b64info,
            meta: some(result.meta),
        });
        Self { result, error: reply.error.map(Into::into), disconnect: reply.disconnect.map(Into::into) }
    }
}

impl From<proto::SubRefreshResponse> for Reply<RefreshResult> {
    fn from(reply: proto::SubRefreshResponse) -> Self {
        let result = reply.result.map(|result| RefreshResult {
            expired: result.expired,
            expire_at: result.expire_at,
            info: some(result.info),
            b64info: result.b64info,
            meta: None,
        });
        Self { result, error: reply.error.map(Into::into), disconnect: reply.disconnect.map(Into::into) }
    }
}

impl From<proto::PublishResponse> for Reply<PublishResult> {
    fn from(reply: proto::PublishResponse) -> Self {
        let result = reply.result.map(|result| PublishResult {
            data: some(result.data),
            b64data: result.b64data,
            skip_history: result.skip_history,
            tags: result.tags.into_iter().map(|(key, value)| (key, Some(value))).collect(),
            idempotency_key: result.idempotency_key,
            delta: result.delta,
            version: result.version,
            version_epoch: result.version_epoch,
        });
        Self { result, error: reply.error.map(Into::into), disconnect: reply.disconnect.map(Into::into) }
    }
}

impl From<proto::RpcResponse> for Reply<RpcResult> {
    fn from(reply: proto::RpcResponse) -> Self {
        let result = reply.result.map(|result| RpcResult { data: some(result.data), b64data: result.b64data });
        Self { result, error: reply.error.map(Into::into), disconnect: reply.disconnect.map(Into::into) }
    }
}
