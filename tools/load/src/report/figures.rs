//! Figures as text: rounding, digits, units, and escapes.

/// Rounds to three decimals, more than any figure is precise; what is not a number becomes 0.
pub fn round(value: f64) -> f64 {
    if value.is_finite() { (value * 1000.0).round() / 1000.0 } else { 0.0 }
}

/// A figure with about four digits and commas between thousands.
pub fn human(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    with_commas(&format!("{value:.decimals$}"))
}

/// A count with commas between thousands.
pub fn whole(n: f64) -> String {
    with_commas(&format!("{n:.0}"))
}

fn with_commas(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// What a figure counts; the unit depends on its size.
#[derive(Clone, Copy, Debug)]
pub enum Quantity {
    Micros,
    Bytes,
    /// A share, shown in percent of this.
    Share(&'static str),
    Count(&'static str),
}

impl Quantity {
    /// The divisor and the name of the unit for figures up to `max`.
    pub fn unit(self, max: f64) -> (f64, &'static str) {
        match self {
            Self::Micros if max >= 5e6 => (1e6, "s"),
            Self::Micros if max >= 5e3 => (1e3, "ms"),
            Self::Micros => (1.0, "µs"),
            Self::Bytes if max >= f64::from(1u32 << 31) * 2.0 => (f64::from(1 << 30), "GiB"),
            Self::Bytes if max >= f64::from(1 << 20) => (f64::from(1 << 20), "MiB"),
            Self::Bytes => (1024.0, "KiB"),
            Self::Share(name) => (0.01, name),
            Self::Count(name) => (1.0, name),
        }
    }

    /// A figure with its unit.
    pub fn text(self, value: f64) -> String {
        let (divisor, name) = self.unit(value);
        format!("{} {name}", human(value / divisor)).trim_end().into()
    }
}

/// The label of a tick: no more digits than needed, with k, M or G for thousands.
pub fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, " G"),
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// One in so many that are slower, as the share of those that are not: 100 becomes 99 %.
pub fn share(one_in: f64) -> String {
    match one_in.log10().round() as usize {
        0 => "0 %".into(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        nines => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

/// A command line, quoted for a shell.
pub fn command<T: AsRef<str>>(words: &[T]) -> String {
    let safe = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_=:/.,@%+".contains(c));
    let quoted = |word: &T| match word.as_ref() {
        word if safe(word) => word.to_string(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Text for HTML, inside and outside of attributes.
pub fn escape(text: &str) -> String {
    let pairs = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")];
    pairs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }

    #[test]
    fn figures_have_few_digits() {
        let pairs =
            [(1234567.8, "1,234,568"), (999.6, "1,000"), (12.345, "12.3"), (1.234, "1.23"), (0.0, "0"), (0.5, "0.500")];
        pairs.iter().for_each(|(value, text)| assert_eq!(human(*value), *text));
        assert_eq!(human(f64::NAN), "-");
        assert_eq!([5.0, 1200.0].map(whole), ["5", "1,200"]);
    }

    #[test]
    fn tick_labels_are_short() {
        let pairs = [(0.0, "0"), (0.25, "0.25"), (2500.0, "2500"), (50_000.0, "50 k"), (1.5e6, "1.5 M")];
        pairs.iter().for_each(|(value, text)| assert_eq!(short(*value), *text));
        assert_eq!([1.0, 10.0, 100.0, 1000.0, 1e5].map(share), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
        assert_eq!([900.0, 80_000.0, 9e6].map(|us| Quantity::Micros.unit(us).1), ["µs", "ms", "s"]);
    }

    #[test]
    fn a_command_is_quoted_for_a_shell() {
        assert_eq!(command(&["load", "ws://h:1/p", "a b", "it's", ""]), r"load ws://h:1/p 'a b' 'it'\''s' ''");
    }
}
