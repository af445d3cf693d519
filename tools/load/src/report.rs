//! What a run found, as a table for people and as one JSON object for programs, and the verdict.

use crate::crew::Totals;
use crate::server::Spent;
use crate::tally::Tally;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// A server's core below this was not what limited the throughput.
const SERVER_BUSY_MIN: f64 = 0.97;
/// A generator's thread at or above this may have limited it.
const GENERATOR_BUSY_MAX: f64 = 0.90;

/// Nanoseconds, 100 ns to 100 s, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 100_000_000_000, 3).expect("the bounds are in order and three digits are allowed")
}

/// What happened between two looks.
#[derive(Clone, Debug)]
pub struct Window {
    pub before: Totals,
    pub after: Totals,
    pub spent: Spent,
    pub has_server: bool,
    pub spin: bool,
}

impl Window {
    pub fn seconds(&self) -> f64 {
        (self.after.at - self.before.at) as f64 / 1e9
    }

    /// How much was added to a count, each second.
    pub fn per_second(&self, count: impl Fn(&Tally) -> u64) -> f64 {
        (count(&self.after.tally) - count(&self.before.tally)) as f64 / self.seconds()
    }

    /// The busiest worker's share of its time; a spinning one counts only turns that had work.
    pub fn generator_busy(&self) -> f64 {
        if self.spin {
            let tally = self.after.tally.since(&self.before.tally);
            return tally.busy_ns as f64 / 1e9 / self.seconds() / self.after.cpu.len() as f64;
        }
        let pairs = self.before.cpu.iter().zip(&self.after.cpu);
        pairs.map(|(a, b)| (b - a) as f64).fold(0.0, f64::max) / 1e9 / self.seconds()
    }
}

/// The findings of one run.
#[derive(Debug, Default)]
pub struct Report {
    json: Map<String, Value>,
    rows: Vec<(String, String)>,
    void: Vec<String>,
}

impl Report {
    pub fn new(kind: &str) -> Self {
        let mut report = Self::default();
        report.set("kind", json!(kind));
        report
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.json.insert(key.into(), value);
    }

    pub fn row(&mut self, label: &str, text: String) {
        self.rows.push((label.into(), text));
    }

    /// A number in both: the key says its unit, the row says it in words.
    pub fn number(&mut self, key: &str, value: f64, label: &str, unit: &str) {
        self.set(key, json!(round(value)));
        self.row(label, format!("{} {unit}", human(value)));
    }

    /// A count in both.
    pub fn count(&mut self, key: &str, n: u64, label: &str) {
        self.set(key, json!(n));
        self.row(label, human(n as f64));
    }

    /// The run does not count, and why.
    pub fn void(&mut self, reason: String) {
        self.void.push(reason);
    }

    pub fn latency(&mut self, key: &str, label: &str, histogram: &Histogram<u64>) {
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(at);
        let max = if histogram.is_empty() { 0.0 } else { histogram.max() as f64 / 1e3 };
        let count = histogram.len();
        self.set(
            key,
            json!({"p50": round(p50), "p90": round(p90), "p99": round(p99), "p99.9": round(p999), "max": round(max),
                "count": count}),
        );
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(human);
        self.row(label, format!("p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p999}   max {max}  µs"));
    }

    /// Rates, own and server's cost of a window; `unit` is what is counted, `closed` whether the rate claims to be the most
    /// that the server can do.
    pub fn window(&mut self, window: &Window, unit: &str, closed: bool) {
        let tally = window.after.tally.since(&window.before.tally);
        let (seconds, received) = (window.seconds(), tally.received as f64);
        self.set("seconds", json!(round(seconds)));
        self.set(unit, json!(tally.received));
        self.number("per_second", received / seconds, &format!("{unit} per second"), "");
        self.number("own_reads_per_message", tally.reads as f64 / received, "own reads per message", "");
        self.set("own_polls", json!(tally.polls));
        let busy = window.generator_busy();
        self.set("own_busy", json!(round(busy)));
        let total: u64 = window.before.cpu.iter().zip(&window.after.cpu).map(|(a, b)| b - a).sum();
        self.set("own_ns_per_message", json!(round(total as f64 / received)));
        let wait = if window.spin { "spins" } else { "sleeps in epoll_wait" };
        self.set("receivers", json!(if window.spin { "spin" } else { "sleep" }));
        self.row(
            "generator",
            format!("{:.1} % busy, {} ns per message, {wait}", busy * 100.0, human(total as f64 / received)),
        );
        if window.has_server {
            self.server(window, received, closed, busy);
        }
    }

    fn server(&mut self, window: &Window, received: f64, closed: bool, own_busy: f64) {
        let spent = &window.spent;
        let busy = spent.busiest as f64 / 1e9 / window.seconds();
        let each = spent.nanos as f64 / received;
        self.set("server_busy", json!(round(busy)));
        self.set("server_ns_per_message", json!(round(each)));
        self.set("server_user_share", json!(round(spent.user_share)));
        self.set("server_cores", json!(round(spent.nanos as f64 / 1e9 / window.seconds())));
        let user = each * spent.user_share;
        self.row("server", format!("{:.1} % busy (its busiest core)", busy * 100.0));
        self.row("server CPU", format!("{} ns per message, of them {} outside the kernel", human(each), human(user)));
        if closed && busy < SERVER_BUSY_MIN {
            self.void(format!("as a throughput: server core {:.1} % busy, below 97 %", busy * 100.0));
        }
        if closed && own_busy >= GENERATOR_BUSY_MAX {
            self.void(format!("as a throughput: generator {:.1} % busy, 90 % or more", own_busy * 100.0));
        }
    }

    /// The server's own counters over a whole run, from silence to silence, in which `received` messages came: exact.
    pub fn counters(&mut self, spent: &Spent, received: u64) {
        if spent.metrics.is_empty() {
            return;
        }
        let received = received as f64;
        self.set("server_metrics", json!(spent.metrics));
        let get = |name: &str| spent.metrics.get(name).copied().unwrap_or(0.0);
        let (writes, reads) = (get("corecast_socket_writes_total"), get("corecast_socket_reads_total"));
        self.set("server_writes_per_message", json!(round(writes / received)));
        self.set("server_reads_per_message", json!(round(reads / received)));
        self.row(
            "server calls",
            format!("{} writes and {} reads per message", human(writes / received), human(reads / received)),
        );
        let [ctl, waits, wakes] =
            ["epoll_ctl", "epoll_waits", "mailbox_wakes"].map(|n| get(&format!("corecast_{n}_total")));
        self.row("", format!("{ctl} epoll_ctl, {waits} epoll_wait, {wakes} mailbox wakes"));
    }

    /// Prints it and gives the exit code: 0, or 1 if the run is void.
    pub fn finish(mut self, as_json: bool) -> u8 {
        self.set("void", json!(self.void));
        if as_json {
            println!("{}", Value::Object(self.json));
        } else {
            let width = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
            for (label, text) in &self.rows {
                println!("{label:width$}  {text}");
            }
            for reason in &self.void {
                println!("VOID: {reason}");
            }
        }
        u8::from(!self.void.is_empty())
    }
}

/// Three decimals are more than any of these figures is good for; what is no number becomes 0.
fn round(value: f64) -> f64 {
    if value.is_finite() { (value * 1000.0).round() / 1000.0 } else { 0.0 }
}

/// A figure with about four digits, and a thin gap between thousands.
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
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && digit.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let pairs =
            [(1234567.8, "1,234,568"), (999.6, "1,000"), (12.345, "12.3"), (1.234, "1.23"), (0.0, "0"), (0.5, "0.500")];
        pairs.iter().for_each(|(value, text)| assert_eq!(human(*value), *text));
        assert_eq!(human(f64::NAN), "-");
    }

    #[test]
    fn a_void_run_fails() {
        assert_eq!(Report::new("x").finish(true), 0);
        let mut report = Report::new("x");
        report.void("lost 1".into());
        assert_eq!(report.finish(true), 1);
    }
}
