//! Emulation: commands of a client whose messages leave by a stream. A request names the session and is handled by the shard of
//! its stream, as if the commands had been read there. The next request of the same connection is read when this one is
//! answered, so the commands of one connection take effect in their order.
//!
//! | answer | when |
//! |--------|------|
//! | 204 | the commands are taken; their replies come in the stream |
//! | 400 | the request or its data cannot be read |
//! | 404 | the session is not known: it has ended, or it is of another server |
//! | 429 | the stream has too many commands that were not handled yet, or more bytes came than its rate allows |
//! | 503 | the shard of the stream has too much mail |

use super::mail::{Mail, has_room};
use super::state::Messaging;
use crate::engine::{Context, Injection, Response, Route};
use crate::ids::{ConnId, ShardId};
use crate::protocol::{EmulationRequest, Encoding};
use crate::ws::Refusal;

/// Judges a whole emulation request that came by the connection `by`. `fields` are those of the response.
pub(super) fn request(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    by: ConnId,
    (is_protobuf, body): (bool, &[u8]),
    fields: String,
) -> Route {
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    let Ok(EmulationRequest { node, session, data }) = encoding.emulation_request(body) else {
        return Route::Refuse(Refusal::BadRequest("the body is no emulation request"));
    };
    let known = state.settings.session_ids.find(&session).filter(|_| *node == *state.settings.node);
    let Some((shard, conn)) = known.filter(|(shard, _)| shard.index() < cx.mail.shards()) else {
        return Route::Answer(response(Injection::Gone, fields));
    };
    if !has_room(cx, shard) {
        return Route::Answer(Response::text(503, fields + "Retry-After: 1\r\n", "the server is overloaded\n"));
    }
    let data = cx.mail.put(shard, &data);
    cx.mail.post(shard, Mail::Emulate { conn, by, data });
    if !fields.is_empty() {
        state.pending.emulation_fields.insert(by, fields);
    }
    Route::Later
}

/// At the shard of the stream: commands from the connection `by` of the shard `from`.
pub(super) fn receive(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    (from, by): (ShardId, ConnId),
    conn: ConnId,
    data: &[u8],
) {
    let is_known = cx.is_open(conn) && state.sessions[conn].transport.is_emulated();
    let outcome = match is_known {
        true => cx.inject(conn, data),
        false => Injection::Gone,
    };
    cx.mail.post(from, Mail::Emulated { by, outcome });
}

/// The shard of the stream has answered.
pub(super) fn answer(state: &mut Messaging, cx: &mut Context<Mail>, by: ConnId, outcome: Injection) {
    let fields = state.pending.emulation_fields.remove(&by).unwrap_or_default();
    cx.answer(by, response(outcome, fields));
}

fn response(outcome: Injection, fields: String) -> Response {
    match outcome {
        Injection::Taken => Response::empty(204, fields),
        Injection::Gone => Response::text(404, fields, "no such session\n"),
        Injection::Full => {
            Response::text(429, fields + "Retry-After: 1\r\n", "too many commands of the session wait\n")
        }
    }
}
