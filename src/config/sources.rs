//! The sources: a TOML file, the environment, the flags. Each becomes a list of named values that know where they stand.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Faults, Origin, nearest};
use super::settings::SETTINGS;
use super::value::{Raw, Wrong};
use super::{ENVIRONMENT_OTHERS, ENVIRONMENT_PREFIX};

/// One value that somebody typed.
#[derive(Clone, PartialEq, Debug)]
pub struct Given {
    /// The setting's name with its sections, which need not be a known one.
    pub name: String,
    pub raw: Raw,
    pub origin: Origin,
}

impl Given {
    pub(super) fn fault(&self, wrong: Wrong) -> Fault {
        Fault { origin: self.origin.clone(), setting: self.name.clone(), what: wrong.what, mend: wrong.mend }
    }

    pub(super) fn unknown(&self) -> Fault {
        let mend = match nearest(&self.name, SETTINGS.iter().map(|setting| setting.name)) {
            Some(name) => format!("did you mean {name}?"),
            None => "remove it, or see `corecast config` for the settings there are".into(),
        };
        self.fault(Wrong::new("no setting has this name", mend))
    }
}

/// The values of the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, Faults> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Faults(vec![Fault {
            origin: Origin::File { path: name.clone(), line: 0 },
            setting: String::new(),
            what: format!("cannot be read: {error}"),
            mend: "name a file that this user may read; `corecast config` prints one to start from".into(),
        }])
    })?;
    file(&name, &text)
}

/// The values of a TOML file. `path` is only for messages. Errors: every place where it is not TOML.
pub fn file(path: &str, text: &str) -> Result<Vec<Given>, Faults> {
    let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let faults = errors.iter().map(|error| Fault {
            origin: Origin::File { path: path.into(), line: error.span().map_or(0, |span| line(span.start)) },
            setting: String::new(),
            what: format!("not TOML: {}", error.message()),
            mend: "mend the line; `corecast config` prints a file to start from".into(),
        });
        return Err(Faults(faults.collect()));
    }
    let mut given = Vec::new();
    let mut rest: Vec<(String, &DeTable<'_>)> = vec![(String::new(), table.get_ref())];
    while let Some((section, table)) = rest.pop() {
        for (key, value) in table {
            let name = format!("{section}{}", key.get_ref());
            match value.get_ref() {
                // A table is a section, also where a setting of that name exists or none does: its leaves tell.
                DeValue::Table(inner) if !inner.is_empty() => rest.push((format!("{name}."), inner)),
                DeValue::Table(_) if SETTINGS.iter().any(|setting| setting.name.starts_with(&format!("{name}."))) => {}
                other => {
                    let origin = Origin::File { path: path.into(), line: line(key.span().start) };
                    given.push(Given { name, raw: raw(other), origin });
                }
            }
        }
    }
    given.sort_by_key(|given| match given.origin {
        Origin::File { line, .. } => line,
        _ => 0,
    });
    Ok(given)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other("large integer"), Raw::Integer)
        }
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map_or(Raw::Other("list of other things than texts"), Raw::List),
        other => Raw::Other(other.type_str()),
    }
}

/// The values of the environment, and a remark about each variable with our prefix that sets nothing. Those are not
/// faults: container platforms put variables of their own there, named for a service (`CORECAST_PORT`).
pub fn environment(variables: impl Iterator<Item = (String, String)>) -> (Vec<Given>, Vec<String>) {
    let mut given = Vec::new();
    let mut remarks = Vec::new();
    for (variable, text) in variables.filter(|(variable, _)| variable.starts_with(ENVIRONMENT_PREFIX)) {
        if ENVIRONMENT_OTHERS.contains(&variable.as_str()) {
            continue;
        }
        match SETTINGS.iter().find(|setting| setting.variable() == variable) {
            Some(setting) => given.push(Given {
                name: setting.name.into(),
                raw: Raw::Text(text),
                origin: Origin::Environment { variable },
            }),
            None => {
                let known: Vec<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
                let hint = nearest(&variable, known.iter().map(String::as_str))
                    .map_or(String::new(), |name| format!("; did you mean {name}?"));
                remarks.push(format!("the environment variable {variable} sets nothing{hint}"));
            }
        }
    }
    given.sort_by(|a, b| a.name.cmp(&b.name));
    (given, remarks)
}

/// The value of a flag, as often as it was typed. A setting that takes a list takes all of them.
pub fn flag(name: &str, flag: &str, mut typed: Vec<String>) -> Given {
    let raw = if typed.len() == 1 { Raw::Text(typed.remove(0)) } else { Raw::List(typed) };
    Given { name: name.into(), raw, origin: Origin::Flag { name: flag.into() } }
}
