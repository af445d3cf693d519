//! The message protocol in Protobuf: each command or reply behind its length, several in one binary frame.
//!
//! Only the needed fields, with the numbers of the protocol's published schema. Others are skipped.

use super::{CONNECT_ID, Event, Messages, SUBSCRIBE_ID};
use crate::net::frame::ProtocolError;
use prost::Message;

/// The tag of `publish` in a command: the field number and the wire type.
pub const COMMAND_PUBLISH: u8 = 7 << 3 | 2;

#[derive(Clone, PartialEq, Message)]
struct Command {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "4")]
    connect: Option<ConnectRequest>,
    #[prost(message, optional, tag = "5")]
    subscribe: Option<SubscribeRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct ConnectRequest {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(string, tag = "4")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(string, tag = "2")]
    token: String,
    #[prost(bool, tag = "9")]
    positioned: bool,
    #[prost(bool, tag = "10")]
    recoverable: bool,
}

/// The beginning of a publish request; its data follows.
#[derive(Clone, PartialEq, Message)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
}

#[derive(Clone, PartialEq, Message)]
struct Reply {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    error: Option<ReplyError>,
}

#[derive(Clone, PartialEq, Message)]
struct ReplyError {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `connect`, and a `subscribe` for each channel.
pub fn setup(messages: &Messages, number: usize, channels: &[&str]) -> Vec<u8> {
    let token = messages.tokens.as_ref().map(|tokens| tokens.connection(number)).unwrap_or_default();
    let connect = Some(ConnectRequest { token, name: "load".into() });
    let mut out = Command { id: CONNECT_ID, connect, subscribe: None }.encode_length_delimited_to_vec();
    for (id, name) in (SUBSCRIBE_ID..).zip(channels) {
        let token = messages.subscription_token(number, name).unwrap_or_default();
        let (positioned, recoverable) = (messages.positioned, messages.positioned);
        let subscribe = Some(SubscribeRequest { channel: (*name).into(), token, positioned, recoverable });
        out.extend(Command { id, connect: None, subscribe }.encode_length_delimited_to_vec());
    }
    out
}

/// The messages of a frame; the last one is `None` if the bytes are invalid.
fn replies(mut frame: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if frame.is_empty() {
            return None;
        }
        let reply = prost::decode_length_delimiter(&mut frame).ok().and_then(|length| frame.split_at_checked(length));
        frame = reply.map_or(&[], |(_, rest)| rest);
        Some(reply.map(|(reply, _)| reply))
    })
}

pub fn count(frame: &[u8]) -> usize {
    replies(frame).count()
}

pub fn events(frame: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    let unreadable = || ProtocolError::Response("unreadable reply".into());
    replies(frame).map(|reply| reply.and_then(event).ok_or_else(unreadable)).collect()
}

fn event(reply: &[u8]) -> Option<Event> {
    if reply.is_empty() {
        return Some(Event::Ping);
    }
    let Reply { id, error } = Reply::decode(reply).ok()?;
    Some(match error {
        // In its JSON form.
        Some(ReplyError { code, message }) => {
            Event::Error(id, serde_json::json!({ "code": code, "message": message }).to_string())
        }
        None if id > 0 => Event::Reply(id),
        None => Event::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setup_is_a_sequence_of_commands() {
        let bytes = setup(&Messages { positioned: true, ..Messages::default() }, 0, &["ab"]);
        let connect: &[u8] = &[10, 8, 1, 0x22, 6, 0x22, 4, b'l', b'o', b'a', b'd'];
        let subscribe: &[u8] = &[12, 8, 2, 0x2a, 8, 0x0a, 2, b'a', b'b', 72, 1, 80, 1];
        assert_eq!(bytes, [connect, subscribe].concat());
    }

    #[test]
    fn replies_are_distinguished_and_an_incomplete_one_is_an_error() {
        let frame = [3, 8, 1, 0x2a, 0, 2, 8, 2, 0, 6, 8, 3, 0x12, 2, 8, 103, 2, 0x22, 0];
        // The length of the first reply is too short, so what follows is invalid.
        assert!(events(&frame).is_err());
        let frame = [4, 8, 1, 0x2a, 0, 2, 8, 2, 0, 6, 8, 3, 0x12, 2, 8, 103, 2, 0x22, 0];
        let error = Event::Error(3, r#"{"code":103,"message":""}"#.into());
        assert_eq!(events(&frame), Ok(vec![Event::Reply(1), Event::Reply(2), Event::Ping, error, Event::Other]));
        assert_eq!(count(&frame), 5);
        let ends = [0, 5, 8, 9, 16, 19];
        for cut in (0..frame.len()).filter(|cut| !ends.contains(cut)) {
            assert!(events(&frame[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            let _ = (events(&bytes), count(&bytes));
        }
    }
}
