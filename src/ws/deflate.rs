//! Compresses and inflates messages (RFC 7692, section 7.2): bytes in, bytes out, bounded on both sides.
//!
//! Without context takeover a message refers only to itself, so that one `Deflater` serves all connections with its window,
//! and one `Inflater` all connections. With context takeover each direction of a connection has its own.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The end of a flushed block, which is not sent (section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The output of the inflater grows in steps of at least this size.
const STEP_BYTES: usize = 1024;
/// The largest distance to which a block refers back.
const WINDOW_BYTES: usize = 32 * 1024;

/// Why a message cannot be inflated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The message is not DEFLATE data.
    Invalid,
    /// The message is larger than allowed; nothing beyond the limit was inflated.
    TooBig,
}

pub struct Deflater {
    inner: Compress,
}

impl Deflater {
    /// `level` is `1..=9`, `window_bits` `9..=15`. Takes 64 to 300 KiB.
    pub fn new(level: u32, window_bits: u8) -> Self {
        Self { inner: Compress::new_with_window_bits(Compression::new(level), false, window_bits) }
    }

    /// Appends the compressed message. `fresh`: it does not refer to messages before it.
    pub fn compress(&mut self, message: &[u8], fresh: bool, out: &mut Vec<u8>) {
        if fresh {
            self.inner.reset();
        }
        // A second flush without input writes nothing. Section 7.2.3.6: one empty block is an empty message.
        if message.is_empty() {
            return out.push(0);
        }
        // More than the worst case of any window, so that one call takes all input and flushes.
        let start = out.len();
        out.reserve(message.len() + message.len().div_ceil(8) + message.len().div_ceil(64) + 32);
        let done = self.inner.compress_vec(message, out, FlushCompress::Sync);
        debug_assert!(done.is_ok_and(|status| status == Status::Ok), "room for all of it");
        debug_assert!(out.len() >= start + TAIL.len() && out.ends_with(&TAIL), "a flush ends so");
        out.truncate(out.len() - TAIL.len());
    }
}

pub struct Inflater {
    inner: Decompress,
}

impl Inflater {
    /// `window_bits` is at least that of the compressor: `9..=15`. Takes up to 40 KiB.
    pub fn new(window_bits: u8) -> Self {
        Self { inner: Decompress::new_with_window_bits(false, window_bits.max(9)) }
    }

    /// Clears `out` and inflates a message into it, up to `bytes_max` bytes. `fresh` as for `Deflater::compress`. After an
    /// error it must not be used again if messages refer to those before them.
    pub fn inflate(&mut self, message: &[u8], fresh: bool, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        out.clear();
        if fresh {
            self.inner.reset(false);
        }
        self.part(message, bytes_max, out)?;
        self.part(&TAIL, bytes_max, out)
    }

    fn part(&mut self, mut input: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            if out.len() == out.capacity() {
                // One byte more than allowed detects a message that is too large.
                let room = (bytes_max + 1).saturating_sub(out.len());
                out.reserve_exact(out.len().max(STEP_BYTES).min(room).max(1));
            }
            let (read, before) = (self.inner.total_in(), out.len());
            let status = self.inner.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| Broken::Invalid)?;
            let used = (self.inner.total_in() - read) as usize;
            input = &input[used..];
            if out.len() > bytes_max {
                return Err(Broken::TooBig);
            }
            if status == Status::StreamEnd {
                self.go_on(out);
            } else if out.len() < out.capacity() && input.is_empty() {
                // Output space is left, so the inflater holds nothing back.
                return Ok(());
            } else if out.len() < out.capacity() && used == 0 && out.len() == before {
                return Err(Broken::Invalid);
            }
        }
    }

    /// Section 7.2.3.4: a final block does not end the stream; later messages may refer to data before it.
    fn go_on(&mut self, out: &[u8]) {
        self.inner.reset(false);
        let window = &out[out.len().saturating_sub(WINDOW_BYTES)..];
        let set = self.inner.set_dictionary(window);
        debug_assert!(set.is_ok(), "raw streams take a dictionary at any time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        Inflater::new(15).inflate(message, true, bytes_max, &mut out).map(|()| out)
    }

    #[test]
    fn deflate_reads_the_examples_of_the_rfc() {
        // Section 7.2.3: fixed Huffman codes, no compression, a final block, two blocks.
        let one = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        for message in [&one[..], &stored, &last, &two] {
            assert_eq!(inflated(message, 5).as_deref(), Ok(&b"Hello"[..]), "{message:02x?}");
            assert_eq!(inflated(message, 4), Err(Broken::TooBig));
        }
        assert_eq!(inflated(&[0x00], 0).as_deref(), Ok(&b""[..]));
        let (mut inflater, mut out) = (Inflater::new(15), Vec::new());
        inflater.inflate(&one, false, 100, &mut out).unwrap();
        // Section 7.2.3.2: the second refers to the first.
        inflater.inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], false, 100, &mut out).unwrap();
        assert_eq!(out, b"Hello");
    }

    #[test]
    fn deflate_round_trips_in_every_window() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut noise = vec![0; 40_000];
        random.fill(&mut noise);
        let text = br#"{"user":"user0001","text":"hello hello hello"}"#.repeat(900);
        for bits in 9..=15 {
            for fresh in [true, false] {
                let (mut deflater, mut inflater) = (Deflater::new(1, bits), Inflater::new(bits));
                for message in [&b""[..], b"", b"x", &text, b"", b"", &noise, &text[..100], &text] {
                    let (mut packed, mut out) = (b"before".to_vec(), Vec::new());
                    deflater.compress(message, fresh, &mut packed);
                    inflater.inflate(&packed[6..], fresh, message.len(), &mut out).unwrap();
                    assert!(out == message, "{bits} {fresh} {}", message.len());
                }
            }
        }
    }

    #[test]
    fn inflating_stops_at_the_limit() {
        let mut bomb = Vec::new();
        Deflater::new(9, 15).compress(&vec![0; 50_000_000], true, &mut bomb);
        let (mut inflater, mut out) = (Inflater::new(15), Vec::new());
        assert_eq!(inflater.inflate(&bomb, true, 64 * 1024, &mut out), Err(Broken::TooBig));
        assert!(out.capacity() <= 64 * 1024 + 1);
        // The next message is inflated all the same.
        inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], true, 5, &mut out).unwrap();
        assert_eq!(out, b"Hello");
    }

    #[test]
    fn inflating_garbage_fails() {
        assert_eq!(inflated(&[0xff; 20], 1000), Err(Broken::Invalid));
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..3_000 {
            let mut garbage = vec![0; random.usize(..60)];
            random.fill(&mut garbage);
            let _ = inflated(&garbage, 10_000);
        }
    }

    #[test]
    fn inflating_continues_after_a_final_block() {
        let mut first = Compress::new_with_window_bits(Compression::new(9), false, 15);
        let text = b"a sentence that comes again";
        let mut message = Vec::with_capacity(200);
        first.compress_vec(text, &mut message, FlushCompress::Finish).unwrap();
        let mut second = Compress::new_with_window_bits(Compression::new(9), false, 15);
        second.set_dictionary(text).unwrap();
        let mut again = Vec::with_capacity(200);
        second.compress_vec(text, &mut again, FlushCompress::Sync).unwrap();
        assert!(again.len() < 15, "it refers to the message before");
        message.extend_from_slice(&again[..again.len() - 4]);
        assert_eq!(inflated(&message, 1000).unwrap(), [&text[..], text].concat());
    }
}
