//! What was typed for one setting, and how it becomes the setting's type.
//!
//! Every type of a setting reads itself from text (environment, flags) as well as from TOML's own kinds, and prints
//! itself as the TOML that reads back to the same value. Whatever it cannot read it answers with what is wrong and
//! with the mend; the name of the setting is added by the caller.

use std::time::Duration;

use super::words;

/// One value as typed.
#[derive(Clone, PartialEq, Debug)]
pub enum Raw {
    Text(String),
    Integer(i64),
    Switch(bool),
    List(Vec<String>),
    /// A table whose keys are the operator's own.
    Table(Row),
    /// A list of tables that is one setting.
    Rows(Vec<Row>),
    /// A kind of value that no setting takes, by its name.
    Other(&'static str),
}

/// Keys with their values; tables within are told by dots in the keys.
pub type Row = Vec<(String, Raw)>;

/// What a setting's value means, where its type alone does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Bytes,
    Count,
    Time,
    Switch,
    Secret,
    Origins,
    Listeners,
    Networks,
    Address,
    Cores,
    /// Any text, also none.
    Text,
    Url,
    /// A URL, or a gRPC server.
    Endpoint,
    /// A regular expression, or the empty text.
    Pattern,
    /// One of a few words.
    Choice,
    Deltas,
    ErrorMode,
    Headers,
    Paths,
    HeaderValues,
    StatusCodes,
    ConnectCodes,
}

impl Unit {
    /// How a value of this unit is written, for the sample file and the table.
    pub fn form(self) -> &'static str {
        match self {
            Self::Bytes => "size: bytes, or \"64KiB\", \"1MiB\"",
            Self::Count => "number",
            Self::Time => "time: \"500ms\", \"25s\", \"1m30s\"",
            Self::Switch => "true or false",
            Self::Secret | Self::Text => "text",
            Self::Url => "http:// or https://",
            Self::Endpoint => "http://, https:// or grpc://",
            Self::Pattern => "regular expression",
            Self::Choice | Self::ErrorMode => "one of the words",
            Self::Deltas => "list",
            Self::Headers => "list of names",
            Self::Paths => "list of files",
            Self::HeaderValues | Self::StatusCodes | Self::ConnectCodes => "list of tables",
            Self::Origins => "list of origins, * stands for any text",
            Self::Listeners => {
                "list of \"ADDR:PORT\", \"[V6]:PORT\", \"unix:/PATH\", \"fd:N\"; proxy: and tls: before it"
            }
            Self::Networks => "list of \"ADDR\" or \"ADDR/BITS\"",
            Self::Address => "\"ADDR:PORT\"",
            Self::Cores => "cores: \"0,2-5\"",
        }
    }
}

/// What is wrong with a value, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub what: String,
    pub mend: String,
}

impl Wrong {
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

/// A type that a setting can have.
pub trait Field {
    fn read(&mut self, raw: &Raw, unit: Unit) -> Result<(), Wrong>;
    /// The value as TOML; none where nothing is set.
    fn show(&self, unit: Unit) -> Option<String>;
}

impl Raw {
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{text}\""),
            Self::Integer(number) => number.to_string(),
            Self::Switch(on) => on.to_string(),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a table".into(),
            Self::Rows(_) => "a list of tables".into(),
            Self::Other(kind) => format!("a value of the kind {kind}"),
        }
    }

    pub(super) fn not(&self, wanted: &str, mend: &str) -> Wrong {
        Wrong::new(format!("{} is not {wanted}", self.kind()), mend)
    }

    /// A list as TOML has it, or text with commas or blanks between the items, as the environment has it.
    pub(super) fn items(&self, mend: &str) -> Result<Vec<String>, Wrong> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Text(text) => Ok(text.split([',', ' ']).filter(|item| !item.is_empty()).map(str::to_owned).collect()),
            _ => Err(self.not("a list", mend)),
        }
    }
}

impl Field for bool {
    fn read(&mut self, raw: &Raw, unit: Unit) -> Result<(), Wrong> {
        *self = match raw {
            _ if unit == Unit::Deltas => return words::deltas(self, raw),
            _ if unit == Unit::ErrorMode => return words::error_mode(self, raw),
            Raw::Switch(on) => *on,
            Raw::Text(text) if text == "true" => true,
            Raw::Text(text) if text == "false" => false,
            _ => return Err(raw.not("a switch", "write true or false")),
        };
        Ok(())
    }

    fn show(&self, unit: Unit) -> Option<String> {
        Some(match (unit, *self) {
            (Unit::Deltas, true) => "[\"fossil\"]".into(),
            (Unit::Deltas, false) => "[]".into(),
            (Unit::ErrorMode, true) => "\"transport\"".into(),
            (Unit::ErrorMode, false) => "\"\"".into(),
            (_, on) => on.to_string(),
        })
    }
}

/// A whole number, from text where it must be; sizes may carry a unit.
fn whole(raw: &Raw, unit: Unit) -> Result<u64, Wrong> {
    let (wanted, mend) = match unit {
        Unit::Bytes => ("a size", "write a number of bytes, or one with B, KiB, MiB or GiB, such as \"64KiB\""),
        _ => ("a whole number", "write a number from 0 up, such as 128"),
    };
    let number = match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Text(text) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let scale = match text[digits..].trim_start() {
                "" => Some(1u64),
                "B" if unit == Unit::Bytes => Some(1),
                "KiB" if unit == Unit::Bytes => Some(1 << 10),
                "MiB" if unit == Unit::Bytes => Some(1 << 20),
                "GiB" if unit == Unit::Bytes => Some(1 << 30),
                _ => None,
            };
            scale.and_then(|scale| text[..digits].parse::<u64>().ok()?.checked_mul(scale))
        }
        _ => None,
    };
    number.ok_or_else(|| raw.not(wanted, mend))
}

fn show_whole(number: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes if number >= 1 << 20 && number.is_multiple_of(1 << 20) => format!("\"{}MiB\"", number >> 20),
        Unit::Bytes if number >= 1 << 10 && number.is_multiple_of(1 << 10) => format!("\"{}KiB\"", number >> 10),
        _ => number.to_string(),
    }
}

/// Whole numbers of each width: what does not fit is out of range.
macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn read(&mut self, raw: &Raw, unit: Unit) -> Result<(), Wrong> {
                let mend = format!("choose a number up to {}", Self::MAX);
                *self = Self::try_from(whole(raw, unit)?).map_err(|_| raw.not("within range", &mend))?;
                Ok(())
            }

            fn show(&self, unit: Unit) -> Option<String> {
                Some(show_whole(*self as u64, unit))
            }
        }
    )*};
}
whole_numbers!(usize, u16, u32, u64);

impl Field for Duration {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let span = match raw {
            Raw::Text(text) => duration(text),
            // Nothing is nothing in any unit.
            Raw::Integer(0) => Some(Duration::ZERO),
            _ => None,
        };
        let mend = match raw {
            Raw::Integer(number) => format!("say the unit: \"{number}s\" or \"{number}ms\""),
            Raw::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                format!("say the unit: \"{text}s\" or \"{text}ms\"")
            }
            _ => "write whole numbers with us, ms, s, m or h, such as \"25s\" or \"1m30s\"".to_owned(),
        };
        *self = span.ok_or_else(|| raw.not("a time", &mend))?;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        Some(format!("\"{}\"", show_duration(*self)))
    }
}

/// Numbers with their units, one after the other, largest first or not: "25s", "1m30s", "500ms".
pub(super) fn duration(text: &str) -> Option<Duration> {
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

/// A time in the largest unit that says it in one number.
pub fn show_duration(span: Duration) -> String {
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

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}

impl Field for Option<String> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        match raw {
            Raw::Text(text) if !text.trim().is_empty() => *self = Some(text.clone()),
            Raw::Text(_) => return Err(Wrong::new("it is empty", "write a text, or leave the setting out")),
            // A secret is not repeated in a message.
            _ => return Err(Wrong::new("it is not a text", "put it in quotes")),
        }
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        self.as_deref().map(quoted)
    }
}

impl Field for Option<usize> {
    fn read(&mut self, raw: &Raw, unit: Unit) -> Result<(), Wrong> {
        let mut number = 0usize;
        number.read(raw, unit)?;
        *self = Some(number);
        Ok(())
    }

    fn show(&self, unit: Unit) -> Option<String> {
        self.as_ref().and_then(|number| number.show(unit))
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
            let mut span = Duration::MAX;
            span.read(&text(typed), Unit::Time).unwrap();
            assert_eq!(span, Duration::from_millis(millis), "{typed}");
            assert_eq!(show_duration(span), shown);
        }
        for bad in ["", "25", "s", "25 s", "-1s", "25sec", "1.5s", "99999999999999999h"] {
            let mut span = Duration::ZERO;
            assert!(span.read(&text(bad), Unit::Time).is_err(), "{bad}");
        }
        let mut span = Duration::ZERO;
        assert!(span.read(&Raw::Integer(25), Unit::Time).unwrap_err().mend.contains("\"25s\""));
    }

    #[test]
    fn sizes_take_units_and_counts_do_not() {
        for (typed, bytes) in [("64KiB", 65_536), ("1 MiB", 1 << 20), ("2GiB", 2 << 30), ("512", 512), ("12B", 12)] {
            let mut size = 0usize;
            size.read(&text(typed), Unit::Bytes).unwrap();
            assert_eq!(size, bytes);
        }
        let mut size = 0usize;
        for bad in ["64KB", "64k", "KiB", "-1", "99999999999GiB", ""] {
            assert!(size.read(&text(bad), Unit::Bytes).is_err(), "{bad}");
        }
        assert!(size.read(&text("1KiB"), Unit::Count).is_err());
        assert!(size.read(&Raw::Integer(-1), Unit::Count).is_err());
        assert_eq!(65_536usize.show(Unit::Bytes).unwrap(), "\"64KiB\"");
        assert_eq!(65_536usize.show(Unit::Count).unwrap(), "65536");
    }
}
