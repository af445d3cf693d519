//! Questions to the operator's backend, and what becomes of their answers. A command that waits for one is a barrier: the
//! connection is not read further before it is answered.

use super::access::Options;
use super::arena::client_text;
use super::commands::Done;
use super::mail::ReplyTo;
use super::session::Phase;
use super::{Mail, Messaging};
use crate::backend::call::{Answer, Call, Caller, Question};
use crate::config::NoRpc;
use crate::engine::Context;
use crate::ids::ConnId;
use crate::protocol::{Body, Command, Encoding, ErrorCode, Reply};

/// A command that waits for the backend.
pub(crate) struct Calling {
    conn: ConnId,
    waits: Waits,
    /// The connection is not read until the answer.
    pub holds: bool,
}

/// What is to be done with the answer.
pub(crate) struct Waits {
    pub id: u32,
    /// The command as it came, where it is decided again.
    pub raw: Box<[u8]>,
    pub reason: Reason,
}

pub(crate) enum Reason {
    Connect,
    Subscribe,
    Publish {
        channel: Box<str>,
        data: Box<[u8]>,
    },
    Rpc,
    ServerRefresh,
    ServerSubRefresh {
        channel: Box<str>,
    },
    /// The key sets were asked for again: the command is decided again.
    ConnectKey,
    SubscribeKey,
    RefreshKey,
    SubRefreshKey,
}

impl Messaging {
    /// Asks. Where there is no room for the question, it is answered at once as the backend's failure would be.
    pub(crate) fn call(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        proxy: u16,
        question: Question,
        waits: Waits,
    ) -> Done {
        self.calls = self.calls.wrapping_add(1);
        let session = &self.sessions[conn.index()];
        let identity = session.identity.as_deref();
        let mut text = uuid::Uuid::encode_buffer();
        let headers = identity
            .map_or_else(|| self.kept.get(&conn.slot).and_then(|kept| kept.headers.as_ref()), |i| i.headers.as_ref());
        let caller = Caller {
            client: client_text(session.client, &mut text).to_owned(),
            user: session.user().to_owned(),
            transport: if session.is_uni() { "uni_websocket" } else { "websocket" },
            binary: session.encoding == Encoding::Protobuf,
            meta: identity.map(|identity| identity.meta.to_vec()).unwrap_or_default(),
            headers: headers.map(|headers| headers.to_vec()).unwrap_or_default(),
        };
        let call = Call { shard: cx.me(), conn, serial: self.calls, proxy, caller, question };
        cx.counters.backend_calls += 1;
        if (self.settings.backend)(call) {
            self.calling.insert(self.calls, Calling { conn, waits, holds: false });
            return Done::Wait;
        }
        cx.counters.backend_failures += 1;
        self.act(cx, conn, waits, Answer::Failed)
    }

    pub(crate) fn rpc(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, method: &str, data: &[u8]) -> Done {
        match self.settings.rpc.proxy_for(method) {
            Ok(proxy) => {
                let question = Question::Rpc { method: method.to_owned(), data: data.to_vec() };
                self.call(cx, conn, proxy, question, Waits { id, raw: Box::default(), reason: Reason::Rpc })
            }
            Err(NoRpc::MethodNotFound) => self.refuse(cx, conn, id, ErrorCode::MethodNotFound),
            Err(NoRpc::NotAvailable) => self.refuse(cx, conn, id, ErrorCode::NotAvailable),
        }
    }

    /// An answer has come.
    pub(crate) fn backend_answered(&mut self, cx: &mut Context<Mail>, conn: ConnId, serial: u32, answer: Answer) {
        let Some(Calling { waits, holds, .. }) = self.calling.remove(&serial) else { return };
        if !cx.is_open(conn) {
            return;
        }
        cx.counters.backend_failures += u64::from(answer == Answer::Failed);
        let done = self.act(cx, conn, waits, answer);
        if !holds {
            return;
        }
        if done == Done::Wait {
            self.hold_for_last_call(conn);
        } else {
            cx.resume(conn);
        }
    }

    /// The connection is not read until the call that was made last is answered.
    pub(crate) fn hold_for_last_call(&mut self, conn: ConnId) {
        if let Some(calling) = self.calling.get_mut(&self.calls).filter(|calling| calling.conn == conn) {
            calling.holds = true;
        }
    }

    fn act(&mut self, cx: &mut Context<Mail>, conn: ConnId, waits: Waits, answer: Answer) -> Done {
        let Waits { id, raw, reason } = waits;
        match (reason, answer) {
            (Reason::ConnectKey | Reason::SubscribeKey | Reason::RefreshKey | Reason::SubRefreshKey, _) => {
                self.decide_again(cx, conn, &raw)
            }
            (_, Answer::Disconnect { code, reason }) => {
                self.close_with(cx, conn, code, reason.into());
                Done::Ended
            }
            (Reason::Connect, Answer::Connect(grant)) => self.connect_granted(cx, conn, id, &raw, grant),
            (Reason::Connect, Answer::Error { code, message, temporary }) => {
                self.refuse_connect_with(cx, conn, id, code, &message, temporary)
            }
            (Reason::Connect, _) => self.refuse_connect(cx, conn, id, ErrorCode::Internal),
            (Reason::ServerRefresh, Answer::Refresh(renewal)) => self.renewed(cx, conn, None, renewal),
            (Reason::ServerRefresh, _) => self.postpone_expiry(cx, conn),
            (Reason::ServerSubRefresh { channel }, answer) => self.sub_refresh_answered(cx, conn, &channel, answer),
            (_, Answer::Error { code, message, temporary }) => {
                self.reply(cx, conn, id, &Reply::Error { code, message: &message, temporary });
                Done::Yes
            }
            (Reason::Subscribe, Answer::Subscribe(grant)) => self.subscribe_granted(cx, conn, id, &raw, grant),
            (Reason::Publish { channel, data }, Answer::Publish(publish)) => {
                let done = self.publish_granted(cx, ReplyTo { conn, id }, &channel, &data, &publish);
                self.refused_without_room(cx, conn, id, done)
            }
            (Reason::Rpc, Answer::Rpc { data }) => {
                self.reply(cx, conn, id, &Reply::Rpc { data: &data });
                Done::Yes
            }
            _ => self.refuse(cx, conn, id, ErrorCode::Internal),
        }
    }

    /// The command that waited for a key, with the key or without it.
    fn decide_again(&mut self, cx: &mut Context<Mail>, conn: ConnId, raw: &[u8]) -> Done {
        let Some(Command { id, body }) = waited(self.session(conn).encoding, raw) else { return Done::Ended };
        match body {
            Body::Connect(request) => self.identify(cx, conn, id, &request, raw, true),
            Body::Subscribe(request) => {
                let done = self.subscribe(cx, conn, id, &request, raw, true);
                self.refused_without_room(cx, conn, id, done)
            }
            Body::Refresh { token } => self.refresh(cx, conn, id, &token, raw, true),
            Body::SubRefresh { channel, token, .. } => self.sub_refresh(cx, conn, id, &channel, &token, raw, true),
            _ => Done::Yes,
        }
    }

    fn connect_granted(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        raw: &[u8],
        grant: crate::auth::grant::ConnectGrant,
    ) -> Done {
        if self.session(conn).phase != Phase::Connecting {
            return Done::Ended;
        }
        match waited(self.session(conn).encoding, raw) {
            Some(Command { body: Body::Connect(request), .. }) => self.granted(cx, conn, id, &request, grant, false),
            _ => Done::Ended,
        }
    }

    fn subscribe_granted(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        raw: &[u8],
        grant: crate::auth::grant::SubscribeGrant,
    ) -> Done {
        let encoding = self.session(conn).encoding;
        let Some(Command { body: Body::Subscribe(request), .. }) = waited(encoding, raw) else { return Done::Ended };
        // Meanwhile the server API may have made the same subscription.
        if self.subscription(conn, &request.channel).is_some() {
            return self.refuse(cx, conn, id, ErrorCode::AlreadySubscribed);
        }
        let options = match self.namespace_of(&request.channel) {
            Ok(namespace) => Options::granted(namespace, grant),
            Err(error) => return self.refuse(cx, conn, id, error),
        };
        let done = self.subscribe_with(cx, conn, id, &request, options);
        self.refused_without_room(cx, conn, id, done)
    }

    /// A command that waited for an answer cannot be offered again.
    fn refused_without_room(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, done: Done) -> Done {
        if done == Done::NoRoom { self.refuse(cx, conn, id, ErrorCode::TooManyRequests) } else { done }
    }

    /// The backend that renews this connection did not answer: it is asked again a little later, and the connection stays.
    fn postpone_expiry(&mut self, cx: &mut Context<Mail>, conn: ConnId) -> Done {
        const LATER_S: u64 = 60;
        let at = self.unix_s(cx) + LATER_S;
        if let Some(identity) = &mut self.session(conn).identity {
            identity.expire_at = at;
        }
        self.arm(cx, conn);
        Done::Yes
    }

    fn sub_refresh_answered(&mut self, cx: &mut Context<Mail>, conn: ConnId, channel: &str, answer: Answer) -> Done {
        let Some(sub) = self.subscription(conn, channel) else { return Done::Yes };
        match answer {
            Answer::SubRefresh(renewal) => self.sub_renewed(cx, conn, sub, None, renewal),
            _ => self.subscription_over(cx, conn, sub),
        }
    }
}

/// The command that waited, from its bytes as they came: a unidirectional client's is a connect request by itself.
fn waited(encoding: Encoding, raw: &[u8]) -> Option<Command<'_>> {
    if encoding == Encoding::UniJson {
        return Encoding::connect_request(raw).ok().map(|request| Command { id: 0, body: Body::Connect(request) });
    }
    encoding.commands(raw, 0).next()?.ok().map(|(command, _)| command)
}
