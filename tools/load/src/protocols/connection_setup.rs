//! How far each connection's greeting is: what it says first, which answers it waits for, and what it says to pings.

use crate::engine::Io;
use crate::net::frame::Fault;
use crate::protocols::{CONNECT_ID, Dialect, Note, Protocol, json};

/// What a message that is no delivery led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The last answer that was due came: the connection is ready now, which is the caller's to say.
    pub ready: bool,
    pub pings: u64,
    /// Errors after the greeting.
    pub errors: Vec<String>,
}

/// The greetings of one worker's connections.
#[derive(Debug)]
pub struct Welcome {
    /// Answers that are still due, by connection.
    due: Vec<u16>,
}

impl Welcome {
    pub fn new(connections: usize) -> Self {
        Self { due: vec![0; connections] }
    }

    /// Says what connection `id`, which is `number` in the run, says first; true if nothing has to be answered.
    pub fn begin(&mut self, io: &mut Io, dialect: &Dialect, id: usize, number: usize, channels: &[&str]) -> bool {
        for message in dialect.greeting(number, channels) {
            io.send_frame(id, dialect.opcode(), &message);
        }
        self.expect(dialect, id, channels.len())
    }

    /// The same where the greeting is said by the caller.
    pub fn expect(&mut self, dialect: &Dialect, id: usize, channels: usize) -> bool {
        let due = dialect.answers_due(channels);
        self.due[id] = due as u16;
        due == 0
    }

    /// Deals with everything in a message that is no delivery.
    pub fn hear(
        &mut self,
        io: &mut Io,
        dialect: &Dialect,
        id: usize,
        channels: &[&str],
        message: &[u8],
    ) -> Result<Heard, Fault> {
        let mut heard = Heard::default();
        if dialect.protocol == Protocol::Centrifuge && self.due[id] == 0 && json::is_bare_reply(message) {
            return Ok(heard);
        }
        for note in dialect.notes(message)? {
            match note {
                Note::Ping => {
                    heard.pings += 1;
                    io.send_frame(id, dialect.opcode(), dialect.pong());
                }
                Note::Error(_, text) if self.due[id] > 0 => return Err(Fault::Answer(text)),
                Note::Error(_, text) => heard.errors.push(text),
                Note::Socket(socket) => {
                    for subscribe in dialect.subscriptions(&socket, channels) {
                        io.send_frame(id, dialect.opcode(), &subscribe);
                    }
                    io.connected(id);
                    heard.ready |= self.answered(id);
                }
                Note::Reply(CONNECT_ID) if self.due[id] > 0 => {
                    io.connected(id);
                    heard.ready |= self.answered(id);
                }
                Note::Reply(_) | Note::Subscribed if self.due[id] > 0 => {
                    heard.ready |= self.answered(id);
                    if heard.ready {
                        io.subscribed(id);
                    }
                }
                Note::Reply(_) | Note::Subscribed => {}
                Note::Other => {}
            }
        }
        Ok(heard)
    }

    /// One more answer came; true if it was the last that was due.
    fn answered(&mut self, id: usize) -> bool {
        let due = &mut self.due[id];
        let last = *due == 1;
        *due = due.saturating_sub(1);
        last
    }
}
