//! Two readers of a client's frames: Corecast's decoder, and tungstenite as a server. The fuzzer and a test of the
//! workspace (`tests/it/ws_codec_against_tungstenite.rs`) compare them.

use std::io::{self, Read, Write};

use corecast::ws::{Decoder, Event, Step, Violation};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    /// Only if compression was negotiated; text or binary.
    Compressed(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum End {
    /// The stream ended without an error.
    Open,
    Closed,
    /// The violation; for tungstenite only that it failed.
    Failed(Option<Violation>),
}

impl End {
    pub fn is_failed(self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

pub struct Decoded {
    pub seen: Vec<Seen>,
    pub end: End,
    /// Where the unfinished or failed frame begins.
    pub frame_start: usize,
}

/// Consumed bytes before a frame: few, so that frames are decoded with and without.
const SPENT_MAX: usize = 40;

/// The messages in the pieces of a stream, and how it ends. Messages have at most `bytes_max`; `deflate`: compression
/// was negotiated.
pub fn read_with_corecast<'a>(pieces: impl Iterator<Item = &'a [u8]>, bytes_max: usize, deflate: bool) -> Decoded {
    let mut decoder = Decoder::new();
    // Bytes before the next frame are sometimes kept for the decoder to overwrite.
    let (mut buffer, mut spent) = (Vec::new(), 0);
    let mut result = Decoded { seen: Vec::new(), end: End::Open, frame_start: 0 };
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode_behind(spent, &mut buffer, bytes_max, deflate) {
                Ok(Step::Partial { .. }) => break,
                Ok(Step::Frame { consumed, event }) => {
                    result.seen.extend(event.map(note));
                    if matches!(result.seen.last(), Some(Seen::Close(_))) {
                        result.end = End::Closed;
                        return result;
                    }
                    result.frame_start += consumed;
                    spent += consumed;
                    if spent > SPENT_MAX {
                        buffer.drain(..spent);
                        spent = 0;
                    }
                }
                Err(violation) => {
                    result.end = End::Failed(Some(violation));
                    return result;
                }
            }
        }
        assert!(decoder.assembly_bytes() <= 2 * bytes_max + 64, "an open message is bounded");
    }
    result
}

fn note(event: Event<'_>) -> Seen {
    match event {
        Event::Message { text, payload, .. } => message(text, payload.to_vec()),
        Event::Assembled { text, payload } => message(text, payload),
        Event::Compressed { text, payload } => Seen::Compressed(text, payload.into_owned()),
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close(close) => Seen::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
    }
}

fn message(text: bool, payload: Vec<u8>) -> Seen {
    if text { Seen::Text(String::from_utf8(payload).expect("text is UTF-8")) } else { Seen::Binary(payload) }
}

/// Bytes to read, then "would block"; written bytes are dropped.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(out) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The messages that tungstenite reads in the same bytes.
pub fn read_with_tungstenite(stream: &[u8], bytes_max: usize) -> (Vec<Seen>, End) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max))
        .read_buffer_size(4096);
    let mut socket = WebSocket::from_raw_socket(Wire(stream), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(Message::Close(None)) => Seen::Close(None),
            // How tungstenite reports a close code that it rejects.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                return (seen, End::Failed(None));
            }
            Ok(Message::Close(Some(close))) => Seen::Close(Some((close.code.into(), close.reason.as_str().to_owned()))),
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (seen, End::Open);
            }
            Err(_) => return (seen, End::Failed(None)),
        });
        if matches!(seen.last(), Some(Seen::Close(_))) {
            return (seen, End::Closed);
        }
    }
}
