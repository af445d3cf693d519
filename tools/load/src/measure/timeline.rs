//! What the coordinator observes in each second: counts, its own processor time, and the server's processor time, memory and
//! counters.
//!
//! A thread of its own takes an observation at every full second of the run, so that a slow answer of the server delays neither
//! phases nor messages. The server's counters are fetched only for a full report: each fetch costs the server something, and
//! figures that are compared must not pay for a plot.

use crate::engine::clock::{SECOND, now};
use crate::engine::control::Control;
use crate::engine::counters::Counters;
use crate::measure::host::Start;
use crate::measure::latency_series::{Counts, Second, Seconds, quantile};
use crate::measure::server::{Sample, Spent, Watch, resident, spent};
use crate::report::figures::round;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A shorter rest of a second says little as a rate.
const REST_MIN: u64 = SECOND / 5;

/// One observation.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    at: u64,
    counters: Counters,
    own_cpu: Vec<u64>,
    server: Sample,
    rss: Option<u64>,
}

/// The thread that observes. It ends when the sender is dropped.
#[derive(Debug)]
pub struct Observer {
    start: Start,
    stop: Sender<()>,
    thread: JoinHandle<Vec<Observation>>,
}

impl Observer {
    pub fn start(control: Arc<Control>, watch: Watch) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let start = Start::now();
        let body = move || {
            let observe = || Observation {
                at: now(),
                counters: control.counters(),
                own_cpu: control.cpu(),
                server: watch.sample_quietly().0,
                rss: watch.pid.and_then(resident),
            };
            let mut observations = vec![observe()];
            loop {
                let rest = SECOND - now().saturating_sub(control.origin) % SECOND;
                match stopped.recv_timeout(Duration::from_nanos(rest)) {
                    Err(RecvTimeoutError::Timeout) => observations.push(observe()),
                    _ => break,
                }
            }
            observations.push(observe());
            observations
        };
        Ok(Self { start, stop, thread: std::thread::Builder::new().name("observer".into()).spawn(body)? })
    }

    /// Takes a last observation and returns all of them.
    pub fn finish(self) -> (Start, Vec<Observation>) {
        drop(self.stop);
        (self.start, self.thread.join().unwrap_or_default())
    }
}

/// A whole run, second by second.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub start: Start,
    pub origin: u64,
    /// The phases and when they began, by the names that the progress shows.
    pub phases: Vec<(&'static str, u64)>,
    pub observations: Vec<Observation>,
    pub seconds: Seconds,
}

/// What lies between two observations.
#[derive(Debug)]
struct Interval<'a> {
    after: &'a Observation,
    seconds: f64,
    delta: Counters,
    own_cpu: u64,
    spent: Spent,
    second: Option<&'a Second>,
    background: Option<&'a Second>,
}

impl Interval<'_> {
    /// `value` of the server, if the server's process is observed.
    fn of_server(&self, value: u64) -> Option<f64> {
        self.after.rss.map(|_| round(value as f64 / 1e9 / self.seconds))
    }

    fn rate(&self, n: u64) -> Option<f64> {
        Some(round(n as f64 / self.seconds))
    }
}

impl Timeline {
    /// The version that the server reports.
    pub fn server_version(&self) -> Option<&str> {
        self.observations.iter().find_map(|one| one.server.version.as_deref())
    }

    /// Columns of equal length: `at` is the end of an interval in seconds since the beginning; null means not observed.
    /// `background` is the timeline of the background fan-out of the run.
    pub fn json(&self, background: &Self) -> Value {
        let since = |at: u64| round(at.saturating_sub(self.origin) as f64 / SECOND as f64);
        let intervals = self.intervals(background);
        let column = |read: fn(&Interval) -> Option<f64>| intervals.iter().map(read).collect::<Vec<_>>();
        let times = |read: fn(&Interval) -> Option<Counts>| {
            let counts: Vec<Counts> = intervals.iter().map(|one| read(one).unwrap_or_default()).collect();
            let micros = |counts, q| quantile(counts, q).map(|nanos| round(nanos as f64 / 1e3));
            let at = |q: f64| counts.iter().map(|counts| micros(counts, q)).collect::<Vec<_>>();
            let count: Vec<u64> = counts.iter().map(|counts| counts.values().sum()).collect();
            json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0), "count": count})
        };
        let phases = self.phases.iter().map(|(name, at)| json!({"name": name, "from": since(*at)}));
        json!({
            "phases": phases.collect::<Vec<_>>(),
            "at": intervals.iter().map(|one| since(one.after.at)).collect::<Vec<_>>(),
            "sent_per_second": column(|one| one.rate(one.delta.sent)),
            "received_per_second": column(|one| one.rate(one.delta.received)),
            "ready_per_second": column(|one| one.rate(one.delta.ready)),
            "open": column(|one| Some(one.after.counters.open() as f64)),
            "away": column(|one| Some(one.after.counters.away as f64).filter(|n| *n > 0.0)),
            "failed": column(|one| Some(one.after.counters.failed as f64)),
            "closed": column(|one| Some(one.after.counters.closed as f64)),
            "own_busy": column(|one| Some(round(one.own_cpu as f64 / 1e9 / one.seconds))),
            "server_busy": column(|one| one.of_server(one.spent.busiest)),
            "server_cores": column(|one| one.of_server(one.spent.nanos)),
            "server_rss_bytes": column(|one| one.after.rss.map(|bytes| bytes as f64)),
            "server_writes_per_message": column(|one| {
                let writes = one.spent.metrics.get("corecast_socket_writes_total")?;
                (one.delta.received > 0).then(|| round(writes / one.delta.received as f64))
            }),
            "server_loop_lag_us": column(|one| one.after.server.loop_lag_us),
            "latency_us": times(|one| one.second.map(|second| second.latency.clone())),
            "lag_us": times(|one| one.second.map(|second| second.lag.clone())),
            "beside_us": times(|one| one.background.map(|second| second.latency.clone())),
        })
    }

    fn intervals<'a>(&'a self, background: &'a Self) -> Vec<Interval<'a>> {
        let last = self.observations.len().saturating_sub(2);
        let pairs = self.observations.windows(2).enumerate();
        // A short rest at the end counts only if it is the whole run.
        let long =
            |(i, pair): &(usize, &[Observation])| pair[1].at - pair[0].at >= REST_MIN || (*i == last && last == 0);
        let interval = |(i, pair): (usize, &'a [Observation])| {
            let (before, after) = (&pair[0], &pair[1]);
            // An observation is made at the end of a second or a moment after it: it is about the second before.
            let rest = after.at.saturating_sub(self.origin) / SECOND;
            let index = if i == last { rest } else { rest.saturating_sub(1) };
            // The seconds of the background fan-out begin at another moment: the one with the nearest end counts.
            let nearest = (after.at.saturating_sub(background.origin) + SECOND / 2) / SECOND;
            let own_cpu = before.own_cpu.iter().zip(&after.own_cpu).map(|(a, b)| b.saturating_sub(*a)).max();
            Interval {
                after,
                seconds: (after.at - before.at) as f64 / SECOND as f64,
                delta: after.counters.since(&before.counters),
                own_cpu: own_cpu.unwrap_or(0),
                spent: spent(&before.server, &after.server),
                second: self.seconds.get(&index),
                background: nearest.checked_sub(1).and_then(|index| background.seconds.get(&index)),
            }
        };
        pairs.filter(long).map(interval).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_one_length_and_a_second_is_reported_at_its_end() {
        let observation = |at: u64, received| {
            let counters = Counters { received, ..Counters::default() };
            Observation { at, counters, ..Observation::default() }
        };
        let second = |value| Second { latency: Counts::from([(value, 1)]), lag: Counts::new() };
        let origin = 5 * SECOND;
        let observations = vec![
            observation(origin, 0),
            observation(origin + SECOND, 10),
            observation(origin + 2 * SECOND, 30),
            observation(origin + 5 * SECOND / 2, 30),
        ];
        let seconds = Seconds::from([(0, second(2_000)), (2, second(8_000))]);
        let phases = vec![("opening", origin)];
        let timeline = Timeline { start: Start::default(), origin, phases, observations, seconds };
        let seconds = Seconds::from([(1, second(5_000))]);
        let background = Timeline { origin: origin - SECOND / 3, seconds, ..Timeline::default() };
        let value = timeline.json(&background);
        assert_eq!(value["at"], json!([1.0, 2.0, 2.5]));
        assert_eq!(value["received_per_second"], json!([10.0, 20.0, 0.0]));
        assert_eq!(value["latency_us"]["p50"], json!([2.0, null, 8.0]));
        assert_eq!(value["beside_us"]["max"], json!([null, 5.0, null]));
        assert_eq!(value["server_busy"], json!([null, null, null]));
        assert_eq!(value["phases"][0]["from"], 0.0);
    }
}
