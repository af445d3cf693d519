//! Tag filters: which publications of a channel a subscriber wants, by their tags.
//!
//! A filter is a tree: leaves compare one tag, the nodes above combine them with `and`, `or` and `not`. It comes with a
//! subscribe command, which keeps it unread (`RawFilter`); whoever allows filters makes a `Filter` of it, checked and bounded,
//! and asks that one for every publication. Cost of a match: for every leaf that is asked a walk over the tags.
//!
//! A part of a node that its operation does not use is read over: a leaf's nodes, the values of an `and`.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::decimal::Decimal;
use super::tags::Tags;
use super::{json, protobuf};

/// Bytes of a filter in its command. Like the three below: past it the filter is invalid.
pub const FILTER_BYTES_MAX: usize = 16 * 1024;
/// Nodes above one another: what a match may take of the stack.
pub const FILTER_DEPTH_MAX: u32 = 32;
/// Nodes, leaves among them: what a match may take of the time.
pub const FILTER_NODES_MAX: u32 = 256;
/// Values to be one of, in all leaves together.
pub const FILTER_VALUES_MAX: u32 = 1024;

/// A filter as a subscribe command carries it: not looked into yet, empty where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawFilter<'a> {
    /// A JSON object.
    Json(&'a [u8]),
    /// The fields of a message, which may be none.
    Protobuf(&'a [u8]),
}

impl Default for RawFilter<'_> {
    fn default() -> Self {
        Self::Json(b"")
    }
}

/// What is wrong with a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterError {
    /// A field is not of its type: the command is malformed, and the connection closes.
    Malformed,
    /// It means nothing, or it is too large: refused with `ErrorCode::BadRequest`.
    Invalid,
}

impl RawFilter<'_> {
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Json(b""))
    }

    /// The filter, checked; `None` where there is none.
    pub fn filter(&self) -> Result<Option<Filter>, FilterError> {
        let (Self::Json(bytes) | Self::Protobuf(bytes)) = *self;
        if self.is_none() {
            return Ok(None);
        }
        if bytes.len() > FILTER_BYTES_MAX {
            return Err(FilterError::Invalid);
        }
        let mut budget = Budget::default();
        let root = match self {
            Self::Json(_) => json::filter(bytes, &mut budget)?,
            Self::Protobuf(_) => protobuf::filter(bytes, &mut budget)?,
        };
        root.map(|root| Some(Filter(root))).ok_or(FilterError::Invalid)
    }
}

/// A filter that is well-formed. Equal ones match the same publications.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Filter(Node);

impl Filter {
    pub fn matches(&self, tags: Tags<'_>) -> bool {
        self.0.matches(tags)
    }
}

/// What a filter may still have. Depth is given back.
pub(super) struct Budget {
    depth: u32,
    nodes: u32,
    values: u32,
    /// True once something was refused.
    pub spent: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { depth: FILTER_DEPTH_MAX, nodes: FILTER_NODES_MAX, values: FILTER_VALUES_MAX, spent: false }
    }
}

impl Budget {
    /// Begins a node. False if there may be none.
    pub fn enter(&mut self) -> bool {
        let depth = self.depth.checked_sub(1);
        let nodes = self.nodes.checked_sub(1);
        self.spent |= depth.is_none() || nodes.is_none();
        (self.depth, self.nodes) = (depth.unwrap_or(0), nodes.unwrap_or(0));
        !self.spent
    }

    /// Ends the node that was begun last.
    pub fn leave(&mut self) {
        self.depth += 1;
    }

    /// Takes a value. False if there may be none.
    pub fn value(&mut self) -> bool {
        let values = self.values.checked_sub(1);
        self.spent |= values.is_none();
        self.values = values.unwrap_or(0);
        !self.spent
    }
}

/// A node's fields as they came.
#[derive(Default)]
pub(super) struct Draft<'a> {
    pub op: Cow<'a, str>,
    pub key: Cow<'a, str>,
    pub cmp: Cow<'a, str>,
    pub val: Cow<'a, str>,
    pub vals: Vec<Box<str>>,
    /// `None` for those that mean nothing.
    pub nodes: Vec<Option<Node>>,
}

impl Draft<'_> {
    /// What the fields mean, if anything.
    pub fn node(self) -> Option<Node> {
        match &*self.op {
            "" => self.leaf(),
            "and" => Some(Node::All(some(self.nodes)?)),
            "or" => Some(Node::Any(some(self.nodes)?)),
            "not" => match <[_; 1]>::try_from(self.nodes) {
                Ok([Some(node)]) => Some(Node::Not(Box::new(node))),
                _ => None,
            },
            _ => None,
        }
    }

    fn leaf(self) -> Option<Node> {
        let with_val = !self.val.is_empty() && self.vals.is_empty();
        let with_vals = self.val.is_empty() && !self.vals.is_empty();
        let val = || with_val.then(|| Box::from(&*self.val));
        let vals = |vals: Vec<Box<str>>| with_vals.then(|| vals.into_boxed_slice());
        let plain = self.val.is_empty() && self.vals.is_empty();
        let number = |order| val().map(|than| Test::Number(order, than));
        let test = match &*self.cmp {
            "eq" => Test::Equal(val()?),
            "neq" => Test::NotEqual(val()?),
            "in" => Test::OneOf(vals(self.vals)?),
            "nin" => Test::NoneOf(vals(self.vals)?),
            "ex" if plain => Test::There,
            "nex" if plain => Test::NotThere,
            "sw" => Test::StartsWith(val()?),
            "ew" => Test::EndsWith(val()?),
            "ct" => Test::Contains(val()?),
            "lt" => number(Order::Less)?,
            "lte" => number(Order::LessOrEqual)?,
            "gt" => number(Order::Greater)?,
            "gte" => number(Order::GreaterOrEqual)?,
            _ => return None,
        };
        // A key without letters can be asked for, but not compared.
        let named = !self.key.is_empty() || matches!(test, Test::There | Test::NotThere);
        named.then(|| Node::Leaf { key: Box::from(&*self.key), test })
    }
}

/// Nodes that all mean something, and at least one.
fn some(nodes: Vec<Option<Node>>) -> Option<Box<[Node]>> {
    let nodes: Box<[Node]> = nodes.into_iter().collect::<Option<_>>()?;
    (!nodes.is_empty()).then_some(nodes)
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Node {
    Leaf { key: Box<str>, test: Test },
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
}

/// What is asked of a tag. Only the negations hold where it is missing, and a list that has the empty string.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Test {
    Equal(Box<str>),
    NotEqual(Box<str>),
    OneOf(Box<[Box<str>]>),
    NoneOf(Box<[Box<str>]>),
    There,
    NotThere,
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// By value, exactly; where one of the two is no number, nothing holds.
    Number(Order, Box<str>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

impl Node {
    fn matches(&self, tags: Tags<'_>) -> bool {
        match self {
            Self::Leaf { key, test } => test.holds(tags.get(key)),
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
        }
    }
}

impl Test {
    fn holds(&self, found: Option<&str>) -> bool {
        let listed = |vals: &[Box<str>]| vals.iter().any(|val| **val == *found.unwrap_or(""));
        match self {
            Self::Equal(val) => found == Some(val),
            Self::NotEqual(val) => found != Some(val),
            Self::OneOf(vals) => listed(vals),
            Self::NoneOf(vals) => !listed(vals),
            Self::There => found.is_some(),
            Self::NotThere => found.is_none(),
            Self::StartsWith(val) => found.is_some_and(|found| found.starts_with(&**val)),
            Self::EndsWith(val) => found.is_some_and(|found| found.ends_with(&**val)),
            Self::Contains(val) => found.is_some_and(|found| found.contains(&**val)),
            Self::Number(order, than) => {
                let pair = found.and_then(Decimal::parse).zip(Decimal::parse(than));
                pair.is_some_and(|(found, than)| order.holds(found.cmp(&than)))
            }
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
