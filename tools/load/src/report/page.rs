//! One run as a page: the verdict, the main figures, the plots, all figures in tables, the host and the command.

use super::charts;
use super::html::{self, command, commands, escape, pairs, verdict};
use super::plot::Plot;
use super::saved_run::SavedRun;
use super::scale::{Unit, byte_unit, time_unit};
use super::table::{PERCENTILES, groups, percentiles};
use super::{human, whole};
use serde_json::Value;

pub fn page(full: &Value) -> String {
    let run = SavedRun { name: String::new(), value: full.clone() };
    let (kind, started, tool) = (run.text("kind"), run.text("started"), run.text("tool"));
    let subtitle = escape(&[started, tool, &settings(&run)].join(" · "));
    let plots: String = charts::all(&run).iter().map(Plot::card).collect();
    let plots = if plots.is_empty() { plots } else { format!("<h2>Plots</h2><div class=\"plots\">{plots}</div>\n") };
    let rows = pairs(groups(&run).into_iter().flatten());
    let facts = run.facts();
    let facts = pairs(facts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let body = format!(
        "<header><h1>{} under load</h1><p>{subtitle}</p></header>\n{}{}{plots}\
         <h2>All figures</h2><div class=\"stack\">{}{rows}</div>\n<h2>Host of this tool</h2>{facts}\
         <h2>Command</h2>{}\
         <footer>With a rate, latency counts from the intended send time. Written by {}, schema {}.</footer>\n",
        escape(kind),
        judgment(&run),
        tiles(&run),
        latencies(&run),
        commands([command(&run.texts("command"))]),
        escape(tool),
        run.value["schema"],
    );
    html::page(&format!("{kind} {started}"), &body)
}

/// The settings in a few words, as they were given.
fn settings(run: &SavedRun) -> String {
    let named = ["subscribers", "connections", "sockets", "size", "window", "depth", "rate", "batch"];
    let one = |name: &&str| match &run.value["result"][*name] {
        Value::String(text) => Some(format!("{name} {text}")),
        _ => Some(format!("{name} {}", run.figure(name)?)),
    };
    let measured = run.figure("seconds").map(|seconds| format!("{seconds:.1} s measured"));
    named.iter().filter_map(one).chain(measured).collect::<Vec<_>>().join(", ")
}

fn judgment(run: &SavedRun) -> String {
    let (void, warnings) = (run.texts("void"), run.texts("warnings"));
    let out = match void.is_empty() {
        true => verdict("", "Valid: every message and connection is accounted for.", &[]),
        false => verdict("void", "VOID: the figures of this run do not count.", &void),
    };
    if warnings.is_empty() { out } else { out + &verdict("mind", "Warnings", &warnings) }
}

/// The main figures.
fn tiles(run: &SavedRun) -> String {
    let unit = run.value["result"]["unit"].as_str().unwrap_or("connections");
    let plain = |name| Unit { divisor: 1.0, name };
    let percent = Unit { divisor: 0.01, name: "%" };
    let mut tiles = vec![
        ("highest rate within the bounds".to_string(), run.figure("knee"), plain("per second")),
        (format!("{unit} per second"), run.figure("per_second"), plain("")),
    ];
    let time = |label: String, us: Option<f64>| (label, us, time_unit(us.unwrap_or(0.0)));
    if let Some((key, label)) = run.main_latency() {
        let figure = |name: &&str| time(format!("{label}, {name}"), run.figure(&format!("{key}.{name}")));
        tiles.extend(["p50", "p99", "max"].iter().map(figure));
        let last = run.figure("last_us.p99").filter(|us| *us > 0.0 && key != "last_us");
        tiles.push(time("time to last subscriber, p99".into(), last));
    }
    let rss = Some(run.column_max("server_rss_bytes")).filter(|bytes| *bytes > 0.0);
    tiles.extend([
        ("server CPU per message".into(), run.figure("server_ns_per_message"), plain("ns")),
        ("server's busiest core".into(), run.figure("server_busy"), percent),
        ("server writes per message".into(), run.figure("server_writes_per_message"), plain("")),
        ("server memory, maximum".into(), rss, byte_unit(rss.unwrap_or(0.0))),
        ("this tool's busiest core".into(), run.figure("own_busy"), percent),
        time("own lag, p99".into(), run.figure("own_lag_us.p99")),
    ]);
    let tile = |(label, value, unit): (String, Option<f64>, Unit)| {
        let (label, value, unit) = (escape(&label), human(value? / unit.divisor), unit.name);
        Some(format!("<div class=\"tile\"><span>{label}</span><b>{value} <small>{unit}</small></b></div>"))
    };
    format!("<div class=\"tiles\">{}</div>\n", tiles.into_iter().filter_map(tile).collect::<String>())
}

fn latencies(run: &SavedRun) -> String {
    let latencies = percentiles(run);
    if latencies.is_empty() {
        return String::new();
    }
    let header = ["microseconds"].iter().chain(&PERCENTILES).chain(&["count"]).map(|name| name.to_string()).collect();
    let row = |(label, values, count): (&str, [f64; 5], f64)| {
        [label.to_string()].into_iter().chain(values.map(human)).chain([whole(count)]).collect()
    };
    html::table(&["", "n", "n", "n", "n", "n", "n"], std::iter::once(header).chain(latencies.into_iter().map(row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn page_is_self_contained_and_begins_with_the_verdict() {
        let page = page(&run("a", 1.0).value);
        for part in
            ["Valid: every", "Latency over time", "Percentiles", "Throughput", "Processor time", "Server memory"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.find("Valid:").unwrap() < page.find("class=\"tiles\"").unwrap());
        assert!(page.contains("mind &lt;this&gt;") && page.contains("&#39;ws://a&amp;b&#39;"));
        assert!(!page.contains("Latency by rate"));
        for part in ["<script", "http://", "https://", "NaN", "inf"] {
            assert!(!page.contains(part), "{part}");
        }
    }

    #[test]
    fn void_run_has_its_reasons_and_an_empty_run_is_shown() {
        let mut value = run("a", 1.0).value;
        value["void"] = serde_json::json!(["3 deliveries never came"]);
        let text = page(&value);
        assert!(
            text.contains("VOID: the figures of this run do not count") && text.contains("3 deliveries never came")
        );
        let bare = page(&serde_json::json!({"schema": 1, "kind": "x", "result": {}}));
        assert!(bare.contains("All figures") && !bare.contains("Plots"));
    }
}
