//! What a shard of the server carries: the message server, and echo beside it where the operator wants it.

use crate::echo::{self, Echo};
use crate::engine::mailbox::Batch;
use crate::engine::outbound::Owner;
use crate::engine::stats::{Closed, Snapshot};
use crate::engine::{App, Context, EngineClose, Flow, Message, Millis, Route};
use crate::ids::ConnId;
use crate::messaging::{Ask, Mail, Messaging};
use crate::ws::Request;

/// The route of echo; the node's are its own.
const ROUTE_ECHO: u8 = u8::MAX;

pub struct Site {
    node: Messaging,
    echo: Option<Echo<Mail>>,
    /// By slot: an echo connection.
    echoes: Vec<bool>,
}

impl Site {
    pub fn new(node: Messaging, echo: bool) -> Self {
        Self { node, echo: echo.then(Echo::default), echoes: Vec::new() }
    }

    /// Echo, where the connection is one of its.
    fn echo(&mut self, conn: ConnId) -> Option<&mut Echo<Mail>> {
        self.echo.as_mut().filter(|_| self.echoes[conn.index()])
    }
}

/// Calls whichever app the connection belongs to.
macro_rules! owner {
    ($self:ident, $conn:ident, $method:ident($($argument:expr),*)) => {
        match $self.echo($conn) {
            Some(echo) => echo.$method($($argument),*),
            None => $self.node.$method($($argument),*),
        }
    };
}

impl App for Site {
    type Mail = Mail;
    type Request = Ask;

    fn route(&mut self, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
        match &mut self.echo {
            Some(echo) if request.path == echo::PATH => match echo.route(cx, request) {
                Route::Upgrade { protocol, .. } => Route::Upgrade { protocol, route: ROUTE_ECHO },
                other => other,
            },
            _ => self.node.route(cx, request),
        }
    }

    fn open(&mut self, cx: &mut Context<Mail>, conn: ConnId, route: u8) {
        if self.echoes.len() <= conn.index() {
            self.echoes.resize(conn.index() + 1, false);
        }
        self.echoes[conn.index()] = route == ROUTE_ECHO;
        owner!(self, conn, open(cx, conn, route));
    }

    fn message(&mut self, cx: &mut Context<Mail>, conn: ConnId, message: Message<'_>) -> Flow {
        owner!(self, conn, message(cx, conn, message))
    }

    fn pong(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        owner!(self, conn, pong(cx, conn));
    }

    fn timer(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        owner!(self, conn, timer(cx, conn));
    }

    fn closed(&mut self, cx: &mut Context<Mail>, conn: ConnId, why: Closed) {
        owner!(self, conn, closed(cx, conn, why));
    }

    fn leave(&mut self, cx: &mut Context<Mail>, conn: ConnId, budget: &mut u32) -> bool {
        owner!(self, conn, leave(cx, conn, budget))
    }

    fn mail(&mut self, cx: &mut Context<Mail>, batch: &mut Batch<Mail>, budget: &mut u32) {
        self.node.mail(cx, batch, budget);
    }

    fn request(&mut self, cx: &mut Context<Mail>, request: Ask) {
        self.node.request(cx, request);
    }

    fn before_dispatch(&mut self, cx: &mut Context<Mail>) {
        self.node.before_dispatch(cx);
    }

    fn waits_for_room(&self) -> bool {
        self.node.waits_for_room()
    }

    fn sweep(&mut self, cx: &mut Context<Mail>) {
        self.node.sweep(cx);
    }

    fn next_sweep(&self) -> Option<Millis> {
        self.node.next_sweep()
    }

    fn turn_end(&mut self, cx: &mut Context<Mail>) {
        self.node.turn_end(cx);
    }

    fn end_flush(&mut self, cx: &mut Context<Mail>) {
        self.node.end_flush(cx);
    }

    fn turn_bytes(&self) -> usize {
        self.node.turn_bytes()
    }

    fn dropped(&mut self, cx: &mut Context<Mail>, conn: ConnId, owner: Owner, messages: u64) {
        self.node.dropped(cx, conn, owner, messages);
    }

    fn close_reason(&self, conn: ConnId, why: EngineClose) -> (u16, &'static str) {
        match &self.echo {
            Some(echo) if self.echoes[conn.index()] => echo.close_reason(conn, why),
            _ => self.node.close_reason(conn, why),
        }
    }

    fn gauges(&self, snapshot: &mut Snapshot) {
        self.node.gauges(snapshot);
    }
}
