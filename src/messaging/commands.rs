//! What clients ask, in the order they ask it (PROTOCOL: the first command is connect, each with an id gets one reply).
//!
//! Subscribes of one frame go to their homes together. A command for a channel whose subscribe is not answered yet waits
//! unread, and what follows it too; so does what follows a command that the backend must answer. That is a barrier where
//! lanes per channel would go on: it needs no memory beyond the spilled rest of the frame, and clients see the same order.
//! Publications go to home behind the subscribe, in the same order, and so do their answers.

use super::session::Phase;
use super::{Mail, Messaging};
use crate::engine::stats::Bound;
use crate::engine::token_bucket::{Rate, TokenBucket};
use crate::engine::{Context, Flow, Message};
use crate::ids::ConnId;
use crate::protocol::{Body, Command, Disconnect, Encoding, ErrorCode};

/// What became of a command.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Yes,
    /// There is no room for it now: it is offered again.
    NoRoom,
    /// It is taken, and nothing after it is looked at until it is answered.
    Wait,
    /// It is not taken: it is offered again when the subscribe before it is answered.
    Later,
    /// The connection ends: nothing after it counts.
    Ended,
}

impl Messaging {
    /// All commands of a message.
    pub(crate) fn commands(&mut self, cx: &mut Context<Mail>, conn: ConnId, message: &Message<'_>) -> Flow {
        let session = self.session(conn);
        let encoding = session.encoding;
        // What stood behind a connect that was refused means nothing; 3501 would keep the client away for good.
        if session.phase == Phase::Refused {
            return Flow::Done;
        }
        if encoding == Encoding::UniJson {
            return self.uni_message(cx, conn, message);
        }
        if message.text != encoding.is_text() {
            // A Protobuf client may use either opcode, as elsewhere; a JSON client sends text.
            if encoding.is_text() {
                self.close(cx, conn, Disconnect::InappropriateProtocol);
                return Flow::Done;
            }
        }
        let mut start = 0;
        let rate = self.settings.command_rate;
        for command in encoding.commands(message.payload, 0) {
            let Ok((command, end)) = command else {
                self.end(cx, conn, Disconnect::BadRequest);
                return self.ended(conn, message.payload.len());
            };
            let pong = matches!(command.body, Body::Pong);
            let done = self.command(cx, conn, command, &message.payload[start..end]);
            let taken = !matches!(done, Done::NoRoom | Done::Later | Done::Ended);
            if let (Some(rate), true) = (rate, taken && !pong)
                && !self.within_rate(cx, conn, rate)
            {
                self.end(cx, conn, Disconnect::TooManyRequests);
                return self.ended(conn, message.payload.len());
            }
            match done {
                Done::Yes => start = end,
                Done::NoRoom => return Flow::Stall { consumed: start },
                Done::Later => return Flow::Wait { consumed: start },
                Done::Wait => {
                    self.hold_for_last_call(conn);
                    return Flow::Wait { consumed: end };
                }
                Done::Ended => return self.ended(conn, message.payload.len()),
            }
        }
        Flow::Done
    }

    /// Counts a command that was taken. False where it is one too many, and not only to be counted as that.
    fn within_rate(&mut self, cx: &mut Context<Mail>, conn: ConnId, rate: Rate) -> bool {
        let index = conn.index();
        if self.command_rates.len() <= index {
            self.command_rates.resize(index + 1, TokenBucket::FULL);
        }
        if rate.take(&mut self.command_rates[index], 1, cx.now()) {
            return true;
        }
        cx.reached(Bound::CommandRate, conn);
        self.settings.client.rate_limit_dry_run
    }

    /// Nothing more is looked at, also where the close waits for answers.
    fn ended(&self, conn: ConnId, consumed: usize) -> Flow {
        if self.ending.contains_key(&conn.slot) { Flow::Wait { consumed } } else { Flow::Done }
    }

    /// The first message is the connect request; what follows means nothing.
    fn uni_message(&mut self, cx: &mut Context<Mail>, conn: ConnId, message: &Message<'_>) -> Flow {
        if self.session(conn).phase != Phase::New {
            return Flow::Done;
        }
        match self.uni_connect(cx, conn, message.payload) {
            Done::Wait => {
                self.hold_for_last_call(conn);
                Flow::Wait { consumed: message.payload.len() }
            }
            _ => Flow::Done,
        }
    }

    pub(crate) fn command(&mut self, cx: &mut Context<Mail>, conn: ConnId, command: Command<'_>, raw: &[u8]) -> Done {
        let Command { id, body } = command;
        if let Body::Connect(request) = &body {
            return self.connect(cx, conn, id, request, raw);
        }
        if self.session(conn).phase != Phase::Connected {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        if let Some(channel) = channel_of(&body) {
            if channel.is_empty() {
                return self.end(cx, conn, Disconnect::BadRequest);
            }
            if self.waits_behind_subscribe(conn, channel, &body) {
                return Done::Later;
            }
        }
        match body {
            Body::Subscribe(request) => self.subscribe(cx, conn, id, &request, raw, false),
            Body::Unsubscribe { channel } => self.unsubscribe(cx, conn, id, &channel),
            Body::Publish { channel, data, .. } => self.publish(cx, conn, id, &channel, data),
            Body::Pong if self.answered(cx, conn) => Done::Yes,
            Body::Pong | Body::Unknown | Body::Connect(_) => self.end(cx, conn, Disconnect::BadRequest),
            Body::Send { .. } => self.end(cx, conn, Disconnect::NotAvailable),
            Body::Presence { channel } => self.presence(cx, conn, id, &channel),
            Body::PresenceStats { channel } => self.presence_stats(cx, conn, id, &channel),
            Body::History(request) => self.history(cx, conn, id, &request),
            Body::Rpc { method, data } => self.rpc(cx, conn, id, &method, data),
            Body::Refresh { token } => self.refresh(cx, conn, id, &token, raw, false),
            Body::SubRefresh { channel, token, .. } => self.sub_refresh(cx, conn, id, &channel, &token, raw, false),
        }
    }

    /// Ends the connection, behind the answers that are owed to the commands before.
    pub(crate) fn end(&mut self, cx: &mut Context<Mail>, conn: ConnId, disconnect: Disconnect) -> Done {
        let session = self.session(conn);
        if session.phase == Phase::Connected && (session.pending > 0 || session.owed > 0) {
            self.ending.insert(conn.slot, disconnect);
        } else {
            self.close(cx, conn, disconnect);
        }
        Done::Ended
    }

    /// One answer less is owed: with the last one ends who shall end.
    pub(crate) fn settle(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let session = &self.sessions[conn.index()];
        if session.pending == 0
            && session.owed == 0
            && cx.is_open(conn)
            && let Some(disconnect) = self.ending.remove(&conn.slot)
        {
            self.close(cx, conn, disconnect);
        }
    }

    /// A home has answered a command of the connection.
    pub(crate) fn paid(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        if cx.is_open(conn) {
            self.session(conn).owed -= 1;
            self.settle(cx, conn);
        }
    }

    pub(crate) fn refuse(&self, cx: &mut Context<Mail>, conn: ConnId, id: u32, error: ErrorCode) -> Done {
        self.reply(cx, conn, id, &error.into());
        Done::Yes
    }
}

/// The channel that a command is about.
fn channel_of<'a>(body: &'a Body<'_>) -> Option<&'a str> {
    match body {
        Body::Subscribe(request) => Some(&request.channel),
        Body::History(request) => Some(&request.channel),
        Body::Unsubscribe { channel }
        | Body::Publish { channel, .. }
        | Body::Presence { channel }
        | Body::PresenceStats { channel }
        | Body::SubRefresh { channel, .. } => Some(channel),
        _ => None,
    }
}
