//! The sources: a file, the environment, the flags. Each becomes a list of named values that know their origin.

pub(crate) mod environment;
pub(crate) mod file;
pub(crate) mod flatten;
pub(crate) mod raw_setting;

use crate::config::error::Origin;
use crate::config::parse::value::Raw;
use raw_setting::RawSetting;

/// The value of a flag; `values` has one item for each time it was given. A setting that takes a list takes all of them.
pub fn flag(name: &str, flag: &str, mut values: Vec<String>) -> RawSetting {
    let raw = if values.len() == 1 { Raw::Text(values.remove(0)) } else { Raw::List(values) };
    RawSetting { name: name.into(), raw, origin: Origin::Flag { name: flag.into() } }
}
