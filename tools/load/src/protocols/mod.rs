//! The messages to and from the server: the message protocol in JSON or Protobuf, the Pusher protocol, or frames of the user.
//!
//! There is a setup per connection, a template per channel around the payload (`publish_template`), and events for what the server
//! sends besides deliveries. Each protocol has a file that knows its bytes only; this one chooses. The message protocol sends one
//! frame with `connect` and every `subscribe`, as the SDKs do; Pusher's subscriptions follow the socket ID.

pub mod connection_setup;
pub mod json;
mod protobuf;
pub mod publish_template;
pub mod pusher;
pub mod token;

use crate::net::frame::{self, ProtocolError};
use crate::protocols::token::Tokens;
use crate::scenarios::payload;
pub use json::{lines, reply};
use pusher::App;
use std::sync::Arc;

/// The ID of `connect`, and of the first `subscribe` behind it.
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
    /// Frames without a protocol: every connection is a subscriber, and a frame that is sent is published.
    Plain,
}

impl Protocol {
    /// The header line of an upgrade request, or nothing.
    pub fn header(self) -> &'static str {
        match self {
            Self::CentrifugeProtobuf => "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
            _ => "",
        }
    }

    /// The URL in the form that the protocol needs.
    pub fn url(self, url: &str) -> String {
        match self {
            Self::Pusher if !url.contains('?') => format!("{url}?protocol=7&client=corecast-load"),
            _ => url.into(),
        }
    }

    /// Whether there are channels without frames of the user.
    pub fn has_channels(self) -> bool {
        self != Self::Plain
    }
}

/// The data of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    #[default]
    /// A string of letters.
    Text,
    /// An object like those of services: fields, numbers, words, names that recur.
    Json,
}

/// The messages of the connections of a run.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    pub protocol: Protocol,
    /// Message protocol: every connection is a user of its own with a token.
    pub tokens: Option<Arc<Tokens>>,
    /// Message protocol: subscriptions ask for a position, which makes them recoverable.
    pub positioned: bool,
    /// Plain: a subscriber sends it after the upgrade; `{channel}` is replaced by its channel.
    pub hello: Option<String>,
    /// The frame of a publication; `{channel}` and `{payload}` are replaced.
    pub template: Option<String>,
    /// Binary frames if the protocol permits text.
    pub binary: bool,
    /// The data; with `Json` the message protocol's is an object.
    pub shape: Shape,
    /// Bytes of the data: with the message protocol a JSON string with its two quotes.
    pub size: usize,
    /// Pusher: signs subscriptions to private channels.
    pub app: Option<Arc<App>>,
}

/// A position in the stream of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub epoch: String,
    pub offset: u64,
}

/// A message of the server that is not a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Ping,
    /// The reply to a command.
    Reply(u64),
    Error(u64, String),
    /// Pusher: the connection is established and has this socket ID.
    Established(String),
    /// Pusher: a subscription succeeded.
    Subscribed,
    Other,
}

impl Messages {
    /// Whether this is the message protocol, in either form.
    pub fn is_centrifuge(&self) -> bool {
        matches!(self.protocol, Protocol::Centrifuge | Protocol::CentrifugeProtobuf)
    }

    pub fn opcode(&self) -> u8 {
        if self.binary || self.protocol == Protocol::CentrifugeProtobuf { frame::BINARY } else { frame::TEXT }
    }

    fn subscription_token(&self, number: usize, channel: &str) -> Option<String> {
        self.tokens.as_ref()?.subscription(number, channel)
    }

    /// The first messages of connection `number`, which subscribes to `channels`.
    pub fn setup(&self, number: usize, channels: &[&str]) -> Vec<Vec<u8>> {
        match self.protocol {
            Protocol::Centrifuge => {
                vec![json::setup(self, number, channels.iter().map(|name| (*name, None))).into_bytes()]
            }
            Protocol::CentrifugeProtobuf => vec![protobuf::setup(self, number, channels)],
            Protocol::Pusher => Vec::new(),
            Protocol::Plain => {
                let hellos =
                    |hello: &String| channels.iter().map(|name| hello.replace("{channel}", name).into()).collect();
                self.hello.as_ref().map_or_else(Vec::new, hellos)
            }
        }
    }

    /// Pusher: what a connection sends once it knows its socket ID.
    pub fn subscriptions(&self, socket: &str, channels: &[&str]) -> Vec<Vec<u8>> {
        channels.iter().map(|name| pusher::subscribe(self.app.as_deref(), socket, name).into_bytes()).collect()
    }

    /// Replies before a connection with so many channels is ready.
    pub fn replies_expected(&self, channels: usize) -> usize {
        if self.protocol == Protocol::Plain { 0 } else { 1 + channels }
    }

    /// Parses a message, which may contain several replies, without its deliveries.
    pub fn events(&self, message: &[u8]) -> Result<Vec<Event>, ProtocolError> {
        match self.protocol {
            Protocol::Centrifuge => json::events(message),
            Protocol::CentrifugeProtobuf => protobuf::events(message),
            Protocol::Pusher => pusher::events(message),
            Protocol::Plain => Ok(Vec::new()),
        }
    }

    /// The number of messages, deliveries or not, in one frame.
    pub fn count(&self, message: &[u8]) -> usize {
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

    /// Whether a subscriber gets its own publications, made over its connection.
    pub fn publishers_get_their_own(&self) -> bool {
        self.protocol != Protocol::Pusher
    }

    /// Whether a connection must subscribe to a channel before it can publish to it.
    pub fn publishers_subscribe(&self) -> bool {
        self.protocol == Protocol::Pusher
    }

    /// Bytes of the payload itself.
    pub fn payload_bytes(&self) -> usize {
        match self.shape {
            Shape::Json => payload::BYTES_MIN,
            Shape::Text if self.is_centrifuge() => self.size - 2,
            Shape::Text => self.size,
        }
    }

    /// The smallest `--size` that has room for a stamp.
    pub fn size_min(&self) -> usize {
        match self.shape {
            Shape::Json => payload::JSON_BYTES_MIN,
            Shape::Text => payload::BYTES_MIN + if self.is_centrifuge() { 2 } else { 0 },
        }
    }

    /// The data with `{payload}` in place of the payload.
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
    fn plain_connections_send_the_given_hello_frame() {
        let mut plain = Messages { protocol: Protocol::Plain, size: 64, ..Messages::default() };
        assert!(plain.setup(0, &["x"]).is_empty());
        plain.hello = Some("SUB {channel}".into());
        assert_eq!(plain.setup(0, &["x", "y"]), [b"SUB x", b"SUB y"]);
        assert!(plain.setup(0, &[]).is_empty());
        assert_eq!(plain.replies_expected(1), 0);
    }

    #[test]
    fn pusher_urls_name_the_protocol_version() {
        assert_eq!(Protocol::Pusher.url("ws://a/app/k"), "ws://a/app/k?protocol=7&client=corecast-load");
        assert_eq!(Protocol::Pusher.url("ws://a/app/k?protocol=7"), "ws://a/app/k?protocol=7");
        assert_eq!(Protocol::Centrifuge.url("ws://a"), "ws://a");
    }
}
