//! A client of a stream: one request, and the messages of the response that does not end; and emulation requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::connect;

/// An open response body.
pub struct StreamClient {
    pub socket: TcpStream,
    /// The head of the response, in the server's spelling.
    pub head: String,
    chunked: bool,
    /// Of the body, without chunks.
    body: Vec<u8>,
}

/// A request with these header lines. `body` gets its length.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    [format!("{method} {target} HTTP/1.1\r\nHost: t\r\n{length}{fields}\r\n").as_bytes(), body].concat()
}

/// The head of a response; the bytes after it stay in the socket.
pub fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a whole head");
        head.extend(byte);
    }
    String::from_utf8(head).expect("a head of text")
}

/// The status and the rest of the head, and the body by its length.
pub fn read_response(socket: &mut TcpStream) -> (u16, String, Vec<u8>) {
    let head = read_head(socket);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    socket.read_exact(&mut body).expect("a whole body");
    (status, head, body)
}

/// One request on a connection of its own.
pub fn exchange(at: SocketAddr, request: &[u8]) -> (u16, String, Vec<u8>) {
    let mut socket = connect(at);
    socket.write_all(request).expect("the server accepts the bytes");
    if request.starts_with(b"HEAD ") {
        let head = read_head(&mut socket);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        return (status, head, Vec::new());
    }
    read_response(&mut socket)
}

impl StreamClient {
    pub fn open(at: SocketAddr, request: &[u8]) -> Self {
        let mut socket = connect(at);
        socket.write_all(request).expect("the server accepts the bytes");
        Self::on(socket)
    }

    /// The request is sent.
    pub fn on(mut socket: TcpStream) -> Self {
        let head = read_head(&mut socket);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let chunked = head.contains("Transfer-Encoding: chunked\r\n");
        Self { socket, head, chunked, body: Vec::new() }
    }

    /// HTTP streaming in JSON with this connect request.
    pub fn http_stream(at: SocketAddr, connect: &Value) -> Self {
        let body = json!({"id": 1, "connect": connect}).to_string();
        Self::open(at, &request("POST", "/connection/http_stream", &[], body.as_bytes()))
    }

    /// The next bytes of the body: a chunk, or what one read brings. `None` at its end.
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        if !self.chunked {
            let mut bytes = vec![0; 64 * 1024];
            let n = self.socket.read(&mut bytes).expect("a read");
            bytes.truncate(n);
            return Some(bytes).filter(|bytes| !bytes.is_empty());
        }
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).expect("a whole chunk");
            line.extend(byte);
        }
        let digits = std::str::from_utf8(&line[..line.len() - 2]).expect("digits");
        let size = usize::from_str_radix(digits, 16).expect("hexadecimal digits");
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk).expect("a whole chunk");
        assert!(chunk.ends_with(b"\r\n"), "a chunk ends with its line end");
        chunk.truncate(size);
        Some(chunk).filter(|chunk| !chunk.is_empty())
    }

    /// The bytes up to and with `end`. `None` if the body ends before.
    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.body.windows(end.len()).position(|part| part == end) {
                let rest = self.body.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.body, rest));
            }
            let piece = self.piece()?;
            self.body.extend(piece);
        }
    }

    /// The next line of JSON; pings are skipped.
    pub fn line(&mut self) -> Option<Value> {
        loop {
            let line = self.until(b"\n")?;
            let value: Value = serde_json::from_slice(&line).expect("a line of JSON");
            if value != json!({}) {
                return Some(value);
            }
        }
    }

    /// The `data` of the next event; pings are skipped.
    pub fn event(&mut self) -> Option<Value> {
        loop {
            let event = String::from_utf8(self.until(b"\n\n")?).expect("text");
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event with data");
            let value: Value = serde_json::from_str(data).expect("JSON");
            if value != json!({}) {
                return Some(value);
            }
        }
    }

    /// The connection is closed behind the end of the body.
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{}", rest.escape_ascii()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    pub fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).expect("it is open");
    }
}

/// What an emulation request needs to know of a session.
#[derive(Clone, Debug)]
pub struct Session {
    pub node: String,
    pub session: String,
}

impl Session {
    /// From the connect reply.
    pub fn of(reply: &Value) -> Self {
        let text = |name: &str| reply["connect"][name].as_str().expect("a text").to_owned();
        Self { node: text("node"), session: text("session") }
    }

    /// The bytes of an emulation request with these commands.
    pub fn request(&self, commands: &[Value], fields: &[(&str, &str)]) -> Vec<u8> {
        let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
        self.request_of(&lines.join("\n"), fields)
    }

    pub fn request_of(&self, data: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let body = json!({"node": self.node, "session": self.session, "data": data}).to_string();
        request("POST", "/emulation", fields, body.as_bytes())
    }

    /// Sends commands on a connection of their own, and returns the status.
    pub fn send(&self, at: SocketAddr, commands: &[Value]) -> u16 {
        exchange(at, &self.request(commands, &[])).0
    }
}
