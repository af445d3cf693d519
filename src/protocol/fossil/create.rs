//! Creates deltas: finds what two payloads have in common.
//!
//! First the common beginning and end, which is everything if one field of a message changed. Then the middle: the source is
//! divided into blocks, and their hashes are searched at every place of the target. The cost is linear in source and target:
//! each place tries few blocks, and a match covers the part of the target that it reads.

use super::number::{checksum, number_len, put_number};
use crate::ids::OptionU32;

/// Sizes of sources and the block size up to each. A common part is found if it has at least two blocks' bytes.
const BLOCKS: [(usize, usize); 3] = [(1024, 4), (8 * 1024, 8), (usize::MAX, 16)];
/// Blocks with the same hash that are tried at one place.
const TRIES_MAX: usize = 8;
/// The base of the rolling hash, a polynomial of the window's bytes modulo 2^32.
const BASE: u32 = 0x0100_0193;

/// Appends the delta from source to target. Returns false, and appends nothing, if the delta would not be shorter than the
/// target: the caller sends the target instead.
pub fn create(source: &[u8], target: &[u8], out: &mut Vec<u8>) -> bool {
    if source.len() >= u32::MAX as usize || target.len() >= u32::MAX as usize {
        return false;
    }
    let began = out.len();
    put_number(out, target.len() as u32);
    out.push(b'\n');
    let mut writer = Writer { source, target, done: 0, out };
    let head = common_head(source, target);
    writer.copy(0, 0, head);
    let tail = common_tail(&source[writer.done..], &target[writer.done..]);
    let end = target.len() - tail;
    let (_, block) = BLOCKS.into_iter().find(|&(bytes, _)| source.len() <= bytes).expect("the last takes all");
    if writer.done + block <= end && source.len() >= block {
        Index::new(source, block).search(&mut writer, end);
    }
    // The last match of the middle may overlap the tail.
    let from = end.max(writer.done);
    writer.copy(source.len() - (target.len() - from), from, target.len() - from);
    writer.insert(target.len());
    put_number(out, checksum(target));
    out.push(b';');
    let shorter = out.len() - began < target.len();
    if !shorter {
        out.truncate(began);
    }
    shorter
}

struct Writer<'a> {
    source: &'a [u8],
    target: &'a [u8],
    /// The target up to here is written.
    done: usize,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// `count` bytes of the target from `to` on equal those of the source from `from` on: writes a copy, if it is shorter than
    /// an insert. Returns true if it did.
    fn copy(&mut self, mut from: usize, mut to: usize, mut count: usize) -> bool {
        debug_assert!(to >= self.done && self.source[from..from + count] == self.target[to..to + count]);
        // A UTF-8 character has at most three continuation bytes; more of them are not text.
        let inside = |at: usize| self.target.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        let skip = (0..3).take_while(|skip| inside(to + skip)).count().min(count);
        (from, to, count) = (from + skip, to + skip, count - skip);
        count -= (0..3).take_while(|back| *back < count && inside(to + count - back)).count();
        if count <= cost(from, to - self.done, count) {
            return false;
        }
        self.insert(to);
        put_number(self.out, count as u32);
        self.out.push(b'@');
        put_number(self.out, from as u32);
        self.out.push(b',');
        self.done = to + count;
        true
    }

    /// Inserts the bytes of the target that are not written yet, up to `to`.
    fn insert(&mut self, to: usize) {
        if to > self.done {
            put_number(self.out, (to - self.done) as u32);
            self.out.push(b':');
            self.out.extend_from_slice(&self.target[self.done..to]);
            self.done = to;
        }
    }
}

/// The bytes of a copy, with the header of the insert before it.
fn cost(from: usize, inserted: usize, count: usize) -> usize {
    let insert = if inserted > 0 { number_len(inserted) + 1 } else { 0 };
    insert + number_len(count) + number_len(from) + 2
}

/// The blocks of the source, by hash.
struct Index {
    /// The size of a block in bytes.
    block: usize,
    /// The last block for each value of the hash's upper bits.
    last: Vec<OptionU32<u32>>,
    shift: u32,
    /// For each block, the one before it with the same upper bits.
    before: Vec<OptionU32<u32>>,
}

impl Index {
    fn new(source: &[u8], block: usize) -> Self {
        let count = source.len() / block;
        let bits = (count * 2).next_power_of_two().trailing_zeros();
        let (last, before) = (vec![OptionU32::NONE; 1 << bits], vec![OptionU32::NONE; count]);
        let mut index = Self { block, last, shift: u32::BITS - bits, before };
        let mut previous: &[u8] = &[];
        for (at, bytes) in source.chunks_exact(block).enumerate() {
            // Of a run of equal blocks, only the first is indexed.
            if bytes != previous {
                let slot = index.slot(hash(bytes));
                index.before[at] = std::mem::replace(&mut index.last[slot], OptionU32::some(at as u32));
            }
            previous = bytes;
        }
        index
    }

    /// Mixes the hash, so that its upper bits depend on all bits.
    fn slot(&self, hash: u32) -> usize {
        (hash.wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    /// Writes the parts of the target up to `end` that it finds in the source.
    fn search(&self, writer: &mut Writer<'_>, end: usize) {
        let block = self.block;
        let drop = BASE.wrapping_pow(block as u32 - 1);
        let target = writer.target;
        let mut at = writer.done;
        let mut rolling = hash(&target[at..at + block]);
        loop {
            let found = self.best(writer, at, self.last[self.slot(rolling)]);
            if found.is_some_and(|(from, to, count)| writer.copy(from, to, count)) {
                at = writer.done;
                if at + block > end {
                    return;
                }
                rolling = hash(&target[at..at + block]);
                continue;
            }
            if at + block >= end {
                return;
            }
            let (first, next) = (u32::from(target[at]), u32::from(target[at + block]));
            rolling = rolling.wrapping_sub(first.wrapping_mul(drop)).wrapping_mul(BASE).wrapping_add(next);
            at += 1;
        }
    }

    /// The longest match around this place of the target, among the block `next` and those before it with the same hash. Returns
    /// from, to and count.
    fn best(&self, writer: &Writer<'_>, at: usize, mut next: OptionU32<u32>) -> Option<(usize, usize, usize)> {
        let Writer { source, target, done, .. } = *writer;
        let mut best: Option<(usize, usize, usize)> = None;
        for _ in 0..TRIES_MAX {
            let Some(block) = next.get() else { break };
            let from = block as usize * self.block;
            next = self.before[block as usize];
            let ahead = common_head(&source[from..], &target[at..]);
            // Only the hash is equal: the bytes before it are not compared.
            if ahead < self.block {
                continue;
            }
            let behind = common_tail(&source[..from], &target[done..at]);
            let count = ahead + behind;
            if best.is_none_or(|(_, _, most)| count > most) {
                best = Some((from - behind, at - behind, count));
            }
        }
        best
    }
}

fn hash(window: &[u8]) -> u32 {
    window.iter().fold(0, |hash: u32, &byte| hash.wrapping_mul(BASE).wrapping_add(u32::from(byte)))
}

/// The length of the common beginning.
fn common_head(a: &[u8], b: &[u8]) -> usize {
    let ((a_words, _), (b_words, _)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let words = a_words.iter().zip(b_words).take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// The length of the common end.
fn common_tail(a: &[u8], b: &[u8]) -> usize {
    let ((_, a_words), (_, b_words)) = (a.as_rchunks::<8>(), b.as_rchunks::<8>());
    let words = a_words.iter().rev().zip(b_words.iter().rev()).take_while(|(a, b)| a == b).count() * 8;
    let (a, b) = (&a[..a.len() - words], &b[..b.len() - words]);
    words + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}
