//! What clients ask, in the order they ask it (PROTOCOL: the first command is connect, each with an id gets one reply).
//!
//! Commands of one channel run one after the other: while its subscribe waits for home, what follows for that channel waits
//! behind it in a lane. Publications need no lane: they go to home behind the subscribe, in the same order, and so do their
//! answers.

use std::collections::VecDeque;

use super::channels::has_room;
use super::{Mail, Node};
use crate::hub::{Form, Joined};
use crate::ids::ConnId;
use crate::protocol::{Body, Command, Disconnect, ErrorCode, Reply, SubscribeRequest, SubscribeResult};
use crate::shard::{Cx, Flow, Message};

/// Commands that may wait behind one subscribe; one more is answered with "too many requests".
const LANE_COMMANDS_MAX: usize = 16;

/// A subscription that waits for home's answer.
pub(super) struct Waiting {
    /// The command that asked for it.
    id: u32,
    lane: VecDeque<(u32, Next)>,
    channel: Box<str>,
}

/// A command that waits in a lane.
#[derive(Clone, Copy)]
enum Next {
    Subscribe,
    Unsubscribe,
}

/// What became of a command.
#[derive(PartialEq, Eq)]
enum Done {
    Yes,
    /// There is no room for it now: it is offered again.
    NoRoom,
    /// The connection ends: nothing after it counts.
    Ended,
}

impl Node {
    /// All commands of a message.
    pub(super) fn commands(&mut self, cx: &mut Cx<Mail>, conn: ConnId, message: &Message<'_>) -> Flow {
        if !message.text {
            self.close(cx, conn, Disconnect::InappropriateProtocol);
            return Flow::Done;
        }
        let mut start = 0;
        for command in self.encoding(conn).commands(message.payload, 0) {
            let Ok((command, end)) = command else {
                self.close(cx, conn, Disconnect::BadRequest);
                return Flow::Done;
            };
            match self.command(cx, conn, command) {
                Done::Yes => start = end,
                Done::NoRoom => return Flow::Stall { consumed: start },
                Done::Ended => return Flow::Done,
            }
        }
        Flow::Done
    }

    fn command(&mut self, cx: &mut Cx<Mail>, conn: ConnId, command: Command<'_>) -> Done {
        let Command { id, body } = command;
        if let Body::Connect(_) = body {
            return if self.connect(cx, conn, id) { Done::Yes } else { Done::Ended };
        }
        if !self.session(conn).connected {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        match body {
            Body::Subscribe(SubscribeRequest { channel, .. })
            | Body::Unsubscribe { channel }
            | Body::Publish { channel, .. }
                if channel.is_empty() =>
            {
                self.end(cx, conn, Disconnect::BadRequest)
            }
            Body::Subscribe(request) => self.subscribe(cx, conn, id, &request.channel),
            Body::Unsubscribe { channel } => self.unsubscribe(cx, conn, id, &channel),
            Body::Publish { channel, data } => self.publish(cx, conn, id, &channel, data),
            Body::Pong if self.answered(cx, conn) => Done::Yes,
            Body::Pong | Body::Unknown | Body::Connect(_) => self.end(cx, conn, Disconnect::BadRequest),
            Body::Send { .. } => self.end(cx, conn, Disconnect::NotAvailable),
            Body::Presence { .. }
            | Body::PresenceStats { .. }
            | Body::History(_)
            | Body::Rpc { .. }
            | Body::Refresh { .. }
            | Body::SubRefresh { .. } => self.refuse(cx, conn, id, ErrorCode::NotAvailable),
        }
    }

    fn end(&self, cx: &mut Cx<Mail>, conn: ConnId, disconnect: Disconnect) -> Done {
        self.close(cx, conn, disconnect);
        Done::Ended
    }

    fn refuse(&self, cx: &mut Cx<Mail>, conn: ConnId, id: u32, error: ErrorCode) -> Done {
        self.reply(cx, conn, id, &Reply::Error(error));
        Done::Yes
    }

    /// A name that may be one of ours, or what is wrong with it.
    fn check_channel(&self, channel: &str, allowed: bool) -> Result<(), ErrorCode> {
        if channel.len() > self.settings.channel_bytes_max || !channel.is_ascii() {
            return Err(ErrorCode::BadRequest);
        }
        if !self.settings.any_namespace && channel.contains(':') {
            return Err(ErrorCode::UnknownChannel);
        }
        if allowed { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
    }

    fn subscribe(&mut self, cx: &mut Cx<Mail>, conn: ConnId, id: u32, channel: &str) -> Done {
        let session = &self.sessions[conn.index()];
        let found = self.feeds.find(session.first_sub, channel);
        if let Some(sub) = found {
            if self.feeds.is_pending(sub) {
                return self.wait_in_lane(cx, conn, sub, id, Next::Subscribe);
            }
            return self.refuse(cx, conn, id, ErrorCode::AlreadySubscribed);
        }
        if let Err(error) = self.check_channel(channel, self.settings.allow_subscribe) {
            return self.refuse(cx, conn, id, error);
        }
        if usize::from(session.channels) >= self.settings.channels_max {
            return self.refuse(cx, conn, id, ErrorCode::LimitExceeded);
        }
        let home = self.home_of(channel);
        let limit = cx.limits.subscribe_requests_max;
        if !self.feeds.knows(channel, Form::Json) && self.requests[home.index()] >= limit {
            return Done::NoRoom;
        }
        let session = &mut self.sessions[conn.index()];
        session.channels += 1;
        match self.feeds.subscribe(conn, &mut session.first_sub, channel, Form::Json) {
            Joined::Live(..) => self.reply(cx, conn, id, &Reply::Subscribe(SubscribeResult::default())),
            Joined::Pending(sub) => self.wait(sub, id, channel),
            Joined::First(sub, feed) => {
                self.wait(sub, id, channel);
                self.requests[home.index()] += 1;
                let channel = cx.mail.put(home, channel.as_bytes());
                cx.mail.post(home, Mail::Subscribe { channel, feed, form: Form::Json });
            }
        }
        Done::Yes
    }

    fn wait(&mut self, sub: u32, id: u32, channel: &str) {
        self.waiting.insert(sub, Waiting { id, lane: VecDeque::new(), channel: channel.into() });
    }

    fn wait_in_lane(&mut self, cx: &mut Cx<Mail>, conn: ConnId, sub: u32, id: u32, next: Next) -> Done {
        let waiting = self.waiting.get_mut(&sub).expect("a pending subscription waits");
        if waiting.lane.len() == LANE_COMMANDS_MAX {
            return self.refuse(cx, conn, id, ErrorCode::TooManyRequests);
        }
        waiting.lane.push_back((id, next));
        Done::Yes
    }

    /// Home has answered: the reply, then what waited behind it.
    pub(super) fn subscribed(&mut self, cx: &mut Cx<Mail>, sub: u32) {
        let waiting = self.waiting.remove(&sub).expect("a pending subscription waits");
        let conn = self.feeds.conn_of(sub);
        self.reply(cx, conn, waiting.id, &Reply::Subscribe(SubscribeResult::default()));
        for (id, next) in waiting.lane {
            // Where one of them waits again, those behind it find it pending and wait there.
            let done = match next {
                Next::Subscribe => self.subscribe(cx, conn, id, &waiting.channel),
                Next::Unsubscribe => self.unsubscribe(cx, conn, id, &waiting.channel),
            };
            debug_assert!(done != Done::NoRoom, "the answer gave back the request that one channel can need");
        }
    }

    fn unsubscribe(&mut self, cx: &mut Cx<Mail>, conn: ConnId, id: u32, channel: &str) -> Done {
        let session = &mut self.sessions[conn.index()];
        if let Some(sub) = self.feeds.find(session.first_sub, channel) {
            if self.feeds.is_pending(sub) {
                return self.wait_in_lane(cx, conn, sub, id, Next::Unsubscribe);
            }
            session.channels -= 1;
            if let Some(left) = self.feeds.unsubscribe(sub, &mut session.first_sub) {
                self.tell_home_left(cx, &left);
            }
        }
        self.reply(cx, conn, id, &Reply::Unsubscribe);
        Done::Yes
    }

    fn publish(&mut self, cx: &mut Cx<Mail>, conn: ConnId, id: u32, channel: &str, data: &[u8]) -> Done {
        if let Err(error) = self.check_channel(channel, self.settings.allow_publish) {
            return self.refuse(cx, conn, id, error);
        }
        if data.is_empty() {
            return self.refuse(cx, conn, id, ErrorCode::BadRequest);
        }
        let home = self.home_of(channel);
        if !has_room(cx, home) {
            return Done::NoRoom;
        }
        let client = self.session(conn).client;
        let channel = cx.mail.put(home, channel.as_bytes());
        let data = cx.mail.put(home, data);
        cx.mail.post(home, Mail::Publish { channel, data, conn, client, id });
        Done::Yes
    }
}
