//! The format of published data: whether the namespace accepts it, and how JSON is put on one line.

use std::borrow::Cow;

use crate::config::DataFormat;
use crate::protocol::is_json;

/// Whether data is in the format that the namespace wants. `known_json`: the data is known to be JSON.
pub(crate) fn fits(data: &[u8], format: DataFormat, known_json: bool) -> bool {
    let is_json = || known_json || is_json(data);
    match format {
        DataFormat::Binary => true,
        _ if data.is_empty() => false,
        DataFormat::Any => true,
        DataFormat::Json => is_json(),
        DataFormat::JsonObject => is_json() && data.trim_ascii_start().first() == Some(&b'{'),
    }
}

/// JSON on one line, as frames of lines require. A line break in JSON is whitespace between tokens (RFC 8259, section 2), so
/// a space replaces it.
pub(crate) fn one_line(data: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\n', b'\r', data).is_none() {
        return Cow::Borrowed(data);
    }
    Cow::Owned(data.iter().map(|&byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_checked_against_the_format() {
        for (data, format, fit) in [
            (&b"{}"[..], DataFormat::JsonObject, true),
            (b" {\"a\":1}", DataFormat::JsonObject, true),
            (b"[1]", DataFormat::JsonObject, false),
            (b"[1]", DataFormat::Json, true),
            (b"\x01", DataFormat::Json, false),
            (b"\"\xff\"", DataFormat::Json, false),
            (b"{\"a\":\"\xff\"}", DataFormat::JsonObject, false),
            (b"\x01", DataFormat::Any, true),
            (b"", DataFormat::Any, false),
            (b"", DataFormat::Binary, true),
        ] {
            assert_eq!(fits(data, format, false), fit, "{data:?} {format:?}");
        }
    }
}
