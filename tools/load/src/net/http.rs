//! HTTP/1.1 as far as the server APIs need it: requests with a JSON body, responses with a length.

use crate::net::frame::{ProtocolError, ResponseHead, number};

/// The head of a POST request up to the value of its length.
pub fn post_head(host: &str, path: &str, key: Option<&str>) -> String {
    let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{key}Content-Type: application/json\r\nContent-Length: ")
}

/// Appends a request: its head up to the length, and its body.
pub fn write_post(out: &mut Vec<u8>, head: &str, body: &[u8]) {
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Bytes of head and body.
    pub bytes: usize,
    /// The server closes the connection after this response.
    pub closes: bool,
}

/// Parses the response at the beginning of `bytes`.
pub fn response(bytes: &[u8]) -> Result<Option<Response<'_>>, ProtocolError> {
    let Some(head) = ResponseHead::parse(bytes)? else { return Ok(None) };
    let no_length = || ProtocolError::Response("an HTTP response without a length".into());
    let len = head.header("content-length").and_then(number).ok_or_else(no_length)?;
    let closes = head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let end = head.bytes.saturating_add(len);
    Ok(bytes.get(head.bytes..end).map(|body| Response { status: head.status, body, bytes: end, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_that_is_cut_at_any_byte_is_incomplete() {
        let whole = b"HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-length: 2\r\n\r\n{}";
        for cut in 0..whole.len() {
            assert_eq!(response(&whole[..cut]), Ok(None));
        }
        let expected = Response { status: 200, body: b"{}", bytes: whole.len(), closes: false };
        assert_eq!(response(whole), Ok(Some(expected)));
        let last = response(b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap();
        assert!(last.closes);
        assert_eq!(response(b"RTSP/1.0 200\r\n\r\n"), Err(ProtocolError::NotHttp));
        assert!(response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
