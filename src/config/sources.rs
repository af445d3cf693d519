//! The sources: a file, the environment, the flags. Each becomes a list of named values that know where they stand.

use std::path::Path;

use super::fault::{Fault, Faults, Origin, nearest};
use super::settings::{SETTINGS, names_near};
use super::value::{Raw, Wrong};
use super::{ENVIRONMENT_OTHERS, ENVIRONMENT_PREFIX, tree};

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
        let names = names_near(&self.name);
        let mend = match nearest(&self.name, names.iter().map(String::as_str)) {
            Some(name) => format!("did you mean {name}?"),
            None => "remove it, or see `corecast config` for the settings there are".into(),
        };
        self.fault(Wrong::new("no setting has this name", mend))
    }

    /// Comes from a file that was likely written for the original.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(&self.origin, Origin::File { path, .. } if tree::is_json(path))
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

/// The values of a file's text. `path` says by its end whether it is TOML or JSON, and stands in messages. Errors: every
/// place that cannot be read.
pub fn file(path: &str, text: &str) -> Result<Vec<Given>, Faults> {
    tree::values(path, text)
}

/// What the original's variables begin with.
const ORIGINAL_PREFIX: &str = "CENTRIFUGO_";

/// The values of the environment, and a remark about each variable with our prefix that sets nothing. Those are not
/// faults: container platforms put variables of their own there, named for a service (`CORECAST_PORT`).
pub fn environment(variables: impl Iterator<Item = (String, String)>) -> (Vec<Given>, Vec<String>) {
    let mut given = Vec::new();
    let mut remarks = Vec::new();
    let mut original: Vec<String> = Vec::new();
    for (variable, text) in variables {
        if variable.starts_with(ORIGINAL_PREFIX) {
            original.push(variable);
            continue;
        }
        if !variable.starts_with(ENVIRONMENT_PREFIX) {
            continue;
        }
        if ENVIRONMENT_OTHERS.contains(&variable.as_str()) {
            continue;
        }
        match SETTINGS.iter().find(|setting| setting.variable() == variable) {
            Some(setting) => given.push(Given {
                name: setting.name.clone(),
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
    if !original.is_empty() {
        original.sort();
        let text = "are not read here: the same names begin with";
        remarks.push(format!("the environment variables {} {text} {ENVIRONMENT_PREFIX}", original.join(", ")));
    }
    given.sort_by(|a, b| a.name.cmp(&b.name));
    (given, remarks)
}

/// The value of a flag, as often as it was typed. A setting that takes a list takes all of them.
pub fn flag(name: &str, flag: &str, mut typed: Vec<String>) -> Given {
    let raw = if typed.len() == 1 { Raw::Text(typed.remove(0)) } else { Raw::List(typed) };
    Given { name: name.into(), raw, origin: Origin::Flag { name: flag.into() } }
}
