//! The client protocol's dialect: bytes in, commands out; replies and pushes in, bytes out. No sockets, hub or clock.
//!
//! What a command means is decided above, once. Encodings differ only in how they read and write, so they
//! stand behind `Encoding`: whoever holds one needs to know nothing else about the wire.
//!
//! - `command`: what clients ask. Borrowed from the frame it came in.
//! - `reply`: what they are told.
//! - `codes`: the numbers of errors, of ended subscriptions and of closed connections.
//! - `json`: one JSON object per line, many lines in a text frame.

pub mod codes;
pub mod command;
pub mod json;
pub mod reply;

pub use codes::{Disconnect, ErrorCode, Unsubscribed};
pub use command::{Body, Command, ConnectRequest, HistoryRequest, Malformed, StreamPosition, SubscribeRequest};
pub use reply::{ClientInfo, ConnectResult, Expiry, HistoryResult, Publication, Reply, SubscribeResult};

/// How a connection reads and writes: chosen by the upgrade, kept for its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// Text frames.
    Json,
}

impl Encoding {
    /// The commands of a frame, from a place where one begins: 0, or an end that an item named.
    #[inline]
    pub fn commands(self, frame: &[u8], start: usize) -> Commands<'_> {
        match self {
            Self::Json => Commands::Json(json::commands_from(frame, start)),
        }
    }

    /// Appends a reply. Between two messages of one frame stands the `separator`.
    pub fn reply(self, out: &mut Vec<u8>, id: u32, reply: &Reply) {
        match self {
            Self::Json => json::reply(out, id, reply),
        }
    }

    pub fn publication(self, out: &mut Vec<u8>, channel: &str, publication: &Publication) {
        match self {
            Self::Json => json::publication(out, channel, publication),
        }
    }

    pub fn unsubscribe_push(self, out: &mut Vec<u8>, channel: &str, code: u32, reason: &str) {
        match self {
            Self::Json => json::unsubscribe_push(out, channel, code, reason),
        }
    }

    /// The server's ping, a whole message.
    pub fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => json::PING,
        }
    }

    /// What stands between two messages of one frame.
    pub fn separator(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n",
        }
    }
}

/// The commands of one frame, whatever its encoding. An item carries where in the frame its command ended; after an
/// error there is no further item.
#[derive(Clone, Debug)]
pub enum Commands<'a> {
    Json(json::Commands<'a>),
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<(Command<'a>, usize), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Json(commands) => commands.next(),
        }
    }
}
