//! A process that is stopped for seconds (a debugger, a frozen machine, a cgroup) finds every deadline passed when it
//! continues. A client that has answered in the meantime stays connected, even if the server has not read its answer
//! yet; others are closed as usual.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::common::{Raw, Server, TEXT, frame, until};
use rustix::process::Signal;

/// More connections than the kernel reports in one turn.
const CLIENTS: usize = 1_900;
const ANSWERING: usize = 1_300;
const SILENT: usize = 10;
const INTERVAL: Duration = Duration::from_secs(6);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Peer {
    raw: Raw,
    received: Vec<u8>,
    /// The number of answered pings.
    answered: usize,
}

impl Peer {
    fn connect(server: &Server) -> Self {
        let mut raw = Raw::open(server, "/connection/websocket");
        raw.send(&frame(TEXT, b"{\"id\":1,\"connect\":{}}"));
        assert!(raw.frame().payload.starts_with(b"{\"id\":1,\"connect\":"));
        raw.0.set_nonblocking(true).expect("a socket");
        Self { raw, received: Vec::new(), answered: 0 }
    }

    /// Reads the available bytes.
    fn read_available(&mut self) {
        let mut bytes = [0; 256];
        loop {
            match self.raw.0.read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => self.received.extend(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn pings(&self) -> usize {
        self.received.windows(4).filter(|bytes| *bytes == [0x81, 2, b'{', b'}']).count()
    }

    fn answer(&mut self) {
        while self.answered < self.pings() {
            self.raw.send(&frame(TEXT, b"{}"));
            self.answered += 1;
        }
    }

    /// A close frame with the code of a missing pong.
    fn is_closed_without_pong(&self) -> bool {
        self.received.windows(2).any(|bytes| bytes == 3012u16.to_be_bytes())
    }
}

/// Stopped for longer than a pong may take, so that every awaited pong is late.
fn wait_while_stopped() {
    let began = Instant::now();
    while began.elapsed() < TIMEOUT + Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn clients_that_answered_while_the_server_was_stopped_stay_connected() {
    let text = |span: Duration| format!("{}s", span.as_secs());
    let (interval, timeout) = (text(INTERVAL), text(TIMEOUT));
    let command = crate::common::command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    let server = Server::spawn(command, &[("client.ping_interval", &interval), ("client.pong_timeout", &timeout)]);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| Peer::connect(&server)).collect();
    // The first ping comes in the second half of the interval: no other pong is late when these clients have answered.
    until(
        || "too few pings arrived".into(),
        || {
            peers.iter_mut().for_each(Peer::read_available);
            (peers.iter().filter(|peer| peer.pings() > 0).count() >= ANSWERING).then_some(())
        },
    );
    server.signal(Signal::STOP);
    let (silent, rest): (Vec<Peer>, Vec<Peer>) = {
        let mut asked = 0;
        peers.into_iter().partition(|peer| {
            asked += usize::from(peer.pings() > 0);
            peer.pings() > 0 && asked <= SILENT
        })
    };
    let (mut silent, mut rest) = (silent, rest);
    assert_eq!(silent.len(), SILENT);
    rest.iter_mut().for_each(Peer::answer);
    wait_while_stopped();
    server.signal(Signal::CONT);
    until(
        || "a silent client is not closed".into(),
        || {
            silent.iter_mut().for_each(Peer::read_available);
            rest.iter_mut().for_each(|peer| {
                peer.read_available();
                peer.answer();
            });
            (silent.iter().all(Peer::is_closed_without_pong) && rest.iter().all(|peer| peer.pings() > 0)).then_some(())
        },
    );
    assert_eq!(rest.iter().filter(|peer| peer.is_closed_without_pong()).count(), 0, "these clients had answered");
    assert_eq!(server.metric("corecast_connections", ""), (CLIENTS - SILENT) as u64);
}
