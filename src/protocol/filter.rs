//! Tag filters: which publications of a channel a subscriber wants, by their tags.
//!
//! A filter is a tree: leaves compare one tag, the nodes above combine them with `and`, `or` and `not`. A subscribe command
//! carries it unparsed (`RawFilter`); `parse_filter` makes a `Filter` of it, checked and bounded. Cost of a match: each leaf
//! that is evaluated reads the tags once.
//!
//! Fields that an operation does not use are ignored: the nodes of a leaf, the values of an `and`.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::decimal::Decimal;
use super::tags::Tags;

/// The size of a filter in its command, in bytes. A filter past this limit, or past one of the three below, is invalid.
pub(super) const FILTER_BYTES_MAX: usize = 16 * 1024;
/// The depth of the tree: bounds the stack that a match needs.
pub(super) const FILTER_DEPTH_MAX: u32 = 32;
/// Nodes, including leaves: bounds the time of a match.
pub(super) const FILTER_NODES_MAX: u32 = 256;
/// The values of all `in` and `nin` leaves together.
pub(super) const FILTER_VALUES_MAX: u32 = 1024;

/// A filter as a subscribe command carries it: not parsed yet, empty for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawFilter<'a> {
    /// A JSON object.
    Json(&'a [u8]),
    /// The fields of a message, which may be empty.
    Protobuf(&'a [u8]),
}

impl Default for RawFilter<'_> {
    fn default() -> Self {
        Self::Json(b"")
    }
}

impl RawFilter<'_> {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Json(b""))
    }
}

/// A valid filter. Equal filters match the same publications.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Filter(pub(super) Node);

impl Filter {
    pub(crate) fn matches(&self, tags: Tags<'_>) -> bool {
        self.0.matches(tags)
    }
}

/// What a filter may still use. Leaving a node gives its depth back.
pub(super) struct Budget {
    depth: u32,
    nodes: u32,
    values: u32,
    /// True after a limit was reached.
    pub(super) is_spent: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { depth: FILTER_DEPTH_MAX, nodes: FILTER_NODES_MAX, values: FILTER_VALUES_MAX, is_spent: false }
    }
}

impl Budget {
    /// Begins a node. False if a limit is reached.
    pub(super) fn enter(&mut self) -> bool {
        let depth = self.depth.checked_sub(1);
        let nodes = self.nodes.checked_sub(1);
        self.is_spent |= depth.is_none() || nodes.is_none();
        (self.depth, self.nodes) = (depth.unwrap_or(0), nodes.unwrap_or(0));
        !self.is_spent
    }

    /// Ends the node that began last.
    pub(super) fn leave(&mut self) {
        self.depth += 1;
    }

    /// Takes a value. False if the limit is reached.
    pub(super) fn value(&mut self) -> bool {
        let values = self.values.checked_sub(1);
        self.is_spent |= values.is_none();
        self.values = values.unwrap_or(0);
        !self.is_spent
    }
}

/// The fields of a node as decoded.
#[derive(Default)]
pub(super) struct NodeFields<'a> {
    pub(super) op: Cow<'a, str>,
    pub(super) key: Cow<'a, str>,
    pub(super) cmp: Cow<'a, str>,
    pub(super) val: Cow<'a, str>,
    pub(super) vals: Vec<Box<str>>,
    /// `None` for invalid nodes.
    pub(super) nodes: Vec<Option<Node>>,
}

impl NodeFields<'_> {
    /// The node; `None` if the fields are invalid.
    pub(super) fn node(self) -> Option<Node> {
        match &*self.op {
            "" => self.leaf(),
            "and" => Some(Node::All(valid(self.nodes)?)),
            "or" => Some(Node::Any(valid(self.nodes)?)),
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
            "ex" if plain => Test::Exists,
            "nex" if plain => Test::NotExists,
            "sw" => Test::StartsWith(val()?),
            "ew" => Test::EndsWith(val()?),
            "ct" => Test::Contains(val()?),
            "lt" => number(Order::Less)?,
            "lte" => number(Order::LessOrEqual)?,
            "gt" => number(Order::Greater)?,
            "gte" => number(Order::GreaterOrEqual)?,
            _ => return None,
        };
        // An empty key can be tested for existence, but not compared.
        let is_valid = !self.key.is_empty() || matches!(test, Test::Exists | Test::NotExists);
        is_valid.then(|| Node::Leaf { key: Box::from(&*self.key), test })
    }
}

/// The nodes, if there is at least one and all are valid.
fn valid(nodes: Vec<Option<Node>>) -> Option<Box<[Node]>> {
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

/// A test of one tag. If the tag is missing, only the negations hold, and a list that contains the empty string.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Test {
    Equal(Box<str>),
    NotEqual(Box<str>),
    OneOf(Box<[Box<str>]>),
    NoneOf(Box<[Box<str>]>),
    Exists,
    NotExists,
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// Compares by value. False if one of the two is not a number.
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
            Self::Exists => found.is_some(),
            Self::NotExists => found.is_none(),
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
