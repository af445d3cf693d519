//! Instructions per operation, counted by callgrind: the same figure on a busy machine as on an idle one.
//!
//! `cargo bench --bench instructions [-- FILTER]`. The program runs itself under `valgrind --tool=callgrind` once per
//! case, with counting switched on only inside `measured`; without valgrind it says so and fails. Started in any other
//! way (as `cargo test --benches` does) it only runs every case once.
//!
//! A new case is one line in `CASES`, and a function that prepares whatever is needed (not counted) and returns the
//! closure that does the operations (counted). The closure is run once before, so that first-time work is not counted.
//! It must leave its state as it found it.

use corecast::ws::{Decoder, Event, Opcode, Step, encode, parse_header, unmask, upgrade};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

mod stub;

struct Case {
    name: &'static str,
    /// Operations done by one run of the closure: what the count is divided by.
    operations: u64,
    prepare: fn() -> Box<dyn FnMut()>,
}

/// Operations per run where one is small.
const MANY: u64 = 1000;

const CASES: &[Case] = &[
    Case { name: "header of 7 bits", operations: MANY, prepare: || header(16) },
    Case { name: "header of 16 bits", operations: MANY, prepare: || header(1000) },
    Case { name: "unmask 16 B", operations: MANY, prepare: || mask(16) },
    Case { name: "unmask 256 B", operations: MANY, prepare: || mask(256) },
    Case { name: "unmask 4 KiB", operations: MANY, prepare: || mask(4096) },
    Case { name: "decode binary of 16 B", operations: MANY, prepare: || decode(Opcode::Binary, 16) },
    Case { name: "decode text of 16 B", operations: MANY, prepare: || decode(Opcode::Text, 16) },
    Case { name: "decode text of 100 B", operations: MANY, prepare: || decode(Opcode::Text, 100) },
    Case { name: "decode text of 1,000 B", operations: MANY, prepare: || decode(Opcode::Text, 1000) },
    Case { name: "decode ping of 4 B", operations: MANY, prepare: || decode(Opcode::Ping, 4) },
    Case { name: "encode frame of 16 B", operations: MANY, prepare: || frame(16) },
    Case { name: "encode frame_with of 16 B", operations: MANY, prepare: || frame_with(16) },
    Case { name: "encode frame_with of 256 B", operations: MANY, prepare: || frame_with(256) },
    Case { name: "upgrade parsed and accepted", operations: 10, prepare: accept },
    Case { name: "publish to 1 subscriber", operations: 1, prepare: || publish(1, 1) },
    Case { name: "delivery to one of 1,000, window 1", operations: 1000, prepare: || publish(1000, 1) },
    Case { name: "delivery to one of 1,000, window 8", operations: 8000, prepare: || publish(1000, 8) },
    Case { name: "echo of 16 B, a turn for each", operations: 1, prepare: || echo(1, 16, 1) },
    Case { name: "echo of 16 B, depth 1", operations: 100, prepare: || echo(100, 16, 1) },
    Case { name: "echo of 16 B, depth 16", operations: 1600, prepare: || echo(100, 16, 16) },
];

// ---- the cases

/// ASCII, so that text stays ASCII when it is unmasked twice.
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

/// A train of equal frames, read as the event loop reads it.
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
            let request = upgrade::parse(black_box(REQUEST)).expect("valid").expect("whole");
            corecast::ws::accept(&mut out, request.upgrade.expect("an upgrade").key, None);
        }
    })
}

/// Publications of 64 bytes, from a client's frames to the last subscriber's write. A few hundred instructions
/// of each run are chance: the hash key and the first ping's place are drawn.
fn publish(subscribers: usize, window: usize) -> Box<dyn FnMut()> {
    let mut bench = stub::hub(subscribers, window);
    Box::new(move || bench.turn(1))
}

/// All clients' messages in one turn, from read to write.
fn echo(clients: usize, payload_bytes: usize, depth: usize) -> Box<dyn FnMut()> {
    let mut bench = stub::echo(clients, payload_bytes, depth);
    Box::new(move || bench.turn(clients))
}

// ---- the counting

/// Callgrind counts inside this function and nowhere else; it finds it by its name.
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
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        match count(case) {
            Ok(instructions) => {
                println!("{:<36} {:>14.1}", case.name, instructions as f64 / case.operations as f64);
            }
            Err(reason) => {
                eprintln!("instructions: {}: {reason}", case.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
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
