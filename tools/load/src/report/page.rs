//! A run, or two sides of runs, as an HTML page: the verdict, the figures, the plots, the host and the commands.
//!
//! A page loads nothing and runs nothing, so it can be mailed, archived, and read years later.

use super::compare::Comparison;
use super::figures::{Quantity, command, escape, human, whole};
use super::plot::{Axis, Plot, Points};
use super::saved_run::{OPENINGS, SavedRun};
use super::table::{PERCENTILES, groups, percentiles};
use serde_json::Value;

/// The style sheet for light and dark screens.
const STYLE: &str = include_str!("page.css");
/// Runs per side in a plot.
const RUNS_MAX: usize = 3;
/// The figures at the top, after the main latency.
const TILES: [(&str, &str, Quantity); 9] = [
    ("knee", "highest rate within the bounds", Quantity::Count("per second")),
    ("per_second", "throughput", Quantity::Count("per second")),
    ("last_us.p99", "time to last subscriber, p99", Quantity::Micros),
    ("server_ns_per_message", "server CPU per message", Quantity::Count("ns")),
    ("server_busy", "server's busiest core", Quantity::Share("%")),
    ("server_writes_per_message", "server writes per message", Quantity::Count("")),
    ("server_rss_peak", "server memory, maximum", Quantity::Bytes),
    ("own_busy", "this tool's busiest core", Quantity::Share("%")),
    ("own_lag_us.p99", "own lag, p99", Quantity::Micros),
];
type Named = &'static [(&'static str, &'static str)];
/// The plots of columns over time: title, quantity, columns with their labels.
const PLOTS: [(&str, Quantity, Named); 6] = [
    (
        "Latency of the background over time",
        Quantity::Micros,
        &[("beside_us.p50", "p50"), ("beside_us.p99", "p99"), ("beside_us.max", "max")],
    ),
    (
        "Throughput",
        Quantity::Count("per second"),
        &[
            ("received_per_second", "messages in"),
            ("sent_per_second", "messages out"),
            ("ready_per_second", "connections ready"),
        ],
    ),
    (
        "Processor time",
        Quantity::Share("% of a core"),
        &[
            ("server_busy", "server's busiest core"),
            ("own_busy", "this tool's busiest core"),
            ("server_cores", "server, all cores"),
        ],
    ),
    ("Server memory (resident)", Quantity::Bytes, &[("server_rss_bytes", "resident")]),
    (
        "Lag",
        Quantity::Micros,
        &[("server_loop_lag_us", "server's loop lag"), ("lag_us.p99", "own lag, p99"), ("lag_us.p50", "own lag, p50")],
    ),
    (
        "Connections",
        Quantity::Count("connections"),
        &[
            ("open", "open"),
            ("away", "to be recovered"),
            ("failed", "failed so far"),
            ("closed", "ended by the server so far"),
        ],
    ),
];
const LATENCIES: Named =
    &[("latency_us.p50", "p50"), ("latency_us.p90", "p90"), ("latency_us.p99", "p99"), ("latency_us.max", "max")];

/// One run as a page.
pub fn page(full: &Value) -> String {
    let run = SavedRun { name: String::new(), value: full.clone() };
    let (kind, started, tool) = (run.text("kind"), run.text("started"), run.text("tool"));
    let (void, warnings) = (run.texts("void"), run.texts("warnings"));
    let mut body = match void.is_empty() {
        true => verdict("", "Valid: every message and connection is accounted for.", &[]),
        false => verdict("void", "VOID: the figures of this run do not count.", &void),
    };
    if !warnings.is_empty() {
        body += &verdict("mind", "Warnings", &warnings);
    }
    body += &tiles(&run);
    body += &nodes(&run);
    let plots: String = plots(&run).iter().map(Plot::card).collect();
    if !plots.is_empty() {
        body += &format!("<h2>Plots</h2><div class=\"plots\">{plots}</div>\n");
    }
    body += "<h2>All figures</h2><div class=\"stack\">";
    let latencies = percentiles(&run);
    if !latencies.is_empty() {
        let header = ["microseconds"].iter().chain(&PERCENTILES).chain(&["count"]).copied().collect::<Vec<_>>();
        let row = |(label, values, count): (&str, [f64; 5], f64)| {
            [label.to_string()].into_iter().chain(values.map(human)).chain([whole(count)]).collect()
        };
        body += &table("n", &header, latencies.into_iter().map(row));
    }
    let rows = groups(&run).into_iter().flatten();
    body += &table("wrap", &[], rows.map(|(label, text)| vec![label.into(), text.into()]));
    body += "</div>\n<h2>Host of this tool</h2>";
    body += &table("wrap", &[], run.facts().into_iter().map(|(name, text)| vec![name, text]));
    body += &commands([&run]);
    body += &format!(
        "<footer>With a rate, latency counts from the intended send time. Written by {}, schema {}.</footer>\n",
        escape(tool),
        run.value["schema"]
    );
    let subtitle = [started, tool, &settings(&run)].join(" · ");
    document(&format!("{kind} {started}"), &format!("{kind} under load"), &subtitle, &body)
}

/// Two sides as one page: cautions, differences, both in the same plots, and the figures side by side.
pub fn comparison(found: &Comparison) -> String {
    let names = |runs: &[SavedRun]| runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let ([a, b], cautions) = ([names(&found.a), names(&found.b)], found.cautions());
    let cautions: Vec<&str> = cautions.iter().map(String::as_str).collect();
    let mut body = match (found.is_void(), cautions.is_empty()) {
        (true, _) => verdict("void", "One of these runs is VOID: its figures do not count.", &cautions),
        (_, false) => verdict("mind", "Notes", &cautions),
        _ => verdict("", "Same settings, same host, all runs valid.", &[]),
    };
    if !found.differences.is_empty() {
        let rows = found.differences.iter().map(|(name, a, b)| vec![name.clone(), a.clone(), b.clone()]);
        body += &format!("<h2>Differences</h2>{}", table("wrap", &["", "A", "B"], rows));
    }
    let plots: String = comparison_plots(found).iter().map(Plot::card).collect();
    let figures = if found.a.len().max(found.b.len()) > 1 { "Medians" } else { "Figures" };
    body += &format!("<h2>Both sides in one plot</h2><div class=\"plots\">{plots}</div>\n<h2>{figures}</h2>");
    body += &table("n", &["", "A", "B", "B / A", ""], found.rows.iter().map(|row| row.texts().to_vec()));
    body += &commands(found.a.iter().chain(&found.b));
    let title = format!("{} and {}", found.a[0].text("kind"), found.b[0].text("kind"));
    document(&format!("{a} and {b}"), &title, &format!("A: {a} · B: {b}"), &body)
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

/// The main figures.
fn tiles(run: &SavedRun) -> String {
    let main = run.main_latency().into_iter().flat_map(|(key, label)| {
        ["p50", "p99", "max"].map(|name| (format!("{key}.{name}"), format!("{label}, {name}"), Quantity::Micros))
    });
    let others = TILES.map(|(key, label, quantity)| (key.to_string(), label.to_string(), quantity));
    // Not every kind of run reports the peak of the memory; its column has the maximum.
    let rss = run.column("server_rss_bytes").into_iter().flatten().reduce(f64::max);
    let figure = |key: &str| run.figure(key).or(rss.filter(|_| key == "server_rss_peak"));
    let tile = |(key, label, quantity): (String, String, Quantity)| {
        let text = quantity.text(figure(&key).filter(|value| *value > 0.0)?);
        Some(format!("<div class=\"tile\"><span>{}</span><b>{text}</b></div>", escape(&label)))
    };
    format!("<div class=\"tiles\">{}</div>\n", main.chain(others).filter_map(tile).collect::<String>())
}

/// The nodes of a cluster, if the run had several or its clients reconnected.
fn nodes(run: &SavedRun) -> String {
    let Some(nodes) = run.value["result"]["nodes"].as_array() else { return String::new() };
    let columns = [
        ("subscribers", "subscribers"),
        ("deliveries", "deliveries"),
        ("lost", "lost"),
        ("duplicates", "duplicated"),
        ("reordered", "out of order"),
        ("recovered", "recovered"),
        ("not_recovered", "not recovered"),
    ];
    let row = |(number, node): (usize, &Value)| {
        let count = |value: &Value| value.as_f64().map_or("-".into(), whole);
        let latency = ["p50", "p99"].map(|name| {
            let micros = run.figure(&format!("node{number}_latency_us.{name}"));
            micros.filter(|micros| *micros > 0.0).map_or("-".into(), |value| Quantity::Micros.text(value))
        });
        let closes = node["closes"].as_object().into_iter().flatten();
        let closes: Vec<String> = closes.map(|(code, n)| format!("{} × {code}", count(n))).collect();
        // Without its scheme and path.
        let host = node["url"].as_str().and_then(|url| url.split('/').nth(2)).unwrap_or_default();
        let name = format!("{number} {host}");
        let counts = columns.iter().map(|(key, _)| count(&node[*key]));
        std::iter::once(name).chain(counts).chain(latency).chain([closes.join(", ")]).collect()
    };
    let header: Vec<&str> =
        ["node"].into_iter().chain(columns.map(|(_, label)| label)).chain(["p50", "p99", "closes"]).collect();
    format!("<h2>Nodes</h2>{}", table("n", &header, (1..).zip(nodes).map(row)))
}

/// All plots of a run, in reading order.
fn plots(run: &SavedRun) -> Vec<Plot> {
    let main = run.main_latency();
    let main_label = main.map_or("", |(_, label)| label);
    let is_message = |(key, _): &(&str, &str)| !OPENINGS.contains(key);
    let (messages, connections): (Vec<_>, Vec<_>) = run.latencies_ranked().into_iter().partition(is_message);
    let curves = |title: &str, named: Vec<(&str, &str)>| {
        percentile_plot(title, named.into_iter().map(|(key, label)| (label.into(), run, key)))
    };
    let latency =
        over_time(run, &format!("Latency over time: {main_label}, of each second"), Quantity::Micros, LATENCIES);
    let mut all = vec![latency, curves("Percentiles", messages), by_rate(run)];
    all.extend(PLOTS.map(|(title, quantity, named)| over_time(run, title, quantity, named)));
    all.push(curves("Percentiles of connections", connections));
    all.into_iter().flatten().collect()
}

/// Columns over the time of the run, with shades outside the measured time.
fn over_time(run: &SavedRun, title: &str, quantity: Quantity, named: Named) -> Option<Plot> {
    let at: Vec<f64> = run.column("at").into_iter().flatten().collect();
    let (begin, end) = ((at.first()? - 1.0).max(0.0), *at.last()?);
    let points = |path| at.iter().copied().zip(run.column(path)).collect();
    let lines = named.iter().map(|(path, label)| (label.to_string(), points(path))).collect();
    let mut plot = Plot::new(title, Axis::linear("seconds since the beginning", begin, end), quantity, lines)?;
    let measured = &run.value["series"]["measured"];
    if let (Some(from), Some(to)) = (measured[0].as_f64(), measured[1].as_f64()) {
        plot.shades = vec![(begin, from.min(end), "before"), (to.min(end), end, "after")];
    }
    Some(plot)
}

/// Latency by rate, if the run had several: the steps of a rate, or the probes of a search.
fn by_rate(run: &SavedRun) -> Option<Plot> {
    let result = &run.value["result"];
    let rate = |step: &Value| step["rate"].as_f64().unwrap_or(0.0);
    let mut steps: Vec<&Value> =
        ["steps", "probes"].iter().filter_map(|key| result[*key].as_array()).flatten().collect();
    steps.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let points = |name: &str| steps.iter().map(|step| (rate(step), step["latency_us"][name].as_f64())).collect();
    let lines = ["p50", "p99", "max"].map(|name| (name.to_string(), points(name))).to_vec();
    let highest = steps.last().filter(|_| steps.len() > 1).map(|step| rate(step))?;
    let mut plot =
        Plot::new("Latency by rate", Axis::linear("sent per second", 0.0, highest), Quantity::Micros, lines)?;
    plot.shades.extend(result["knee"].as_f64().map(|knee| (knee, highest, "beyond the bounds")));
    Some(plot)
}

/// Percentile curves as in HdrHistogram's plots: each step to the right is ten times rarer.
fn percentile_plot<'a>(title: &str, named: impl Iterator<Item = (String, &'a SavedRun, &'a str)>) -> Option<Plot> {
    let lines =
        named.map(|(label, run, key)| (label, run.curve(key).into_iter().map(|(x, us)| (x, Some(us))).collect()));
    let lines: Vec<(String, Points)> = lines.collect();
    let rarest = lines.iter().flat_map(|(_, points)| points).map(|(x, _)| *x).fold(10.0, f64::max);
    Plot::new(title, Axis::rarity(rarest), Quantity::Micros, lines)
}

fn comparison_plots(found: &Comparison) -> Vec<Plot> {
    let name = |side: &str, runs: &[SavedRun], i: usize| {
        if runs.len() == 1 { side.into() } else { format!("{side}{}", i + 1) }
    };
    let side = |side, runs: &'_ [SavedRun], i| runs.get(i).map(|run: &SavedRun| (name(side, runs, i), run.clone()));
    let sides: Vec<_> =
        (0..RUNS_MAX).flat_map(|i| [side("A", &found.a, i), side("B", &found.b, i)]).flatten().collect();
    let curves = sides.iter().map(|(name, run)| (name.clone(), run, run.main_latency().map_or("", |(key, _)| key)));
    // A column of each run over the time since its measured time began.
    let timed = |title, quantity, path| {
        let line = |(name, run): &(String, SavedRun)| {
            let measured = &run.value["series"]["measured"];
            let (from, to) = (measured[0].as_f64().unwrap_or(0.0), measured[1].as_f64().unwrap_or(f64::MAX));
            let at = run.column("at").into_iter().flatten().zip(run.column(path));
            // Only seconds that are completely inside.
            let inside = at.filter(|(at, _)| *at >= from + 0.99 && *at <= to + 0.01);
            (name.clone(), inside.map(|(at, y)| (at - from, y)).collect())
        };
        let lines: Vec<(String, Points)> = sides.iter().map(line).collect();
        let end = lines.iter().flat_map(|(_, points)| points).map(|point| point.0).fold(1.0, f64::max);
        Plot::new(title, Axis::linear("seconds since the measured time began", 0.0, end), quantity, lines)
    };
    let latency = timed("Latency over time, p99 of each second", Quantity::Micros, "latency_us.p99");
    let throughput = timed("Throughput", Quantity::Count("received per second"), "received_per_second");
    [percentile_plot("Percentiles", curves), latency, throughput].into_iter().flatten().collect()
}

fn document(title: &str, heading: &str, subtitle: &str, body: &str) -> String {
    let [title, heading, subtitle] = [title, heading, subtitle].map(escape);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>\n{STYLE}</style></head>\n\
         <body><main>\n<header><h1>{heading}</h1><p>{subtitle}</p></header>\n{body}</main></body></html>\n"
    )
}

/// A colored box: a verdict and its reasons.
fn verdict(class: &str, text: &str, reasons: &[&str]) -> String {
    let items: String = reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let list = if items.is_empty() { items } else { format!("<ul>{items}</ul>") };
    format!("<div class=\"verdict {class}\"><b>{}</b>{list}</div>\n", escape(text))
}

/// A table of rows that begin with a label; the other cells have the class. A verdict of a comparison colors its cell.
fn table(class: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cell = |(i, text): (usize, &String)| match (i, text.as_str()) {
        (0, label) => format!("<th>{}</th>", escape(label)),
        (_, "B better") => format!("<td class=\"{class} better\">B better</td>"),
        (_, "A better") => format!("<td class=\"{class} worse\">A better</td>"),
        (_, text) => format!("<td class=\"{class}\">{}</td>", escape(text)),
    };
    let row = |row: Vec<String>| format!("<tr>{}</tr>", row.iter().enumerate().map(cell).collect::<String>());
    let header: String = header.iter().map(|name| format!("<th class=\"{class}\">{name}</th>")).collect();
    let rows: String = rows.map(row).collect();
    format!("<div class=\"card scroll\"><table><tr>{header}</tr>{rows}</table></div>\n")
}

fn commands<'a>(runs: impl IntoIterator<Item = &'a SavedRun>) -> String {
    let lines = runs.into_iter().map(|run| escape(&command(&run.texts("command"))) + "\n");
    format!("<h2>Command</h2><div class=\"card\"><pre>{}</pre></div>\n", lines.collect::<String>())
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

    #[test]
    fn latency_by_rate_follows_the_order_of_the_rates() {
        let mut value = run("a", 1.0).value;
        let step =
            |rate, us| serde_json::json!({"rate": rate, "latency_us": {"p50": us, "p99": us * 2.0, "max": us * 3.0}});
        value["result"]["steps"] = serde_json::json!([step(400.0, 9.0), step(100.0, 5.0)]);
        let plot = by_rate(&SavedRun { name: String::new(), value: value.clone() }).unwrap();
        assert_eq!(plot.lines[0].1, [(100.0, Some(5.0)), (400.0, Some(9.0))]);
        assert!(plot.shades.is_empty());
        value["result"]["knee"] = serde_json::json!(250.0);
        let plot = by_rate(&SavedRun { name: String::new(), value }).unwrap();
        assert_eq!(plot.shades[0].0, 250.0);
    }

    #[test]
    fn both_sides_are_in_one_plot_with_different_colors() {
        let sides = |runs| Comparison::new(vec![run("a.json", 1.0); runs], vec![run("b.json", 2.0); runs]);
        let found = sides(1);
        let plots = comparison_plots(&found);
        assert_eq!(plots[0].lines.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let page = comparison(&found);
        assert!(page.contains("class=\"c1\"></i>A") && page.contains("class=\"c2\"></i>B"));
        for part in ["Both sides in one plot", "no verdict", "Percentiles", "Throughput"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("A better") && comparison(&sides(3)).contains("A better"));
        assert!(comparison(&sides(3)).contains("class=\"n worse\""));
        assert!(!page.contains("<script") && !page.contains("NaN"));
    }
}
