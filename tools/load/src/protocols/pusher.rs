//! Pusher's protocol, version 7: events in JSON, one per frame; the app's secret signs private channels and the HTTP API.

use super::Event;
use crate::net::frame::ProtocolError;
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

pub const PONG: &[u8] = br#"{"event":"pusher:pong","data":{}}"#;
/// The name of published events; client events need this prefix.
pub const EVENT: &str = "load";
pub const CLIENT_EVENT: &str = "client-load";
/// The prefix of channels to which clients may publish.
pub const PRIVATE: &str = "private-";

/// An application of a Pusher server.
#[derive(Debug)]
pub struct App {
    /// The ID, which is part of the API's path.
    id: String,
    key: String,
    secret: hmac::Key,
}

impl App {
    pub fn new(id: &str, key: &str, secret: &str) -> Self {
        Self { id: id.into(), key: key.into(), secret: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    fn sign(&self, text: &str) -> String {
        HEXLOWER.encode(hmac::sign(&self.secret, text.as_bytes()).as_ref())
    }

    /// The authorization of connection `socket` for a private channel.
    fn auth(&self, socket: &str, channel: &str) -> String {
        format!("{}:{}", self.key, self.sign(&format!("{socket}:{channel}")))
    }

    /// Path and query of a signed request that posts `body` at `seconds` (Unix time).
    pub fn events(&self, body: &[u8], seconds: u64) -> String {
        let path = format!("/apps/{}/events", self.id);
        let digest = md5::compute(body);
        let query = format!("auth_key={}&auth_timestamp={seconds}&auth_version=1.0&body_md5={digest:x}", self.key);
        let signature = self.sign(&format!("POST\n{path}\n{query}"));
        format!("{path}?{query}&auth_signature={signature}")
    }
}

/// The key in a URL that ends with `/app/KEY`.
pub fn key_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("/app/")?;
    rest.split(['?', '/']).next().filter(|key| !key.is_empty())
}

pub fn subscribe(app: Option<&App>, socket: &str, channel: &str) -> String {
    let mut data = json!({ "channel": channel });
    if let Some(app) = app.filter(|_| channel.starts_with(PRIVATE)) {
        data["auth"] = app.auth(socket, channel).into();
    }
    json!({ "event": "pusher:subscribe", "data": data }).to_string()
}

pub fn events(message: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    let value = super::reply(message)?;
    // The data is an object, or an object in a string.
    let data = match &value["data"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        other => other.clone(),
    };
    let event = value["event"].as_str().unwrap_or_default();
    Ok(vec![match event {
        "pusher:ping" => Event::Ping,
        "pusher:connection_established" => match data["socket_id"].as_str() {
            Some(id) => Event::Established(id.into()),
            None => return Err(ProtocolError::Response("a connection without a socket_id".into())),
        },
        "pusher_internal:subscription_succeeded" => Event::Subscribed,
        "pusher:error" | "pusher:subscription_error" => Event::Error(0, format!("{event} {data}")),
        _ => Event::Other,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the Pusher documentation.
    #[test]
    fn signatures_match_the_documented_examples() {
        let app = App::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8");
        let auth = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
        assert_eq!(app.auth("1234.1234", "private-foobar"), auth);
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let expected = "/apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&\
                        body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature=\
                        da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
        assert_eq!(app.events(body, 1353088179), expected);
    }

    #[test]
    fn events_are_distinguished() {
        let one = |text: &str| events(text.as_bytes()).unwrap().remove(0);
        let established = json!({"event": "pusher:connection_established", "data": "{\"socket_id\":\"1.2\"}"});
        assert_eq!(one(&established.to_string()), Event::Established("1.2".into()));
        assert_eq!(
            one(r#"{"event":"pusher_internal:subscription_succeeded","channel":"x","data":"{}"}"#),
            Event::Subscribed
        );
        assert_eq!(one(r#"{"event":"pusher:ping","data":{}}"#), Event::Ping);
        assert_eq!(one(r#"{"event":"load","channel":"x","data":"~"}"#), Event::Other);
        assert!(
            matches!(one(r#"{"event":"pusher:error","data":{"code":4001}}"#), Event::Error(0, text) if text.contains("4001"))
        );
        assert!(events(b"{").is_err() && events(br#"{"event":"pusher:connection_established"}"#).is_err());
    }

    #[test]
    fn only_private_channels_are_signed() {
        let app = App::new("1", "k", "s");
        let read = |channel| serde_json::from_str::<Value>(&subscribe(Some(&app), "1.1", channel)).unwrap();
        assert!(read("private-x")["data"]["auth"].as_str().unwrap().starts_with("k:"));
        assert_eq!(read("x"), json!({"event": "pusher:subscribe", "data": {"channel": "x"}}));
        assert_eq!(key_of("ws://h:1/app/abc?protocol=7"), Some("abc"));
        assert_eq!((key_of("ws://h/app/"), key_of("ws://h/")), (None, None));
    }
}
