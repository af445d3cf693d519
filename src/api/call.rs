//! What backends ask, as both front-ends read it: plain fields, borrowed from the body where that can be.
//!
//! Of JSON: a field that is not known is passed over, since libraries send what other editions of the dialect know, and
//! `null` is a field left out, save for a publication's data, where it is a payload like any other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};
use serde_json::value::RawValue;

/// A call of the server API.
#[derive(Debug)]
pub enum Call<'a> {
    Publish(Publish<'a>),
    Broadcast(Publish<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Disconnect(Disconnect<'a>),
    Refresh(Refresh<'a>),
    Presence(Channel<'a>),
    PresenceStats(Channel<'a>),
    History(History<'a>),
    HistoryRemove(Channel<'a>),
    Channels(Channels<'a>),
    Info,
    Rpc(Rpc<'a>),
}

/// The fields of `publish` and `broadcast`: `channel` is the one's, `channels` the other's.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Publish<'a> {
    #[serde(borrow)]
    pub channel: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub channels: Vec<Text<'a>>,
    pub data: Payload<'a>,
    pub b64data: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<Text<'a>, Text<'a>>,
    pub idempotency_key: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub delta: bool,
    #[serde(deserialize_with = "or_default")]
    pub version: u64,
    pub version_epoch: Text<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Subscribe<'a> {
    #[serde(borrow)]
    pub channel: Text<'a>,
    pub user: Text<'a>,
    pub client: Text<'a>,
    pub session: Text<'a>,
    pub info: Payload<'a>,
    pub b64info: Text<'a>,
    pub data: Payload<'a>,
    pub b64data: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub expire_at: i64,
    pub recover_since: Option<Since<'a>>,
    #[serde(rename = "override", deserialize_with = "or_default")]
    pub overrides: Overrides,
    pub label_filter: Option<Beyond>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

/// An empty channel means every one.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Unsubscribe<'a> {
    #[serde(borrow)]
    pub channel: Text<'a>,
    pub user: Text<'a>,
    pub client: Text<'a>,
    pub session: Text<'a>,
    pub label_filter: Option<Beyond>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Disconnect<'a> {
    #[serde(borrow)]
    pub user: Text<'a>,
    pub client: Text<'a>,
    pub session: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub whitelist: Vec<Text<'a>>,
    pub disconnect: Option<Farewell<'a>>,
    pub label_filter: Option<Beyond>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

/// What the close frame shall say.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Farewell<'a> {
    #[serde(deserialize_with = "or_default")]
    pub code: u32,
    #[serde(borrow)]
    pub reason: Text<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Refresh<'a> {
    #[serde(borrow)]
    pub user: Text<'a>,
    pub client: Text<'a>,
    pub session: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub expired: bool,
    #[serde(deserialize_with = "or_default")]
    pub expire_at: i64,
    pub info: Payload<'a>,
    pub label_filter: Option<Beyond>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

/// A call about one channel that says no more than its name.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Channel<'a> {
    #[serde(borrow)]
    pub channel: Text<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct History<'a> {
    #[serde(borrow)]
    pub channel: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub limit: i32,
    pub since: Option<Since<'a>>,
    #[serde(deserialize_with = "or_default")]
    pub reverse: bool,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Since<'a> {
    #[serde(deserialize_with = "or_default")]
    pub offset: u64,
    #[serde(borrow)]
    pub epoch: Text<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Channels<'a> {
    #[serde(borrow)]
    pub pattern: Text<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Rpc<'a> {
    #[serde(borrow)]
    pub method: Text<'a>,
}

/// The fields of a method that has none.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Nothing {}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Overrides {
    pub presence: Option<Switch>,
    pub join_leave: Option<Switch>,
    pub force_recovery: Option<Switch>,
    pub force_positioning: Option<Switch>,
    pub force_push_join_leave: Option<Switch>,
}

/// Wrapped, so that "off" differs from "not said".
#[derive(Deserialize, Clone, Copy, Default, Debug)]
#[serde(default)]
pub struct Switch {
    #[serde(deserialize_with = "or_default")]
    pub value: bool,
}

/// A field that another edition of the dialect knows and that changes what a call means: being there is all it says.
#[derive(Clone, Copy, Debug)]
pub struct Beyond;

impl<'de> Deserialize<'de> for Beyond {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Self)
    }
}

/// Text, borrowed where the body has it without escapes. `null` is empty.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a String> for Text<'a> {
    fn from(text: &'a String) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_option(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_none<E: Error>(self) -> Result<Text<'de>, E> {
        Ok(Text::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Text<'de>, D::Error> {
        from.deserialize_str(self)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// JSON as it was typed, on one line; or bytes, where the front-end has bytes. `None` where the field is missing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Payload<'a>(pub Option<Cow<'a, [u8]>>);

impl Payload<'_> {
    /// For payloads that are none when they are `null`.
    pub fn or_nothing(&self) -> &[u8] {
        self.0.as_deref().filter(|&bytes| bytes != b"null").unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Payload<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(from).map(|data| Self(Some(one_line(data.get()))))
    }
}

/// The same JSON without line ends, which separate messages on the wire. Within JSON they only ever stand between
/// tokens that need no separator (RFC 8259, sections 2 and 7), so that leaving them out changes nothing.
fn one_line(json: &str) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'\n', b'\r', json.as_bytes()) {
        None => Cow::Borrowed(json.as_bytes()),
        Some(_) => json.bytes().filter(|&byte| byte != b'\n' && byte != b'\r').collect::<Vec<_>>().into(),
    }
}

/// `null` is a field left out.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
