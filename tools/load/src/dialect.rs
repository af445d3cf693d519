//! What is said to the server: the message protocol's JSON, or frames that the user gives.
//!
//! Plan: a greeting per connection, a template per channel around the payload, and notes on what the server says besides
//! publications. The message protocol sends one frame with `connect` and `subscribe`, as the usual clients do.

use crate::frame::Fault;
use crate::payload::{self, Stamp};
use crate::token::Tokens;
use serde_json::Value;
use std::sync::Arc;

/// The id of `connect`, and of `subscribe` behind it.
pub const CONNECT_ID: u64 = 1;
pub const SUBSCRIBE_ID: u64 = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    #[default]
    /// Commands and replies in JSON: connect, subscribe, publish, ping and pong.
    Centrifuge,
    /// Frames as they are: whoever is connected is a subscriber, and a frame that is sent is published.
    Plain,
}

/// What a publication's data is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    #[default]
    /// A string of letters.
    Text,
    /// An object as services send them: fields, numbers, words, names that come again.
    Json,
}

#[derive(Clone, Debug, Default)]
pub struct Dialect {
    pub protocol: Protocol,
    /// Message protocol: every connection is a user of its own and brings a token.
    pub tokens: Option<Arc<Tokens>>,
    /// Message protocol: subscriptions ask for a position, which makes them recoverable.
    pub positioned: bool,
    /// Sent after the upgrade by a subscriber; `{channel}` stands for its channel.
    pub hello: Option<String>,
    /// A publication's frame; `{channel}` and `{payload}` stand for what they say.
    pub template: Option<String>,
    /// What the data is; with `Json` the message protocol's is an object.
    pub shape: Shape,
    /// Bytes of the data: with the message protocol a JSON string, its two quotes among them.
    pub size: usize,
}

/// A place in a channel's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    pub epoch: String,
    pub offset: u64,
}

/// Something that the server said and that is no publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Ping,
    Reply(u64),
    Error(u64, String),
    Other,
}

impl Dialect {
    pub fn is_centrifuge(&self) -> bool {
        self.protocol == Protocol::Centrifuge
    }

    /// The first message of connection `number`: of a subscriber to `channel`, or of a publisher.
    pub fn greeting(&self, number: usize, channel: Option<&str>) -> Option<String> {
        if !self.is_centrifuge() {
            return Some(self.hello.as_ref()?.replace("{channel}", channel?));
        }
        let connect = self.connect(number);
        Some(match channel {
            None => connect,
            Some(name) => format!("{connect}\n{}", self.subscribe(number, SUBSCRIBE_ID, name, None)),
        })
    }

    /// The first message of one who was here before and knows where it left `channel`.
    pub fn returning(&self, number: usize, channel: &str, since: &Since) -> String {
        format!("{}\n{}", self.connect(number), self.subscribe(number, SUBSCRIBE_ID, channel, Some(since)))
    }

    fn connect(&self, number: usize) -> String {
        match &self.tokens {
            None => format!(r#"{{"id":{CONNECT_ID},"connect":{{"name":"load"}}}}"#),
            Some(tokens) => {
                let token = tokens.connection(number);
                format!(r#"{{"id":{CONNECT_ID},"connect":{{"token":"{token}","name":"load"}}}}"#)
            }
        }
    }

    /// The command `id`, by which connection `number` subscribes.
    pub fn subscribe(&self, number: usize, id: u64, channel: &str, since: Option<&Since>) -> String {
        let mut request = format!(r#"{{"id":{id},"subscribe":{{"channel":{}"#, Value::from(channel));
        if let Some(token) = self.tokens.as_ref().and_then(|tokens| tokens.subscription(number, channel)) {
            request += &format!(r#","token":"{token}""#);
        }
        if self.positioned {
            request += r#","positioned":true,"recoverable":true"#;
        }
        if let Some(Since { epoch, offset }) = since {
            request += &format!(r#","recover":true,"epoch":{},"offset":{offset}"#, Value::from(epoch.as_str()));
        }
        request + "}}"
    }

    /// The id of the reply that makes a connection ready; None if the upgrade is enough.
    pub fn ready_by(&self, subscriber: bool) -> Option<u64> {
        self.is_centrifuge().then_some(if subscriber { SUBSCRIBE_ID } else { CONNECT_ID })
    }

    /// What stands before and after a publication's payload on `channel`, with `{id}` still in it.
    pub fn around(&self, channel: &str) -> (String, String) {
        let data = match (self.shape, self.protocol) {
            (Shape::Json, _) => payload::json("{payload}", self.size),
            (Shape::Text, Protocol::Plain) => "{payload}".into(),
            (Shape::Text, Protocol::Centrifuge) => "\"{payload}\"".into(),
        };
        let template = match (&self.template, self.protocol) {
            (Some(own), _) => own.replace("{channel}", channel),
            (None, Protocol::Plain) => data,
            (None, Protocol::Centrifuge) => {
                let name = Value::from(channel);
                format!(r#"{{"id":{{id}},"publish":{{"channel":{name},"data":{data}}}}}"#)
            }
        };
        let (before, after) = template.split_once("{payload}").unwrap_or((&template, ""));
        (before.to_string(), after.to_string())
    }

    /// Bytes of the payload proper.
    pub fn payload_bytes(&self) -> usize {
        match self.shape {
            Shape::Json => payload::BYTES_MIN,
            Shape::Text if self.is_centrifuge() => self.size - 2,
            Shape::Text => self.size,
        }
    }

    /// The least `--size` that has room for a stamp.
    pub fn size_min(&self) -> usize {
        match self.shape {
            Shape::Json => payload::JSON_BYTES_MIN,
            Shape::Text => payload::BYTES_MIN + if self.is_centrifuge() { 2 } else { 0 },
        }
    }
}

/// Builds a publication's message into `out`.
pub fn publication(out: &mut Vec<u8>, around: &(String, String), id: u64, stamp: Stamp, time: u64, size: usize) {
    match around.0.split_once("{id}") {
        Some((left, right)) => {
            out.extend_from_slice(left.as_bytes());
            out.extend_from_slice(id.to_string().as_bytes());
            out.extend_from_slice(right.as_bytes());
        }
        None => out.extend_from_slice(around.0.as_bytes()),
    }
    payload::put(out, stamp, time, size);
    out.extend_from_slice(around.1.as_bytes());
}

/// Reads a message of the message protocol, which may hold several replies, one per line.
pub fn notes(message: &[u8]) -> Result<Vec<Note>, Fault> {
    let note = |line: &[u8]| {
        if line == b"{}" {
            return Ok(Note::Ping);
        }
        let value = reply(line)?;
        let Some(id) = value.get("id").and_then(Value::as_u64) else { return Ok(Note::Other) };
        Ok(value.get("error").map_or(Note::Reply(id), |error| Note::Error(id, error.to_string())))
    };
    lines(message).map(note).collect()
}

/// The replies of a message, a ping being `{}`.
pub fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

/// One reply, read.
pub fn reply(line: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(line)
        .map_err(|_| Fault::Answer(format!("unreadable reply: {}", String::from_utf8_lossy(line))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(protocol: Protocol) -> Dialect {
        Dialect { protocol, size: 64, ..Dialect::default() }
    }

    #[test]
    fn commands_are_json_that_says_what_was_meant() {
        let dialect = dialect(Protocol::Centrifuge);
        let greeting = dialect.greeting(0, Some("a\"b")).unwrap();
        let lines: Vec<Value> = greeting.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["id"], 1);
        assert!(lines[0]["connect"].is_object());
        assert_eq!(lines[1]["subscribe"]["channel"], "a\"b");
        let stamp = Stamp { seq: 5, channel: 0, publisher: 1, slot: 9 };
        let mut out = Vec::new();
        publication(&mut out, &dialect.around("news"), 77, stamp, 1, dialect.payload_bytes());
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&value["id"], &value["publish"]["channel"]), (&Value::from(77), &Value::from("news")));
        let data = value["publish"]["data"].to_string();
        assert_eq!(data.len(), 64);
        assert!(data.starts_with("\"~cl~00000005"));
    }

    #[test]
    fn one_who_returns_says_where_it_was_and_who_it_is() {
        let tokens = Some(Arc::new(Tokens::new("secret", 8, 20, 1, true)));
        let dialect = Dialect { tokens, positioned: true, ..dialect(Protocol::Centrifuge) };
        let message = dialect.returning(7, "news", &Since { epoch: "ab".into(), offset: 41 });
        let lines: Vec<Value> = message.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0]["connect"]["token"].as_str().unwrap().starts_with("ey"));
        let subscribe = &lines[1]["subscribe"];
        assert!(subscribe["token"].is_string());
        assert_eq!((&subscribe["recover"], &subscribe["positioned"]), (&Value::from(true), &Value::from(true)));
        assert_eq!((&subscribe["epoch"], &subscribe["offset"]), (&Value::from("ab"), &Value::from(41)));
    }

    #[test]
    fn plain_and_own_frames() {
        let mut plain = dialect(Protocol::Plain);
        assert_eq!(plain.greeting(0, Some("x")), None);
        assert_eq!(plain.around("x"), (String::new(), String::new()));
        plain.hello = Some("SUB {channel}".into());
        plain.template = Some("PUB {channel} {payload}!".into());
        assert_eq!(plain.greeting(0, Some("x")).unwrap(), "SUB x");
        assert_eq!(plain.greeting(0, None), None);
        assert_eq!(plain.around("x"), ("PUB x ".into(), "!".into()));
    }

    #[test]
    fn replies_are_told_apart() {
        let message = b"{\"id\":1,\"connect\":{}}\n{}\n{\"id\":2,\"error\":{\"code\":103}}\n{\"push\":{}}\n";
        let expected = [Note::Reply(1), Note::Ping, Note::Error(2, r#"{"code":103}"#.into()), Note::Other].to_vec();
        assert_eq!(notes(message), Ok(expected));
        assert!(notes(b"what").is_err());
    }
}
