//! The plots of a run: what is drawn of it, in which units, and where an axis goes by powers of ten.

use super::plot::{Line, Plot, Points};
use super::saved_run::{Curve, OPENINGS, Run};
use super::scale::{Scale, Unit, byte_unit, share, short, time_unit};
use serde_json::Value;

/// From where on a plot needs powers of ten: the largest by the middle one.
const LOG_FROM: f64 = 25.0;
/// Rates below this share of the largest are not drawn beside it.
const VISIBLE_MIN: f64 = 0.03;
/// Curves in one plot.
const CURVES_MAX: usize = 6;
pub const COLOURS: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

/// All plots of a run, in the order in which they are read.
pub fn all(run: &Run) -> Vec<Plot> {
    // Where the run was about connections, theirs are the percentiles.
    let about_messages = run.main_latency().is_some_and(|(key, _)| !OPENINGS.contains(&key));
    let of_messages = |(key, _): &(&str, &str)| !OPENINGS.contains(key) || !about_messages;
    let (of_messages, of_connections): (Vec<_>, Vec<_>) = run.latencies_ranked().into_iter().partition(of_messages);
    let over_time = run.main_latency().and_then(|(_, label)| over_time(run, label));
    let percentiles =
        [curves(run, "Percentiles", &of_messages), curves(run, "Percentiles of connections", &of_connections)];
    let [messages, connections] = percentiles;
    let course = [others(run), throughput(run), processors(run), memory(run), lags(run), standing(run)];
    let plots = [over_time, messages, by_rate(run)].into_iter().chain(course).chain([connections]);
    plots.flatten().collect()
}

/// Values beside the ends of their intervals; none if there is nothing to see.
fn series(run: &Run, path: &str, divisor: f64) -> Option<Points> {
    let at = run.column("at").into_iter().flatten();
    let points: Points = at.zip(run.column(path)).map(|(x, y)| (x, y.map(|y| y / divisor))).collect();
    points.iter().any(|(_, y)| y.is_some_and(|y| y > 0.0)).then_some(points)
}

fn most<'a>(lines: impl IntoIterator<Item = &'a Points>) -> f64 {
    lines.into_iter().flatten().filter_map(|(_, y)| *y).fold(0.0, f64::max)
}

fn line(label: &str, class: &'static str, points: Points) -> Line {
    Line { label: label.into(), class, points, under: None }
}

/// A plot over the time of the run, in which what is not measured is shaded.
fn timed(run: &Run, title: &str, y_label: &str, y: Scale, lines: Vec<Line>) -> Plot {
    let end = run.column("at").into_iter().flatten().fold(0.0, f64::max);
    let begin = run.column("at").into_iter().flatten().fold(end, f64::min);
    let begin = if begin <= 1.2 { 0.0 } else { begin - 1.0 };
    let measured = &run.value["series"]["measured"];
    let shades = match (measured[0].as_f64(), measured[1].as_f64()) {
        (Some(from), Some(to)) => {
            vec![(begin, from.min(end), "before".to_string()), (to.min(end), end, "after".to_string())]
        }
        _ => Vec::new(),
    };
    Plot {
        title: title.into(),
        x_label: "seconds since the beginning".into(),
        y_label: y_label.into(),
        x: Scale::linear(begin, end),
        y,
        x_text: short,
        y_text: short,
        lines,
        shades,
        note: String::new(),
    }
}

fn over_time(run: &Run, label: &str) -> Option<Plot> {
    let get = |name: &str, unit: Unit| series(run, &format!("latency_us.{name}"), unit.divisor);
    let largest = most([&get("max", time_unit(0.0))?]);
    let unit = time_unit(largest);
    let [p50, p90, p99, max] = ["p50", "p90", "p99", "max"].map(|name| get(name, unit).unwrap_or_default());
    let mut middle: Vec<f64> = p50.iter().filter_map(|(_, y)| *y).collect();
    middle.sort_by(f64::total_cmp);
    let (least, middle) = (middle.first().copied().unwrap_or(1.0), middle[middle.len() / 2]);
    let top = largest / unit.divisor;
    let (y, how) = height(least, middle, top);
    let band = |label: &str, class, points: &Points, under: &Points| Line {
        label: label.into(),
        class,
        points: points.clone(),
        under: Some(under.clone()),
    };
    let lines = vec![
        band("p99 to max", "c6", &max, &p99),
        band("p90 to p99", "c2", &p99, &p90),
        band("p50 to p90", "c1", &p90, &p50),
        line("p99", "c2", p99.clone()),
        line("p50", "c1", p50.clone()),
    ];
    let mut plot = timed(run, "Latency over time", unit.name, y, lines);
    plot.note = format!("{label}, of each second{}{how}", if how.is_empty() { "" } else { "; " });
    Some(plot)
}

fn curves(run: &Run, title: &str, latencies: &[(&str, &str)]) -> Option<Plot> {
    let curves: Vec<_> = latencies.iter().map(|(key, label)| (label.to_string(), run.curve(key))).collect();
    percentile_plot(title, &curves)
}

/// Latency against the rate, where the run had several: steps that were asked for, or what a search tried.
fn by_rate(run: &Run) -> Option<Plot> {
    let result = &run.value["result"];
    let mut steps: Vec<&Value> =
        ["steps", "probes"].iter().filter_map(|key| result[*key].as_array()).flatten().collect();
    let rate = |step: &Value| step["rate"].as_f64().unwrap_or(0.0);
    steps.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let at = |name: &str| -> Points { steps.iter().map(|s| (rate(s), s["latency_us"][name].as_f64())).collect() };
    let [p50, p99, max] = ["p50", "p99", "max"].map(at);
    let largest = most([&p99, &max]);
    let unit = time_unit(largest);
    let scaled = |label: &str, class, points: &Points| {
        line(label, class, points.iter().map(|(x, y)| (*x, y.map(|y| y / unit.divisor))).collect())
    };
    let mut lines = vec![scaled("max", "c6", &max), scaled("p99", "c2", &p99), scaled("p50", "c1", &p50)];
    lines.retain(|line| line.points.iter().any(|(_, y)| y.is_some()));
    let least = p50.iter().filter_map(|(_, y)| *y).fold(largest, f64::min) / unit.divisor;
    let x = Scale::from_zero(steps.last().map_or(0.0, |step| rate(step)), 5);
    let (y, note) = height(least, least, largest / unit.divisor);
    let knee = result["knee"].as_f64();
    (steps.len() > 1).then(|| Plot {
        title: "Latency by rate".into(),
        x_label: "sent per second".into(),
        y_label: unit.name.into(),
        x,
        y,
        x_text: short,
        y_text: short,
        lines,
        shades: knee.map(|knee| (knee, x.to, "beyond the bounds".into())).into_iter().collect(),
        note: note.into(),
    })
}

/// An axis from `least` to `most`, by powers of ten where that is far from `middle`; and what is said of it.
fn height(least: f64, middle: f64, most: f64) -> (Scale, &'static str) {
    match most > middle * LOG_FROM {
        true => (Scale::logarithmic(least, most), "the axis of latency goes by powers of ten"),
        false => (Scale::from_zero(most, 5), ""),
    }
}

/// One plot of percentile curves, the HdrHistogram way: each step to the right is ten times rarer.
pub fn percentile_plot(title: &str, curves: &[(String, Curve)]) -> Option<Plot> {
    let curves: Vec<_> = curves.iter().filter(|(_, points)| points.len() > 1).take(CURVES_MAX).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let rarest = points().map(|(x, _)| *x).fold(10.0, f64::max);
    let largest = points().map(|(_, us)| *us).fold(0.0, f64::max);
    let least = points().map(|(_, us)| *us).fold(largest, f64::min);
    let unit = time_unit(largest);
    let (top, bottom) = (largest / unit.divisor, least / unit.divisor);
    let median = |points: &Curve| points.iter().find(|(x, _)| *x >= 1.9).map_or(0.0, |(_, us)| *us);
    let middle = curves.iter().map(|(_, points)| median(points)).fold(f64::MAX, f64::min) / unit.divisor;
    let (y, note) = height(bottom, middle, top);
    let lines = curves.iter().zip(COLOURS).map(|((label, points), class)| {
        line(label, class, points.iter().map(|(x, us)| (*x, Some(us / unit.divisor))).collect())
    });
    (!curves.is_empty()).then(|| Plot {
        title: title.into(),
        x_label: "share that is no slower".into(),
        y_label: unit.name.into(),
        x: Scale { from: 1.0, to: rarest, log: true },
        y,
        x_text: share,
        y_text: short,
        lines: lines.collect(),
        shades: Vec::new(),
        note: note.into(),
    })
}

/// A plot of columns that share an axis, from zero.
fn columns(run: &Run, title: &str, y_label: &str, divisor: f64, named: &[(&str, &str)]) -> Option<Plot> {
    let found = named
        .iter()
        .zip(COLOURS)
        .filter_map(|((path, label), class)| Some(line(label, class, series(run, path, divisor)?)));
    let lines: Vec<Line> = found.collect();
    let y = Scale::from_zero(most(lines.iter().map(|line| &line.points)), 5);
    (!lines.is_empty()).then(|| timed(run, title, y_label, y, lines))
}

/// What those noticed who were served meanwhile.
fn others(run: &Run) -> Option<Plot> {
    let unit = time_unit(run.column("beside_us.max").into_iter().flatten().fold(0.0, f64::max));
    let named = [("beside_us.p50", "p50"), ("beside_us.p99", "p99"), ("beside_us.max", "max")];
    columns(run, "Latency of the others over time", unit.name, unit.divisor, &named)
}

fn throughput(run: &Run) -> Option<Plot> {
    let unit = run.value["result"]["unit"].as_str().unwrap_or("messages");
    let named = [
        ("received_per_second", format!("{unit} in")),
        ("sent_per_second", "messages out".to_string()),
        ("ready_per_second", "connections ready".to_string()),
    ];
    let named: Vec<_> = named.iter().map(|(path, label)| (*path, label.as_str())).collect();
    let mut plot = columns(run, "Throughput", "per second", 1.0, &named)?;
    // What would lie on the axis says nothing.
    let top = most(plot.lines.iter().map(|line| &line.points));
    plot.lines.retain(|line| most([&line.points]) >= top * VISIBLE_MIN);
    Some(plot)
}

fn processors(run: &Run) -> Option<Plot> {
    let named = [
        ("server_busy", "server's busiest core"),
        ("own_busy", "this tool's busiest core"),
        ("server_cores", "server, all cores"),
    ];
    let cores = run.column("server_cores").into_iter().flatten().fold(0.0, f64::max);
    let busiest = run.column("server_busy").into_iter().flatten().fold(0.0, f64::max);
    // All cores say something only where there is more than one at work.
    let count = if cores > busiest * 1.05 { 3 } else { 2 };
    columns(run, "Processor time", "% of a core", 0.01, &named[..count])
}

fn memory(run: &Run) -> Option<Plot> {
    let largest = run.column("server_rss_bytes").into_iter().flatten().fold(0.0, f64::max);
    let unit = byte_unit(largest);
    columns(run, "Server memory (resident)", unit.name, unit.divisor, &[("server_rss_bytes", "resident")])
}

/// Lags of both sides: the schedule's of this tool, the loop's of the server.
fn lags(run: &Run) -> Option<Plot> {
    let named =
        [("server_loop_lag_us", "server's loop lag"), ("lag_us.p99", "own lag, p99"), ("lag_us.p50", "own lag, p50")];
    let largest = ["server_loop_lag_us", "lag_us.p99"].iter().flat_map(|path| run.column(path)).flatten();
    let unit = time_unit(largest.fold(0.0, f64::max));
    columns(run, "Lag", unit.name, unit.divisor, &named)
}

/// Connections, where their number changed after the first second or some failed.
fn standing(run: &Run) -> Option<Plot> {
    let open: Vec<f64> = run.column("open").into_iter().flatten().skip(1).collect();
    let change = open.iter().any(|n| *n != open[0]);
    let trouble = ["failed", "closed"].iter().flat_map(|path| run.column(path)).flatten().any(|n| n > 0.0);
    let named = [("open", "open"), ("failed", "failed until then"), ("closed", "ended by the server until then")];
    if change || trouble { columns(run, "Connections", "connections", 1.0, &named) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn where_the_rate_had_steps_latency_stands_against_them_in_their_order() {
        let mut value = run("a", 1.0).value;
        let step =
            |rate, us| serde_json::json!({"rate": rate, "latency_us": {"p50": us, "p99": us * 2.0, "max": us * 3.0}});
        value["result"]["steps"] = serde_json::json!([step(400.0, 9.0), step(100.0, 5.0)]);
        let plot = by_rate(&Run { name: String::new(), value: value.clone() }).unwrap();
        assert_eq!(plot.lines[2].points, [(100.0, Some(5.0)), (400.0, Some(9.0))]);
        assert!(plot.shades.is_empty());
        value["result"]["knee"] = serde_json::json!(250.0);
        let plot = by_rate(&Run { name: String::new(), value }).unwrap();
        assert_eq!(plot.shades[0].0, 250.0);
    }
}
