//! What the checks of a configuration found.

use std::time::Duration;

use crate::config::parse::scalar::show_duration;
use crate::config::parse::value::Invalid;

/// The checks that failed.
#[derive(Default)]
pub(crate) struct Checks {
    /// Settings by name, each with what is wrong.
    pub failed: Vec<(String, Invalid)>,
}

impl Checks {
    /// Records `what` and its fix if `holds` is false.
    pub(crate) fn require(&mut self, holds: bool, setting: &str, what: impl Into<String>, fix: impl Into<String>) {
        if !holds {
            self.failed.push((setting.into(), Invalid::new(what, fix)));
        }
    }

    /// Clients are told the time in whole seconds, or compare it with one in whole seconds.
    pub(crate) fn require_whole_seconds(&mut self, setting: &str, span: Duration) {
        let what = format!("{} is not a number of whole seconds", show_duration(span));
        self.require(span.subsec_nanos() == 0, setting, what, "write a time such as \"300s\"");
    }
}
