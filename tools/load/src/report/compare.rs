//! Runs beside one another: what differs in settings and host first, then each figure of both with its ratio.
//!
//! Plan: a side is one run or several; of several each figure is the median, and its spread stands beside it. A ratio is B by A. What
//! is better is said only of figures of which it is known, and only where the sides differ by more than each spreads in itself.

use super::saved_run::{OPENINGS, Run};
use super::table::PERCENTILES;
use crate::report::human;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Ratios this near to 1 are the same, whatever the figure; nearer where there are runs enough to know how they spread.
const SAME: f64 = 0.02;
const SAME_OF_FEW: f64 = 0.05;
const RUNS_ENOUGH: usize = 3;
/// Facts that differ between any two moments and say nothing.
const FLEETING: [&str; 1] = ["load average at start"];
/// Options that say where things go, where the server is and how long it lasts, and not what was measured.
const NO_SETTINGS: [&str; 8] =
    ["--out", "--html", "--json", "--quiet", "--live", "--server-pid", "--server-metrics", "--open-timeout"];
/// Figures that stand beside each other: key, words, and whether more or less is better.
const FIGURES: [(&str, &str, Better); 13] = [
    ("per_second", "per second", Better::More),
    ("publications_per_second", "publications per second", Better::More),
    ("server_ns_per_message", "server CPU per message, ns", Better::Less),
    ("server_us_each", "server CPU each, µs", Better::Less),
    ("server_ns_per_connection", "server CPU per connection, ns", Better::Less),
    ("server_busy", "server's busiest core, share", Better::Unknown),
    ("server_user_share", "of it outside the kernel, share", Better::Unknown),
    ("server_writes_per_message", "server writes per message", Better::Less),
    ("server_reads_per_message", "server reads per message", Better::Less),
    ("server_rss_peak", "server memory at the most, bytes", Better::Less),
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
    pub spread: f64,
    /// What counts as the same.
    same: f64,
    pub better: Better,
}

impl Row {
    pub fn ratio(&self) -> Option<f64> {
        (self.a != 0.0).then_some(self.b / self.a).filter(|ratio| ratio.is_finite())
    }

    /// Which side is better.
    pub fn word(&self) -> &'static str {
        let Some(ratio) = self.ratio() else { return "" };
        let apart = (ratio - 1.0).abs();
        match self.better {
            _ if apart <= self.same => "same",
            Better::Unknown => "",
            _ if apart <= self.spread => "within the spread",
            Better::More if ratio > 1.0 => "B better",
            Better::Less if ratio < 1.0 => "B better",
            _ => "A better",
        }
    }
}

/// Both sides and what was found.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub a: Vec<Run>,
    pub b: Vec<Run>,
    pub rows: Vec<Row>,
    /// Name, on A, on B: settings and facts of the host that are not the same.
    pub differences: Vec<(String, String, String)>,
}

impl Comparison {
    pub fn new(a: Vec<Run>, b: Vec<Run>) -> Self {
        let (rows, differences) = (rows(&a, &b), differences(&a, &b));
        Self { a, b, rows, differences }
    }

    pub fn void(&self) -> bool {
        self.a.iter().chain(&self.b).any(|run| !run.texts("void").is_empty())
    }

    /// What must be known before any figure is read.
    pub fn cautions(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (side, runs) in [("A", &self.a), ("B", &self.b)] {
            for run in runs {
                let void = run.texts("void");
                if !void.is_empty() {
                    out.push(format!("{side}: {} is VOID: {}", run.name, void.join("; ")));
                }
            }
        }
        if !self.differences.is_empty() {
            out.push("the settings or the hosts differ: the ratios say something of those, too".into());
        }
        if few(&self.a, &self.b) {
            out.push("fewer than three runs a side: what a ratio near 1 is worth cannot be told".into());
        }
        out
    }

    pub fn table(&self) -> String {
        let mut out = String::new();
        for (side, runs) in [("A", &self.a), ("B", &self.b)] {
            let names: Vec<_> = runs.iter().map(|run| format!("{} ({})", run.name, run.text("started"))).collect();
            let _ = writeln!(out, "{side}: {} {}", runs[0].text("kind"), names.join(", "));
        }
        if !self.differences.is_empty() {
            out += "\nwhat differs\n";
            let width = self.differences.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
            for (name, a, b) in &self.differences {
                let _ = writeln!(out, "{name:width$}  A {a}   B {b}");
            }
        }
        let width = self.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
        let _ = writeln!(out, "\n{:width$}  {:>11}  {:>11}  {:>7}", "", "A", "B", "B / A");
        for row in &self.rows {
            let ratio = row.ratio().map_or("-".into(), |ratio| format!("{ratio:.3}"));
            let (a, b) = (human(row.a), human(row.b));
            let line = format!("{:width$}  {a:>11}  {b:>11}  {ratio:>7}  {}", row.label, row.word());
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let cautions = self.cautions();
        if !cautions.is_empty() {
            out.push('\n');
        }
        cautions.iter().for_each(|text| out += &format!("mind: {text}\n"));
        out
    }

    pub fn json(&self) -> Value {
        let names = |runs: &[Run]| runs.iter().map(|run| run.name.clone()).collect::<Vec<_>>();
        let mut figures = Map::new();
        for row in &self.rows {
            let value =
                json!({"a": row.a, "b": row.b, "ratio": row.ratio(), "spread": row.spread, "verdict": row.word()});
            figures.insert(row.key.clone(), value);
        }
        let differ = self.differences.iter().map(|(name, a, b)| (name.clone(), json!([a, b])));
        json!({"schema": crate::report::SCHEMA, "a": names(&self.a), "b": names(&self.b), "void": self.void(),
            "differences": differ.collect::<Map<_, _>>(), "figures": figures, "cautions": self.cautions()})
    }
}

fn rows(a: &[Run], b: &[Run]) -> Vec<Row> {
    // At a rate, how many come is no merit.
    let at_rate = a.iter().chain(b).any(|run| !run.value["result"]["rate"].is_null());
    let figure = |(key, label, better): &(&str, &str, Better)| {
        let better = if at_rate && *better == Better::More { Better::Unknown } else { *better };
        (key.to_string(), label.to_string(), better)
    };
    let mut wanted: Vec<(String, String, Better)> = FIGURES.iter().map(figure).collect();
    for (key, label) in a[0].latencies_ranked() {
        let better = if key == "own_lag_us" { Better::Unknown } else { Better::Less };
        let counted = |run: &Run| run.figure(&format!("{key}.count")).is_some_and(|n| n > 0.0);
        if a.iter().chain(b).all(counted) {
            let minor = OPENINGS.contains(&key) || key == "own_lag_us";
            let names = PERCENTILES.iter().filter(|name| !minor || ["p50", "p99"].contains(name));
            wanted.extend(names.map(|name| (format!("{key}.{name}"), format!("{label}, {name}, µs"), better)));
        }
    }
    let same = if few(a, b) { SAME_OF_FEW } else { SAME };
    let row = |(key, label, better): (String, String, Better)| {
        let ((a, wide), (b, wider)) = (middle(a, &key)?, middle(b, &key)?);
        Some(Row { key, label, a, b, spread: wide.max(wider), same, better })
    };
    wanted.into_iter().filter_map(row).collect()
}

/// Too few runs to know how they spread.
fn few(a: &[Run], b: &[Run]) -> bool {
    a.len().min(b.len()) < RUNS_ENOUGH
}

/// The median of a figure and its spread; none where a run lacks it.
fn middle(runs: &[Run], key: &str) -> Option<(f64, f64)> {
    let mut values = runs.iter().map(|run| run.figure(key)).collect::<Option<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
    let apart = values.iter().map(|value| (value - median).abs()).fold(0.0, f64::max);
    Some((median, if median == 0.0 { 0.0 } else { apart / median.abs() }))
}

/// Settings first, then facts of the host.
fn differences(a: &[Run], b: &[Run]) -> Vec<(String, String, String)> {
    let (first, second) = (known(a), known(b));
    let names: Vec<&String> = first.iter().chain(&second).map(|(name, _)| name).collect();
    let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
    for name in names {
        let of =
            |facts: &[(String, String)]| facts.iter().find(|(n, _)| n == name).map_or("-".into(), |(_, v)| v.clone());
        let (left, right) = (of(&first), of(&second));
        if seen.insert(name) && left != right {
            out.push((name.clone(), left, right));
        }
    }
    out
}

/// What is known of a side, each name once; where its own runs differ, all values of it.
fn known(runs: &[Run]) -> Vec<(String, String)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for run in runs {
        let mut facts =
            vec![("kind".to_string(), run.text("kind").to_string()), ("tool".into(), run.text("tool").into())];
        facts.extend(settings(&run.texts("command")));
        facts.extend(run.facts().into_iter().filter(|(name, _)| !FLEETING.contains(&name.as_str())));
        for (name, value) in facts {
            match all.iter_mut().find(|(n, _)| *n == name) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => all.push((name, vec![value])),
            }
        }
    }
    all.into_iter().map(|(name, values)| (name, values.join(" | "))).collect()
}

/// Options of a command line with their values; words that are none are numbered. The first two are the program and the command.
fn settings(words: &[&str]) -> Vec<(String, String)> {
    let (mut out, mut rest, mut plain) = (Vec::new(), words.iter().skip(2).peekable(), 0);
    while let Some(word) = rest.next() {
        if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with('-')) {
            out.push((name.to_string(), value.to_string()));
        } else if word.starts_with('-') {
            let value = rest.next_if(|next| !next.starts_with('-')).map_or("given", |value| value);
            out.push((word.to_string(), value.to_string()));
        } else {
            plain += 1;
            out.push((format!("argument {plain}"), word.to_string()));
        }
    }
    out.retain(|(name, _)| !NO_SETTINGS.contains(&name.as_str()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    fn word(rows: &[Row], key: &str) -> &'static str {
        rows.iter().find(|row| row.key == key).unwrap().word()
    }

    #[test]
    fn more_is_better_of_rates_and_less_of_times() {
        let found = Comparison::new(vec![run("a", 1.0)], vec![run("b", 2.0)]);
        assert_eq!(found.rows.iter().find(|row| row.key == "per_second").unwrap().ratio(), Some(0.5));
        assert_eq!(word(&found.rows, "per_second"), "A better");
        assert_eq!(word(&found.rows, "latency_us.p99.9"), "A better");
        assert_eq!(word(&found.rows, "server_busy"), "same");
        assert!(found.differences.is_empty() && !found.void(), "{:?}", found.differences);
        assert!(found.table().contains("latency of <deliveries>, p99, µs"));
    }

    #[test]
    fn of_several_runs_the_medians_count_and_their_spread_is_minded() {
        let a = [0.9, 1.0, 1.3].map(|times| run("a", times)).to_vec();
        let b = [1.0, 1.1, 1.2].map(|times| run("b", times)).to_vec();
        let found = Comparison::new(a, b);
        let row = found.rows.iter().find(|row| row.key == "latency_us.p50").unwrap();
        assert_eq!((row.a.round(), row.b.round(), row.word()), (100.0, 110.0, "within the spread"));
        assert!(found.cautions().is_empty(), "{:?}", found.cautions());
    }

    #[test]
    fn what_differs_is_named_and_a_void_run_is_marked() {
        let (a, mut b) = (run("a", 1.0), run("b", 1.0));
        b.value["host"]["cores"] = json!(8);
        b.value["command"] = json!(["corecast-load", "fanout", "ws://a&b", "--window", "8", "--out", "x"]);
        b.value["void"] = json!(["lost 1"]);
        let found = Comparison::new(vec![a], vec![b]);
        let expected = [("--window", "-", "8"), ("cores", "2", "8")];
        let expected = expected.map(|(name, a, b)| (name.to_string(), a.to_string(), b.to_string()));
        assert!(found.void() && found.differences.len() == 2, "{:?}", found.differences);
        assert!(expected.iter().all(|one| found.differences.contains(one)), "{:?}", found.differences);
        assert!(found.cautions()[0].contains("VOID: lost 1"));
        assert_eq!(found.json()["figures"]["per_second"]["ratio"], 1.0);
    }
}
