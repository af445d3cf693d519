//! Connections between two requests, over sockets in memory and turns one by one: their end cuts no answer and no request.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::fuzz::session::socket::{Pipe, Socket};
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::{App, Context, Flow, Message, Readiness, Response, Route, Shard};
use corecast::ids::ConnId;
use corecast::ws::Request;

/// Longer than a connection may wait for its next request.
const TOO_LONG: u64 = 61_000;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n";
const READABLE: Readiness = Readiness { readable: true, writable: false, read_closed: false, error: false };
const WRITABLE: Readiness = Readiness { readable: false, writable: true, read_closed: false, error: false };

/// Answers every request.
struct Answers;

impl App for Answers {
    type Mail = Infallible;
    type Request = Infallible;

    fn route(&mut self, _: &mut Context<Infallible>, _: &Request<'_>) -> Route {
        Route::Answer(Response::empty(204, String::new()))
    }

    fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, _: Message<'_>) -> Flow {
        Flow::Done
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

fn shard(config: EngineConfig) -> Shard<Answers, Socket> {
    let wakers = vec![Box::new(Silent) as Box<dyn Wake>];
    let mail = mailbox::mesh::<Infallible, _>(wakers, mailbox::Bounds { mailbox_batches_max: 4 }).pop();
    let mail = mail.expect("one endpoint");
    let (log_ring, _) = LogRing::new(mail.me());
    Shard::new(Answers, mail, Arc::new(config), log_ring, 0)
}

fn connect(shard: &mut Shard<Answers, Socket>, pipe: Pipe) -> (ConnId, Rc<RefCell<Pipe>>) {
    let pipe = Rc::new(RefCell::new(pipe));
    let Ok(conn) = shard.adopt(Socket(Rc::clone(&pipe))) else { panic!("there is room") };
    (conn, pipe)
}

fn turn(shard: &mut Shard<Answers, Socket>, now: u64, events: &[(ConnId, Readiness)]) {
    shard.begin(now);
    events.iter().for_each(|&(conn, readiness)| shard.event(conn, readiness));
    shard.end();
}

#[test]
fn end_between_two_requests_follows_an_answer_inside_the_source() {
    let mut shard = shard(EngineConfig::default());
    let (conn, pipe) = connect(&mut shard, Pipe { room: 10, buffers: true, ..Pipe::default() });
    pipe.borrow_mut().to_server.extend(REQUEST);
    turn(&mut shard, 1, &[(conn, READABLE)]);
    assert!(!pipe.borrow().buffer.is_empty(), "the answer waits");
    turn(&mut shard, TOO_LONG, &[]);
    assert!(!pipe.borrow().server_ended);
    pipe.borrow_mut().room = usize::MAX;
    turn(&mut shard, TOO_LONG + 1, &[(conn, WRITABLE)]);
    assert!(pipe.borrow().server_ended && pipe.borrow().to_client.ends_with(b"\r\n\r\n"));
}

#[test]
fn request_that_waits_to_be_read_is_answered_though_its_connection_was_idle_for_long() {
    // Each turn has time for one read of each kind.
    let time = Duration::ZERO;
    let config =
        EngineConfig { work_per_look: 1, time_per_turn: time, time_per_connection: time, ..EngineConfig::default() };
    let mut shard = shard(config);
    let connections: Vec<_> = (0..3)
        .map(|_| {
            let (conn, pipe) = connect(&mut shard, Pipe { room: usize::MAX, ..Pipe::default() });
            pipe.borrow_mut().to_server.extend(REQUEST);
            turn(&mut shard, 1, &[(conn, READABLE)]);
            pipe.borrow_mut().to_server.extend(REQUEST);
            (conn, pipe)
        })
        .collect();
    let events: Vec<_> = connections.iter().map(|(conn, _)| (*conn, READABLE)).collect();
    let answers = || -> Vec<usize> {
        let count = |pipe: &Pipe| pipe.to_client.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count();
        connections.iter().map(|(_, pipe)| count(&pipe.borrow())).collect()
    };
    assert_eq!(answers(), [1, 1, 1]);
    // The first one uses up the time, by two requests.
    connections[0].1.borrow_mut().to_server.extend(REQUEST);
    turn(&mut shard, TOO_LONG, &events);
    assert_eq!(answers(), [3, 2, 1], "the time of the turn is over");
    turn(&mut shard, TOO_LONG + 1, &[]);
    assert_eq!(answers(), [3, 2, 2]);
    assert!(connections.iter().all(|(_, pipe)| !pipe.borrow().server_ended));
}
