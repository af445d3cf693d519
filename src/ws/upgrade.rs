//! Parses the HTTP request for a WebSocket (RFC 6455, section 4.2.1; RFC 9112) in place.
//!
//! Two passes. `scan` reads the line ends: it finds the end of the head and refuses early what an incomplete head already
//! shows: a first line that is not HTTP/1, a target or a head that is too long, a line that ends in a bare LF. Only a whole
//! head goes to `httparse`, which is strict about names, values, folding and whitespace before the colon; `judge` then checks
//! it against the RFC.
//!
//! Parsing is strict wherever two parsers could read one request differently (Host, body lengths, line ends). HTTP/1.0 is
//! accepted, since health checks of load balancers and proxies that were not told otherwise still send it. So is a list of
//! versions that has 13, and the scheme `ws` in a target: Centrifugo accepts them too.

use super::http_token::is_token;
use super::response::Refusal;
use crate::http::BodyLength;
use std::mem::MaybeUninit;

/// The largest `RequestBounds::fields_max`: the fields of a request are read on the stack.
pub const REQUEST_FIELDS_MAX: usize = 256;

/// The bounds of a request head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestBounds {
    /// The bytes of the head; a longer one is refused with 431.
    pub head_bytes_max: usize,
    /// The header fields, at most `REQUEST_FIELDS_MAX`; a request with more is refused with 431.
    pub fields_max: usize,
    /// The bytes of the target; a longer one is refused with 414.
    pub target_bytes_max: usize,
}

impl RequestBounds {
    /// What the proxies in front of a server let pass: the cookies of single sign-on, the fields of a mesh, a token in a URL.
    pub const DEFAULT: Self = Self { head_bytes_max: 32 * 1024, fields_max: 128, target_bytes_max: 8 * 1024 };
}

/// The method of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    /// As a GET, with a response that ends with its head. It opens no WebSocket.
    Head,
    /// It may open a stream, and bring commands.
    Post,
    /// A browser asks what a page of another origin may send.
    Options,
    /// Any other: it opens nothing, and its body is not read.
    Other,
}

impl Method {
    /// By the first bytes of a request, whole or not.
    pub fn of(request: &[u8]) -> Self {
        match request.strip_prefix(b"\r\n").unwrap_or(request) {
            request if request.starts_with(b"GET ") => Self::Get,
            request if request.starts_with(b"HEAD ") => Self::Head,
            request if request.starts_with(b"POST ") => Self::Post,
            request if request.starts_with(b"OPTIONS ") => Self::Options,
            _ => Self::Other,
        }
    }

    /// GET or HEAD, which have no body here.
    pub fn only_asks(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// A request with a whole, valid head.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: Method,
    /// The request target as sent.
    pub target: &'a str,
    /// The target's path, at least "/"; "" if another method has a target without one (`OPTIONS *`).
    pub path: &'a str,
    /// The part of the target after "?", or "".
    pub query: &'a str,
    /// The authority of an absolute target, else the Host field, which may be empty. "" also without the field in HTTP/1.0.
    pub host: &'a str,
    pub origin: Option<&'a str>,
    /// `None`: a plain HTTP request, such as one for `/health`.
    pub upgrade: Option<Upgrade<'a>>,
    pub body: BodyLength,
    /// HTTP/1.1, not 1.0: the client knows chunks, and the connection may serve further requests.
    pub is_http_1_1: bool,
    /// The client wants no further request on the connection.
    pub closes: bool,
    /// The client sends the body after a response with status 100.
    pub expects_continue: bool,
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
pub fn parse<'a>(bytes: &'a [u8], bounds: &RequestBounds) -> Result<Option<Request<'a>>, Refusal> {
    // RFC 9112, 2.2: a server "SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
    let blank_bytes = match bytes {
        [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let Some(head) = scan(&bytes[blank_bytes..], bounds)? else { return Ok(None) };
    let method = Method::of(head.bytes);
    let mut fields = [const { MaybeUninit::uninit() }; REQUEST_FIELDS_MAX];
    let fields = &mut fields[..bounds.fields_max.min(REQUEST_FIELDS_MAX)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head.bytes, fields) {
        Ok(httparse::Status::Complete(end)) => debug_assert_eq!(end, head.bytes.len(), "two ends of one head"),
        Ok(httparse::Status::Partial) => return Err(Refusal::BadRequest("malformed request head")),
        Err(error) => return Err(refusal(error)),
    }
    let fields = Fields(&head.bytes[head.first_line_bytes..]);
    let target = request.path.expect("httparse returns a target with every whole head");
    let http_1_1 = request.version == Some(1);
    let judged = Judged::of(request.headers)?;
    let body = judged.body.unwrap_or_default();
    if body != BodyLength::None && method.only_asks() {
        return Err(Refusal::BadRequest("a body is not taken here"));
    }
    let (path, query, authority) = match split_target(target) {
        // RFC 9112, 3.2.3 and 3.2.4: CONNECT and OPTIONS have forms without a path.
        Err(_) if !method.only_asks() => ("", "", None),
        parts => parts?,
    };
    let key = if method == Method::Get { judged.upgrade()? } else { None };
    let upgrade = key.map(|key| Upgrade { key, fields });
    let host = match judged.host {
        Some(host) => authority.unwrap_or(host),
        // RFC 9112, 3.2: a 400 "to any HTTP/1.1 request message that lacks a Host header field".
        None if http_1_1 => return Err(Refusal::BadRequest("Host is missing")),
        None => authority.unwrap_or(""),
    };
    if body == BodyLength::Chunked && !http_1_1 {
        return Err(Refusal::BadRequest("HTTP/1.0 has no Transfer-Encoding"));
    }
    Ok(Some(Request {
        method,
        target,
        path,
        query,
        host,
        origin: judged.origin,
        upgrade,
        body,
        is_http_1_1: http_1_1,
        closes: judged.closes || !http_1_1,
        expects_continue: judged.expects_continue && http_1_1,
        head_bytes: blank_bytes + head.bytes.len(),
        fields,
    }))
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
fn scan<'a>(bytes: &'a [u8], bounds: &RequestBounds) -> Result<Option<Head<'a>>, Refusal> {
    let bounded = &bytes[..bytes.len().min(bounds.head_bytes_max)];
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
            judge_first_line(&bounded[..at - 1], true, bounds)?;
        }
        let first_line_bytes = *first_line_bytes.get_or_insert(at + 1);
        if at == line_start + 1 {
            return Ok(Some(Head { bytes: &bounded[..=at], first_line_bytes }));
        }
        line_start = at + 1;
    }
    if first_line_bytes.is_none() {
        // Perhaps only the CR of the line end has arrived.
        judge_first_line(bounded.strip_suffix(b"\r").unwrap_or(bounded), false, bounds)?;
    }
    if bytes.len() >= bounds.head_bytes_max { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

/// Checks that a request line, `whole` or not, is one of HTTP/1 with a target that is not too long. Bytes that are no method
/// are refused at once: TLS, SSH and the like.
fn judge_first_line(line: &[u8], whole: bool, bounds: &RequestBounds) -> Result<(), Refusal> {
    const NOT_HTTP: Refusal = Refusal::BadRequest("not an HTTP request");
    /// No registered method is longer (UPDATEREDIRECTREF has 17).
    const METHOD_BYTES_MAX: usize = 32;
    let (method, rest) = first_word(line);
    let is_method = method == b"GET" || line.is_empty() || method.len() <= METHOD_BYTES_MAX && is_token(method);
    if !is_method || whole && rest.is_none() {
        return Err(NOT_HTTP);
    }
    let (target, version) = first_word(rest.unwrap_or_default());
    if target.len() > bounds.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    // RFC 9112, section 3.
    match version {
        _ if !whole => Ok(()),
        Some(b"HTTP/1.1" | b"HTTP/1.0") if !target.is_empty() => Ok(()),
        Some(other) if other.starts_with(b"HTTP/") && !other.contains(&b' ') && !target.is_empty() => {
            Err(Refusal::BadRequest("HTTP version is not 1.1"))
        }
        _ => Err(Refusal::BadRequest("malformed request line")),
    }
}

/// The bytes up to the first blank, and those after it.
fn first_word(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b' ', bytes) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// Path, query and, of an absolute target, the authority. RFC 9112, 3.2: a server must take both forms.
fn split_target(target: &str) -> Result<(&str, &str, Option<&str>), Refusal> {
    const BAD: Refusal = Refusal::BadRequest("malformed request target");
    let (authority, local) = if target.starts_with('/') {
        (None, target)
    } else {
        let absolute = ["http://", "https://", "ws://", "wss://"].iter().find_map(|scheme| {
            target.split_at_checked(scheme.len()).filter(|(start, _)| start.eq_ignore_ascii_case(scheme))
        });
        let (_, rest) = absolute.ok_or(BAD)?;
        let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || !is_host(authority.as_bytes()) {
            return Err(BAD);
        }
        (Some(authority), local)
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
    version_13: bool,
    upgrade_websocket: bool,
    connection_upgrade: bool,
    closes: bool,
    expects_continue: bool,
    body: Option<BodyLength>,
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
                // RFC 9112, 3.2: an empty Host stands for a target without an authority.
                let host = std::str::from_utf8(value).ok().filter(|_| value.is_empty() || is_host(value));
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
                self.closes |= lists(value, "close");
                Ok(())
            }
            14 if is("content-length") => {
                let has_one_form = value == b"0" || !value.starts_with(b"0");
                let is_number = has_one_form && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(value).ok().filter(|_| is_number);
                let bytes = text.and_then(|digits| digits.parse().ok());
                let bytes = bytes.ok_or(Refusal::BadRequest("malformed Content-Length"))?;
                self.add_body(if bytes == 0 { BodyLength::None } else { BodyLength::Bytes(bytes) })
            }
            17 if is("transfer-encoding") => match value.eq_ignore_ascii_case(b"chunked") {
                true => self.add_body(BodyLength::Chunked),
                false => Err(Refusal::BadRequest("the only transfer coding here is chunked")),
            },
            6 if is("expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            17 if is("sec-websocket-key") => once(&mut self.key, value, "more than one Sec-WebSocket-Key"),
            21 if is("sec-websocket-version") => {
                self.version_13 |= value == b"13" || lists(value, "13");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112, section 6.3: two lengths of one body are an attempt at request smuggling.
    fn add_body(&mut self, body: BodyLength) -> Result<(), Refusal> {
        match self.body.replace(body) {
            Some(before) if before != body => Err(Refusal::BadRequest("more than one length of the body")),
            _ => Ok(()),
        }
    }

    /// The key of a valid request for a WebSocket; `None` if the request is not for a WebSocket.
    fn upgrade(&self) -> Result<Option<&'a [u8; 24]>, Refusal> {
        if !self.upgrade_websocket {
            return Ok(None);
        }
        if !self.connection_upgrade {
            return Err(Refusal::BadRequest("Connection does not list Upgrade"));
        }
        // Section 4.4: refuse other versions, and name the supported one.
        if !self.version_13 {
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
