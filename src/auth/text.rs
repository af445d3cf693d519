//! Types by which serde reads claims in place: text that is borrowed if it has no escapes, and times in the notations that
//! tokens use.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads a JSON object. A derived `Deserialize` accepts a list too; this function does not.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    (json.trim_ascii_start().first() == Some(&b'{')).then(|| serde_json::from_slice(json).ok())?
}

/// A JSON string. Serde's own `Cow` is always owned inside an `Option` or a list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

/// Seconds since 1970 (RFC 7519, section 2, "NumericDate"). Fractions are dropped, and times before 1970 are 0. A string of
/// digits is accepted too: some libraries write one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seconds(pub(super) u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Seconds, E> {
                Ok(Seconds(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Seconds, E> {
                Ok(Seconds(u64::try_from(number).unwrap_or(0)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Seconds, E> {
                // A cast saturates.
                Ok(Seconds(number as u64))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => self.visit_f64(number),
                    _ => Err(E::custom("a string that is not a number of seconds")),
                }
            }
        }
        deserializer.deserialize_any(Visit)
    }
}
