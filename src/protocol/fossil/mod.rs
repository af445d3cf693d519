//! Fossil delta: a format for the difference between two payloads, a source and a target. Subscribers that negotiate
//! `delta: "fossil"` get publications so. The format is that of the Fossil version control system
//! (<https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki>).
//!
//! ```text
//! delta  = size LF *( copy / insert ) check ";"
//! copy   = count "@" offset ","        copies bytes of the source
//! insert = count ":" bytes             inserts bytes of the delta
//! ```
//!
//! `size` is the size of the target, `check` the sum of its big-endian 32-bit words; numbers are in base 64. A delta between
//! texts is text: no copy begins or ends within a character, so that a JSON string can carry it.
//!
//! The only crate for the format (`fossil-delta` 0.2) does not check the deltas that it applies and is not maintained.

mod create;
mod number;
#[cfg(test)]
mod tests;

pub use create::create;
use number::checksum;

/// Why a delta cannot be applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidDelta {
    /// A number is missing or does not fit 32 bits.
    Number,
    /// Not a copy, an insert or the end.
    Command,
    /// The delta ends before its end mark or continues after it.
    Length,
    /// The delta uses bytes that the source or the delta does not have.
    Range,
    /// The target is not of the stated size, or is larger than allowed.
    Size,
    /// The checksum of the target is wrong.
    Checksum,
}

/// Applies a delta; returns the target, which has at most `bytes_max` bytes. Memory grows with the target, not with the size
/// that the delta states.
pub fn apply(source: &[u8], delta: &[u8], bytes_max: usize) -> Result<Vec<u8>, InvalidDelta> {
    let mut rest = delta;
    let size = number(&mut rest)? as usize;
    expect(&mut rest, b'\n')?;
    if size > bytes_max {
        return Err(InvalidDelta::Size);
    }
    let mut target = Vec::new();
    loop {
        let count = number(&mut rest)?;
        let command = *rest.split_off_first().ok_or(InvalidDelta::Length)?;
        let bytes = match command {
            b'@' => {
                let offset = number(&mut rest)? as usize;
                expect(&mut rest, b',')?;
                source.get(offset..).and_then(|from| from.get(..count as usize)).ok_or(InvalidDelta::Range)?
            }
            b':' => rest.split_off(..count as usize).ok_or(InvalidDelta::Range)?,
            b';' if !rest.is_empty() => return Err(InvalidDelta::Length),
            b';' if target.len() != size => return Err(InvalidDelta::Size),
            b';' if count != checksum(&target) => return Err(InvalidDelta::Checksum),
            b';' => return Ok(target),
            _ => return Err(InvalidDelta::Command),
        };
        if bytes.len() > size - target.len() {
            return Err(InvalidDelta::Size);
        }
        target.extend_from_slice(bytes);
    }
}

fn expect(rest: &mut &[u8], byte: u8) -> Result<(), InvalidDelta> {
    match rest.split_off_first() {
        Some(&first) if first == byte => Ok(()),
        Some(_) => Err(InvalidDelta::Command),
        None => Err(InvalidDelta::Length),
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, InvalidDelta> {
    let mut value = None;
    while let Some(digit) = rest.first().and_then(|&byte| digit(byte)) {
        let next = u64::from(value.unwrap_or(0)) << 6 | u64::from(digit);
        value = Some(u32::try_from(next).map_err(|_| InvalidDelta::Number)?);
        *rest = &rest[1..];
    }
    value.ok_or(if rest.is_empty() { InvalidDelta::Length } else { InvalidDelta::Number })
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
