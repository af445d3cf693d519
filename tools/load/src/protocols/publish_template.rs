//! What surrounds the payload of a publication: built once per channel, filled for each publication.

use super::protobuf::{COMMAND_PUBLISH, PublishRequest};
use super::pusher::{self, App};
use super::token::unix_time;
use super::{Messages, Protocol};
use crate::net::http;
use crate::scenarios::payload::{self, Stamp};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use serde_json::{Value, json};
use std::sync::Arc;

/// A server API over HTTP.
#[derive(Clone, Debug)]
pub enum Api {
    /// The server API of the message protocol: the head of a request up to its length.
    Centrifuge { head: String },
    /// Pusher's API, in which every request is signed.
    Pusher { host: String, app: Arc<App> },
}

impl Api {
    pub fn centrifuge(host: &str, path: &str, key: Option<&str>) -> Self {
        Self::Centrifuge { head: http::post_head(host, &format!("{}/publish", path.trim_end_matches('/')), key) }
    }
}

#[derive(Debug)]
enum Form {
    /// A frame; the command ID is between the two texts if `has_id`.
    Text { before: [Vec<u8>; 2], has_id: bool },
    /// A Protobuf command: its request up to the payload, and the length of the whole request.
    Protobuf { before: Vec<u8>, request_bytes: usize },
    /// A request to a server API: the body up to the payload.
    Http { api: Api, before: Vec<u8> },
}

#[derive(Debug)]
pub struct PublishTemplate {
    form: Form,
    after: Vec<u8>,
    /// Bytes of the payload.
    size: usize,
}

impl PublishTemplate {
    /// For publications to `channel`, over a connection or over a server API.
    pub fn new(messages: &Messages, channel: &str, api: Option<&Api>) -> Self {
        let (data, size) = (messages.data(), messages.payload_bytes());
        let text = match (api, messages.protocol) {
            (Some(Api::Centrifuge { .. }), _) => envelope(channel, &data),
            (Some(Api::Pusher { .. }), _) => {
                // Pusher's data is a string, whatever it holds.
                json!({ "name": pusher::EVENT, "channels": [channel], "data": data }).to_string()
            }
            (None, Protocol::CentrifugeProtobuf) => data,
            (None, _) => frame(messages, channel),
        };
        let (before, after) = text.split_once("{payload}").unwrap_or((&text, ""));
        let form = match (api, messages.protocol) {
            (Some(api), _) => Form::Http { api: api.clone(), before: before.into() },
            (None, Protocol::CentrifugeProtobuf) => {
                let mut request = PublishRequest { channel: channel.into() }.encode_to_vec();
                request.push(2 << 3 | 2);
                encode_varint((before.len() + size + after.len()) as u64, &mut request);
                request.extend_from_slice(before.as_bytes());
                Form::Protobuf { request_bytes: request.len() + size + after.len(), before: request }
            }
            (None, _) => {
                let (left, right) = before.split_once("{id}").unwrap_or((before, ""));
                let has_id = left.len() < before.len();
                Form::Text { before: [left.into(), right.into()], has_id }
            }
        };
        Self { form, after: after.into(), size }
    }

    /// Appends the publication: a message, or a whole HTTP request.
    pub fn write(&self, out: &mut Vec<u8>, id: u64, stamp: Stamp, time: u64) {
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
                let bytes = 2 + encoded_len_varint(id) + encoded_len_varint(request) + request_bytes;
                encode_varint(bytes as u64, out);
                out.push(1 << 3);
                encode_varint(id, out);
                out.push(COMMAND_PUBLISH);
                encode_varint(request, out);
                out.extend_from_slice(before);
            }
            Form::Http { api, before } => {
                let mut body = before.clone();
                payload::write(&mut body, stamp, time, self.size);
                body.extend_from_slice(&self.after);
                return match api {
                    Api::Centrifuge { head } => http::write_post(out, head, &body),
                    Api::Pusher { host, app } => {
                        http::write_post(out, &http::post_head(host, &app.events(&body, unix_time()), None), &body)
                    }
                };
            }
        }
        payload::write(out, stamp, time, self.size);
        out.extend_from_slice(&self.after);
    }
}

/// A publication as a client sends it.
fn frame(messages: &Messages, channel: &str) -> String {
    match (&messages.template, messages.protocol) {
        (Some(template), _) => template.replace("{channel}", channel),
        (None, Protocol::Plain) => messages.data(),
        (None, Protocol::Pusher) => {
            let data = Value::from(messages.data());
            format!(r#"{{"event":"{}","channel":{},"data":{data}}}"#, pusher::CLIENT_EVENT, Value::from(channel))
        }
        (None, _) => format!(r#"{{"id":{{id}},"publish":{}}}"#, envelope(channel, &messages.data())),
    }
}

/// Channel and data (which is JSON) of the message protocol.
fn envelope(channel: &str, data: &str) -> String {
    format!(r#"{{"channel":{},"data":{data}}}"#, Value::from(channel))
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    const STAMP: Stamp = Stamp { seq: 5, channel: 0, publisher: 1, slot: 9 };

    fn publication(messages: &Messages, api: Option<&Api>, id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        PublishTemplate::new(messages, "news", api).write(&mut out, id, STAMP, 1);
        out
    }

    fn messages(protocol: Protocol) -> Messages {
        Messages { protocol, size: 64, ..Messages::default() }
    }

    #[test]
    fn command_has_its_id_its_channel_and_data_of_its_size() {
        let value: Value = serde_json::from_slice(&publication(&messages(Protocol::Centrifuge), None, 77)).unwrap();
        assert_eq!((&value["id"], &value["publish"]["channel"]), (&Value::from(77), &Value::from("news")));
        let data = value["publish"]["data"].to_string();
        assert_eq!(data.len(), 64);
        assert!(data.starts_with("\"~cl~00000005"));
    }

    #[test]
    fn protobuf_command_has_the_length_in_its_prefix_for_every_id() {
        for id in [1, 127, 128, 20_000, 3_000_000] {
            let bytes = publication(&messages(Protocol::CentrifugeProtobuf), None, id);
            assert_eq!(super::super::protobuf::count(&bytes), 1);
            assert_eq!(
                super::super::protobuf::events(&bytes),
                Ok(vec![super::super::Event::Reply(id)]),
                "an id and no error"
            );
            assert!(bytes.ends_with(b"\""));
        }
    }

    #[test]
    fn plain_frames_follow_the_template_of_the_user() {
        let mut plain = messages(Protocol::Plain);
        assert!(publication(&plain, None, 1).starts_with(b"~cl~"));
        plain.template = Some("PUB {channel} {payload}!".into());
        let text = publication(&plain, None, 1);
        assert!(text.starts_with(b"PUB news ~cl~") && text.ends_with(b"!"));
    }

    #[test]
    fn pusher_data_is_a_string_even_if_it_holds_an_object() {
        let messages = Messages { shape: Shape::Json, size: 200, ..messages(Protocol::Pusher) };
        let value: Value = serde_json::from_slice(&publication(&messages, None, 1)).unwrap();
        assert_eq!(value["event"], "client-load");
        let data = value["data"].as_str().unwrap();
        assert_eq!(data.len(), 200);
        assert!(serde_json::from_str::<Value>(data).unwrap()["stamp"].as_str().unwrap().starts_with("~cl~"));
    }

    #[test]
    fn requests_have_a_length_and_those_to_pusher_are_signed() {
        let app = Arc::new(App::new("7", "k", "s"));
        let apis = [Api::centrifuge("h", "/api", Some("key")), Api::Pusher { host: "h".into(), app: app.clone() }];
        for (api, protocol) in apis.iter().zip([Protocol::Centrifuge, Protocol::Pusher]) {
            let text = String::from_utf8(publication(&messages(protocol), Some(api), 1)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let value: Value = serde_json::from_str(body).unwrap();
            match api {
                Api::Centrifuge { .. } => {
                    assert_eq!((&value["channel"], head.contains("X-API-Key: key")), (&json!("news"), true))
                }
                Api::Pusher { .. } => {
                    assert_eq!(value["channels"], json!(["news"]));
                    assert!(head.starts_with("POST /apps/7/events?auth_key=k&auth_timestamp="), "{head}");
                }
            }
        }
    }
}
