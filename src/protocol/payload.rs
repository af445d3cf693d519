//! Payloads that JSON embeds as they are: which bytes are JSON, and what a client of the JSON protocol gets of other bytes.
//!
//! A text frame is UTF-8 (RFC 6455, section 5.6), and so is JSON between systems (RFC 8259, section 8.1). `is_json` is the
//! one check of both; bytes are checked where they come in. What is not JSON reaches Protobuf clients as it is, and JSON
//! clients as a string of the bytes in base64.
//!
//! A client's info is checked once and shown often. The server keeps it in the form of `kept_info`, which tells JSON from
//! other bytes by the first byte.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// In front of an info that is not JSON. No JSON begins with it.
const NOT_JSON: u8 = 0;

/// True if the bytes are one JSON value in UTF-8. Without the first check serde_json accepts any bytes in the strings that it
/// skips.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// JSON on one line, as frames of lines require. A line break in JSON is whitespace between tokens (RFC 8259, section 2), so
/// a space replaces it.
pub(crate) fn one_line(data: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\n', b'\r', data).is_none() {
        return Cow::Borrowed(data);
    }
    Cow::Owned(data.iter().map(|&byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }).collect())
}

/// An info of a client or a subscription in the form that the server keeps; empty for none.
pub(crate) fn kept_info(mut info: Vec<u8>) -> Box<[u8]> {
    if !info.is_empty() && !is_json(&info) {
        info.insert(0, NOT_JSON);
    }
    info.into()
}

/// An info as it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Info<'a> {
    /// JSON, or none.
    Json(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> Info<'a> {
    /// `kept` has the form of `kept_info`.
    #[inline]
    pub(crate) fn of(kept: &'a [u8]) -> Self {
        match kept {
            [NOT_JSON, bytes @ ..] => Self::Bytes(bytes),
            json => Self::Json(json),
        }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        let (Self::Json(bytes) | Self::Bytes(bytes)) = self;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_value_in_utf8() {
        for (bytes, expected) in [
            (&b"{}"[..], true),
            (b" [1, \"\xc3\xbc\"] \n", true),
            (b"\"\\ud800\"", true),
            (b"\"\xff\"", false),
            (b"{\"a\":\"\xc3\"}", false),
            (b"\"\xed\xa0\x80\"", false),
            (b"{\"\xff\":1}", false),
            (b"1 2", false),
            (b"\xef\xbb\xbf1", false),
            (b"", false),
        ] {
            assert_eq!(is_json(bytes), expected, "{bytes:?}");
        }
        assert!(is_json(&[&[b'['; 50_000][..], &[b']'; 50_000]].concat()), "depth is no limit, and takes no stack");
    }

    #[test]
    fn info_is_kept_with_its_form() {
        for (info, form) in [
            (&b"{}"[..], Info::Json(b"{}")),
            (b"", Info::Json(b"")),
            (b"\xff", Info::Bytes(b"\xff")),
            (b"\"\xff\"", Info::Bytes(b"\"\xff\"")),
            (b"\0", Info::Bytes(b"\0")),
            (b"\0{}", Info::Bytes(b"\0{}")),
        ] {
            let kept = kept_info(info.to_vec());
            assert_eq!((Info::of(&kept), Info::of(&kept).bytes()), (form, info), "{info:?}");
        }
    }
}
