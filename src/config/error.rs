//! What is wrong with a configuration: where, which setting, what, and how to fix it. All of it, not only the first.

use std::fmt;

use super::parse::value::Invalid;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Line 0 means the whole file.
    File {
        path: String,
        line: usize,
    },
    Environment {
        variable: String,
    },
    Flag {
        name: String,
    },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { name } => write!(f, "--{name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub origin: Origin,
    /// The name of the setting. Empty if the file could not be read at all.
    pub setting: String,
    pub what: String,
    pub fix: String,
}

impl ConfigError {
    pub fn new(origin: Origin, setting: impl Into<String>, invalid: Invalid) -> Self {
        Self { origin, setting: setting.into(), what: invalid.what, fix: invalid.fix }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// Everything that is wrong, in the order of the sources. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The known name that `typed` probably means: the same last word, or a few letters away.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let close = known.clone().map(|name| (distance(typed, name), name)).min()?;
    if close.0 <= 1 + typed.len() / 5 {
        return Some(close.1);
    }
    let (letters, name) = known.map(|name| (distance(&last(typed), &last(name)), name)).min()?;
    (letters <= last(typed).len() / 5).then_some(name)
}

/// Letters to insert, delete or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_found_by_letters_and_by_last_word() {
        let known = ["client.ping_interval", "client.pong_timeout", "listen"];
        let near = |typed| nearest(typed, known.iter().copied());
        assert_eq!(near("client.ping_intervall"), Some("client.ping_interval"));
        assert_eq!(near("cleint.pong_timeout"), Some("client.pong_timeout"));
        assert_eq!(near("ping_interval"), Some("client.ping_interval"));
        assert_eq!(near("websocket.pong_timeout"), Some("client.pong_timeout"));
        assert_eq!(near("listne"), Some("listen"));
        assert_eq!(near("completely.different"), None);
    }

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
