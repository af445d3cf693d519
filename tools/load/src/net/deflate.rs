//! permessage-deflate from the client's side (RFC 7692).
//!
//! Plan: a connection asks for contexts that begin anew with each message, or that go on; the server's answer must agree to
//! compress at all. Deliveries of one publication are the same bytes to every subscriber, so that a worker inflates a frame
//! once and knows it again by comparing (`Known`): every delivery is followed, at the price of a comparison.

use crate::net::frame::Fault;
use crate::scenarios::payload::BYTES_MIN;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes of one message that we are willing to inflate to.
const INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes by which the room for a message grows.
const ROOM_BYTES: usize = 16 * 1024;
/// What ends a message and is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Frames that are known again: more than a window has under way.
const KNOWN_MAX: usize = 64;
/// Bytes below which a message of ours is not worth it.
const BYTES_WORTH: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Deflate {
    #[default]
    Off,
    /// Contexts that begin anew with each message, in both directions; what we send is not compressed.
    Fresh,
    /// Contexts that go on wherever the server lets them; what we send is compressed.
    Takeover,
}

impl Deflate {
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// What the upgrade request says of it.
    pub fn offer(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Fresh => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
            }
            Self::Takeover => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        }
    }

    /// Whether we compress a message of that many bytes.
    pub fn compresses(self, bytes: usize) -> bool {
        self == Self::Takeover && bytes >= BYTES_WORTH
    }
}

/// Inflates the messages of one connection, or those of many whose contexts begin anew.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    out: Vec<u8>,
}

impl Inflater {
    pub fn new() -> Self {
        Self { stream: Decompress::new(false), out: Vec::new() }
    }

    /// One message's payload; `fresh` forgets what came before.
    pub fn message(&mut self, body: &[u8], fresh: bool) -> Result<Vec<u8>, Fault> {
        if fresh {
            self.stream.reset(false);
        }
        self.out.clear();
        self.feed(body)?;
        self.feed(&TAIL)?;
        Ok(self.out.clone())
    }

    fn feed(&mut self, mut input: &[u8]) -> Result<(), Fault> {
        loop {
            self.out.reserve(ROOM_BYTES);
            let before = (self.stream.total_in(), self.out.len());
            let status = self.stream.decompress_vec(input, &mut self.out, FlushDecompress::Sync);
            let ended = !matches!(status, Ok(Status::Ok | Status::BufError));
            if ended || self.out.len() > INFLATED_BYTES_MAX {
                return Err(Fault::Inflate);
            }
            input = &input[(self.stream.total_in() - before.0) as usize..];
            let room = self.out.len() < self.out.capacity();
            if input.is_empty() && room {
                return Ok(());
            }
            if self.stream.total_in() == before.0 && self.out.len() == before.1 {
                return Err(Fault::Inflate);
            }
        }
    }
}

/// One message, not empty, compressed for itself.
pub fn deflate(message: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::fast(), false);
    let mut out = Vec::with_capacity(message.len() / 2 + ROOM_BYTES);
    loop {
        let taken = stream.total_in() as usize;
        let status = stream.compress_vec(&message[taken..], &mut out, FlushCompress::Sync);
        debug_assert!(status.is_ok(), "it fails only where a stream is misused");
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(ROOM_BYTES);
    }
    debug_assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

/// Frames that were inflated lately, and the stamp of the one publication in each.
#[derive(Debug, Default)]
pub struct Known {
    frames: Vec<(Vec<u8>, [u8; BYTES_MIN])>,
    /// Where the last one was found, and where the next one is put.
    last: usize,
    next: usize,
}

impl Known {
    /// The stamp in `frame`, if exactly these bytes were learned. The one behind the last is the likeliest.
    pub fn find(&mut self, frame: &[u8]) -> Option<[u8; BYTES_MIN]> {
        let len = self.frames.len();
        let place = (1..=len).map(|i| (self.last + i) % len).find(|&place| self.frames[place].0 == frame)?;
        self.last = place;
        Some(self.frames[place].1)
    }

    pub fn learn(&mut self, frame: &[u8], stamp: [u8; BYTES_MIN]) {
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
    fn what_was_deflated_is_inflated_in_any_order_of_sizes() {
        let mut inflater = Inflater::new();
        let mut rng = fastrand::Rng::with_seed(4);
        for len in [1, 31, 1000, 16 * 1024, 16 * 1024 - 1, 300_000] {
            let same = vec![b'x'; len];
            let random: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            for message in [same, random] {
                let packed = deflate(&message);
                assert_eq!(inflater.message(&packed, true).unwrap(), message, "{len}");
                assert_eq!(inflater.message(&packed, false).unwrap(), message, "{len}");
            }
        }
        assert_eq!(inflater.message(&[0xff; 20], true), Err(Fault::Inflate));
    }

    #[test]
    fn frames_are_known_again_until_newer_ones_take_their_place() {
        let mut known = Known::default();
        let stamp = |n: usize| [n as u8; BYTES_MIN];
        let frame = |n: usize| vec![n as u8; 9];
        assert_eq!(known.find(&frame(0)), None);
        (0..=KNOWN_MAX).for_each(|n| known.learn(&frame(n), stamp(n)));
        assert_eq!(known.find(&frame(0)), None);
        (1..=KNOWN_MAX).for_each(|n| assert_eq!(known.find(&frame(n)), Some(stamp(n))));
    }
}
