//! Reads a filter's tree from a message, within a budget.

use std::borrow::Cow;

use super::wire::Fields;
use crate::protocol::error::{FilterError, Malformed};
use crate::protocol::filter::{Budget, Node, NodeFields};

/// The root node; `None` if it is invalid.
pub(crate) fn filter(message: &[u8], budget: &mut Budget) -> Result<Option<Node>, FilterError> {
    node(message, budget)
        .map_err(|Malformed| if budget.is_spent { FilterError::Invalid } else { FilterError::Malformed })
}

fn node(message: &[u8], budget: &mut Budget) -> Result<Option<Node>, Malformed> {
    if !budget.enter() {
        return Err(Malformed);
    }
    let mut fields = NodeFields::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => fields.op = Cow::Borrowed(field.text()?),
            2 => fields.key = Cow::Borrowed(field.text()?),
            3 => fields.cmp = Cow::Borrowed(field.text()?),
            4 => fields.val = Cow::Borrowed(field.text()?),
            5 if budget.value() => fields.vals.push(Box::from(field.text()?)),
            5 => return Err(Malformed),
            6 => fields.nodes.push(node(field.bytes()?, budget)?),
            _ => (),
        }
    }
    budget.leave();
    Ok(fields.node())
}
