//! One named value of a source, before it is known whether there is such a setting.

use crate::config::error::{ConfigError, Origin, nearest};
use crate::config::parse::value::{Invalid, Raw};
use crate::config::schema::registry::candidates;

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
        let names = candidates(&self.name);
        let fix = match nearest(&self.name, names.iter().map(String::as_str)) {
            Some(name) => format!("did you mean {name}?"),
            None => "remove it; `corecast config` prints every setting".into(),
        };
        self.error(Invalid::new("there is no setting with this name", fix))
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
