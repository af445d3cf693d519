//! What stands around a publication's payload: made once per channel, filled for each publication.

use super::protobuf::{self, put_varint, varint_bytes};
use super::pusher::{self, App};
use super::{Dialect, Protocol};
use crate::scenarios::api_publisher;
use crate::scenarios::payload::{self, Stamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;

/// Where and how a backend publishes over HTTP.
#[derive(Clone, Debug)]
pub enum Backend {
    /// The server API of the message protocol: a request's head up to its length.
    Centrifuge { head: String },
    /// Pusher's API: every request is signed.
    Pusher { host: String, app: Arc<App> },
}

impl Backend {
    pub fn centrifuge(host: &str, path: &str, key: Option<&str>) -> Self {
        Self::Centrifuge {
            head: api_publisher::Plan::head(host, &format!("{}/publish", path.trim_end_matches('/')), key),
        }
    }
}

#[derive(Debug)]
enum Form {
    /// A frame; `{id}` stands where the command's id does, if it has one.
    Text { before: [Vec<u8>; 2], has_id: bool },
    /// A Protobuf command: what its request says before the payload, and how long that is altogether.
    Protobuf { before: Vec<u8>, request_bytes: usize },
    /// A request to a backend's API: the body before the payload.
    Http { backend: Backend, before: Vec<u8> },
}

#[derive(Debug)]
pub struct Mould {
    form: Form,
    after: Vec<u8>,
    /// Bytes of the payload.
    size: usize,
}

impl Mould {
    /// For publications to `channel`: over a connection, or by `backend`.
    pub fn new(dialect: &Dialect, channel: &str, backend: Option<&Backend>) -> Self {
        let size = dialect.payload_bytes();
        let (before, after) = match backend {
            Some(Backend::Centrifuge { .. }) => halves(&envelope(channel, &dialect.data())),
            Some(Backend::Pusher { .. }) => halves(&event(channel, &dialect.data())),
            None if dialect.protocol == Protocol::CentrifugeProtobuf => return Self::protobuf(dialect, channel),
            None => halves(&frame(dialect, channel)),
        };
        let form = match backend {
            Some(backend) => Form::Http { backend: backend.clone(), before },
            None => {
                let text = String::from_utf8_lossy(&before);
                match text.split_once("{id}") {
                    Some((left, right)) => {
                        Form::Text { before: [left, right].map(|s| s.as_bytes().to_vec()), has_id: true }
                    }
                    None => Form::Text { before: [before.clone(), Vec::new()], has_id: false },
                }
            }
        };
        Self { form, after, size }
    }

    fn protobuf(dialect: &Dialect, channel: &str) -> Self {
        let (data, after) = halves(&dialect.data());
        let size = dialect.payload_bytes();
        let mut before = Vec::new();
        protobuf::put_bytes(&mut before, 1 << 3 | 2, channel.as_bytes());
        before.push(2 << 3 | 2);
        put_varint(&mut before, (data.len() + size + after.len()) as u64);
        before.extend_from_slice(&data);
        let request_bytes = before.len() + size + after.len();
        Self { form: Form::Protobuf { before, request_bytes }, after, size }
    }

    /// Appends the publication as it goes out: a message, or a whole HTTP request.
    pub fn put(&self, out: &mut Vec<u8>, id: u64, stamp: Stamp, time: u64) {
        match &self.form {
            Form::Text { before: [left, right], has_id } => {
                out.extend_from_slice(left);
                if *has_id {
                    out.extend_from_slice(id.to_string().as_bytes());
                }
                out.extend_from_slice(right);
            }
            Form::Protobuf { before, request_bytes } => {
                let request = *request_bytes as u64;
                put_varint(out, (2 + varint_bytes(id) + varint_bytes(request) + request_bytes) as u64);
                out.push(1 << 3);
                put_varint(out, id);
                out.push(protobuf::COMMAND_PUBLISH);
                put_varint(out, request);
                out.extend_from_slice(before);
            }
            Form::Http { backend, before } => return self.request(out, backend, before, stamp, time),
        }
        payload::put(out, stamp, time, self.size);
        out.extend_from_slice(&self.after);
    }

    fn request(&self, out: &mut Vec<u8>, backend: &Backend, before: &[u8], stamp: Stamp, time: u64) {
        let mut body = before.to_vec();
        payload::put(&mut body, stamp, time, self.size);
        body.extend_from_slice(&self.after);
        match backend {
            Backend::Centrifuge { head } => out.extend_from_slice(head.as_bytes()),
            Backend::Pusher { host, app } => {
                let seconds =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
                out.extend_from_slice(api_publisher::Plan::head(host, &app.events(&body, seconds), None).as_bytes());
            }
        }
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&body);
    }
}

/// What stands before and behind the payload.
fn halves(template: &str) -> (Vec<u8>, Vec<u8>) {
    let (before, after) = template.split_once("{payload}").unwrap_or((template, ""));
    (before.into(), after.into())
}

/// A publication as a client sends it.
fn frame(dialect: &Dialect, channel: &str) -> String {
    match (&dialect.template, dialect.protocol) {
        (Some(own), _) => own.replace("{channel}", channel),
        (None, Protocol::Plain) => dialect.data(),
        (None, Protocol::Pusher) => {
            let data = Value::from(dialect.data());
            format!(r#"{{"event":"{}","channel":{},"data":{data}}}"#, pusher::CLIENT_EVENT, Value::from(channel))
        }
        (None, _) => format!(r#"{{"id":{{id}},"publish":{}}}"#, envelope(channel, &dialect.data())),
    }
}

/// Channel and data, which is JSON, of the message protocol.
fn envelope(channel: &str, data: &str) -> String {
    format!(r#"{{"channel":{},"data":{data}}}"#, Value::from(channel))
}

/// What Pusher's API is given: data is a string whatever it holds.
fn event(channel: &str, data: &str) -> String {
    json!({ "name": pusher::EVENT, "channels": [channel], "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    const STAMP: Stamp = Stamp { seq: 5, channel: 0, publisher: 1, slot: 9 };

    fn made(dialect: &Dialect, backend: Option<&Backend>, id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Mould::new(dialect, "news", backend).put(&mut out, id, STAMP, 1);
        out
    }

    fn dialect(protocol: Protocol) -> Dialect {
        Dialect { protocol, size: 64, ..Dialect::default() }
    }

    #[test]
    fn a_command_has_its_id_its_channel_and_data_of_its_size() {
        let value: Value = serde_json::from_slice(&made(&dialect(Protocol::Centrifuge), None, 77)).unwrap();
        assert_eq!((&value["id"], &value["publish"]["channel"]), (&Value::from(77), &Value::from("news")));
        let data = value["publish"]["data"].to_string();
        assert_eq!(data.len(), 64);
        assert!(data.starts_with("\"~cl~00000005"));
    }

    #[test]
    fn a_protobuf_command_is_as_long_as_it_says_whatever_its_id_is() {
        for id in [1, 127, 128, 20_000, 3_000_000] {
            let bytes = made(&dialect(Protocol::CentrifugeProtobuf), None, id);
            assert_eq!(protobuf::count(&bytes), 1);
            assert_eq!(protobuf::notes(&bytes), Ok(vec![super::super::Note::Reply(id)]), "an id and no error");
            assert!(bytes.ends_with(b"\""));
        }
    }

    #[test]
    fn frames_of_the_users_own_and_none() {
        let mut plain = dialect(Protocol::Plain);
        assert!(made(&plain, None, 1).starts_with(b"~cl~"));
        plain.template = Some("PUB {channel} {payload}!".into());
        let text = made(&plain, None, 1);
        assert!(text.starts_with(b"PUB news ~cl~") && text.ends_with(b"!"));
    }

    #[test]
    fn pusher_data_is_a_string_also_where_it_holds_an_object() {
        let dialect = Dialect { shape: Shape::Json, size: 200, ..dialect(Protocol::Pusher) };
        let value: Value = serde_json::from_slice(&made(&dialect, None, 1)).unwrap();
        assert_eq!(value["event"], "client-load");
        let data = value["data"].as_str().unwrap();
        assert_eq!(data.len(), 200);
        assert!(serde_json::from_str::<Value>(data).unwrap()["stamp"].as_str().unwrap().starts_with("~cl~"));
    }

    #[test]
    fn requests_say_their_length_and_pushers_are_signed() {
        let app = Arc::new(App::new("7", "k", "s"));
        let backends =
            [Backend::centrifuge("h", "/api", Some("key")), Backend::Pusher { host: "h".into(), app: app.clone() }];
        for (backend, protocol) in backends.iter().zip([Protocol::Centrifuge, Protocol::Pusher]) {
            let text = String::from_utf8(made(&dialect(protocol), Some(backend), 1)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let value: Value = serde_json::from_str(body).unwrap();
            match backend {
                Backend::Centrifuge { .. } => {
                    assert_eq!((&value["channel"], head.contains("X-API-Key: key")), (&json!("news"), true))
                }
                Backend::Pusher { .. } => {
                    assert_eq!(value["channels"], json!(["news"]));
                    assert!(head.starts_with("POST /apps/7/events?auth_key=k&auth_timestamp="), "{head}");
                }
            }
        }
    }
}
