//! Values that are lists or tables: TOML and JSON have them, and the environment and the flags write them as text.

use std::borrow::Cow;

use super::json::{Node, array, json, row};
use super::value::{Invalid, Raw, Row};

impl Raw {
    /// A list of texts. In text it is JSON, or has commas or blanks between its items.
    pub fn items(&self, fix: &str) -> Result<Vec<String>, Invalid> {
        let text = match self {
            Self::List(items) => return Ok(items.clone()),
            Self::Text(text) => text.trim(),
            _ => return Err(self.is_not("a list", fix)),
        };
        // An IPv6 address begins with a bracket too, but ends with its port.
        if text.starts_with('[') && text.ends_with(']') {
            return match structured(text) {
                Some(Self::List(items)) => Ok(items),
                _ => {
                    let fix = "write JSON, such as [\"a\", \"b\"], or only commas or blanks between the items";
                    Err(Invalid::new(format!("\"{text}\" is not a JSON list of texts"), fix))
                }
            };
        }
        let is_between = |c: char| c == ',' || c.is_whitespace();
        Ok(text.split(is_between).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    /// The tables of a list, or of its JSON text. An empty list counts as a list of tables.
    pub fn rows(&self, fix: &str) -> Result<Cow<'_, [Row]>, Invalid> {
        match self {
            Self::Rows(rows) => Ok(Cow::Borrowed(rows)),
            Self::List(items) if items.is_empty() => Ok(Cow::Borrowed(&[])),
            Self::Text(text) => match structured(text) {
                Some(Self::Rows(rows)) => Ok(Cow::Owned(rows)),
                Some(Self::List(items)) if items.is_empty() => Ok(Cow::Borrowed(&[])),
                // The text may hold secrets.
                _ => Err(Invalid::new("the text is not a JSON list of objects", fix)),
            },
            _ => Err(self.is_not("a list of tables", fix)),
        }
    }
}

/// The list or table that `text` is in JSON. None: it is neither.
pub(crate) fn structured(text: &str) -> Option<Raw> {
    match json(text.trim()) {
        Ok(Node::Array(items)) => Some(array(items)),
        Ok(Node::Table(keys)) => Some(Raw::Table(row(keys))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Result<Vec<String>, Invalid> {
        Raw::Text(text.into()).items("fix")
    }

    #[test]
    fn list_in_text_is_json_or_has_separators() {
        for text in ["a b", "a,b", " a,\tb\n", "a\r\nb\r\n", "[\"a\", \"b\"]", " [\"a\",\"b\"]\n"] {
            assert_eq!(items(text).unwrap(), ["a", "b"], "{text:?}");
        }
        assert_eq!(items("[::]:8000,[::1]:80").unwrap(), ["[::]:8000", "[::1]:80"]);
        assert_eq!(items("[0, 1]").unwrap(), ["0", "1"]);
        assert!(items("[]").unwrap().is_empty() && items("").unwrap().is_empty());
        // As Go and YAML print a list: the brackets would become a part of the items.
        for text in ["[a b]", "[a, b]", "['a']", "[{\"a\": 1}]"] {
            assert!(items(text).unwrap_err().fix.contains("JSON"), "{text}");
        }
    }

    #[test]
    fn tables_in_text_are_json() {
        let rows = |text: &str| Raw::Text(text.into()).rows("fix").map(Cow::into_owned);
        let one = vec![vec![("a".to_owned(), Raw::Integer(1)), ("b.c".to_owned(), Raw::Text("x".into()))]];
        assert_eq!(rows("[{\"a\": 1, \"b\": {\"c\": \"x\"}}]").unwrap(), one);
        assert!(rows(" [] ").unwrap().is_empty());
        for text in ["", "a", "{\"a\": 1}", "[1]", "[{\"secret\": ]"] {
            assert!(!rows(text).unwrap_err().what.contains("secret"), "{text}");
        }
    }
}
