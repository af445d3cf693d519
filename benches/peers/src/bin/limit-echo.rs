//! The least work for an echo: one read and one write per readiness, no parsing, no unmasking.
//!
//! It knows the size of every message: the received bytes divided by the size of a masked frame are the number of
//! frames, and it sends as many prepared frames. A partial write is remembered as a number of bytes, since all bytes
//! are known.

use clap::Parser;
use corecast_peers::{Data, LISTENER, Place, RECEIVE_BYTES, header, masked_bytes, open, upgrade, wait};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{self, ErrorKind, Read, Write};

/// An echo server without a protocol: the limit that other servers are compared with
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Bytes of every message
    #[arg(long, default_value_t = 16)]
    size: usize,
    /// Text frames instead of binary ones
    #[arg(long)]
    text: bool,
}

struct Conn {
    socket: TcpStream,
    open: bool,
    /// Received bytes of an incomplete frame.
    partial: usize,
    /// Bytes of prepared frames that are still to be written.
    owed: usize,
}

struct Server {
    conns: Slab<Conn>,
    rx: Vec<u8>,
    /// Prepared frames in a row: as many as one read can contain, and one more.
    tx: Vec<u8>,
    frame_in: usize,
    frame_out: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let (mut poll, listener) = open(&args.place)?;
    let mut one = header(if args.text { Data::Text } else { Data::Binary }, args.size);
    one.resize(one.len() + args.size, b'e');
    let frame_in = masked_bytes(args.size);
    let mut server = Server {
        conns: Slab::new(),
        rx: vec![0; RECEIVE_BYTES],
        tx: one.repeat(RECEIVE_BYTES / frame_in + 2),
        frame_in,
        frame_out: one.len(),
    };
    let mut events = Events::with_capacity(1024);
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&mut server.conns, &listener, &poll);
                continue;
            }
            let id = event.token().0;
            if server.conns.contains(id) && server.ready(id, event.is_writable()).is_err() {
                server.conns.remove(id);
            }
        }
    }
}

fn accept(conns: &mut Slab<Conn>, listener: &TcpListener, poll: &Poll) {
    while let Ok((mut socket, _)) = listener.accept() {
        let _ = socket.set_nodelay(true);
        let entry = conns.vacant_entry();
        let token = Token(entry.key());
        if poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
            entry.insert(Conn { socket, open: false, partial: 0, owed: 0 });
        }
    }
}

impl Server {
    /// An error means that the connection is over.
    fn ready(&mut self, id: usize, writable: bool) -> io::Result<()> {
        let conn = &mut self.conns[id];
        if !conn.open {
            conn.open = upgrade(&mut conn.socket, &mut self.rx)?.is_some();
            return Ok(());
        }
        if conn.owed > 0 && writable {
            write(conn, &self.tx, self.frame_out)?;
        }
        loop {
            let n = match conn.socket.read(&mut self.rx) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            let frames = (conn.partial + n) / self.frame_in;
            conn.partial = (conn.partial + n) % self.frame_in;
            if frames > 0 {
                let waiting = conn.owed > 0;
                conn.owed += frames * self.frame_out;
                if !waiting {
                    write(conn, &self.tx, self.frame_out)?;
                }
            }
            if n < self.rx.len() {
                return Ok(());
            }
        }
    }
}

/// Writes the pending bytes, beginning in the middle of a frame if the last write ended there.
fn write(conn: &mut Conn, tx: &[u8], frame: usize) -> io::Result<()> {
    while conn.owed > 0 {
        let start = (frame - conn.owed % frame) % frame;
        let end = (start + conn.owed).min(tx.len());
        match conn.socket.write(&tx[start..end]) {
            Ok(n) => conn.owed -= n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
