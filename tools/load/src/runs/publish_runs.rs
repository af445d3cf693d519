//! The subcommands `storm` and `publish`: a load, and background subscribers that it must not disturb.
//!
//! The background subscribers connect and are timed without the load, then the load is on, then both end and are checked. What the
//! server spends on the background alone is subtracted, so that the cost per client or publication is that of the load.

use super::{check_open_files, measure, start_workers, watch};
use crate::args::message_options::variable;
use crate::args::options::Common;
use crate::args::share::shares;
use crate::distributed::start_barrier;
use crate::engine::Opening;
use crate::engine::clock::now;
use crate::engine::control::{Control, Phase};
use crate::engine::workers::{Finished, WorkerOptions, Workers};
use crate::measure::server::{Watch, spent};
use crate::net::{Target, Url, http};
use crate::protocols::{Messages, Position, Protocol};
use crate::report::{Failures, Report, SERVER_BUSY_MIN, Window, figures::human};
use crate::scenarios::api_publisher::{self, ApiPublisher, Offsets};
use crate::scenarios::background_fanout::BackgroundFanout;
use crate::scenarios::storm::{self, Storm};
use crate::scenarios::storm_setup::StormSetup;
use crate::{RunError, args};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The nanoseconds per second that a server spends on the background alone, by thread name.
type BackgroundCost = BTreeMap<String, f64>;

/// Times the background subscribers without the load, then lets the load begin.
fn run_background(background: &mut Option<BackgroundFanout>, seconds: f64, common: &Common) -> BackgroundCost {
    let Some(background) = background else { return BackgroundCost::new() };
    let watch = Watch { pid: common.server_pid, metrics: None };
    let (sample, begun) = (watch.sample(), now());
    background.run_alone(seconds);
    let elapsed = (now() - begun) as f64 / 1e9;
    let spent = spent(&sample, &watch.sample());
    background.begin_load();
    spent.by_name.into_iter().map(|(name, nanos)| (name, nanos as f64 / elapsed)).collect()
}

/// The server's cost of one `unit` without that of the background, by thread name.
fn report_costs(report: &mut Report, window: &Window, background: &BackgroundCost, unit: &str) {
    let done = window.counters().received as f64;
    if !window.has_server || done == 0.0 {
        return;
    }
    let mut each = BTreeMap::new();
    for (name, &nanos) in &window.server.by_name {
        let net = nanos as f64 - background.get(name).copied().unwrap_or(0.0) * window.seconds();
        let (cost, busy) = (net / done / 1e3, window.share(nanos) * 100.0);
        each.insert(name.clone(), cost);
        let text = format!("{} µs per {unit} ({busy:.1} % of a core busy)", human(cost));
        report.row(&format!("server, threads {name}"), text);
    }
    report.number("server_us_each", each.values().sum(), &format!("server CPU per {unit}"), "µs");
    report.set("server_us_by_thread", json!(each));
}

/// Reads the position of each channel, and publishes what the clients then miss.
fn prepare_channels(
    args: &args::Storm,
    target: &Target,
    messages: &Messages,
) -> Result<Vec<(String, Position)>, RunError> {
    let channels: Vec<String> = (0..args.channels).map(|i| format!("{}{i}", args.channel)).collect();
    // The clients and the background subscribers have lower numbers.
    let user = args.sockets + args.background.subscribers + 1;
    let (missed, data) = (usize::from(args.missed), "x".repeat(args.size.saturating_sub(2)));
    let scenario = StormSetup::new((target.clone(), messages.clone()), user, channels, missed, data);
    let opening = Opening { total: 1, concurrency: 1, schedule: None };
    let options = WorkerOptions::background(&args.common);
    let mut workers = Workers::start(Control::new(1, None), vec![(scenario, opening)], &options)?;
    let is_prepared = workers.open(&[1], args.common.open_timeout, "preparing");
    let mut finished = workers.finish()?;
    match finished.scenarios.pop() {
        Some(scenario) if is_prepared => Ok(scenario.positions),
        _ => {
            let reason = finished.connections.errors.into_keys().next().unwrap_or_else(|| "no reply".into());
            Err(RunError(format!("cannot prepare the channels: {reason}")))
        }
    }
}

pub fn run_storm(args: &args::Storm) -> Result<u8, RunError> {
    let common = &args.common;
    common.processes.reject("storm runs in one process")?;
    check_open_files(args.sockets + args.background.subscribers + 1)?;
    let threads = usize::from(common.threads);
    if args.sockets < threads {
        return Err(RunError("--sockets must be at least --threads".into()));
    }
    let target = Target::new(Protocol::Plain, &args.url, &common.transport)?;
    let messages = Messages { tokens: args.identity.tokens()?, positioned: true, ..Messages::default() };
    let channels = prepare_channels(args, &target, &messages)?;
    let plan = Arc::new(storm::Plan { target, messages, channels, missed: usize::from(args.missed) });
    let tokens = plan.messages.tokens.clone();
    let mut background = BackgroundFanout::start(&args.background, &args.url, tokens, common)?;
    let (clients, reconnects) = (shares(args.sockets, threads), shares(args.total, threads));
    let scenario = |(&(first, clients), &(_, reconnects)): (&(usize, usize), &(usize, usize))| {
        let total = clients + reconnects;
        let opening = Opening { total, concurrency: common.concurrency.div_ceil(threads), schedule: None };
        (Storm::new(plan.clone(), first, clients, total), opening)
    };
    let scenarios = clients.iter().zip(&reconnects).map(scenario).collect();
    let mut workers = Workers::start(Control::new(threads, None), scenarios, &WorkerOptions::observed(common)?)?;
    let first = watch(common).sample();
    let totals: Vec<usize> = clients.iter().map(|share| share.1).collect();
    let opened = workers.open(&totals, common.open_timeout, "opening");
    start_barrier::wait(common.gate.as_deref())?;
    let cost = run_background(&mut background, args.background.calm, common);
    let background_cpu = || background.as_ref().map_or(0, BackgroundFanout::cpu);
    let (window, done) = measure(&mut workers, common, &background_cpu, |workers| {
        workers.set_phase(Phase::Measure);
        for (worker, (clients, reconnects)) in clients.iter().zip(&reconnects).enumerate() {
            workers.allow(worker, clients.1 + reconnects.1);
        }
        let all = args.sockets + args.total;
        let is_done = |c: &crate::engine::counters::Counters| c.settled() >= all || c.closed > 0;
        opened && workers.wait(common.open_timeout, "storm", is_done)
    });

    let mut report = Report::new("storm");
    if let Some(background) = background {
        background.finish(&mut report)?;
    }
    let server = spent(&first, &watch(common).sample());
    let finished = workers.finish()?;
    report.connections(&finished, Failures::None);
    report.set("sockets", args.sockets);
    let reconnects = window.counters().received;
    report.count("reconnects", reconnects, "reconnects");
    report.row("each", format!("connected, subscribed, recovered {} publications: checked", args.missed));
    report.number("seconds_taken", window.seconds(), "took", "s");
    report.window(&window, "recoveries", true);
    report_costs(&mut report, &window, &cost, "reconnect");
    if window.server.busiest > 0 {
        let most = reconnects as f64 / (window.server.busiest as f64 / 1e9);
        report.number("per_second_of_a_full_core", most, "computed for a full core", "reconnects per second");
    }
    report.latency("recovered_us", "from connect to recovered", &finished.results.histogram("recovered"));
    report.set("pings", finished.results.count("pings"));
    report.set("server_metrics", json!(server.metrics));
    if !done {
        report.void("not all clients reconnected in time");
    }
    Ok(report.finish(common.json, &common.files))
}

fn api_plan(args: &args::Publish) -> Result<api_publisher::Plan, RunError> {
    let url = Url::parse(&args.url, "http://")?;
    let key = args.key_env.as_ref().map(|name| variable("--key-env", name)).transpose()?;
    let method = if args.batch > 1 { "batch" } else { "publish" };
    let path = format!("{}/{method}", url.path.trim_end_matches('/'));
    Ok(api_publisher::Plan {
        target: Target::without_upgrade(url.addr),
        head: http::post_head(&url.host, &path, key.as_deref()),
        channels: (0..args.channels).map(|i| format!("{}{i}", args.channel)).collect(),
        batch: usize::from(args.batch),
        parallel: args.parallel,
        data: format!("\"{}\"", "x".repeat(args.size as usize - 2)),
        rate: args.rate.rate.as_ref().map(|rate| rate.shared(usize::from(args.batch))),
        arrivals: args.rate.arrivals,
        workers: usize::from(args.common.threads),
    })
}

pub fn run_publish(args: &args::Publish) -> Result<u8, RunError> {
    let (common, rate) = (&args.common, args.rate.rate.as_ref());
    common.processes.reject("publish runs in one process")?;
    check_open_files(args.connections + args.background.subscribers + 1)?;
    let plan = Arc::new(api_plan(args)?);
    let tokens = args.identity.tokens()?;
    let mut background = match &args.beside {
        Some(url) => BackgroundFanout::start(&args.background, url, tokens, common)?,
        None => None,
    };
    let (mut workers, totals) = start_workers(common, args.connections, |worker, _, total| {
        let opening = Opening { total, concurrency: common.concurrency, schedule: None };
        (ApiPublisher::new(plan.clone(), worker, total), opening)
    })?;
    let opened = workers.open(&totals, common.open_timeout, "opening");
    let first = watch(common).sample();
    start_barrier::wait(common.gate.as_deref())?;
    let cost = run_background(&mut background, args.background.calm, common);
    workers.set_phase(Phase::Warmup);
    workers.wait(args.timing.warmup, "warm-up", |counters| counters.closed > 0);
    workers.set_phase(Phase::Measure);
    let background_cpu = || background.as_ref().map_or(0, BackgroundFanout::cpu);
    let (window, _) = measure(&mut workers, common, &background_cpu, |workers| {
        workers.wait(args.timing.measured(rate), "measured", |counters| counters.closed > 0)
    });
    workers.set_phase(Phase::Drain);
    workers.drain();

    let mut report = Report::new("publish");
    let in_background = background.map_or(Ok(0), |background| background.finish(&mut report))?;
    let server = spent(&first, &watch(common).sample());
    let counters = workers.counters();
    let finished = workers.finish()?;
    report.connections(&finished, Failures::None);
    if !opened {
        report.void("not all connections could be opened");
    }
    report.set("batch", args.batch);
    report.set("connections", args.connections);
    report.window(&window, "publications", false);
    if rate.is_some() {
        report.rate_kept(&window, finished.results.sent() * u64::from(args.batch), "publications");
    }
    report_costs(&mut report, &window, &cost, "publication");
    if rate.is_none() && window.has_server {
        report_cores(&mut report, &window);
    }
    report_responses(&mut report, args, &finished);
    report.fault("unanswered", counters.in_flight, "publications got no response");
    // The server must have counted the publications of this run and no others.
    let published = counters.received + in_background;
    if let Some(&counted) = server.metrics.get("corecast_publications_total").filter(|n| **n as u64 != published) {
        report.void(format!("the server counted {counted} publications, but {published} were acknowledged"));
    }
    report.set("server_metrics", json!(server.metrics));
    Ok(report.finish(common.json, &common.files))
}

/// A closed loop is a throughput only if a core was fully busy: the server's, or one that server and generator share.
fn report_cores(report: &mut Report, window: &Window) {
    let mut cores: BTreeMap<u32, u64> = window.server.by_core.clone();
    window.own.by_core.iter().for_each(|(core, nanos)| *cores.entry(*core).or_default() += nanos);
    let mut most = window.server_busy();
    for (core, &nanos) in &cores {
        let server = window.share(window.server.by_core.get(core).copied().unwrap_or(0)) * 100.0;
        let busy = window.share(nanos);
        report.row(&format!("core {core}"), format!("{:.1} % busy, {server:.1} % by the server", busy * 100.0));
        most = most.max(busy);
    }
    if most < SERVER_BUSY_MIN {
        report.void(format!("as a throughput: no core more than {:.1} % busy, below 97 %", most * 100.0));
    }
}

fn report_responses(report: &mut Report, args: &args::Publish, finished: &Finished<ApiPublisher>) {
    let (results, rate) = (&finished.results, args.rate.rate.as_ref());
    let mut offsets = vec![Offsets::default(); usize::from(args.channels)];
    for scenario in &finished.scenarios {
        offsets.iter_mut().zip(&scenario.offsets).for_each(|(sum, one)| *sum = sum.plus(*one));
    }
    let label = if rate.is_some() { "intended request to response" } else { "request to response" };
    report.latency("answer_us", label, &results.all_steps());
    report.steps(rate, results, "requests");
    let incomplete = offsets.iter().filter(|one| !one.are_complete()).count() as u64;
    let text = match offsets.iter().filter(|one| **one != Offsets::default()).count() as u64 {
        0 => "unknown: the channels have no history".into(),
        n => format!("different and without a gap in {} of {n} channels", n - incomplete),
    };
    report.row("offsets", text);
    report.fault("unsound", incomplete, "channels have duplicate offsets or gaps");
    report.fault("answered_by_error", results.count("rejected"), "publications were rejected with an error");
    report.first_error(results);
}
