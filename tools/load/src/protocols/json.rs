//! The message protocol in JSON: one command or reply per line.

use super::{CONNECT_ID, Dialect, Note, SUBSCRIBE_ID, Since};
use crate::net::frame::Fault;
use memchr::memmem;
use serde_json::Value;

/// `connect`, and a `subscribe` for each channel.
pub fn greeting(dialect: &Dialect, number: usize, channels: &[&str]) -> String {
    let mut message = connect(dialect, number);
    for (id, name) in (SUBSCRIBE_ID..).zip(channels) {
        message.push('\n');
        message += &subscribe(dialect, number, id, name, None);
    }
    message
}

/// The first message of one who was here before and knows where it left `channel`.
pub fn returning(dialect: &Dialect, number: usize, channel: &str, since: &Since) -> String {
    format!("{}\n{}", connect(dialect, number), subscribe(dialect, number, SUBSCRIBE_ID, channel, Some(since)))
}

fn connect(dialect: &Dialect, number: usize) -> String {
    match &dialect.tokens {
        None => format!(r#"{{"id":{CONNECT_ID},"connect":{{"name":"load"}}}}"#),
        Some(tokens) => {
            let token = tokens.connection(number);
            format!(r#"{{"id":{CONNECT_ID},"connect":{{"token":"{token}","name":"load"}}}}"#)
        }
    }
}

/// The command `id`, by which connection `number` subscribes.
pub fn subscribe(dialect: &Dialect, number: usize, id: u64, channel: &str, since: Option<&Since>) -> String {
    let mut request = format!(r#"{{"id":{id},"subscribe":{{"channel":{}"#, Value::from(channel));
    if let Some(token) = dialect.tokens.as_ref().and_then(|tokens| tokens.subscription(number, channel)) {
        request += &format!(r#","token":"{token}""#);
    }
    if dialect.positioned {
        request += r#","positioned":true,"recoverable":true"#;
    }
    if let Some(Since { epoch, offset }) = since {
        request += &format!(r#","recover":true,"epoch":{},"offset":{offset}"#, Value::from(epoch.as_str()));
    }
    request + "}}"
}

/// The usual reply to a publisher, read no further than needed.
pub fn is_bare_reply(message: &[u8]) -> bool {
    message.starts_with(b"{\"id\":")
        && memchr::memchr(b'\n', message).is_none()
        && memmem::find(message, b"\"error\"").is_none()
}

pub fn notes(message: &[u8]) -> Result<Vec<Note>, Fault> {
    let note = |line: &[u8]| {
        if line == b"{}" {
            return Ok(Note::Ping);
        }
        if line.starts_with(b"{\"push\":") {
            return Ok(Note::Other);
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
    use crate::protocols::token::Tokens;
    use std::sync::Arc;

    #[test]
    fn commands_are_json_that_says_what_was_meant() {
        let greeting = greeting(&Dialect::default(), 0, &["a\"b", "c"]);
        let lines: Vec<Value> = greeting.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["id"], 1);
        assert!(lines[0]["connect"].is_object());
        assert_eq!(lines[1]["subscribe"]["channel"], "a\"b");
        assert_eq!((&lines[2]["id"], &lines[2]["subscribe"]["channel"]), (&Value::from(3), &Value::from("c")));
    }

    #[test]
    fn one_who_returns_says_where_it_was_and_who_it_is() {
        let tokens = Some(Arc::new(Tokens::new("secret", 8, 20, 1, true)));
        let dialect = Dialect { tokens, positioned: true, ..Dialect::default() };
        let message = returning(&dialect, 7, "news", &Since { epoch: "ab".into(), offset: 41 });
        let lines: Vec<Value> = message.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0]["connect"]["token"].as_str().unwrap().starts_with("ey"));
        let subscribe = &lines[1]["subscribe"];
        assert!(subscribe["token"].is_string());
        assert_eq!((&subscribe["recover"], &subscribe["positioned"]), (&Value::from(true), &Value::from(true)));
        assert_eq!((&subscribe["epoch"], &subscribe["offset"]), (&Value::from("ab"), &Value::from(41)));
    }

    #[test]
    fn replies_are_told_apart() {
        let message = b"{\"id\":1,\"connect\":{}}\n{}\n{\"id\":2,\"error\":{\"code\":103}}\n{\"push\":{}}\n";
        let expected = [Note::Reply(1), Note::Ping, Note::Error(2, r#"{"code":103}"#.into()), Note::Other].to_vec();
        assert_eq!(notes(message), Ok(expected));
        assert!(notes(b"what").is_err());
        assert!(is_bare_reply(b"{\"id\":9,\"publish\":{}}") && !is_bare_reply(b"{\"id\":9,\"error\":{}}"));
    }
}
