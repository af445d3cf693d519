//! The text of a file, TOML or JSON, as named values with their lines.
//!
//! Tables become dots in names. The elements of the lists in `LISTS` become numbers: `channel.namespaces[0].name`. Other
//! lists, and tables whose keys the operator chooses, remain one value.

use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::raw_setting::{RawSetting, is_json};
use crate::config::error::{ConfigError, ConfigErrors, Origin};
use crate::config::parse::value::{Invalid, Raw, Row};
use crate::config::schema::registry::{LISTS, SETTINGS};

/// The greatest depth of nested tables and lists.
const DEPTH_MAX: usize = 32;

enum Node {
    Leaf(Raw),
    /// Keys, each with the byte at which it begins; in JSON the byte at which its value begins.
    Table(Vec<(String, usize, Node)>),
    Array(Vec<(usize, Node)>),
}

/// The values of the file at `path`, in its order. Errors: every place that cannot be read, and a file without any setting,
/// which is rather one that was truncated than one that asks for the defaults.
pub(crate) fn read(path: &Path) -> Result<Vec<RawSetting>, ConfigErrors> {
    let name = path.display().to_string();
    let error = |what: String, fix: &str| {
        let origin = Origin::File { path: name.clone(), line: 0 };
        ConfigErrors(vec![ConfigError::new(origin, "", Invalid::new(what, fix))])
    };
    let text = std::fs::read_to_string(path).map_err(|wrong| {
        let fix = "name a file that this user can read; `corecast config` prints one to start from";
        error(format!("cannot be read: {wrong}"), fix)
    })?;
    let values = parse(&name, &text)?;
    // `{}` is a whole document, and a truncated JSON document is none.
    if values.is_empty() && !is_json(&name) {
        let what = if text.trim().is_empty() { "the file is empty" } else { "the file contains no setting" };
        let fix = "write the settings, or start without a file to use the defaults; `corecast config` prints a file to start from";
        return Err(error(what.into(), fix));
    }
    Ok(values)
}

/// The values of the text of a file. The end of `path` says whether it is TOML or JSON; messages contain it. Errors: every
/// place that cannot be read.
pub fn parse(path: &str, text: &str) -> Result<Vec<RawSetting>, ConfigErrors> {
    let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
    let origin = |line| Origin::File { path: path.into(), line };
    let error = |line: usize, kind: &str, message: &str| {
        let fix = "correct the line; `corecast config` prints a file to start from";
        ConfigError::new(origin(line), "", Invalid::new(format!("not {kind}: {message}"), fix))
    };
    let root = if is_json(path) {
        json(text).map_err(|wrong| ConfigErrors(vec![error(wrong.line(), "JSON", &wrong.to_string())]))?
    } else {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let errors = errors
                .iter()
                .map(|wrong| error(wrong.span().map_or(0, |span| line(span.start)), "TOML", wrong.message()));
            return Err(ConfigErrors(errors.collect()));
        }
        toml_table(table.get_ref())
    };
    let mut values = Vec::new();
    flatten(String::new(), 0, root, &mut values);
    values.sort_by_key(|(_, at, _)| *at);
    Ok(values.into_iter().map(|(name, at, raw)| RawSetting { name, raw, origin: origin(line(at)) }).collect())
}

fn flatten(name: String, at: usize, node: Node, out: &mut Vec<(String, usize, Raw)>) {
    match node {
        Node::Leaf(raw) => out.push((name, at, raw)),
        Node::Table(keys) if name.ends_with(".static_headers") => out.push((name, at, Raw::Table(row(keys)))),
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

fn array(items: Vec<(usize, Node)>) -> Raw {
    let (mut texts, mut rows) = (Vec::new(), Vec::new());
    let count = items.len();
    for (_, node) in items {
        match node {
            Node::Leaf(Raw::Text(text)) => texts.push(text),
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

fn row(keys: Vec<(String, usize, Node)>) -> Row {
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

fn toml_table(table: &DeTable<'_>) -> Node {
    let keys =
        table.iter().map(|(key, value)| (key.get_ref().to_string(), key.span().start, toml_value(value.get_ref())));
    Node::Table(keys.collect())
}

fn toml_value(value: &DeValue<'_>) -> Node {
    Node::Leaf(match value {
        DeValue::Table(table) => return toml_table(table),
        DeValue::Array(items) => {
            return Node::Array(items.iter().map(|item| (item.span().start, toml_value(item.get_ref()))).collect());
        }
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(on) => Raw::Bool(*on),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other("large integer"), Raw::Integer)
        }
        other => Raw::Other(other.type_str()),
    })
}

/// serde_json reports no positions, but a raw value is a slice of the text.
fn json(text: &str) -> Result<Node, serde_json::Error> {
    let root: &RawValue = serde_json::from_str(text)?;
    if !root.get().starts_with('{') {
        return Err(serde::de::Error::custom("the file is not an object"));
    }
    json_value(text, root, 0)
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
        _ => Node::Leaf(text.parse().map_or(Raw::Other("number that is not whole"), Raw::Integer)),
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
