//! Request bodies (RFC 9112, section 6): whole in the receive buffer, or not yet. A body that is not whole is read again from
//! its beginning with the bytes that follow, so the number of chunks is bounded.

use std::borrow::Cow;

/// How long the body of a request is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BodyLength {
    #[default]
    None,
    Bytes(u64),
    Chunked,
}

/// A body, as far as it was received.
#[derive(PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// It is whole, and took so many bytes.
    Whole { data: Cow<'a, [u8]>, used: usize },
    /// It has at most so many bytes, with what marks off its chunks.
    Partial { bytes_max: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFault {
    TooLarge,
    Malformed,
}

/// The longest body that a setting can allow.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Chunks of one body. A client that writes its body at once sends one.
const CHUNKS_MAX: usize = 1024;
/// Bytes of the line before a chunk, with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 128;
/// Bytes besides the data of a chunked body.
const CHUNKING_BYTES_MAX: usize = 16 * 1024;

/// Finds the end of the body at the start of `bytes`; its data has at most `data_bytes_max`.
pub fn read_body(length: BodyLength, bytes: &[u8], data_bytes_max: usize) -> Result<Body<'_>, BodyFault> {
    match length {
        BodyLength::None => Ok(Body::Whole { data: Cow::Borrowed(b""), used: 0 }),
        BodyLength::Bytes(length) => {
            let length = usize::try_from(length).ok().filter(|&length| length <= data_bytes_max);
            let length = length.ok_or(BodyFault::TooLarge)?;
            Ok(match bytes.get(..length) {
                Some(data) => Body::Whole { data: Cow::Borrowed(data), used: length },
                None => Body::Partial { bytes_max: length },
            })
        }
        BodyLength::Chunked => read_chunks(bytes, data_bytes_max),
    }
}

fn read_chunks(bytes: &[u8], data_bytes_max: usize) -> Result<Body<'_>, BodyFault> {
    let bytes_max = data_bytes_max + CHUNKING_BYTES_MAX;
    let partial = || if bytes.len() < bytes_max { Ok(Body::Partial { bytes_max }) } else { Err(BodyFault::TooLarge) };
    // Copied only when the body is whole.
    let (mut chunks, mut data_bytes, mut at) = (Vec::new(), 0, 0);
    for _ in 0..CHUNKS_MAX {
        let Some(line) = line_at(bytes, at)? else { return partial() };
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let is_size = !digits.is_empty() && digits.len() <= 8 && digits.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(digits).ok().filter(|_| is_size);
        let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok()).ok_or(BodyFault::Malformed)?;
        at += line.len() + 2;
        if size == 0 {
            // Trailers are read and dropped, until an empty line.
            return match end_of_trailers(bytes, at)? {
                Some(used) => Ok(Body::Whole { data: Cow::Owned(chunks.concat()), used }),
                None => partial(),
            };
        }
        if size > data_bytes_max - data_bytes {
            return Err(BodyFault::TooLarge);
        }
        let Some(chunk) = bytes.get(at..at + size) else { return partial() };
        let end = &bytes[at + size..];
        if !b"\r\n".starts_with(&end[..end.len().min(2)]) {
            return Err(BodyFault::Malformed);
        }
        if end.len() < 2 {
            return partial();
        }
        chunks.push(chunk);
        data_bytes += size;
        at += size + 2;
    }
    Err(BodyFault::TooLarge)
}

fn end_of_trailers(bytes: &[u8], mut at: usize) -> Result<Option<usize>, BodyFault> {
    while let Some(line) = line_at(bytes, at)? {
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The line that begins at `at`, without its end; `None` if it is not whole.
fn line_at(bytes: &[u8], at: usize) -> Result<Option<&[u8]>, BodyFault> {
    let rest = &bytes[at..];
    match memchr::memchr(b'\n', &rest[..rest.len().min(CHUNK_LINE_BYTES_MAX)]) {
        Some(end) if end > 0 && rest[end - 1] == b'\r' => Ok(Some(&rest[..end - 1])),
        None if rest.len() < CHUNK_LINE_BYTES_MAX => Ok(None),
        _ => Err(BodyFault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(bytes: &[u8], max: usize) -> Result<Option<(Vec<u8>, usize)>, BodyFault> {
        read_body(BodyLength::Chunked, bytes, max).map(|body| match body {
            Body::Whole { data, used } => Some((data.into_owned(), used)),
            Body::Partial { .. } => None,
        })
    }

    #[test]
    fn body_with_a_length_waits_for_its_last_byte() {
        for end in 0..5 {
            let partial = Ok(Body::Partial { bytes_max: 5 });
            assert_eq!(read_body(BodyLength::Bytes(5), &b"hello"[..end], 5), partial);
        }
        let whole = Ok(Body::Whole { data: Cow::Borrowed(&b"hello"[..]), used: 5 });
        assert_eq!(read_body(BodyLength::Bytes(5), b"hello and more", 5), whole);
        assert_eq!(read_body(BodyLength::Bytes(6), b"", 5), Err(BodyFault::TooLarge));
        assert_eq!(read_body(BodyLength::Bytes(u64::MAX), b"", 5), Err(BodyFault::TooLarge));
        let none = Ok(Body::Whole { data: Cow::Borrowed(&b""[..]), used: 0 });
        assert_eq!(read_body(BodyLength::None, b"next", 5), none);
    }

    #[test]
    fn chunked_body_waits_for_its_last_byte() {
        let body = b"3\r\nabc\r\nA;name=\"x\"\r\n0123456789\r\n0\r\ntrailer: 1\r\n\r\n";
        for end in 0..body.len() {
            assert_eq!(chunked(&body[..end], 13), Ok(None), "{end}");
        }
        let whole = Ok(Some((b"abc0123456789".to_vec(), body.len())));
        assert_eq!(chunked(body, 13), whole);
        assert_eq!(chunked(&[&body[..], b"POST"].concat(), 13), whole);
        assert_eq!(chunked(body, 12), Err(BodyFault::TooLarge));
    }

    #[test]
    fn malformed_chunks_fail_at_the_byte_that_shows_them() {
        for bytes in
            [&b"x\r\n"[..], b"\r\n", b"3\nabc", b"3\r\nabcd", b"3\r\nabc\rx", b"-3\r\n", b"0x3\r\n", b"123456789\r\n"]
        {
            assert_eq!(chunked(bytes, 100), Err(BodyFault::Malformed), "{:?}", bytes.escape_ascii().to_string());
        }
        assert_eq!(chunked(&[b'1'; CHUNK_LINE_BYTES_MAX], 100), Err(BodyFault::Malformed));
    }

    #[test]
    fn tiny_chunks_are_bounded_in_number() {
        assert_eq!(chunked(&b"1\r\nx\r\n".repeat(CHUNKS_MAX), 1 << 20), Err(BodyFault::TooLarge));
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(1 << 14)].concat();
        assert_eq!(chunked(&trailers, 100), Err(BodyFault::TooLarge));
    }
}
