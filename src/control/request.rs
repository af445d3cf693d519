//! The bodies of `publish` and `broadcast`: read, checked, and refused where a field asks for what is not there yet.
//!
//! A field is never ignored silently: what has no meaning without history is accepted (`skip_history`), what would
//! change the meaning is refused by name (`tags`, `idempotency_key`, ...), what is not known at all likewise.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::fleet::AskError;

/// What a publication may look like.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a channel's name.
    pub channel_bytes_max: usize,
    /// Bytes of the data as JSON.
    pub data_bytes_max: usize,
}

/// The fields of both methods: `channel` is the one's, `channels` the other's.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Body {
    channel: Option<String>,
    channels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "also_null")]
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    skip_history: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    delta: Option<bool>,
    version: Option<u64>,
    version_epoch: Option<String>,
}

/// `null` is a payload like any other; only a missing field is none.
fn also_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// Why a body was not taken.
#[derive(Debug)]
pub enum Refused {
    /// It did not arrive whole.
    Unread,
    /// It is longer than a body may be.
    TooLong,
    /// It is not JSON at all.
    NotJson(String),
    /// It is, and asks for something that cannot be done.
    Error(AskError),
}

impl From<AskError> for Refused {
    fn from(error: AskError) -> Self {
        Self::Error(error)
    }
}

fn bad(what: impl Into<std::borrow::Cow<'static, str>>) -> AskError {
    AskError::BadRequest(what.into())
}

pub fn publish(body: &[u8], bounds: Bounds) -> Result<(String, Box<RawValue>), Refused> {
    let mut body = read(body)?;
    if body.channels.is_some() {
        return Err(bad("`channels` belongs to broadcast, publish takes `channel`").into());
    }
    let channel = body.channel.take().ok_or_else(|| bad("`channel` is missing"))?;
    check_channel(&channel, bounds)?;
    Ok((channel, body.payload(bounds)?))
}

/// The channels are not checked: each has an answer of its own.
pub fn broadcast(body: &[u8], bounds: Bounds) -> Result<(Vec<String>, Box<RawValue>), Refused> {
    let mut body = read(body)?;
    if body.channel.is_some() {
        return Err(bad("`channel` belongs to publish, broadcast takes `channels`").into());
    }
    let channels = body.channels.take().filter(|channels| !channels.is_empty());
    let channels = channels.ok_or_else(|| bad("`channels` is missing or empty"))?;
    Ok((channels, body.payload(bounds)?))
}

pub fn check_channel(channel: &str, bounds: Bounds) -> Result<(), AskError> {
    if channel.is_empty() {
        return Err(bad("the channel's name is empty"));
    }
    if channel.len() > bounds.channel_bytes_max {
        return Err(bad(format!("the channel's name is longer than {} bytes", bounds.channel_bytes_max)));
    }
    if !channel.is_ascii() {
        return Err(bad("the channel's name is not ASCII"));
    }
    Ok(())
}

fn read(body: &[u8]) -> Result<Body, Refused> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => bad(error.to_string()).into(),
        _ => Refused::NotJson(error.to_string()),
    })
}

impl Body {
    fn payload(mut self, bounds: Bounds) -> Result<Box<RawValue>, AskError> {
        self.check_supported()?;
        let data = match (self.data.take(), self.b64data.take().filter(|text| !text.is_empty())) {
            (Some(_), Some(_)) => return Err(bad("`data` and `b64data` exclude each other")),
            (Some(data), None) => data,
            (None, Some(text)) => decoded(&text)?,
            (None, None) => return Err(bad("`data` is missing")),
        };
        let data = one_line(data);
        if data.get().len() > bounds.data_bytes_max {
            return Err(bad(format!("the data is longer than {} bytes", bounds.data_bytes_max)));
        }
        Ok(data)
    }

    /// What this version does not do is answered, not left out. Values that mean "off" are taken.
    fn check_supported(&self) -> Result<(), AskError> {
        // Without history nothing is kept anyway.
        let _ = self.skip_history;
        let asked = [
            ("tags", self.tags.as_ref().is_some_and(|tags| !tags.is_empty())),
            ("idempotency_key", self.idempotency_key.as_ref().is_some_and(|key| !key.is_empty())),
            ("delta", self.delta == Some(true)),
            ("version", self.version.is_some_and(|version| version > 0)),
            ("version_epoch", self.version_epoch.as_ref().is_some_and(|epoch| !epoch.is_empty())),
        ];
        let names: Vec<_> = asked.iter().filter(|(_, set)| *set).map(|(name, _)| format!("`{name}`")).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(AskError::NotAvailable(format!("{} not supported by this version", names.join(", ")).into()))
    }
}

/// Binary payloads reach only clients of the binary protocol, which this version does not speak: it must be JSON.
fn decoded(text: &str) -> Result<Box<RawValue>, AskError> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|error| bad(format!("`b64data` is not base64: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| bad("`b64data` does not hold JSON"))?;
    RawValue::from_string(text).map_err(|_| bad("`b64data` does not hold JSON"))
}

/// The same JSON without line ends, which separate messages on the wire. Within JSON they only ever stand between
/// tokens that need no separator (RFC 8259, sections 2 and 7), so that leaving them out changes nothing.
fn one_line(data: Box<RawValue>) -> Box<RawValue> {
    if !data.get().contains(['\n', '\r']) {
        return data;
    }
    let text: String = data.get().chars().filter(|&c| c != '\n' && c != '\r').collect();
    RawValue::from_string(text).expect("line ends are blanks between tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { channel_bytes_max: 10, data_bytes_max: 40 };

    fn refused(body: &str) -> (u32, String) {
        match publish(body.as_bytes(), BOUNDS) {
            Err(Refused::Error(error)) => (error.code(), error.message().into_owned()),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn data_is_kept_as_it_was_written_less_its_line_ends() {
        for (typed, kept) in [
            ("{ \"a\" : 1.50 }", "{ \"a\" : 1.50 }"),
            ("{\r\n  \"a\": \"x\\n\"\n}", "{  \"a\": \"x\\n\"}"),
            ("[1,\n2,\n3]", "[1,2,3]"),
            ("null", "null"),
            ("\"text\"", "\"text\""),
        ] {
            let body = format!("{{\"channel\":\"a\",\"data\":{typed}}}");
            assert_eq!(publish(body.as_bytes(), BOUNDS).unwrap().1.get(), kept);
        }
    }

    #[test]
    fn base64_data_must_hold_json() {
        let taken = publish(br#"{"channel":"a","b64data":"eyJhIjoxfQ=="}"#, BOUNDS).unwrap();
        assert_eq!(taken.1.get(), "{\"a\":1}");
        for body in [
            r#"{"channel":"a","b64data":"AAAA"}"#,
            r#"{"channel":"a","b64data":"!"}"#,
            r#"{"channel":"a","b64data":"e30=","data":1}"#,
            r#"{"channel":"a","b64data":""}"#,
        ] {
            assert_eq!(refused(body).0, 107);
        }
    }

    #[test]
    fn a_bad_channel_is_a_bad_request() {
        for (channel, part) in [("", "empty"), ("12345678901", "longer than 10"), ("ü", "ASCII")] {
            let (code, message) = refused(&format!("{{\"channel\":\"{channel}\",\"data\":1}}"));
            assert!(code == 107 && message.contains(part), "{message}");
        }
        assert!(refused(r#"{"data":1}"#).1.contains("`channel` is missing"));
        assert!(refused(r#"{"channel":"a"}"#).1.contains("`data` is missing"));
        assert!(refused(r#"{"channel":"a","data":"0123456789012345678901234567890123456789"}"#).1.contains("40"));
    }

    #[test]
    fn what_is_not_supported_is_named_and_what_means_off_is_taken() {
        for field in [r#""tags":{"a":"b"}"#, r#""idempotency_key":"k""#, r#""delta":true"#, r#""version":1"#] {
            let (code, message) = refused(&format!("{{\"channel\":\"a\",\"data\":1,{field}}}"));
            let name = field.split('"').nth(1).unwrap();
            assert!(code == 108 && message.contains(name), "{message}");
        }
        let off = r#"{"channel":"a","data":1,"tags":{},"idempotency_key":"","delta":false,"version":0,
            "version_epoch":"","skip_history":true}"#;
        publish(off.as_bytes(), BOUNDS).unwrap();
        let (code, message) = refused(r#"{"channel":"a","data":1,"chanel":"b"}"#);
        assert!(code == 107 && message.contains("chanel"), "{message}");
    }

    #[test]
    fn what_is_not_json_is_told_apart_from_what_is_wrong() {
        for body in ["", "{", "{\"channel\":\"a\",\"data\":{]}", "\u{0}"] {
            assert!(matches!(publish(body.as_bytes(), BOUNDS), Err(Refused::NotJson(_))), "{body}");
        }
        assert_eq!(refused("[]").0, 107);
        assert_eq!(refused(r#"{"channel":1,"data":1}"#).0, 107);
        assert_eq!(refused(r#"{"channels":["a"],"data":1}"#).0, 107);
        assert!(matches!(broadcast(br#"{"channels":[],"data":1}"#, BOUNDS), Err(Refused::Error(_))));
        assert!(matches!(broadcast(br#"{"channel":"a","data":1}"#, BOUNDS), Err(Refused::Error(_))));
    }
}
