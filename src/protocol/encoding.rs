//! The encoding of a connection, and the commands of a frame in it.

use super::command::{Body, Command, ConnectRequest};
use super::error::Malformed;
use super::reply::{ClientInfo, Push, Reply, WirePublication};
use super::request::EmulationRequest;
use super::{json, protobuf};

/// How a connection reads and writes. The upgrade chooses it, and it does not change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// Text frames with lines of JSON.
    Json = 0,
    /// Binary frames with length-delimited messages.
    Protobuf = 1,
    /// Text frames with pushes that no reply wraps. The client sends one `connect_request` and then only receives.
    UniJson = 2,
}

impl Encoding {
    pub(crate) const COUNT: usize = 3;
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Json, Self::Protobuf, Self::UniJson];

    pub(crate) fn index(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The commands of a frame from `start` on, which is 0 or the end that an item returned. A unidirectional client sends no
    /// commands.
    #[inline]
    pub fn commands(self, frame: &[u8], start: usize) -> Commands<'_> {
        let has_commands = self != Self::UniJson && (start == 0 || start < frame.len());
        Commands { encoding: self, frame, next: has_commands.then_some(start) }
    }

    /// The first and only message of a unidirectional client.
    pub fn connect_request(bytes: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
        json::connect_request(bytes)
    }

    /// A request that carries commands for a stream.
    pub fn emulation_request(self, bytes: &[u8]) -> Result<EmulationRequest<'_>, Malformed> {
        match self {
            Self::Json | Self::UniJson => json::emulation_request(bytes),
            Self::Protobuf => protobuf::emulation_request(bytes),
        }
    }

    /// A message that is one command, which was read before. `None` if it is malformed.
    pub fn command(self, message: &[u8]) -> Option<Command<'_>> {
        if self == Self::UniJson {
            let body = Body::Connect(Self::connect_request(message).ok()?);
            return Some(Command { id: 0, body });
        }
        self.commands(message, 0).next()?.ok().map(|(command, _)| command)
    }

    /// Appends a reply. A unidirectional client gets the result of its connect as a push and no other reply.
    pub(crate) fn reply(self, out: &mut Vec<u8>, id: u32, reply: &Reply) {
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
    pub(crate) fn publication(self, out: &mut Vec<u8>, channel: &str, publication: &WirePublication) {
        match self {
            Self::Json => json::publication::<{ json::IN_REPLY }>(out, channel, publication),
            Self::Protobuf => protobuf::publication(out, channel, publication),
            Self::UniJson => json::publication::<{ json::BARE }>(out, channel, publication),
        }
    }

    /// Appends any other push. `channel` is empty if the push has none.
    pub(crate) fn push(self, out: &mut Vec<u8>, channel: &str, push: &Push) {
        match self {
            Self::Json => json::push::<{ json::IN_REPLY }>(out, channel, push),
            Self::Protobuf => protobuf::push(out, channel, push),
            Self::UniJson => json::push::<{ json::BARE }>(out, channel, push),
        }
    }

    /// Appends a client to the entries of a presence reply, the bytes between `presence_head` and `presence_tail`. The entries
    /// of a large channel are collected in slices.
    pub(crate) fn presence_entry(self, entries: &mut Vec<u8>, info: &ClientInfo) {
        match self {
            Self::Json | Self::UniJson => json::presence_entry(entries, info),
            Self::Protobuf => protobuf::presence_entry(entries, info),
        }
    }

    /// Appends the bytes before the entries. Some encodings need the length of the entries there.
    pub(crate) fn presence_head(self, out: &mut Vec<u8>, id: u32, entries_bytes: usize) {
        match self {
            Self::Json | Self::UniJson => json::presence_head(out, id),
            Self::Protobuf => protobuf::presence_head(out, id, entries_bytes),
        }
    }

    /// The bytes after the entries.
    pub(crate) fn presence_tail(self) -> &'static [u8] {
        match self {
            Self::Json | Self::UniJson => json::PRESENCE_TAIL,
            Self::Protobuf => b"",
        }
    }

    /// The server's ping: a whole message.
    pub(crate) fn ping(self) -> &'static [u8] {
        match self {
            Self::Json | Self::UniJson => json::PING,
            Self::Protobuf => protobuf::PING,
        }
    }

    /// True if frames are text.
    pub(crate) fn is_text(self) -> bool {
        self != Self::Protobuf
    }
}

/// The commands of one frame. An item has the place in the frame where its command ends and the next one begins; no item
/// follows an error.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    encoding: Encoding,
    frame: &'a [u8],
    /// Where the next command begins; `None` after the last.
    next: Option<usize>,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<(Command<'a>, usize), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next.take()?;
        let rest = &self.frame[start..];
        let read = match self.encoding {
            Encoding::Json => json::command(rest),
            Encoding::Protobuf => protobuf::command(rest),
            Encoding::UniJson => return None,
        };
        let (command, bytes) = match read {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let end = start + bytes;
        self.next = Some(end).filter(|&end| end < self.frame.len());
        Some(Ok((command, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Body;
    use super::super::reply::{ConnectResult, delta_fits_json};
    use super::*;

    /// The bytes between two messages of a frame.
    fn separator(encoding: Encoding) -> &'static [u8] {
        if encoding.is_text() { b"\n" } else { b"" }
    }

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
    fn ping_is_a_whole_message_and_so_is_its_answer() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let pong = encoding.commands(encoding.ping(), 0).next();
            assert_eq!(pong, Some(Ok((Command { id: 0, body: Body::Pong }, encoding.ping().len()))));
            let row = [encoding.ping(), separator(encoding), encoding.ping()].concat();
            assert_eq!(encoding.commands(&row, 0).count(), 2);
        }
        assert_eq!(Encoding::UniJson.ping(), b"{}");
    }

    #[test]
    fn unidirectional_client_gets_its_connect_result_and_no_other_reply() {
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
    fn delta_that_cuts_a_character_does_not_fit_json() {
        assert!(delta_fits_json("1V\n1E@0,H:2\u{e9}3TVVrm;".as_bytes()) && !delta_fits_json(b"1V\n1\xa9:x;"));
    }

    #[test]
    fn request_is_read_in_both_encodings() {
        let wanted = EmulationRequest { node: "n".into(), session: "s".into(), data: b"{}\n{}"[..].into() };
        let json = br#"{"session":"s","node":"n","data":"{}\n{}","more":[1]}"#;
        assert_eq!(Encoding::Json.emulation_request(json), Ok(wanted.clone()));
        let binary = b"\x0a\x01n\x12\x01s\x1a\x05{}\n{}";
        assert_eq!(Encoding::Protobuf.emulation_request(binary), Ok(wanted));
        assert_eq!(Encoding::Json.emulation_request(b"{}"), Ok(EmulationRequest::default()));
        assert_eq!(Encoding::Protobuf.emulation_request(b""), Ok(EmulationRequest::default()));
    }

    #[test]
    fn data_that_is_not_a_string_is_malformed() {
        for bytes in [&br#"{"data":{}}"#[..], br#"{"data":[1]}"#, b"[]", b"", b"null", br#"{"session":1}"#] {
            assert_eq!(
                Encoding::Json.emulation_request(bytes),
                Err(Malformed),
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
        assert_eq!(Encoding::Protobuf.emulation_request(b"\x12\x05s"), Err(Malformed));
    }
}
