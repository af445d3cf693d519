//! Responses to a request: the 101 that opens a WebSocket, a small plain response, or a refusal with its reason.
//!
//! Every response except the 101 is the last one of its connection and contains `Connection: close`.

use super::extension::Agreed;
use super::http_token::is_token;
use crate::http::phrase;
use std::io::Write;

/// Why a request is refused. Each refusal has a status and a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 400, with what is wrong.
    BadRequest(&'static str),
    /// 403, with the setting that decides: the request comes from a browser page of an origin that is not allowed.
    ForeignOrigin(&'static str),
    NotFound,
    /// 404, with the address that serves the path.
    WrongAddress(&'static str),
    MethodNotAllowed,
    /// 405, with the methods that the path serves.
    OtherMethods(&'static str),
    /// The body has more bytes than the path takes.
    BodyTooLarge,
    /// The head did not arrive in time.
    Timeout,
    TargetTooLong,
    /// The path serves WebSocket version 13, and the request asks for something else.
    UpgradeRequired,
    /// The head has too many bytes or too many fields.
    HeadTooLarge,
    /// The server is full or shuts down. The client retries later, on another server if possible.
    Unavailable {
        retry_after_s: u32,
    },
    /// Too many connections open at the same time. The client retries later.
    TooManyNow {
        retry_after_s: u32,
    },
    /// The server is overloaded. The client retries later, on another server if possible.
    Overloaded {
        retry_after_s: u32,
    },
    /// The client's address has as many connections as allowed.
    AddressFull {
        retry_after_s: u32,
    },
    /// The client's address opens connections faster than allowed.
    AddressTooFast {
        retry_after_s: u32,
    },
}

impl Refusal {
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::ForeignOrigin(_) => 403,
            Self::NotFound | Self::WrongAddress(_) => 404,
            Self::MethodNotAllowed | Self::OtherMethods(_) => 405,
            Self::Timeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::UpgradeRequired => 426,
            Self::HeadTooLarge => 431,
            Self::Unavailable { .. } | Self::TooManyNow { .. } | Self::Overloaded { .. } => 503,
            // RFC 6585, section 4.
            Self::AddressFull { .. } | Self::AddressTooFast { .. } => 429,
        }
    }

    /// One line that says what is wrong.
    pub fn words(&self) -> &'static str {
        match self {
            Self::BadRequest(words) | Self::ForeignOrigin(words) | Self::WrongAddress(words) => words,
            Self::NotFound => "nothing is served at this path",
            Self::MethodNotAllowed => "only GET and HEAD are served here",
            Self::OtherMethods(_) => "the path does not serve this method",
            Self::BodyTooLarge => "the request body is too large",
            Self::Timeout => "the request head was not complete in time",
            Self::TargetTooLong => "the request target is too long",
            Self::UpgradeRequired => "this address speaks WebSocket version 13 (RFC 6455): send an upgrade request",
            Self::HeadTooLarge => "the request head is too large",
            Self::Unavailable { .. } => "no room for another connection now",
            Self::TooManyNow { .. } => "too many new connections at once",
            Self::Overloaded { .. } => "no new connections while the server is overloaded",
            Self::AddressFull { .. } => "too many connections from this address",
            Self::AddressTooFast { .. } => "too many new connections from this address",
        }
    }

    /// When the client may retry, if a retry can succeed.
    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Unavailable { retry_after_s }
            | Self::TooManyNow { retry_after_s }
            | Self::Overloaded { retry_after_s }
            | Self::AddressFull { retry_after_s }
            | Self::AddressTooFast { retry_after_s } => Some(*retry_after_s),
            _ => None,
        }
    }

    /// Appends the whole response.
    pub fn write(&self, out: &mut Vec<u8>) {
        let extra: &[u8] = match self {
            // RFC 9110, 15.5.6: "MUST generate an Allow header field in a 405 response".
            Self::MethodNotAllowed => b"Allow: GET, HEAD\r\n",
            // Section 4.4: the versions the server is willing to use. RFC 9110, 15.5.22: a 426 "MUST send an Upgrade".
            Self::UpgradeRequired => b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => b"",
        };
        begin(out, self.status());
        out.extend_from_slice(extra);
        if let Self::OtherMethods(methods) = self {
            write!(out, "Allow: {methods}\r\n").expect("writing to a Vec does not fail");
        }
        if let Some(retry_after_s) = self.retry_after_s() {
            write!(out, "Retry-After: {retry_after_s}\r\n").expect("writing to a Vec does not fail");
        }
        let words = self.words();
        end(out, "text/plain; charset=utf-8", &[words.as_bytes(), b"\n"]);
    }
}

/// Appends the 101 of section 4.2.2. `protocol` and `deflate` were negotiated from the client's offers.
pub fn accept(out: &mut Vec<u8>, key: &[u8; 24], protocol: Option<&str>, deflate: Option<&Agreed>) {
    const OPENING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Accept: ";
    out.extend_from_slice(OPENING);
    out.extend_from_slice(tungstenite::handshake::derive_accept_key(key).as_bytes());
    if let Some(protocol) = protocol {
        debug_assert!(is_token(protocol.as_bytes()), "a subprotocol is a token");
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    if let Some(agreed) = deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        agreed.write(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a small whole response, such as that of `/health`.
pub fn http_response(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8]) {
    begin(out, status);
    end(out, content_type, &[body]);
}

/// Makes a whole response that of a HEAD request: it ends with its head (RFC 9110, 9.3.2).
pub fn drop_body(response: &mut Vec<u8>) {
    const END: &[u8] = b"\r\n\r\n";
    if let Some(at) = memchr::memmem::find(response, END) {
        response.truncate(at + END.len());
    }
}

fn begin(out: &mut Vec<u8>, status: u16) {
    // RFC 9110, 7.8: a sender of Upgrade must name it in Connection too.
    let connection = if status == 426 { "close, Upgrade" } else { "close" };
    let phrase = phrase(status);
    write!(out, "HTTP/1.1 {status} {phrase}\r\nConnection: {connection}\r\n").expect("writing to a Vec does not fail");
}

fn end(out: &mut Vec<u8>, content_type: &str, body: &[&[u8]]) {
    let body_bytes: usize = body.iter().map(|part| part.len()).sum();
    write!(out, "Content-Type: {content_type}\r\nContent-Length: {body_bytes}\r\n\r\n")
        .expect("writing to a Vec does not fail");
    body.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Status, header fields and body of a response, as an HTTP client sees them.
    fn parsed(response: &str) -> (u16, Vec<(String, String)>, String) {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut fields);
        let head_bytes = head.parse(response.as_bytes()).unwrap().unwrap();
        let fields = head
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), std::str::from_utf8(field.value).unwrap().to_owned()));
        (head.code.unwrap(), fields.collect(), response[head_bytes..].to_owned())
    }

    #[test]
    fn accept_key_is_that_of_the_rfc() {
        let response = written(|out| accept(out, b"dGhlIHNhbXBsZSBub25jZQ==", Some("chat"), None));
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        assert_eq!(response, expected);
        let response = written(|out| accept(out, b"dGhlIHNhbXBsZSBub25jZQ==", None, None));
        assert!(response.ends_with("xOo=\r\n\r\n"));
    }

    #[test]
    fn refusals_are_whole_responses_with_a_reason() {
        let refusals = [
            (Refusal::BadRequest("Host is missing"), 400, "Host is missing\n"),
            (Refusal::NotFound, 404, "nothing is served at this path\n"),
            (Refusal::MethodNotAllowed, 405, "only GET and HEAD are served here\n"),
            (Refusal::Timeout, 408, "the request head was not complete in time\n"),
            (Refusal::TargetTooLong, 414, "the request target is too long\n"),
            (Refusal::HeadTooLarge, 431, "the request head is too large\n"),
            (Refusal::Unavailable { retry_after_s: 3 }, 503, "no room for another connection now\n"),
            (Refusal::AddressFull { retry_after_s: 3 }, 429, "too many connections from this address\n"),
        ];
        for (refusal, status, body) in refusals {
            let (code, fields, got) = parsed(&written(|out| refusal.write(out)));
            assert_eq!((code, refusal.status(), got.as_str()), (status, status, body));
            assert!(fields.contains(&("content-length".into(), body.len().to_string())));
            assert!(fields.contains(&("connection".into(), "close".into())));
            assert_eq!(fields.contains(&("allow".into(), "GET, HEAD".into())), status == 405);
            assert_eq!(fields.contains(&("retry-after".into(), "3".into())), status == 503 || status == 429);
        }
        let (code, fields, _) = parsed(&written(|out| Refusal::UpgradeRequired.write(out)));
        assert_eq!(code, 426);
        for (name, value) in
            [("upgrade", "websocket"), ("sec-websocket-version", "13"), ("connection", "close, Upgrade")]
        {
            assert!(fields.contains(&(name.into(), value.into())), "{name}");
        }
    }

    #[test]
    fn plain_responses_have_their_type_and_length() {
        let response = written(|out| http_response(out, 200, "application/json", b"{}"));
        let expected = "HTTP/1.1 200 OK\r\nConnection: close\r\n\
            Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(response, expected);
        assert_eq!(parsed(&written(|out| http_response(out, 299, "text/plain", b""))).0, 299);
        let mut head = response.into_bytes();
        drop_body(&mut head);
        assert_eq!(head, expected.trim_end_matches("{}").as_bytes());
    }
}
