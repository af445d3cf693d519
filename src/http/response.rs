//! Small whole responses with header fields of their own, and the heads of streams.

use std::io::Write;

use super::framing::StreamFraming;

/// Whether the connection serves another request after the response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepAlive {
    Yes,
    No,
}

/// A small whole response.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Response {
    pub status: u16,
    /// Whole header lines, each with its line end.
    pub fields: String,
    /// No body and no type if it is empty.
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    /// Without a body.
    pub fn empty(status: u16, fields: String) -> Self {
        Self { status, fields, ..Self::default() }
    }

    pub fn text(status: u16, fields: String, body: impl Into<Vec<u8>>) -> Self {
        Self { status, fields, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// Appends the response.
    pub fn write(&self, out: &mut Vec<u8>, keep_alive: KeepAlive) {
        let Self { status, fields, content_type, body } = self;
        let phrase = phrase(*status);
        let connection = if keep_alive == KeepAlive::Yes { "keep-alive" } else { "close" };
        write!(out, "HTTP/1.1 {status} {phrase}\r\nConnection: {connection}\r\n{fields}")
            .expect("writing to a Vec does not fail");
        // RFC 9110, section 8.6: no Content-Length in a response with status 204.
        if *status != 204 {
            write!(out, "Content-Length: {}\r\n", body.len()).expect("writing to a Vec does not fail");
        }
        if !content_type.is_empty() {
            write!(out, "Content-Type: {content_type}\r\n").expect("writing to a Vec does not fail");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
}

impl StreamFraming {
    /// Appends the head of a stream. `fields` are whole header lines.
    pub fn write_head(self, out: &mut Vec<u8>, content_type: &str, fields: &str) {
        // A client of HTTP/1.0 gets no chunks, and the end of the connection is the end of the stream.
        let way = match self.chunked {
            true => "Connection: keep-alive\r\nTransfer-Encoding: chunked",
            false => "Connection: close",
        };
        write!(
            out,
            "HTTP/1.1 200 OK\r\n{way}\r\nContent-Type: {content_type}\r\n\
             Cache-Control: private, no-cache, no-store, must-revalidate, max-age=0\r\nPragma: no-cache\r\nExpire: 0\r\n\
             X-Accel-Buffering: no\r\n{fields}\r\n"
        )
        .expect("writing to a Vec does not fail");
    }
}

/// The reason phrases of RFC 9110 for the statuses that are sent here; others get an empty phrase, which RFC 9112, section 4
/// allows.
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::StreamForm;

    #[test]
    fn whole_responses_say_whether_the_connection_goes_on() {
        let mut out = Vec::new();
        Response::empty(204, "Vary: Origin\r\n".into()).write(&mut out, KeepAlive::Yes);
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\nVary: Origin\r\n\r\n");
        out.clear();
        Response::text(404, String::new(), "gone\n").write(&mut out, KeepAlive::No);
        let expected: &[u8] = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 5\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\r\ngone\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn head_of_a_stream_has_chunks_only_for_http_1_1() {
        for chunked in [true, false] {
            let mut out = Vec::new();
            StreamFraming { form: StreamForm::Lines, chunked }.write_head(&mut out, "text/plain", "A: b\r\n");
            let head = String::from_utf8(out).expect("text");
            assert_eq!(head.contains("Transfer-Encoding: chunked\r\n"), chunked);
            assert_eq!(head.contains("Connection: close\r\n"), !chunked);
            assert!(head.ends_with("X-Accel-Buffering: no\r\nA: b\r\n\r\n"), "{head}");
        }
    }
}
