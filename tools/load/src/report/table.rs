//! The table at the end of a run: figures in groups, percentiles in columns, warnings and the verdict last.

use super::saved_run::Run;
use crate::report::{human, whole};
use serde_json::Value;
use std::fmt::Write;

/// What stands together, by how its label begins.
const GROUPS: [(&str, &[&str]); 4] = [
    ("result", &[]),
    ("connections", &["connections failed", "connections closed"]),
    ("server", &["server", "core "]),
    ("this tool", &["generator", "own "]),
];
pub const PERCENTILES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// Rows of one group, with the group's name.
pub type Group<'a> = (&'static str, Vec<(&'a str, &'a str)>);

pub fn groups(run: &Run) -> Vec<Group<'_>> {
    let place = |label: &str| {
        GROUPS.iter().position(|(_, begins)| begins.iter().any(|begin| label.starts_with(begin))).unwrap_or(0)
    };
    let mut groups: Vec<Group> = GROUPS.iter().map(|(name, _)| (*name, Vec::new())).collect();
    run.rows().into_iter().for_each(|row| groups[place(row.0)].1.push(row));
    groups.retain(|(_, rows)| !rows.is_empty());
    groups
}

/// Labels of latencies with their percentiles in microseconds, and how many there were; those that nothing was recorded in are
/// left out. The steps of a rate come last.
pub fn percentiles(run: &Run) -> Vec<(&str, [f64; 5], f64)> {
    let row = |label, times: &Value| {
        let count = times["count"].as_f64().filter(|n| *n > 0.0)?;
        Some((label, PERCENTILES.map(|name| times[name].as_f64().unwrap_or(0.0)), count))
    };
    let result = &run.value["result"];
    let whole = run.latencies_ranked().into_iter().filter_map(|(key, label)| row(label, &result[key]));
    let steps = result["steps"].as_array().into_iter().flatten();
    whole.chain(steps.filter_map(|step| row(step["label"].as_str()?, &step["latency_us"]))).collect()
}

pub fn table(all: &Value) -> String {
    let run = Run { name: String::new(), value: all.clone() };
    let (groups, latencies) = (groups(&run), percentiles(&run));
    let labels = groups.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.0)).chain(latencies.iter().map(|l| l.0));
    let width = labels.map(|label| label.chars().count()).max().unwrap_or(0).max("microseconds".len());
    let mut out = String::new();
    for (i, (_, rows)) in groups.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        for (label, text) in rows {
            let _ = writeln!(out, "{label:width$}  {text}");
        }
        if i == 0 {
            write_percentiles(&mut out, &latencies, width);
        }
    }
    let remarks = run.texts("warnings").into_iter().map(|text| ("warning", text));
    let remarks: Vec<_> = remarks.chain(run.texts("void").into_iter().map(|text| ("VOID", text))).collect();
    if !remarks.is_empty() {
        out.push('\n');
    }
    remarks.iter().for_each(|(kind, text)| out += &format!("{kind}: {text}\n"));
    out
}

fn write_percentiles(out: &mut String, latencies: &[(&str, [f64; 5], f64)], width: usize) {
    if latencies.is_empty() {
        return;
    }
    let _ = write!(out, "\n{:width$}", "microseconds");
    PERCENTILES.iter().chain(&["count"]).for_each(|name| *out += &format!("  {name:>9}"));
    out.push('\n');
    for (label, values, count) in latencies {
        let _ = write!(out, "{label:width$}");
        values.iter().for_each(|value| *out += &format!("  {:>9}", human(*value)));
        *out += &format!("  {:>9}", whole(*count));
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn groups_stand_apart_numbers_stand_in_columns_and_warnings_come_last() {
        let mut value = run("a", 1.0).value;
        value["void"] = serde_json::json!(["lost 1"]);
        let table = table(&value);
        let expected = "\
deliveries per second    1,000

microseconds                   p50        p90        p99      p99.9        max      count
latency of <deliveries>        100        150        300        900      2,000      3,000

server                   50 % busy

generator                20 % busy

warning: mind <this>
VOID: lost 1
";
        assert_eq!(table, expected);
    }
}
