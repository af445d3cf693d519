//! What is said to the server: the message protocol in JSON or Protobuf, the Pusher protocol, or frames that the user gives.
//!
//! Plan: a greeting per connection, a mould per channel around the payload (`mould`), and notes on what the server says besides
//! deliveries. Each protocol has a file that knows its bytes and nothing else; this one chooses. The message protocol sends one
//! frame with `connect` and every `subscribe`, as the usual clients do; Pusher's subscriptions follow the socket's id.

pub mod connection_setup;
pub mod json;
mod protobuf;
pub mod publish_template;
pub mod pusher;
pub mod token;

use crate::net::frame::{self, Fault};
use crate::protocols::token::Tokens;
use crate::scenarios::payload;
pub use json::{lines, reply};
use pusher::App;
use std::sync::Arc;

/// The id of `connect`, and of the first `subscribe` behind it.
pub const CONNECT_ID: u64 = 1;
pub const SUBSCRIBE_ID: u64 = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    #[default]
    /// Commands and replies in JSON: connect, subscribe, publish, ping and pong.
    Centrifuge,
    /// The same in Protobuf.
    CentrifugeProtobuf,
    /// Pusher's protocol, version 7: client events or the HTTP API publish.
    Pusher,
    /// Frames as they are: whoever is connected is a subscriber, and a frame that is sent is published.
    Plain,
}

impl Protocol {
    /// What an upgrade request says of it: a whole header line, or nothing.
    pub fn header(self) -> &'static str {
        match self {
            Self::CentrifugeProtobuf => "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
            _ => "",
        }
    }

    /// The URL as the protocol wants it.
    pub fn url(self, url: &str) -> String {
        match self {
            Self::Pusher if !url.contains('?') => format!("{url}?protocol=7&client=corecast-load"),
            _ => url.into(),
        }
    }

    /// Whether there are channels at all, without the user's own frames.
    pub fn has_channels(self) -> bool {
        self != Self::Plain
    }
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
    /// Plain: sent after the upgrade by a subscriber; `{channel}` stands for its channel.
    pub hello: Option<String>,
    /// A publication's frame; `{channel}` and `{payload}` stand for what they say.
    pub template: Option<String>,
    /// Binary frames where the protocol is content with text.
    pub binary: bool,
    /// What the data is; with `Json` the message protocol's is an object.
    pub shape: Shape,
    /// Bytes of the data: with the message protocol a JSON string, its two quotes among them.
    pub size: usize,
    /// Pusher: what signs subscriptions to private channels.
    pub app: Option<Arc<App>>,
}

/// A place in a channel's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    pub epoch: String,
    pub offset: u64,
}

/// Something that the server said and that is no delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Ping,
    /// A command was answered.
    Reply(u64),
    Error(u64, String),
    /// Pusher: the connection stands and has this name.
    Socket(String),
    /// Pusher: a subscription stands.
    Subscribed,
    Other,
}

impl Dialect {
    /// The message protocol, in either form.
    pub fn is_centrifuge(&self) -> bool {
        matches!(self.protocol, Protocol::Centrifuge | Protocol::CentrifugeProtobuf)
    }

    pub fn opcode(&self) -> u8 {
        if self.binary || self.protocol == Protocol::CentrifugeProtobuf { frame::BINARY } else { frame::TEXT }
    }

    /// The first messages of connection `number`, which subscribes to `channels`.
    pub fn greeting(&self, number: usize, channels: &[&str]) -> Vec<Vec<u8>> {
        match self.protocol {
            Protocol::Centrifuge => vec![json::greeting(self, number, channels).into_bytes()],
            Protocol::CentrifugeProtobuf => vec![protobuf::greeting(self, number, channels)],
            Protocol::Pusher => Vec::new(),
            Protocol::Plain => {
                let hello = self.hello.as_ref();
                hello.map_or(Vec::new(), |hello| {
                    channels.iter().map(|name| hello.replace("{channel}", name).into_bytes()).collect()
                })
            }
        }
    }

    /// Pusher: what a connection says once it knows its socket's id.
    pub fn subscriptions(&self, socket: &str, channels: &[&str]) -> Vec<Vec<u8>> {
        channels.iter().map(|name| pusher::subscribe(self.app.as_deref(), socket, name).into_bytes()).collect()
    }

    /// Answers that are due before a connection with so many channels counts as ready.
    pub fn answers_due(&self, channels: usize) -> usize {
        if self.protocol == Protocol::Plain { 0 } else { 1 + channels }
    }

    /// Reads a message of which deliveries are not wanted; it may hold several replies.
    pub fn notes(&self, message: &[u8]) -> Result<Vec<Note>, Fault> {
        match self.protocol {
            Protocol::Centrifuge => json::notes(message),
            Protocol::CentrifugeProtobuf => protobuf::notes(message),
            Protocol::Pusher => pusher::notes(message),
            Protocol::Plain => Ok(Vec::new()),
        }
    }

    /// How many messages, deliveries or not, stand in one frame.
    pub fn messages_in(&self, message: &[u8]) -> usize {
        match self.protocol {
            Protocol::Centrifuge => lines(message).count(),
            Protocol::CentrifugeProtobuf => protobuf::count(message),
            Protocol::Pusher => 1,
            Protocol::Plain => 0,
        }
    }

    /// The answer to a ping.
    pub fn pong(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::CentrifugeProtobuf => &[0],
            Protocol::Pusher => pusher::PONG,
            _ => b"{}",
        }
    }

    /// Whether one who publishes over its connection gets its own publication as a subscriber.
    pub fn hears_itself(&self) -> bool {
        self.protocol != Protocol::Pusher
    }

    /// Whether one has to subscribe to a channel before it can publish there.
    pub fn publishers_subscribe(&self) -> bool {
        self.protocol == Protocol::Pusher
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

    /// The data with `{payload}` where the payload stands.
    fn data(&self) -> String {
        match self.shape {
            Shape::Json => payload::json("{payload}", self.size),
            Shape::Text if self.is_centrifuge() => "\"{payload}\"".into(),
            Shape::Text => "{payload}".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connections_say_what_they_were_told_to() {
        let mut plain = Dialect { protocol: Protocol::Plain, size: 64, ..Dialect::default() };
        assert!(plain.greeting(0, &["x"]).is_empty());
        plain.hello = Some("SUB {channel}".into());
        assert_eq!(plain.greeting(0, &["x", "y"]), [b"SUB x", b"SUB y"]);
        assert!(plain.greeting(0, &[]).is_empty());
        assert_eq!(plain.answers_due(1), 0);
    }

    #[test]
    fn a_url_says_the_version_that_is_spoken() {
        assert_eq!(Protocol::Pusher.url("ws://a/app/k"), "ws://a/app/k?protocol=7&client=corecast-load");
        assert_eq!(Protocol::Pusher.url("ws://a/app/k?protocol=7"), "ws://a/app/k?protocol=7");
        assert_eq!(Protocol::Centrifuge.url("ws://a"), "ws://a");
    }
}
