//! The format of published data: whether the namespace accepts it.

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
