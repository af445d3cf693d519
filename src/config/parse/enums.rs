//! Settings that are one of a few words.

use super::value::{Invalid, Raw, Unit, quoted};

/// A type whose values have words.
pub(crate) trait Words: Copy + PartialEq + Sized + 'static {
    /// The first word of a value is the one that is shown.
    const WORDS: &'static [(&'static str, Self)];
    /// Words that are read but not offered in messages, since a check rejects them with its own reason.
    const UNLISTED: &'static [(&'static str, Self)] = &[];
}

/// One of the words of the type.
pub(crate) enum Word {}

impl<T: Words> Unit<T> for Word {
    const FORM: &'static str = "one of the words";

    fn read(raw: &Raw) -> Result<T, Invalid> {
        word(raw, T::WORDS).or_else(|unknown| word(raw, T::UNLISTED).map_err(|_| unknown))
    }

    fn show(value: &T) -> Option<String> {
        T::WORDS.iter().chain(T::UNLISTED).find(|(_, other)| other == value).map(|(word, _)| quoted(word))
    }
}

fn word<T: Copy>(raw: &Raw, words: &[(&str, T)]) -> Result<T, Invalid> {
    let found = match raw {
        Raw::Text(text) => words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())),
        _ => None,
    };
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    found.map(|(_, value)| *value).ok_or_else(|| raw.is_not("known", &format!("write one of {}", all.join(", "))))
}

/// Where an API reports errors: true for "transport", with a status of HTTP or gRPC.
pub(crate) enum ErrorMode {}

const ERROR_MODES: [(&str, bool); 2] = [("", false), ("transport", true)];

impl Unit<bool> for ErrorMode {
    const FORM: &'static str = "one of the words";

    fn read(raw: &Raw) -> Result<bool, Invalid> {
        word(raw, &ERROR_MODES)
    }

    fn show(transport: &bool) -> Option<String> {
        Some(quoted(ERROR_MODES[usize::from(*transport)].0))
    }
}

/// What an API does with unknown fields: true for "reject".
pub(crate) enum UnknownFields {}

const UNKNOWN_FIELDS: [(&str, bool); 2] = [("log", false), ("reject", true)];

impl Unit<bool> for UnknownFields {
    const FORM: &'static str = "one of the words";

    fn read(raw: &Raw) -> Result<bool, Invalid> {
        word(raw, &UNKNOWN_FIELDS)
    }

    fn show(rejects: &bool) -> Option<String> {
        Some(quoted(UNKNOWN_FIELDS[usize::from(*rejects)].0))
    }
}

/// A list of delta types: true if it names fossil, the only one.
pub(crate) enum DeltaTypes {}

impl Unit<bool> for DeltaTypes {
    const FORM: &'static str = "list";

    fn read(raw: &Raw) -> Result<bool, Invalid> {
        let fix = "write [\"fossil\"] or []";
        let types = raw.items(fix)?;
        match types.iter().find(|name| *name != "fossil") {
            Some(other) => Err(Invalid::new(format!("\"{other}\" is not a delta type"), fix)),
            None => Ok(!types.is_empty()),
        }
    }

    fn show(fossil: &bool) -> Option<String> {
        Some(if *fossil { "[\"fossil\"]" } else { "[]" }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Mode {
        Stream,
        Cache,
    }

    impl Words for Mode {
        const WORDS: &'static [(&'static str, Self)] =
            &[("", Mode::Stream), ("stream", Mode::Stream), ("cache", Mode::Cache)];
    }

    #[test]
    fn words_are_read_and_shown_again() {
        let read = |word: &str| <Word as Unit<Mode>>::read(&Raw::Text(word.into()));
        for &(word, mode) in Mode::WORDS {
            assert_eq!(read(word).unwrap(), mode);
        }
        assert_eq!(Word::show(&Mode::Stream).unwrap(), "\"\"");
        assert_eq!(Word::show(&Mode::Cache).unwrap(), "\"cache\"");
        assert!(read("both").unwrap_err().fix.contains("\"cache\""));
    }
}
