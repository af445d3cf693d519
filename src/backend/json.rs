//! Requests and responses in JSON: one object each. A field without a value is left out.

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;

use super::call::{Answer, Call, Caller, Question};
use super::fault::{Fault, Malformed, Retry};
use super::settings::{EmptyConnect, ProxySettings};
use super::stats::Reason;
use super::{answers, reply};

/// The fields of all kinds of call; each kind sets its own.
#[derive(Default, Serialize)]
struct Request<'a> {
    client: &'a str,
    transport: &'a str,
    protocol: &'a str,
    encoding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "String::is_empty")]
    b64data: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    channels: &'a [String],
}

/// A payload is not JSON and the proxy does not use base64. Only a client of the Protobuf protocol can send such a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotJson;

impl From<NotJson> for Fault {
    fn from(_: NotJson) -> Self {
        Self::new(Reason::Unsendable, "the payload is not JSON, and `binary_encoding` is off", Retry::Never)
    }
}

/// The body of a call's request.
pub(crate) fn request(call: &Call, settings: &ProxySettings) -> Result<Vec<u8>, NotJson> {
    let Caller { client, user, transport, binary, meta, .. } = &call.caller;
    let mut request = Request {
        client,
        transport,
        protocol: if *binary { "protobuf" } else { "json" },
        encoding: if settings.binary_encoding { "binary" } else { "json" },
        ..Request::default()
    };
    // A connection that has not connected yet has neither.
    if !matches!(call.question, Question::Connect { .. }) {
        request.user = user;
        if settings.include_connection_meta {
            request.meta = json(meta)?;
        }
    }
    let payload: &[u8] = match &call.question {
        Question::Connect { name, version, data, channels } => {
            (request.name, request.version, request.channels) = (name, version, channels);
            data
        }
        Question::Subscribe { channel, token, data } => {
            (request.channel, request.token) = (channel, token);
            data
        }
        Question::Publish { channel, data } => {
            request.channel = channel;
            data
        }
        Question::SubRefresh { channel } => {
            request.channel = channel;
            &[]
        }
        Question::Rpc { method, data } => {
            request.method = method;
            data
        }
        Question::Refresh | Question::Keys { .. } => &[],
    };
    match settings.binary_encoding {
        true => request.b64data = BASE64.encode(payload),
        false => request.data = json(payload)?,
    }
    Ok(serde_json::to_vec(&request).expect("a struct of strings and JSON is JSON"))
}

/// The answer in the body of a response.
pub(crate) fn answer(call: &Call, empty_connect: EmptyConnect, body: &[u8]) -> Result<Answer, Malformed> {
    match &call.question {
        Question::Connect { .. } => answers::connect(call, reply::read(body)?, empty_connect),
        Question::Subscribe { .. } => answers::subscribe(call, reply::read(body)?),
        Question::Publish { .. } => answers::publish(call, reply::read(body)?),
        Question::Rpc { .. } => answers::rpc(call, reply::read(body)?),
        Question::Refresh | Question::SubRefresh { .. } => answers::refresh(call, reply::read_refresh(body)?),
        Question::Keys { .. } => Ok(Answer::Failed),
    }
}

/// The bytes as one JSON value; `None` if there are no bytes.
fn json(bytes: &[u8]) -> Result<Option<&RawValue>, NotJson> {
    match bytes {
        [] => Ok(None),
        _ => serde_json::from_slice(bytes).map(Some).map_err(|_| NotJson),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConnId, ShardId};

    fn text(question: Question, caller: Caller, settings: &ProxySettings) -> Result<String, NotJson> {
        let conn = ConnId::new(0, 0);
        let call = Call { shard: ShardId(0), conn, serial: 0, proxy: 0, caller, question };
        request(&call, settings).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn caller() -> Caller {
        Caller {
            client: "c1".into(),
            user: "7".into(),
            transport: "websocket",
            meta: br#"{"m":1}"#.into(),
            ..Caller::default()
        }
    }

    const START: &str = r#"{"client":"c1","transport":"websocket","protocol":"json","encoding":"json""#;

    #[test]
    fn requests_have_the_fields_of_their_kind_that_are_not_empty() {
        let settings = ProxySettings { include_connection_meta: true, ..ProxySettings::default() };
        let connect = Question::Connect {
            name: "js".into(),
            version: "1".into(),
            data: br#"{"a": 1}"#.into(),
            channels: vec!["x".into()],
        };
        let bare = Question::Connect { name: String::new(), version: String::new(), data: vec![], channels: vec![] };
        let subscribe = Question::Subscribe { channel: "x".into(), token: "t".into(), data: b"[]".into() };
        let publish = Question::Publish { channel: "x".into(), data: b"\"\\u0001\"".into() };
        let rpc = Question::Rpc { method: "m".into(), data: vec![] };
        for (question, rest) in [
            (connect, r#","data":{"a": 1},"name":"js","version":"1","channels":["x"]}"#),
            (bare, "}"),
            (Question::Refresh, r#","user":"7","meta":{"m":1}}"#),
            (subscribe, r#","user":"7","channel":"x","token":"t","meta":{"m":1},"data":[]}"#),
            (publish, r#","user":"7","channel":"x","meta":{"m":1},"data":"\u0001"}"#),
            (Question::SubRefresh { channel: "x".into() }, r#","user":"7","channel":"x","meta":{"m":1}}"#),
            (rpc, r#","user":"7","method":"m","meta":{"m":1}}"#),
        ] {
            assert_eq!(text(question, caller(), &settings).unwrap(), format!("{START}{rest}"));
        }
        let without = text(Question::Refresh, caller(), &ProxySettings::default()).unwrap();
        assert_eq!(without, format!("{START},\"user\":\"7\"}}"));
    }

    #[test]
    fn payloads_that_are_not_json_need_binary_encoding() {
        let binary = Caller { binary: true, ..caller() };
        let rpc = Question::Rpc { method: "m".into(), data: vec![0, 255] };
        let settings = ProxySettings { binary_encoding: true, ..ProxySettings::default() };
        let sent = text(rpc.clone(), binary.clone(), &settings).unwrap();
        assert!(sent.contains(r#""protocol":"protobuf","encoding":"binary""#) && sent.contains(r#""b64data":"AP8=""#));
        assert_eq!(text(rpc, binary.clone(), &ProxySettings::default()), Err(NotJson));
        let fine = Question::Rpc { method: "m".into(), data: b"1".into() };
        assert!(
            text(fine, binary, &ProxySettings::default())
                .unwrap()
                .contains(r#""protocol":"protobuf","encoding":"json""#)
        );
    }
}
