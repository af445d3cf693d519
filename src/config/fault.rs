//! What is wrong with what was typed: where it stands, which setting, what, and the mend. All of them, not the first.

use std::fmt;

/// Where a value was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    File { path: String, line: usize },
    Environment { variable: String },
    Flag { name: String },
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
pub struct Fault {
    pub origin: Origin,
    /// The setting's name; empty where the file could not be read at all.
    pub setting: String,
    pub what: String,
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        write!(f, "{}; {}", self.what, self.mend)
    }
}

/// Everything that is wrong, in the order of the sources. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The known name that `typed` was likely meant to be: the same last word, or few letters away.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let close = known.clone().map(|name| (distance(typed, name), name)).min()?;
    if close.0 <= 1 + typed.len() / 5 {
        return Some(close.1);
    }
    let (letters, name) = known.map(|name| (distance(&last(typed), &last(name)), name)).min()?;
    (letters <= last(typed).len() / 5).then_some(name)
}

/// Letters to insert, delete or exchange to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_by_letters_and_by_last_word() {
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
