//! The least a server can do for short connections: accept, read once, write a prepared answer, wait for the end, close.
//!
//! The answer to the first request is computed and sent to all, so it fits a generator that uses one key for every request.
//! Nothing is parsed and nothing is kept of a connection but its socket; the client closes it, as with the other servers.

use clap::Parser;
use corecast_peers::{LISTENER, Place, RECEIVE_BYTES, answer, open, wait};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{self, ErrorKind, Read, Write};

/// A server that answers upgrades without reading them: the limit that others are measured against.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
}

struct Server {
    conns: Slab<TcpStream>,
    rx: Vec<u8>,
    /// Empty until the first request has come.
    prepared: Vec<u8>,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let (mut poll, listener) = open(&args.place)?;
    let mut server = Server { conns: Slab::new(), rx: vec![0; RECEIVE_BYTES], prepared: Vec::new() };
    let mut events = Events::with_capacity(1024);
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&listener, &poll);
                continue;
            }
            let id = event.token().0;
            // Who has left has nothing more to say: no read is needed to learn it.
            let left = event.is_read_closed() || event.is_error();
            if server.conns.contains(id) && (left || server.ready(id).is_err()) {
                // Closing takes it out of the poll.
                server.conns.remove(id);
            }
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
        while let Ok((mut socket, _)) = listener.accept() {
            let entry = self.conns.vacant_entry();
            if poll.registry().register(&mut socket, Token(entry.key()), Interest::READABLE).is_ok() {
                entry.insert(socket);
            }
        }
    }

    /// Answers whatever has come; an error means that the connection is over.
    fn ready(&mut self, id: usize) -> io::Result<()> {
        let socket = &mut self.conns[id];
        let n = match socket.read(&mut self.rx) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        if self.prepared.is_empty() {
            self.prepared = answer(&self.rx[..n]).ok_or(ErrorKind::InvalidData)?.1.into_bytes();
        }
        socket.write_all(&self.prepared)
    }
}
