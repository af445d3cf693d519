//! The timer of a connection: its pings, and the expiry of connections and subscriptions. `refresh` handles an expiry.

use uuid::Uuid;

use super::mail::Mail;
use super::session::{Identity, Phase, Transport, millis};
use super::settings::Settings;
use super::state::Messaging;
use crate::engine::{Context, Millis};
use crate::ids::ConnId;
use crate::ws::{CloseCode, Opcode};

/// Echo connections: the time between two pings, and from a ping to the close if no pong came.
const ECHO_PING_INTERVAL: Millis = 25_000;
/// A longer lifetime of a connection or subscription is cut to this.
const LIFETIME_S_MAX: u64 = 365 * 24 * 3600;

/// The end of what was granted until `at`, in seconds since 1970; 0 is never. It fits every later sum and the protocol's 32
/// bits for a lifetime.
pub(crate) fn bounded_end(at: Option<u64>, now_s: u64) -> u64 {
    at.map_or(0, |at| at.min(now_s + LIFETIME_S_MAX))
}

/// The first ping comes in the second half of an interval, spread so that many connects at once do not become many pings
/// at once.
pub(crate) fn begin_pings(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    let interval = millis(state.settings.client.ping_interval);
    let session = &mut state.sessions[conn];
    let spread = Uuid::from_bytes(session.client).as_u64_pair().1 % (interval / 2).max(1);
    session.ping_at = cx.now() + interval - interval / 2 + spread;
    arm(state, cx, conn);
}

/// Sets the timer for what is due first: a ping, the end of the connection, the end of a subscription.
pub(crate) fn arm(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    let session = &state.sessions[conn];
    let mut at = session.ping_at;
    if let Some(identity) = &session.identity {
        let ends = [connection_end(&state.settings, identity), subscription_end(identity)];
        at = ends.into_iter().flatten().fold(at, |at, end_s| {
            at.min(end_s.saturating_mul(1000).saturating_sub(state.clock_zero_unix_ms).max(cx.now() + 1))
        });
    }
    cx.set_timer(conn, at);
}

/// When the connection expires, with the grace period, in seconds since 1970.
pub(crate) fn connection_end(settings: &Settings, identity: &Identity) -> Option<u64> {
    let grace_s = match settings.refresh_proxy {
        None => settings.client.expired_close_delay.as_secs(),
        Some(_) => 0,
    };
    (identity.expire_at > 0).then(|| identity.expire_at.saturating_add(grace_s))
}

/// When the first of its subscriptions expires, in the same form.
pub(crate) fn subscription_end(identity: &Identity) -> Option<u64> {
    (identity.subs_expire_at > 0).then_some(identity.subs_expire_at)
}

/// Watches the end of a subscription, which has a grace period as well.
pub(crate) fn watch_subscription(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, expire_at: u64) {
    let end = expire_at.saturating_add(state.settings.client.expired_sub_close_delay.as_secs());
    let session = &mut state.sessions[conn];
    let identity = session.identity.get_or_insert_default();
    if identity.subs_expire_at == 0 || end < identity.subs_expire_at {
        identity.subs_expire_at = end;
        if session.phase == Phase::Connected {
            arm(state, cx, conn);
        }
    }
}

/// What a due ping needs.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum PingCheck {
    Fine,
    /// The last ping was not answered in time.
    NoPong,
}

/// Sends a ping if it is due.
pub(crate) fn check_ping(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) -> PingCheck {
    let client = &state.settings.client;
    let (interval, timeout) = (millis(client.ping_interval), millis(client.pong_timeout));
    let is_stalled = cx.is_stalled(conn);
    let session = &mut state.sessions[conn];
    if session.ping_at <= cx.now() {
        if session.awaits_pong && !is_stalled {
            return PingCheck::NoPong;
        }
        if session.awaits_pong {
            // The server itself does not read this socket, so that silence proves nothing.
            session.ping_at = cx.now() + timeout;
        } else {
            // A stream of a unidirectional client has no way back: only a failed write shows that it is dead.
            session.awaits_pong = timeout > 0 && !(session.is_uni() && session.transport.is_stream());
            session.ping_at = cx.now() + if session.awaits_pong { timeout } else { interval };
            // A unidirectional client never sends a message, but its WebSocket answers ping frames.
            if session.frame_pings() || session.transport == Transport::UniWebSocket {
                cx.reply(conn, Opcode::Ping, b"");
            }
            if !session.frame_pings() {
                cx.reply(conn, session.opcode(), session.encoding.ping());
            }
        }
    }
    arm(state, cx, conn);
    PingCheck::Fine
}

/// The pong to a ping: exactly one per ping. False if no ping awaits it. The next ping is due an interval from now: that is
/// set here, while the session is in the cache, and not by another access later.
pub(crate) fn pong_received(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) -> bool {
    let next = cx.now() + millis(state.settings.client.ping_interval);
    let session = &mut state.sessions[conn];
    let expected = std::mem::replace(&mut session.awaits_pong, false);
    if expected {
        session.ping_at = next;
        arm(state, cx, conn);
    }
    expected
}

/// The timer of an echo connection.
pub(crate) fn echo_timer(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    if std::mem::replace(&mut state.sessions[conn].awaits_pong, true) {
        return cx.close(conn, CloseCode::GoingAway.code(), "no pong");
    }
    cx.reply(conn, Opcode::Ping, b"");
    cx.set_timer(conn, cx.now() + ECHO_PING_INTERVAL);
}

pub(crate) fn begin_echo_pings(cx: &mut Context<Mail>, conn: ConnId) {
    cx.set_timer(conn, cx.now() + ECHO_PING_INTERVAL);
}
