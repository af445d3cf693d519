//! The table at the end of a run: figures in groups, percentiles in columns, warnings and the verdict last.

use super::figures::{human, whole};
use super::saved_run::SavedRun;
use serde_json::Value;
use std::fmt::Write;

/// Beginnings of the labels in each group; other rows are in the first group.
const GROUPS: [&[&str]; 4] =
    [&[], &["connections failed", "connections closed"], &["server", "core "], &["generator", "own "]];
pub const PERCENTILES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// The rows of each group that has any.
pub fn groups(run: &SavedRun) -> Vec<Vec<(&str, &str)>> {
    let group = |label: &str| GROUPS.iter().position(|begins| begins.iter().any(|begin| label.starts_with(begin)));
    let mut groups = vec![Vec::new(); GROUPS.len()];
    run.rows().into_iter().for_each(|row| groups[group(row.0).unwrap_or(0)].push(row));
    groups.retain(|rows| !rows.is_empty());
    groups
}

/// Labels of latencies with their percentiles in microseconds and their count; empty ones are left out. The steps of a rate come
/// last.
pub fn percentiles(run: &SavedRun) -> Vec<(&str, [f64; 5], f64)> {
    let row = |label, times: &Value| {
        let count = times["count"].as_f64().filter(|n| *n > 0.0)?;
        Some((label, PERCENTILES.map(|name| times[name].as_f64().unwrap_or(0.0)), count))
    };
    let result = &run.value["result"];
    let whole = run.latencies_ranked().into_iter().filter_map(|(key, label)| row(label, &result[key]));
    let steps = result["steps"].as_array().into_iter().flatten();
    whole.chain(steps.filter_map(|step| row(step["label"].as_str()?, &step["latency_us"]))).collect()
}

pub fn table(full: &Value) -> String {
    let run = SavedRun { name: String::new(), value: full.clone() };
    let (groups, latencies) = (groups(&run), percentiles(&run));
    let labels = groups.iter().flatten().map(|row| row.0).chain(latencies.iter().map(|latency| latency.0));
    let width = labels.map(|label| label.chars().count()).max().unwrap_or(0).max("microseconds".len());
    let mut blocks = Vec::new();
    for (i, rows) in groups.iter().enumerate() {
        blocks.push(rows.iter().map(|(label, text)| format!("{label:width$}  {text}\n")).collect::<String>());
        if i == 0 && !latencies.is_empty() {
            let mut block = format!("{:width$}", "microseconds");
            PERCENTILES.iter().chain(&["count"]).for_each(|name| block += &format!("  {name:>9}"));
            for (label, values, count) in &latencies {
                let _ = write!(block, "\n{label:width$}");
                let figures = values.iter().map(|value| human(*value)).chain([whole(*count)]);
                figures.for_each(|figure| block += &format!("  {figure:>9}"));
            }
            blocks.push(block + "\n");
        }
    }
    let remarks = run.texts("warnings").into_iter().map(|text| format!("warning: {text}\n"));
    let remarks: String = remarks.chain(run.texts("void").into_iter().map(|text| format!("VOID: {text}\n"))).collect();
    blocks.extend(Some(remarks).filter(|text| !text.is_empty()));
    blocks.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn groups_are_separated_and_warnings_come_last() {
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
