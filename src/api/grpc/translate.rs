//! Messages to requests, and results to messages.

use std::borrow::Cow;

use bytes::Bytes;

use super::api;
use crate::api::dispatch::{ApiResponse, PublishResult};
use crate::api::fields::{PayloadField, StringField, UnsupportedField};
use crate::api::request::{
    ApiRequest, BoolValue, Channels, CloseFrame, Disconnect, History, HistoryQuery, Method, NoFields, OneChannel,
    Overrides, Publish, QueryTag, Refresh, Rpc, Since, Subscribe, Unsubscribe,
};
use crate::api::shard_api::{ApiError, ApiResult};
use crate::cluster::view::{NodeInfo, NodeMetrics};
use crate::messaging::api_call::{
    ApiReply, HistoryPage, HistoryPublication, MemberInfo, PastPage, PastPublication, StreamPosition,
};

/// An empty payload counts as a missing one: the encoding does not distinguish them.
fn payload(bytes: &Bytes) -> PayloadField<'_> {
    PayloadField((!bytes.is_empty()).then(|| Cow::Borrowed(&**bytes)))
}

fn unsupported(label_filter: &Option<Bytes>) -> Option<UnsupportedField> {
    label_filter.as_ref().map(|_| UnsupportedField)
}

fn since(position: &Option<api::StreamPosition>) -> Option<Since<'_>> {
    position.as_ref().map(|position| Since { offset: position.offset, epoch: (&position.epoch).into() })
}

/// `publish` and `broadcast` differ only in their channels.
macro_rules! publication {
    ($from:ident, $($channels:ident: $value:expr),*) => {
        Publish {
            $($channels: $value,)*
            data: payload(&$from.data),
            b64data: (&$from.b64data).into(),
            skip_history: $from.skip_history,
            tags: $from.tags.iter().map(|(key, value)| (key.into(), value.into())).collect(),
            idempotency_key: (&$from.idempotency_key).into(),
            delta: $from.delta,
            version: $from.version,
            version_epoch: (&$from.version_epoch).into(),
        }
    };
}

impl<'a> From<&'a api::PublishRequest> for ApiRequest<'a> {
    fn from(from: &'a api::PublishRequest) -> Self {
        Self::Publish(publication!(from, channel: (&from.channel).into(), channels: Vec::new()))
    }
}

impl<'a> From<&'a api::BroadcastRequest> for ApiRequest<'a> {
    fn from(from: &'a api::BroadcastRequest) -> Self {
        let channels = from.channels.iter().map(StringField::from).collect();
        Self::Broadcast(publication!(from, channel: StringField::default(), channels: channels))
    }
}

impl<'a> From<&'a api::SubscribeRequest> for ApiRequest<'a> {
    fn from(from: &'a api::SubscribeRequest) -> Self {
        let overrides = from.r#override.unwrap_or_default();
        let wrap = |value: Option<api::BoolValue>| value.map(|api::BoolValue { value }| BoolValue { value });
        Self::Subscribe(Subscribe {
            channel: (&from.channel).into(),
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            info: payload(&from.info),
            b64info: (&from.b64info).into(),
            data: payload(&from.data),
            b64data: (&from.b64data).into(),
            expire_at: from.expire_at,
            recover_since: since(&from.recover_since),
            overrides: Overrides {
                presence: wrap(overrides.presence),
                join_leave: wrap(overrides.join_leave),
                force_recovery: wrap(overrides.force_recovery),
                force_positioning: wrap(overrides.force_positioning),
                force_push_join_leave: wrap(overrides.force_push_join_leave),
            },
            label_filter: unsupported(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::UnsubscribeRequest> for ApiRequest<'a> {
    fn from(from: &'a api::UnsubscribeRequest) -> Self {
        Self::Unsubscribe(Unsubscribe {
            channel: (&from.channel).into(),
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            label_filter: unsupported(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::DisconnectRequest> for ApiRequest<'a> {
    fn from(from: &'a api::DisconnectRequest) -> Self {
        let close = |close: &'a api::Disconnect| CloseFrame { code: close.code, reason: (&close.reason).into() };
        Self::Disconnect(Disconnect {
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            whitelist: from.whitelist.iter().map(StringField::from).collect(),
            disconnect: from.disconnect.as_ref().map(close),
            label_filter: unsupported(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::RefreshRequest> for ApiRequest<'a> {
    fn from(from: &'a api::RefreshRequest) -> Self {
        Self::Refresh(Refresh {
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            expired: from.expired,
            expire_at: from.expire_at,
            info: payload(&from.info),
            label_filter: unsupported(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::PresenceRequest> for ApiRequest<'a> {
    fn from(from: &'a api::PresenceRequest) -> Self {
        Self::Presence(OneChannel { channel: (&from.channel).into() })
    }
}

impl<'a> From<&'a api::PresenceStatsRequest> for ApiRequest<'a> {
    fn from(from: &'a api::PresenceStatsRequest) -> Self {
        Self::PresenceStats(OneChannel { channel: (&from.channel).into() })
    }
}

impl<'a> From<&'a api::HistoryRequest> for ApiRequest<'a> {
    fn from(from: &'a api::HistoryRequest) -> Self {
        Self::History(History {
            channel: (&from.channel).into(),
            limit: from.limit,
            since: since(&from.since),
            reverse: from.reverse,
            time_from: from.time_from,
            time_to: from.time_to,
        })
    }
}

impl<'a> From<&'a api::HistoryQueryRequest> for ApiRequest<'a> {
    fn from(from: &'a api::HistoryQueryRequest) -> Self {
        let tag = |tag: &'a api::QueryTag| QueryTag { key: (&tag.key).into(), value: (&tag.value).into() };
        Self::HistoryQuery(HistoryQuery {
            channel: (&from.channel).into(),
            namespace: (&from.namespace).into(),
            user: (&from.user).into(),
            tag: from.tag.as_ref().map(tag),
            time_from: from.time_from,
            time_to: from.time_to,
            limit: from.limit,
            reverse: from.reverse,
            cursor: (&from.cursor).into(),
        })
    }
}

impl<'a> From<&'a api::HistoryRemoveRequest> for ApiRequest<'a> {
    fn from(from: &'a api::HistoryRemoveRequest) -> Self {
        Self::HistoryRemove(OneChannel { channel: (&from.channel).into() })
    }
}

impl<'a> From<&'a api::ChannelsRequest> for ApiRequest<'a> {
    fn from(from: &'a api::ChannelsRequest) -> Self {
        Self::Channels(Channels { pattern: (&from.pattern).into() })
    }
}

impl From<&api::InfoRequest> for ApiRequest<'_> {
    fn from(_: &api::InfoRequest) -> Self {
        Self::Info(NoFields {})
    }
}

impl<'a> From<&'a api::RpcRequest> for ApiRequest<'a> {
    fn from(from: &'a api::RpcRequest) -> Self {
        Self::Rpc(Rpc { method: (&from.method).into(), params: None })
    }
}

impl From<&ApiError> for api::Error {
    fn from(error: &ApiError) -> Self {
        Self { code: error.code().code(), message: error.message().into_owned() }
    }
}

impl From<Option<StreamPosition>> for api::PublishResult {
    fn from(position: Option<StreamPosition>) -> Self {
        position.map_or(Self::default(), |StreamPosition { offset, epoch }| Self { offset, epoch: epoch.into() })
    }
}

impl From<PublishResult> for api::PublishResponse {
    fn from(result: PublishResult) -> Self {
        match result {
            Ok(position) => Self { error: None, result: Some(position.into()) },
            Err(error) => Self { error: Some((&error).into()), result: None },
        }
    }
}

impl From<MemberInfo> for api::ClientInfo {
    fn from(member: MemberInfo) -> Self {
        let MemberInfo { client, user, conn_info, chan_info } = member;
        Self { user, client, conn_info, chan_info }
    }
}

impl From<HistoryPublication> for api::Publication {
    fn from(publication: HistoryPublication) -> Self {
        let HistoryPublication { offset, data, info, tags, time_ms: time } = publication;
        Self { data, info: info.map(Into::into), offset, tags: tags.into_iter().collect(), time }
    }
}

impl From<PastPublication> for api::ChannelPublication {
    fn from(PastPublication { channel, publication }: PastPublication) -> Self {
        let HistoryPublication { offset, data, info, tags, time_ms: time } = publication;
        let (info, tags) = (info.map(Into::into), tags.into_iter().collect());
        Self { channel: channel.into(), data, info, offset, tags, time }
    }
}

impl From<NodeInfo> for api::NodeResult {
    fn from(info: NodeInfo) -> Self {
        let NodeInfo { uid, name, version, clients, users, channels, subscriptions, uptime_s, metrics } = info;
        let metrics = metrics.map(|NodeMetrics { interval_s: interval, items }| api::Metrics { interval, items });
        Self {
            uid,
            name,
            version,
            num_clients: clients,
            num_users: users,
            num_channels: channels,
            uptime: uptime_s,
            metrics,
            num_subs: subscriptions,
        }
    }
}

/// `method` is `None` for a command that could not be read, whose result is an error.
pub(crate) fn reply(method: Option<Method>, result: ApiResult<ApiResponse>) -> api::Reply {
    let none = api::Reply::default();
    match result {
        Err(error) => api::Reply { error: Some((&error).into()), ..none },
        Ok(ApiResponse::Broadcast(results)) => {
            let responses = results.into_iter().map(Into::into).collect();
            api::Reply { broadcast: Some(api::BroadcastResult { responses }), ..none }
        }
        Ok(ApiResponse::Info(nodes)) => {
            let nodes = nodes.into_iter().map(Into::into).collect();
            api::Reply { info: Some(api::InfoResult { nodes }), ..none }
        }
        Ok(ApiResponse::Shards(reply)) => shards_reply(method, reply),
    }
}

fn shards_reply(method: Option<Method>, reply: ApiReply) -> api::Reply {
    let none = api::Reply::default();
    match reply {
        ApiReply::Publish(position) => api::Reply { publish: Some(position.into()), ..none },
        ApiReply::Presence(members) => {
            let presence = members.into_iter().map(|member| (member.client.clone(), member.into())).collect();
            api::Reply { presence: Some(api::PresenceResult { presence }), ..none }
        }
        ApiReply::PresenceStats(stats) => {
            let stats = api::PresenceStatsResult { num_clients: stats.clients, num_users: stats.users };
            api::Reply { presence_stats: Some(stats), ..none }
        }
        ApiReply::History(HistoryPage { publications, top: StreamPosition { offset, epoch } }) => {
            let publications = publications.into_iter().map(Into::into).collect();
            api::Reply { history: Some(api::HistoryResult { publications, epoch: epoch.into(), offset }), ..none }
        }
        ApiReply::PastPage(PastPage { publications, cursor }) => {
            let publications = publications.into_iter().map(Into::into).collect();
            let page = api::HistoryQueryResult { publications, cursor: cursor.into() };
            api::Reply { history_query: Some(page), ..none }
        }
        ApiReply::Channels(channels) => {
            let info = |(name, num_clients): (Box<str>, u32)| (name.into(), api::ChannelInfo { num_clients });
            let channels = channels.into_iter().map(info).collect();
            api::Reply { channels: Some(api::ChannelsResult { channels }), ..none }
        }
        ApiReply::Connections(_) | ApiReply::Done | ApiReply::Info { .. } => match method {
            Some(Method::Subscribe) => api::Reply { subscribe: Some(api::SubscribeResult {}), ..none },
            Some(Method::Unsubscribe) => api::Reply { unsubscribe: Some(api::UnsubscribeResult {}), ..none },
            Some(Method::Disconnect) => api::Reply { disconnect: Some(api::DisconnectResult {}), ..none },
            Some(Method::Refresh) => api::Reply { refresh: Some(api::RefreshResult {}), ..none },
            Some(Method::HistoryRemove) => api::Reply { history_remove: Some(api::HistoryRemoveResult {}), ..none },
            _ => none,
        },
    }
}
