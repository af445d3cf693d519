//! What a PUB/SUB message says before its content: the position of a publication, or that it is a join or a leave.
//!
//! - `__p1:OFFSET:EPOCH__` and the publication
//! - `__d1:OFFSET:EPOCH:LENGTH:PREVIOUS:LENGTH:PUBLICATION`, the publication before included
//! - `__j__`, `__l__` and a client info
//! - the publication alone, if the channel has no history

use bytes::Bytes;
use memchr::{memchr, memmem};

/// A message of a channel.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Payload {
    Publication { position: Option<WirePosition>, message: Bytes },
    Join(Bytes),
    Leave(Bytes),
}

/// A position as Redis has it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct WirePosition {
    pub(super) offset: u64,
    pub(super) epoch: String,
}

/// `None`: malformed.
pub(super) fn parse(payload: Bytes) -> Option<Payload> {
    let Some(content) = payload.strip_prefix(b"__") else {
        return Some(Payload::Publication { position: None, message: payload });
    };
    match content.first()? {
        b'p' => {
            let header = content.strip_prefix(b"p1:")?;
            let end = memmem::find(header, b"__")?;
            let (offset, epoch) = split(&header[..end])?;
            let position = WirePosition { offset: number(offset)?, epoch: text(epoch)? };
            let message = payload.slice_ref(&header[end + 2..]);
            Some(Payload::Publication { position: Some(position), message })
        }
        b'd' => {
            let (offset, rest) = split(content.strip_prefix(b"d1:")?)?;
            let (epoch, rest) = split(rest)?;
            let (_previous, rest) = counted(rest)?;
            let (message, _) = counted(rest.strip_prefix(b":")?)?;
            let position = WirePosition { offset: number(offset)?, epoch: text(epoch)? };
            Some(Payload::Publication { position: Some(position), message: payload.slice_ref(message) })
        }
        b'j' => Some(Payload::Join(payload.slice_ref(content.strip_prefix(b"j__")?))),
        b'l' => Some(Payload::Leave(payload.slice_ref(content.strip_prefix(b"l__")?))),
        _ => None,
    }
}

/// What is before the next colon, and what is behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b':', bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// As many bytes as the number before the next colon says.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split(bytes)?;
    rest.split_at_checked(usize::try_from(number(length)?).ok()?)
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    // The parser of the standard library accepts a sign.
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(offset: u64, epoch: &str, message: &'static [u8]) -> Option<Payload> {
        let position = Some(WirePosition { offset, epoch: epoch.into() });
        Some(Payload::Publication { position, message: Bytes::from_static(message) })
    }

    #[test]
    fn payloads_are_read_as_the_original_writes_them() {
        let read = |payload: &'static [u8]| parse(Bytes::from_static(payload));
        let bare = Payload::Publication { position: None, message: Bytes::from_static(b"\x22\x01a_") };
        assert_eq!(read(b"\x22\x01a_"), Some(bare));
        assert_eq!(read(b"__p1:16:ep__payload__x"), publication(16, "ep", b"payload__x"));
        assert_eq!(read(b"__p1:16:__"), publication(16, "", b""));
        assert_eq!(read(b"__d1:7:ep:3:a:b:4:c:d_"), publication(7, "ep", b"c:d_"));
        assert_eq!(read(b"__d1:1:ep:0::2:ab"), publication(1, "ep", b"ab"));
        assert_eq!(read(b"__j__info"), Some(Payload::Join(Bytes::from_static(b"info"))));
        assert_eq!(read(b"__l__"), Some(Payload::Leave(Bytes::new())));
    }

    #[test]
    fn malformed_payloads_are_not_read() {
        for payload in [
            &b"__"[..],
            b"__x__",
            b"__p__",
            b"__p1:__",
            b"__p1:1__",
            b"__p1:x:ep__",
            b"__p1:+1:ep__",
            b"__p1:1:ep",
            b"__p1:99999999999999999999:ep__",
            b"__p1:1:\xff__",
            b"__p2:1:ep__",
            b"__d1:1:ep",
            b"__d1:1:ep:5:abc",
            b"__d1:1:ep:3:abc",
            b"__d1:1:ep:3:abc:",
            b"__d1:1:ep:3:abc:4:xyz",
            b"__d1:1:ep:-1::1:a",
            b"__d1:1:ep:18446744073709551615:a:1:a",
            b"__j_",
            b"__l",
        ] {
            assert_eq!(parse(Bytes::copy_from_slice(payload)), None, "{:?}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn cut_payloads_do_no_harm() {
        let whole = b"__d1:7:epoch:10:0123456789:5:abcde";
        for end in 2..whole.len() {
            assert_eq!(parse(Bytes::copy_from_slice(&whole[..end])), None, "{end}");
        }
    }
}
