//! A filter's tree, read from its message: with a budget, and never deeper than that allows.

use std::borrow::Cow;

use super::wire::Fields;
use crate::protocol::command::Malformed;
use crate::protocol::filter::{Budget, Draft, FilterError, Node};

/// The root; `None` where it means nothing.
pub fn filter(message: &[u8], budget: &mut Budget) -> Result<Option<Node>, FilterError> {
    node(message, budget).map_err(|Malformed| if budget.spent { FilterError::Invalid } else { FilterError::Malformed })
}

fn node(message: &[u8], budget: &mut Budget) -> Result<Option<Node>, Malformed> {
    if !budget.enter() {
        return Err(Malformed);
    }
    let mut draft = Draft::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => draft.op = Cow::Borrowed(field.text()?),
            2 => draft.key = Cow::Borrowed(field.text()?),
            3 => draft.cmp = Cow::Borrowed(field.text()?),
            4 => draft.val = Cow::Borrowed(field.text()?),
            5 if budget.value() => draft.vals.push(Box::from(field.text()?)),
            5 => return Err(Malformed),
            6 => draft.nodes.push(node(field.bytes()?, budget)?),
            _ => (),
        }
    }
    budget.leave();
    Ok(draft.node())
}
