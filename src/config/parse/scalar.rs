//! Booleans, numbers, sizes, times and texts.

use std::time::Duration;

use regex::Regex;

use super::value::{Argument, Invalid, Raw, Unit, list, quoted, whole_number};

/// `true` or `false`, or one of the words and numbers that platforms write for them.
pub(crate) enum Bool {}

impl Unit<bool> for Bool {
    const FORM: &'static str = "true or false";
    const ARGUMENT: Argument = Argument::None;

    fn read(raw: &Raw) -> Result<bool, Invalid> {
        let on = match raw {
            Raw::Bool(on) => Some(*on),
            Raw::Integer(number) => word_of_bool(&number.to_string()),
            Raw::Text(text) => word_of_bool(text),
            _ => None,
        };
        on.ok_or_else(|| raw.is_not("a boolean", "write true or false"))
    }

    fn show(on: &bool) -> Option<String> {
        Some(on.to_string())
    }
}

/// Templates write True and TRUE, YAML yes and on, shells 1.
fn word_of_bool(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A whole number without a unit.
pub(crate) enum Count {}
/// A number of bytes, with or without KiB, MiB or GiB, or Ki, Mi or Gi.
pub(crate) enum Bytes {}

/// The number in `raw`. `scale` gives the factor of a suffix.
fn whole(raw: &Raw, scale: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Text(text) if scale("").is_some() && whole_number(text).is_some() => {
            whole_number(text).and_then(|number| u64::try_from(number).ok())
        }
        Raw::Text(text) => {
            let text = text.trim();
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
        "KiB" | "Ki" => Some(1 << 10),
        "MiB" | "Mi" => Some(1 << 20),
        "GiB" | "Gi" => Some(1 << 30),
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
                Raw::Integer(number) => Some(*number),
                Raw::Text(text) => whole_number(text),
                _ => None,
            };
            let fix = match number {
                // The original counts a number without a unit in nanoseconds.
                Some(number) if number >= 1_000_000 => {
                    let nanos = show_duration(Duration::from_nanos(number.unsigned_abs()));
                    format!("add the unit: \"{number}s\" or \"{number}ms\", or \"{nanos}\" if it counts nanoseconds")
                }
                Some(number) => format!("add the unit: \"{number}s\" or \"{number}ms\""),
                None => "write numbers with ns, us, ms, s, m or h, such as \"25s\" or \"1m30s\"".to_owned(),
            };
            raw.is_not("a time", &fix)
        })
    }

    fn show(span: &Duration) -> Option<String> {
        Some(format!("\"{}\"", show_duration(*span)))
    }
}

/// Numbers with their units, one after the other, in any order: "25s", "1m30s", "500ms", "1.5h".
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut nanos = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (name, tail) = tail.split_at(letters);
        let scale = match name {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    Some(Duration::from_nanos(nanos))
}

/// A decimal number times `scale`; the rest of the division is dropped.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let digits = fraction.get(..fraction.len().min(12)).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(scale) / 10u128.pow(digits.len() as u32);
    whole.checked_add(part as u64)
}

/// A time in the largest unit that gives a whole number.
pub(crate) fn show_duration(span: Duration) -> String {
    let millis = span.as_millis();
    match millis {
        _ if span.is_zero() => "0s".into(),
        _ if !span.subsec_nanos().is_multiple_of(1_000) => format!("{}ns", span.as_nanos()),
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
    const VERBATIM: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        hidden_text(raw).cloned()
    }

    fn show(text: &String) -> Option<String> {
        (!text.is_empty()).then(|| quoted(text))
    }
}

/// A key that clients send in a header, which has no blanks at its ends: those of a file or a template are dropped.
impl Unit<Option<String>> for Secret {
    const FORM: &'static str = "text";
    const SECRET: bool = true;
    const VERBATIM: bool = true;

    fn read(raw: &Raw) -> Result<Option<String>, Invalid> {
        match hidden_text(raw)?.trim() {
            "" => Err(Invalid::new("it is empty", "write a text, or leave the setting out")),
            text => Ok(Some(text.to_owned())),
        }
    }

    fn show(text: &Option<String>) -> Option<String> {
        text.as_deref().map(quoted)
    }
}

/// A public key as PEM. Its lines may be separated by `\\n`, since a file of variables has no line ends in values.
pub(crate) enum Pem {}

impl Unit<String> for Pem {
    const FORM: &'static str = "PEM";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        hidden_text(raw).map(|text| text.replace("\\r", "").replace("\\n", "\n").replace('\r', ""))
    }

    fn show(text: &String) -> Option<String> {
        (!text.is_empty()).then(|| quoted(text))
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
        for bad in ["", "25", "s", "25 s", "-1s", "25sec", "1.s", ".5s", "1.5.5s", "1d", "99999999999999999h"] {
            assert!(Time::read(&text(bad)).is_err(), "{bad}");
        }
        assert!(Time::read(&Raw::Integer(25)).unwrap_err().fix.contains("\"25s\""));
        assert!(Time::read(&text("25000000000")).unwrap_err().fix.contains("\"25s\" if it counts nanoseconds"));
        for (typed, nanos) in [
            ("1.5h", 5_400_000_000_000),
            ("0.25s", 250_000_000),
            ("100ns", 100),
            ("3µs", 3_000),
            ("720h0m0s", 2_592_000_000_000_000),
            (" 1s\n", 1_000_000_000),
            ("1.123456789123456789s", 1_123_456_789),
        ] {
            assert_eq!(Time::read(&text(typed)).unwrap(), Duration::from_nanos(nanos), "{typed}");
        }
        assert_eq!(show_duration(Duration::from_nanos(1_500)), "1500ns");
    }

    #[test]
    fn booleans_are_read_as_platforms_write_them() {
        for (typed, on) in
            [("True", true), ("TRUE", true), ("1", true), ("yes", true), ("on", true), ("t", true), (" true\r\n", true)]
        {
            assert_eq!(Bool::read(&text(typed)).unwrap(), on, "{typed}");
        }
        for typed in ["False", "FALSE", "0", "no", "Off", "f"] {
            assert!(!Bool::read(&text(typed)).unwrap(), "{typed}");
        }
        assert!(Bool::read(&Raw::Integer(1)).unwrap() && !Bool::read(&Raw::Integer(0)).unwrap());
        for bad in [text(""), text("maybe"), text("2"), Raw::Integer(2), Raw::List(Vec::new())] {
            assert!(Bool::read(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secret_is_used_as_written_and_a_header_is_trimmed() {
        let raw = text(" key\r\n");
        assert_eq!(<Secret as Unit<String>>::read(&raw).unwrap(), " key\r\n");
        assert_eq!(<Secret as Unit<Option<String>>>::read(&raw).unwrap().unwrap(), "key");
        assert_eq!(Pem::read(&text("a\\nb\r\nc\\r\\nd")).unwrap(), "a\nb\nc\nd");
    }

    #[test]
    fn sizes_take_units_and_counts_do_not() {
        let size = |raw: &Raw| <Bytes as Unit<usize>>::read(raw);
        let number = |raw: &Raw| <Count as Unit<usize>>::read(raw);
        for (typed, bytes) in [
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("512", 512),
            ("12B", 12),
            ("64Ki", 65_536),
            ("1.048576e+06", 1 << 20),
            ("512\n", 512),
        ] {
            assert_eq!(size(&text(typed)).unwrap(), bytes, "{typed}");
        }
        assert_eq!(number(&text("1e+06")).unwrap(), 1_000_000);
        for bad in ["64KB", "64k", "KiB", "-1", "99999999999GiB", "", "1.5", "1e99", "inf"] {
            assert!(size(&text(bad)).is_err(), "{bad}");
        }
        assert!(number(&text("1KiB")).is_err());
        assert!(number(&Raw::Integer(-1)).is_err());
        assert!(<Count as Unit<u16>>::read(&Raw::Integer(65_536)).unwrap_err().fix.contains("65535"));
        assert_eq!(Bytes::show(&65_536usize).unwrap(), "\"64KiB\"");
        assert_eq!(Count::show(&65_536usize).unwrap(), "65536");
    }
}
