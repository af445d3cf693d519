//! What the coordinator saw, second by second: counts, its own processor time, the server's, its memory and its counters.
//!
//! Plan: a thread of its own looks at every full second of the crew's time, so that a slow answer of the server's delays no phase
//! and no message. The server's counters are fetched only where a whole report is wanted: each fetch costs the server something,
//! and figures that are compared must not pay for a picture.

use crate::engine::clock::{SECOND, now};
use crate::engine::counters::Tally;
use crate::engine::workers::Control;
use crate::measure::host::Begin;
use crate::measure::latency_series::{Counts, Second, Seconds, quantile};
use crate::measure::server::{Sample, Watch, resident, spent};
use crate::report::round;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Shorter rests of a second say little as a rate.
const REST_MIN: u64 = SECOND / 5;

/// One look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    at: u64,
    tally: Tally,
    own: Vec<u64>,
    server: Sample,
    rss: Option<u64>,
}

/// The thread that looks.
#[derive(Debug)]
pub struct Watcher {
    begin: Begin,
    looks: Arc<Mutex<Vec<Look>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watcher {
    pub fn start(control: Arc<Control>, watch: Watch) -> std::io::Result<Self> {
        let (looks, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, stopped) = (looks.clone(), stop.clone());
        let begin = Begin::now();
        let body = move || {
            let look = |at: u64| {
                let rss = watch.pid.and_then(resident);
                Look { at, tally: control.tally(), own: control.cpu(), server: watch.sample_quietly(), rss }
            };
            let keep = |look: Look| into.lock().expect("no holder panics: it only pushes").push(look);
            keep(look(now()));
            let mut border = control.origin() + SECOND;
            while !stopped.load(Relaxed) {
                let at = now();
                if at < border {
                    std::thread::park_timeout(Duration::from_nanos(border - at));
                    continue;
                }
                keep(look(at));
                border += SECOND * ((at - border) / SECOND + 1);
            }
            keep(look(now()));
        };
        let thread = std::thread::Builder::new().name("watcher".into()).spawn(body)?;
        Ok(Self { begin, looks, stop, thread })
    }

    /// Takes a last look and gives all, and how it began.
    pub fn end(self) -> (Begin, Vec<Look>) {
        self.stop.store(true, Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
        let looks = std::mem::take(&mut *self.looks.lock().expect("no holder panics: it only pushes"));
        (self.begin, looks)
    }
}

/// All of a run.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub begin: Begin,
    pub origin: u64,
    /// What began when, by the names that progress is shown under.
    pub phases: Vec<(&'static str, u64)>,
    pub looks: Vec<Look>,
    pub seconds: Seconds,
}

impl Timeline {
    /// What the server says it is.
    pub fn server_version(&self) -> Option<&str> {
        self.looks.iter().find_map(|look| look.server.version.as_deref())
    }

    /// Columns of one length: `at` is where an interval ends, in seconds from the beginning; null is what was not seen. What the
    /// others of a run saw, stands beside it.
    pub fn json(&self, beside: &Self) -> Value {
        let since = |at: u64| round(at.saturating_sub(self.origin) as f64 / SECOND as f64);
        let last = self.looks.len().saturating_sub(1);
        let pairs = self.looks.windows(2).enumerate();
        // The rest of a second at the end, unless it is all there is.
        let long = |(i, pair): &(usize, &[Look])| pair[1].at - pair[0].at >= REST_MIN || (*i + 1 == last && last == 1);
        let rows: Vec<Row> = pairs.filter(long).map(|(_, pair)| self.row(&pair[0], &pair[1], beside)).collect();
        let column = |read: fn(&Row) -> Option<f64>| rows.iter().map(read).collect::<Vec<_>>();
        let times = |read: fn(&Row) -> &Counts| {
            let at = |q: f64| {
                let value = |row| quantile(read(row), q).map(|nanos| round(nanos as f64 / 1e3));
                rows.iter().map(value).collect::<Vec<_>>()
            };
            let count: Vec<u64> = rows.iter().map(|row| read(row).iter().map(|(_, n)| n).sum()).collect();
            json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0), "count": count})
        };
        let phases = self.phases.iter().map(|(name, at)| json!({"name": name, "from": since(*at)}));
        json!({
            "phases": phases.collect::<Vec<_>>(),
            "at": rows.iter().map(|row| since(row.at)).collect::<Vec<_>>(),
            "sent_per_second": column(|row| Some(row.sent)),
            "received_per_second": column(|row| Some(row.received)),
            "ready_per_second": column(|row| Some(row.ready)),
            "open": column(|row| Some(row.open)),
            "failed": column(|row| Some(row.failed)),
            "closed": column(|row| Some(row.closed)),
            "own_busy": column(|row| Some(row.own_busy)),
            "server_busy": column(|row| row.server_busy),
            "server_cores": column(|row| row.server_cores),
            "server_rss_bytes": column(|row| row.rss),
            "server_writes_per_message": column(|row| row.writes),
            "server_loop_lag_us": column(|row| row.loop_lag),
            "latency_us": times(|row| &row.latency),
            "lag_us": times(|row| &row.lag),
            "beside_us": times(|row| &row.beside),
        })
    }

    fn row(&self, before: &Look, after: &Look, beside: &Self) -> Row {
        let seconds = (after.at - before.at) as f64 / SECOND as f64;
        let (delta, spent) = (after.tally.since(&before.tally), spent(&before.server, &after.server));
        let has_server = after.rss.is_some();
        let own = before.own.iter().zip(&after.own).map(|(a, b)| b.saturating_sub(*a)).max().unwrap_or(0);
        // A look is taken at the border or a moment after it: the second that ended then is the one before.
        let index = (after.at.saturating_sub(self.origin) / SECOND).saturating_sub(1);
        let rest = after.at.saturating_sub(self.origin) / SECOND;
        let last = std::ptr::eq(after, self.looks.last().unwrap_or(after));
        let seen = if last { self.seconds.get(rest) } else { self.seconds.get(index) };
        let writes = spent.metrics.get("corecast_socket_writes_total");
        Row {
            at: after.at,
            sent: round(delta.sent as f64 / seconds),
            received: round(delta.received as f64 / seconds),
            ready: round(delta.ready as f64 / seconds),
            open: after.tally.open() as f64,
            failed: after.tally.failed as f64,
            closed: after.tally.closed as f64,
            own_busy: round(own as f64 / 1e9 / seconds),
            server_busy: has_server.then(|| round(spent.busiest as f64 / 1e9 / seconds)),
            server_cores: has_server.then(|| round(spent.nanos as f64 / 1e9 / seconds)),
            rss: after.rss.map(|bytes| bytes as f64),
            writes: writes.filter(|_| delta.received > 0).map(|n| round(n / delta.received as f64)),
            loop_lag: after.server.loop_lag_us,
            latency: seen.map(|second| second.latency.clone()).unwrap_or_default(),
            lag: seen.map(|second| second.lag.clone()).unwrap_or_default(),
            beside: beside.nearest(after.at).map(|second| second.latency.clone()).unwrap_or_default(),
        }
    }

    /// The second whose end is nearest to `at`: another crew's seconds begin when that did.
    fn nearest(&self, at: u64) -> Option<&Second> {
        let index = (at.saturating_sub(self.origin) + SECOND / 2) / SECOND;
        self.seconds.get(index.checked_sub(1)?)
    }
}

/// What lies between two looks.
#[derive(Debug)]
struct Row {
    at: u64,
    sent: f64,
    received: f64,
    ready: f64,
    open: f64,
    failed: f64,
    closed: f64,
    own_busy: f64,
    server_busy: Option<f64>,
    server_cores: Option<f64>,
    rss: Option<f64>,
    writes: Option<f64>,
    loop_lag: Option<f64>,
    latency: Counts,
    lag: Counts,
    beside: Counts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_one_length_and_a_second_stands_at_its_end() {
        let look = |at: u64, received| Look { at, tally: Tally { received, ..Tally::default() }, ..Look::default() };
        let mut seconds = Seconds::default();
        seconds.add([Second { index: 0, latency: vec![(2_000, 1)], lag: Vec::new() }]);
        seconds.add([Second { index: 2, latency: vec![(8_000, 1)], lag: Vec::new() }]);
        let origin = 5 * SECOND;
        let looks = vec![
            look(origin, 0),
            look(origin + SECOND, 10),
            look(origin + 2 * SECOND, 30),
            look(origin + 5 * SECOND / 2, 30),
        ];
        let line = Timeline { begin: Begin::default(), origin, phases: vec![("opening", origin)], looks, seconds };
        let mut others = Timeline { origin: origin - SECOND / 3, ..Timeline::default() };
        others.seconds.add([Second { index: 1, latency: vec![(5_000, 1)], lag: Vec::new() }]);
        let value = line.json(&others);
        assert_eq!(value["at"], json!([1.0, 2.0, 2.5]));
        assert_eq!(value["received_per_second"], json!([10.0, 20.0, 0.0]));
        assert_eq!(value["latency_us"]["p50"], json!([2.0, null, 8.0]));
        assert_eq!(value["beside_us"]["max"], json!([null, 5.0, null]));
        assert_eq!(value["server_busy"], json!([null, null, null]));
        assert_eq!(value["phases"][0]["from"], 0.0);
    }
}
