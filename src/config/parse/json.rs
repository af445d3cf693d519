//! JSON text as a tree of values that know their places, and the lists and tables of such a tree as values of settings.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::value::{Raw, Row, whole_number};

/// The greatest depth of nested tables and lists.
const DEPTH_MAX: usize = 32;

pub(crate) enum Node {
    Leaf(Raw),
    /// Keys, each with the byte at which it begins; in JSON the byte at which its value begins.
    Table(Vec<(String, usize, Node)>),
    Array(Vec<(usize, Node)>),
}

/// A list as one value. Numbers count as texts, since some settings take lists of either.
pub(crate) fn array(items: Vec<(usize, Node)>) -> Raw {
    let (mut texts, mut rows) = (Vec::new(), Vec::new());
    let count = items.len();
    for (_, node) in items {
        match node {
            Node::Leaf(Raw::Text(text)) => texts.push(text),
            Node::Leaf(Raw::Integer(number)) => texts.push(number.to_string()),
            Node::Table(keys) => rows.push(row(keys)),
            _ => {}
        }
    }
    match () {
        () if texts.len() == count => Raw::List(texts),
        () if rows.len() == count => Raw::Rows(rows),
        () => Raw::Other("list that does not contain only texts or only tables"),
    }
}

/// A table as one value.
pub(crate) fn row(keys: Vec<(String, usize, Node)>) -> Row {
    let mut row = Row::new();
    for (key, _, node) in keys {
        match node {
            Node::Leaf(raw) => row.push((key, raw)),
            Node::Array(items) => row.push((key, array(items))),
            Node::Table(inner) => {
                row.extend(self::row(inner).into_iter().map(|(name, raw)| (format!("{key}.{name}"), raw)))
            }
        }
    }
    row
}

/// The value of a whole text. serde_json reports no positions, but a raw value is a slice of the text.
pub(crate) fn json(text: &str) -> Result<Node, serde_json::Error> {
    json_value(text, serde_json::from_str(text)?, 0)
}

fn json_value(whole: &str, value: &RawValue, depth: usize) -> Result<Node, serde_json::Error> {
    let text = value.get();
    let at = |value: &RawValue| value.get().as_ptr() as usize - whole.as_ptr() as usize;
    if depth > DEPTH_MAX {
        return Err(serde::de::Error::custom("too many nested objects"));
    }
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let mut keys = Vec::new();
            for (key, value) in serde_json::from_str::<Object<'_>>(text)?.0 {
                // Null means unset.
                if value.get() != "null" {
                    keys.push((key, at(value), json_value(whole, value, depth + 1)?));
                }
            }
            Node::Table(keys)
        }
        Some(b'[') => {
            let items = serde_json::from_str::<Vec<&RawValue>>(text)?;
            let items = items.into_iter().map(|item| Ok((at(item), json_value(whole, item, depth + 1)?)));
            Node::Array(items.collect::<Result<_, serde_json::Error>>()?)
        }
        Some(b'"') => Node::Leaf(Raw::Text(serde_json::from_str(text)?)),
        Some(b't' | b'f') => Node::Leaf(Raw::Bool(text == "true")),
        Some(b'n') => Node::Leaf(Raw::Other("null")),
        _ => Node::Leaf(whole_number(text).map_or(Raw::Other("number that is not whole"), Raw::Integer)),
    })
}

/// The members of an object in their order, with duplicates.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
