//! Tag filters: which publications of a channel a subscriber wants, by their tags.
//!
//! A filter is a tree: leaves compare one tag, the nodes above combine them with `and`, `or` and `not`. A subscribe command
//! carries it unparsed (`RawFilter`); `parse_filter` reads the tree, checked and bounded, and `packed_filter` makes of it the
//! `Filter` that a subscription keeps.
//!
//! Fields that an operation does not use are ignored: the nodes of a leaf, the values of an `and`.

use std::borrow::Cow;

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
            "and" => Some(Node::Inner(Operation::All, valid(self.nodes)?)),
            "or" => Some(Node::Inner(Operation::Any, valid(self.nodes)?)),
            "not" if self.nodes.len() == 1 => Some(Node::Inner(Operation::Not, valid(self.nodes)?)),
            _ => None,
        }
    }

    fn leaf(self) -> Option<Node> {
        let test = Operation::of_comparison(&self.cmp)?;
        let (has_val, has_vals) = (!self.val.is_empty(), !self.vals.is_empty());
        let (needs_val, needs_vals) = match test {
            Operation::Exists | Operation::NotExists => (false, false),
            Operation::OneOf | Operation::NoneOf => (false, true),
            _ => (true, false),
        };
        // An empty key can be tested for existence, but not compared.
        let has_key = !self.key.is_empty() || !(needs_val || needs_vals);
        let is_valid = (has_val, has_vals) == (needs_val, needs_vals) && has_key;
        let values = if needs_val { vec![Box::from(&*self.val)] } else { self.vals };
        is_valid.then(|| Node::Leaf { key: Box::from(&*self.key), test, values })
    }
}

/// The nodes, if there is at least one and all are valid.
fn valid(nodes: Vec<Option<Node>>) -> Option<Vec<Node>> {
    let nodes: Vec<Node> = nodes.into_iter().collect::<Option<_>>()?;
    (!nodes.is_empty()).then_some(nodes)
}

/// A node of the tree, which exists only while a command is read.
pub(super) enum Node {
    Leaf {
        key: Box<str>,
        test: Operation,
        values: Vec<Box<str>>,
    },
    /// `Operation::All`, `Any` or `Not`; the last has one node.
    Inner(Operation, Vec<Node>),
}

/// What a node does. If the tag of a leaf is missing, only the negations hold, and a list that contains the empty string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    All,
    Any,
    Not,
    Equal,
    NotEqual,
    OneOf,
    NoneOf,
    Exists,
    NotExists,
    StartsWith,
    EndsWith,
    Contains,
    // These compare by value, and are false if one of the two is not a number.
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The operations in the order of their discriminants, leaves with their name in a command.
const OPERATIONS: [(Operation, &str); 16] = [
    (Operation::All, ""),
    (Operation::Any, ""),
    (Operation::Not, ""),
    (Operation::Equal, "eq"),
    (Operation::NotEqual, "neq"),
    (Operation::OneOf, "in"),
    (Operation::NoneOf, "nin"),
    (Operation::Exists, "ex"),
    (Operation::NotExists, "nex"),
    (Operation::StartsWith, "sw"),
    (Operation::EndsWith, "ew"),
    (Operation::Contains, "ct"),
    (Operation::Less, "lt"),
    (Operation::LessOrEqual, "lte"),
    (Operation::Greater, "gt"),
    (Operation::GreaterOrEqual, "gte"),
];

impl Operation {
    /// The operation of a leaf, by its name in a command.
    pub(super) fn of_comparison(name: &str) -> Option<Self> {
        let known = OPERATIONS.iter().find(|(_, known)| !known.is_empty() && *known == name)?;
        Some(known.0)
    }

    /// What stands for it in a packed filter.
    pub(super) fn letter(self) -> char {
        char::from(b'a' + self as u8)
    }

    pub(super) fn of_letter(letter: u8) -> Option<Self> {
        Some(OPERATIONS.get(usize::from(letter.checked_sub(b'a')?))?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_listed_in_the_order_of_their_discriminants() {
        for (index, (operation, _)) in OPERATIONS.iter().enumerate() {
            assert_eq!(*operation as usize, index);
            assert_eq!(Operation::of_letter(operation.letter() as u8), Some(*operation));
        }
        assert_eq!(Operation::of_comparison(""), None);
    }
}
