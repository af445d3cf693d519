//! One named value of a source, before it is known whether there is such a setting.

use crate::config::error::{ConfigError, Origin, nearest};
use crate::config::parse::value::{Invalid, Raw};
use crate::config::schema::registry::{SETTINGS, candidates};

/// A value with its name and its origin.
#[derive(Clone, PartialEq, Debug)]
pub struct RawSetting {
    /// The name with its sections. There may be no such setting.
    pub name: String,
    pub raw: Raw,
    pub origin: Origin,
}

impl RawSetting {
    pub fn error(&self, invalid: Invalid) -> ConfigError {
        ConfigError::new(self.origin.clone(), self.name.as_str(), invalid)
    }

    /// There is no setting with this name.
    pub fn unknown(&self) -> ConfigError {
        if let Some(error) = self.below_a_table() {
            return error;
        }
        let names = candidates(&self.name);
        let fix = match nearest(&self.name, names.iter().map(String::as_str)) {
            Some(name) => format!("did you mean {name}?"),
            None => "remove it; `corecast config` prints every setting".into(),
        };
        self.error(Invalid::new("there is no setting with this name", fix))
    }

    /// An error if it is a setting that TOML has put into the table above its line: `listen` below `[client]` is `client.listen`.
    fn below_a_table(&self) -> Option<ConfigError> {
        if self.is_foreign() || !matches!(self.origin, Origin::File { .. }) {
            return None;
        }
        let mut parts = self.name.match_indices('.').map(|(at, _)| (&self.name[..at], &self.name[at + 1..]));
        let (table, name) = parts.find(|(_, name)| SETTINGS.iter().any(|setting| setting.name == *name))?;
        let list = table.split_once('[').map(|(list, _)| format!("[[{list}]]"));
        let table = list.unwrap_or_else(|| format!("[{table}]"));
        let what = format!("{name} stands below {table}, so it belongs to that table, which has no such setting");
        let fix = match name.rsplit_once('.') {
            Some((section, key)) => format!("move the line above the first table, or write {key} below [{section}]"),
            None => "move the line to the top of the file, above the first table".to_owned(),
        };
        Some(self.error(Invalid::new(what, fix)))
    }

    /// It comes from a file that was probably written for the original.
    pub fn is_foreign(&self) -> bool {
        matches!(&self.origin, Origin::File { path, .. } if is_json(path))
    }
}

/// A file whose name ends in .json contains JSON. Unknown keys in it give warnings instead of errors, since it was probably
/// written for another server.
pub(crate) fn is_json(path: &str) -> bool {
    path.ends_with(".json")
}
