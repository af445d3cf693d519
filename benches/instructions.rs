//! Instructions per operation, counted by callgrind: the same figure on a busy machine as on an idle one.
//!
//! `cargo bench --bench instructions [-- FILTER]`. The program runs itself under `valgrind --tool=callgrind` once per
//! case, and counts only inside `measured`; without valgrind it fails with a message. Started in any other way (as by
//! `cargo test --benches`) it only runs every case once.
//!
//! If a figure is compared with another, a line below it names that one and the result: the figure of issue 1 for the
//! same case ([`issue_1`]), or another case of the same run. If a bound is exceeded, the exit code is not 0.
//!
//! A new case is one line in `CASES`, and a function that prepares its state (not counted) and returns the closure that
//! does the operations (counted). The closure runs once before counting, so that first-time work is not counted. It
//! must restore its state.

use corecast::ws::{Decoder, Event, Opcode, Step, encode, parse_header, unmask, upgrade};
use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

mod stub;

use stub::Room;

struct Case {
    name: &'static str,
    /// Operations of one run of the closure: the count is divided by this.
    operations: u64,
    prepare: fn() -> Box<dyn FnMut()>,
    against: Option<Against>,
}

/// The figure that a figure is compared with.
#[derive(Clone, Copy)]
enum Against {
    /// Instructions for the same case when it was new, and whether the difference has a bound.
    Issue1 { figure: f64, bound: bool },
    /// Another case, and whether the difference has a bound.
    Case { name: &'static str, bound: bool },
}

/// The bound: the largest allowed ratio to the other figure.
const RATIO_MAX: f64 = 1.10;

const fn case(name: &'static str, operations: u64, prepare: fn() -> Box<dyn FnMut()>) -> Case {
    Case { name, operations, prepare, against: None }
}

const fn held(name: &'static str, operations: u64, against: Against, prepare: fn() -> Box<dyn FnMut()>) -> Case {
    Case { name, operations, prepare, against: Some(against) }
}

/// Operations per run if one operation is small.
const MANY: u64 = 1000;

/// Instructions per delivery at the end of issue 1, counted by this bench for the code of that time (5db09f5).
mod issue_1 {
    pub const TO_1000: [f64; 2] = [47.4, 11.3];
    pub const TO_10_000: [f64; 2] = [39.1, 5.4];
}

const W1_1000: &str = "delivery to one of 1,000, window 1";
const W8_1000: &str = "delivery to one of 1,000, window 8";
const W1: &str = "delivery to one of 10,000, window 1";
const W8: &str = "delivery to one of 10,000, window 8";

/// The bound is for 10,000: with 1,000 subscribers and window 8, the fixed cost of a publication is most of the figure.
const fn then(figure: f64, bound: bool) -> Against {
    Against::Issue1 { figure, bound }
}

const fn relative_to(name: &'static str) -> Against {
    Against::Case { name, bound: false }
}

const fn within(name: &'static str) -> Against {
    Against::Case { name, bound: true }
}

const CASES: &[Case] = &[
    case("header of 7 bits", MANY, || header(16)),
    case("header of 16 bits", MANY, || header(1000)),
    case("unmask 16 B", MANY, || mask(16)),
    case("unmask 256 B", MANY, || mask(256)),
    case("unmask 4 KiB", MANY, || mask(4096)),
    case("decode binary of 16 B", MANY, || decode(Opcode::Binary, 16)),
    case("decode text of 16 B", MANY, || decode(Opcode::Text, 16)),
    case("decode text of 100 B", MANY, || decode(Opcode::Text, 100)),
    case("decode text of 1,000 B", MANY, || decode(Opcode::Text, 1000)),
    case("decode ping of 4 B", MANY, || decode(Opcode::Ping, 4)),
    case("encode frame of 16 B", MANY, || frame(16)),
    case("encode frame_with of 16 B", MANY, || frame_with(16)),
    case("encode frame_with of 256 B", MANY, || frame_with(256)),
    case("upgrade parsed and accepted", 10, accept),
    case("publish to 1 subscriber", 1, || publish(Room::of(1, 1))),
    held(W1_1000, 1000, then(issue_1::TO_1000[0], false), || publish(Room::of(1000, 1))),
    held(W8_1000, 8000, then(issue_1::TO_1000[1], false), || publish(Room::of(1000, 8))),
    held(W1, 10_000, then(issue_1::TO_10_000[0], true), || publish(Room::of(10_000, 1))),
    held(W8, 80_000, then(issue_1::TO_10_000[1], true), || publish(Room::of(10_000, 8))),
    held("  with history, window 1", 10_000, relative_to(W1), || {
        publish(Room { history: true, ..Room::of(10_000, 1) })
    }),
    held("  with history, window 8", 80_000, relative_to(W8), || {
        publish(Room { history: true, ..Room::of(10_000, 8) })
    }),
    held("  half of them Protobuf, window 1", 10_000, within(W1), || publish(mixed(10_000, 1))),
    held("  half of them Protobuf, window 8", 80_000, within(W8), || publish(mixed(10_000, 8))),
    held("  Protobuf and history, window 1", 10_000, relative_to(W1), || {
        publish(Room { history: true, ..mixed(10_000, 1) })
    }),
    held("  Protobuf and history, window 8", 80_000, relative_to(W8), || {
        publish(Room { history: true, ..mixed(10_000, 8) })
    }),
    case("publication to 1 JSON, 1 Protobuf", 1, || publish(mixed(2, 1))),
    case("publication to 2 JSON", 1, || publish(Room::of(2, 1))),
    case("reconnect: tokens, recovery, end", 100, reconnect),
    case("echo of 16 B, a turn for each", 1, || echo(1, 16, 1)),
    case("echo of 16 B, depth 1", 100, || echo(100, 16, 1)),
    case("echo of 16 B, depth 16", 1600, || echo(100, 16, 16)),
];

// ---- the cases

/// ASCII, so that unmasking twice gives ASCII again.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

fn client_frame(opcode: Opcode, payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode::client_frame(&mut out, opcode, &vec![b'x'; payload_bytes], MASK);
    out
}

fn header(payload_bytes: usize) -> Box<dyn FnMut()> {
    let bytes = client_frame(Opcode::Binary, payload_bytes);
    Box::new(move || {
        for _ in 0..MANY {
            let _ = black_box(parse_header(black_box(&bytes)));
        }
    })
}

fn mask(payload_bytes: usize) -> Box<dyn FnMut()> {
    let mut bytes = vec![b'x'; payload_bytes];
    Box::new(move || (0..MANY).for_each(|_| unmask(black_box(&mut bytes), black_box(MASK), 0)))
}

/// Equal frames in one buffer, read as the event loop reads them.
fn decode(opcode: Opcode, payload_bytes: usize) -> Box<dyn FnMut()> {
    let mut train = client_frame(opcode, payload_bytes).repeat(MANY as usize);
    let mut decoder = Decoder::new();
    Box::new(move || {
        let mut rest = black_box(&mut train[..]);
        while !rest.is_empty() {
            match decoder.decode(rest, 64 * 1024) {
                Ok(Step::Frame { consumed, event }) => {
                    match event {
                        Some(Event::Message { payload, .. } | Event::Ping(payload)) => drop(black_box(payload)),
                        _ => panic!("not what was sent"),
                    }
                    rest = &mut rest[consumed..];
                }
                _ => panic!("the train is valid and whole"),
            }
        }
    })
}

fn frame(payload_bytes: usize) -> Box<dyn FnMut()> {
    let payload = vec![b'x'; payload_bytes];
    let mut out = Vec::with_capacity(MANY as usize * (payload_bytes + 4));
    Box::new(move || {
        out.clear();
        (0..MANY).for_each(|_| encode::frame(black_box(&mut out), Opcode::Text, black_box(&payload)));
    })
}

fn frame_with(payload_bytes: usize) -> Box<dyn FnMut()> {
    let payload = vec![b'x'; payload_bytes];
    let mut out = Vec::with_capacity(MANY as usize * (payload_bytes + 4));
    Box::new(move || {
        out.clear();
        for _ in 0..MANY {
            encode::frame_with(black_box(&mut out), Opcode::Text, |out| out.extend_from_slice(black_box(&payload)));
        }
    })
}

fn accept() -> Box<dyn FnMut()> {
    const REQUEST: &[u8] = b"GET /connection/websocket HTTP/1.1\r\nHost: chat.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
        Accept: */*\r\nSec-WebSocket-Version: 13\r\nOrigin: https://chat.example.com\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: websocket\r\n\r\n";
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        for _ in 0..10 {
            out.clear();
            let request =
                upgrade::parse(black_box(REQUEST), &upgrade::RequestBounds::DEFAULT).expect("valid").expect("whole");
            corecast::ws::accept(&mut out, request.upgrade.expect("an upgrade").key, None, None);
        }
    })
}

/// Publications of 64 bytes, from a client's frames to the last subscriber's write. A few hundred instructions of each
/// run vary, because the hash key and the time of the first ping are random.
fn publish(room: Room) -> Box<dyn FnMut()> {
    let mut bench = room.open();
    Box::new(move || bench.turn(1))
}

/// Every second subscriber uses Protobuf: a publication has two encodings, not one for each subscriber. An encoding
/// costs hundreds of instructions, so a bound of 10 % per delivery proves this.
fn mixed(subscribers: usize, window: usize) -> Room {
    Room { mixed: true, ..Room::of(subscribers, window) }
}

/// Upgrade, connect and subscribe with tokens (HS256), recovery of one publication, presence, and close: the whole cost
/// of a reconnecting client, including HMAC.
fn reconnect() -> Box<dyn FnMut()> {
    let mut storm = stub::Storm::of(100);
    Box::new(move || storm.turn())
}

/// The messages of all clients in one turn, from read to write.
fn echo(clients: usize, payload_bytes: usize, depth: usize) -> Box<dyn FnMut()> {
    let mut bench = stub::echo(clients, payload_bytes, depth);
    Box::new(move || bench.turn(clients))
}

// ---- the counting

/// Callgrind counts only inside this function, which it finds by its name.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    run();
    black_box(());
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
        let mut run = (case.prepare)();
        run();
        measured(&mut *run);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        CASES.iter().for_each(|case| (case.prepare)()());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!(
            "instructions: valgrind is not on the PATH; install it (Debian: `apt install valgrind`) and run again"
        );
        return ExitCode::FAILURE;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    println!("{:<36} {:>14}", "operation", "instructions");
    let (mut figures, mut kept) = (HashMap::new(), true);
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        match count(case) {
            Ok(instructions) => {
                let figure = instructions as f64 / case.operations as f64;
                println!("{:<36} {figure:>14.1}", case.name);
                kept &= compare(case, figure, &figures);
                figures.insert(case.name, figure);
            }
            Err(reason) => {
                eprintln!("instructions: {}: {reason}", case.name);
                return ExitCode::FAILURE;
            }
        }
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compares a figure with its bound; false if it exceeds it.
fn compare(case: &Case, figure: f64, figures: &HashMap<&str, f64>) -> bool {
    let (what, other, bound) = match case.against {
        None => return true,
        Some(Against::Issue1 { figure: other, bound }) => (format!("issue 1's {other}"), other, bound),
        Some(Against::Case { name, bound }) => match figures.get(name) {
            Some(&other) => (format!("{name:?}"), other, bound),
            None => return true,
        },
    };
    let good = !bound || figure <= other * RATIO_MAX;
    let verdict = match (bound, good) {
        (false, _) => String::new(),
        (true, true) => format!(", at most {:+.0} %: kept", (RATIO_MAX - 1.0) * 100.0),
        (true, false) => format!(", at most {:+.0} %: NOT kept", (RATIO_MAX - 1.0) * 100.0),
    };
    println!("    against {what}: {:+.1} %{verdict}", (figure / other - 1.0) * 100.0);
    good
}

/// Runs this program on one case under callgrind; the instructions inside `measured`.
fn count(case: &Case) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{}", case.name.replace([' ', ','], "_")));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=instructions::measured*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["--case", case.name])
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let profile = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = profile.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    match total.and_then(|total| total.trim().parse().ok()) {
        Some(0) | None => Err("callgrind counted nothing: is the symbol `instructions::measured` stripped?".into()),
        Some(instructions) => Ok(instructions),
    }
}
