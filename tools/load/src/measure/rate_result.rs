//! What became of a rate: whether it was kept, and the figures of each of its steps.

use crate::measure::rate::Rate;
use crate::measure::results::Harvest;
use crate::report::{Report, Window, human};
use serde_json::{Value, json};

/// The share of what was due in the measured time by which what is under way may have grown in it; and so many at least.
const BACKLOG_MAX: f64 = 0.02;
const BACKLOG_MIN: f64 = 20.0;

/// A rate is kept if what is under way did not pile up while it was on. `due` fell due meanwhile.
pub fn kept(report: &mut Report, window: &Window, due: u64, what: &str) {
    let grown = window.after.tally.in_flight.wrapping_sub(window.before.tally.in_flight).cast_signed() as f64;
    if grown > (due as f64 * BACKLOG_MAX).max(BACKLOG_MIN) {
        let (grown, due) = (human(grown), human(due as f64));
        report.void(format!("the rate was not kept: {grown} more {what} were waiting at its end, of {due}"));
    }
}

/// Figures by the steps of a rate, where it has several.
pub fn steps(report: &mut Report, rate: Option<&Rate>, harvest: &Harvest, what: &str) {
    let spans = rate.map(Rate::spans).unwrap_or_default();
    if spans.len() < 2 {
        return;
    }
    let mut told = Vec::new();
    for (span, step) in spans.iter().zip(&harvest.steps) {
        let at = |q: f64| step.latency.value_at_quantile(q) as f64 / 1e3;
        let (p50, p99, p999, count) = (at(0.5), at(0.99), at(0.999), step.latency.len());
        let max = if count > 0 { step.latency.max() as f64 / 1e3 } else { 0.0 };
        let seconds = (span.end - span.begin) as f64 / 1e9;
        let name = match span.from == span.to {
            true => format!("{what} at {}/s", human(span.from)),
            false => format!("{what} at {}..{}/s", human(span.from), human(span.to)),
        };
        told.push(json!({
            "label": name, "rate": (span.from + span.to) / 2.0, "from": span.from, "to": span.to, "seconds": seconds,
            "sent": step.sent, "received": count,
            "latency_us": {"p50": p50, "p90": at(0.9), "p99": p99, "p99.9": p999, "max": max, "count": count},
        }));
    }
    report.set("steps", told.into());
}

/// A rate as programs read it: a number, if it is one and the same all the time.
pub fn rate_value(rate: &Rate) -> Value {
    rate.fixed().map_or_else(|| json!(rate.to_string()), |fixed| json!(fixed))
}
