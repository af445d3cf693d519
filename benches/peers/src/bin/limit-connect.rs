//! The least work for short connections: accept, read once, write a prepared response, wait for the end, close.
//!
//! The response to the first request is computed and sent to all, so the load generator must use one key for every
//! request. The server parses nothing and keeps only the socket of a connection; the client closes it, as with the
//! other servers.

use clap::Parser;
use corecast_peers::{LISTENER, Place, RECEIVE_BYTES, answer, open, wait};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{self, ErrorKind, Read, Write};

/// A server that answers upgrades without reading them: the limit that other servers are compared with
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
}

struct Server {
    conns: Slab<TcpStream>,
    rx: Vec<u8>,
    /// Empty until the first request has arrived.
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
            // The client has closed: no read is needed.
            let left = event.is_read_closed() || event.is_error();
            if server.conns.contains(id) && (left || server.ready(id).is_err()) {
                // Closing removes it from the poll.
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

    /// Answers a received request; an error means that the connection is over.
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
