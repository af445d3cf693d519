//! Addresses of brokers, PEM from several sources, and replacements of texts. What the texts mean is resolved in `brokers`, since
//! only the broker that is used must be right.

use std::collections::BTreeMap;

use super::lists::structured;
use super::scalar::hidden_text;
use super::value::{Invalid, Raw, Unit, list, quoted};

/// Addresses of Redis, which may contain passwords and commas.
pub(crate) enum Addresses {}

impl Unit<Vec<String>> for Addresses {
    const FORM: &'static str = "list of addresses";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<Vec<String>, Invalid> {
        addresses(raw, "write a list, such as [\"redis://127.0.0.1:6379\"]")
    }

    fn show(addresses: &Vec<String>) -> Option<String> {
        Some(list(addresses.iter().cloned()))
    }
}

/// Lists of "host:port", each with commas between its servers.
pub(crate) enum AddressLists {}

impl Unit<Vec<String>> for AddressLists {
    const FORM: &'static str = "list of \"host:port,host:port\"";

    fn read(raw: &Raw) -> Result<Vec<String>, Invalid> {
        addresses(raw, "write a list, such as [\"10.0.0.1:7000,10.0.0.2:7000\"]")
    }

    fn show(addresses: &Vec<String>) -> Option<String> {
        Some(list(addresses.iter().cloned()))
    }
}

/// In text, blanks are between the addresses, as the original reads variables, or it is JSON. Messages do not repeat an address.
fn addresses(raw: &Raw, fix: &str) -> Result<Vec<String>, Invalid> {
    let text = match raw {
        Raw::List(items) => return Ok(items.clone()),
        Raw::Text(text) => text.trim(),
        _ => return Err(Invalid::new("it is not a list of texts", fix)),
    };
    if text.starts_with('[') && text.ends_with(']') {
        return match structured(text) {
            Some(Raw::List(items)) => Ok(items),
            _ => Err(Invalid::new("it is not a JSON list of texts", fix)),
        };
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Addresses of NATS with commas between them, which may contain passwords.
pub(crate) enum NatsUrl {}

impl Unit<String> for NatsUrl {
    const FORM: &'static str = "nats:// or tls://";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        hidden_text(raw).map(|text| text.trim().to_owned())
    }

    fn show(text: &String) -> Option<String> {
        Some(quoted(text))
    }
}

/// PEM, PEM in base64, or the path of a file. It may be a key, so messages do not repeat it.
pub(crate) enum PemSource {}

impl Unit<String> for PemSource {
    const FORM: &'static str = "PEM, PEM in base64, or a file";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        hidden_text(raw).map(|text| text.trim().to_owned())
    }

    fn show(text: &String) -> Option<String> {
        Some(quoted(text))
    }
}

/// Texts and what replaces them: a table, or a list of tables with `key` and `value`.
pub(crate) enum Replacements {}

const REPLACEMENTS_FIX: &str = "write a table, such as { \":\" = \".\" }";

impl Unit<BTreeMap<String, String>> for Replacements {
    const FORM: &'static str = "table";

    fn read(raw: &Raw) -> Result<BTreeMap<String, String>, Invalid> {
        let pairs = match raw {
            Raw::Table(row) => from_table(row)?,
            Raw::Text(text) if text.trim().is_empty() => Vec::new(),
            Raw::Text(text) => match structured(text) {
                Some(Raw::Table(row)) => from_table(&row)?,
                _ => from_rows(raw)?,
            },
            _ => from_rows(raw)?,
        };
        let mut replacements = BTreeMap::new();
        for (key, value) in pairs {
            if key.is_empty() {
                return Err(Invalid::new("an empty text cannot be replaced", REPLACEMENTS_FIX));
            }
            if value.contains("${CENTRIFUGO_VAR_") {
                let what = format!("the value of \"{key}\" names an environment variable, which is not replaced");
                return Err(Invalid::new(what, "write the value itself"));
            }
            if replacements.insert(key.clone(), value).is_some() {
                return Err(Invalid::new(format!("\"{key}\" is replaced twice"), "remove one"));
            }
        }
        Ok(replacements)
    }

    fn show(replacements: &BTreeMap<String, String>) -> Option<String> {
        let pairs = replacements.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)));
        match pairs.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => Some("{}".into()),
            pairs => Some(format!("{{ {pairs} }}")),
        }
    }
}

fn from_table(row: &[(String, Raw)]) -> Result<Vec<(String, String)>, Invalid> {
    let pair = |(key, value): &(String, Raw)| match value {
        Raw::Text(value) => Ok((key.clone(), value.clone())),
        _ => Err(Invalid::new(format!("the value of \"{key}\" is not a text"), REPLACEMENTS_FIX)),
    };
    row.iter().map(pair).collect()
}

fn from_rows(raw: &Raw) -> Result<Vec<(String, String)>, Invalid> {
    let rows = raw.rows(REPLACEMENTS_FIX)?;
    let pair = |row: &Vec<(String, Raw)>| {
        let text = |name: &str| match row.iter().find(|(key, _)| key == name) {
            Some((_, Raw::Text(text))) => Ok(text.clone()),
            _ => Err(Invalid::new(format!("an element has no text {name}"), REPLACEMENTS_FIX)),
        };
        Ok((text("key")?, text("value")?))
    };
    rows.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    #[test]
    fn addresses_are_between_blanks_and_keep_their_commas() {
        for raw in [
            text("redis://:a,b@h:1 unix:///x"),
            text("[\"redis://:a,b@h:1\", \"unix:///x\"]"),
            Raw::List(vec!["redis://:a,b@h:1".into(), "unix:///x".into()]),
        ] {
            assert_eq!(Addresses::read(&raw).unwrap(), ["redis://:a,b@h:1", "unix:///x"]);
        }
        assert_eq!(AddressLists::read(&text("[::1]:7000,h:7001 i:7000")).unwrap(), ["[::1]:7000,h:7001", "i:7000"]);
        assert!(Addresses::read(&text("")).unwrap().is_empty());
        for bad in [text("[redis://:secret@h]"), Raw::Integer(6379)] {
            assert!(!Addresses::read(&bad).unwrap_err().what.contains("secret"));
        }
    }

    #[test]
    fn replacements_come_as_a_table_or_as_a_list() {
        let row = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
        let expected = BTreeMap::from([(":".to_owned(), ".".to_owned())]);
        for raw in [
            Raw::Table(row(&[(":", ".")])),
            Raw::Rows(vec![row(&[("key", ":"), ("value", ".")])]),
            text("{\":\": \".\"}"),
            text("[{\"key\": \":\", \"value\": \".\"}]"),
        ] {
            assert_eq!(Replacements::read(&raw).unwrap(), expected, "{raw:?}");
        }
        assert_eq!(Replacements::show(&expected).unwrap(), "{ \":\" = \".\" }");
        assert!(Replacements::read(&text("{}")).unwrap().is_empty());
        for bad in [
            Raw::Table(row(&[("", ".")])),
            Raw::Table(vec![(":".into(), Raw::Integer(1))]),
            Raw::Table(row(&[(":", "${CENTRIFUGO_VAR_X}")])),
            Raw::Rows(vec![row(&[("key", ":")])]),
            text(":."),
            Raw::Bool(true),
        ] {
            assert!(Replacements::read(&bad).is_err(), "{bad:?}");
        }
    }
}
