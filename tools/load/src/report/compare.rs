//! Two sides of saved runs: what differs in settings and host first, then each figure of both with its ratio.
//!
//! A side is one run or several; of several, each figure is the median, with its spread. A ratio is B / A. A verdict is given only
//! to sides of three runs or more, for figures whose better direction is known, and only if the sides differ by more than each varies
//! in itself.

use super::figures::human;
use super::saved_run::{OPENINGS, SCHEMA, SavedRun};
use super::table::PERCENTILES;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Ratios this close to 1 are the same.
const SAME: f64 = 0.02;
/// With fewer runs on a side, its spread is not known and there is no verdict.
const RUNS_MIN: usize = 3;
/// A fact that differs between any two moments.
const VOLATILE: &str = "load average at start";
/// Options about the output, the server's process and timeouts, which are not settings of the measurement.
const NO_SETTINGS: &str = "--out --html --json --quiet --live --server-pid --server-metrics --open-timeout";
/// The compared figures: key, label, and the better direction.
const FIGURES: [(&str, &str, Better); 13] = [
    ("per_second", "per second", Better::More),
    ("publications_per_second", "publications per second", Better::More),
    ("server_ns_per_message", "server CPU per message, ns", Better::Less),
    ("server_us_each", "server CPU each, µs", Better::Less),
    ("server_ns_per_connection", "server CPU per connection, ns", Better::Less),
    ("server_busy", "server's busiest core, share", Better::Unknown),
    ("server_user_share", "server CPU outside the kernel, share", Better::Unknown),
    ("server_writes_per_message", "server writes per message", Better::Less),
    ("server_reads_per_message", "server reads per message", Better::Less),
    ("server_rss_peak", "server memory, maximum, bytes", Better::Less),
    ("pss_per_connection", "server memory per connection, bytes", Better::Less),
    ("own_busy", "this tool's busiest core, share", Better::Unknown),
    ("own_ns_per_message", "own CPU per message, ns", Better::Unknown),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
    Unknown,
}

/// One figure of both sides.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: String,
    pub label: String,
    pub a: f64,
    pub b: f64,
    /// The largest deviation from the median on either side, as a share of it.
    spread: f64,
    /// There are enough runs for a verdict.
    is_judged: bool,
    better: Better,
}

impl Row {
    pub fn ratio(&self) -> Option<f64> {
        (self.a != 0.0).then_some(self.b / self.a).filter(|ratio| ratio.is_finite())
    }

    /// The label, both figures, their ratio and the verdict.
    pub fn texts(&self) -> [String; 5] {
        let ratio = self.ratio().map_or("-".into(), |ratio| format!("{ratio:.3}"));
        [self.label.clone(), human(self.a), human(self.b), ratio, self.verdict().into()]
    }

    pub fn verdict(&self) -> &'static str {
        let Some(ratio) = self.ratio() else { return "" };
        let deviation = (ratio - 1.0).abs();
        match self.better {
            _ if !self.is_judged => "",
            _ if deviation <= SAME => "same",
            Better::Unknown => "",
            _ if deviation <= self.spread => "within the spread",
            Better::More if ratio > 1.0 => "B better",
            Better::Less if ratio < 1.0 => "B better",
            _ => "A better",
        }
    }
}

/// Both sides and their differences.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub a: Vec<SavedRun>,
    pub b: Vec<SavedRun>,
    pub rows: Vec<Row>,
    /// Name, value of A, value of B: settings and facts about the host that differ.
    pub differences: Vec<(String, String, String)>,
}

impl Comparison {
    pub fn new(a: Vec<SavedRun>, b: Vec<SavedRun>) -> Self {
        let (rows, differences) = (rows(&a, &b), differences(&a, &b));
        Self { a, b, rows, differences }
    }

    /// Both sides with their names.
    fn sides(&self) -> [(&'static str, &[SavedRun]); 2] {
        [("A", &self.a), ("B", &self.b)]
    }

    pub fn is_void(&self) -> bool {
        self.a.iter().chain(&self.b).any(|run| !run.texts("void").is_empty())
    }

    /// What a reader must know before the figures.
    pub fn cautions(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (side, runs) in self.sides() {
            let void = runs.iter().map(|run| (run, run.texts("void"))).filter(|(_, void)| !void.is_empty());
            out.extend(void.map(|(run, void)| format!("{side}: {} is VOID: {}", run.name, void.join("; "))));
        }
        if !self.differences.is_empty() {
            out.push("settings or hosts differ: the ratios include the effect of that".into());
        }
        if are_few(&self.a, &self.b) {
            out.push(format!(
                "fewer than {RUNS_MIN} runs on a side: how much they vary is unknown, so there is no verdict"
            ));
        }
        out
    }

    pub fn table(&self) -> String {
        let mut out = String::new();
        for (side, runs) in self.sides() {
            let names: Vec<_> = runs.iter().map(|run| format!("{} ({})", run.name, run.text("started"))).collect();
            let _ = writeln!(out, "{side}: {} {}", runs[0].text("kind"), names.join(", "));
        }
        let width = |labels: &mut dyn Iterator<Item = &String>| labels.map(|label| label.chars().count()).max();
        if let Some(width) = width(&mut self.differences.iter().map(|(name, ..)| name)) {
            out += "\ndifferences\n";
            for (name, a, b) in &self.differences {
                let _ = writeln!(out, "{name:width$}  A {a}   B {b}");
            }
        }
        let width = width(&mut self.rows.iter().map(|row| &row.label)).unwrap_or(0);
        let header = ["", "A", "B", "B / A", ""].map(String::from);
        out.push('\n');
        for [label, a, b, ratio, verdict] in std::iter::once(header).chain(self.rows.iter().map(Row::texts)) {
            let line = format!("{label:width$}  {a:>11}  {b:>11}  {ratio:>7}  {verdict}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let cautions: String = self.cautions().iter().map(|text| format!("note: {text}\n")).collect();
        if cautions.is_empty() { out } else { out + "\n" + &cautions }
    }

    pub fn json(&self) -> Value {
        let names = |runs: &[SavedRun]| runs.iter().map(|run| run.name.clone()).collect::<Vec<_>>();
        let figures = self.rows.iter().map(|row| {
            let (ratio, verdict) = (row.ratio(), row.verdict());
            let value = json!({"a": row.a, "b": row.b, "ratio": ratio, "spread": row.spread, "verdict": verdict});
            (row.key.clone(), value)
        });
        let differences = self.differences.iter().map(|(name, a, b)| (name.clone(), json!([a, b])));
        json!({
            "schema": SCHEMA, "a": names(&self.a), "b": names(&self.b), "void": self.is_void(),
            "differences": differences.collect::<Map<_, _>>(), "figures": figures.collect::<Map<_, _>>(),
            "cautions": self.cautions(),
        })
    }
}

fn rows(a: &[SavedRun], b: &[SavedRun]) -> Vec<Row> {
    let all = || a.iter().chain(b);
    // At a given rate, the number of messages is no merit.
    let at_rate = all().any(|run| !run.value["result"]["rate"].is_null());
    let figure = |(key, label, better): &(&str, &str, Better)| {
        let better = if at_rate && *better == Better::More { Better::Unknown } else { *better };
        (key.to_string(), label.to_string(), better)
    };
    let mut wanted: Vec<(String, String, Better)> = FIGURES.iter().map(figure).collect();
    for (key, label) in a[0].latencies_ranked() {
        let is_lag = key == "own_lag_us";
        let better = if is_lag { Better::Unknown } else { Better::Less };
        if all().all(|run| run.figure(&format!("{key}.count")).is_some_and(|n| n > 0.0)) {
            let is_minor = OPENINGS.contains(&key) || is_lag;
            let names = PERCENTILES.iter().filter(|name| !is_minor || ["p50", "p99"].contains(name));
            wanted.extend(names.map(|name| (format!("{key}.{name}"), format!("{label}, {name}, µs"), better)));
        }
    }
    let is_judged = !are_few(a, b);
    let row = |(key, label, better): (String, String, Better)| {
        let ((a, spread_a), (b, spread_b)) = (median(a, &key)?, median(b, &key)?);
        Some(Row { key, label, a, b, spread: spread_a.max(spread_b), is_judged, better })
    };
    wanted.into_iter().filter_map(row).collect()
}

/// Whether there are too few runs to know their spread.
fn are_few(a: &[SavedRun], b: &[SavedRun]) -> bool {
    a.len().min(b.len()) < RUNS_MIN
}

/// The median of a figure and its spread; `None` if a run does not have it.
fn median(runs: &[SavedRun], key: &str) -> Option<(f64, f64)> {
    let mut values = runs.iter().map(|run| run.figure(key)).collect::<Option<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
    let deviation = values.iter().map(|value| (value - median).abs()).fold(0.0, f64::max);
    Some((median, if median == 0.0 { 0.0 } else { deviation / median.abs() }))
}

/// The differences in settings, then in facts about the host.
fn differences(a: &[SavedRun], b: &[SavedRun]) -> Vec<(String, String, String)> {
    let (first, second) = (known(a), known(b));
    let value = |facts: &[(String, Vec<String>)], name: &str| {
        facts.iter().find(|(known, _)| known == name).map_or("-".into(), |(_, values)| values.join(" | "))
    };
    let only_second = second.iter().filter(|(name, _)| first.iter().all(|(known, _)| known != name));
    let names = first.iter().chain(only_second).map(|(name, _)| name);
    let all = names.map(|name| (name.clone(), value(&first, name), value(&second, name)));
    all.filter(|(_, a, b)| a != b).collect()
}

/// The settings and facts of a side, each name once, with all values that occur.
fn known(runs: &[SavedRun]) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for run in runs {
        let fixed = ["kind", "tool"].map(|name| (name.to_string(), run.text(name).to_string()));
        let facts = run.facts().into_iter().filter(|(name, _)| name != VOLATILE);
        for (name, value) in fixed.into_iter().chain(settings(&run.texts("command"))).chain(facts) {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => all.push((name, vec![value])),
            }
        }
    }
    all
}

/// The options of a command line with their values; other words are numbered. The first two words are program and subcommand.
fn settings(words: &[&str]) -> Vec<(String, String)> {
    let (mut out, mut rest, mut plain) = (Vec::new(), words.iter().skip(2).peekable(), 0);
    while let Some(word) = rest.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with('-') => (name.to_string(), value),
            _ if word.starts_with('-') => {
                (word.to_string(), rest.next_if(|next| !next.starts_with('-')).map_or("given", |value| value))
            }
            _ => {
                plain += 1;
                (format!("argument {plain}"), *word)
            }
        };
        out.push((name, value.to_string()));
    }
    out.retain(|(name, _)| !NO_SETTINGS.split(' ').any(|option| option == name));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    fn verdict(rows: &[Row], key: &str) -> &'static str {
        rows.iter().find(|row| row.key == key).unwrap().verdict()
    }

    #[test]
    fn higher_rates_and_lower_latencies_are_better() {
        let found = Comparison::new(vec![run("a", 1.0); 3], vec![run("b", 2.0); 3]);
        assert_eq!(found.rows.iter().find(|row| row.key == "per_second").unwrap().ratio(), Some(0.5));
        assert_eq!(verdict(&found.rows, "per_second"), "A better");
        assert_eq!(verdict(&found.rows, "latency_us.p99.9"), "A better");
        assert_eq!(verdict(&found.rows, "server_busy"), "same");
        assert!(found.differences.is_empty() && !found.is_void(), "{:?}", found.differences);
        assert!(found.table().contains("latency of <deliveries>, p99, µs"));
    }

    #[test]
    fn fewer_than_three_runs_on_a_side_get_no_verdict() {
        for (a, b) in [(1, 1), (3, 2), (2, 3), (1, 9)] {
            let found = Comparison::new(vec![run("a", 1.0); a], vec![run("b", 2.0); b]);
            assert!(!found.rows.is_empty() && found.rows.iter().all(|row| row.verdict().is_empty()), "{a} and {b}");
            assert!(found.cautions().iter().any(|text| text.contains("no verdict")), "{:?}", found.cautions());
        }
    }

    #[test]
    fn medians_of_several_runs_are_compared_and_their_spread_counts() {
        let a = [0.9, 1.0, 1.3].map(|times| run("a", times)).to_vec();
        let b = [1.0, 1.1, 1.2].map(|times| run("b", times)).to_vec();
        let found = Comparison::new(a, b);
        let row = found.rows.iter().find(|row| row.key == "latency_us.p50").unwrap();
        assert_eq!((row.a.round(), row.b.round(), row.verdict()), (100.0, 110.0, "within the spread"));
        assert!(found.cautions().is_empty(), "{:?}", found.cautions());
    }

    #[test]
    fn differences_are_listed_and_void_runs_are_marked() {
        let (a, mut b) = (run("a", 1.0), run("b", 1.0));
        b.value["host"]["cores"] = json!(8);
        b.value["command"] = json!(["corecast-load", "fanout", "ws://a&b", "--window", "8", "--out", "x"]);
        b.value["void"] = json!(["lost 1"]);
        let found = Comparison::new(vec![a], vec![b]);
        let expected = [("--window", "-", "8"), ("cores", "2", "8")];
        let expected = expected.map(|(name, a, b)| (name.to_string(), a.to_string(), b.to_string()));
        assert!(found.is_void() && found.differences.len() == 2, "{:?}", found.differences);
        assert!(expected.iter().all(|one| found.differences.contains(one)), "{:?}", found.differences);
        assert!(found.cautions()[0].contains("VOID: lost 1"));
        assert_eq!(found.json()["figures"]["per_second"]["ratio"], 1.0);
    }
}
