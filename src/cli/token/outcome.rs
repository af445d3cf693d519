//! What a task of `corecast token` results in.

/// The result of a task.
pub enum Outcome {
    /// The text for stdout.
    Done(String),
    /// The report for stdout, and why the server would reject the token.
    Rejected { report: String, why: String },
    /// Wrong arguments or settings, with the fix.
    Usage(String),
    /// An error that is not in the arguments or settings.
    Failed(String),
}

pub fn usage(text: impl Into<String>) -> Outcome {
    Outcome::Usage(text.into())
}
