//! The message protocol in JSON: one command or reply per line.

use super::{CONNECT_ID, Event, Messages, Position, SUBSCRIBE_ID};
use crate::net::frame::ProtocolError;
use memchr::memmem;
use serde_json::{Value, json};

/// `connect`, and a `subscribe` for each channel, with the position from which it recovers, if there is one.
pub fn setup<'a>(
    messages: &Messages,
    number: usize,
    channels: impl IntoIterator<Item = (&'a str, Option<&'a Position>)>,
) -> String {
    let one = |(id, (name, since))| subscribe(messages, number, id, name, since);
    let subscribes = (SUBSCRIBE_ID..).zip(channels).map(one);
    std::iter::once(connect(messages, number)).chain(subscribes).collect::<Vec<_>>().join("\n")
}

fn connect(messages: &Messages, number: usize) -> String {
    let mut request = json!({ "name": "load" });
    if let Some(tokens) = &messages.tokens {
        request["token"] = tokens.connection(number).into();
    }
    json!({ "id": CONNECT_ID, "connect": request }).to_string()
}

/// The command `id` with which connection `number` subscribes.
pub fn subscribe(messages: &Messages, number: usize, id: u64, channel: &str, since: Option<&Position>) -> String {
    let mut request = json!({ "channel": channel });
    if let Some(token) = messages.subscription_token(number, channel) {
        request["token"] = token.into();
    }
    if messages.positioned {
        (request["positioned"], request["recoverable"]) = (true.into(), true.into());
    }
    if let Some(Position { epoch, offset }) = since {
        request["recover"] = true.into();
        (request["epoch"], request["offset"]) = (epoch.as_str().into(), (*offset).into());
    }
    json!({ "id": id, "subscribe": request }).to_string()
}

/// Whether a message is the usual reply to a publisher, read no further than needed.
pub fn is_plain_reply(message: &[u8]) -> bool {
    message.starts_with(b"{\"id\":")
        && memchr::memchr(b'\n', message).is_none()
        && memmem::find(message, b"\"error\"").is_none()
}

pub fn events(message: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    let event = |line: &[u8]| {
        if line == b"{}" {
            return Ok(Event::Ping);
        }
        if line.starts_with(b"{\"push\":") {
            return Ok(Event::Other);
        }
        let value = reply(line)?;
        let Some(id) = value.get("id").and_then(Value::as_u64) else { return Ok(Event::Other) };
        Ok(value.get("error").map_or(Event::Reply(id), |error| Event::Error(id, error.to_string())))
    };
    lines(message).map(event).collect()
}

/// The replies of a message; a ping is `{}`.
pub fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

/// Parses one reply.
pub fn reply(line: &[u8]) -> Result<Value, ProtocolError> {
    serde_json::from_slice(line)
        .map_err(|_| ProtocolError::Response(format!("unreadable reply: {}", String::from_utf8_lossy(line))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::token::Tokens;
    use std::sync::Arc;

    #[test]
    fn setup_is_a_connect_and_a_subscribe_per_channel() {
        let setup = setup(&Messages::default(), 0, [("a\"b", None), ("c", None)]);
        let lines: Vec<Value> = setup.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["id"], 1);
        assert!(lines[0]["connect"].is_object());
        assert_eq!(lines[1]["subscribe"]["channel"], "a\"b");
        assert_eq!((&lines[2]["id"], &lines[2]["subscribe"]["channel"]), (&Value::from(3), &Value::from("c")));
    }

    #[test]
    fn recovery_has_the_position_and_the_tokens() {
        let tokens = Some(Arc::new(Tokens::new("secret", 8, 20, true)));
        let messages = Messages { tokens, positioned: true, ..Messages::default() };
        let message = setup(&messages, 7, [("news", Some(&Position { epoch: "ab".into(), offset: 41 }))]);
        let lines: Vec<Value> = message.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0]["connect"]["token"].as_str().unwrap().starts_with("ey"));
        let subscribe = &lines[1]["subscribe"];
        assert!(subscribe["token"].is_string());
        assert_eq!((&subscribe["recover"], &subscribe["positioned"]), (&Value::from(true), &Value::from(true)));
        assert_eq!((&subscribe["epoch"], &subscribe["offset"]), (&Value::from("ab"), &Value::from(41)));
    }

    #[test]
    fn replies_pings_and_errors_are_distinguished() {
        let message = b"{\"id\":1,\"connect\":{}}\n{}\n{\"id\":2,\"error\":{\"code\":103}}\n{\"push\":{}}\n";
        let expected = [Event::Reply(1), Event::Ping, Event::Error(2, r#"{"code":103}"#.into()), Event::Other].to_vec();
        assert_eq!(events(message), Ok(expected));
        assert!(events(b"what").is_err());
        assert!(is_plain_reply(b"{\"id\":9,\"publish\":{}}") && !is_plain_reply(b"{\"id\":9,\"error\":{}}"));
    }
}
