//! Messages compressed and inflated (RFC 7692, section 7.2): bytes in, bytes out, bounded on both sides.
//!
//! Without context takeover a message refers to nothing but itself, so that one `Deflater` serves all who agreed on its
//! window, and one `Inflater` all who send. With it each direction of a connection has one of its own.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a flushed block ends with, and what is left out on the wire (section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// Inflated bytes grow in steps of at least this.
const STEP_BYTES: usize = 1024;
/// What a block may refer back to.
const WINDOW_BYTES: usize = 32 * 1024;

/// Why a message cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// No DEFLATE data.
    Invalid,
    /// More than was allowed; nothing beyond that was inflated.
    TooBig,
}

pub struct Deflater {
    inner: Compress,
}

impl Deflater {
    /// `level` `1..=9`, `window_bits` `9..=15`. Takes 64 to 300 KiB.
    pub fn new(level: u32, window_bits: u8) -> Self {
        Self { inner: Compress::new_with_window_bits(Compression::new(level), false, window_bits) }
    }

    /// Appends a message, compressed. `fresh`: it refers to no message before it.
    pub fn compress(&mut self, message: &[u8], fresh: bool, out: &mut Vec<u8>) {
        if fresh {
            self.inner.reset();
        }
        // A second flush with nothing between makes no bytes. Section 7.2.3.6: one empty block is an empty message.
        if message.is_empty() {
            return out.push(0);
        }
        // More than the worst case of any window, so that one call takes all and flushes.
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
    /// `window_bits` is that of whoever compressed, or more: `9..=15`. Takes up to 40 KiB.
    pub fn new(window_bits: u8) -> Self {
        Self { inner: Decompress::new_with_window_bits(false, window_bits.max(9)) }
    }

    /// Inflates a message into `out`, which is emptied first; at most `bytes_max`. `fresh` as for `Deflater::compress`.
    /// After an error it is spent where messages refer to those before.
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
                // One byte above what is allowed shows that there is more.
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
                // Room is left, so nothing is held back inside.
                return Ok(());
            } else if out.len() < out.capacity() && used == 0 && out.len() == before {
                return Err(Broken::Invalid);
            }
        }
    }

    /// Section 7.2.3.4: a final block is none here, what follows may refer back beyond it.
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
    fn the_examples_of_the_rfc_are_read() {
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
    fn what_is_compressed_comes_back_in_every_window() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut noise = vec![0; 40_000];
        random.fill(&mut noise);
        let text = br#"{"user":"somebody","text":"hello hello hello"}"#.repeat(900);
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
    fn a_bomb_is_cut_while_it_inflates() {
        let mut bomb = Vec::new();
        Deflater::new(9, 15).compress(&vec![0; 50_000_000], true, &mut bomb);
        let (mut inflater, mut out) = (Inflater::new(15), Vec::new());
        assert_eq!(inflater.inflate(&bomb, true, 64 * 1024, &mut out), Err(Broken::TooBig));
        assert!(out.capacity() <= 64 * 1024 + 1);
        // It serves the next one all the same.
        inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], true, 5, &mut out).unwrap();
        assert_eq!(out, b"Hello");
    }

    #[test]
    fn garbage_is_refused_and_ends() {
        assert_eq!(inflated(&[0xff; 20], 1000), Err(Broken::Invalid));
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..3_000 {
            let mut garbage = vec![0; random.usize(..60)];
            random.fill(&mut garbage);
            let _ = inflated(&garbage, 10_000);
        }
    }

    #[test]
    fn a_block_behind_a_final_one_may_refer_to_what_was_before() {
        let mut first = Compress::new_with_window_bits(Compression::new(9), false, 15);
        let text = b"a sentence that comes again";
        let mut message = Vec::with_capacity(200);
        first.compress_vec(text, &mut message, FlushCompress::Finish).unwrap();
        let mut second = Compress::new_with_window_bits(Compression::new(9), false, 15);
        second.set_dictionary(text).unwrap();
        let mut again = Vec::with_capacity(200);
        second.compress_vec(text, &mut again, FlushCompress::Sync).unwrap();
        assert!(again.len() < 15, "it refers back");
        message.extend_from_slice(&again[..again.len() - 4]);
        assert_eq!(inflated(&message, 1000).unwrap(), [&text[..], text].concat());
    }
}
