//! The report of a run: figures, latencies, time series, warnings and the verdict; and where it goes.
//!
//! A run puts in what it knows; `finish` makes one object of it and passes that to `table` and `page`, to a file, or to standard
//! output. A row belongs to a group by the beginning of its label. `saved_run` is a run read from a file; `table`, `page` and
//! `compare` use nothing else, so that a saved run gives the same page as the run itself. `live` is the progress on stderr.

pub mod commands;
pub mod compare;
pub mod figures;
pub mod live;
pub mod page;
pub mod plot;
pub mod saved_run;
pub mod table;

use crate::args::options::Files;
use crate::engine::connection::{ConnectionStats, NO_CLOSE_FRAME};
use crate::engine::counters::Counters;
use crate::engine::workers::{Finished, Totals};
use crate::measure::histogram::LatencyHistogram;
use crate::measure::host;
use crate::measure::rate::Rate;
use crate::measure::results::Results;
use crate::measure::server::Spent;
use crate::measure::timeline::Timeline;
use crate::report::figures::{human, round, whole};
use crate::report::saved_run::SCHEMA;
use crate::{files, interrupt};
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, stderr, stdout};
use std::net::SocketAddr;

/// Below this, the server's core did not limit the throughput.
pub const SERVER_BUSY_MIN: f64 = 0.97;
/// From this on, a thread of the generator may have limited it.
pub const GENERATOR_BUSY_MAX: f64 = 0.90;
/// If the own lag exceeds this share of a latency (both at p99), the lag was measured. A lag of fewer microseconds is ignored.
const LAG_SHARE_MAX: f64 = 0.5;
const LAG_MICROS_MIN: f64 = 200.0;
/// The messages in flight may grow by this share of those that fell due, and by so many, before the rate counts as not kept.
const BACKLOG_SHARE_MAX: f64 = 0.02;
const BACKLOG_MIN: f64 = 20.0;
/// Points of a percentile curve per power of ten.
const CURVE_POINTS: usize = 12;

/// The failures of connections that are part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    None,
    /// The server may close connections.
    Closes,
    /// Attempts to connect may fail too.
    All,
}

/// What happened in the measured time.
#[derive(Clone, Debug)]
pub struct Window {
    pub before: Totals,
    pub after: Totals,
    /// What the server spent, and this process.
    pub server: Spent,
    pub own: Spent,
    pub has_server: bool,
    pub spin: bool,
}

impl Window {
    pub fn seconds(&self) -> f64 {
        (self.after.at - self.before.at) as f64 / 1e9
    }

    pub fn counters(&self) -> Counters {
        self.after.counters.since(&self.before.counters)
    }

    /// Nanoseconds as a share of the measured time.
    pub fn share(&self, nanos: u64) -> f64 {
        nanos as f64 / 1e9 / self.seconds()
    }

    /// The share of its time that the busiest worker was busy; a spinning worker counts only turns with work.
    pub fn generator_busy(&self) -> f64 {
        if self.spin {
            return self.share(self.counters().busy_ns) / self.after.cpu.len() as f64;
        }
        let pairs = self.before.cpu.iter().zip(&self.after.cpu);
        self.share(pairs.map(|(a, b)| b - a).max().unwrap_or(0))
    }

    pub fn server_busy(&self) -> f64 {
        self.share(self.server.busiest)
    }
}

/// The findings of one run.
#[derive(Debug, Default)]
pub struct Report {
    json: Map<String, Value>,
    /// Labels and texts, in order.
    rows: Vec<(String, String)>,
    /// Keys of latencies, their labels and their curves.
    curves: Vec<Value>,
    void: Vec<String>,
    warnings: Vec<String>,
    timeline: Timeline,
    background: Timeline,
    peer: Option<SocketAddr>,
    /// When the measured time began and ended.
    measured: Option<(u64, u64)>,
}

impl Report {
    pub fn new(kind: &str) -> Self {
        let mut report = Self::default();
        report.set("schema", SCHEMA);
        report.set("kind", kind);
        report
    }

    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.json.insert(key.into(), value.into());
    }

    pub fn row(&mut self, label: &str, text: impl Into<String>) {
        self.rows.push((label.into(), text.into()));
    }

    /// A figure for both: the key includes its unit, the row adds it.
    pub fn number(&mut self, key: &str, value: f64, label: &str, unit: &str) {
        self.set(key, round(value));
        self.row(label, format!("{} {unit}", human(value)).trim_end());
    }

    /// A count for both.
    pub fn count(&mut self, key: &str, n: u64, label: &str) {
        self.set(key, n);
        self.row(label, whole(n as f64));
    }

    /// A count that makes the run void unless it is 0.
    pub fn fault(&mut self, key: &str, n: u64, what: &str) {
        self.set(key, n);
        if n > 0 {
            self.void(format!("{n} {what}"));
        }
    }

    /// The run does not count; says why.
    pub fn void(&mut self, reason: impl Into<String>) {
        self.void.push(reason.into());
    }

    /// Percentiles in microseconds: figures and a curve. An empty histogram has figures only.
    pub fn latency(&mut self, key: &str, label: &str, histogram: &LatencyHistogram) {
        self.set(key, percentiles(histogram));
        self.curves.push(json!({"key": key, "label": label, "points": curve(histogram)}));
    }

    /// The nodes of a cluster.
    pub fn nodes(&mut self, urls: &[String]) {
        if urls.len() > 1 {
            self.set("urls", json!(urls));
            self.row("nodes", format!("{}, which the connections use in turn: {}", urls.len(), urls.join(", ")));
        }
    }

    /// The connections of a run: failures, how long they took to open, own lag, and the time series.
    pub fn connections<S>(&mut self, finished: &Finished<S>, allowed: Failures) {
        let connections = &finished.connections;
        self.connection_faults(connections, allowed);
        let opening = &connections.opening;
        let named = [
            ("upgraded_us", "from connect to upgrade", &opening.upgraded),
            ("connected_us", "connect command to its reply", &opening.connected),
            ("subscribed_us", "subscribe command to its reply", &opening.subscribed),
            ("ready_us", "from connect to ready", &opening.ready),
        ];
        // Without a setup, "ready" is the same as "upgraded".
        let has_setup = !opening.connected.is_empty() || !opening.subscribed.is_empty();
        for (key, label, histogram) in named.into_iter().filter(|(key, ..)| has_setup || *key != "ready_us") {
            if !opening.upgraded.is_empty() && !self.json.contains_key(key) && !histogram.is_empty() {
                self.latency(key, label, histogram);
            }
        }
        if !connections.lag.is_empty() {
            self.latency("own_lag_us", "own lag behind the schedule", &connections.lag);
        }
        (self.timeline, self.peer) = (finished.timeline.clone(), finished.peer);
    }

    /// Failures and close codes of connections, which make the run void unless they are allowed.
    pub fn connection_faults(&mut self, connections: &ConnectionStats, allowed: Failures) {
        self.set("closes", json!(connections.closes));
        self.set("errors", json!(connections.errors));
        for (reason, n) in &connections.errors {
            self.row("connections failed", format!("{n} × {reason}"));
            if allowed != Failures::All {
                self.void(format!("{n} connections failed: {reason}{}", hint(reason)));
            }
        }
        for (code, n) in connections.closes.iter().filter(|_| allowed == Failures::None) {
            let how =
                if *code == NO_CLOSE_FRAME { "without a close frame".into() } else { format!("with code {code}") };
            self.row("connections closed", format!("{n} × {how}"));
            self.void(format!("{n} connections were ended by the server {how}"));
        }
    }

    /// The first error that the server sent to a publisher.
    pub fn first_error(&mut self, results: &Results) {
        if let Some(text) = &results.first_error {
            self.row("first error", format!("{text}{}", hint(text)));
        }
    }

    /// The time series of the background fan-out.
    pub fn background(&mut self, timeline: Timeline) {
        self.background = timeline;
    }

    /// Rates and costs of the measured time. `unit` is what is counted; `closed_loop` says whether the rate is a throughput, the
    /// maximum that the server can do.
    pub fn window(&mut self, window: &Window, unit: &str, closed_loop: bool) {
        let counters = window.counters();
        let (seconds, received) = (window.seconds(), counters.received as f64);
        self.measured = Some((window.before.at, window.after.at));
        self.set("seconds", round(seconds));
        self.set("unit", unit);
        self.set(unit, counters.received);
        if closed_loop && counters.received == 0 {
            self.void("nothing was received in the measured time");
        }
        self.number("per_second", received / seconds, &format!("{unit} per second"), "");
        self.number("own_reads_per_message", counters.reads as f64 / received, "own reads per message", "");
        self.set("own_polls", counters.polls);
        let busy = window.generator_busy();
        let own: u64 = window.before.cpu.iter().zip(&window.after.cpu).map(|(a, b)| b - a).sum();
        let own = own as f64 / received;
        self.set("own_busy", round(busy));
        self.set("own_ns_per_message", round(own));
        self.set("receivers", if window.spin { "spin" } else { "sleep" });
        let wait = if window.spin { "spins" } else { "sleeps in epoll_wait" };
        self.row("generator", format!("{:.1} % busy, {} ns per message, {wait}", busy * 100.0, human(own)));
        if !window.has_server {
            return;
        }
        let (server, server_busy) = (&window.server, window.server_busy());
        let each = server.nanos as f64 / received;
        self.set("server_busy", round(server_busy));
        self.set("server_ns_per_message", round(each));
        self.set("server_user_share", round(server.user_share));
        self.set("server_cores", round(window.share(server.nanos)));
        self.row("server", format!("{:.1} % busy (its busiest core)", server_busy * 100.0));
        let user = human(each * server.user_share);
        self.row("server CPU", format!("{} ns per message, {user} of them outside the kernel", human(each)));
        if closed_loop && server_busy < SERVER_BUSY_MIN {
            self.void(format!("as a throughput: server core {:.1} % busy, below 97 %", server_busy * 100.0));
        }
        if closed_loop && busy >= GENERATOR_BUSY_MAX {
            self.void(format!("as a throughput: generator {:.1} % busy, 90 % or more", busy * 100.0));
        }
    }

    /// The server's own counters over a whole run in which `received` messages were received.
    pub fn server_counters(&mut self, spent: &Spent, received: u64) {
        if spent.metrics.is_empty() {
            return;
        }
        self.set("server_metrics", json!(spent.metrics));
        let get = |name: &str| spent.metrics.get(&format!("corecast_{name}_total")).copied().unwrap_or(0.0);
        let [writes, reads] = ["socket_writes", "socket_reads"].map(|name| get(name) / received as f64);
        self.set("server_writes_per_message", round(writes));
        self.set("server_reads_per_message", round(reads));
        self.row("server calls", format!("{} writes and {} reads per message", human(writes), human(reads)));
        let [ctl, waits, wakes] = ["epoll_ctl", "epoll_waits", "mailbox_wakes"].map(get);
        self.row("server calls in all", format!("{ctl} epoll_ctl, {waits} epoll_wait, {wakes} mailbox wakes"));
    }

    /// The rate as it was given: a number if it is constant.
    pub fn rate(&mut self, rate: &Rate) {
        self.set("rate", rate.fixed().map_or_else(|| json!(rate.to_string()), |fixed| json!(fixed)));
    }

    /// The run is void if the messages in flight piled up in the measured time, in which `due` messages fell due.
    pub fn rate_kept(&mut self, window: &Window, due: u64, what: &str) {
        let grown = window.after.counters.in_flight.wrapping_sub(window.before.counters.in_flight).cast_signed() as f64;
        if grown > (due as f64 * BACKLOG_SHARE_MAX).max(BACKLOG_MIN) {
            let (grown, due) = (human(grown), human(due as f64));
            self.void(format!("the rate was not kept: {grown} more {what} were in flight at the end, of {due}"));
        }
    }

    /// Figures by the steps of a rate, if it has several.
    pub fn steps(&mut self, rate: Option<&Rate>, results: &Results, what: &str) {
        let spans = rate.map(Rate::spans).unwrap_or_default();
        if spans.len() < 2 {
            return;
        }
        let step = |(span, step): (&crate::measure::rate::Span, &crate::measure::results::Step)| {
            let label = match span.from == span.to {
                true => format!("{what} at {}/s", human(span.from)),
                false => format!("{what} at {}..{}/s", human(span.from), human(span.to)),
            };
            json!({
                "label": label, "rate": (span.from + span.to) / 2.0, "from": span.from, "to": span.to,
                "seconds": (span.end - span.begin) as f64 / 1e9, "sent": step.sent, "received": step.latency.len(),
                "latency_us": percentiles(&step.latency),
            })
        };
        self.set("steps", spans.iter().zip(&results.steps).map(step).collect::<Vec<_>>());
    }

    /// Warns if the generator was the bottleneck.
    fn check_generator(&mut self) {
        let at_p99 = |report: &Self, key: &str| report.json.get(key).and_then(|times| times["p99"].as_f64());
        let busy = self.json.get("own_busy").and_then(Value::as_f64).unwrap_or(0.0);
        if busy >= GENERATOR_BUSY_MAX {
            let busy = busy * 100.0;
            self.warnings.push(format!("this tool was {busy:.1} % busy: the figures may be its own limit"));
        }
        let Some(lag) = at_p99(self, "own_lag_us").filter(|lag| *lag >= LAG_MICROS_MIN) else { return };
        let keys = ["latency_us", "answer_us", "ready_us"];
        let Some(latency) = keys.iter().find_map(|key| at_p99(self, key)).filter(|us| *us > 0.0) else { return };
        if lag > latency * LAG_SHARE_MAX {
            let (lag, latency) = (human(lag), human(latency));
            self.warnings.push(format!(
                "own lag of {lag} µs at p99, in latencies of {latency} µs: give this tool more cores or --threads"
            ));
        }
    }

    /// The whole report, as in a file.
    fn full(&self) -> Value {
        let timeline = &self.timeline;
        let mut series = timeline.json(&self.background);
        let since = |at: u64| round(at.saturating_sub(timeline.origin) as f64 / 1e9);
        series["measured"] = json!(self.measured.map(|(from, to)| [since(from), since(to)]));
        json!({
            "schema": SCHEMA,
            "tool": concat!("corecast-load ", env!("CARGO_PKG_VERSION")),
            "command": std::env::args().collect::<Vec<_>>(),
            "started": timeline.start.date,
            "kind": self.json.get("kind"),
            "void": self.void,
            "warnings": self.warnings,
            "result": self.json,
            "rows": self.rows,
            "curves": self.curves,
            "series": series,
            "host": host::facts(&timeline.start, self.peer, timeline.server_version()),
        })
    }

    /// Shows the report and returns the exit code: 0, or 1 if the run is void, or 2 if a file could not be written.
    pub fn finish(mut self, json: bool, paths: &Files) -> u8 {
        if interrupt::is_set() {
            self.void("interrupted: the figures are those of a part of the run");
        }
        self.check_generator();
        self.set("void", json!(self.void));
        self.set("warnings", json!(self.warnings));
        let full = self.full();
        if json {
            println!("{}", Value::Object(self.json));
        } else {
            // On one screen, an empty line separates the table from the progress.
            let gap = if stdout().is_terminal() && stderr().is_terminal() { "\n" } else { "" };
            print!("{gap}{}", table::table(&full));
        }
        let write = |path: &Option<String>, text: &dyn Fn() -> String| {
            let Some(path) = path else { return Ok(()) };
            files::replace(path.as_ref(), &text(), files::READABLE).map_err(|e| (path.clone(), e))
        };
        let written = write(&paths.out, &|| format!("{full}\n")).and(write(&paths.html, &|| page::page(&full)));
        if let Err((path, e)) = written {
            eprintln!("corecast-load: {path} could not be written: {e}");
            return 2;
        }
        u8::from(!self.void.is_empty())
    }
}

/// The option that helps against an error of the server or the system.
fn hint(reason: &str) -> &'static str {
    let is_any = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
    match () {
        () if is_any(&["HTTP 401"]) => "; the API needs its key (--key-env)",
        () if is_any(&["code 3500", "code 3501", "\"code\":101"]) => {
            "; a server that requires tokens needs --token-secret-env with its HMAC secret"
        }
        () if is_any(&["Too many open files", "os error 24"]) => {
            "; share the connections between processes (--processes)"
        }
        () if is_any(&["AddrNotAvailable", "AddrInUse"]) => "; use more source addresses (--source)",
        () => "",
    }
}

fn percentiles(histogram: &LatencyHistogram) -> Value {
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| round(histogram.micros(q)));
    let max = round(histogram.max_micros());
    json!({"p50": p50, "p90": p90, "p99": p99, "p99.9": p999, "max": max, "count": histogram.len()})
}

/// Points of a percentile curve: one in x (10 for p90, 100 for p99, ...) is slower than y microseconds.
fn curve(histogram: &LatencyHistogram) -> Vec<[f64; 2]> {
    let count = histogram.len() as f64;
    let one_in = (0..).map(|i| 10f64.powf(f64::from(i) / CURVE_POINTS as f64)).take_while(|x| *x < count);
    let mut points: Vec<_> = one_in.map(|x| [round(x), round(histogram.micros(1.0 - 1.0 / x))]).collect();
    if count > 0.0 {
        points.push([count, round(histogram.max_micros())]);
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_run_has_exit_code_1() {
        assert_eq!(Report::new("x").finish(true, &Files::default()), 0);
        let mut report = Report::new("x");
        report.void("lost 1");
        assert_eq!(report.finish(true, &Files::default()), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_causes_exit_code_2() {
        let out = Some(format!("{}/no/such/folder", env!("CARGO_MANIFEST_DIR")));
        assert_eq!(Report::new("x").finish(true, &Files { out, html: None }), 2);
    }

    #[test]
    fn a_percentile_curve_ends_at_the_maximum() {
        let mut times = LatencyHistogram::default();
        (1..=1000).for_each(|n| times.record(n * 1000).unwrap());
        let points = curve(&times);
        assert_eq!(points.first().unwrap()[0], 1.0);
        assert_eq!(points.last().unwrap()[0], 1000.0);
        assert!((points.last().unwrap()[1] - 1000.0).abs() < 2.0, "{points:?}");
        let median = points.iter().find(|point| point[0] >= 1.99).unwrap();
        assert!((median[1] - 500.0).abs() < 80.0, "{median:?}");
        assert!(curve(&LatencyHistogram::default()).is_empty());
    }

    #[test]
    fn a_generator_with_a_high_own_lag_causes_a_warning() {
        let (mut lag, mut latency) = (LatencyHistogram::default(), LatencyHistogram::default());
        lag.record_n(900_000, 10).unwrap();
        latency.record_n(1_000_000, 10).unwrap();
        let mut report = Report::new("x");
        report.latency("own_lag_us", "own lag", &lag);
        report.latency("latency_us", "latency", &latency);
        report.check_generator();
        assert_eq!(report.warnings.len(), 1);
        let whole = report.full();
        assert_eq!((&whole["schema"], &whole["result"]["own_lag_us"]["count"]), (&json!(1), &json!(10)));
        assert!(whole["series"]["at"].is_array() && whole["host"]["cores"].is_number());
    }
}
