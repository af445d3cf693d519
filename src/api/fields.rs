//! The field types of requests, borrowed from the body where it holds the value without escapes. In JSON, `null` means
//! that the field is missing, except for a payload, where `null` is a value.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// A string. `null` is empty.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StringField<'a>(pub Cow<'a, str>);

impl Deref for StringField<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a String> for StringField<'a> {
    fn from(text: &'a String) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for StringField<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_option(StringVisitor)
    }
}

struct StringVisitor;

impl<'de> Visitor<'de> for StringVisitor {
    type Value = StringField<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_none<E: Error>(self) -> Result<StringField<'de>, E> {
        Ok(StringField::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<StringField<'de>, D::Error> {
        from.deserialize_str(self)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<StringField<'de>, E> {
        Ok(StringField(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StringField<'de>, E> {
        Ok(StringField(Cow::Owned(text.to_owned())))
    }
}

/// A payload: JSON on one line as it was written, or bytes from a front-end that has bytes. `None`: the field is missing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PayloadField<'a>(pub Option<Cow<'a, [u8]>>);

impl PayloadField<'_> {
    /// Empty also for `null`: for payloads that `null` leaves out.
    pub fn bytes_unless_null(&self) -> &[u8] {
        self.0.as_deref().filter(|&bytes| bytes != b"null").unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PayloadField<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(from).map(|data| Self(Some(without_line_ends(data.get()))))
    }
}

/// The same JSON without line ends, which separate messages on the wire. In JSON they occur only between tokens that need
/// no separator (RFC 8259, sections 2 and 7), so that removing them changes nothing.
fn without_line_ends(json: &str) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'\n', b'\r', json.as_bytes()) {
        None => Cow::Borrowed(json.as_bytes()),
        Some(_) => json.bytes().filter(|&byte| byte != b'\n' && byte != b'\r').collect::<Vec<_>>().into(),
    }
}

/// A field that this server does not support and that would change what a call means. Only its presence matters.
#[derive(Clone, Copy, Debug)]
pub struct UnsupportedField;

impl<'de> Deserialize<'de> for UnsupportedField {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not `IgnoredAny`: this field is known.
        <&RawValue>::deserialize(from).map(|_| Self)
    }
}

/// For `#[serde(deserialize_with)]`: `null` is the default value.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
