//! `restart`: one process takes over from another, and clients are affected only as far as the protocol allows.
//!
//! Three loads run at once. New connections are opened at a rate, and each subscribes and disconnects; subscribers
//! stay, reconnect when they are closed and recover from their position; a publisher for each process numbers its
//! publications. The processes are started and ended elsewhere. At the end, every gap is compared with the
//! acknowledgments to the publishers.

use crate::reconnecting_subscriber::{Counts, ReconnectingSubscribers, lost, missing};
use crate::restart_publisher::{Log, Outcome, RestartPublisher};
use clap::Args as ClapArgs;
use corecast_load::RunError;
use corecast_load::args::message_options::variable;
use corecast_load::args::options::Common;
use corecast_load::engine::Opening;
use corecast_load::engine::clock::now;
use corecast_load::engine::connection::NO_CLOSE_FRAME;
use corecast_load::engine::control::{Control, Phase};
use corecast_load::engine::workers::{Finished, WorkerOptions, Workers};
use corecast_load::measure::rate::{Arrivals, Rate};
use corecast_load::net::Url;
use corecast_load::protocols::Protocol;
use corecast_load::report::{Failures, Report};
use corecast_load::runs::{check_open_files, idle_runs};
use corecast_load::scenarios::idle::{Idle, Plan};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// The seconds at the end for connections that are still opening and for the last deliveries.
const LAST_SECONDS: f64 = 5.0;
/// New connections at a time, at most; for the limit of open files.
const NEW_CONNECTIONS_MAX: usize = 4000;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// ws://HOST:PORT/PATH, which first one process and then the other serves
    url: String,
    /// New connections per second: connect, upgrade, connect command, subscribe, disconnect
    #[arg(long, default_value_t = 1000.0)]
    newcomers: f64,
    /// Subscribers that stay, reconnect when they are closed, and recover from their position
    #[arg(long, short = 'n', default_value_t = 200)]
    subscribers: usize,
    /// The API of a process: http://HOST:PORT/api, once for each; an address that does not answer is tried again
    #[arg(long, value_name = "URL", required = true)]
    api: Vec<String>,
    /// The environment variable with the API key
    #[arg(long, value_name = "VAR")]
    key_env: Option<String>,
    /// Publications per second at each
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// The channel, which needs history and allow_recovery
    #[arg(long, default_value = "load")]
    channel: String,
    /// Seconds of the whole run; the processes are started and ended elsewhere
    #[arg(long, default_value_t = 20.0)]
    duration: f64,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: &Args) -> Result<u8, RunError> {
    args.common.processes.reject("restart runs in one process")?;
    check_open_files(args.subscribers + NEW_CONNECTIONS_MAX)?;
    let plan = idle_runs::plan(
        std::slice::from_ref(&args.url),
        Protocol::Centrifuge,
        Some(args.channel.clone()),
        &args.common,
    )?;
    let mut subscribers = start_subscribers(args, &plan)?;
    let plan = Plan { close: true, rate: Some(Rate::constant(args.newcomers)), ..plan };
    let total = (args.newcomers * args.duration) as usize;
    let (mut newcomers, _) = idle_runs::start(&plan, &args.common, total, Arrivals::Even)?;
    let stop = Arc::new(AtomicBool::new(false));
    let publishers = start_publishers(args, &stop)?;

    subscribers.set_phase(Phase::Measure);
    idle_runs::allow(&mut newcomers, total);
    let is_done = |counters: &corecast_load::engine::counters::Counters| counters.settled() >= total;
    let all = newcomers.wait(args.duration + LAST_SECONDS, "newcomers", is_done);
    stop.store(true, Relaxed);
    let join = |publisher: JoinHandle<Log>| publisher.join().map_err(|_| RunError("a publisher panicked".into()));
    let logs = publishers.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
    subscribers.wait_for_silence("last deliveries", true);
    let counters = subscribers.counters();

    let mut report = Report::new("restart");
    report.set("seconds", args.duration);
    report_newcomers(&mut report, &newcomers.finish()?, total, all);
    report_publications(&mut report, &logs);
    let mut finished = subscribers.finish()?;
    finished.scenarios.iter_mut().for_each(|scenario| scenario.end_all(now()));
    let open = counters.ready - counters.closed;
    if (open as usize) < args.subscribers {
        report.void(format!("{open} of {} subscribers were connected at the end", args.subscribers));
    }
    report_subscribers(&mut report, &finished, &logs);
    Ok(report.finish(args.common.json, &args.common.files))
}

fn start_subscribers(args: &Args, plan: &Plan) -> Result<Workers<ReconnectingSubscribers>, RunError> {
    let total = args.subscribers;
    let scenario = ReconnectingSubscribers::new(plan.targets[0].clone(), &args.channel, total, args.api.len());
    let opening = Opening { total, concurrency: args.common.concurrency, schedule: None };
    let options = WorkerOptions::background(&args.common);
    let mut workers = Workers::start(Control::new(1, None), vec![(scenario, opening)], &options)?;
    workers.allow(0, total);
    if !workers.wait(args.common.open_timeout, "opening", |counters| counters.ready as usize >= total) {
        let errors = workers.finish()?.connections.errors;
        let reason = errors.into_keys().next().unwrap_or_else(|| "no reply".into());
        return Err(RunError(format!("the subscribers cannot connect: {reason}")));
    }
    Ok(workers)
}

fn start_publishers(args: &Args, stop: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<Log>>, RunError> {
    let key = args.key_env.as_ref().map(|name| variable("--key-env", name)).transpose()?;
    let start = |(number, url): (usize, &String)| {
        let (url, key, channel) = (Url::parse(url, "http://")?, key.clone(), args.channel.clone());
        Ok(RestartPublisher { url, key, channel, number, rate: args.rate, stop: stop.clone() }.start())
    };
    args.api.iter().enumerate().map(start).collect()
}

fn report_newcomers(report: &mut Report, finished: &Finished<Idle>, total: usize, all: bool) {
    let errors = &finished.connections.errors;
    report.count("newcomers", total as u64, "new connections");
    report.count("newcomers_failed", errors.values().sum(), "failed new connections");
    report.latency("newcomers_ready_us", "from intended connect to ready", &finished.connections.opening.ready);
    report.connections(finished, Failures::None);
    report.set("newcomers_errors", json!(errors));
    if !all {
        report.void("not all new connections were answered in time");
    }
}

fn report_publications(report: &mut Report, logs: &[Log]) {
    for (log, number) in logs.iter().zip(1..) {
        let count = |is: fn(&Outcome) -> bool| log.iter().filter(|sent| is(&sent.outcome)).count();
        let acknowledged = count(|outcome| *outcome == Outcome::Acknowledged);
        let in_doubt = count(|outcome| *outcome == Outcome::InDoubt);
        let rejected = log.len() - acknowledged - in_doubt;
        let text = format!("{acknowledged} acknowledged, {rejected} rejected, {in_doubt} in doubt");
        report.row(&format!("publications at API {number}"), text);
        let counts = json!({"acknowledged": acknowledged, "refused": rejected, "in_doubt": in_doubt});
        report.set(&format!("publications_{number}"), counts);
        let first = log.iter().find_map(|sent| match &sent.outcome {
            Outcome::Rejected(text) => Some(text),
            _ => None,
        });
        first.into_iter().for_each(|text| report.row("first rejection", text));
        if acknowledged == 0 {
            report.void(format!("no publication was acknowledged at API {number}"));
        }
    }
}

fn report_subscribers(report: &mut Report, finished: &Finished<ReconnectingSubscribers>, logs: &[Log]) {
    let closes = &finished.connections.closes;
    report.set("closes", json!(closes));
    report.row("closes of subscribers, by code", format!("{closes:?}"));
    for (reason, n) in &finished.connections.errors {
        report.void(format!("{n} subscribers were rejected: {reason}"));
    }
    let scenarios = &finished.scenarios;
    let gaps = |announced| scenarios.iter().flat_map(|s| &s.gaps).filter(move |gap| gap.announced == announced);
    let missed = |announced| gaps(announced).map(|gap| lost(gap, logs)).sum::<u64>();
    let missing: u64 = scenarios.iter().flat_map(|s| &s.sessions).map(|session| missing(session, logs)).sum();
    let sum = |read: fn(&Counts) -> u64| scenarios.iter().map(|s| read(&s.counts)).sum::<u64>();
    report.count("deliveries", sum(|c| c.deliveries), "deliveries");
    report.count("came_back", sum(|c| c.recovered + c.not_recovered), "reconnects of subscribers");
    report.count("recovered", sum(|c| c.recovered), "  replies with recovered: true");
    report.count("not_recovered", sum(|c| c.not_recovered), "  replies with recovered: false");
    report.count("missed_and_told", missed(true), "publications between connections, announced as not recovered");
    report.count("seen_again", sum(|c| c.seen_again), "publications delivered on both connections");
    report.count("unsubscribed", sum(|c| c.unsubscribed), "subscriptions ended by the server");
    report.fault("lost", missed(false), "publications were lost without notice");
    report.fault("missing", missing, "publications were not delivered to connected subscribers");
    report.fault("twice", sum(|c| c.twice), "publications were duplicated or out of order on one connection");
    if let Some(n) = closes.get(&NO_CLOSE_FRAME) {
        report.void(format!("{n} subscribers were closed without a close frame"));
    }
}
