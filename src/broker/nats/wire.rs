//! The text protocol of NATS: what a server sends, and what this client sends.

use serde::Deserialize;
use serde_json::json;

use super::url::Login;

/// A line that a server sends; the longest is INFO, which lists the servers of a cluster.
const LINE_BYTES_MAX: usize = 1 << 18;
/// The most that a server may be set to.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What a server sends.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum ServerOp<'a> {
    Info(Box<ServerInfo>),
    Message {
        subject: &'a str,
        sid: u64,
        payload: &'a [u8],
    },
    Ping,
    Pong,
    Ok,
    /// Without the quotes.
    Error(&'a str),
}

#[derive(Clone, PartialEq, Eq, Default, Deserialize, Debug)]
#[serde(default)]
pub(super) struct ServerInfo {
    pub(super) max_payload: usize,
    pub(super) tls_required: bool,
    /// The other servers of its cluster, as `host:port`.
    pub(super) connect_urls: Vec<String>,
}

/// The bytes are not of this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// Reads the first operation and tells how many bytes it has. `None`: it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ServerOp<'_>, usize)>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() > LINE_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| Malformed)?.trim_end_matches('\r');
    let line_bytes = end + 1;
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let op = match verb.to_ascii_uppercase().as_str() {
        "MSG" => return message(bytes, line_bytes, rest),
        "PING" => ServerOp::Ping,
        "PONG" => ServerOp::Pong,
        "+OK" => ServerOp::Ok,
        "-ERR" => ServerOp::Error(rest.trim().trim_matches('\'')),
        "INFO" => ServerOp::Info(serde_json::from_str(rest).map_err(|_| Malformed)?),
        _ => return Err(Malformed),
    };
    Ok(Some((op, line_bytes)))
}

/// `subject sid [reply subject] length`, and the payload in a line of its own.
fn message<'a>(
    bytes: &'a [u8],
    line_bytes: usize,
    arguments: &'a str,
) -> Result<Option<(ServerOp<'a>, usize)>, Malformed> {
    let mut words = arguments.split_ascii_whitespace();
    let subject = words.next().ok_or(Malformed)?;
    let sid = words.next().and_then(|word| word.parse().ok()).ok_or(Malformed)?;
    let last = words.next_back().ok_or(Malformed)?;
    let length: usize = last.parse().map_err(|_| Malformed)?;
    if words.count() > 1 || length > PAYLOAD_BYTES_MAX {
        return Err(Malformed);
    }
    let end = line_bytes + length;
    match bytes.get(line_bytes..end + 2) {
        None => Ok(None),
        Some([payload @ .., b'\r', b'\n']) => Ok(Some((ServerOp::Message { subject, sid, payload }, end + 2))),
        Some(_) => Err(Malformed),
    }
}

/// The first line of a client.
pub(super) fn connect(out: &mut Vec<u8>, login: &Login, has_tls: bool) {
    let mut options = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": has_tls,
        "name": "corecast",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        // The server tells of changes in its cluster.
        "protocol": 1,
        "echo": true,
        "headers": false,
    });
    match login {
        Login::None => {}
        Login::Token(token) => options["auth_token"] = json!(token),
        Login::Password { user, password } => {
            options["user"] = json!(user);
            options["pass"] = json!(password);
        }
    }
    out.extend_from_slice(format!("CONNECT {options}\r\n").as_bytes());
}

/// The subject is valid (`subjects::is_valid`).
pub(super) fn publish(out: &mut Vec<u8>, subject: &str, payload: &[u8]) {
    out.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The subject is valid, or a pattern.
pub(super) fn subscribe(out: &mut Vec<u8>, subject: &str, sid: u64) {
    out.extend_from_slice(format!("SUB {subject} {sid}\r\n").as_bytes());
}

pub(super) fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    out.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
}

pub(super) fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\r\n");
}

pub(super) fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PONG\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<ServerOp<'_>>, Malformed> {
        let mut ops = Vec::new();
        while let Some((op, length)) = parse(bytes)? {
            ops.push(op);
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty(), "{bytes:?}");
        Ok(ops)
    }

    #[test]
    fn operations_are_read_whole_split_and_followed_by_the_next() {
        let info = ServerInfo { max_payload: 9, tls_required: true, connect_urls: vec!["a:1".into()] };
        let message = |subject, payload| ServerOp::Message { subject, sid: 12, payload };
        for (bytes, op) in [
            (&b"PING\r\n"[..], ServerOp::Ping),
            (b"pong\n", ServerOp::Pong),
            (b"+OK\r\n", ServerOp::Ok),
            (b"-ERR 'Authorization Violation'\r\n", ServerOp::Error("Authorization Violation")),
            (b"MSG a.b 12 4\r\n1\r\n2\r\n", message("a.b", b"1\r\n2")),
            (b"MSG a\t12 reply.to  0\r\n\r\n", message("a", b"")),
            (
                b"INFO {\"max_payload\":9,\"tls_required\":true,\"connect_urls\":[\"a:1\"],\"ldm\":true}\r\n",
                ServerOp::Info(Box::new(info)),
            ),
        ] {
            assert_eq!(all(bytes).as_deref(), Ok(&[op][..]));
            let both = [bytes, b"PING\r\n"].concat();
            assert_eq!(all(&both).expect("two").len(), 2);
            (0..bytes.len()).for_each(|end| assert_eq!(parse(&bytes[..end]), Ok(None), "cut at {end}"));
        }
    }

    #[test]
    fn bytes_of_no_operation_are_malformed() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        for (fault, bytes) in [
            ("an unknown verb", &b"HELLO\r\n"[..]),
            ("headers, which were not asked for", b"HMSG a 1 2 3\r\nabc\r\n"),
            ("no length", b"MSG a 1\r\n"),
            ("a sid that is no number", b"MSG a x 0\r\n\r\n"),
            ("a negative length", b"MSG a 1 -1\r\n\r\n"),
            ("a length past all memory", b"MSG a 1 18446744073709551615\r\n\r\n"),
            ("five words", b"MSG a 1 b c 0\r\n\r\n"),
            ("a payload that is longer than its length", b"MSG a 1 1\r\nabc\r\n"),
            ("INFO that is not JSON", b"INFO {\r\n"),
            ("not UTF-8", b"\xff\r\n"),
            ("no end of the line", &long),
        ] {
            assert_eq!(parse(bytes), Err(Malformed), "{fault}");
        }
    }

    #[test]
    fn client_operations_have_the_form_of_the_protocol() {
        let mut out = Vec::new();
        publish(&mut out, "a.b", b"x\r\n");
        subscribe(&mut out, "a.*", 3);
        unsubscribe(&mut out, 3);
        ping(&mut out);
        pong(&mut out);
        assert_eq!(out, b"PUB a.b 3\r\nx\r\n\r\nSUB a.* 3\r\nUNSUB 3\r\nPING\r\nPONG\r\n");
        out.clear();
        connect(&mut out, &Login::Password { user: "a\"b".into(), password: "\r\n".into() }, false);
        let line = std::str::from_utf8(&out).expect("text").strip_prefix("CONNECT ").expect("the verb");
        let options: serde_json::Value =
            serde_json::from_str(line.strip_suffix("\r\n").expect("a line")).expect("JSON");
        assert_eq!((&options["user"], &options["pass"]), (&json!("a\"b"), &json!("\r\n")));
    }
}
