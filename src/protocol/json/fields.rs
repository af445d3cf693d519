//! How single fields are read: borrowed where the text allows it, null as the zero value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::protocol::filter::RawFilter;
use crate::protocol::maps::{Headers, Subs};

/// A number or a flag.
pub fn zero<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A JSON value as it was written, checked for its form. Null is a value here.
pub fn raw<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<&'a [u8], D::Error> {
    <&'a RawValue>::deserialize(from).map(|value| value.get().as_bytes())
}

/// A string; a copy only if it has escapes.
pub fn text<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Cow<'a, str>, D::Error> {
    struct Text<'a>(PhantomData<&'a str>);

    impl<'de: 'a, 'a> Visitor<'de> for Text<'a> {
        type Value = Cow<'a, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or null")
        }
        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_str(self)
        }
        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }
        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
    }

    from.deserialize_option(Text(PhantomData))
}

/// A string by itself, where there is no field to read it with.
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text(from).map(Self)
    }
}

/// A message. Derived readers take an array of the fields for it as well, which this protocol does not know.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// A message or null.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(from)?.map(|object| object.0))
}

/// An object, checked for its form alone; empty for null.
fn raw_object<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<&'a [u8], D::Error> {
    match raw(from)? {
        b"null" => Ok(b""),
        object if object.starts_with(b"{") => Ok(object),
        _ => Err(D::Error::custom("not an object")),
    }
}

pub fn subs<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Subs<'a>, D::Error> {
    raw_object(from).map(Subs::json)
}

pub fn headers<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Headers<'a>, D::Error> {
    raw_object(from).map(Headers::json)
}

pub fn filter<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<RawFilter<'a>, D::Error> {
    raw_object(from).map(RawFilter::Json)
}
