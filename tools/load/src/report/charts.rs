//! The plots of a run: which columns are drawn, in which units, and with which axis.

use super::plot::{Line, Plot, Points, max};
use super::saved_run::{Curve, OPENINGS, SavedRun};
use super::scale::{Scale, Unit, byte_unit, share, short, time_unit};
use serde_json::Value;

/// From this ratio of the largest to the middle value on, an axis is logarithmic.
const LOG_FROM: f64 = 25.0;
/// Rates below this share of the largest one are not drawn.
const VISIBLE_MIN: f64 = 0.03;
pub const COLORS: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

/// All plots of a run, in reading order.
pub fn all(run: &SavedRun) -> Vec<Plot> {
    // If the run is about connections, the percentiles are those of connections.
    let about_messages = run.main_latency().is_some_and(|(key, _)| !OPENINGS.contains(&key));
    let is_message = |(key, _): &(&str, &str)| !OPENINGS.contains(key) || !about_messages;
    let (messages, connections): (Vec<_>, Vec<_>) = run.latencies_ranked().into_iter().partition(is_message);
    let curves = |latencies: Vec<(&str, &str)>| {
        latencies.into_iter().map(|(key, label)| (label.to_string(), run.curve(key))).collect::<Vec<_>>()
    };
    let plots = [
        run.main_latency().and_then(|(_, label)| over_time(run, label)),
        percentile_plot("Percentiles", &curves(messages)),
        by_rate(run),
        background(run),
        throughput(run),
        processors(run),
        columns(run, "Server memory (resident)", byte_unit(run.column_max("server_rss_bytes")), &MEMORY),
        lags(run),
        connections_over_time(run),
        percentile_plot("Percentiles of connections", &curves(connections)),
    ];
    plots.into_iter().flatten().collect()
}

const MEMORY: [(&str, &str); 1] = [("server_rss_bytes", "resident")];

/// A column over the ends of its intervals; `None` if it has no values above 0.
fn series(run: &SavedRun, path: &str, divisor: f64) -> Option<Points> {
    let at = run.column("at").into_iter().flatten();
    let points: Points = at.zip(run.column(path)).map(|(x, y)| (x, y.map(|y| y / divisor))).collect();
    points.iter().any(|(_, y)| y.is_some_and(|y| y > 0.0)).then_some(points)
}

fn line(label: &str, class: &'static str, points: Points) -> Line {
    Line { label: label.into(), class, points, under: None }
}

/// A plot without shades and notes.
pub fn plot(title: &str, (x_label, x): (&str, Scale), (y_label, y): (&str, Scale), lines: Vec<Line>) -> Plot {
    let [title, x_label, y_label] = [title, x_label, y_label].map(String::from);
    let (shades, note) = (Vec::new(), String::new());
    Plot { title, x_label, y_label, x, y, x_text: short, y_text: short, lines, shades, note }
}

/// A plot over the time of the run, with shades outside the measured time.
fn timed(run: &SavedRun, title: &str, y_label: &str, y: Scale, lines: Vec<Line>) -> Plot {
    let at: Vec<f64> = run.column("at").into_iter().flatten().collect();
    let (begin, end) = (at.first().copied().unwrap_or(0.0), at.last().copied().unwrap_or(0.0));
    let begin = if begin <= 1.2 { 0.0 } else { begin - 1.0 };
    let measured = &run.value["series"]["measured"];
    let shades = match (measured[0].as_f64(), measured[1].as_f64()) {
        (Some(from), Some(to)) => {
            vec![(begin, from.min(end), "before".to_string()), (to.min(end), end, "after".to_string())]
        }
        _ => Vec::new(),
    };
    let x = ("seconds since the beginning", Scale::linear(begin, end));
    Plot { shades, ..plot(title, x, (y_label, y), lines) }
}

fn over_time(run: &SavedRun, label: &str) -> Option<Plot> {
    let get = |name: &str, unit: Unit| series(run, &format!("latency_us.{name}"), unit.divisor);
    let largest = max([&get("max", time_unit(0.0))?]);
    let unit = time_unit(largest);
    let [p50, p90, p99, top] = ["p50", "p90", "p99", "max"].map(|name| get(name, unit).unwrap_or_default());
    let mut middle: Vec<f64> = p50.iter().filter_map(|(_, y)| *y).collect();
    middle.sort_by(f64::total_cmp);
    let (min, middle) = (middle.first().copied().unwrap_or(1.0), middle.get(middle.len() / 2).copied().unwrap_or(1.0));
    let (y, note) = latency_axis(min, middle, largest / unit.divisor);
    let band = |label: &str, class, points: &Points, under: &Points| Line {
        under: Some(under.clone()),
        ..line(label, class, points.clone())
    };
    let lines = vec![
        band("p99 to max", "c6", &top, &p99),
        band("p90 to p99", "c2", &p99, &p90),
        band("p50 to p90", "c1", &p90, &p50),
        line("p99", "c2", p99.clone()),
        line("p50", "c1", p50.clone()),
    ];
    let note = format!("{label}, of each second{}{note}", if note.is_empty() { "" } else { "; " });
    Some(Plot { note, ..timed(run, "Latency over time", unit.name, y, lines) })
}

/// Latency by rate, if the run had several: the steps of a rate, or the probes of a search.
fn by_rate(run: &SavedRun) -> Option<Plot> {
    let result = &run.value["result"];
    let mut steps: Vec<&Value> =
        ["steps", "probes"].iter().filter_map(|key| result[*key].as_array()).flatten().collect();
    let rate = |step: &Value| step["rate"].as_f64().unwrap_or(0.0);
    steps.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let at = |name: &str| -> Points { steps.iter().map(|s| (rate(s), s["latency_us"][name].as_f64())).collect() };
    let [p50, p99, top] = ["p50", "p99", "max"].map(at);
    let largest = max([&p99, &top]);
    let unit = time_unit(largest);
    let scaled = |label: &str, class, points: &Points| {
        line(label, class, points.iter().map(|(x, y)| (*x, y.map(|y| y / unit.divisor))).collect())
    };
    let mut lines = vec![scaled("max", "c6", &top), scaled("p99", "c2", &p99), scaled("p50", "c1", &p50)];
    lines.retain(|line| line.points.iter().any(|(_, y)| y.is_some()));
    let min = p50.iter().filter_map(|(_, y)| *y).fold(largest, f64::min) / unit.divisor;
    let x = Scale::from_zero(steps.last().map_or(0.0, |step| rate(step)));
    let (y, note) = latency_axis(min, min, largest / unit.divisor);
    let shades = result["knee"].as_f64().map(|knee| (knee, x.to, "beyond the bounds".into())).into_iter().collect();
    let plot = plot("Latency by rate", ("sent per second", x), (unit.name, y), lines);
    (steps.len() > 1).then(|| Plot { shades, note: note.into(), ..plot })
}

/// An axis from `min` to `max`, logarithmic if `max` is far from `middle`; and a note about it.
fn latency_axis(min: f64, middle: f64, max: f64) -> (Scale, &'static str) {
    match max > middle * LOG_FROM {
        true => (Scale::logarithmic(min, max), "the latency axis is logarithmic"),
        false => (Scale::from_zero(max), ""),
    }
}

/// Percentile curves as in HdrHistogram's plots: each step to the right is ten times rarer.
pub fn percentile_plot(title: &str, curves: &[(String, Curve)]) -> Option<Plot> {
    let curves: Vec<_> = curves.iter().filter(|(_, points)| points.len() > 1).take(COLORS.len()).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let rarest = points().map(|(x, _)| *x).fold(10.0, f64::max);
    let largest = points().map(|(_, us)| *us).fold(0.0, f64::max);
    let min = points().map(|(_, us)| *us).fold(largest, f64::min);
    let unit = time_unit(largest);
    let median = |points: &Curve| points.iter().find(|(x, _)| *x >= 1.9).map_or(0.0, |(_, us)| *us);
    let middle = curves.iter().map(|(_, points)| median(points)).fold(f64::MAX, f64::min);
    let (y, note) = latency_axis(min / unit.divisor, middle / unit.divisor, largest / unit.divisor);
    let lines = curves.iter().zip(COLORS).map(|((label, points), class)| {
        line(label, class, points.iter().map(|(x, us)| (*x, Some(us / unit.divisor))).collect())
    });
    let x = ("share that is not slower", Scale { from: 1.0, to: rarest, log: true });
    let plot = plot(title, x, (unit.name, y), lines.collect());
    (!curves.is_empty()).then(|| Plot { x_text: share, note: note.into(), ..plot })
}

/// A plot of columns with a common axis from 0.
fn columns(run: &SavedRun, title: &str, unit: Unit, named: &[(&str, &str)]) -> Option<Plot> {
    let named = named.iter().zip(COLORS);
    let lines: Vec<Line> =
        named.filter_map(|((path, label), class)| Some(line(label, class, series(run, path, unit.divisor)?))).collect();
    let y = Scale::from_zero(max(lines.iter().map(|line| &line.points)));
    (!lines.is_empty()).then(|| timed(run, title, unit.name, y, lines))
}

fn background(run: &SavedRun) -> Option<Plot> {
    let named = [("beside_us.p50", "p50"), ("beside_us.p99", "p99"), ("beside_us.max", "max")];
    columns(run, "Latency of the background over time", time_unit(run.column_max("beside_us.max")), &named)
}

fn throughput(run: &SavedRun) -> Option<Plot> {
    let received = format!("{} in", run.value["result"]["unit"].as_str().unwrap_or("messages"));
    let named = [
        ("received_per_second", received.as_str()),
        ("sent_per_second", "messages out"),
        ("ready_per_second", "connections ready"),
    ];
    let mut plot = columns(run, "Throughput", Unit { divisor: 1.0, name: "per second" }, &named)?;
    // A line close to the axis says nothing.
    let top = max(plot.lines.iter().map(|line| &line.points));
    plot.lines.retain(|line| max([&line.points]) >= top * VISIBLE_MIN);
    Some(plot)
}

fn processors(run: &SavedRun) -> Option<Plot> {
    let named = [
        ("server_busy", "server's busiest core"),
        ("own_busy", "this tool's busiest core"),
        ("server_cores", "server, all cores"),
    ];
    // All cores are drawn only if more than one is busy.
    let count = if run.column_max("server_cores") > run.column_max("server_busy") * 1.05 { 3 } else { 2 };
    columns(run, "Processor time", Unit { divisor: 0.01, name: "% of a core" }, &named[..count])
}

/// The lag of both sides: this tool's behind the schedule, the server's event loops.
fn lags(run: &SavedRun) -> Option<Plot> {
    let named =
        [("server_loop_lag_us", "server's loop lag"), ("lag_us.p99", "own lag, p99"), ("lag_us.p50", "own lag, p50")];
    let largest = run.column_max("server_loop_lag_us").max(run.column_max("lag_us.p99"));
    columns(run, "Lag", time_unit(largest), &named)
}

/// Connections, if their number changed after the first second or some failed.
fn connections_over_time(run: &SavedRun) -> Option<Plot> {
    let open: Vec<f64> = run.column("open").into_iter().flatten().skip(1).collect();
    let changed = open.iter().any(|n| *n != open[0]);
    let faults = run.column_max("failed") + run.column_max("closed");
    let named = [("open", "open"), ("failed", "failed so far"), ("closed", "ended by the server so far")];
    if !changed && faults == 0.0 {
        return None;
    }
    columns(run, "Connections", Unit { divisor: 1.0, name: "connections" }, &named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn latency_by_rate_follows_the_order_of_the_rates() {
        let mut value = run("a", 1.0).value;
        let step =
            |rate, us| serde_json::json!({"rate": rate, "latency_us": {"p50": us, "p99": us * 2.0, "max": us * 3.0}});
        value["result"]["steps"] = serde_json::json!([step(400.0, 9.0), step(100.0, 5.0)]);
        let plot = by_rate(&SavedRun { name: String::new(), value: value.clone() }).unwrap();
        assert_eq!(plot.lines[2].points, [(100.0, Some(5.0)), (400.0, Some(9.0))]);
        assert!(plot.shades.is_empty());
        value["result"]["knee"] = serde_json::json!(250.0);
        let plot = by_rate(&SavedRun { name: String::new(), value }).unwrap();
        assert_eq!(plot.shades[0].0, 250.0);
    }
}
