//! What shards read is bounded by what the receivers of its mail can handle, over simulated sockets and a simulated clock:
//! cheap commands must not make the queues between shards, and the wait of everyone behind them, longer and longer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::fuzz::session::socket::{Pipe, Socket};
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Batch, Wake};
use corecast::engine::{App, Context, Flow, Message, Readiness, Shard, Wait};
use corecast::ids::{ConnId, ShardId};
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;

/// A read of the clock finds so much more time gone.
const LOOK_US: u64 = 100;
/// Units of work of a line: the clock is read after each.
const WORK: u32 = 1_000;
const CONNECTIONS: usize = 60;
const LINES: usize = 100;
/// Messages that a line sends to its shard.
const MAIL_PER_LINE: u64 = 20;
/// Messages that a shard handles in each of the two steps of a turn.
const MAIL_PER_TURN: u32 = 50;
/// By this turn each heavy connection has used up a share, so that a light one comes before all of them.
const LIGHT_AT: usize = 150;
/// A turn reads ten lines, and one more of each of two connections.
const MAIL_READ_PER_TURN: u64 = 12 * MAIL_PER_LINE;

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> u64 {
    NOW_US.set(NOW_US.get() + LOOK_US);
    NOW_US.get()
}

/// Each line of a message sends mail to a shard. The line "last" is noted when its mail is handled.
struct Poster {
    to: ShardId,
    posted: u64,
    handled: u64,
    last_handled: bool,
}

impl App for Poster {
    type Mail = bool;
    type Request = std::convert::Infallible;

    fn message(&mut self, cx: &mut Context<bool>, conn: ConnId, message: Message<'_>) -> Flow {
        let mut consumed = 0;
        for line in message.payload.split_inclusive(|&byte| byte == b'\n') {
            consumed += line.len();
            (0..MAIL_PER_LINE).for_each(|_| _ = cx.mail.post(self.to, line == b"last"));
            self.posted += MAIL_PER_LINE;
            if cx.work(conn, WORK as usize) {
                return Flow::Yield { consumed };
            }
        }
        Flow::Done
    }

    fn mail(&mut self, _: &mut Context<bool>, batch: &mut Batch<bool>, budget: &mut u32) {
        while *budget > 0
            && let Some(is_last) = batch.next()
        {
            *budget -= 1;
            self.handled += 1;
            self.last_handled |= is_last;
        }
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: link\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const READABLE: Readiness = Readiness { readable: true, writable: false, read_closed: false, error: false };

/// All connections are at the first shard, and their mail goes to the last one.
struct Shards {
    shards: Vec<Shard<Poster, Socket>>,
    events: Vec<ConnId>,
}

impl Shards {
    fn new(count: usize) -> Self {
        let wakers = (0..count).map(|_| Box::new(Silent) as Box<dyn Wake>).collect();
        let config = Arc::new(EngineConfig {
            connections_max: 500,
            work_per_look: WORK,
            time_per_turn: Duration::from_micros(10 * LOOK_US),
            time_per_connection: Duration::from_micros(3 * LOOK_US),
            mail_per_turn: MAIL_PER_TURN,
            ..EngineConfig::default()
        });
        let bounds = mailbox::Bounds { mailbox_batches_max: config.mailbox_batches_max };
        let make = |mail: corecast::engine::Mailbox<bool>| {
            let app = Poster { to: ShardId(count as u16 - 1), posted: 0, handled: 0, last_handled: false };
            let (log_ring, _) = LogRing::new(mail.me());
            let mut shard = Shard::new(app, mail, Arc::clone(&config), log_ring, 0);
            shard.set_clock(clock);
            shard
        };
        Self { shards: mailbox::mesh(wakers, bounds).into_iter().map(make).collect(), events: Vec::new() }
    }

    fn open(&mut self) -> (ConnId, Rc<RefCell<Pipe>>) {
        let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
        let Ok(conn) = self.shards[0].adopt(Socket(Rc::clone(&pipe))) else { panic!("there is room") };
        pipe.borrow_mut().to_server.extend(UPGRADE);
        self.events.push(conn);
        while self.turn() {}
        (conn, pipe)
    }

    fn send(&mut self, (conn, pipe): &(ConnId, Rc<RefCell<Pipe>>), message: &str) {
        let mut frame = Vec::new();
        client_frame(&mut frame, Opcode::Text, message.as_bytes(), [1, 2, 3, 4]);
        pipe.borrow_mut().to_server.extend(frame);
        self.events.push(*conn);
    }

    /// A turn of each shard. False if all of them have nothing to do.
    fn turn(&mut self) -> bool {
        let mut works = false;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            shard.begin(0);
            for conn in if index == 0 { std::mem::take(&mut self.events) } else { Vec::new() } {
                shard.event(conn, READABLE);
            }
            works |= shard.end() == Wait::No;
        }
        works
    }

    fn waiting(&self) -> u64 {
        let sum = |count: fn(&Poster) -> u64| self.shards.iter().map(|shard| count(&shard.app)).sum::<u64>();
        sum(|app| app.posted) - sum(|app| app.handled)
    }
}

/// Returns the most messages that waited at the end of a turn, and the turns until that of a light connection was handled.
fn flood(shards: usize) -> (u64, usize) {
    let mut shards = Shards::new(shards);
    let heavy: Vec<_> = (0..CONNECTIONS).map(|_| shards.open()).collect();
    let light = shards.open();
    heavy.iter().for_each(|conn| shards.send(conn, &["x"; LINES].join("\n")));
    let (mut most, mut light_took) = (0, 0);
    for turn in 0.. {
        assert!(turn < 10_000, "the shards come to rest");
        if turn == LIGHT_AT {
            shards.send(&light, "last");
        }
        let works = shards.turn();
        most = most.max(shards.waiting());
        if turn >= LIGHT_AT && !shards.shards.iter().any(|shard| shard.app.last_handled) {
            light_took += 1;
        } else if turn > LIGHT_AT && !works && shards.waiting() == 0 {
            break;
        }
    }
    let posted: u64 = shards.shards.iter().map(|shard| shard.app.posted).sum();
    assert_eq!((posted, shards.waiting()), ((CONNECTIONS * LINES + 1) as u64 * MAIL_PER_LINE, 0), "nothing is lost");
    (most, light_took)
}

#[test]
fn mail_of_a_shard_to_itself_stays_short_while_many_connections_send() {
    let (most, light_took) = flood(1);
    assert!(most <= 2 * MAIL_READ_PER_TURN, "{most} messages wait");
    assert!(light_took <= 12, "{light_took} turns");
}

#[test]
fn mail_for_a_slower_shard_stays_short_while_many_connections_send() {
    let (most, light_took) = flood(2);
    assert!(most <= u64::from(MAIL_PER_TURN) + 3 * MAIL_READ_PER_TURN, "{most} messages wait");
    assert!(light_took <= 24, "{light_took} turns");
}
