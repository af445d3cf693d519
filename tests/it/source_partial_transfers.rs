//! The same conversation over a source that transfers everything at once, and over one that reads one byte and writes
//! seven bytes per call: the client gets the same bytes, and the server keeps nothing afterwards.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

use crate::fuzz::session::socket::{Pipe, Socket};
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::net::source::Source;
use corecast::engine::{App, Context, Flow, Message, Readiness, Shard, Wait};
use corecast::ids::ConnId;
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;
use rustix::io::Errno;

/// Echoes every message unchanged.
struct Echo;

impl App for Echo {
    type Mail = Infallible;
    type Request = Infallible;

    fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, _: Message<'_>) -> Flow {
        Flow::Reflect
    }
}

/// Limits the bytes of one call.
struct Narrow {
    link: Socket,
    read_max: usize,
    write_max: usize,
}

impl Source for Narrow {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let n = into.len().min(self.read_max);
        self.link.read(&mut into[..n])
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        let mut some = vec![0; (into.capacity() - into.len()).min(self.read_max)];
        let n = self.link.read(&mut some)?;
        into.extend_from_slice(&some[..n]);
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        if self.link.0.borrow().buffers {
            self.link.0.borrow_mut().room = self.write_max;
            return self.link.write(bytes);
        }
        let n = bytes.len().min(self.write_max);
        self.link.0.borrow_mut().blocked |= n < bytes.len();
        self.link.write(&bytes[..n])
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        if self.link.0.borrow().buffers {
            return self.write(&slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>());
        }
        let all = slices.iter().flat_map(|slice| slice.iter().copied());
        // One byte more than is accepted, so that the write is partial.
        self.write(&all.take(self.write_max.saturating_add(1)).collect::<Vec<_>>())
    }

    fn shutdown_write(&mut self) {
        self.link.shutdown_write();
    }

    fn wants_write(&self) -> bool {
        self.link.wants_write()
    }

    fn push(&mut self) -> Result<(), Errno> {
        self.link.0.borrow_mut().room = self.write_max;
        self.link.push()
    }

    /// A short read of this source does not mean that it is drained.
    fn more_inside(&self) -> bool {
        !self.link.0.borrow().to_server.is_empty()
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// Every kind of frame, with sizes at the limits of each length form.
fn conversation() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    for length in [0usize, 1, 2, 125, 126, 127, 1_000, 4_095, 4_096, 4_097, 20_000, 65_535, 65_536] {
        let payload: Vec<u8> = (0..length).map(|_| random.alphanumeric() as u8).collect();
        let mask = random.u32(..).to_be_bytes();
        client_frame(&mut bytes, Opcode::Text, &payload, mask);
        client_frame(&mut bytes, Opcode::Ping, &payload[..length.min(125)], [0; 4]);
        let (first, rest) = payload.split_at(length / 3);
        let begun = bytes.len();
        client_frame(&mut bytes, Opcode::Binary, first, mask);
        bytes[begun] &= 0x7f; // not the last fragment
        client_frame(&mut bytes, Opcode::Ping, b"between", mask);
        client_frame(&mut bytes, Opcode::Continuation, rest, mask);
    }
    client_frame(&mut bytes, Opcode::Close, &1000u16.to_be_bytes(), [9; 4]);
    bytes
}

const UPGRADE: &[u8] = b"GET /echo HTTP/1.1\r\nHost: link\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn turns(shard: &mut Shard<Echo, Narrow>, conn: ConnId, readiness: Readiness) {
    let mut readiness = Some(readiness);
    for _ in 0..2_000_000 {
        shard.begin(1);
        if let Some(readiness) = readiness.take() {
            shard.event(conn, readiness);
        }
        if shard.end() != Wait::No {
            return;
        }
    }
    panic!("the shard does not become idle");
}

/// The bytes that the client got, and whether the server freed everything.
fn run_conversation(read_max: usize, write_max: usize, buffers: bool) -> Vec<u8> {
    let mail = mailbox::mesh::<Infallible, _>(
        vec![Box::new(Silent) as Box<dyn Wake>],
        mailbox::Bounds { mailbox_batches_max: 4 },
    );
    let limits = EngineConfig {
        connections_max: 4,
        message_bytes_max: 70_000,
        outbound_bytes_max: 1 << 20,
        ..EngineConfig::default()
    };
    let (log_ring, _) = LogRing::new(mail[0].me());
    let mail = mail.into_iter().next().expect("one endpoint");
    let mut shard = Shard::new(Echo, mail, Arc::new(limits), log_ring, 0);
    let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, buffers, ..Pipe::default() }));
    let whole = Narrow { link: Socket(Rc::clone(&pipe)), read_max, write_max: usize::MAX };
    let Ok(conn) = shard.adopt(whole) else { panic!("there is room") };
    pipe.borrow_mut().to_server.extend(UPGRADE);
    turns(&mut shard, conn, Readiness { readable: true, ..Readiness::default() });
    shard.source(conn).expect("open").write_max = write_max;
    pipe.borrow_mut().to_server.extend(conversation());
    turns(&mut shard, conn, Readiness { readable: true, ..Readiness::default() });
    while std::mem::take(&mut pipe.borrow_mut().blocked) {
        turns(&mut shard, conn, Readiness { writable: true, ..Readiness::default() });
    }
    assert!(pipe.borrow().server_ended, "the closing handshake is over");
    pipe.borrow_mut().client_ended = true;
    turns(&mut shard, conn, Readiness { readable: true, read_closed: true, ..Readiness::default() });
    assert_eq!(shard.occupied(), 0);
    let snapshot = shard.snapshot();
    assert_eq!((snapshot.backlog_bytes, snapshot.spill_bytes), (0, 0));
    pipe.take().to_client
}

#[test]
fn source_that_transfers_single_bytes_carries_the_same_session() {
    let whole = run_conversation(usize::MAX, usize::MAX, false);
    assert!(whole.ends_with(&[0x88, 2, 0x03, 0xe8]), "it ends with the echo of the close");
    for (read_max, write_max) in [(1, usize::MAX), (usize::MAX, 7), (1, 7), (13, 1_000)] {
        for buffers in [false, true] {
            let narrow = run_conversation(read_max, write_max, buffers);
            let (got, wanted) = (narrow.len(), whole.len());
            assert!(
                narrow == whole,
                "read {read_max}, write {write_max}, buffers {buffers}: {got} bytes, not {wanted}"
            );
        }
    }
}
