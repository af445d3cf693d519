//! The difference between two payloads, in Fossil's delta format: what clients that asked for deltas are sent.
//!
//! ```text
//! delta  = size LF *( copy / insert ) check ";"
//! copy   = count "@" offset ","        bytes of the source
//! insert = count ":" bytes             bytes of the delta itself
//! ```
//!
//! `size` is the target's, `check` the sum of its big-endian words; numbers are in base 64. A delta of text is text: no copy
//! begins or ends within a character, so that JSON may carry it in a string.
//!
//! The one crate that has the format (`fossil-delta` 0.2) trusts the delta it is given and has been left alone for years.

pub(crate) mod create;
#[cfg(test)]
mod tests;

pub use create::create;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Why there is no target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// No number, or one that does not fit 32 bits, where one belongs.
    Number,
    /// Neither copy, insert nor end.
    Command,
    /// Ends before its end mark, or goes on behind it.
    Length,
    /// Takes bytes that source or delta does not have.
    Range,
    /// The target would be longer than it says, or than it may be.
    Size,
    /// The target is not the one that was meant.
    Checksum,
}

/// The target, of `bytes_max` at most. Takes memory as it is filled, not as the delta says.
pub fn apply(source: &[u8], delta: &[u8], bytes_max: usize) -> Result<Vec<u8>, Malformed> {
    let mut rest = delta;
    let size = number(&mut rest)? as usize;
    expect(&mut rest, b'\n')?;
    if size > bytes_max {
        return Err(Malformed::Size);
    }
    let mut target = Vec::new();
    loop {
        let count = number(&mut rest)?;
        let command = *rest.split_off_first().ok_or(Malformed::Length)?;
        let bytes = match command {
            b'@' => {
                let offset = number(&mut rest)? as usize;
                expect(&mut rest, b',')?;
                source.get(offset..).and_then(|from| from.get(..count as usize)).ok_or(Malformed::Range)?
            }
            b':' => rest.split_off(..count as usize).ok_or(Malformed::Range)?,
            b';' if !rest.is_empty() => return Err(Malformed::Length),
            b';' if target.len() != size => return Err(Malformed::Size),
            b';' if count != checksum(&target) => return Err(Malformed::Checksum),
            b';' => return Ok(target),
            _ => return Err(Malformed::Command),
        };
        if bytes.len() > size - target.len() {
            return Err(Malformed::Size);
        }
        target.extend_from_slice(bytes);
    }
}

fn expect(rest: &mut &[u8], byte: u8) -> Result<(), Malformed> {
    match rest.split_off_first() {
        Some(&first) if first == byte => Ok(()),
        Some(_) => Err(Malformed::Command),
        None => Err(Malformed::Length),
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, Malformed> {
    let mut value = None;
    while let Some(digit) = rest.first().and_then(|&byte| digit(byte)) {
        let next = u64::from(value.unwrap_or(0)) << 6 | u64::from(digit);
        value = Some(u32::try_from(next).map_err(|_| Malformed::Number)?);
        *rest = &rest[1..];
    }
    value.ok_or(if rest.is_empty() { Malformed::Length } else { Malformed::Number })
}

fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        b'_' => 36,
        b'a'..=b'z' => byte - b'a' + 37,
        b'~' => 63,
        _ => return None,
    })
}

fn put_number(out: &mut Vec<u8>, value: u32) {
    for digit in (0..number_len(value as usize) as u32).rev() {
        out.push(DIGITS[(value >> (6 * digit)) as usize & 63]);
    }
}

/// Digits of a number.
fn number_len(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(6).max(1) as usize
}

/// The sum of the big-endian words, the last one padded with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(0, |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)))
}
