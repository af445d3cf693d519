//! Calls of the server API on their way to the other servers, and back from a message to a call.
//!
//! A message says what a subscription gets, without the options of the namespace: the sender has applied its own. A message
//! that selects connections by labels or across all users is not carried out, since that would select others than meant.

use super::proto::{self, Command};
use super::stats::Dropped;
use crate::auth::grant::{Overrides, RefreshGrant, SubscribeGrant};
use crate::config::{Channel, Namespace};
use crate::messaging::ApiCall;
use crate::messaging::api_call::{ConnectionSelector, StreamPosition};
use crate::protocol::Unsubscribed;
use crate::ws::CLOSE_REASON_BYTES_MAX;

/// Codes with which a connection may be closed: those of the protocol and those of applications.
const DISCONNECT_CODES: std::ops::RangeInclusive<u32> = 3000..=4999;
/// The source of a subscription that the server API made.
const SOURCE_SERVER_API: u32 = 10;

/// The message that makes the other servers carry out a call. `None`: it concerns this server alone, or nothing.
pub(crate) fn message(call: &ApiCall, channels: &Channel) -> Option<Command> {
    let command = match call {
        ApiCall::Subscribe { connections, channel, grant, since } => {
            // The shards reject an unknown namespace.
            let (_, namespace) = channels.find(channel)?;
            Command {
                subscribe: Some(subscribe_message(connections, channel, (grant, since.as_ref()), namespace)),
                ..Command::default()
            }
        }
        ApiCall::Unsubscribe { connections, channel } => {
            if !channel.is_empty() {
                channels.find(channel)?;
            }
            let ConnectionSelector { user, client, session } = texts(connections)?;
            let unsubscribe = proto::Unsubscribe {
                channel: channel.to_string(),
                user: user.into(),
                client: client.into(),
                session: session.into(),
                code: Unsubscribed::Server.code(),
                reason: Unsubscribed::Server.reason().into(),
                ..proto::Unsubscribe::default()
            };
            Command { unsubscribe: Some(unsubscribe), ..Command::default() }
        }
        ApiCall::Disconnect { connections, except_clients, code, reason } => {
            let ConnectionSelector { user, client, session } = texts(connections)?;
            let disconnect = proto::Disconnect {
                user: user.into(),
                whitelist: except_clients.iter().map(|client| client.to_string()).collect(),
                code: (*code).into(),
                reason: reason.to_string(),
                client: client.into(),
                session: session.into(),
                ..proto::Disconnect::default()
            };
            Command { disconnect: Some(disconnect), ..Command::default() }
        }
        ApiCall::Refresh { connections, renewal } => {
            let ConnectionSelector { user, client, session } = texts(connections)?;
            let refresh = proto::Refresh {
                user: user.into(),
                client: client.into(),
                expired: renewal.expired,
                expire_at: unix_seconds(renewal.expire_at),
                info: renewal.info.clone(),
                session: session.into(),
                ..proto::Refresh::default()
            };
            Command { refresh: Some(refresh), ..Command::default() }
        }
        _ => return None,
    };
    Some(command)
}

fn subscribe_message(
    connections: &ConnectionSelector,
    channel: &str,
    (grant, since): (&SubscribeGrant, Option<&StreamPosition>),
    namespace: &Namespace,
) -> proto::Subscribe {
    let SubscribeGrant { info, data, expire_at, overrides } = grant;
    proto::Subscribe {
        user: connections.user.to_string(),
        channel: channel.into(),
        emit_presence: overrides.presence.unwrap_or(namespace.presence),
        emit_join_leave: overrides.join_leave.unwrap_or(namespace.join_leave),
        push_join_leave: overrides.force_push_join_leave.unwrap_or(namespace.force_push_join_leave),
        position: overrides.force_positioning.unwrap_or(namespace.force_positioning),
        recover: overrides.force_recovery.unwrap_or(namespace.force_recovery),
        expire_at: unix_seconds(*expire_at),
        channel_info: info.clone(),
        client: connections.client.to_string(),
        data: data.clone(),
        recover_since: since
            .map(|since| proto::StreamPosition { offset: since.offset, epoch: since.epoch.to_string() }),
        session: connections.session.to_string(),
        source: SOURCE_SERVER_API,
        label_filter: None,
        all_users: false,
    }
}

/// `None` if the selector is empty, which selects no connection on any server.
fn texts(connections: &ConnectionSelector) -> Option<ConnectionSelector> {
    (*connections != ConnectionSelector::default()).then(|| connections.clone())
}

/// 0 is never.
fn unix_seconds(time: Option<u64>) -> i64 {
    time.map_or(0, |time| i64::try_from(time).unwrap_or(i64::MAX))
}

/// A call, or `None` if the message selects no connection.
type Call = Result<Option<ApiCall>, Dropped>;

pub(crate) fn subscribe(fields: proto::Subscribe, channel_bytes_max: usize) -> Call {
    let connections = select(&fields.user, &fields.client, &fields.session);
    check(fields.label_filter.is_some(), fields.all_users, &connections)?;
    if fields.channel.is_empty() || fields.channel.len() > channel_bytes_max {
        return Err(Dropped::Malformed);
    }
    let overrides = Overrides {
        presence: Some(fields.emit_presence),
        join_leave: Some(fields.emit_join_leave),
        force_recovery: Some(fields.recover),
        force_positioning: Some(fields.position),
        force_push_join_leave: Some(fields.push_join_leave),
    };
    let grant = SubscribeGrant {
        info: fields.channel_info,
        data: fields.data,
        expire_at: expire_at(fields.expire_at),
        overrides,
    };
    let since = fields
        .recover_since
        .map(|proto::StreamPosition { offset, epoch }| StreamPosition { offset, epoch: epoch.into() });
    Ok(selecting(&connections).then(|| ApiCall::Subscribe {
        connections,
        channel: fields.channel.into(),
        grant,
        since,
    }))
}

pub(crate) fn unsubscribe(fields: proto::Unsubscribe, channel_bytes_max: usize) -> Call {
    let connections = select(&fields.user, &fields.client, &fields.session);
    check(fields.label_filter.is_some(), fields.all_users, &connections)?;
    if fields.channel.len() > channel_bytes_max {
        return Err(Dropped::Malformed);
    }
    let channel = fields.channel.into();
    Ok(selecting(&connections).then_some(ApiCall::Unsubscribe { connections, channel }))
}

pub(crate) fn disconnect(fields: proto::Disconnect) -> Call {
    let connections = select(&fields.user, &fields.client, &fields.session);
    check(fields.label_filter.is_some(), fields.all_users, &connections)?;
    let code = u16::try_from(fields.code).ok().filter(|_| DISCONNECT_CODES.contains(&fields.code));
    let code = code.ok_or(Dropped::Malformed)?;
    let mut reason = fields.reason;
    let fits = |&end: &usize| end <= CLOSE_REASON_BYTES_MAX && reason.is_char_boundary(end);
    let end = (0..=reason.len()).rev().skip(reason.len().saturating_sub(CLOSE_REASON_BYTES_MAX)).find(fits);
    reason.truncate(end.unwrap_or(0));
    let except_clients = fields.whitelist.into_iter().map(Into::into).collect();
    let reason = reason.into();
    Ok(selecting(&connections).then_some(ApiCall::Disconnect { connections, except_clients, code, reason }))
}

pub(crate) fn refresh(fields: proto::Refresh) -> Call {
    let connections = select(&fields.user, &fields.client, &fields.session);
    check(fields.label_filter.is_some(), fields.all_users, &connections)?;
    let renewal = RefreshGrant {
        expired: fields.expired,
        expire_at: expire_at(fields.expire_at),
        info: fields.info,
        meta: Vec::new(),
    };
    Ok(selecting(&connections).then_some(ApiCall::Refresh { connections, renewal }))
}

fn select(user: &str, client: &str, session: &str) -> ConnectionSelector {
    ConnectionSelector { user: user.into(), client: client.into(), session: session.into() }
}

/// `all_users` changes nothing if a user is named.
fn check(has_filter: bool, all_users: bool, connections: &ConnectionSelector) -> Result<(), Dropped> {
    match has_filter || all_users && connections.user.is_empty() {
        true => Err(Dropped::Unsupported),
        false => Ok(()),
    }
}

/// An empty selector means the anonymous users to the original, and no connection here, as in the server API.
fn selecting(connections: &ConnectionSelector) -> bool {
    *connections != ConnectionSelector::default()
}

fn expire_at(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|&seconds| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire::{Content, decode};
    use prost::Message as _;

    const CHANNEL_BYTES_MAX: usize = 255;

    fn ann() -> ConnectionSelector {
        ConnectionSelector { user: "ann".into(), client: "c".into(), session: "s".into() }
    }

    /// The call that another server makes of this one.
    fn over(call: &ApiCall, channels: &Channel) -> Option<ApiCall> {
        let command = Command { uid: "other".into(), ..message(call, channels)? };
        match decode(&command.encode_to_vec(), "own", CHANNEL_BYTES_MAX).unwrap().content {
            Content::Call(call) => Some(call),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn call_arrives_as_it_was_made() {
        let channels = Channel::default();
        let calls = [
            ApiCall::Unsubscribe { connections: ann(), channel: "news".into() },
            ApiCall::Unsubscribe { connections: ann(), channel: "".into() },
            ApiCall::Disconnect {
                connections: ann(),
                except_clients: vec!["x".into(), "y".into()],
                code: 4321,
                reason: "bye".into(),
            },
            ApiCall::Refresh {
                connections: ann(),
                renewal: RefreshGrant { expired: true, expire_at: Some(9), info: b"[1]".to_vec(), meta: Vec::new() },
            },
        ];
        for call in calls {
            assert_eq!(over(&call, &channels), Some(call.clone()), "{call:?}");
        }
    }

    #[test]
    fn subscribe_carries_the_options_of_the_senders_namespace() {
        let without_namespace = Namespace { presence: true, force_recovery: true, ..Namespace::default() };
        let channels = Channel { without_namespace, ..Channel::default() };
        let overrides = Overrides { force_recovery: Some(false), join_leave: Some(true), ..Overrides::default() };
        let grant = SubscribeGrant { info: b"{}".to_vec(), data: b"2".to_vec(), expire_at: Some(7), overrides };
        let since = Some(StreamPosition { offset: 5, epoch: "e".into() });
        let call = ApiCall::Subscribe { connections: ann(), channel: "news".into(), grant, since: since.clone() };
        let Some(ApiCall::Subscribe { connections, channel, grant, since: received }) = over(&call, &channels) else {
            panic!("it is a subscribe");
        };
        assert_eq!((connections, &*channel, received), (ann(), "news", since));
        assert_eq!((&*grant.info, &*grant.data, grant.expire_at), (&b"{}"[..], &b"2"[..], Some(7)));
        let expected = Overrides {
            presence: Some(true),
            join_leave: Some(true),
            force_recovery: Some(false),
            force_positioning: Some(false),
            force_push_join_leave: Some(false),
        };
        assert_eq!(grant.overrides, expected);
    }

    #[test]
    fn calls_that_concern_this_server_alone_are_not_sent() {
        let channels = Channel::default();
        let nothing = ConnectionSelector::default;
        let calls = [
            ApiCall::Info,
            ApiCall::Channels { pattern: "".into() },
            ApiCall::HistoryRemove { channel: "news".into() },
            ApiCall::Unsubscribe { connections: ann(), channel: "unknown:news".into() },
            ApiCall::Unsubscribe { connections: nothing(), channel: "news".into() },
            ApiCall::Disconnect { connections: nothing(), except_clients: vec![], code: 3503, reason: "".into() },
            ApiCall::Refresh { connections: nothing(), renewal: RefreshGrant::default() },
        ];
        for call in calls {
            assert!(message(&call, &channels).is_none(), "{call:?}");
        }
    }

    #[test]
    fn messages_that_select_in_other_ways_are_not_carried_out() {
        let by_label = proto::Refresh { label_filter: Some(Vec::new()), ..proto::Refresh::default() };
        assert_eq!(refresh(by_label), Err(Dropped::Unsupported));
        let all_users = proto::Disconnect { all_users: true, code: 3503, ..proto::Disconnect::default() };
        assert_eq!(disconnect(all_users.clone()), Err(Dropped::Unsupported));
        let of_ann = proto::Disconnect { user: "ann".into(), ..all_users };
        assert!(disconnect(of_ann).is_ok_and(|call| call.is_some()), "the user is named");
        let nothing = proto::Disconnect { code: 3503, ..proto::Disconnect::default() };
        assert_eq!(disconnect(nothing), Ok(None));
    }

    #[test]
    fn fields_out_of_their_bounds_are_malformed_or_cut() {
        for code in [0, 2999, 5000, u32::MAX] {
            let fields = proto::Disconnect { user: "ann".into(), code, ..proto::Disconnect::default() };
            assert_eq!(disconnect(fields), Err(Dropped::Malformed), "{code}");
        }
        let reason = "ä".repeat(200);
        let long = proto::Disconnect { user: "ann".into(), code: 3503, reason, ..proto::Disconnect::default() };
        let Ok(Some(ApiCall::Disconnect { reason, .. })) = disconnect(long) else { panic!("it is carried out") };
        assert_eq!(reason.len(), CLOSE_REASON_BYTES_MAX / 2 * 2);
        for channel in ["", &"x".repeat(256)] {
            let fields =
                proto::Subscribe { user: "ann".into(), channel: channel.into(), ..proto::Subscribe::default() };
            assert_eq!(subscribe(fields, CHANNEL_BYTES_MAX), Err(Dropped::Malformed));
        }
        let never = proto::Refresh { user: "ann".into(), expire_at: -5, ..proto::Refresh::default() };
        let Ok(Some(ApiCall::Refresh { renewal, .. })) = refresh(never) else { panic!("it is carried out") };
        assert_eq!(renewal.expire_at, None);
    }
}
