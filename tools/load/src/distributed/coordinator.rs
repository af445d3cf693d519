//! Starts a run that several processes or hosts carry, and reports what is known about them.

use crate::RunError;
use crate::args::options::{Common, Processes};
use crate::args::share::shares;
use crate::distributed::agent;
use crate::distributed::remote_workers::{ProcessStats, RemoteWorker, RemoteWorkers};
use crate::engine::Scenario;
use crate::engine::control::Control;
use crate::engine::workers::{StartedWorkers, WorkerOptions, Workers};
use crate::report::{Report, figures::human};
use serde_json::json;

/// The workers of a run that several processes carry, and the connections of each: `extra` connections go to the first. `None`:
/// this process carries the run alone, or is one of the worker processes.
pub fn lead<S: Scenario + 'static>(
    common: &Common,
    total: usize,
    extra: usize,
) -> Result<Option<StartedWorkers<S>>, RunError> {
    if !common.share.is_whole() || !common.processes.is_on() {
        return Ok(None);
    }
    let workers = start_processes(&common.processes)?;
    let mut totals: Vec<usize> = shares(total, workers.len()).into_iter().map(|share| share.1).collect();
    totals[0] += extra;
    let control = Control::new(workers.len(), None);
    let remote = RemoteWorkers::start(workers, &control)?;
    Ok(Some((Workers::lead(control, remote, &WorkerOptions::observed(common)?)?, totals)))
}

fn start_processes(options: &Processes) -> Result<Vec<RemoteWorker>, RunError> {
    let each = usize::from(options.processes.unwrap_or(1));
    let Some(name) = &options.hosts_key_env else { return (0..each).map(RemoteWorker::spawn).collect() };
    let key = agent::key("--hosts-key-env", name)?;
    let places = options.hosts.iter().flat_map(|host| (0..each).map(move |number| (host, number)));
    places.map(|(host, number)| agent::connect(host, number, &key)).collect()
}

/// Reports the processes, how fast each opened its connections, and the precision of their clocks. A latency between hosts must be
/// ten times as long as the clocks may be wrong, or the run is void as latency.
pub fn report_processes(report: &mut Report, stats: &ProcessStats, latency_p50: Option<f64>) {
    if !stats.lost.is_empty() {
        report.void(format!("{} was lost, and with it what it counted", stats.lost.join(", ")));
    }
    if stats.processes.is_empty() {
        return;
    }
    let rate = |opened: u64, nanos: u64| opened as f64 / (nanos as f64 / 1e9);
    let rates = stats.processes.iter().filter(|(_, opened, nanos)| *opened > 0 && *nanos > 0);
    let (least, most) = rates.fold((f64::INFINITY, 0.0f64), |(least, most), &(_, opened, nanos)| {
        (least.min(rate(opened, nanos)), most.max(rate(opened, nanos)))
    });
    let entries = stats.processes.iter().map(
        |(name, opened, nanos)| json!({"name": name, "opened": opened, "opened_per_second": rate(*opened, *nanos)}),
    );
    report.set("parts", entries.collect::<Vec<_>>());
    let n = stats.processes.len();
    report.row("processes", format!("{n}, each opened {} to {} connections per second", human(least), human(most)));
    let Some((uncertainty, drift)) = stats.clock else { return };
    let micros = |nanos: u64| nanos as f64 / 1e3;
    report.set("clock_uncertain_us", micros(uncertainty));
    let (text, drift) = (human(micros(uncertainty)), human(micros(drift)));
    report.row("clocks", format!("uncertainty of a latency between hosts: {text} µs; clock drift: {drift} µs"));
    if let Some(p50) = latency_p50.filter(|p50| micros(uncertainty) > p50 / 10.0) {
        report.void(format!(
            "as latency: the clocks of the hosts may differ by {text} µs, more than a tenth of the p50 of {} µs",
            human(p50)
        ));
    }
}
