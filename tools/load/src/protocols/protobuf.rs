//! The message protocol in Protobuf: each command or reply behind its length as a varint, several in one binary frame.
//!
//! The few fields that are needed, by hand: numbers are those of the protocol's published schema. What is unknown is skipped.

use super::{CONNECT_ID, Dialect, Note, SUBSCRIBE_ID};
use crate::net::frame::Fault;

/// Tags: the field's number and its wire type (0 varint, 2 bytes).
const COMMAND_ID: u8 = 1 << 3;
const COMMAND_CONNECT: u8 = 4 << 3 | 2;
const COMMAND_SUBSCRIBE: u8 = 5 << 3 | 2;
pub const COMMAND_PUBLISH: u8 = 7 << 3 | 2;
const REPLY_ID: u64 = 1;
const REPLY_ERROR: u64 = 2;

pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Bytes of a number as a varint.
pub fn varint_bytes(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a field of bytes.
pub fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_command(out: &mut Vec<u8>, id: u64, tag: u8, request: &[u8]) {
    let mut command = Vec::with_capacity(request.len() + 16);
    command.push(COMMAND_ID);
    put_varint(&mut command, id);
    put_bytes(&mut command, tag, request);
    put_varint(out, command.len() as u64);
    out.extend_from_slice(&command);
}

/// `connect`, and a `subscribe` for each channel.
pub fn greeting(dialect: &Dialect, number: usize, channels: &[&str]) -> Vec<u8> {
    let (mut out, mut request) = (Vec::new(), Vec::new());
    if let Some(tokens) = &dialect.tokens {
        put_bytes(&mut request, 1 << 3 | 2, tokens.connection(number).as_bytes());
    }
    put_bytes(&mut request, 4 << 3 | 2, b"load");
    put_command(&mut out, CONNECT_ID, COMMAND_CONNECT, &request);
    for (id, name) in (SUBSCRIBE_ID..).zip(channels) {
        request.clear();
        put_bytes(&mut request, 1 << 3 | 2, name.as_bytes());
        if let Some(token) = dialect.tokens.as_ref().and_then(|tokens| tokens.subscription(number, name)) {
            put_bytes(&mut request, 2 << 3 | 2, token.as_bytes());
        }
        if dialect.positioned {
            request.extend_from_slice(&[9 << 3, 1, 10 << 3, 1]);
        }
        put_command(&mut out, id, COMMAND_SUBSCRIBE, &request);
    }
    out
}

/// A varint and what is behind it; None where there is none.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut n = 0;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        n |= u64::from(byte & 0x7f).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            return Some((n, &bytes[i + 1..]));
        }
    }
    None
}

/// What a field holds.
enum Held<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width; none of ours is.
    Fixed,
}

/// The field at the beginning, by its number, and what is behind it.
fn field(bytes: &[u8]) -> Option<(u64, Held<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    let (held, rest) = match tag & 7 {
        0 => varint(rest).map(|(n, rest)| (Held::Number(n), rest))?,
        1 => (Held::Fixed, rest.get(8..)?),
        2 => {
            let (len, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            (Held::Bytes(bytes), rest)
        }
        5 => (Held::Fixed, rest.get(4..)?),
        _ => return None,
    };
    Some((tag >> 3, held, rest))
}

/// The messages of a frame; the last one is None where the bytes are no such row.
fn replies(mut frame: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if frame.is_empty() {
            return None;
        }
        let one = varint(frame)
            .and_then(|(len, rest)| Some((usize::try_from(len).ok()?, rest)))
            .and_then(|(len, rest)| rest.split_at_checked(len));
        let (reply, rest) = one.map_or((None, &[][..]), |(reply, rest)| (Some(reply), rest));
        frame = rest;
        Some(reply)
    })
}

pub fn count(frame: &[u8]) -> usize {
    replies(frame).count()
}

pub fn notes(frame: &[u8]) -> Result<Vec<Note>, Fault> {
    replies(frame).map(|reply| reply.and_then(note).ok_or_else(|| Fault::Answer("unreadable reply".into()))).collect()
}

fn note(reply: &[u8]) -> Option<Note> {
    if reply.is_empty() {
        return Some(Note::Ping);
    }
    let (mut rest, mut id, mut error) = (reply, None, None);
    while !rest.is_empty() {
        let (number, held, behind) = field(rest)?;
        match (number, held) {
            (REPLY_ID, Held::Number(n)) => id = Some(n),
            (REPLY_ERROR, Held::Bytes(bytes)) => error = Some(self::error(bytes)?),
            _ => {}
        }
        rest = behind;
    }
    Some(match (id, error) {
        (Some(id), None) => Note::Reply(id),
        (id, Some(text)) => Note::Error(id.unwrap_or(0), text),
        (None, None) => Note::Other,
    })
}

/// An error as the JSON form shows it.
fn error(mut bytes: &[u8]) -> Option<String> {
    let (mut code, mut message) = (0, String::new());
    while !bytes.is_empty() {
        let (number, held, rest) = field(bytes)?;
        match (number, held) {
            (1, Held::Number(n)) => code = n,
            (2, Held::Bytes(text)) => message = String::from_utf8_lossy(text).into(),
            _ => {}
        }
        bytes = rest;
    }
    Some(serde_json::json!({ "code": code, "message": message }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_bytes_that_are_foretold() {
        for n in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            assert_eq!(out.len(), varint_bytes(n));
            assert_eq!(varint(&out), Some((n, &[][..])));
            assert_eq!(varint(&out[..out.len() - 1]), None);
        }
        assert_eq!(varint(&[0xff; 11]), None);
    }

    #[test]
    fn a_greeting_is_a_row_of_commands() {
        let bytes = greeting(&Dialect { positioned: true, ..Dialect::default() }, 0, &["ab"]);
        let connect: &[u8] = &[10, 8, 1, 0x22, 6, 0x22, 4, b'l', b'o', b'a', b'd'];
        let subscribe: &[u8] = &[12, 8, 2, 0x2a, 8, 0x0a, 2, b'a', b'b', 72, 1, 80, 1];
        assert_eq!(bytes, [connect, subscribe].concat());
    }

    #[test]
    fn replies_are_told_apart_and_a_cut_one_is_no_reply() {
        let frame = [3, 8, 1, 0x2a, 0, 2, 8, 2, 0, 6, 8, 3, 0x12, 2, 8, 103, 2, 0x22, 0];
        // The first one claims too little, so that all that follows is none.
        assert!(notes(&frame).is_err());
        let frame = [4, 8, 1, 0x2a, 0, 2, 8, 2, 0, 6, 8, 3, 0x12, 2, 8, 103, 2, 0x22, 0];
        let error = Note::Error(3, r#"{"code":103,"message":""}"#.into());
        assert_eq!(notes(&frame), Ok(vec![Note::Reply(1), Note::Reply(2), Note::Ping, error, Note::Other]));
        assert_eq!(count(&frame), 5);
        let ends = [0, 5, 8, 9, 16, 19];
        for cut in (0..frame.len()).filter(|cut| !ends.contains(cut)) {
            assert!(notes(&frame[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn no_bytes_whatever_make_it_panic() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            let _ = (notes(&bytes), count(&bytes));
        }
    }
}
