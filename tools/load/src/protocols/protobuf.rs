//! The message protocol in Protobuf: each command or reply behind its length as a varint, several in one binary frame.
//!
//! Only the needed fields, written by hand; the numbers are those of the protocol's published schema. Unknown fields are skipped.

use super::{CONNECT_ID, Event, Messages, SUBSCRIBE_ID};
use crate::net::frame::ProtocolError;

/// Tags: the field number and the wire type (0 varint, 2 bytes).
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

/// The length of a number as a varint.
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
    let mut command = vec![COMMAND_ID];
    put_varint(&mut command, id);
    put_bytes(&mut command, tag, request);
    put_varint(out, command.len() as u64);
    out.extend_from_slice(&command);
}

/// `connect`, and a `subscribe` for each channel.
pub fn setup(messages: &Messages, number: usize, channels: &[&str]) -> Vec<u8> {
    let (mut out, mut request) = (Vec::new(), Vec::new());
    if let Some(tokens) = &messages.tokens {
        put_bytes(&mut request, 1 << 3 | 2, tokens.connection(number).as_bytes());
    }
    put_bytes(&mut request, 4 << 3 | 2, b"load");
    put_command(&mut out, CONNECT_ID, COMMAND_CONNECT, &request);
    for (id, name) in (SUBSCRIBE_ID..).zip(channels) {
        request.clear();
        put_bytes(&mut request, 1 << 3 | 2, name.as_bytes());
        if let Some(token) = messages.subscription_token(number, name) {
            put_bytes(&mut request, 2 << 3 | 2, token.as_bytes());
        }
        if messages.positioned {
            request.extend_from_slice(&[9 << 3, 1, 10 << 3, 1]);
        }
        put_command(&mut out, id, COMMAND_SUBSCRIBE, &request);
    }
    out
}

/// A varint and the bytes behind it.
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

/// Bytes behind their length, and what follows them.
fn length_delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// The fields of a message that are varints (with their value) or bytes, by number.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, u64, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes)?;
        bytes = match tag & 7 {
            0 => {
                let (n, rest) = varint(rest)?;
                found.push((tag >> 3, n, &[][..]));
                rest
            }
            1 => rest.get(8..)?,
            2 => {
                let (value, rest) = length_delimited(rest)?;
                found.push((tag >> 3, 0, value));
                rest
            }
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(found)
}

/// The messages of a frame; the last one is `None` if the bytes are invalid.
fn replies(mut frame: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if frame.is_empty() {
            return None;
        }
        let reply = length_delimited(frame);
        frame = reply.map_or(&[], |(_, rest)| rest);
        Some(reply.map(|(reply, _)| reply))
    })
}

pub fn count(frame: &[u8]) -> usize {
    replies(frame).count()
}

pub fn events(frame: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    let unreadable = || ProtocolError::Response("unreadable reply".into());
    replies(frame).map(|reply| reply.and_then(event).ok_or_else(unreadable)).collect()
}

fn event(reply: &[u8]) -> Option<Event> {
    if reply.is_empty() {
        return Some(Event::Ping);
    }
    let (mut id, mut error) = (None, None);
    for (number, n, bytes) in fields(reply)? {
        match number {
            REPLY_ID => id = Some(n),
            REPLY_ERROR => error = Some(error_text(bytes)?),
            _ => {}
        }
    }
    Some(match (id, error) {
        (id, Some(text)) => Event::Error(id.unwrap_or(0), text),
        (Some(id), None) => Event::Reply(id),
        (None, None) => Event::Other,
    })
}

/// An error in its JSON form.
fn error_text(bytes: &[u8]) -> Option<String> {
    let (mut code, mut message) = (0, "".into());
    for (number, n, bytes) in fields(bytes)? {
        match number {
            1 => code = n,
            2 => message = String::from_utf8_lossy(bytes),
            _ => {}
        }
    }
    Some(serde_json::json!({ "code": code, "message": message }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_computed_length() {
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
    fn setup_is_a_sequence_of_commands() {
        let bytes = setup(&Messages { positioned: true, ..Messages::default() }, 0, &["ab"]);
        let connect: &[u8] = &[10, 8, 1, 0x22, 6, 0x22, 4, b'l', b'o', b'a', b'd'];
        let subscribe: &[u8] = &[12, 8, 2, 0x2a, 8, 0x0a, 2, b'a', b'b', 72, 1, 80, 1];
        assert_eq!(bytes, [connect, subscribe].concat());
    }

    #[test]
    fn replies_are_distinguished_and_an_incomplete_one_is_an_error() {
        let frame = [3, 8, 1, 0x2a, 0, 2, 8, 2, 0, 6, 8, 3, 0x12, 2, 8, 103, 2, 0x22, 0];
        // The length of the first reply is too short, so what follows is invalid.
        assert!(events(&frame).is_err());
        let frame = [4, 8, 1, 0x2a, 0, 2, 8, 2, 0, 6, 8, 3, 0x12, 2, 8, 103, 2, 0x22, 0];
        let error = Event::Error(3, r#"{"code":103,"message":""}"#.into());
        assert_eq!(events(&frame), Ok(vec![Event::Reply(1), Event::Reply(2), Event::Ping, error, Event::Other]));
        assert_eq!(count(&frame), 5);
        let ends = [0, 5, 8, 9, 16, 19];
        for cut in (0..frame.len()).filter(|cut| !ends.contains(cut)) {
            assert!(events(&frame[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            let _ = (events(&bytes), count(&bytes));
        }
    }
}
