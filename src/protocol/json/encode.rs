//! Encodes replies and pushes into the buffer from which they are sent.
//!
//! A `Fields` writes the fields of an object one by one and leaves zero values out. Fields that Centrifugo always writes (a
//! client's `user` and `client`, the three fields of a history, the counts of presence) are always written here too. Cost of
//! a publication: its bytes are copied, and the payload is scanned once for line breaks.

use crate::protocol::payload::{Info, is_json};
use crate::protocol::reply::{
    ClientInfo, ConnectResult, Expiry, HistoryResult, JsonForm, Push, Reply, SubscribeResult, WirePublication,
};
use crate::protocol::tags::Tags;

/// A push without a reply around it, as unidirectional clients get it.
pub(crate) const BARE: bool = true;
/// A push as a field of a reply.
pub(crate) const IN_REPLY: bool = false;
/// The server's ping, and the client's pong.
pub(crate) const PING: &[u8] = b"{}";
/// The bytes after the entries of a presence reply.
pub(crate) const PRESENCE_TAIL: &[u8] = b"}}}";

/// Appends the reply to command `id`.
pub(crate) fn reply(out: &mut Vec<u8>, id: u32, reply: &Reply) {
    out.extend_from_slice(b"{\"id\":");
    number(out, u64::from(id));
    match reply {
        Reply::Connect(result) => body(out, "connect", |fields| connect(fields, result)),
        Reply::Subscribe(result) => body(out, "subscribe", |fields| subscribe(fields, result)),
        Reply::Unsubscribe => body(out, "unsubscribe", |_| ()),
        Reply::Publish => body(out, "publish", |_| ()),
        Reply::Presence(clients) => body(out, "presence", |fields| {
            let by_client = fields.key("presence");
            object(by_client, |by_client| {
                for info in *clients {
                    client_info(by_client.key_escaped(info.client), info);
                }
            });
        }),
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
        Reply::Error { code, message, temporary } => body(out, "error", |fields| {
            fields.number("code", u64::from(*code));
            fields.text("message", message);
            fields.flag("temporary", *temporary);
        }),
    }
    out.push(b'}');
}

/// Appends a publication. Generic over `BARE` or `IN_REPLY`.
#[inline]
pub(crate) fn publication<const IS_BARE: bool>(out: &mut Vec<u8>, channel: &str, publication: &WirePublication) {
    out.extend_from_slice(if IS_BARE { b"{\"channel\":" } else { b"{\"push\":{\"channel\":" });
    string(out, channel);
    body(out, "pub", |fields| publication_fields(fields, publication));
    out.extend_from_slice(if IS_BARE { b"}" } else { b"}}" });
}

/// Appends any other push. Generic over `BARE` or `IN_REPLY`.
pub(crate) fn push<const IS_BARE: bool>(out: &mut Vec<u8>, channel: &str, push: &Push) {
    if !IS_BARE {
        out.extend_from_slice(b"{\"push\":");
    }
    object(out, |fields| {
        fields.text("channel", channel);
        push_body(fields, push);
    });
    if !IS_BARE {
        out.push(b'}');
    }
}

fn push_body(fields: &mut Fields, push: &Push) {
    match push {
        Push::Join(info) => object(fields.key("join"), |fields| client_info(fields.key("info"), info)),
        Push::Leave(info) => object(fields.key("leave"), |fields| client_info(fields.key("info"), info)),
        Push::Unsubscribe { code, reason } => object(fields.key("unsubscribe"), |fields| {
            fields.number("code", u64::from(*code));
            fields.text("reason", reason);
        }),
        Push::Message { data } => object(fields.key("message"), |fields| fields.raw("data", data)),
        Push::Subscribe(sub) => object(fields.key("subscribe"), |fields| {
            fields.flag("recoverable", sub.recoverable);
            fields.text("epoch", sub.epoch);
            fields.number("offset", sub.offset);
            fields.flag("positioned", sub.positioned);
            fields.payload("data", sub.data);
        }),
        Push::Connect(result) => object(fields.key("connect"), |fields| connect_push(fields, result)),
        Push::Disconnect { code, reason, reconnect } => object(fields.key("disconnect"), |fields| {
            fields.number("code", u64::from(*code));
            fields.text("reason", reason);
            fields.flag("reconnect", *reconnect);
        }),
        Push::Refresh(expiry) => object(fields.key("refresh"), |fields| fields.expiry(*expiry)),
    }
}

/// Appends a further field of an open object; its value is an object.
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
    subs(fields, result);
    pings_and_names(fields, result);
}

/// The push has the same fields as the reply, in another order.
fn connect_push(fields: &mut Fields, result: &ConnectResult) {
    fields.text("client", result.client);
    fields.text("version", result.version);
    fields.raw("data", result.data);
    subs(fields, result);
    fields.expiry(result.expiry);
    pings_and_names(fields, result);
}

fn subs(fields: &mut Fields, result: &ConnectResult) {
    if !result.subs.is_empty() {
        object(fields.key("subs"), |subs| {
            for (channel, sub) in result.subs {
                object(subs.key_escaped(channel), |fields| subscribe(fields, sub));
            }
        });
    }
}

fn pings_and_names(fields: &mut Fields, result: &ConnectResult) {
    fields.number("ping", u64::from(result.ping_s));
    fields.flag("pong", result.pong);
    fields.text("session", result.session);
    fields.text("node", result.node);
    fields.number("time", result.time_ms);
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
    fields.payload("data", result.data);
    fields.flag("was_recovering", result.was_recovering);
    fields.flag("delta", result.delta);
}

fn history(fields: &mut Fields, result: &HistoryResult) {
    publications(fields.key("publications"), result.publications);
    string(fields.key("epoch"), result.epoch);
    number(fields.key("offset"), result.offset);
}

/// Appends a client to the entries of a presence reply.
pub(crate) fn presence_entry(entries: &mut Vec<u8>, info: &ClientInfo) {
    if !entries.is_empty() {
        entries.push(b',');
    }
    string(entries, info.client);
    entries.push(b':');
    client_info(entries, info);
}

/// Appends the bytes before the entries of a presence reply.
pub(crate) fn presence_head(out: &mut Vec<u8>, id: u32) {
    out.extend_from_slice(b"{\"id\":");
    number(out, u64::from(id));
    out.extend_from_slice(b",\"presence\":{\"presence\":{");
}

fn publications(out: &mut Vec<u8>, publications: &[WirePublication]) {
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
fn publication_fields(fields: &mut Fields, publication: &WirePublication) {
    match publication.json_form {
        JsonForm::Value => fields.raw("data", publication.data),
        JsonForm::Text => bytes_as_text(fields.key("data"), publication.data),
        JsonForm::Base64 => base64(fields.key("data"), publication.data),
    }
    if let Some(info) = &publication.info {
        client_info(fields.key("info"), info);
    }
    fields.number("offset", publication.offset);
    if !publication.tags.is_empty() {
        tags(fields.key("tags"), publication.tags);
    }
    fields.flag("delta", publication.delta);
    fields.number("time", publication.time_ms);
    fields.text("channel", publication.channel);
    fields.text("epoch", publication.epoch);
    fields.number("version", publication.version);
}

#[inline(never)] // most publications have none
fn tags(out: &mut Vec<u8>, tags: Tags) {
    object(out, |fields| {
        for (key, value) in tags.iter() {
            string(fields.key_escaped(key), value);
        }
    });
}

fn client_info(out: &mut Vec<u8>, info: &ClientInfo) {
    object(out, |fields| {
        string(fields.key("user"), info.user);
        string(fields.key("client"), info.client);
        fields.info("conn_info", info.conn_info);
        fields.info("chan_info", info.chan_info);
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

    /// A payload that may be no JSON. Cost: it is read once more than `raw`.
    fn payload(&mut self, name: &str, value: &[u8]) {
        match value {
            [] => {}
            json if is_json(json) => raw(self.key(name), json),
            bytes => base64(self.key(name), bytes),
        }
    }

    /// An info in the form of `kept_info`.
    #[inline]
    fn info(&mut self, name: &str, kept: &[u8]) {
        if !kept.is_empty() {
            match Info::of(kept) {
                Info::Json(json) => raw(self.key(name), json),
                Info::Bytes(bytes) => base64(self.key(name), bytes),
            }
        }
    }

    fn expiry(&mut self, Expiry(ttl_s): Expiry) {
        self.flag("expires", ttl_s.is_some());
        self.number("ttl", u64::from(ttl_s.unwrap_or(0)));
    }
}

/// Appends a JSON value. A line break in it is whitespace between tokens (RFC 8259, section 2) and becomes a space.
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

/// Appends a string with only the escapes that RFC 8259, section 7 requires.
#[inline]
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

#[inline]
fn escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends bytes as a string. Each byte that is not UTF-8 becomes U+FFFD, as in Centrifugo.
#[inline(never)]
fn bytes_as_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return string(out, text);
    }
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        escaped(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

#[inline(never)]
fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + data_encoding::BASE64.encode_len(bytes.len()), 0);
    data_encoding::BASE64.encode_mut(bytes, &mut out[start..]);
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
