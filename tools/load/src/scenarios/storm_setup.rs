//! The connection before a storm: it reads the position of each channel and publishes what the clients then miss.
//!
//! One command is in flight at a time. Nothing here is measured.

use crate::engine::Scenario;
use crate::engine::connection::Io;
use crate::net::Target;
use crate::net::frame::{self, ProtocolError};
use crate::protocols::{self, CONNECT_ID, Messages, Position, json};
use serde_json::{Value, json};

pub struct StormSetup {
    target: Target,
    messages: Messages,
    /// The number of the user.
    user: usize,
    channels: Vec<String>,
    missed: usize,
    data: String,
    /// The positions of the channels, once their publications are sent or being sent.
    pub positions: Vec<(String, Position)>,
    /// Publications to the last of these channels.
    published: usize,
    id: u64,
}

impl StormSetup {
    /// Connects as user number `user` and publishes `missed` publications with `data` to each channel.
    pub fn new(
        (target, messages): (Target, Messages),
        user: usize,
        channels: Vec<String>,
        missed: usize,
        data: String,
    ) -> Self {
        Self {
            target,
            messages,
            user,
            channels,
            missed,
            data,
            positions: Vec::new(),
            published: missed,
            id: CONNECT_ID,
        }
    }

    /// Sends the next command; all are done: the connection is ready.
    fn proceed(&mut self, io: &mut Io, id: usize) {
        self.id += 1;
        let command = if self.published < self.missed {
            self.published += 1;
            let channel = &self.channels[self.positions.len() - 1];
            json!({ "id": self.id, "publish": { "channel": channel, "data": self.data } }).to_string()
        } else if let Some(channel) = self.channels.get(self.positions.len()) {
            json::subscribe(&self.messages, self.user, self.id, channel, None)
        } else {
            return io.ready(id);
        };
        io.send_frame(id, frame::TEXT, command.as_bytes());
    }

    fn reply(&mut self, io: &mut Io, id: usize, line: &[u8]) -> Result<(), ProtocolError> {
        let reply = if line == b"{}" { Value::Null } else { protocols::reply(line)? };
        if reply["id"] != self.id {
            return Ok(());
        }
        if !reply["error"].is_null() {
            return Err(ProtocolError::Response(reply["error"].to_string()));
        }
        let result = &reply["subscribe"];
        if result.is_object() {
            let channel = self.channels[self.positions.len()].clone();
            if result["positioned"] != true {
                return Err(ProtocolError::Response(format!(
                    "{channel} has no positions: its namespace needs history and allow_recovery"
                )));
            }
            let epoch = result["epoch"].as_str().unwrap_or_default().to_string();
            self.positions.push((channel, Position { epoch, offset: result["offset"].as_u64().unwrap_or(0) }));
            self.published = 0;
        }
        self.proceed(io, id);
        Ok(())
    }
}

impl Scenario for StormSetup {
    const LATE_CLOCK: bool = false;

    fn target(&self, _: usize) -> (&Target, usize) {
        (&self.target, self.user)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        io.send_frame(id, frame::TEXT, json::setup(&self.messages, self.user, []).as_bytes());
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        io.messages(id, bytes, |io, message| protocols::lines(message).try_for_each(|line| self.reply(io, id, line)))
    }
}
