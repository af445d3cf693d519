//! One result of a check: the actual and the expected value, why it matters, how to fix it, and what the fix costs.

use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// It could not be read.
    Unknown,
    /// Slower or less reliable than this host could be.
    Warn,
    /// The expected load does not fit, or the server does not start.
    Fail,
}

#[derive(Clone, Serialize, Debug)]
pub struct Finding {
    /// The group in which it is shown.
    pub area: &'static str,
    pub name: String,
    pub severity: Severity,
    pub actual: String,
    /// This and the following are empty if there is nothing to report.
    pub expected: String,
    pub why: String,
    /// What the fix costs.
    pub cost: String,
    pub fix: String,
}

impl Finding {
    pub fn new(severity: Severity, name: impl Into<String>, actual: impl Into<String>) -> Self {
        let empty = String::new;
        let (name, actual) = (name.into(), actual.into());
        Self { area: "", name, severity, actual, expected: empty(), why: empty(), cost: empty(), fix: empty() }
    }

    pub fn ok(name: impl Into<String>, actual: impl Into<String>) -> Self {
        Self::new(Severity::Ok, name, actual)
    }

    pub fn note(name: impl Into<String>, actual: impl Into<String>) -> Self {
        Self::new(Severity::Note, name, actual)
    }

    pub fn warn(name: impl Into<String>, actual: impl Into<String>) -> Self {
        Self::new(Severity::Warn, name, actual)
    }

    pub fn fail(name: impl Into<String>, actual: impl Into<String>) -> Self {
        Self::new(Severity::Fail, name, actual)
    }

    /// `source` could not be read.
    pub fn unknown(name: impl Into<String>, source: &str) -> Self {
        Self::new(Severity::Unknown, name, format!("{source} cannot be read here"))
            .fix("run the doctor on the host itself, outside the container, as root")
    }

    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = text.into();
        self
    }

    pub fn why(mut self, text: impl Into<String>) -> Self {
        self.why = text.into();
        self
    }

    pub fn cost(mut self, text: impl Into<String>) -> Self {
        self.cost = text.into();
        self
    }

    pub fn fix(mut self, text: impl Into<String>) -> Self {
        self.fix = text.into();
        self
    }
}
