//! Booleans, numbers, sizes, times and texts.

use std::time::Duration;

use regex::Regex;

use super::value::{Argument, Invalid, Raw, Unit, list, quoted};

/// `true` or `false`.
pub(crate) enum Bool {}

impl Unit<bool> for Bool {
    const FORM: &'static str = "true or false";
    const ARGUMENT: Argument = Argument::None;

    fn read(raw: &Raw) -> Result<bool, Invalid> {
        match raw {
            Raw::Bool(on) => Ok(*on),
            Raw::Text(text) if text == "true" => Ok(true),
            Raw::Text(text) if text == "false" => Ok(false),
            _ => Err(raw.is_not("a boolean", "write true or false")),
        }
    }

    fn show(on: &bool) -> Option<String> {
        Some(on.to_string())
    }
}

/// A whole number without a unit.
pub(crate) enum Count {}
/// A number of bytes, with or without KiB, MiB or GiB.
pub(crate) enum Bytes {}

/// The number in `raw`. `scale` gives the factor of a suffix.
fn whole(raw: &Raw, scale: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Text(text) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let scale = scale(text[digits..].trim_start())?;
            text[..digits].parse::<u64>().ok()?.checked_mul(scale)
        }
        _ => None,
    }
}

fn count(raw: &Raw) -> Result<u64, Invalid> {
    let number = whole(raw, |suffix| suffix.is_empty().then_some(1));
    number.ok_or_else(|| raw.is_not("a whole number", "write a number from 0 up, such as 128"))
}

fn bytes(raw: &Raw) -> Result<u64, Invalid> {
    let number = whole(raw, |suffix| match suffix {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    });
    let fix = "write a number of bytes, or one with B, KiB, MiB or GiB, such as \"64KiB\"";
    number.ok_or_else(|| raw.is_not("a size", fix))
}

fn show_bytes(number: u64) -> String {
    match number {
        _ if number >= 1 << 20 && number.is_multiple_of(1 << 20) => format!("\"{}MiB\"", number >> 20),
        _ if number >= 1 << 10 && number.is_multiple_of(1 << 10) => format!("\"{}KiB\"", number >> 10),
        _ => number.to_string(),
    }
}

/// Numbers of each width. A number that does not fit is out of range.
macro_rules! whole_numbers {
    ($($unit:ident reads $($number:ty),*: $read:path, $show:path, $form:literal;)*) => {$($(
        impl Unit<$number> for $unit {
            const FORM: &'static str = $form;

            fn read(raw: &Raw) -> Result<$number, Invalid> {
                let fix = format!("write a number up to {}", <$number>::MAX);
                <$number>::try_from($read(raw)?).map_err(|_| raw.is_not("within range", &fix))
            }

            fn show(number: &$number) -> Option<String> {
                Some($show(*number as u64))
            }
        }
    )*)*};
}
whole_numbers! {
    Count reads usize, u16, u32, u64: count, u64_text, "number";
    Bytes reads usize, u32, u64: bytes, show_bytes, "size: bytes, or \"64KiB\", \"1MiB\"";
}

fn u64_text(number: u64) -> String {
    number.to_string()
}

impl Unit<Option<usize>> for Count {
    const FORM: &'static str = <Self as Unit<usize>>::FORM;

    fn read(raw: &Raw) -> Result<Option<usize>, Invalid> {
        <Self as Unit<usize>>::read(raw).map(Some)
    }

    fn show(number: &Option<usize>) -> Option<String> {
        number.as_ref().map(usize::to_string)
    }
}

/// A span of time with its unit.
pub(crate) enum Time {}

impl Unit<Duration> for Time {
    const FORM: &'static str = "time: \"500ms\", \"25s\", \"1m30s\"";

    fn read(raw: &Raw) -> Result<Duration, Invalid> {
        let span = match raw {
            Raw::Text(text) => duration(text),
            // Zero needs no unit.
            Raw::Integer(0) => Some(Duration::ZERO),
            _ => None,
        };
        span.ok_or_else(|| {
            let number = match raw {
                Raw::Integer(number) => Some(number.to_string()),
                Raw::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Some(text.clone()),
                _ => None,
            };
            let fix = match number {
                Some(number) => format!("add the unit: \"{number}s\" or \"{number}ms\""),
                None => "write whole numbers with us, ms, s, m or h, such as \"25s\" or \"1m30s\"".to_owned(),
            };
            raw.is_not("a time", &fix)
        })
    }

    fn show(span: &Duration) -> Option<String> {
        Some(format!("\"{}\"", show_duration(*span)))
    }
}

/// Numbers with their units, one after the other, in any order: "25s", "1m30s", "500ms".
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut micros = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, tail) = tail.split_at(letters);
        let scale = match name {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        };
        micros = micros.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_micros(micros))
}

/// A time in the largest unit that gives a whole number.
pub(crate) fn show_duration(span: Duration) -> String {
    let millis = span.as_millis();
    match millis {
        _ if span.is_zero() => "0s".into(),
        _ if !span.subsec_micros().is_multiple_of(1_000) => format!("{}us", span.as_micros()),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) && millis > 60_000 => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// Any text; empty is allowed.
pub(crate) enum Text {}

impl Unit<String> for Text {
    const FORM: &'static str = "text";

    fn read(raw: &Raw) -> Result<String, Invalid> {
        let Raw::Text(text) = raw else { return Err(raw.is_not("a text", "put it in quotes")) };
        Ok(text.clone())
    }

    fn show(text: &String) -> Option<String> {
        Some(quoted(text))
    }
}

/// A text that messages do not repeat. An empty `String` counts as unset.
pub(crate) enum Secret {}

/// The text of a value that may be a secret: the message does not repeat it.
pub(crate) fn hidden_text(raw: &Raw) -> Result<&String, Invalid> {
    match raw {
        Raw::Text(text) => Ok(text),
        _ => Err(Invalid::new("it is not a text", "put it in quotes")),
    }
}

impl Unit<String> for Secret {
    const FORM: &'static str = "text";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        hidden_text(raw).cloned()
    }

    fn show(text: &String) -> Option<String> {
        (!text.is_empty()).then(|| quoted(text))
    }
}

impl Unit<Option<String>> for Secret {
    const FORM: &'static str = "text";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<Option<String>, Invalid> {
        let text = hidden_text(raw)?;
        match text.trim().is_empty() {
            false => Ok(Some(text.clone())),
            true => Err(Invalid::new("it is empty", "write a text, or leave the setting out")),
        }
    }

    fn show(text: &Option<String>) -> Option<String> {
        text.as_deref().map(quoted)
    }
}

/// Paths of files.
pub(crate) enum Files {}

impl Unit<Vec<String>> for Files {
    const FORM: &'static str = "list of files";

    fn read(raw: &Raw) -> Result<Vec<String>, Invalid> {
        raw.items("write a list, such as [\"/etc/corecast/example.org.pem\"]")
    }

    fn show(files: &Vec<String>) -> Option<String> {
        Some(list(files.iter().cloned()))
    }
}

/// A regular expression, or the empty text for none.
pub(crate) enum Pattern {}

fn pattern(text: &str) -> Result<Regex, Invalid> {
    Regex::new(text).map_err(|error| {
        let lines = error.to_string();
        let reason = lines.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let what = format!("\"{text}\" is not a regular expression: {reason}");
        Invalid::new(what, "correct it; an example is \"^[a-z0-9]+$\"")
    })
}

impl Unit<String> for Pattern {
    const FORM: &'static str = "regular expression";

    fn read(raw: &Raw) -> Result<String, Invalid> {
        let text = Text::read(raw)?;
        pattern(&text)?;
        Ok(text)
    }

    fn show(text: &String) -> Option<String> {
        Some(quoted(text))
    }
}

impl Unit<Option<Regex>> for Pattern {
    const FORM: &'static str = <Self as Unit<String>>::FORM;

    fn read(raw: &Raw) -> Result<Option<Regex>, Invalid> {
        let Raw::Text(text) = raw else { return Err(raw.is_not("a regular expression", "put it in quotes")) };
        if text.is_empty() { Ok(None) } else { pattern(text).map(Some) }
    }

    fn show(regex: &Option<Regex>) -> Option<String> {
        Some(quoted(regex.as_ref().map_or("", Regex::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    #[test]
    fn times_are_read_and_shown_in_their_units() {
        for (typed, millis, shown) in [
            ("25s", 25_000, "25s"),
            ("500ms", 500, "500ms"),
            ("1m30s", 90_000, "90s"),
            ("2m", 120_000, "2m"),
            ("720h", 2_592_000_000, "720h"),
            ("0s", 0, "0s"),
        ] {
            let span = Time::read(&text(typed)).unwrap();
            assert_eq!(span, Duration::from_millis(millis), "{typed}");
            assert_eq!(show_duration(span), shown);
        }
        for bad in ["", "25", "s", "25 s", "-1s", "25sec", "1.5s", "99999999999999999h"] {
            assert!(Time::read(&text(bad)).is_err(), "{bad}");
        }
        assert!(Time::read(&Raw::Integer(25)).unwrap_err().fix.contains("\"25s\""));
    }

    #[test]
    fn sizes_take_units_and_counts_do_not() {
        let size = |raw: &Raw| <Bytes as Unit<usize>>::read(raw);
        let number = |raw: &Raw| <Count as Unit<usize>>::read(raw);
        for (typed, bytes) in [("64KiB", 65_536), ("1 MiB", 1 << 20), ("2GiB", 2 << 30), ("512", 512), ("12B", 12)] {
            assert_eq!(size(&text(typed)).unwrap(), bytes);
        }
        for bad in ["64KB", "64k", "KiB", "-1", "99999999999GiB", ""] {
            assert!(size(&text(bad)).is_err(), "{bad}");
        }
        assert!(number(&text("1KiB")).is_err());
        assert!(number(&Raw::Integer(-1)).is_err());
        assert!(<Count as Unit<u16>>::read(&Raw::Integer(65_536)).unwrap_err().fix.contains("65535"));
        assert_eq!(Bytes::show(&65_536usize).unwrap(), "\"64KiB\"");
        assert_eq!(Count::show(&65_536usize).unwrap(), "65536");
    }
}
