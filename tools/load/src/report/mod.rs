//! What a run found: figures, latencies, the course of time, warnings and the verdict; and where all that goes.
//!
//! Plan: the course of a subcommand puts in what it knows; `finish` makes one object of it and hands that to whoever shows it
//! (`show::table`, `show::page`), a file, or standard output. A row belongs to a group by how its label begins.

pub mod charts;
pub mod commands;
pub mod compare;
pub mod compare_page;
pub mod html;
pub mod live;
pub mod page;
pub mod plot;
pub mod saved_run;
pub mod scale;
pub mod table;

use crate::args::options::Common;
use crate::engine::connection::Openings;
use crate::engine::counters::Tally;
use crate::engine::workers::Totals;
use crate::measure::host;
use crate::measure::server::Spent;
use crate::measure::timeline::Timeline;
use crate::report;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, stderr, stdout};
use std::net::SocketAddr;

/// The form of the object. It rises when a field changes its meaning or goes; new ones may come without.
pub const SCHEMA: u64 = 1;
/// A server's core below this was not what limited the throughput.
const SERVER_BUSY_MIN: f64 = 0.97;
/// A generator's thread at or above this may have limited it.
const GENERATOR_BUSY_MAX: f64 = 0.90;
/// Own lag above this share of a latency, both at p99, is what was measured; below so many microseconds nobody minds.
const LAG_SHARE_MAX: f64 = 0.5;
const LAG_MICROS_MIN: f64 = 200.0;
/// Points of a percentile curve in each factor of ten.
const CURVE_POINTS: usize = 12;

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

/// Where a report goes.
#[derive(Clone, Debug, Default)]
pub struct Outlet {
    /// The figures as one object to standard output, instead of a table.
    pub json: bool,
    /// Files for all there is, and for a page of it.
    pub out: Option<String>,
    pub html: Option<String>,
}

impl From<bool> for Outlet {
    fn from(json: bool) -> Self {
        Self { json, ..Self::default() }
    }
}

impl From<&Common> for Outlet {
    fn from(common: &Common) -> Self {
        Self { json: common.json, out: common.files.out.clone(), html: common.files.html.clone() }
    }
}

/// The findings of one run.
#[derive(Debug, Default)]
pub struct Report {
    json: Map<String, Value>,
    /// Label and text, in the order in which they came.
    rows: Vec<(String, String)>,
    /// Keys of latencies, their labels and their curves.
    curves: Vec<Value>,
    void: Vec<String>,
    warnings: Vec<String>,
    timeline: Timeline,
    /// That of the others, if there were any.
    beside: Timeline,
    peer: Option<SocketAddr>,
    /// When the measured time began and ended, if only a part of the run is measured.
    measured: Option<(u64, u64)>,
}

impl Report {
    pub fn new(kind: &str) -> Self {
        let mut report = Self::default();
        report.set("schema", json!(SCHEMA));
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
        self.row(label, format!("{} {unit}", human(value)).trim_end().into());
    }

    /// A count in both.
    pub fn count(&mut self, key: &str, n: u64, label: &str) {
        self.set(key, json!(n));
        self.row(label, whole(n as f64));
    }

    /// The run does not count, and why.
    pub fn void(&mut self, reason: String) {
        self.void.push(reason);
    }

    /// The run counts, and this must be known of it.
    pub fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Percentiles in microseconds: figures and a curve. One that nothing was recorded in is a figure only.
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
        self.curves.push(json!({"key": key, "label": label, "points": curve(histogram)}));
    }

    /// How long connections took, where the scene does not say it itself.
    pub fn openings(&mut self, openings: &Openings) {
        let named = [
            ("upgraded_us", "from connect to upgrade", &openings.upgraded),
            ("connected_us", "connect command to its reply", &openings.connected),
            ("subscribed_us", "subscribe command to its reply", &openings.subscribed),
            ("ready_us", "from connect to ready", &openings.ready),
        ];
        // Where nothing is upgraded there is nothing to say; where nothing is asked for, ready is upgraded.
        let greeted = !openings.connected.is_empty() || !openings.subscribed.is_empty();
        let wanted = named.into_iter().filter(|(key, ..)| greeted || *key != "ready_us");
        for (key, label, histogram) in wanted.filter(|_| !openings.upgraded.is_empty()) {
            if !self.json.contains_key(key) && !histogram.is_empty() {
                self.latency(key, label, histogram);
            }
        }
    }

    /// How late this tool was itself.
    pub fn lag(&mut self, lag: &Histogram<u64>) {
        if !lag.is_empty() {
            self.latency("own_lag_us", "own lag behind the schedule", lag);
        }
    }

    /// The course of time, for files and pages.
    pub fn timeline(&mut self, timeline: Timeline, peer: Option<SocketAddr>) {
        (self.timeline, self.peer) = (timeline, peer);
    }

    /// That of the others, who were served meanwhile.
    pub fn beside(&mut self, timeline: Timeline) {
        self.beside = timeline;
    }

    /// Rates, own and server's cost of a window; `unit` is what is counted, `closed` whether the rate claims to be the most
    /// that the server can do.
    pub fn window(&mut self, window: &Window, unit: &str, closed: bool) {
        let tally = window.after.tally.since(&window.before.tally);
        let (seconds, received) = (window.seconds(), tally.received as f64);
        self.measured = Some((window.before.at, window.after.at));
        self.set("seconds", json!(round(seconds)));
        self.set("unit", json!(unit));
        self.set(unit, json!(tally.received));
        if closed && tally.received == 0 {
            self.void("nothing came back while it was measured".into());
        }
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
        self.row("server calls in all", format!("{ctl} epoll_ctl, {waits} epoll_wait, {wakes} mailbox wakes"));
    }

    /// A generator that was the bottleneck says so.
    fn judge_generator(&mut self) {
        let at_p99 = |report: &Self, key: &str| report.json.get(key).and_then(|times| times["p99"].as_f64());
        let busy = self.json.get("own_busy").and_then(Value::as_f64).unwrap_or(0.0);
        if busy >= GENERATOR_BUSY_MAX {
            self.warn(format!("this tool was {:.1} % busy: what is measured may be its own limit", busy * 100.0));
        }
        let Some(lag) = at_p99(self, "own_lag_us").filter(|lag| *lag >= LAG_MICROS_MIN) else { return };
        let keys = ["latency_us", "answer_us", "ready_us"];
        let Some(latency) = keys.iter().find_map(|key| at_p99(self, key)).filter(|us| *us > 0.0) else { return };
        if lag > latency * LAG_SHARE_MAX {
            let (lag, latency) = (human(lag), human(latency));
            self.warn(format!(
                "this tool was late itself: {lag} µs at p99, in latencies of {latency} µs; give it more cores or --threads"
            ));
        }
    }

    /// All there is, as it stands in a file.
    fn whole(&self) -> Value {
        let timeline = &self.timeline;
        let mut series = timeline.json(&self.beside);
        let since = |at: u64| round(at.saturating_sub(timeline.origin) as f64 / 1e9);
        series["measured"] = json!(self.measured.map(|(from, to)| [since(from), since(to)]));
        json!({
            "schema": SCHEMA,
            "tool": concat!("corecast-load ", env!("CARGO_PKG_VERSION")),
            "command": std::env::args().collect::<Vec<_>>(),
            "started": timeline.begin.date,
            "kind": self.json.get("kind"),
            "void": self.void,
            "warnings": self.warnings,
            "result": self.json,
            "rows": self.rows,
            "curves": self.curves,
            "series": series,
            "host": host::facts(&timeline.begin, self.peer, timeline.server_version()),
        })
    }

    /// Shows it and gives the exit code: 0, or 1 if the run is void, or 2 if a file could not be written.
    pub fn finish(mut self, to: impl Into<Outlet>) -> u8 {
        let to = to.into();
        self.judge_generator();
        self.set("void", json!(self.void));
        self.set("warnings", json!(self.warnings));
        let whole = self.whole();
        let page = |path: &String| std::fs::write(path, report::page::page(&whole)).map_err(|e| (path.clone(), e));
        let object = |path: &String| std::fs::write(path, format!("{whole}\n")).map_err(|e| (path.clone(), e));
        let written = to.out.as_ref().map_or(Ok(()), object).and(to.html.as_ref().map_or(Ok(()), page));
        if to.json {
            println!("{}", Value::Object(self.json));
        } else {
            // On one screen, the table stands apart from the progress before it.
            let apart = if stdout().is_terminal() && stderr().is_terminal() { "\n" } else { "" };
            print!("{apart}{}", report::table::table(&whole));
        }
        if let Err((path, e)) = written {
            eprintln!("corecast-load: {path} could not be written: {e}");
            return 2;
        }
        u8::from(!self.void.is_empty())
    }
}

/// Points of a percentile curve: one in so many (1, ..., 10 for p90, 100 for p99, ...) is slower than so many microseconds.
fn curve(histogram: &Histogram<u64>) -> Vec<[f64; 2]> {
    let count = histogram.len() as f64;
    let one_in = (0..).map(|i| 10f64.powf(f64::from(i) / CURVE_POINTS as f64)).take_while(|x| *x < count);
    let mut points: Vec<_> =
        one_in.map(|x| [round(x), round(histogram.value_at_quantile(1.0 - 1.0 / x) as f64 / 1e3)]).collect();
    if count > 0.0 {
        points.push([count, round(histogram.max() as f64 / 1e3)]);
    }
    points
}

/// Three decimals are more than any of these figures is good for; what is no number becomes 0.
pub fn round(value: f64) -> f64 {
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
    grouped(&format!("{value:.decimals$}"))
}

/// A count, with the same gaps.
pub fn whole(n: f64) -> String {
    grouped(&format!("{n:.0}"))
}

fn grouped(text: &str) -> String {
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
        assert_eq!([5.0, 1200.0].map(whole), ["5", "1,200"]);
    }

    #[test]
    fn a_void_run_fails() {
        assert_eq!(Report::new("x").finish(true), 0);
        let mut report = Report::new("x");
        report.void("lost 1".into());
        assert_eq!(report.finish(true), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_by_the_exit_code() {
        let out = Some(format!("{}/no/such/folder", env!("CARGO_MANIFEST_DIR")));
        assert_eq!(Report::new("x").finish(Outlet { json: true, out, html: None }), 2);
    }

    #[test]
    fn a_curve_ends_in_the_slowest_of_all() {
        let mut times = histogram();
        (1..=1000).for_each(|n| times.record(n * 1000).unwrap());
        let points = curve(&times);
        assert_eq!(points.first().unwrap()[0], 1.0);
        assert_eq!(points.last().unwrap()[0], 1000.0);
        assert!((points.last().unwrap()[1] - 1000.0).abs() < 2.0, "{points:?}");
        let median = points.iter().find(|point| point[0] >= 1.99).unwrap();
        assert!((median[1] - 500.0).abs() < 80.0, "{median:?}");
        assert!(curve(&histogram()).is_empty());
    }

    #[test]
    fn a_generator_that_is_late_itself_is_warned_of() {
        let (mut lag, mut latency) = (histogram(), histogram());
        lag.record_n(900_000, 10).unwrap();
        latency.record_n(1_000_000, 10).unwrap();
        let mut report = Report::new("x");
        report.lag(&lag);
        report.latency("latency_us", "latency", &latency);
        report.judge_generator();
        assert_eq!(report.warnings.len(), 1);
        let whole = report.whole();
        assert_eq!((&whole["schema"], &whole["result"]["own_lag_us"]["count"]), (&json!(1), &json!(10)));
        assert!(whole["series"]["at"].is_array() && whole["host"]["cores"].is_number());
    }
}
