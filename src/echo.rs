//! The smallest user of the engine: every message goes back as it came. A measuring tool for networks and hosts.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::engine::mailbox::Batch;
use crate::engine::{App, Context, EngineClose, Flow, Message, Millis, Route};
use crate::ids::ConnId;
use crate::ws::{CloseCode, Opcode, Refusal, Request};

pub const PATH: &str = "/echo";

/// Milliseconds between two pings, and from a ping to the end of who did not answer it.
const PING_INTERVAL: Millis = 25_000;

/// Echo on one shard. It has nothing to tell other shards, so any mail will do: that of an app it shares the shard with.
pub struct Echo<M = Infallible> {
    /// By slot: a ping is out that was not answered.
    waits: Vec<bool>,
    mail: PhantomData<fn(M)>,
}

impl<M> Default for Echo<M> {
    fn default() -> Self {
        Self { waits: Vec::new(), mail: PhantomData }
    }
}

impl<M: Send + 'static> App for Echo<M> {
    type Mail = M;
    type Request = Infallible;

    fn route(&mut self, _cx: &mut Context<M>, request: &Request<'_>) -> Route {
        match request.path {
            PATH => Route::Upgrade { protocol: None, route: 0 },
            _ => Route::Refuse(Refusal::NotFound),
        }
    }

    fn open(&mut self, cx: &mut Context<M>, conn: ConnId, _route: u8) {
        if self.waits.len() <= conn.index() {
            self.waits.resize(conn.index() + 1, false);
        }
        self.waits[conn.index()] = false;
        cx.set_timer(conn, cx.now() + PING_INTERVAL);
    }

    fn message(&mut self, _cx: &mut Context<M>, _conn: ConnId, _message: Message<'_>) -> Flow {
        Flow::Reflect
    }

    fn pong(&mut self, _cx: &mut Context<M>, conn: ConnId) {
        self.waits[conn.index()] = false;
    }

    fn timer(&mut self, cx: &mut Context<M>, conn: ConnId) {
        if std::mem::replace(&mut self.waits[conn.index()], true) {
            return cx.close(conn, CloseCode::GoingAway.code(), "no pong");
        }
        cx.reply(conn, Opcode::Ping, b"");
        cx.set_timer(conn, cx.now() + PING_INTERVAL);
    }

    fn mail(&mut self, _cx: &mut Context<M>, batch: &mut Batch<M>, _budget: &mut u32) {
        debug_assert!(batch.is_empty(), "nobody writes to echo");
    }

    fn request(&mut self, _cx: &mut Context<M>, request: Infallible) {
        match request {}
    }

    fn close_reason(&self, _conn: ConnId, why: EngineClose) -> (u16, &'static str) {
        match why {
            EngineClose::Slow => (CloseCode::PolicyViolation.code(), "slow"),
            EngineClose::Shutdown => (CloseCode::GoingAway.code(), "shutdown"),
        }
    }
}
