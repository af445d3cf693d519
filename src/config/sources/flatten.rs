//! A tree of values as named values.

use crate::config::parse::json::{Node, array, row};
use crate::config::parse::value::{Raw, Row};
use crate::config::schema::registry::{LISTS, SETTINGS};

/// Settings that are tables whose keys the operator chooses.
const KEYED: [&str; 2] = [".static_headers", ".channel_replacements"];

/// Adds the values of `node`, each with its name and the byte at which it begins. Tables become dots in names.
pub(crate) fn flatten(name: String, at: usize, node: Node, out: &mut Vec<(String, usize, Raw)>) {
    match node {
        Node::Leaf(raw) => out.push((name, at, raw)),
        Node::Table(keys) if KEYED.iter().any(|end| name.ends_with(end)) => out.push((name, at, Raw::Table(row(keys)))),
        Node::Table(keys) if keys.is_empty() => {
            let section = format!("{name}.");
            let known = name.is_empty() || SETTINGS.iter().any(|setting| setting.name.starts_with(&section));
            if !known {
                out.push((name, at, Raw::Table(Row::new())));
            }
        }
        Node::Table(keys) => {
            for (key, at, node) in keys {
                flatten(if name.is_empty() { key } else { format!("{name}.{key}") }, at, node, out);
            }
        }
        Node::Array(items) if LISTS.contains(&name.as_str()) => {
            for (number, (at, node)) in items.into_iter().enumerate() {
                flatten(format!("{name}[{number}]"), at, node, out);
            }
        }
        Node::Array(items) => out.push((name, at, array(items))),
    }
}
