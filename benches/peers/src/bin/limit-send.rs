//! The least work for a fan-out: one send of the same bytes per delivery, or per socket and turn.
//!
//! A client of /pub is a publisher and sends frames of one size; every other client is a subscriber and sends nothing.
//! A publication is unmasked and put between prepared bytes once; then a loop sends it. Bytes that a socket does not
//! accept wait in a buffer per socket, in order.

use clap::{Parser, ValueEnum};
use corecast_peers::{Data, LISTENER, Place, RECEIVE_BYTES, around, header, masked_bytes, open, upgrade, wait};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{self, ErrorKind, Read, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One send per delivery
    PerDelivery,
    /// One send per socket and turn
    Coalesce,
}

/// A loop of sends: the limit that other servers are compared with
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    #[arg(long, value_enum, default_value_t = Mode::PerDelivery)]
    mode: Mode,
    /// Bytes of a published frame's payload
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Bytes of a delivered frame, header included
    #[arg(long, default_value_t = 112)]
    frame_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Upgrading,
    Subscriber,
    Publisher,
}

struct Conn {
    socket: TcpStream,
    role: Role,
    /// For a publisher: the bytes of an incomplete frame.
    rx: Vec<u8>,
    /// For a subscriber: the bytes that its socket did not accept.
    backlog: Vec<u8>,
}

struct Server {
    args: Args,
    conns: Slab<Conn>,
    subscribers: Vec<usize>,
    rx: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
    /// The frames of this turn, in a row, and the length of each.
    turn: Vec<u8>,
    frame_out: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let (mut poll, listener) = open(&args.place)?;
    let (before, after) = around(args.frame_bytes, args.size);
    let len = before.len() + args.size + after.len();
    let mut start = header(Data::Text, len);
    start.extend_from_slice(before.as_bytes());
    let mut server = Server {
        conns: Slab::new(),
        subscribers: Vec::new(),
        rx: vec![0; RECEIVE_BYTES],
        frame_out: start.len() + args.size + after.len(),
        before: start,
        after: after.into_bytes(),
        turn: Vec::new(),
        args,
    };
    let mut events = Events::with_capacity(1024);
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&listener, &poll);
                continue;
            }
            let id = event.token().0;
            if server.conns.contains(id) && server.ready(id, event.is_writable()).is_err() {
                server.conns.remove(id);
                server.subscribers.retain(|&other| other != id);
            }
        }
        server.deliver();
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.set_nodelay(true);
            let entry = self.conns.vacant_entry();
            let token = Token(entry.key());
            if poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
                entry.insert(Conn { socket, role: Role::Upgrading, rx: Vec::new(), backlog: Vec::new() });
            }
        }
    }

    /// An error means that the connection is over.
    fn ready(&mut self, id: usize, writable: bool) -> io::Result<()> {
        let conn = &mut self.conns[id];
        if writable {
            flush(conn)?;
        }
        if conn.role == Role::Upgrading {
            if let Some(path) = upgrade(&mut conn.socket, &mut self.rx)? {
                conn.role = if path.contains("pub") { Role::Publisher } else { Role::Subscriber };
                if conn.role == Role::Subscriber {
                    self.subscribers.push(id);
                }
            }
            return Ok(());
        }
        loop {
            let n = match conn.socket.read(&mut self.rx) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            if conn.role == Role::Publisher {
                conn.rx.extend_from_slice(&self.rx[..n]);
                let frame = masked_bytes(self.args.size);
                let whole = conn.rx.len() / frame * frame;
                for bytes in conn.rx[..whole].chunks_exact(frame) {
                    let (head, payload) = bytes.split_at(frame - self.args.size);
                    let key = &head[head.len() - 4..];
                    self.turn.extend_from_slice(&self.before);
                    self.turn.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, k)| byte ^ k));
                    self.turn.extend_from_slice(&self.after);
                }
                conn.rx.drain(..whole);
            }
            if n < self.rx.len() {
                return Ok(());
            }
        }
    }

    /// Sends this turn's frames: all at once per socket, or one by one.
    fn deliver(&mut self) {
        if self.turn.is_empty() {
            return;
        }
        let piece = if self.args.mode == Mode::Coalesce { self.turn.len() } else { self.frame_out };
        for bytes in self.turn.chunks_exact(piece) {
            for &id in &self.subscribers {
                send(&mut self.conns[id], bytes);
            }
        }
        self.turn.clear();
    }
}

fn send(conn: &mut Conn, bytes: &[u8]) {
    // A failed socket reports its error again when it is read.
    let done = if conn.backlog.is_empty() { conn.socket.write(bytes).unwrap_or(0) } else { 0 };
    if done < bytes.len() {
        conn.backlog.extend_from_slice(&bytes[done..]);
    }
}

fn flush(conn: &mut Conn) -> io::Result<()> {
    while !conn.backlog.is_empty() {
        match conn.socket.write(&conn.backlog) {
            Ok(n) => drop(conn.backlog.drain(..n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
