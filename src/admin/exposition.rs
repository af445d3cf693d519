//! Writes metrics as text: OpenMetrics 1.0, or the Prometheus text format 0.0.4.
//!
//! Both consist of families. A family is a `HELP` line, a `TYPE` line and its samples. They differ in two points: in the
//! Prometheus format the header of a counter names the sample, with its `_total`; OpenMetrics ends with `# EOF`.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use crate::broker::stats::{Histogram, ROUND_TRIP_BUCKETS_US};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// The format for a request's `Accept` header: the Prometheus format unless OpenMetrics is named.
    pub(crate) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text so far. Names and help texts are constants of the caller and need no escaping; label values are escaped.
pub(crate) struct Exposition {
    text: String,
    format: Format,
    prefix: &'static str,
}

/// The family that is being written.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    prefix: &'static str,
    name: &'static str,
    kind: Kind,
}

pub(crate) type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Exposition {
    pub(crate) fn new(format: Format) -> Self {
        Self { text: String::new(), format, prefix: "" }
    }

    /// The families that follow have this before their names.
    pub(crate) fn set_prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    /// Begins a family.
    pub(crate) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let Self { text, format, prefix } = self;
        let (word, suffix) = match (kind, format) {
            (Kind::Counter, Format::Prometheus) => ("counter", "_total"),
            (Kind::Counter, Format::OpenMetrics) => ("counter", ""),
            (Kind::Gauge, _) => ("gauge", ""),
            (Kind::Histogram, _) => ("histogram", ""),
        };
        put(text, format_args!("# HELP {prefix}{name}{suffix} {help}\n# TYPE {prefix}{name}{suffix} {word}\n"));
        Family { text, prefix, name, kind }
    }

    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// One sample of a counter or gauge.
    pub(crate) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        self.line(suffix, labels, value);
    }

    /// One histogram. `buckets`: upper bounds and the counts between them, the last bound infinite.
    pub(crate) fn histogram(
        &mut self,
        labels: Labels<'_>,
        sum: f64,
        buckets: impl Iterator<Item = (f64, u64)> + Clone,
    ) {
        self.line("_sum", labels, Float(sum));
        self.line("_count", labels, buckets.clone().map(|(_, count)| count).sum::<u64>());
        let mut cumulative = 0;
        for (bound, count) in buckets {
            cumulative += count;
            let bound = Float(bound);
            let with_bound: Vec<(&str, &dyn Display)> =
                std::iter::once(("le", &bound as &dyn Display)).chain(labels.iter().copied()).collect();
            self.line("_bucket", &with_bound, cumulative);
        }
    }

    /// One histogram of times.
    pub(crate) fn durations(&mut self, labels: Labels<'_>, times: &Histogram) {
        let bounds = ROUND_TRIP_BUCKETS_US.iter().map(|&bound| bound as f64 / 1e6).chain([f64::INFINITY]);
        let counts = times.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.histogram(labels, times.sum_us.load(Ordering::Relaxed) as f64 / 1e6, bounds.zip(counts));
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let Self { text, prefix, name, .. } = self;
        put(text, format_args!("{prefix}{name}{suffix}"));
        for (index, (label, value)) in labels.iter().enumerate() {
            put(text, format_args!("{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, Escaped(*value)));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        put(text, format_args!(" {value}\n"));
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes every write");
}

/// A number with a point, as both formats want a float: `5.0`, `0.00001`, `+Inf`.
pub(crate) struct Float(pub f64);

impl Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            value if value.fract() == 0.0 => write!(f, "{value}.0"),
            value => write!(f, "{value}"),
        }
    }
}

/// A label value: backslash, quote and line feed are escaped.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        struct Escape<'a, 'b>(&'a mut std::fmt::Formatter<'b>);
        impl Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                for part in text.split_inclusive(['\\', '"', '\n']) {
                    match part.as_bytes() {
                        [rest @ .., b'\\' | b'"'] => {
                            self.0.write_str(&part[..rest.len()])?;
                            write!(self.0, "\\{}", &part[rest.len()..])?;
                        }
                        [rest @ .., b'\n'] => write!(self.0, "{}\\n", &part[..rest.len()])?,
                        _ => self.0.write_str(part)?,
                    }
                }
                Ok(())
            }
        }
        write!(Escape(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_a_point_and_no_exponent() {
        for (value, text) in [(5.0, "5.0"), (0.0, "0.0"), (0.00001, "0.00001"), (1.5, "1.5"), (f64::INFINITY, "+Inf")] {
            assert_eq!(Float(value).to_string(), text);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Exposition::new(Format::Prometheus);
        text.family(Kind::Gauge, "a", "Help").sample(&[("x", &"1\\2\"3\n4"), ("y", &"")], 7);
        assert_eq!(text.finish(), "# HELP a Help\n# TYPE a gauge\na{x=\"1\\\\2\\\"3\\n4\",y=\"\"} 7\n");
    }

    #[test]
    fn header_of_a_counter_names_the_family_or_the_sample() {
        for (format, header, end) in [(Format::OpenMetrics, "a", "# EOF\n"), (Format::Prometheus, "a_total", "")] {
            let mut text = Exposition::new(format);
            text.family(Kind::Counter, "a", "Help").sample(&[], 7);
            assert_eq!(text.finish(), format!("# HELP {header} Help\n# TYPE {header} counter\na_total 7\n{end}"));
        }
    }
}
