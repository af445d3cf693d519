//! A filter's tree, read from its object: with a budget, and never deeper than that allows.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::Text;
use crate::protocol::filter::{Budget, Draft, FilterError, Node};

/// The root; `None` where it means nothing.
pub fn filter(object: &[u8], budget: &mut Budget) -> Result<Option<Node>, FilterError> {
    let mut from = serde_json::Deserializer::from_slice(object);
    let read = NodeSeed(budget).deserialize(&mut from).and_then(|node| from.end().map(|()| node));
    read.map_err(|_| if budget.spent { FilterError::Invalid } else { FilterError::Malformed })
}

#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Part {
    Op,
    Key,
    Cmp,
    Val,
    Vals,
    Nodes,
    #[serde(other)]
    Other,
}

/// A node, or null, which means nothing.
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
        f.write_str("a filter's node")
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
        let mut draft = Draft::default();
        let mut seen = 0u8;
        while let Some(key) = map.next_key::<Part>()? {
            if !matches!(key, Part::Other) && seen & (1 << key as u8) != 0 {
                return Err(A::Error::custom("a field twice"));
            }
            seen |= 1 << key as u8;
            match key {
                Part::Op => draft.op = text(&mut map)?,
                Part::Key => draft.key = text(&mut map)?,
                Part::Cmp => draft.cmp = text(&mut map)?,
                Part::Val => draft.val = text(&mut map)?,
                Part::Vals => map.next_value_seed(List(budget, &mut draft.vals))?,
                Part::Nodes => map.next_value_seed(List(budget, &mut draft.nodes))?,
                Part::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        budget.leave();
        Ok(draft.node())
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Cow<'de, str>, A::Error> {
    map.next_value::<Text<'de>>().map(|text| text.0)
}

/// An array into a vector, or null.
struct List<'b, T>(&'b mut Budget, &'b mut Vec<T>);

/// What a list can hold.
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
