//! The framing of a stream: how the messages of one response body are marked off from each other.
//!
//! | form      | before a message   | behind it       |
//! |-----------|--------------------|-----------------|
//! | lines     |                    | a line feed     |
//! | events    | `data: `           | two line feeds  |
//! | delimited |                    |                 |
//!
//! A delimited message begins with its own length, as a varint.
//!
//! To a client of HTTP/1.1 each message is also one chunk (RFC 9112, section 7.1). A client of HTTP/1.0 does not know chunks: its
//! stream ends with the connection.

use std::io::Write;

/// What marks off the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum StreamForm {
    /// JSON, one message a line.
    Lines = 0,
    /// Server-sent events (the HTML standard, section 9.2).
    Events = 1,
    /// Protobuf: each message begins with its length.
    Delimited = 2,
}

/// The form, and whether each message is a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamFraming {
    pub form: StreamForm,
    pub chunked: bool,
}

/// The most bytes before a message: the size of a chunk in hexadecimal digits with its line end, and `data: `.
pub const PREFIX_BYTES_MAX: usize = 16 + 2 + EVENT.len();

/// The most bytes behind a message: two line feeds, and the line end of a chunk.
pub const SUFFIX_BYTES_MAX: usize = 4;

const EVENT: &[u8] = b"data: ";

impl StreamFraming {
    pub const COUNT: u8 = 6;

    /// `0..COUNT`.
    pub fn index(self) -> u8 {
        self.form as u8 * 2 + u8::from(self.chunked)
    }

    pub fn from_index(index: u8) -> Option<Self> {
        let form = match index / 2 {
            0 => StreamForm::Lines,
            1 => StreamForm::Events,
            2 => StreamForm::Delimited,
            _ => return None,
        };
        Some(Self { form, chunked: index % 2 == 1 })
    }

    fn tail(self) -> &'static [u8] {
        match self.form {
            StreamForm::Lines => b"\n",
            StreamForm::Events => b"\n\n",
            StreamForm::Delimited => b"",
        }
    }

    /// Appends what stands before a message of so many bytes, `PREFIX_BYTES_MAX` at most.
    fn write_prefix(self, out: &mut Vec<u8>, message_bytes: usize) {
        let before = if self.form == StreamForm::Events { EVENT } else { b"" };
        if self.chunked {
            let chunk_bytes = before.len() + message_bytes + self.tail().len();
            write!(out, "{chunk_bytes:x}\r\n").expect("writing to a Vec does not fail");
        }
        out.extend_from_slice(before);
    }

    fn write_suffix(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.tail());
        if self.chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends a whole message.
    pub fn write(self, out: &mut Vec<u8>, message: &[u8]) {
        out.reserve(PREFIX_BYTES_MAX + message.len() + SUFFIX_BYTES_MAX);
        self.write_prefix(out, message.len());
        let start = out.len();
        out.extend_from_slice(message);
        self.one_line(&mut out[start..]);
        self.write_suffix(out);
    }

    /// Frames the message that lies in a buffer behind `PREFIX_BYTES_MAX` bytes of room, without moving it. Returns where
    /// the framed message begins.
    pub fn write_around(self, buffer: &mut Vec<u8>) -> usize {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES_MAX);
        self.write_prefix(&mut prefix, buffer.len() - PREFIX_BYTES_MAX);
        let from = PREFIX_BYTES_MAX - prefix.len();
        buffer[from..PREFIX_BYTES_MAX].copy_from_slice(&prefix);
        self.one_line(&mut buffer[PREFIX_BYTES_MAX..]);
        self.write_suffix(buffer);
        from
    }

    /// A line of an event ends at a carriage return too. In JSON it can only be whitespace, as any other blank.
    fn one_line(self, message: &mut [u8]) {
        if self.form == StreamForm::Events {
            let mut rest = message;
            while let Some(at) = memchr::memchr(b'\r', rest) {
                rest[at] = b' ';
                rest = &mut rest[at + 1..];
            }
        }
    }

    /// Appends bytes that are not a message, as they are. Without bytes nothing is appended: an empty chunk would be the last.
    pub fn write_raw(self, out: &mut Vec<u8>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.chunked {
            true => {
                write!(out, "{:x}\r\n", bytes.len()).expect("writing to a Vec does not fail");
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            false => out.extend_from_slice(bytes),
        }
    }

    /// Appends the end of the stream.
    pub fn write_end(self, out: &mut Vec<u8>) {
        if self.chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// The bytes of the framed message that the bytes begin with; all of them if they begin with no such message.
    pub fn message_bytes(self, bytes: &[u8]) -> usize {
        let found = match (self.chunked, self.form) {
            (true, _) => memchr::memchr(b'\r', bytes).and_then(|digits| {
                let size = std::str::from_utf8(&bytes[..digits]).ok()?;
                usize::from_str_radix(size, 16).ok()?.checked_add(digits + 4)
            }),
            (false, StreamForm::Lines) => memchr::memchr(b'\n', bytes).map(|at| at + 1),
            (false, StreamForm::Events) => memchr::memmem::find(bytes, b"\n\n").map(|at| at + 2),
            (false, StreamForm::Delimited) => read_varint(bytes).and_then(|(length, used)| length.checked_add(used)),
        };
        found.filter(|&end| end > 0).unwrap_or(bytes.len()).min(bytes.len())
    }
}

/// The value, and the bytes that it takes.
fn read_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(9).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = StreamFraming> {
        (0..StreamFraming::COUNT).map(|index| StreamFraming::from_index(index).expect("an index"))
    }

    fn written(framing: StreamFraming, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        framing.write(&mut out, message);
        out
    }

    #[test]
    fn framings_have_numbers() {
        for (index, framing) in all().enumerate() {
            assert_eq!(usize::from(framing.index()), index);
        }
        assert_eq!(StreamFraming::from_index(StreamFraming::COUNT), None);
    }

    #[test]
    fn messages_are_marked_off_in_each_form() {
        let framed = |form, chunked| written(StreamFraming { form, chunked }, br#"{"a":1}"#);
        assert_eq!(framed(StreamForm::Lines, false), b"{\"a\":1}\n");
        assert_eq!(framed(StreamForm::Lines, true), b"8\r\n{\"a\":1}\n\r\n");
        assert_eq!(framed(StreamForm::Events, false), b"data: {\"a\":1}\n\n");
        assert_eq!(framed(StreamForm::Events, true), b"f\r\ndata: {\"a\":1}\n\n\r\n");
        assert_eq!(framed(StreamForm::Delimited, false), b"{\"a\":1}");
        assert_eq!(framed(StreamForm::Delimited, true), b"7\r\n{\"a\":1}\r\n");
    }

    #[test]
    fn message_in_a_buffer_is_framed_where_it_lies() {
        for framing in all() {
            for length in [1, 127, 128, 65_536] {
                let message = vec![b'x'; length];
                let mut buffer = vec![0; PREFIX_BYTES_MAX];
                buffer.extend_from_slice(&message);
                let from = framing.write_around(&mut buffer);
                assert!(buffer[from..] == written(framing, &message), "{framing:?} of {length}");
            }
        }
    }

    #[test]
    fn carriage_returns_of_an_event_become_blanks() {
        let events = StreamFraming { form: StreamForm::Events, chunked: false };
        assert_eq!(written(events, b"{\r\r\"a\":\r1}"), b"data: {  \"a\": 1}\n\n");
    }

    #[test]
    fn length_of_the_first_message_is_found_in_a_row() {
        for framing in all() {
            for length in [2, 127, 128, 300, 70_000] {
                let low = [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
                let begin = if framing.form == StreamForm::Delimited { low.to_vec() } else { b"{".to_vec() };
                let message = [begin, vec![b'x'; length]].concat();
                let one = written(framing, &message);
                let row = [one.clone(), written(framing, b"{}")].concat();
                assert_eq!(framing.message_bytes(&row), one.len(), "{framing:?} of {length}");
                assert_eq!(framing.message_bytes(&one[..one.len() - 1]), one.len() - 1);
            }
            assert_eq!(framing.message_bytes(b""), 0);
            assert_eq!(framing.message_bytes(b"\xff\xff"), 2);
        }
    }

    #[test]
    fn end_of_a_stream_is_the_empty_chunk() {
        let mut out = Vec::new();
        for framing in all() {
            framing.write_end(&mut out);
            framing.write_raw(&mut out, b"");
        }
        assert_eq!(out, b"0\r\n\r\n".repeat(3));
    }
}
