//! Two sides as one page: cautions, differences, the figures side by side, and both in the same plots.

use super::charts::{COLORS, percentile_plot, plot};
use super::compare::{Comparison, Row};
use super::html::{self, command, commands, escape, verdict};
use super::plot::{Line, Plot, max};
use super::saved_run::{Curve, SavedRun};
use super::scale::{Scale, time_unit};

/// Runs per side in a plot.
const RUNS_MAX: usize = 3;

pub fn page(found: &Comparison) -> String {
    let names = |runs: &[SavedRun]| runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let [a, b] = [names(&found.a), names(&found.b)];
    let [kind_a, kind_b] = [&found.a[0], &found.b[0]].map(|run| escape(run.text("kind")));
    let cautions = found.cautions();
    let cautions: Vec<&str> = cautions.iter().map(String::as_str).collect();
    let verdict = match (found.is_void(), cautions.is_empty()) {
        (true, _) => verdict("void", "One of these runs is VOID: its figures do not count.", &cautions),
        (_, false) => verdict("mind", "Notes", &cautions),
        _ => verdict("", "Same settings, same host, all runs valid.", &[]),
    };
    let header = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let mut differences = String::new();
    if !found.differences.is_empty() {
        let rows = found.differences.iter().map(|(name, a, b)| vec![name.clone(), a.clone(), b.clone()]);
        let table = html::table(&["", "wrap", "wrap"], std::iter::once(header(&["", "A", "B"])).chain(rows));
        differences = format!("<h2>Differences</h2>{table}");
    }
    let rows = found.rows.iter().map(|row: &Row| row.texts().to_vec());
    let rows = std::iter::once(header(&["", "A", "B", "B / A", ""])).chain(rows);
    let largest = max(overlaid(found, "latency_us.p99", 1.0).iter().map(|line| &line.points));
    let unit = time_unit(largest);
    let plots = [
        curves(found),
        timed("Latency over time, p99 of each second", unit.name, overlaid(found, "latency_us.p99", unit.divisor)),
        timed("Throughput", "received per second", overlaid(found, "received_per_second", 1.0)),
    ];
    let plots: String = plots.iter().flatten().map(Plot::card).collect();
    let body = format!(
        "<header><h1>{kind_a} and {kind_b}</h1><p>A: {} · B: {}</p></header>\n{verdict}{differences}\
         <h2>Both sides in one plot</h2><div class=\"plots\">{plots}</div>\n<h2>{}</h2>{}<h2>Commands</h2>{}",
        escape(&a),
        escape(&b),
        if found.a.len().max(found.b.len()) > 1 { "Medians" } else { "Figures" },
        html::table(&["", "n", "n", "n", "n"], rows),
        commands(found.a.iter().chain(&found.b).map(|run| command(&run.texts("command")))),
    );
    html::page(&format!("{a} and {b}"), &body)
}

/// The runs of both sides with their names and colors in plots.
fn sides(found: &Comparison) -> impl Iterator<Item = (String, &SavedRun, &'static str)> {
    [("A", &found.a, 0), ("B", &found.b, 1)].into_iter().flat_map(|(side, runs, offset)| {
        runs.iter().take(RUNS_MAX).enumerate().map(move |(i, run)| {
            let name = if runs.len() == 1 { side.to_string() } else { format!("{side}{}", i + 1) };
            (name, run, COLORS[2 * i + offset])
        })
    })
}

fn curves(found: &Comparison) -> Option<Plot> {
    let curve = |run: &SavedRun| run.main_latency().map_or_else(Curve::new, |(key, _)| run.curve(key));
    let named: Vec<_> = sides(found).map(|(name, run, _)| (name, curve(run))).collect();
    let mut plot = percentile_plot("Percentiles", &named)?;
    for line in &mut plot.lines {
        if let Some((.., class)) = sides(found).find(|(name, ..)| *name == line.label) {
            line.class = class;
        }
    }
    Some(plot)
}

/// A column of each run over the time since its measured time began.
fn overlaid(found: &Comparison, path: &str, divisor: f64) -> Vec<Line> {
    let line = |(label, run, class): (String, &SavedRun, &'static str)| {
        let measured = &run.value["series"]["measured"];
        let (from, to) = (measured[0].as_f64().unwrap_or(0.0), measured[1].as_f64().unwrap_or(f64::MAX));
        let at = run.column("at").into_iter().flatten().zip(run.column(path));
        // Only seconds that are completely inside.
        let inside = at.filter(|(at, _)| *at >= from + 0.99 && *at <= to + 0.01);
        let points = inside.map(|(at, y)| (at - from, y.map(|y| y / divisor))).collect();
        Line { label, class, points, under: None }
    };
    sides(found).map(line).filter(|line| line.points.iter().any(|(_, y)| y.is_some())).collect()
}

fn timed(title: &str, y_label: &str, lines: Vec<Line>) -> Option<Plot> {
    let times = || lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let end = times().fold(1.0, f64::max);
    let x = Scale::linear(times().fold(end, f64::min).min(1.0), end);
    let y = Scale::from_zero(max(lines.iter().map(|line| &line.points)));
    (!lines.is_empty()).then(|| plot(title, ("seconds since the measured time began", x), (y_label, y), lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn both_sides_are_in_one_plot_with_different_colors() {
        let found = Comparison::new(vec![run("a.json", 1.0)], vec![run("b.json", 2.0)]);
        let plot = curves(&found).unwrap();
        assert_eq!(
            plot.lines.iter().map(|line| (line.label.as_str(), line.class)).collect::<Vec<_>>(),
            [("A", "c1"), ("B", "c2")]
        );
        let page = page(&found);
        for part in ["Both sides in one plot", "A better", "class=\"n worse\"", "Percentiles", "Throughput"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<script") && !page.contains("NaN"));
    }
}
