//! Parses the HTTP request for a WebSocket (RFC 6455, section 4.2.1; RFC 9112) in place.
//!
//! Two passes. `scan` reads the line ends: it finds the end of the head and refuses early what an incomplete head already
//! shows: a first line that is not a GET, a target or a head that is too long, a line that ends in a bare LF. Only a whole
//! head goes to `httparse`, which is strict about names, values, folding and whitespace before the colon; `judge` then checks
//! it against the RFC.
//!
//! Parsing is strict wherever two parsers could read one request differently (Host, body lengths, line ends). Plain HTTP/1.0
//! GETs are accepted, since health checks of load balancers still send them.

use super::http_token::is_token;
use super::response::Refusal;
use std::mem::MaybeUninit;

/// The bytes of a request head; a longer one is refused with 431.
pub const UPGRADE_BYTES_MAX: usize = 8 * 1024;
/// The header fields of a request; a request with more is refused with 431.
pub const UPGRADE_HEADERS_MAX: usize = 64;
/// The bytes of a request target; a longer one is refused with 414.
pub const UPGRADE_TARGET_BYTES_MAX: usize = 2 * 1024;

const _: () = assert!(UPGRADE_TARGET_BYTES_MAX < UPGRADE_BYTES_MAX);

/// A GET with a whole, valid head.
#[derive(Debug)]
pub struct Request<'a> {
    /// The request target as sent.
    pub target: &'a str,
    /// The target's path, at least "/".
    pub path: &'a str,
    /// The part of the target after "?", or "".
    pub query: &'a str,
    /// The authority of an absolute target, else the Host field. "" only for a plain HTTP/1.0 request.
    pub host: &'a str,
    pub origin: Option<&'a str>,
    /// `None`: a plain HTTP request, such as one for `/health`.
    pub upgrade: Option<Upgrade<'a>>,
    /// The bytes of the head; the bytes after it belong to the WebSocket.
    pub head_bytes: usize,
    fields: Fields<'a>,
}

/// A valid request for a WebSocket of version 13.
#[derive(Debug)]
pub struct Upgrade<'a> {
    pub key: &'a [u8; 24],
    fields: Fields<'a>,
}

impl<'a> Request<'a> {
    /// The values of all fields of this name, in order. Reads the head again: not for hot paths.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.values(name)
    }
}

impl<'a> Upgrade<'a> {
    /// The subprotocols that the client offers, in its order of preference. Elements that are not tokens are skipped.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.fields
            .values("sec-websocket-protocol")
            .flat_map(elements)
            .filter(|element| is_token(element))
            .filter_map(|element| std::str::from_utf8(element).ok())
    }
}

/// The field lines of a valid head.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn values(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'\n').filter_map(move |line| {
            let colon = memchr::memchr(b':', line)?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }
}

/// Parses the request at the start of `bytes`; `Ok(None)`: valid so far, but not whole. Does not allocate.
pub fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    // RFC 9112, 2.2: a server "SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
    let blank_bytes = match bytes {
        [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let Some(head) = scan(&bytes[blank_bytes..])? else { return Ok(None) };
    let mut fields = [const { MaybeUninit::uninit() }; UPGRADE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head.bytes, &mut fields) {
        Ok(httparse::Status::Complete(end)) => debug_assert_eq!(end, head.bytes.len(), "two ends of one head"),
        Ok(httparse::Status::Partial) => return Err(Refusal::BadRequest("malformed request head")),
        Err(error) => return Err(refusal(error)),
    }
    let fields = Fields(&head.bytes[head.first_line_bytes..]);
    let target = request.path.expect("httparse returns a target with every whole head");
    let http_1_1 = request.version == Some(1);
    let judged = Judged::of(request.headers)?;
    let (path, query, authority) = split_target(target)?;
    let upgrade = judged.upgrade(http_1_1)?.map(|key| Upgrade { key, fields });
    let host = match judged.host {
        Some(host) => authority.unwrap_or(host),
        // RFC 9112, 3.2: a 400 "to any HTTP/1.1 request message that lacks a Host header field".
        None if http_1_1 => return Err(Refusal::BadRequest("Host is missing")),
        None => authority.unwrap_or(""),
    };
    let head_bytes = blank_bytes + head.bytes.len();
    Ok(Some(Request { target, path, query, host, origin: judged.origin, upgrade, head_bytes, fields }))
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version => Refusal::BadRequest("HTTP version is not 1.1"),
        httparse::Error::Token => Refusal::BadRequest("malformed request line"),
        httparse::Error::NewLine => Refusal::BadRequest("malformed line end"),
        _ => Refusal::BadRequest("malformed header field"),
    }
}

/// A whole head: from the request line to the empty line.
struct Head<'a> {
    bytes: &'a [u8],
    first_line_bytes: usize,
}

/// Finds the end of the head, and refuses heads that no further byte can make valid.
fn scan(bytes: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
    let bounded = &bytes[..bytes.len().min(UPGRADE_BYTES_MAX)];
    let mut first_line_bytes = None;
    let mut line_start = 0;
    for at in memchr::memchr_iter(b'\n', bounded) {
        // RFC 9112, 2.2: a recipient may accept a bare LF as a line end. Two servers that differ in this allow request smuggling.
        if at == line_start || bounded[at - 1] != b'\r' {
            return Err(Refusal::BadRequest("line does not end in CRLF"));
        }
        if at == 1 {
            return Err(Refusal::BadRequest("not an HTTP request"));
        }
        if first_line_bytes.is_none() {
            judge_first_line(&bounded[..at - 1], true)?;
        }
        let first_line_bytes = *first_line_bytes.get_or_insert(at + 1);
        if at == line_start + 1 {
            return Ok(Some(Head { bytes: &bounded[..=at], first_line_bytes }));
        }
        line_start = at + 1;
    }
    if first_line_bytes.is_none() {
        // Perhaps only the CR of the line end has arrived.
        judge_first_line(bounded.strip_suffix(b"\r").unwrap_or(bounded), false)?;
    }
    if bytes.len() >= UPGRADE_BYTES_MAX { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

/// Checks that a request line, `whole` or not, is a GET with a target that is not too long.
fn judge_first_line(line: &[u8], whole: bool) -> Result<(), Refusal> {
    const GET: &[u8] = b"GET ";
    /// No registered method is longer (UPDATEREDIRECTREF has 17).
    const METHOD_BYTES_MAX: usize = 32;
    let Some(rest) = line.strip_prefix(GET) else {
        if GET.starts_with(line) && !whole {
            return Ok(());
        }
        let method = &line[..memchr::memchr(b' ', line).unwrap_or(line.len())];
        return match method {
            _ if !is_token(method) || whole && method.len() == line.len() => {
                Err(Refusal::BadRequest("not an HTTP request"))
            }
            _ if method.len() < line.len() || method.len() > METHOD_BYTES_MAX => Err(Refusal::MethodNotAllowed),
            _ => Ok(()),
        };
    };
    let target = &rest[..memchr::memchr(b' ', rest).unwrap_or(rest.len())];
    if target.len() > UPGRADE_TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    Ok(())
}

/// Path, query and, of an absolute target, the authority. RFC 9112, 3.2: a server must take both forms.
fn split_target(target: &str) -> Result<(&str, &str, Option<&str>), Refusal> {
    const BAD: Refusal = Refusal::BadRequest("malformed request target");
    let absolute = ["http://", "https://"].iter().find_map(|scheme| {
        target.split_at_checked(scheme.len()).filter(|(start, _)| start.eq_ignore_ascii_case(scheme))
    });
    let (authority, local) = match absolute {
        Some((_, rest)) => {
            let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if authority.is_empty() || !is_host(authority.as_bytes()) {
                return Err(BAD);
            }
            (Some(authority), local)
        }
        None if target.starts_with('/') => (None, target),
        None => return Err(BAD),
    };
    // RFC 6455, section 3: "fragment identifiers ... MUST NOT be used on these URIs".
    if local.contains('#') {
        return Err(BAD);
    }
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    Ok((if path.is_empty() { "/" } else { path }, query, authority))
}

/// The fields that the upgrade needs. Those that the RFCs do not allow to repeat occur at most once.
#[derive(Default)]
struct Judged<'a> {
    host: Option<&'a str>,
    origin: Option<&'a str>,
    key: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    upgrade_websocket: bool,
    connection_upgrade: bool,
}

impl<'a> Judged<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut judged = Self::default();
        fields.iter().try_for_each(|field| judged.add(field.name, field.value.trim_ascii()))?;
        Ok(judged)
    }

    fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => {
                let host = std::str::from_utf8(value).ok().filter(|_| is_host(value));
                let host = host.ok_or(Refusal::BadRequest("malformed Host"))?;
                once(&mut self.host, host, "more than one Host")
            }
            6 if is("origin") => {
                let origin = std::str::from_utf8(value).map_err(|_| Refusal::BadRequest("malformed Origin"))?;
                once(&mut self.origin, origin, "more than one Origin")
            }
            7 if is("upgrade") => {
                self.upgrade_websocket |= lists(value, "websocket");
                Ok(())
            }
            10 if is("connection") => {
                self.connection_upgrade |= lists(value, "upgrade");
                Ok(())
            }
            14 if is("content-length") && value != b"0" => Err(Refusal::BadRequest("a body is not taken here")),
            17 if is("transfer-encoding") => Err(Refusal::BadRequest("a body is not taken here")),
            17 if is("sec-websocket-key") => once(&mut self.key, value, "more than one Sec-WebSocket-Key"),
            21 if is("sec-websocket-version") => once(&mut self.version, value, "more than one Sec-WebSocket-Version"),
            _ => Ok(()),
        }
    }

    /// The key of a valid request for a WebSocket; `None` if the request is not for a WebSocket.
    fn upgrade(&self, http_1_1: bool) -> Result<Option<&'a [u8; 24]>, Refusal> {
        if !self.upgrade_websocket {
            return Ok(None);
        }
        // Section 4.2.1: "an HTTP/1.1 or higher GET request".
        if !http_1_1 {
            return Err(Refusal::BadRequest("a WebSocket needs HTTP/1.1"));
        }
        if !self.connection_upgrade {
            return Err(Refusal::BadRequest("Connection does not list Upgrade"));
        }
        // Section 4.4: refuse other versions, and name the supported one.
        if self.version != Some(b"13") {
            return Err(Refusal::UpgradeRequired);
        }
        let key = self.key.ok_or(Refusal::BadRequest("Sec-WebSocket-Key is missing"))?;
        match <&[u8; 24]>::try_from(key) {
            Ok(key) if is_key(key) => Ok(Some(key)),
            _ => Err(Refusal::BadRequest("Sec-WebSocket-Key is not 16 bytes in base64")),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, otherwise: &'static str) -> Result<(), Refusal> {
    if place.replace(value).is_some() { Err(Refusal::BadRequest(otherwise)) } else { Ok(()) }
}

/// The elements of a comma-separated list; empty ones are skipped (RFC 9110, 5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn lists(value: &[u8], token: &str) -> bool {
    elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The characters of `uri-host [":" port]` (RFC 9110, 7.2), not its grammar.
fn is_host(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

/// The base64 of 16 bytes: 22 characters of the alphabet and two of padding.
fn is_key(key: &[u8; 24]) -> bool {
    let (digits, padding) = key.split_at(22);
    padding == b"==" && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
