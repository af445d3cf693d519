//! The reply to a connect, which is written once every subscription that the connect brings is live.

use std::rc::Rc;

use uuid::Uuid;

use super::home_requests::Requester;
use super::keepalive;
use super::large_replies::{CONNECT_BYTES_MAX, records_bytes};
use super::mail::Mail;
use super::pending::PendingConnect;
use super::session::Phase;
use super::state::Messaging;
use super::subscribe_reply::{DELTA_BYTES_MAX, Recovery, SubscribeReply};
use crate::engine::{Context, Reservation};
use crate::ids::ConnId;
use crate::protocol::{ConnectResult, Expiry, Reply, client_text};

/// The server's version in the connect reply.
const VERSION: &str = concat!("corecast ", env!("CARGO_PKG_VERSION"));

/// What a subscription of a connect recovered waits for the others: its bytes are reserved until then. Without memory it is
/// not recovered.
pub(crate) fn within_memory(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    requester: Requester,
    recovery: Recovery,
) -> Recovery {
    let Recovery::Complete(records) = &recovery else { return recovery };
    let bytes = records_bytes(records.iter(), state.sessions[conn].encoding);
    let connect = state.pending.connect_mut(conn).filter(|_| requester == Requester::Connect);
    let Some(connect) = connect.filter(|_| bytes > 0) else { return recovery };
    let fits = connect.reserved == 0 || connect.reserved + bytes <= CONNECT_BYTES_MAX;
    if !fits || cx.reserve_backlog(bytes) != Reservation::Taken {
        cx.counters.replies_refused += 1;
        return Recovery::Failed;
    }
    connect.reserved += bytes;
    recovery
}

/// The connect is not answered: what it recovered is dropped.
pub(crate) fn abandon(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    if let Some(connect) = state.pending.take_connect(conn) {
        cx.release_backlog(connect.reserved);
    }
}

/// Adds a live subscription to the reply.
pub(crate) fn add(state: &mut Messaging, conn: ConnId, channel: Rc<str>, reply: SubscribeReply) {
    if let Some(connect) = state.pending.connect_mut(conn) {
        connect.live.push((channel, reply));
        connect.waiting -= 1;
    }
}

/// A subscription of a connect is live after a wait. With the last one the reply is sent, and the connection is read again.
pub(crate) fn subscription_live(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    channel: Rc<str>,
    reply: SubscribeReply,
) {
    add(state, conn, channel, reply);
    send_if_complete(state, cx, conn);
}

/// A subscription of a connect ended before it was live: the reply does not name it.
pub(crate) fn subscription_ended(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    if let Some(connect) = state.pending.connect_mut(conn) {
        connect.waiting -= 1;
    }
    send_if_complete(state, cx, conn);
}

fn send_if_complete(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    if is_complete(state, conn) {
        send(state, cx, conn);
        cx.resume(conn);
    }
}

pub(crate) fn is_complete(state: &mut Messaging, conn: ConnId) -> bool {
    let connect = state.pending.connect_mut(conn);
    connect.is_some_and(|connect| connect.waiting == 0 && connect.requested.is_none())
}

/// Sends the reply: the connection is connected.
pub(crate) fn send(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    let Some(PendingConnect { id, data, live, reserved, .. }) = state.pending.take_connect(conn) else { return };
    let head = state.pending.take_held_head(conn);
    cx.release_backlog(reserved);
    state.large_replies.encoded(cx.counters.turns, reserved);
    let now = state.unix_s(cx);
    let client_refreshes = state.settings.refresh_proxy.is_none();
    let session = &mut state.sessions[conn];
    session.phase = Phase::Connected;
    let (uni, encoding, opcode) = (session.is_uni(), session.encoding, session.opcode());
    let is_emulated = session.transport.is_emulated();
    let client = &state.settings.client;
    let interval_s = client.ping_interval.as_secs() as u32;
    let ping_s = if session.frame_pings() { 0 } else { interval_s };
    let ends_at = session.identity.as_ref().map_or(0, |identity| identity.expire_at);
    // A client that sends its commands by other connections names its session there.
    let emulated = if is_emulated { state.settings.session_ids.id(cx.me(), conn) } else { Default::default() };
    let own = session.identity.as_ref().map_or("", |identity| &*identity.session);
    let mut text = Uuid::encode_buffer();
    let mut delta_bytes = DELTA_BYTES_MAX;
    let parts = live.iter().map(|(channel, reply)| (channel, reply.parts(encoding, &mut delta_bytes)));
    let subs: Vec<_> = parts.collect();
    let publications: Vec<_> = subs.iter().map(|(_, parts)| parts.publications()).collect();
    let results = subs.iter().zip(&publications);
    let results: Vec<_> = results.map(|((channel, parts), own)| (&***channel, parts.result(now, own))).collect();
    let result = ConnectResult {
        client: client_text(session.client, &mut text),
        version: VERSION,
        expiry: Expiry::at(if client_refreshes { ends_at } else { 0 }, now),
        data: &data,
        subs: &results,
        ping_s,
        pong: ping_s > 0 && !uni && !client.pong_timeout.is_zero(),
        session: if is_emulated { &emulated } else { own },
        node: if is_emulated { &state.settings.node } else { "" },
        time_ms: if client.connect_include_server_time { state.clock_zero_unix_ms + cx.now() } else { 0 },
    };
    let write = |out: &mut Vec<u8>| {
        out.reserve(reserved);
        encoding.reply(out, id, &Reply::Connect(result));
    };
    match head {
        Some(held) => cx.release_with_head(conn, &held.head, opcode, write),
        None => cx.release_with(conn, opcode, write),
    }
    keepalive::begin_pings(state, cx, conn);
}
