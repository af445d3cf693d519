//! Replies and pushes out, straight into the buffer they leave from.
//!
//! Plan: a `Fields` writes an object's fields one by one and leaves zero values out; what other servers of this
//! protocol always write (a client's `user` and `client`, the three fields of a history, the counts of presence) is
//! always written here too. Cost of a publication: its bytes copied, one scan of the payload for line breaks.

use crate::protocol::reply::{ClientInfo, ConnectResult, Expiry, HistoryResult, Publication, Reply, SubscribeResult};

/// The server's ping, and the client's pong.
pub const PING: &[u8] = b"{}";

/// Appends the reply to command `id`.
pub fn reply(out: &mut Vec<u8>, id: u32, reply: &Reply) {
    out.extend_from_slice(b"{\"id\":");
    number(out, u64::from(id));
    match reply {
        Reply::Connect(result) => body(out, "connect", |fields| connect(fields, result)),
        Reply::Subscribe(result) => body(out, "subscribe", |fields| subscribe(fields, result)),
        Reply::Unsubscribe => body(out, "unsubscribe", |_| ()),
        Reply::Publish => body(out, "publish", |_| ()),
        Reply::Presence(clients) => body(out, "presence", |fields| presence(fields, clients)),
        Reply::PresenceStats { num_clients, num_users } => body(out, "presence_stats", |fields| {
            number(fields.key("num_clients"), u64::from(*num_clients));
            number(fields.key("num_users"), u64::from(*num_users));
        }),
        Reply::History(result) => body(out, "history", |fields| history(fields, result)),
        Reply::Rpc { data } => body(out, "rpc", |fields| fields.raw("data", data)),
        Reply::Refresh { client, version, expiry } => body(out, "refresh", |fields| {
            fields.text("client", client);
            fields.text("version", version);
            fields.expiry(*expiry);
        }),
        Reply::SubRefresh(expiry) => body(out, "sub_refresh", |fields| fields.expiry(*expiry)),
        Reply::Error(error) => body(out, "error", |fields| {
            fields.number("code", u64::from(error.code()));
            fields.text("message", error.message());
            fields.flag("temporary", error.is_temporary());
        }),
    }
    out.push(b'}');
}

/// Appends a publication of `channel`.
pub fn publication(out: &mut Vec<u8>, channel: &str, publication: &Publication) {
    push(out, channel, "pub", |fields| publication_fields(fields, publication));
}

/// Appends the notice that the server ended a subscription.
pub fn unsubscribe_push(out: &mut Vec<u8>, channel: &str, code: u32, reason: &str) {
    push(out, channel, "unsubscribe", |fields| {
        fields.number("code", u64::from(code));
        fields.text("reason", reason);
    });
}

#[inline]
fn push(out: &mut Vec<u8>, channel: &str, name: &str, write: impl FnOnce(&mut Fields)) {
    out.extend_from_slice(b"{\"push\":{\"channel\":");
    string(out, channel);
    body(out, name, write);
    out.extend_from_slice(b"}}");
}

/// A further field of an open object, itself an object.
#[inline]
fn body(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Fields)) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    object(out, write);
}

fn connect(fields: &mut Fields, result: &ConnectResult) {
    fields.text("client", result.client);
    fields.text("version", result.version);
    fields.expiry(result.expiry);
    fields.raw("data", result.data);
    if !result.subs.is_empty() {
        object(fields.key("subs"), |subs| {
            for (channel, sub) in result.subs {
                object(subs.key_escaped(channel), |fields| subscribe(fields, sub));
            }
        });
    }
    fields.number("ping", u64::from(result.ping_s));
    fields.flag("pong", result.pong);
}

fn subscribe(fields: &mut Fields, result: &SubscribeResult) {
    fields.expiry(result.expiry);
    fields.flag("recoverable", result.recoverable);
    fields.text("epoch", result.epoch);
    if !result.publications.is_empty() {
        publications(fields.key("publications"), result.publications);
    }
    fields.flag("recovered", result.recovered);
    fields.number("offset", result.offset);
    fields.flag("positioned", result.positioned);
    fields.raw("data", result.data);
    fields.flag("was_recovering", result.was_recovering);
    fields.flag("delta", result.delta);
}

fn history(fields: &mut Fields, result: &HistoryResult) {
    publications(fields.key("publications"), result.publications);
    string(fields.key("epoch"), result.epoch);
    number(fields.key("offset"), result.offset);
}

fn presence(fields: &mut Fields, clients: &[ClientInfo]) {
    object(fields.key("presence"), |by_client| {
        for info in clients {
            client_info(by_client.key_escaped(info.client), info);
        }
    });
}

fn publications(out: &mut Vec<u8>, publications: &[Publication]) {
    out.push(b'[');
    for (index, publication) in publications.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        object(out, |fields| publication_fields(fields, publication));
    }
    out.push(b']');
}

#[inline]
fn publication_fields(fields: &mut Fields, publication: &Publication) {
    fields.raw("data", publication.data);
    if let Some(info) = &publication.info {
        client_info(fields.key("info"), info);
    }
    fields.number("offset", publication.offset);
}

fn client_info(out: &mut Vec<u8>, info: &ClientInfo) {
    object(out, |fields| {
        string(fields.key("user"), info.user);
        string(fields.key("client"), info.client);
        fields.raw("conn_info", info.conn_info);
        fields.raw("chan_info", info.chan_info);
    });
}

#[inline]
fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields)) {
    out.push(b'{');
    write(&mut Fields { out, any: false });
    out.push(b'}');
}

/// The fields of one object.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

impl Fields<'_> {
    /// Begins a field whose name needs no escapes. The caller writes the value.
    #[inline]
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn key_escaped(&mut self, name: &str) -> &mut Vec<u8> {
        self.comma();
        string(self.out, name);
        self.out.push(b':');
        self.out
    }

    #[inline]
    fn comma(&mut self) {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(b',');
        }
    }

    #[inline]
    fn number(&mut self, name: &str, value: u64) {
        if value != 0 {
            number(self.key(name), value);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.key(name).extend_from_slice(b"true");
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            string(self.key(name), value);
        }
    }

    #[inline]
    fn raw(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            raw(self.key(name), value);
        }
    }

    fn expiry(&mut self, Expiry(ttl_s): Expiry) {
        self.flag("expires", ttl_s.is_some());
        self.number("ttl", u64::from(ttl_s.unwrap_or(0)));
    }
}

/// A JSON value as it is. A line break in it is whitespace between tokens (RFC 8259, section 2), so a blank serves as well.
#[inline]
fn raw(out: &mut Vec<u8>, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(value);
    let mut rest = &mut out[start..];
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

/// A string with the escapes that RFC 8259, section 7, asks for, and no others.
#[inline]
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
        }
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
