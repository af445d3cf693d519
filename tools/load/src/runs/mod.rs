//! One function per subcommand: start the workers, set the phases, take the figures, write the report.
//!
//! Counts are taken over the whole run, from silence to silence, so that they are exact; rates, processor time and latency over the
//! measured time.

pub mod certificate;
pub mod echo_runs;
pub mod fanout_runs;
pub mod idle_runs;
pub mod node_report;
pub mod publish_runs;
pub mod samples;
pub mod search;
pub mod series;

use crate::RunError;
use crate::args::options::Common;
use crate::distributed::start_barrier;
use crate::engine::control::{Control, Phase};
use crate::engine::counters::Counters;
use crate::engine::workers::{Finished, StartedWorkers, WorkerOptions, Workers};
use crate::engine::{Opening, Scenario};
use crate::measure::results::Results;
use crate::measure::server::{Spent, Watch, spent};
use crate::net::raise_open_files;
use crate::report::{Failures, Report, Window};
use std::thread::sleep;
use std::time::Duration;

/// Descriptors that are not connections: polls, wakers, timers, standard streams, /proc.
const OTHER_FILES: usize = 64;

/// A load beside a fan-out, on workers of its own.
pub trait BackgroundLoad {
    /// Nanoseconds that it took of the processors so far.
    fn cpu(&self) -> u64;
    /// Ends it and reports what happened.
    fn finish(self: Box<Self>, report: &mut Report) -> Result<(), RunError>;
}

/// The server of a run.
pub fn watch(common: &Common) -> Watch {
    Watch { pid: common.server_pid, metrics: common.server_metrics.clone() }
}

/// Rejects more connections than the limit of open files permits.
pub fn check_open_files(connections: usize) -> Result<(), RunError> {
    let limit = raise_open_files();
    if connections + OTHER_FILES > limit {
        return Err(RunError(format!(
            "{connections} connections need more open files than the hard limit of {limit}: share them between processes \
             (--processes), or raise it (ulimit -Hn)"
        )));
    }
    Ok(())
}

/// Starts the workers of this process for its share of `total` connections; `scenario` gets the number of the worker, the number of
/// its first connection, and their count.
pub fn start_workers<S: Scenario + 'static>(
    common: &Common,
    total: usize,
    scenario: impl Fn(usize, usize, usize) -> (S, Opening),
) -> Result<StartedWorkers<S>, RunError> {
    let shares = common.split(total);
    let scenarios = shares.iter().enumerate().map(|(worker, &(first, count))| scenario(worker, first, count));
    let control = Control::new(shares.len(), common.share.origin);
    let workers = Workers::start(control, scenarios.collect(), &WorkerOptions::observed(common)?)?;
    Ok((workers, shares.iter().map(|share| share.1).collect()))
}

/// What background workers took of the processors so far, in nanoseconds.
pub type BackgroundCpu<'a> = &'a dyn Fn() -> u64;

/// Measures while `body` runs. Background workers count as part of the generator.
pub fn measure<S: Scenario + 'static, R>(
    workers: &mut Workers<S>,
    common: &Common,
    background_cpu: BackgroundCpu,
    body: impl FnOnce(&mut Workers<S>) -> R,
) -> (Window, R) {
    let server = Watch { pid: common.server_pid, metrics: None };
    let own = Watch { pid: Some(std::process::id()), metrics: None };
    let look = |workers: &mut Workers<S>| {
        let mut totals = workers.totals();
        if let Some(first) = totals.cpu.first_mut() {
            // Background workers are on the core of the first worker.
            *first += background_cpu();
        }
        (totals, server.sample(), own.sample())
    };
    let (before, server_before, own_before) = look(workers);
    let result = body(workers);
    let (after, server_after, own_after) = look(workers);
    let (server, own) = (spent(&server_before, &server_after), spent(&own_before, &own_after));
    let (has_server, spin) = (common.server_pid.is_some(), common.spin);
    (Window { before, after, server, own, has_server, spin }, result)
}

/// A finished run of traffic.
pub struct Traffic<S> {
    pub finished: Finished<S>,
    /// `None`: not all connections could be opened.
    pub window: Option<Window>,
    /// What the server spent in the whole run, and what was received and is missing in it.
    pub server: Spent,
    pub received: u64,
    pub missing: u64,
    /// Clients that were not connected and subscribed again at the end.
    pub away: u64,
}

/// How the traffic of a run goes.
pub struct Course {
    /// Seconds of warm-up and measurement.
    pub seconds: (f64, f64),
    /// It ends when nothing has been received for a while, because messages to sinks are not counted as in flight.
    pub has_sinks: bool,
    /// Closed clients reconnect; otherwise the first close ends the load.
    pub reconnects: bool,
}

/// Opens all connections, warms up, measures, waits for clients that reconnect, and drains.
pub fn run_traffic<S: Scenario + 'static>(
    (mut workers, totals): (Workers<S>, Vec<usize>),
    common: &Common,
    course: &Course,
    background_cpu: BackgroundCpu,
) -> Result<Traffic<S>, RunError> {
    let watch = watch(common);
    let opened = workers.open(&totals, common.open_timeout, "opening");
    let first = watch.sample();
    let mut window = None;
    if opened {
        start_barrier::wait(common.gate.as_deref())?;
        // A server without a setup may still be handling the last connections.
        sleep(Duration::from_millis(200));
        workers.set_phase(Phase::Warmup);
        let ends = |counters: &Counters| counters.closed > 0 && !course.reconnects;
        workers.wait(course.seconds.0, "warm-up", ends);
        workers.set_phase(Phase::Measure);
        let measured =
            measure(&mut workers, common, background_cpu, |workers| workers.wait(course.seconds.1, "measured", ends));
        window = Some(measured.0);
        workers.set_phase(Phase::Drain);
        if course.reconnects {
            workers.wait(common.open_timeout, "recovering", |counters| counters.away == 0);
        }
        workers.drain();
        if course.has_sinks {
            workers.wait_for_silence("sinks", true);
        }
    }
    let counters = workers.counters();
    let server = spent(&first, &watch.sample());
    let (received, missing, away) = (counters.received, counters.in_flight, counters.away);
    Ok(Traffic { finished: workers.finish()?, window, server, received, missing, away })
}

/// The part of the report that all runs of traffic share.
pub fn report_traffic<S>(report: &mut Report, traffic: &Traffic<S>, unit: &str, closed_loop: bool, allowed: Failures) {
    report.connections(&traffic.finished, allowed);
    match &traffic.window {
        Some(window) => report.window(window, unit, closed_loop),
        None => report.void("not all connections could be opened, so nothing was measured"),
    }
    report.server_counters(&traffic.server, traffic.received);
}

/// The faults of a fan-out: names in results and report, and their texts.
pub const DELIVERY_FAULTS: [(&str, &str); 7] = [
    ("lost", "deliveries were skipped (gaps)"),
    ("duplicates", "deliveries were duplicates"),
    ("reordered", "deliveries were out of order"),
    ("strange", "deliveries are not of this run"),
    ("disagreeing", "subscribers saw another order than the first one of their channel"),
    ("held_back", "publications could not be sent: too many in flight"),
    ("refused", "publications were rejected with an error"),
];

/// A lost, duplicated or reordered delivery makes a run void; `missing` deliveries were not received.
pub fn report_delivery_faults(report: &mut Report, missing: u64, results: &Results) {
    report.fault("missing", missing, "deliveries never came");
    for (name, what) in DELIVERY_FAULTS {
        // With missing deliveries the orders cannot agree.
        let n = if name == "disagreeing" && missing > 0 { 0 } else { results.count(name) };
        report.fault(name, n, what);
    }
    report.first_error(results);
}
