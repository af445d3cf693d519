//! Finding what two payloads have in common: what they begin and end with first, which is all of it where one field of a
//! message changed; the middle by blocks of the source whose hashes are looked for at every place of the target.
//!
//! Linear in source and target together: a place tries few blocks, and what a match reads of the target it covers.

use super::{checksum, number_len, put_number};

/// Bytes of a block, by the source's: what two have in common is found from twice as many bytes on.
const BLOCKS: [(usize, usize); 3] = [(1024, 4), (8 * 1024, 8), (usize::MAX, 16)];
/// Blocks with the same hash that one place tries.
const TRIES_MAX: usize = 8;
/// The rolling hash is a polynomial of the window's bytes in this, modulo 2^32.
const BASE: u32 = 0x0100_0193;
const NONE: u32 = u32::MAX;

/// Appends the delta that makes the target of the source. False where it would not be shorter than the target itself, with
/// nothing appended: the target is to be sent instead.
pub fn create(source: &[u8], target: &[u8], out: &mut Vec<u8>) -> bool {
    if source.len() >= NONE as usize || target.len() >= NONE as usize {
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
    // A match of the middle may reach into the tail.
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
    /// The target from `to` on is the source from `from` on, for this many bytes: copied if that is shorter than to insert.
    fn copy(&mut self, mut from: usize, mut to: usize, mut count: usize) -> bool {
        debug_assert!(to >= self.done && self.source[from..from + count] == self.target[to..to + count]);
        // A character has three bytes behind its first at most: more of them are no text.
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

    /// What is not written yet, up to there.
    fn insert(&mut self, to: usize) {
        if to > self.done {
            put_number(self.out, (to - self.done) as u32);
            self.out.push(b':');
            self.out.extend_from_slice(&self.target[self.done..to]);
            self.done = to;
        }
    }
}

/// Bytes that a copy takes, with the mark of what is inserted before it.
fn cost(from: usize, inserted: usize, count: usize) -> usize {
    let insert = if inserted > 0 { number_len(inserted) + 1 } else { 0 };
    insert + number_len(count) + number_len(from) + 2
}

/// The blocks of the source by their hashes.
struct Index {
    /// Bytes of a block.
    block: usize,
    /// By the upper bits of the hash: the last block with it.
    last: Vec<u32>,
    shift: u32,
    /// For each block the one before it with the same hash.
    before: Vec<u32>,
}

impl Index {
    fn new(source: &[u8], block: usize) -> Self {
        let count = source.len() / block;
        let bits = (count * 2).next_power_of_two().trailing_zeros();
        let mut index = Self { block, last: vec![NONE; 1 << bits], shift: u32::BITS - bits, before: vec![NONE; count] };
        let mut previous: &[u8] = &[];
        for (at, bytes) in source.chunks_exact(block).enumerate() {
            // Of a run of equal blocks the first serves as well as the others.
            if bytes != previous {
                let slot = index.slot(hash(bytes));
                index.before[at] = std::mem::replace(&mut index.last[slot], at as u32);
            }
            previous = bytes;
        }
        index
    }

    /// Mixes, so that the upper bits know all of the hash.
    fn slot(&self, hash: u32) -> usize {
        (hash.wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    /// Writes the target up to `end` as far as it finds it in the source.
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

    /// The longest match around this place of the target, among the blocks from this one on: from, to, count.
    fn best(&self, writer: &Writer<'_>, at: usize, mut next: u32) -> Option<(usize, usize, usize)> {
        let Writer { source, target, done, .. } = *writer;
        let mut best: Option<(usize, usize, usize)> = None;
        for _ in 0..TRIES_MAX {
            if next == NONE {
                break;
            }
            let from = next as usize * self.block;
            next = self.before[next as usize];
            let ahead = common_head(&source[from..], &target[at..]);
            // A block that only shares the hash is not worth a look behind, where others might look at the same bytes again.
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

/// Bytes that both begin with.
fn common_head(a: &[u8], b: &[u8]) -> usize {
    let ((a_words, _), (b_words, _)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let words = a_words.iter().zip(b_words).take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// Bytes that both end with.
fn common_tail(a: &[u8], b: &[u8]) -> usize {
    let ((_, a_words), (_, b_words)) = (a.as_rchunks::<8>(), b.as_rchunks::<8>());
    let words = a_words.iter().rev().zip(b_words.iter().rev()).take_while(|(a, b)| a == b).count() * 8;
    let (a, b) = (&a[..a.len() - words], &b[..b.len() - words]);
    words + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}
