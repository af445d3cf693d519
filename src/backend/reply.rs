//! Responses of the backend in the form that both encodings are read into: `{"result":…}`, `{"error":…}` or
//! `{"disconnect":…}`, with one type of result for each kind of call. The JSON reader is here; `protobuf` converts messages.
//!
//! In JSON, unknown fields are ignored and `null` means that the field is absent, except for payloads: there `null` is the
//! payload.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use serde_json::value::RawValue;

use super::fault::Malformed;

/// At most one of the three counts: `disconnect` before `error` before `result`.
pub(crate) struct Reply<T> {
    pub result: Option<T>,
    pub error: Option<ErrorPart>,
    pub disconnect: Option<DisconnectPart>,
}

#[derive(Deserialize)]
struct Fields<T> {
    #[serde(default = "none")]
    result: Option<Object<T>>,
    #[serde(default)]
    error: Option<Object<ErrorPart>>,
    #[serde(default)]
    disconnect: Option<Object<DisconnectPart>>,
}

/// Reads a JSON body.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Reply<T>, Malformed> {
    let Object(Fields { result, error, disconnect }) = serde_json::from_slice(body)?;
    Ok(Reply {
        result: result.map(|Object(result)| result),
        error: error.map(|Object(error)| error),
        disconnect: disconnect.map(|Object(disconnect)| disconnect),
    })
}

/// Reads the response to a refresh. The body `null` has no result, and so extends nothing.
pub(crate) fn read_refresh(body: &[u8]) -> Result<Reply<RefreshResult>, Malformed> {
    match body.trim_ascii() {
        b"null" => Ok(Reply { result: None, error: None, disconnect: None }),
        body => read(body),
    }
}

/// The default of `Option`, which the derive macro would require of `T`.
fn none<T>() -> Option<T> {
    None
}

#[derive(Deserialize)]
pub(crate) struct ErrorPart {
    #[serde(default, deserialize_with = "or_default")]
    pub code: u32,
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
}

#[derive(Deserialize)]
pub(crate) struct DisconnectPart {
    #[serde(default, deserialize_with = "or_default")]
    pub code: u32,
    #[serde(default, deserialize_with = "or_default")]
    pub reason: String,
}

#[derive(Deserialize)]
pub(crate) struct ConnectResult {
    #[serde(default, deserialize_with = "or_default")]
    pub user: String,
    #[serde(default, deserialize_with = "seconds")]
    pub expire_at: i64,
    #[serde(default, deserialize_with = "also_null")]
    pub info: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64info: String,
    #[serde(default, deserialize_with = "also_null")]
    pub data: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64data: String,
    #[serde(default, deserialize_with = "also_null")]
    pub meta: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub channels: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub subs: BTreeMap<String, Option<Object<SubscribeResult>>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct SubscribeResult {
    #[serde(default, deserialize_with = "seconds")]
    pub expire_at: i64,
    #[serde(default, deserialize_with = "also_null")]
    pub info: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64info: String,
    #[serde(default, deserialize_with = "also_null")]
    pub data: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64data: String,
    #[serde(default, rename = "override", deserialize_with = "or_default")]
    pub overrides: Object<Override>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Override {
    pub presence: Option<Object<Flag>>,
    pub join_leave: Option<Object<Flag>>,
    pub force_recovery: Option<Object<Flag>>,
    pub force_positioning: Option<Object<Flag>>,
    pub force_push_join_leave: Option<Object<Flag>>,
}

#[derive(Deserialize)]
pub(crate) struct Flag {
    #[serde(default, deserialize_with = "or_default")]
    pub value: bool,
}

/// The result of `refresh` and of `sub_refresh`; the latter has no `meta`.
#[derive(Deserialize)]
pub(crate) struct RefreshResult {
    #[serde(default, deserialize_with = "or_default")]
    pub expired: bool,
    #[serde(default, deserialize_with = "seconds")]
    pub expire_at: i64,
    #[serde(default, deserialize_with = "also_null")]
    pub info: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64info: String,
    #[serde(default, deserialize_with = "also_null")]
    pub meta: Option<Vec<u8>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct PublishResult {
    #[serde(default, deserialize_with = "also_null")]
    pub data: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64data: String,
    #[serde(default, deserialize_with = "or_default")]
    pub skip_history: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub tags: BTreeMap<String, Option<String>>,
    #[serde(default, deserialize_with = "or_default")]
    pub idempotency_key: String,
    #[serde(default, deserialize_with = "or_default")]
    pub delta: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub version: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub version_epoch: String,
}

#[derive(Default, Deserialize)]
pub(crate) struct RpcResult {
    #[serde(default, deserialize_with = "also_null")]
    pub data: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    pub b64data: String,
}

/// A struct that must be an object in JSON. A derived reader also accepts arrays, and would take `[]`, the empty map of some
/// languages, for an empty result, which allows the command.
#[derive(Default)]
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Members(PhantomData))
    }
}

fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A time in any notation of a JSON number: a fraction is dropped, and what does not fit is the nearest that does.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let number = Option::<Number>::deserialize(from)?;
    // The cast saturates.
    Ok(number.map_or(0, |number| {
        let beyond = || if number.is_u64() { i64::MAX } else { number.as_f64().unwrap_or_default() as i64 };
        number.as_i64().unwrap_or_else(beyond)
    }))
}

/// For payloads: `null` is a value, and only a missing field counts as absent.
fn also_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    <&RawValue>::deserialize(from).map(|raw| Some(one_line(raw.get())))
}

/// The same JSON without line ends, which separate messages in the client protocol. In valid JSON they occur only between
/// tokens that need no separator (RFC 8259, sections 2 and 7).
pub(crate) fn one_line(json: &str) -> Vec<u8> {
    json.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect()
}
