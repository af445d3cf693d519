//! What is held against the sinks of a fan-out at its end: each must have counted what was published to its channels.

use crate::report::Report;
use crate::scenarios::fanout::{Fanout, Plan};

/// What the sinks counted: how many there are, their deliveries, and of these how many too few and too many, sink by sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sunk {
    sinks: u64,
    deliveries: u64,
    missing: u64,
    surplus: u64,
}

fn sunk(plan: &Plan, scenes: &[Fanout]) -> Sunk {
    let mut sum = Sunk::default();
    let Some(press) = scenes.iter().find_map(|scene| scene.press.as_ref()) else { return sum };
    for scene in scenes {
        for (id, &got) in scene.sunk.iter().enumerate().filter(|(id, _)| scene.is_sink(*id)) {
            let channels = plan.members.channels(scene.first + id);
            let due: u64 = channels.into_iter().map(|channel| press.published(channel)).sum();
            sum.sinks += 1;
            sum.deliveries += got;
            sum.missing += due.saturating_sub(got);
            sum.surplus += got.saturating_sub(due);
        }
    }
    sum
}

/// Whether the sinks, of which nobody follows the deliveries, got as many as were published to their channels.
pub fn sinks(report: &mut Report, plan: &Plan, scenes: &[Fanout]) {
    let sunk = sunk(plan, scenes);
    if sunk.sinks == 0 {
        return;
    }
    report.set("sinks", sunk.sinks.into());
    report.row("sinks", format!("{} connections counted {} deliveries", sunk.sinks, sunk.deliveries));
    for (key, n, what) in [
        ("sinks_missing", sunk.missing, "deliveries never came to a sink"),
        ("sinks_surplus", sunk.surplus, "deliveries came to a sink that nobody sent"),
    ] {
        report.set(key, n.into());
        if n > 0 {
            report.void(format!("{n} {what}"));
        }
    }
}
