//! Messages to calls, and what came of them to messages.

use std::borrow::Cow;

use bytes::Bytes;

use super::api;
use crate::api::call::{
    Beyond, Call, Channel, Channels, Disconnect, Farewell, History, Overrides, Payload, Publish, Refresh, Rpc, Since,
    Subscribe, Switch, Text, Unsubscribe,
};
use crate::api::dispatch::Outcome;
use crate::api::shard_api::{AskError, Asked};
use crate::messaging::control_request::{Kept, Member, Place};
use crate::protocol::ErrorCode;

/// The call of a command. Errors: it has none that is known here.
pub fn command(command: &api::Command) -> Asked<Call<'_>> {
    let api::Command {
        publish,
        broadcast,
        subscribe,
        unsubscribe,
        disconnect,
        presence,
        presence_stats,
        history,
        history_remove,
        info,
        rpc,
        refresh,
        channels,
    } = command;
    None.or_else(|| publish.as_ref().map(Call::from))
        .or_else(|| broadcast.as_ref().map(Call::from))
        .or_else(|| subscribe.as_ref().map(Call::from))
        .or_else(|| unsubscribe.as_ref().map(Call::from))
        .or_else(|| disconnect.as_ref().map(Call::from))
        .or_else(|| history.as_ref().map(Call::from))
        .or_else(|| history_remove.as_ref().map(Call::from))
        .or_else(|| presence.as_ref().map(Call::from))
        .or_else(|| presence_stats.as_ref().map(Call::from))
        .or_else(|| info.as_ref().map(Call::from))
        .or_else(|| rpc.as_ref().map(Call::from))
        .or_else(|| refresh.as_ref().map(Call::from))
        .or_else(|| channels.as_ref().map(Call::from))
        .ok_or(ErrorCode::MethodNotFound.into())
}

/// An empty payload is none: the wire does not tell them apart.
fn payload(bytes: &Bytes) -> Payload<'_> {
    Payload((!bytes.is_empty()).then(|| Cow::Borrowed(&**bytes)))
}

fn beyond(label_filter: &Option<Bytes>) -> Option<Beyond> {
    label_filter.as_ref().map(|_| Beyond)
}

fn since(position: &Option<api::StreamPosition>) -> Option<Since<'_>> {
    position.as_ref().map(|position| Since { offset: position.offset, epoch: (&position.epoch).into() })
}

/// `publish` and `broadcast` differ in what they say of channels only.
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

impl<'a> From<&'a api::PublishRequest> for Call<'a> {
    fn from(from: &'a api::PublishRequest) -> Self {
        Self::Publish(publication!(from, channel: (&from.channel).into(), channels: Vec::new()))
    }
}

impl<'a> From<&'a api::BroadcastRequest> for Call<'a> {
    fn from(from: &'a api::BroadcastRequest) -> Self {
        let channels = from.channels.iter().map(Text::from).collect();
        Self::Broadcast(publication!(from, channel: Text::default(), channels: channels))
    }
}

impl<'a> From<&'a api::SubscribeRequest> for Call<'a> {
    fn from(from: &'a api::SubscribeRequest) -> Self {
        let said = from.r#override.unwrap_or_default();
        let switch = |value: Option<api::BoolValue>| value.map(|api::BoolValue { value }| Switch { value });
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
                presence: switch(said.presence),
                join_leave: switch(said.join_leave),
                force_recovery: switch(said.force_recovery),
                force_positioning: switch(said.force_positioning),
                force_push_join_leave: switch(said.force_push_join_leave),
            },
            label_filter: beyond(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::UnsubscribeRequest> for Call<'a> {
    fn from(from: &'a api::UnsubscribeRequest) -> Self {
        Self::Unsubscribe(Unsubscribe {
            channel: (&from.channel).into(),
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            label_filter: beyond(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::DisconnectRequest> for Call<'a> {
    fn from(from: &'a api::DisconnectRequest) -> Self {
        let farewell = |said: &'a api::Disconnect| Farewell { code: said.code, reason: (&said.reason).into() };
        Self::Disconnect(Disconnect {
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            whitelist: from.whitelist.iter().map(Text::from).collect(),
            disconnect: from.disconnect.as_ref().map(farewell),
            label_filter: beyond(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::RefreshRequest> for Call<'a> {
    fn from(from: &'a api::RefreshRequest) -> Self {
        Self::Refresh(Refresh {
            user: (&from.user).into(),
            client: (&from.client).into(),
            session: (&from.session).into(),
            expired: from.expired,
            expire_at: from.expire_at,
            info: payload(&from.info),
            label_filter: beyond(&from.label_filter),
            all_users: from.all_users,
        })
    }
}

impl<'a> From<&'a api::PresenceRequest> for Call<'a> {
    fn from(from: &'a api::PresenceRequest) -> Self {
        Self::Presence(Channel { channel: (&from.channel).into() })
    }
}

impl<'a> From<&'a api::PresenceStatsRequest> for Call<'a> {
    fn from(from: &'a api::PresenceStatsRequest) -> Self {
        Self::PresenceStats(Channel { channel: (&from.channel).into() })
    }
}

impl<'a> From<&'a api::HistoryRequest> for Call<'a> {
    fn from(from: &'a api::HistoryRequest) -> Self {
        Self::History(History {
            channel: (&from.channel).into(),
            limit: from.limit,
            since: since(&from.since),
            reverse: from.reverse,
        })
    }
}

impl<'a> From<&'a api::HistoryRemoveRequest> for Call<'a> {
    fn from(from: &'a api::HistoryRemoveRequest) -> Self {
        Self::HistoryRemove(Channel { channel: (&from.channel).into() })
    }
}

impl<'a> From<&'a api::ChannelsRequest> for Call<'a> {
    fn from(from: &'a api::ChannelsRequest) -> Self {
        Self::Channels(Channels { pattern: (&from.pattern).into() })
    }
}

impl From<&api::InfoRequest> for Call<'_> {
    fn from(_: &api::InfoRequest) -> Self {
        Self::Info
    }
}

impl<'a> From<&'a api::RpcRequest> for Call<'a> {
    fn from(from: &'a api::RpcRequest) -> Self {
        Self::Rpc(Rpc { method: (&from.method).into() })
    }
}

impl From<&AskError> for api::Error {
    fn from(error: &AskError) -> Self {
        Self { code: error.code().code(), message: error.message().into_owned() }
    }
}

impl From<Option<Place>> for api::PublishResult {
    fn from(place: Option<Place>) -> Self {
        place.map_or(Self::default(), |Place { offset, epoch }| Self { offset, epoch: epoch.into() })
    }
}

impl From<Asked<Option<Place>>> for api::PublishResponse {
    fn from(answer: Asked<Option<Place>>) -> Self {
        match answer {
            Ok(place) => Self { error: None, result: Some(place.into()) },
            Err(error) => Self { error: Some((&error).into()), result: None },
        }
    }
}

impl From<Member> for api::ClientInfo {
    fn from(member: Member) -> Self {
        let Member { client, user, conn_info, chan_info } = member;
        Self { user, client, conn_info, chan_info }
    }
}

impl From<Kept> for api::Publication {
    fn from(kept: Kept) -> Self {
        let Kept { offset, data, info, tags } = kept;
        Self { data, info: info.map(Into::into), offset, tags: tags.into_iter().collect() }
    }
}

impl From<Asked<Outcome>> for api::Reply {
    fn from(outcome: Asked<Outcome>) -> Self {
        let none = Self::default();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Self { error: Some((&error).into()), ..none },
        };
        match outcome {
            Outcome::Publish(place) => Self { publish: Some(place.into()), ..none },
            Outcome::Broadcast(responses) => {
                let responses = responses.into_iter().map(Into::into).collect();
                Self { broadcast: Some(api::BroadcastResult { responses }), ..none }
            }
            Outcome::Subscribe => Self { subscribe: Some(api::SubscribeResult {}), ..none },
            Outcome::Unsubscribe => Self { unsubscribe: Some(api::UnsubscribeResult {}), ..none },
            Outcome::Disconnect => Self { disconnect: Some(api::DisconnectResult {}), ..none },
            Outcome::Refresh => Self { refresh: Some(api::RefreshResult {}), ..none },
            Outcome::Presence(members) => {
                let presence = members.into_iter().map(|member| (member.client.clone(), member.into())).collect();
                Self { presence: Some(api::PresenceResult { presence }), ..none }
            }
            Outcome::PresenceStats(stats) => {
                let stats = api::PresenceStatsResult { num_clients: stats.clients, num_users: stats.users };
                Self { presence_stats: Some(stats), ..none }
            }
            Outcome::History(history) => {
                let Place { offset, epoch } = history.top;
                let publications = history.publications.into_iter().map(Into::into).collect();
                Self { history: Some(api::HistoryResult { publications, epoch: epoch.into(), offset }), ..none }
            }
            Outcome::HistoryRemove => Self { history_remove: Some(api::HistoryRemoveResult {}), ..none },
            Outcome::Channels(channels) => {
                let channels = channels
                    .into_iter()
                    .map(|(name, num_clients)| (name.into(), api::ChannelInfo { num_clients }))
                    .collect();
                Self { channels: Some(api::ChannelsResult { channels }), ..none }
            }
            Outcome::Info(info) => {
                let node = api::NodeResult {
                    uid: info.uid,
                    name: info.name,
                    version: info.version.into(),
                    num_clients: info.clients,
                    num_users: info.users,
                    num_channels: info.channels,
                    uptime: info.uptime_s,
                    num_subs: info.subscriptions,
                };
                Self { info: Some(api::InfoResult { nodes: vec![node] }), ..none }
            }
        }
    }
}
