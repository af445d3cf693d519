//! A filter as a subscription keeps it: one text in one allocation, shared by all that need it, and no longer than its
//! command. Cost of a match: each leaf that is evaluated reads the tags once.
//!
//! A node is its operation (one letter), the length of its content, and its content: its nodes, or for a leaf the key and the
//! values, each after its length. A length is two digits in base 128. All of that is ASCII, so that the whole is UTF-8, and
//! texts are borrowed from it unchecked.

use std::sync::Arc;

use super::decimal::Decimal;
use super::filter::{FILTER_BYTES_MAX, Node, Operation};
use super::tags::Tags;

/// What two digits can hold.
const LENGTH_MAX: usize = (1 << 14) - 1;
/// What an allocation holds besides the text.
const OVERHEAD_BYTES: usize = 2 * size_of::<usize>();

/// A valid filter. Equal filters match the same publications.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Filter(Arc<str>);

impl Filter {
    /// `None` if it is too long, which only a filter whose command is too long can be.
    pub(super) fn pack(root: &Node) -> Option<Self> {
        let mut out = String::new();
        pack(root, &mut out);
        (out.len() <= FILTER_BYTES_MAX.min(LENGTH_MAX)).then(|| Self(out.into()))
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len() + OVERHEAD_BYTES
    }

    pub(crate) fn matches(&self, tags: Tags<'_>) -> bool {
        Nodes(&self.0).next().is_some_and(|node| node.matches(tags))
    }
}

fn pack(node: &Node, out: &mut String) {
    let (Node::Leaf { test: operation, .. } | Node::Inner(operation, _)) = node;
    out.push(operation.letter());
    let at = out.len();
    match node {
        Node::Inner(_, nodes) => nodes.iter().for_each(|node| pack(node, out)),
        Node::Leaf { key, values, .. } => {
            for text in [key].into_iter().chain(values) {
                out.push_str(&digits(text.len()));
                out.push_str(text);
            }
        }
    }
    let length = out.len() - at;
    out.insert_str(at, &digits(length));
}

/// A length past `LENGTH_MAX` makes the whole too long, whatever its digits are.
fn digits(length: usize) -> String {
    [length >> 7, length].iter().map(|digit| char::from((digit & 0x7f) as u8)).collect()
}

/// Takes a length and as many bytes of text.
fn take<'a>(text: &mut &'a str) -> Option<&'a str> {
    let &[high, low] = text.as_bytes().first_chunk()?;
    let end = 2 + (usize::from(high) << 7 | usize::from(low));
    let taken = text.get(2..end)?;
    *text = &text[end..];
    Some(taken)
}

/// The nodes of a text, one after another.
struct Nodes<'a>(&'a str);

struct PackedNode<'a> {
    operation: Operation,
    content: &'a str,
}

impl<'a> Iterator for Nodes<'a> {
    type Item = PackedNode<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let operation = Operation::of_letter(*self.0.as_bytes().first()?)?;
        self.0 = &self.0[1..];
        Some(PackedNode { operation, content: take(&mut self.0)? })
    }
}

impl PackedNode<'_> {
    fn matches(&self, tags: Tags<'_>) -> bool {
        let mut nodes = Nodes(self.content);
        match self.operation {
            Operation::All => nodes.all(|node| node.matches(tags)),
            Operation::Any => nodes.any(|node| node.matches(tags)),
            Operation::Not => nodes.all(|node| !node.matches(tags)),
            _ => self.leaf_matches(tags).unwrap_or(false),
        }
    }

    /// `None` if the comparison has no value, which a valid filter has.
    fn leaf_matches(&self, tags: Tags<'_>) -> Option<bool> {
        let mut texts = self.content;
        let found = tags.get(take(&mut texts)?);
        let mut value = || take(&mut texts);
        Some(match self.operation {
            Operation::Exists => found.is_some(),
            Operation::NotExists => found.is_none(),
            Operation::OneOf => std::iter::from_fn(value).any(|value| value == found.unwrap_or("")),
            Operation::NoneOf => std::iter::from_fn(value).all(|value| value != found.unwrap_or("")),
            Operation::Equal => found == Some(value()?),
            Operation::NotEqual => found != Some(value()?),
            Operation::StartsWith => found?.starts_with(value()?),
            Operation::EndsWith => found?.ends_with(value()?),
            Operation::Contains => found?.contains(value()?),
            numeric => {
                let order = Decimal::parse(found?)?.cmp(&Decimal::parse(value()?)?);
                match numeric {
                    Operation::Less => order.is_lt(),
                    Operation::LessOrEqual => order.is_le(),
                    Operation::Greater => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_ascii_and_read_back() {
        for length in [0, 1, 127, 128, 129, LENGTH_MAX] {
            let text = digits(length) + &"x".repeat(length) + "rest";
            let mut rest = text.as_str();
            assert_eq!((take(&mut rest).map(str::len), rest), (Some(length), "rest"));
        }
        assert_eq!(take(&mut "\0"), None);
        assert_eq!(take(&mut "\0\x02\u{e9}x"), Some("\u{e9}"));
        assert_eq!(take(&mut "\0\x01\u{e9}"), None, "not within a character");
    }
}
