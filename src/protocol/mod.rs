//! The client protocol's dialect: bytes in, commands out; replies and pushes in, bytes out. No sockets, hub or clock.
//!
//! What a command means is decided above, once. Encodings differ only in how they read and write, so they
//! stand behind `Encoding`: whoever holds one needs to know nothing else about the wire.
//!
//! - `command`: what clients ask. Borrowed from the frame it came in.
//! - `reply`: what they are told.
//! - `codes`: the numbers of errors, of ended subscriptions and of closed connections.
//! - `tags`, `filter`: what a publication is marked with, and which marks a subscriber wants.
//! - `json`: one JSON object per line, many lines in a text frame.
//! - `protobuf`: messages behind their lengths, many in a binary frame.

pub mod codes;
pub mod command;
mod decimal;
pub mod filter;
pub mod fossil;
pub mod json;
mod maps;
pub mod protobuf;
pub mod reply;
pub mod tags;

pub use codes::{Disconnect, ErrorCode, Unsubscribed};
pub use command::{Body, Command, ConnectRequest, HistoryRequest, Malformed, StreamPosition, SubscribeRequest};
pub use filter::{Filter, FilterError, RawFilter};
pub use maps::{Headers, Subs};
pub use reply::{
    ClientInfo, ConnectResult, Expiry, HistoryResult, Push, Quoted, Reply, SubscribePush, SubscribeResult,
    WirePublication, delta_fits_json,
};
pub use tags::Tags;

/// How a connection reads and writes: chosen by the upgrade, kept for its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// Text frames of lines.
    Json = 0,
    /// Binary frames of messages, each behind its length.
    Protobuf = 1,
    /// Text frames of bare pushes: the client says what it wants once (`connect_request`) and is only told from then on.
    UniJson = 2,
}

impl Encoding {
    pub const COUNT: usize = 3;
    pub const ALL: [Self; Self::COUNT] = [Self::Json, Self::Protobuf, Self::UniJson];

    pub fn index(self) -> u8 {
        self as u8
    }

    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The commands of a frame, from a place where one begins: 0, or an end that an item named. Unidirectional clients have none.
    #[inline]
    pub fn commands(self, frame: &[u8], start: usize) -> Commands<'_> {
        match self {
            Self::Json => Commands::Json(json::commands_from(frame, start)),
            Self::Protobuf => Commands::Protobuf(protobuf::commands_from(frame, start)),
            Self::UniJson => Commands::None,
        }
    }

    /// The first and only message of a unidirectional client.
    pub fn connect_request(bytes: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
        json::connect_request(bytes)
    }

    /// Appends a reply. Between two messages of one frame stands the `separator`. A unidirectional client is told the
    /// result of its connect as a push, and nothing else.
    pub fn reply(self, out: &mut Vec<u8>, id: u32, reply: &Reply) {
        match self {
            Self::Json => json::reply(out, id, reply),
            Self::Protobuf => protobuf::reply(out, id, reply),
            Self::UniJson => {
                if let Reply::Connect(result) = reply {
                    self.push(out, "", &Push::Connect(result.clone()));
                }
            }
        }
    }

    /// Appends a publication.
    pub fn publication(self, out: &mut Vec<u8>, channel: &str, publication: &WirePublication) {
        match self {
            Self::Json => json::publication::<false>(out, channel, publication),
            Self::Protobuf => protobuf::publication(out, channel, publication),
            Self::UniJson => json::publication::<true>(out, channel, publication),
        }
    }

    /// Appends any other push. `channel` is empty where the push has none.
    pub fn push(self, out: &mut Vec<u8>, channel: &str, push: &Push) {
        match self {
            Self::Json => json::push(out, false, channel, push),
            Self::Protobuf => protobuf::push(out, channel, push),
            Self::UniJson => json::push(out, true, channel, push),
        }
    }

    /// Appends a client to the entries of a presence reply, which a big channel collects in slices: the bytes between
    /// `presence_head` and `presence_tail`.
    pub fn presence_entry(self, entries: &mut Vec<u8>, info: &ClientInfo) {
        match self {
            Self::Json | Self::UniJson => json::presence_entry(entries, info),
            Self::Protobuf => protobuf::presence_entry(entries, info),
        }
    }

    /// Appends what stands before the entries; some encodings say there how many bytes follow.
    pub fn presence_head(self, out: &mut Vec<u8>, id: u32, entries_bytes: usize) {
        match self {
            Self::Json | Self::UniJson => json::presence_head(out, id),
            Self::Protobuf => protobuf::presence_head(out, id, entries_bytes),
        }
    }

    /// What stands behind the entries.
    pub fn presence_tail(self) -> &'static [u8] {
        match self {
            Self::Json | Self::UniJson => json::PRESENCE_TAIL,
            Self::Protobuf => b"",
        }
    }

    /// The server's ping, a whole message.
    pub fn ping(self) -> &'static [u8] {
        match self {
            Self::Json | Self::UniJson => json::PING,
            Self::Protobuf => protobuf::PING,
        }
    }

    /// What stands between two messages of one frame.
    pub fn separator(self) -> &'static [u8] {
        match self {
            Self::Json | Self::UniJson => b"\n",
            Self::Protobuf => b"",
        }
    }

    /// True where frames are text.
    pub fn is_text(self) -> bool {
        self != Self::Protobuf
    }
}

/// The commands of one frame, whatever its encoding. An item carries where in the frame its command ended; after an
/// error there is no further item.
#[derive(Clone, Debug)]
pub enum Commands<'a> {
    Json(json::Commands<'a>),
    Protobuf(protobuf::Commands<'a>),
    None,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<(Command<'a>, usize), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Json(commands) => commands.next(),
            Self::Protobuf(commands) => commands.next(),
            Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn encodings_have_numbers() {
        for (index, encoding) in Encoding::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(encoding.index()), index);
            assert_eq!(Encoding::from_index(index as u8), Some(encoding));
        }
        assert_eq!(Encoding::from_index(3), None);
        assert_eq!(size_of::<Encoding>(), 1);
    }

    #[test]
    fn a_ping_is_a_whole_message_and_so_is_its_answer() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let pong = encoding.commands(encoding.ping(), 0).next();
            assert_eq!(pong, Some(Ok((Command { id: 0, body: Body::Pong }, encoding.ping().len()))));
            let row = [encoding.ping(), encoding.separator(), encoding.ping()].concat();
            assert_eq!(encoding.commands(&row, 0).count(), 2);
        }
        assert_eq!(Encoding::UniJson.ping(), b"{}");
    }

    #[test]
    fn a_unidirectional_client_is_told_of_its_connection_and_of_no_other_command() {
        let uni = Encoding::UniJson;
        let connected = Reply::Connect(ConnectResult { client: "c", ping_s: 25, session: "s", ..Default::default() });
        let text = r#"{"connect":{"client":"c","ping":25,"session":"s"}}"#;
        assert_eq!(written(|out| uni.reply(out, 1, &connected)), text);
        assert_eq!(written(|out| uni.reply(out, 1, &Reply::Publish)), "");
        assert_eq!(uni.commands(b"{}", 0).count(), 0);
        let publication = WirePublication { data: b"1", offset: 1, epoch: "e", ..Default::default() };
        let text = r#"{"channel":"a","pub":{"data":1,"offset":1,"epoch":"e"}}"#;
        assert_eq!(written(|out| uni.publication(out, "a", &publication)), text);
    }

    #[test]
    fn a_delta_that_cuts_a_character_does_not_fit_json() {
        assert!(delta_fits_json("1V\n1E@0,H:2\u{e9}3TVVrm;".as_bytes()) && !delta_fits_json(b"1V\n1\xa9:x;"));
    }
}
