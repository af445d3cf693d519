//! RFC 6455 and 7692: the request head, extensions, frames whole and split, and against another reader of them.

use std::io::{self, Read, Write};

use corecast::ws::deflate::{Broken, Deflater, Inflater};
use corecast::ws::extension::{Allowed, agree};
use corecast::ws::{Decoder, Event, Step, Violation, parse_request};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const MESSAGE_BYTES_MAX: usize = 4096;

/// A verdict on a part is the verdict on the whole; what is taken stays within the bytes.
pub fn upgrade(data: &[u8]) {
    let whole = parse_request(data);
    if let Ok(Some(request)) = &whole {
        assert!(request.head_bytes <= data.len() && request.path.starts_with('/'));
        let _ = request.upgrade.as_ref().map(|upgrade| upgrade.protocols().count());
        assert!(request.values("host").count() <= 1);
    }
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        match parse_request(&data[..cut]) {
            Ok(None) => {}
            Ok(Some(part)) => {
                assert_eq!(Ok(part.head_bytes), whole.as_ref().map(|w| w.as_ref().expect("whole").head_bytes))
            }
            // For the same reason or another that more bytes show first.
            Err(_) => assert!(whole.is_err()),
        }
    }
}

pub fn extension(data: &[u8]) {
    let Some((first, offers)) = data.split_first() else { return };
    let allowed =
        Allowed { server_takeover: first & 1 != 0, client_takeover: first & 2 != 0, window_bits: 9 + (first >> 2) % 7 };
    if let Some(agreed) = agree(offers.split(|byte| *byte == b'\n'), &allowed) {
        let mut answer = Vec::new();
        agreed.write(&mut answer);
        // An answer is an offer that asks for just that.
        let again = agree([&answer[..]].into_iter(), &allowed).expect("what we say we understand");
        assert_eq!((again.window, again.server_takeover), (agreed.window, agreed.server_takeover));
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Compressed(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// What the pieces of a stream bring, and how it ends.
fn ours<'a>(pieces: impl Iterator<Item = &'a [u8]>, deflate: bool) -> (Vec<Seen>, Option<Violation>) {
    let (mut decoder, mut buffer, mut seen) = (Decoder::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode_extended(&mut buffer, MESSAGE_BYTES_MAX, deflate) {
                Ok(Step::Partial { .. }) => break,
                Ok(Step::Frame { consumed, event }) => {
                    seen.extend(event.map(note));
                    if matches!(seen.last(), Some(Seen::Close(_))) {
                        return (seen, None);
                    }
                    buffer.drain(..consumed);
                }
                Err(violation) => return (seen, Some(violation)),
            }
        }
        assert!(decoder.assembly_bytes() <= 2 * MESSAGE_BYTES_MAX + 64);
    }
    (seen, None)
}

fn note(event: Event<'_>) -> Seen {
    let data = |text, payload| if text { Seen::Text(payload) } else { Seen::Binary(payload) };
    match event {
        Event::Message { text, payload, .. } => data(text, payload.to_vec()),
        Event::Assembled { text, payload } => data(text, payload),
        Event::Compressed { text, payload } => Seen::Compressed(text, payload.into_owned()),
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close(close) => Seen::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
    }
}

/// Whole, in two pieces and byte by byte a stream means the same.
pub fn frames(data: &[u8]) {
    let [flags, cut, stream @ ..] = data else { return };
    let deflate = flags & 1 != 0;
    let cut = usize::from(*cut) * stream.len() / 255;
    let whole = ours([stream].into_iter(), deflate);
    // A fault may have more than one name, by how much of it is seen.
    for (seen, violation) in
        [ours([&stream[..cut], &stream[cut..]].into_iter(), deflate), ours(stream.chunks(1), deflate)]
    {
        assert_eq!((seen, violation.is_some()), (whole.0.clone(), whole.1.is_some()));
    }
    for seen in &whole.0 {
        if let Seen::Text(text) = seen {
            assert!(std::str::from_utf8(text).is_ok());
        }
    }
}

/// Bytes to read, then nothing for now; what is written is dropped.
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

/// What tungstenite reads in the same bytes, and whether it failed.
fn theirs(stream: &[u8]) -> (Vec<Seen>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(4096);
    let mut socket = WebSocket::from_raw_socket(Wire(stream), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(Message::Close(None)) => Seen::Close(None),
            // How it reports a close code that it refuses.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => return (seen, true),
            Ok(Message::Close(Some(close))) => Seen::Close(Some((close.code.into(), close.reason.as_str().to_owned()))),
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return (seen, false),
            Err(_) => return (seen, true),
        });
        if matches!(seen.last(), Some(Seen::Close(_))) {
            return (seen, false);
        }
    }
}

/// The same messages as tungstenite, where that is not known to be more lenient or later.
pub fn differential(stream: &[u8]) {
    let (seen, violation) = ours([stream].into_iter(), false);
    let (other, failed) = theirs(stream);
    // Registered since, and refused there.
    if seen.iter().any(|seen| matches!(seen, Seen::Close(Some((1014, _))))) {
        return assert_eq!(seen[..seen.len() - 1], other[..]);
    }
    match violation {
        // It reads lengths that are not in their shortest form, and sees faults inside a frame at its end.
        Some(_) => assert!(other.starts_with(&seen), "{seen:?} {violation:?} {other:?}"),
        None => assert!(seen == other && !failed, "{seen:?} {other:?} {failed}"),
    }
}

/// Bounded whatever comes, and the same again for what we compress ourselves.
pub fn inflate(data: &[u8]) {
    let [flags, bound, message @ ..] = data else { return };
    let (bits, bytes_max) = (9 + flags % 7, 16 * usize::from(*bound));
    let (mut inflater, mut out) = (Inflater::new(bits), Vec::new());
    for fresh in [true, flags & 0x80 != 0] {
        match inflater.inflate(message, fresh, bytes_max, &mut out) {
            Ok(()) => assert!(out.len() <= bytes_max),
            Err(Broken::TooBig) => assert!(out.len() == bytes_max + 1),
            Err(Broken::Invalid) => break,
        }
        assert!(out.capacity() <= bytes_max.max(1024) + 1);
    }
    let (mut deflater, mut inflater, mut packed) =
        (Deflater::new(u32::from(1 + flags % 9), bits), Inflater::new(bits), Vec::new());
    for fresh in [true, false] {
        packed.clear();
        deflater.compress(message, fresh, &mut packed);
        assert_eq!(inflater.inflate(&packed, fresh, message.len(), &mut out), Ok(()));
        assert_eq!(out, message);
    }
}
