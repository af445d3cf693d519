//! The families of `/metrics` about the durable log. A server without one has none of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::exposition::{Exposition, Float, Kind};
use crate::broker::durable::{BATCH_BUCKETS, LaneStats, LogRefusal, LogState, LogStats};
use crate::broker::stats::Histogram;

/// A name, a help text, and the value.
type Row = (&'static str, &'static str, fn(&LaneStats) -> u64);

const GAUGES: &[Row] = &[
    ("durable_bytes", "Bytes of the files of the log.", |lane| lane.bytes.load(Ordering::Relaxed)),
    ("durable_files", "Files of the log.", |lane| lane.segments.load(Ordering::Relaxed) as u64),
    ("durable_channels", "Channels of which the log has the position.", |lane| {
        lane.channels.load(Ordering::Relaxed) as u64
    }),
    ("durable_quarantined_files", "Files of the log with a part that cannot be read.", |lane| {
        lane.quarantined.load(Ordering::Relaxed) as u64
    }),
    ("durable_disk_full", "1 while the disk, or durable.bytes_max, is full.", |lane| u64::from(lane.is_full())),
    ("durable_queued_bytes", "Bytes of requests that wait for the lane.", |lane| lane.queued_bytes() as u64),
];

const COUNTERS: &[Row] = &[
    ("durable_file_failures", "Files given up after a failed write or sync.", |lane| {
        lane.file_failures.load(Ordering::Relaxed)
    }),
    ("durable_evicted_files", "Files removed before their time because the disk was full.", |lane| {
        lane.evicted_segments.load(Ordering::Relaxed)
    }),
    ("durable_checkpoints", "Checkpoints written.", |lane| lane.checkpoints.load(Ordering::Relaxed)),
    ("durable_publications_in_memory", "Publications kept in memory only, since the disk has failed.", |lane| {
        lane.in_memory.load(Ordering::Relaxed)
    }),
];

pub(super) fn write(text: &mut Exposition, stats: &LogStats) {
    let lanes = stats.lanes();
    if lanes.is_empty() {
        return;
    }
    let help = "State of the log in a directory: 1 for the current state, 0 for the others.";
    let mut family = text.family(Kind::Gauge, "durable_state", help);
    for lane in &lanes {
        for (state, name) in LogState::ALL {
            family.sample(&[("dir", &&*lane.name), ("state", &name)], u8::from(lane.state() == state));
        }
    }
    each(text, &lanes, Kind::Gauge, GAUGES);
    seconds(text, &lanes, "durable_opening_seconds", "Time that the last opening of the log took.", |lane| {
        lane.opening_ms.load(Ordering::Relaxed) as f64 / 1e3
    });
    seconds(text, &lanes, "durable_unsynced_age_seconds", "Age of the oldest write that is not synced.", |lane| {
        lane.unsynced_age().as_secs_f64()
    });
    each(text, &lanes, Kind::Counter, COUNTERS);
    let help = "Requests that the log did not carry out, by reason.";
    let mut family = text.family(Kind::Counter, "durable_refusals", help);
    for lane in &lanes {
        for (refusal, name) in LogRefusal::ALL {
            let count = lane.refusals[refusal as usize].load(Ordering::Relaxed);
            family.sample(&[("dir", &&*lane.name), ("reason", &name)], count);
        }
    }
    times(text, &lanes, "durable_write_seconds", "Time of a write.", |lane| &lane.write_time);
    times(text, &lanes, "durable_sync_seconds", "Time of a sync.", |lane| &lane.sync_time);
    let mut family = text.family(Kind::Histogram, "durable_batch_publications", "Publications in one write.");
    for lane in &lanes {
        let bounds = BATCH_BUCKETS.iter().map(|&bound| bound as f64).chain([f64::INFINITY]);
        let counts = lane.batches.iter().map(|count| count.load(Ordering::Relaxed));
        let sum = lane.batched.load(Ordering::Relaxed) as f64;
        family.histogram(&[("dir", &&*lane.name)], sum, bounds.zip(counts));
    }
}

fn each(text: &mut Exposition, lanes: &[Arc<LaneStats>], kind: Kind, rows: &[Row]) {
    for (name, help, value) in rows {
        let mut family = text.family(kind, name, help);
        for lane in lanes {
            family.sample(&[("dir", &&*lane.name)], value(lane));
        }
    }
}

fn seconds(
    text: &mut Exposition,
    lanes: &[Arc<LaneStats>],
    name: &'static str,
    help: &str,
    value: fn(&LaneStats) -> f64,
) {
    let mut family = text.family(Kind::Gauge, name, help);
    for lane in lanes {
        family.sample(&[("dir", &&*lane.name)], Float(value(lane)));
    }
}

fn times(
    text: &mut Exposition,
    lanes: &[Arc<LaneStats>],
    name: &'static str,
    help: &str,
    of: fn(&LaneStats) -> &Histogram,
) {
    let mut family = text.family(Kind::Histogram, name, help);
    for lane in lanes {
        family.durations(&[("dir", &&*lane.name)], of(lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::exposition::Format;
    use crate::broker::port::request_queue;

    #[test]
    fn directories_are_shown_with_their_state() {
        let stats = LogStats::default();
        let text = |stats: &LogStats| {
            let mut text = Exposition::new(Format::accepted(""));
            text.set_prefix("corecast_");
            write(&mut text, stats);
            text.finish()
        };
        assert!(!text(&stats).contains("durable"));
        stats.register("/data", request_queue(1).1.gauge());
        let text = text(&stats);
        for line in [
            "corecast_durable_state{dir=\"/data\",state=\"opening\"} 1",
            "corecast_durable_state{dir=\"/data\",state=\"open\"} 0",
            "corecast_durable_bytes{dir=\"/data\"} 0",
            "corecast_durable_refusals_total{dir=\"/data\",reason=\"disk_full\"} 0",
            "corecast_durable_batch_publications_count{dir=\"/data\"} 0",
            "corecast_durable_sync_seconds_count{dir=\"/data\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
