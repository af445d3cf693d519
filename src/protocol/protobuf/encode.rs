//! Encodes replies and pushes as fields.
//!
//! A push is a field of a reply, and its body is a field of the push. The numbers of both are only in this file.

use super::sink::{Message, Sink, append};
use crate::protocol::payload::Info;
use crate::protocol::reply::{
    ClientInfo, ConnectResult, Expiry, HistoryResult, Push, Reply, SubscribePush, SubscribeResult, WirePublication,
};
use crate::protocol::tags::Tags;

/// The field of a reply that holds its push.
const PUSH: u32 = 4;

/// Appends the reply to command `id`.
pub(crate) fn reply(out: &mut Vec<u8>, id: u32, reply: &Reply) {
    append(out, &Identified { id, reply });
}

/// Appends a publication.
pub(crate) fn publication(out: &mut Vec<u8>, channel: &str, publication: &WirePublication) {
    append(out, &Pushed(Channelled { channel, body: Published(publication) }));
}

/// Appends any other push.
pub(crate) fn push(out: &mut Vec<u8>, channel: &str, push: &Push) {
    append(out, &Pushed(Channelled { channel, body: push }));
}

/// Appends a client to the entries of a presence reply.
pub(crate) fn presence_entry(entries: &mut Vec<u8>, info: &ClientInfo) {
    entries.message(1, &Entry(info.client, info));
}

/// Appends the bytes before the entries of a presence reply.
pub(crate) fn presence_head(out: &mut Vec<u8>, id: u32, entries_bytes: usize) {
    let mut head = Vec::with_capacity(16);
    head.number(1, u64::from(id));
    head.key(9, 2);
    head.varint(entries_bytes as u64);
    out.varint((head.len() + entries_bytes) as u64);
    out.raw(&head);
}

struct Identified<'a> {
    id: u32,
    reply: &'a Reply<'a>,
}

impl Message for Identified<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.number(1, u64::from(self.id));
        match self.reply {
            Reply::Error { code, message, temporary } => sink.message(2, &ErrorFields(*code, message, *temporary)),
            Reply::Connect(result) => sink.message(5, result),
            Reply::Subscribe(result) => sink.message(6, result),
            Reply::Unsubscribe => sink.message(7, &Nothing),
            Reply::Publish => sink.message(8, &Nothing),
            Reply::Presence(clients) => sink.message(9, &Clients(clients)),
            Reply::PresenceStats { num_clients, num_users } => sink.message(10, &Counts(*num_clients, *num_users)),
            Reply::History(result) => sink.message(11, result),
            Reply::Rpc { data } => sink.message(13, &Data(data)),
            Reply::Refresh { client, version, expiry } => sink.message(14, &Refreshed(client, version, *expiry)),
            Reply::SubRefresh(expiry) => sink.message(15, expiry),
        }
    }
}

struct Pushed<M>(M);

impl<M: Message> Message for Pushed<M> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.message(PUSH, &self.0);
    }
}

struct Channelled<'a, M> {
    channel: &'a str,
    body: M,
}

impl<M: Message> Message for Channelled<'_, M> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(2, self.channel);
        self.body.fields(sink);
    }
}

struct Published<'a>(&'a WirePublication<'a>);

impl Message for Published<'_> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.message(4, self.0);
    }
}

/// The body of a push is one field.
impl Message for &Push<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        match self {
            Push::Join(info) => sink.message(5, &InfoField(info)),
            Push::Leave(info) => sink.message(6, &InfoField(info)),
            Push::Unsubscribe { code, reason } => sink.message(7, &CodeAndReason { first: 2, code: *code, reason }),
            Push::Message { data } => sink.message(8, &Data(data)),
            Push::Subscribe(sub) => sink.message(9, sub),
            Push::Connect(result) => sink.message(10, &Connected(result)),
            Push::Disconnect { code, reason, reconnect } => {
                sink.message(11, &Disconnected(CodeAndReason { first: 1, code: *code, reason }, *reconnect));
            }
            Push::Refresh(expiry) => sink.message(12, expiry),
        }
    }
}

impl Message for ConnectResult<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(1, self.client);
        sink.text(2, self.version);
        expiry(sink, 3, self.expiry);
        sink.bytes(5, self.data);
        subs(sink, 6, self.subs);
        pings_and_names(sink, self);
    }
}

/// The push has the same fields as the reply, with other numbers.
struct Connected<'a>(&'a ConnectResult<'a>);

impl Message for Connected<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Self(result) = self;
        sink.text(1, result.client);
        sink.text(2, result.version);
        sink.bytes(3, result.data);
        subs(sink, 4, result.subs);
        expiry(sink, 5, result.expiry);
        pings_and_names(sink, result);
    }
}

fn subs<S: Sink>(sink: &mut S, tag: u32, subs: &[(&str, SubscribeResult)]) {
    for (channel, sub) in subs {
        sink.message(tag, &Entry(channel, sub));
    }
}

fn pings_and_names<S: Sink>(sink: &mut S, result: &ConnectResult) {
    sink.number(7, u64::from(result.ping_s));
    sink.flag(8, result.pong);
    sink.text(9, result.session);
    sink.text(10, result.node);
    sink.number(11, result.time_ms);
}

impl Message for SubscribeResult<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        expiry(sink, 1, self.expiry);
        sink.flag(3, self.recoverable);
        sink.text(6, self.epoch);
        for publication in self.publications {
            sink.message(7, publication);
        }
        sink.flag(8, self.recovered);
        sink.number(9, self.offset);
        sink.flag(10, self.positioned);
        sink.bytes(11, self.data);
        sink.flag(12, self.was_recovering);
        sink.flag(13, self.delta);
    }
}

impl Message for SubscribePush<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.flag(1, self.recoverable);
        sink.text(4, self.epoch);
        sink.number(5, self.offset);
        sink.flag(6, self.positioned);
        sink.bytes(7, self.data);
    }
}

impl Message for HistoryResult<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        for publication in self.publications {
            sink.message(1, publication);
        }
        sink.text(2, self.epoch);
        sink.number(3, self.offset);
    }
}

impl Message for WirePublication<'_> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.bytes(4, self.data);
        if let Some(info) = &self.info {
            sink.message(5, info);
        }
        sink.number(6, self.offset);
        tags(sink, self.tags);
        sink.flag(8, self.delta);
        sink.number(9, self.time_ms);
        sink.text(10, self.channel);
        sink.text(14, self.epoch);
        sink.number(16, self.version);
    }
}

fn tags<S: Sink>(sink: &mut S, tags: Tags) {
    for (key, value) in tags.iter() {
        sink.message(7, &Tag(key, value));
    }
}

impl Message for ClientInfo<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(1, self.user);
        sink.text(2, self.client);
        sink.bytes(3, Info::of(self.conn_info).bytes());
        sink.bytes(4, Info::of(self.chan_info).bytes());
    }
}

/// By itself, or at the head of another message.
impl Message for Expiry {
    fn fields<S: Sink>(&self, sink: &mut S) {
        expiry(sink, 1, *self);
    }
}

fn expiry<S: Sink>(sink: &mut S, first: u32, Expiry(ttl_s): Expiry) {
    sink.flag(first, ttl_s.is_some());
    sink.number(first + 1, u64::from(ttl_s.unwrap_or(0)));
}

struct Nothing;

impl Message for Nothing {
    fn fields<S: Sink>(&self, _: &mut S) {}
}

struct Data<'a>(&'a [u8]);

impl Message for Data<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.bytes(1, self.0);
    }
}

struct ErrorFields<'a>(u32, &'a str, bool);

impl Message for ErrorFields<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.number(1, u64::from(self.0));
        sink.text(2, self.1);
        sink.flag(3, self.2);
    }
}

struct Counts(u32, u32);

impl Message for Counts {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.number(1, u64::from(self.0));
        sink.number(2, u64::from(self.1));
    }
}

struct Refreshed<'a>(&'a str, &'a str, Expiry);

impl Message for Refreshed<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(1, self.0);
        sink.text(2, self.1);
        expiry(sink, 3, self.2);
    }
}

struct InfoField<'a>(&'a ClientInfo<'a>);

impl Message for InfoField<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.message(1, self.0);
    }
}

/// A code and a reason, in this field and the next.
struct CodeAndReason<'a> {
    first: u32,
    code: u32,
    reason: &'a str,
}

impl Message for CodeAndReason<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.number(self.first, u64::from(self.code));
        sink.text(self.first + 1, self.reason);
    }
}

struct Disconnected<'a>(CodeAndReason<'a>, bool);

impl Message for Disconnected<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        self.0.fields(sink);
        sink.flag(3, self.1);
    }
}

struct Clients<'a>(&'a [ClientInfo<'a>]);

impl Message for Clients<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        for info in self.0 {
            sink.message(1, &Entry(info.client, info));
        }
    }
}

/// An entry of a map. Both fields are always written.
struct Entry<'a, M>(&'a str, &'a M);

impl<M: Message> Message for Entry<'_, M> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.delimited(1, self.0.as_bytes());
        sink.message(2, self.1);
    }
}

struct Tag<'a>(&'a str, &'a str);

impl Message for Tag<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.delimited(1, self.0.as_bytes());
        sink.delimited(2, self.1.as_bytes());
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
