//! Reads a filter's tree from a JSON object, within a budget.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::Text;
use crate::protocol::error::FilterError;
use crate::protocol::filter::{Budget, Node, NodeFields};

/// The root node; `None` if it is invalid.
pub(crate) fn filter(object: &[u8], budget: &mut Budget) -> Result<Option<Node>, FilterError> {
    let mut from = serde_json::Deserializer::from_slice(object);
    let read = NodeSeed(budget).deserialize(&mut from).and_then(|node| from.end().map(|()| node));
    read.map_err(|_| if budget.is_spent { FilterError::Invalid } else { FilterError::Malformed })
}

#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Op,
    Key,
    Cmp,
    Val,
    Vals,
    Nodes,
    #[serde(other)]
    Other,
}

/// A node or null; null is not valid.
struct NodeSeed<'b>(&'b mut Budget);

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Option<Node>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Option<Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node of a filter")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(budget) = self;
        if !budget.enter() {
            return Err(A::Error::custom("too many nodes"));
        }
        let mut fields = NodeFields::default();
        let mut seen = 0u8;
        while let Some(key) = map.next_key::<Key>()? {
            if !matches!(key, Key::Other) && seen & (1 << key as u8) != 0 {
                return Err(A::Error::custom("a repeated field"));
            }
            seen |= 1 << key as u8;
            match key {
                Key::Op => fields.op = text(&mut map)?,
                Key::Key => fields.key = text(&mut map)?,
                Key::Cmp => fields.cmp = text(&mut map)?,
                Key::Val => fields.val = text(&mut map)?,
                Key::Vals => map.next_value_seed(List(budget, &mut fields.vals))?,
                Key::Nodes => map.next_value_seed(List(budget, &mut fields.nodes))?,
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        budget.leave();
        Ok(fields.node())
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Cow<'de, str>, A::Error> {
    map.next_value::<Text<'de>>().map(|text| text.0)
}

/// Reads an array, or null, into a vector.
struct List<'b, T>(&'b mut Budget, &'b mut Vec<T>);

/// An element of a list.
trait Listed: Sized {
    fn next<'de, A: SeqAccess<'de>>(seq: &mut A, budget: &mut Budget) -> Result<Option<Self>, A::Error>;
}

impl Listed for Box<str> {
    fn next<'de, A: SeqAccess<'de>>(seq: &mut A, budget: &mut Budget) -> Result<Option<Self>, A::Error> {
        let value = seq.next_element::<Text<'de>>()?;
        if value.is_some() && !budget.value() {
            return Err(A::Error::custom("too many values"));
        }
        Ok(value.map(|text| Box::from(&*text.0)))
    }
}

impl Listed for Option<Node> {
    fn next<'de, A: SeqAccess<'de>>(seq: &mut A, budget: &mut Budget) -> Result<Option<Self>, A::Error> {
        seq.next_element_seed(NodeSeed(budget))
    }
}

impl<'de, T: Listed> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, T: Listed> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or null")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(item) = T::next(&mut seq, self.0)? {
            self.1.push(item);
        }
        Ok(())
    }
}
