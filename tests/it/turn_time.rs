//! The time of a turn, over simulated sockets and a simulated clock: connections with much work do not delay the others,
//! and nothing is lost or reordered meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::fuzz::session::socket::{Pipe, Socket};
use corecast::auth::Hash;
use corecast::auth::sign::SigningKey;
use corecast::config::Config;
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::{App, Context, Flow, Message, Readiness, Shard, Wait};
use corecast::ids::ConnId;
use corecast::messaging::Settings;
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;

use crate::common::one_shard::OneShard;

/// Units of work of a message, and of a line of one: the clock is read after each.
const WORK: u32 = 1_000;
/// A read of the clock finds so much more time gone, and a connection has three of them in a turn.
const LOOK_US: u64 = 100;
const HEAVY: usize = 60;
const MESSAGES: usize = 200;

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> u64 {
    NOW_US.set(NOW_US.get() + LOOK_US);
    NOW_US.get()
}

/// Each line of a message is work. It notes the connection and the line.
#[derive(Default)]
struct Worker {
    lines: Vec<(ConnId, String)>,
}

impl App for Worker {
    type Mail = Infallible;
    type Request = Infallible;

    fn message(&mut self, cx: &mut Context<Infallible>, conn: ConnId, message: Message<'_>) -> Flow {
        let mut consumed = 0;
        for line in message.payload.split_inclusive(|&byte| byte == b'\n') {
            self.lines.push((conn, String::from_utf8_lossy(line).trim().to_owned()));
            consumed += line.len();
            if line == b"wait" {
                return Flow::Wait { consumed };
            }
            if cx.work(conn, WORK as usize) {
                return Flow::Yield { consumed };
            }
        }
        Flow::Done
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: link\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const READABLE: Readiness = Readiness { readable: true, writable: false, read_closed: false, error: false };

struct Server {
    shard: Shard<Worker, Socket>,
    pipes: HashMap<ConnId, Rc<RefCell<Pipe>>>,
    events: Vec<ConnId>,
    turns: usize,
}

impl Server {
    fn new() -> Self {
        let wakers = vec![Box::new(Silent) as Box<dyn Wake>];
        let mail = mailbox::mesh::<Infallible, _>(wakers, mailbox::Bounds { mailbox_batches_max: 4 }).pop();
        let config = EngineConfig {
            connections_max: 500,
            work_per_look: WORK,
            time_per_turn: Duration::from_micros(10 * LOOK_US),
            time_per_connection: Duration::from_micros(3 * LOOK_US),
            ..EngineConfig::default()
        };
        let mail = mail.expect("one endpoint");
        let (log_ring, _) = LogRing::new(mail.me());
        let mut shard = Shard::new(Worker::default(), mail, Arc::new(config), log_ring, 0);
        shard.set_clock(clock);
        Self { shard, pipes: HashMap::new(), events: Vec::new(), turns: 0 }
    }

    fn open(&mut self) -> ConnId {
        let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
        let Ok(conn) = self.shard.adopt(Socket(Rc::clone(&pipe))) else { panic!("there is room") };
        pipe.borrow_mut().to_server.extend(UPGRADE);
        self.pipes.insert(conn, pipe);
        self.events.push(conn);
        self.run();
        conn
    }

    /// Bytes have come, and the kernel reports them in the next turn.
    fn send(&mut self, conn: ConnId, message: &str) {
        let mut frame = Vec::new();
        client_frame(&mut frame, Opcode::Text, message.as_bytes(), [1, 2, 3, 4]);
        self.pipes[&conn].borrow_mut().to_server.extend(frame);
        self.events.push(conn);
    }

    fn turn(&mut self) -> Wait {
        self.turns += 1;
        self.shard.begin(0);
        for conn in std::mem::take(&mut self.events) {
            self.shard.event(conn, READABLE);
        }
        self.shard.end()
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            if self.turn() != Wait::No {
                return;
            }
        }
        panic!("the shard does not become idle");
    }

    /// How many lines were handled before this one.
    fn place_of(&self, conn: ConnId, line: &str) -> usize {
        let found = self.shard.app.lines.iter().position(|(of, known)| (*of, known.as_str()) == (conn, line));
        found.unwrap_or_else(|| panic!("{line:?} was not handled"))
    }

    fn assert_in_order(&self, conns: &[ConnId]) {
        for &conn in conns {
            let lines = self.shard.app.lines.iter().filter(|(of, _)| *of == conn).map(|(_, line)| line.clone());
            assert_eq!(lines.collect::<Vec<_>>(), (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
        }
        assert_eq!((self.shard.snapshot().spill_bytes, self.shard.snapshot().backlog_bytes), (0, 0));
    }
}

/// Heavy connections send `MESSAGES` lines each, by this function; a light one sends a line behind them, and another one
/// while they are at work.
fn light_beside_heavy(send: impl Fn(&mut Server, ConnId)) {
    let mut server = Server::new();
    let heavy: Vec<_> = (0..HEAVY).map(|_| server.open()).collect();
    let light = server.open();
    server.shard.app.lines.clear();
    heavy.iter().for_each(|&conn| send(&mut server, conn));
    server.send(light, "first");
    server.turn();
    // Three looks end a share and ten a turn; one more connection may have begun.
    assert!(server.shard.app.lines.len() <= 20, "{} lines in a turn", server.shard.app.lines.len());
    while !server.shard.app.lines.iter().any(|(of, _)| *of == light) {
        server.turn();
    }
    let place = server.place_of(light, "first");
    assert!(place <= HEAVY * 6, "{place} lines of {HEAVY} connections before the first line of another one");
    // The heavy ones have used up their shares, so that a light one comes before all of them.
    let before = server.shard.app.lines.len();
    server.send(light, "second");
    server.turn();
    let place = server.place_of(light, "second") - before;
    assert!(place <= 20, "{place} lines before that of a connection that has its whole share");
    server.run();
    server.assert_in_order(&heavy);
    assert!(server.shard.cx.counters.shares_spent as usize >= HEAVY);
}

#[test]
fn frames_of_many_busy_connections_do_not_delay_another_one() {
    light_beside_heavy(|server, conn| (0..MESSAGES).for_each(|n| server.send(conn, &n.to_string())));
}

#[test]
fn lines_of_one_frame_do_not_delay_another_connection() {
    let lines: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    light_beside_heavy(|server, conn| server.send(conn, &lines.join("\n")));
}

#[test]
fn connections_with_much_to_do_take_turns() {
    let mut server = Server::new();
    let heavy: Vec<_> = (0..HEAVY).map(|_| server.open()).collect();
    server.shard.app.lines.clear();
    for &conn in &heavy {
        (0..MESSAGES).for_each(|n| server.send(conn, &n.to_string()));
    }
    // While they are busy, their own new bytes give them no better place, and light ones no standstill.
    let light = server.open();
    for turn in 0.. {
        server.send(light, "more");
        server.events.extend(&heavy);
        let wait = server.turn();
        let handled = |conn: &ConnId| server.shard.app.lines.iter().filter(|(of, _)| of == conn).count();
        let (least, most) = (heavy.iter().map(handled).min(), heavy.iter().map(handled).max());
        let (least, most) = (least.expect("some"), most.expect("some"));
        assert!(most - least <= 8, "turn {turn}: one has handled {least} lines, another one {most}");
        if wait != Wait::No || least == MESSAGES {
            break;
        }
    }
    server.run();
    server.assert_in_order(&heavy);
}

#[test]
fn many_connections_that_wait_keep_less_of_what_they_sent() {
    const CONNECTIONS: usize = 400;
    let (mut server, rest) = (Server::new(), "x".repeat(60_000));
    let conns: Vec<_> = (0..CONNECTIONS).map(|_| server.open()).collect();
    let mut frames = Vec::new();
    (0..4).for_each(|_| client_frame(&mut frames, Opcode::Text, rest.as_bytes(), [0; 4]));
    for &conn in &conns {
        server.send(conn, "wait");
        server.pipes[&conn].borrow_mut().to_server.extend(&frames);
        server.run();
    }
    // 64 MiB, and 16 KiB more for each connection behind that; without the bound it is all that they sent.
    let spilled = server.shard.snapshot().spill_bytes;
    assert!((64 << 20..72 << 20).contains(&spilled), "{spilled} bytes of {} are kept", CONNECTIONS * 4 * rest.len());
    conns.iter().for_each(|&conn| server.shard.cx.resume(conn));
    server.run();
    assert_eq!(server.shard.snapshot().spill_bytes, 0);
    assert_eq!(server.shard.app.lines.iter().filter(|(_, line)| *line == rest).count(), 4 * CONNECTIONS);
}

#[test]
fn commands_with_tokens_are_cut_within_their_frame_and_answered_in_order() {
    const COMMANDS: usize = 150;
    let secret = "a-secret-that-is-long-enough-for-hs256";
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.token.hmac_secret_key = secret.into();
    config.client.channel_limit = COMMANDS;
    let limits = EngineConfig { time_per_connection: Duration::from_micros(3 * LOOK_US), ..EngineConfig::default() };
    let mut server = OneShard::new(Settings::new(&config, |_| false), limits);
    server.shard.set_clock(clock);
    server.send("{\"id\":1,\"connect\":{}}");
    server.run();
    server.received();
    let key = SigningKey::secret(Hash::S256, secret);
    let command = |n: usize| {
        let token = key.sign(&format!("{{\"channel\":\"c{n}\"}}"), None).expect("it signs");
        format!("{{\"id\":{n},\"subscribe\":{{\"channel\":\"c{n}\",\"token\":\"{token}\"}}}}")
    };
    let commands: Vec<_> = (2..COMMANDS + 2).map(command).collect();
    server.send(&commands.join("\n"));
    let mut received = server.received();
    let first = received.matches("\"subscribe\"").count();
    assert!((1..COMMANDS / 4).contains(&first), "{first} commands in a turn");
    server.run();
    received += &server.received();
    let at: Vec<_> = (2..COMMANDS + 2).map(|n| received.find(&format!("\"id\":{n},")).expect("a reply")).collect();
    assert!(at.is_sorted(), "the replies are in order");
    assert_eq!(received.matches("\"subscribe\"").count(), COMMANDS);
}
