//! The text of a file, TOML or JSON, as named values with their lines.
//!
//! Tables become dots in names. The elements of the lists in `LISTS` become numbers: `channel.namespaces[0].name`. Other
//! lists, and tables whose keys the operator chooses, remain one value.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::flatten::flatten;
use super::raw_setting::{RawSetting, is_json};
use crate::config::error::{ConfigError, ConfigErrors, Origin};
use crate::config::parse::json::{Node, json};
use crate::config::parse::value::{Invalid, Raw, whole_number};
use crate::config::schema::registry::SETTINGS;

/// The values of the file at `path`, in its order. Errors: every place that cannot be read, and a file without any setting,
/// which is rather one that was truncated than one that asks for the defaults.
pub(crate) fn read(path: &Path) -> Result<Vec<RawSetting>, ConfigErrors> {
    let name = path.display().to_string();
    let invalid = |what: String, fix: &str| {
        let origin = Origin::File { path: name.clone(), line: 0 };
        ConfigErrors(vec![ConfigError::new(origin, "", Invalid::new(what, fix))])
    };
    let bytes = contents(path).map_err(|error| {
        let fix = "name a file that this user can read; `corecast config` prints one to start from";
        invalid(format!("cannot be read: {error}"), fix)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let what = format!("cannot be read: byte {} is not UTF-8", error.utf8_error().valid_up_to());
        invalid(what, "save the file as UTF-8; some editors and shells of Windows write UTF-16")
    })?;
    let values = parse(&name, &text)?;
    // JSON needs no such check: `{}` is complete, and a truncated document is not valid.
    if values.is_empty() && !is_json(&name) {
        let what = if text.trim().is_empty() { "the file is empty" } else { "the file contains no setting" };
        let fix = "write the settings, or start without a file to use the defaults; `corecast config` prints a file to start from";
        return Err(invalid(what.into(), fix));
    }
    Ok(values)
}

/// The bytes of a file. A named pipe without a writer is empty: to wait for one would stop a server that reloads.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // A pipe with a writer is read to its end, such as one of the shell's `<(command)`.
    rustix::io::ioctl_fionbio(&file, false)?;
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A warning if the file sets a secret and every user of the host can read it.
pub fn exposed_secret(path: &Path) -> Option<String> {
    let everyone = std::fs::metadata(path).ok().filter(|about| about.permissions().mode() & 0o004 != 0);
    let values = everyone.and_then(|_| read(path).ok())?;
    let is_secret = |value: &RawSetting| match SETTINGS.iter().find(|setting| setting.name == value.name) {
        Some(setting) if setting.verbatim => value.raw != Raw::Text(String::new()),
        Some(setting) if setting.secret => holds_login(&value.raw),
        _ => false,
    };
    let secret = values.iter().find(|value| is_secret(value))?;
    let (name, path) = (&secret.name, path.display());
    Some(format!("{path}: it sets {name}, and every user of this host can read it: run chmod 600 {path}"))
}

/// An address with a login, or a private key.
fn holds_login(raw: &Raw) -> bool {
    let holds = |text: &str| text.contains('@') || text.contains("PRIVATE KEY-----");
    match raw {
        Raw::Text(text) => holds(text),
        Raw::List(items) => items.iter().any(|item| holds(item)),
        _ => false,
    }
}

/// The values of the text of a file. The end of `path` says whether it is TOML or JSON; messages contain it. Errors: every
/// place that cannot be read.
pub fn parse(path: &str, text: &str) -> Result<Vec<RawSetting>, ConfigErrors> {
    // Some editors write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
    let origin = |line| Origin::File { path: path.into(), line };
    let error = |line: usize, what: String, fix: &str| ConfigError::new(origin(line), "", Invalid::new(what, fix));
    let correct = "correct the line; `corecast config` prints a file to start from";
    let root = if is_yaml(path) {
        let what = "YAML is not read, only TOML and JSON".to_owned();
        let fix = "convert it, such as with `yq -o json . FILE.yaml > FILE.json`, and name the new file";
        return Err(ConfigErrors(vec![error(0, what, fix)]));
    } else if is_json(path) {
        let not_json =
            |wrong: serde_json::Error| ConfigErrors(vec![error(wrong.line(), format!("not JSON: {wrong}"), correct)]);
        match json(text).map_err(not_json)? {
            table @ Node::Table(_) => table,
            _ => return Err(ConfigErrors(vec![error(1, "not JSON: the file is not an object".into(), correct)])),
        }
    } else {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() && text.trim_start().starts_with('{') {
            let what = "not TOML: it begins like JSON".to_owned();
            return Err(ConfigErrors(vec![error(1, what, "give the file a name that ends in .json")]));
        }
        if !errors.is_empty() {
            let at = |wrong: &toml::de::Error| wrong.span().map_or(0, |span| line(span.start));
            let errors = errors.iter().map(|wrong| error(at(wrong), format!("not TOML: {}", wrong.message()), correct));
            return Err(ConfigErrors(errors.collect()));
        }
        toml_table(table.get_ref())
    };
    let mut values = Vec::new();
    flatten(String::new(), 0, root, &mut values);
    values.sort_by_key(|(_, at, _)| *at);
    Ok(values.into_iter().map(|(name, at, raw)| RawSetting { name, raw, origin: origin(line(at)) }).collect())
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml")
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
        DeValue::Float(number) => {
            whole_number(number.as_str()).map_or(Raw::Other("number that is not whole"), Raw::Integer)
        }
        other => Raw::Other(other.type_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_pipe_without_a_writer_is_an_empty_file() {
        let path = std::env::temp_dir().join(format!("corecast-{}-pipe.toml", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        let (read, _) = (read(&path), std::fs::remove_file(&path));
        assert!(made.success() && read.is_err_and(|error| error.to_string().contains("the file is empty")));
    }
}
