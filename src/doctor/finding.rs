//! What the doctor says of one thing: what is, what should be, why, what the mend costs, how to mend.

use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// It could not be looked at.
    Unseen,
    /// Slower, or less certain, than this host could be.
    Warn,
    /// The expected load will not fit, or the server will not start.
    Fail,
}

#[derive(Clone, Serialize, Debug)]
pub struct Finding {
    /// The group it is shown in.
    pub area: &'static str,
    pub name: String,
    pub severity: Severity,
    pub is: String,
    /// The others are empty where there is nothing to say.
    pub should: String,
    pub why: String,
    /// What the mended state costs.
    pub cost: String,
    pub mend: String,
}

impl Finding {
    pub fn new(severity: Severity, name: impl Into<String>, is: impl Into<String>) -> Self {
        let empty = String::new;
        let (name, is) = (name.into(), is.into());
        Self { area: "", name, severity, is, should: empty(), why: empty(), cost: empty(), mend: empty() }
    }

    pub fn ok(name: impl Into<String>, is: impl Into<String>) -> Self {
        Self::new(Severity::Ok, name, is)
    }

    pub fn note(name: impl Into<String>, is: impl Into<String>) -> Self {
        Self::new(Severity::Note, name, is)
    }

    pub fn warn(name: impl Into<String>, is: impl Into<String>) -> Self {
        Self::new(Severity::Warn, name, is)
    }

    pub fn fail(name: impl Into<String>, is: impl Into<String>) -> Self {
        Self::new(Severity::Fail, name, is)
    }

    /// `place` is what would have been read.
    pub fn unseen(name: impl Into<String>, place: &str) -> Self {
        Self::new(Severity::Unseen, name, format!("{place} cannot be read here"))
            .mend("run the doctor on the host itself, outside of the container, as root")
    }

    pub fn should(mut self, text: impl Into<String>) -> Self {
        self.should = text.into();
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

    pub fn mend(mut self, text: impl Into<String>) -> Self {
        self.mend = text.into();
        self
    }
}
