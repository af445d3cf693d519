//! The setup of connections after the upgrade: what each sends first, which replies it waits for, and its answers to pings.

use crate::engine::connection::Io;
use crate::net::frame::ProtocolError;
use crate::protocols::{CONNECT_ID, Event, Messages, Protocol, json};

/// The effect of a message that is not a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// The last expected reply was received: the caller reports the connection as ready.
    pub ready: bool,
    pub pings: u64,
    /// Errors after the setup.
    pub errors: Vec<String>,
}

/// The setup of the connections of one worker.
#[derive(Debug)]
pub struct ConnectionSetup {
    /// Replies that are still expected, by connection.
    expected: Vec<u16>,
}

impl ConnectionSetup {
    pub fn new(connections: usize) -> Self {
        Self { expected: vec![0; connections] }
    }

    /// Sends the first messages of connection `id`, which has the number `number` in the run; true if no reply is expected.
    pub fn begin(&mut self, io: &mut Io, messages: &Messages, id: usize, number: usize, channels: &[&str]) -> bool {
        for message in messages.setup(number, channels) {
            io.send_frame(id, messages.opcode(), &message);
        }
        self.expect_replies(messages, id, channels.len())
    }

    /// The same if the caller sends the messages.
    pub fn expect_replies(&mut self, messages: &Messages, id: usize, channels: usize) -> bool {
        self.expected[id] = messages.replies_expected(channels) as u16;
        self.expected[id] == 0
    }

    /// Handles everything in a message that is not a delivery.
    pub fn handle(
        &mut self,
        io: &mut Io,
        messages: &Messages,
        id: usize,
        channels: &[&str],
        message: &[u8],
    ) -> Result<Handled, ProtocolError> {
        let mut handled = Handled::default();
        if messages.protocol == Protocol::Centrifuge && self.expected[id] == 0 && json::is_plain_reply(message) {
            return Ok(handled);
        }
        for event in messages.events(message)? {
            let in_setup = self.expected[id] > 0;
            match event {
                Event::Ping => {
                    handled.pings += 1;
                    io.send_frame(id, messages.opcode(), messages.pong());
                }
                Event::Error(_, text) if in_setup => return Err(ProtocolError::Response(text)),
                Event::Error(_, text) => handled.errors.push(text),
                Event::Established(socket) => {
                    for subscribe in messages.subscriptions(&socket, channels) {
                        io.send_frame(id, messages.opcode(), &subscribe);
                    }
                    io.connected(id);
                    handled.ready |= self.replied(id);
                }
                Event::Reply(CONNECT_ID) if in_setup => {
                    io.connected(id);
                    handled.ready |= self.replied(id);
                }
                Event::Reply(_) | Event::Subscribed if in_setup => {
                    handled.ready |= self.replied(id);
                    if handled.ready {
                        io.subscribed(id);
                    }
                }
                Event::Reply(_) | Event::Subscribed | Event::Other => {}
            }
        }
        Ok(handled)
    }

    /// A reply was received; true if it was the last expected one.
    fn replied(&mut self, id: usize) -> bool {
        let expected = &mut self.expected[id];
        let is_last = *expected == 1;
        *expected = expected.saturating_sub(1);
        is_last
    }
}
