//! permessage-deflate from the client side (RFC 7692).
//!
//! A connection asks for contexts that start anew with each message, or for contexts that go on; the server must accept
//! compression. The deliveries of one publication are the same bytes for every subscriber, so a worker inflates a frame once and
//! recognizes it by comparison (`KnownFrames`): every delivery is checked, at the price of a comparison.

use crate::net::frame::ProtocolError;
use crate::scenarios::payload::BYTES_MIN;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The limit on one inflated message.
const INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The step by which an output buffer grows.
const GROW_BYTES: usize = 16 * 1024;
/// The end of a message that is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Known frames: more than a window has in flight.
const KNOWN_MAX: usize = 64;
/// Shorter messages are not compressed.
const COMPRESS_BYTES_MIN: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Deflate {
    #[default]
    Off,
    /// Contexts start anew with each message, in both directions; this tool does not compress what it sends.
    Fresh,
    /// Contexts go on as far as the server permits; this tool compresses what it sends.
    Takeover,
}

impl Deflate {
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// The header line of the upgrade request.
    pub fn offer(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Fresh => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
            }
            Self::Takeover => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        }
    }

    /// Whether a message of that many bytes is sent compressed.
    pub fn compresses(self, bytes: usize) -> bool {
        self == Self::Takeover && bytes >= COMPRESS_BYTES_MIN
    }
}

/// Inflates the messages of one connection, or of many connections whose contexts start anew.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    out: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(false), out: Vec::new() }
    }
}

impl Inflater {
    /// The payload of one message; `fresh` drops the context.
    pub fn message(&mut self, body: &[u8], fresh: bool) -> Result<Vec<u8>, ProtocolError> {
        if fresh {
            self.stream.reset(false);
        }
        self.out.clear();
        self.feed(body)?;
        self.feed(&TAIL)?;
        Ok(self.out.clone())
    }

    fn feed(&mut self, mut input: &[u8]) -> Result<(), ProtocolError> {
        loop {
            self.out.reserve(GROW_BYTES);
            let before = (self.stream.total_in(), self.out.len());
            let status = self.stream.decompress_vec(input, &mut self.out, FlushDecompress::Sync);
            let failed = !matches!(status, Ok(Status::Ok | Status::BufError));
            input = &input[(self.stream.total_in() - before.0) as usize..];
            if input.is_empty() && self.out.len() < self.out.capacity() && !failed {
                return Ok(());
            }
            let stuck = (self.stream.total_in(), self.out.len()) == before;
            if failed || stuck || self.out.len() > INFLATED_BYTES_MAX {
                return Err(ProtocolError::Inflate);
            }
        }
    }
}

/// Compresses one message, which is not empty, without a context.
pub fn compress(message: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::fast(), false);
    let mut out = Vec::with_capacity(message.len() / 2 + GROW_BYTES);
    loop {
        let taken = stream.total_in() as usize;
        let status = stream.compress_vec(&message[taken..], &mut out, FlushCompress::Sync);
        debug_assert!(status.is_ok(), "compression fails only if the stream is misused");
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(GROW_BYTES);
    }
    debug_assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

/// Frames that were inflated recently, and the stamp of the one publication in each.
#[derive(Debug, Default)]
pub struct KnownFrames {
    frames: Vec<(Vec<u8>, [u8; BYTES_MIN])>,
    /// The index of the last match, and the index that is replaced next.
    last: usize,
    next: usize,
}

impl KnownFrames {
    /// The stamp in `frame`, if exactly these bytes are known. The search begins behind the last match, the likeliest place.
    pub fn find(&mut self, frame: &[u8]) -> Option<[u8; BYTES_MIN]> {
        let len = self.frames.len();
        let index = (1..=len).map(|i| (self.last + i) % len).find(|&index| self.frames[index].0 == frame)?;
        self.last = index;
        Some(self.frames[index].1)
    }

    pub fn insert(&mut self, frame: &[u8], stamp: [u8; BYTES_MIN]) {
        let entry = (frame.to_vec(), stamp);
        if self.frames.len() < KNOWN_MAX {
            self.frames.push(entry);
        } else {
            self.frames[self.next] = entry;
        }
        self.last = self.next;
        self.next = (self.next + 1) % KNOWN_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deflated_messages_of_all_sizes_are_inflated() {
        let mut inflater = Inflater::default();
        let mut rng = fastrand::Rng::with_seed(4);
        for len in [1, 31, 1000, 16 * 1024, 16 * 1024 - 1, 300_000] {
            let same = vec![b'x'; len];
            let random: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            for message in [same, random] {
                let packed = compress(&message);
                assert_eq!(inflater.message(&packed, true).unwrap(), message, "{len}");
                assert_eq!(inflater.message(&packed, false).unwrap(), message, "{len}");
            }
        }
        assert_eq!(inflater.message(&[0xff; 20], true), Err(ProtocolError::Inflate));
    }

    #[test]
    fn known_frames_are_found_until_newer_ones_replace_them() {
        let mut known = KnownFrames::default();
        let stamp = |n: usize| [n as u8; BYTES_MIN];
        let frame = |n: usize| vec![n as u8; 9];
        assert_eq!(known.find(&frame(0)), None);
        (0..=KNOWN_MAX).for_each(|n| known.insert(&frame(n), stamp(n)));
        assert_eq!(known.find(&frame(0)), None);
        (1..=KNOWN_MAX).for_each(|n| assert_eq!(known.find(&frame(n)), Some(stamp(n))));
    }
}
