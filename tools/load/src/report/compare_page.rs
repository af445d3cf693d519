//! Two sides as one page: cautions, what differs, the figures beside each other, and both in the same plots.

use super::charts::{COLOURS, percentile_plot};
use super::compare::Comparison;
use super::html::{self, command, escape, verdict};
use super::plot::{Line, Plot, Points};
use super::saved_run::{Curve, Run};
use super::scale::{Scale, short, time_unit};
use crate::report::human;
use std::fmt::Write;

pub fn page(found: &Comparison) -> String {
    let (a, b) = (&found.a[0], &found.b[0]);
    let names = |runs: &[Run]| runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut body = format!(
        "<header><h1>{} beside {}</h1><p>A: {} · B: {}</p></header>\n",
        escape(a.text("kind")),
        escape(b.text("kind")),
        escape(&names(&found.a)),
        escape(&names(&found.b)),
    );
    let cautions = found.cautions();
    let cautions: Vec<&str> = cautions.iter().map(String::as_str).collect();
    body += &match (found.void(), cautions.is_empty()) {
        (true, _) => verdict("void", "A run of these is VOID: its figures do not count.", &cautions),
        (_, false) => verdict("mind", "Mind", &cautions),
        _ => verdict("", "Same settings, same host, every run fine.", &[]),
    };
    body += &differences(found);
    let plots: Vec<Plot> = [curves(found), over_time(found), throughput(found)].into_iter().flatten().collect();
    body += "<h2>Both in one</h2><div class=\"plots\">";
    plots.iter().for_each(|plot| body += &plot.card());
    body += "</div>\n";
    body += &figures(found);
    body += "<h2>Commands</h2><div class=\"card\"><pre>";
    for run in found.a.iter().chain(&found.b) {
        let _ = writeln!(body, "{}", escape(&command(&run.texts("command"))));
    }
    body += "</pre></div>\n";
    html::page(&format!("{} beside {}", names(&found.a), names(&found.b)), &body)
}

fn differences(found: &Comparison) -> String {
    if found.differences.is_empty() {
        return String::new();
    }
    let mut out =
        String::from("<h2>What differs</h2><div class=\"card scroll\"><table><tr><th></th><th>A</th><th>B</th></tr>");
    for (name, a, b) in &found.differences {
        let [name, a, b] = [name, a, b].map(|text| escape(text));
        let _ = write!(out, "<tr><th>{name}</th><td class=\"wrap\">{a}</td><td class=\"wrap\">{b}</td></tr>");
    }
    out + "</table></div>\n"
}

fn figures(found: &Comparison) -> String {
    let several = found.a.len().max(found.b.len()) > 1;
    let mut out = format!(
        "<h2>{}</h2><div class=\"card scroll\"><table><tr><th></th><th class=\"n\">A</th><th class=\"n\">B</th>\
         <th class=\"n\">B / A</th><th class=\"n\"></th></tr>",
        if several { "Medians" } else { "Figures" }
    );
    for row in &found.rows {
        let word = row.word();
        let class = match word {
            "B better" => "better",
            "A better" => "worse",
            _ => "",
        };
        let ratio = row.ratio().map_or("-".into(), |ratio| format!("{ratio:.3}"));
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{ratio}</td>\
             <td class=\"n {class}\">{word}</td></tr>",
            escape(&row.label),
            human(row.a),
            human(row.b)
        );
    }
    out + "</table></div>\n"
}

/// Both sides' runs with their names in plots; at most three of each, so that colours suffice.
fn sides(found: &Comparison) -> impl Iterator<Item = (String, &Run, &'static str)> {
    let one = |side: &'static str, runs: &[Run], i: usize| match runs.len() {
        1 => side.to_string(),
        _ => format!("{side}{}", i + 1),
    };
    let a = found
        .a
        .iter()
        .take(3)
        .enumerate()
        .map(move |(i, run)| (one("A", &found.a, i), run, [COLOURS[0], COLOURS[2], COLOURS[4]][i]));
    let b = found
        .b
        .iter()
        .take(3)
        .enumerate()
        .map(move |(i, run)| (one("B", &found.b, i), run, [COLOURS[1], COLOURS[3], COLOURS[5]][i]));
    a.chain(b)
}

fn curves(found: &Comparison) -> Option<Plot> {
    let curve = |run: &Run| run.main_latency().map_or_else(Curve::new, |(key, _)| run.curve(key));
    let curves: Vec<_> = sides(found).map(|(name, run, class)| (name, curve(run), class)).collect();
    let named: Vec<_> = curves.iter().map(|(name, curve, _)| (name.clone(), curve.clone())).collect();
    let mut plot = percentile_plot("Percentiles", &named)?;
    for line in &mut plot.lines {
        if let Some((.., class)) = curves.iter().find(|(name, ..)| *name == line.label) {
            line.class = class;
        }
    }
    Some(plot)
}

/// A column of each run over the time since its measured part began.
fn overlaid(found: &Comparison, path: &str, divisor: f64) -> Vec<Line> {
    let line = |(label, run, class): (String, &Run, &'static str)| {
        let measured = &run.value["series"]["measured"];
        let (from, to) = (measured[0].as_f64().unwrap_or(0.0), measured[1].as_f64().unwrap_or(f64::MAX));
        let at = run.column("at").into_iter().flatten().zip(run.column(path));
        // Only seconds that lie wholly inside.
        let inside = at.filter(|(at, _)| *at >= from + 0.99 && *at <= to + 0.01);
        let points: Points = inside.map(|(at, y)| (at - from, y.map(|y| y / divisor))).collect();
        Line { label, class, points, under: None }
    };
    sides(found).map(line).filter(|line| line.points.iter().any(|(_, y)| y.is_some())).collect()
}

fn plot(title: &str, y_label: &str, lines: Vec<Line>) -> Option<Plot> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (end, top) = points().fold((1.0f64, 0.0f64), |(x, y), point| (x.max(point.0), y.max(point.1.unwrap_or(0.0))));
    let begin = points().map(|point| point.0).fold(end, f64::min);
    (!lines.is_empty()).then(|| Plot {
        title: title.into(),
        x_label: "seconds since the measured time began".into(),
        y_label: y_label.into(),
        x: Scale::linear(begin.min(1.0), end),
        y: Scale::from_zero(top, 5),
        x_text: short,
        y_text: short,
        lines,
        shades: Vec::new(),
        note: String::new(),
    })
}

fn over_time(found: &Comparison) -> Option<Plot> {
    let largest = overlaid(found, "latency_us.p99", 1.0);
    let largest = largest.iter().flat_map(|line| &line.points).filter_map(|(_, y)| *y).fold(0.0, f64::max);
    let unit = time_unit(largest);
    plot("Latency over time, p99 of each second", unit.name, overlaid(found, "latency_us.p99", unit.divisor))
}

fn throughput(found: &Comparison) -> Option<Plot> {
    plot("Throughput", "received per second", overlaid(found, "received_per_second", 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn both_curves_stand_in_one_plot_with_their_own_colours() {
        let found = Comparison::new(vec![run("a.json", 1.0)], vec![run("b.json", 2.0)]);
        let plot = curves(&found).unwrap();
        assert_eq!(
            plot.lines.iter().map(|line| (line.label.as_str(), line.class)).collect::<Vec<_>>(),
            [("A", "c1"), ("B", "c2")]
        );
        let page = page(&found);
        for part in ["Both in one", "A better", "class=\"n worse\"", "Percentiles", "Throughput"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<script") && !page.contains("NaN"));
    }
}
