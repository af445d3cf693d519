//! The forms of an attack by large replies: what is asked, by how many connections, in how many frames, and who reads.

use crate::reply_socket::{Socket, wait_for_time};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

/// Commands of one frame of 55 KB.
const COMMANDS_OF_A_FRAME: u32 = 1_100;
/// Commands in frames of their own.
const FRAMES: u32 = 1_100;
/// The pause before a connection that was closed is opened again.
const REOPEN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    History,
    Presence,
    PresenceStats,
    Recovery,
    Rpc,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Json,
    Protobuf,
}

/// How the commands of one connection are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frames {
    One,
    Many,
}

#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub form: Form,
    connections: usize,
    reads: bool,
    frames: Frames,
    encoding: Encoding,
}

/// Every form, by one connection and by many, reading and not; and the other encoding and framing of the first.
pub fn all(many: usize) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for form in [Form::History, Form::Presence, Form::PresenceStats, Form::Recovery, Form::Rpc] {
        for connections in [1, many] {
            for reads in [false, true] {
                let (frames, encoding) = (Frames::One, Encoding::Json);
                attacks.push(Attack { form, connections, reads, frames, encoding });
            }
        }
    }
    for connections in [1, many] {
        for reads in [false, true] {
            let first =
                Attack { form: Form::History, connections, reads, frames: Frames::Many, encoding: Encoding::Json };
            attacks.push(first);
            attacks.push(Attack { frames: Frames::One, encoding: Encoding::Protobuf, ..first });
        }
    }
    attacks
}

impl Attack {
    pub fn name(&self) -> String {
        let Self { form, connections, reads, frames, encoding } = self;
        let form = match form {
            Form::History => "history",
            Form::Presence => "presence",
            Form::PresenceStats => "presence_stats",
            Form::Recovery => "recovery",
            Form::Rpc => "rpc",
        };
        let reads = if *reads { "reading" } else { "not reading" };
        let frames = if *frames == Frames::One { "one frame" } else { "many frames" };
        format!("{form}, {connections} × {reads}, {frames}, {encoding:?}")
    }

    /// Starts one thread for each connection; each returns the bytes that it has read.
    pub fn start<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        at: SocketAddr,
        stop: &'scope AtomicBool,
    ) -> Vec<ScopedJoinHandle<'scope, u64>> {
        let attack = *self;
        (0..self.connections).map(|_| scope.spawn(move || attack.connection(at, stop))).collect()
    }

    /// One connection, which is opened again when the server closes it.
    fn connection(&self, at: SocketAddr, stop: &AtomicBool) -> u64 {
        let mut read = 0;
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut socket) = Socket::connect(at, self.encoding) {
                // An error is the end of the connection.
                let _ = self.ask(&mut socket);
                while !stop.load(Ordering::Relaxed) && !socket.has_ended() {
                    match self.reads {
                        true => read += socket.read_some(),
                        false => wait_for_time(REOPEN),
                    }
                }
            }
            wait_for_time(REOPEN);
        }
        read
    }

    fn ask(&self, socket: &mut Socket) -> std::io::Result<()> {
        match (self.encoding, self.frames) {
            (Encoding::Protobuf, _) => {
                let commands: Vec<u8> = (2..2 + COMMANDS_OF_A_FRAME).flat_map(history_in_protobuf).collect();
                socket.send_binary(&commands)
            }
            (Encoding::Json, Frames::One) => {
                let commands: Vec<String> = (2..2 + COMMANDS_OF_A_FRAME).map(|id| self.command(id)).collect();
                socket.send_text(&commands.join("\n"))
            }
            (Encoding::Json, Frames::Many) => (2..2 + FRAMES).try_for_each(|id| socket.send_text(&self.command(id))),
        }
    }

    fn command(&self, id: u32) -> String {
        match self.form {
            Form::History => format!(r#"{{"id":{id},"history":{{"channel":"big","limit":-1}}}}"#),
            Form::Presence => format!(r#"{{"id":{id},"presence":{{"channel":"hall"}}}}"#),
            Form::PresenceStats => format!(r#"{{"id":{id},"presence_stats":{{"channel":"hall"}}}}"#),
            Form::Rpc => format!(r#"{{"id":{id},"rpc":{{"method":"m","data":1}}}}"#),
            // A subscription can be made again after its end.
            Form::Recovery if id.is_multiple_of(2) => {
                format!(r#"{{"id":{id},"subscribe":{{"channel":"big","recover":true,"recoverable":true}}}}"#)
            }
            Form::Recovery => format!(r#"{{"id":{id},"unsubscribe":{{"channel":"big"}}}}"#),
        }
    }
}

/// `Command { id, history: HistoryRequest { channel: "big", limit: 300 } }` behind its length.
fn history_in_protobuf(id: u32) -> Vec<u8> {
    let varint = |out: &mut Vec<u8>, mut value: u32| {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    };
    // Fields 1 (channel) and 7 (limit).
    let mut request = b"\x0a\x03big\x38".to_vec();
    varint(&mut request, 300);
    // Fields 1 (id) and 10 (history).
    let mut command = vec![0x08];
    varint(&mut command, id);
    command.push(0x52);
    varint(&mut command, request.len() as u32);
    command.extend(request);
    let mut framed = Vec::new();
    varint(&mut framed, command.len() as u32);
    framed.extend(command);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_name_of_its_own_and_its_frame_fits_a_message() {
        let attacks = all(300);
        let mut names: Vec<String> = attacks.iter().map(Attack::name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), attacks.len());
        for attack in attacks {
            let bytes: usize = (2..2 + COMMANDS_OF_A_FRAME).map(|id| attack.command(id).len() + 1).sum();
            assert!(bytes <= 64 * 1024 + 16 * 1024, "{bytes} bytes: {}", attack.name());
        }
    }

    #[test]
    fn history_command_in_protobuf_has_its_lengths() {
        assert_eq!(history_in_protobuf(300), b"\x0d\x08\xac\x02\x52\x08\x0a\x03big\x38\xac\x02");
    }
}
