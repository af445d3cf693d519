//! The subcommands `idle` and `connect`.

use super::{check_open_files, measure, start_workers, watch};
use crate::args::share::shares;
use crate::distributed::coordinator::{lead, report_processes};
use crate::distributed::start_barrier;
use crate::engine::Opening;
use crate::engine::connection::ending_text;
use crate::engine::workers::{StartedWorkers, Workers};
use crate::measure::rate::{Arrivals, Rate, Schedule};
use crate::measure::server::{Memory, memory, spent};
use crate::net::targets;
use crate::protocols::{Messages, Protocol};
use crate::report::{Failures, Report, figures::human};
use crate::scenarios::idle::{Idle, Plan};
use crate::{RunError, args};
use serde_json::json;

/// Connections that are set up for a protocol, with a subscription if it has channels.
pub fn plan(
    urls: &[String],
    protocol: Protocol,
    channel: Option<String>,
    common: &args::options::Common,
) -> Result<Plan, RunError> {
    let targets = targets(protocol, urls, &common.transport)?;
    let channel = channel.filter(|name| protocol.has_channels() && !name.is_empty());
    let messages = Messages { protocol, ..Messages::default() };
    Ok(Plan { targets, messages, channel, own_channel: false, close: false, rate: None })
}

/// Starts the workers for `total` connections, and returns the number of connections of each.
pub fn start(
    plan: &Plan,
    common: &args::options::Common,
    total: usize,
    arrivals: Arrivals,
) -> Result<StartedWorkers<Idle>, RunError> {
    let (share, workers) = (common.share, usize::from(common.threads));
    start_workers(common, total, |worker, first, count| {
        // A rate is not slowed down by connections that are still opening.
        let concurrency = if plan.rate.is_some() { usize::MAX } else { common.concurrency.div_ceil(workers) };
        let (number, of) = (share.part * workers + worker, share.of * workers);
        let schedule = plan.rate.as_ref().map(|rate| Schedule::new(rate, arrivals, number, of));
        (Idle::new(plan.clone(), first, count), Opening { total: count, concurrency, schedule })
    })
}

/// Lets the workers begin connections until there are `total`.
pub fn allow(workers: &mut Workers<Idle>, total: usize) {
    for (worker, (_, count)) in shares(total, workers.count()).into_iter().enumerate() {
        workers.allow(worker, count);
    }
}

/// Opens connections step by step and reads the server's memory at each step.
fn open_in_steps(args: &args::Idle, workers: &mut Workers<Idle>) -> Vec<(usize, Memory)> {
    let mut steps = args.steps.clone();
    steps.retain(|&step| step < args.connections);
    steps.sort_unstable();
    steps.push(args.connections);
    let mut found = Vec::new();
    for step in steps {
        allow(workers, step);
        workers.wait(args.common.open_timeout, "opening", |counters| counters.settled() >= step);
        let Some(pid) = args.common.server_pid.filter(|_| workers.counters().open() as usize == step) else { continue };
        if !workers.wait(args.memory_delay, "settling", |counters| counters.open() as usize != step) {
            found.push((step, memory(pid)));
        }
    }
    found
}

/// The workers of this process for its part of an idle run, or those that carry it.
pub fn idle_workers(args: &args::Idle) -> Result<StartedWorkers<Idle>, RunError> {
    if let Some(remote) = lead(&args.common, args.connections, 0)? {
        return Ok(remote);
    }
    check_open_files(args.common.share.split(args.connections, 1)[0].1)?;
    let protocol = if args.plain { Protocol::Plain } else { args.protocol };
    let urls = args.nodes.urls();
    let mut plan = plan(&urls, protocol, Some(args.channel.clone()), &args.common)?;
    plan.own_channel = args.own_channel;
    plan.messages.positioned = args.positioned;
    plan.messages.tokens = args.identity.tokens()?;
    plan.messages.app = args.pusher.app(protocol, &urls[0])?;
    start(&plan, &args.common, args.connections, Arrivals::Even)
}

pub fn run_idle(args: &args::Idle) -> Result<u8, RunError> {
    let (mut workers, _) = idle_workers(args)?;
    let watch = watch(&args.common);
    let first = watch.sample();
    let memory = open_in_steps(args, &mut workers);
    let opened = workers.counters().ready;
    start_barrier::wait(args.common.gate.as_deref())?;
    let hold = if args.on_close { f64::INFINITY } else { args.hold };
    let (window, all_closed) = measure(&mut workers, &args.common, &|| 0, |workers| {
        workers.wait(hold, "holding", |counters| counters.ready > 0 && counters.closed == counters.ready)
    });
    let server = spent(&first, &watch.sample());
    let received = workers.counters().received;
    let finished = workers.finish()?;

    let mut report = Report::new("idle");
    report.set("connections", args.connections);
    report.nodes(&args.nodes.urls());
    report.count("open", opened, "opened");
    report.connections(&finished, Failures::Closes);
    report_memory(&mut report, &memory);
    if (opened as usize) < args.connections {
        report.void(format!("{opened} of {} connections were opened", args.connections));
    }
    report.number("held_seconds", window.seconds(), "held", "s");
    if window.has_server {
        let share = window.share(window.server.nanos);
        report.set("server_busy", share);
        report.row("server while holding", format!("{:.3} % of one core", share * 100.0));
    }
    report.count("pings", finished.results.count("pings"), "pings answered");
    let closes = &finished.connections.closes;
    for (code, n) in closes {
        report.row(&ending_text(*code), format!("{n} connections"));
    }
    report.set("all_closed", all_closed);
    let closed: u64 = closes.values().sum();
    if closed > 0 && !args.on_close && !all_closed {
        report.void(format!("{closed} connections were ended by the server"));
    }
    report.server_counters(&server, received);
    report_processes(&mut report, &finished.processes, None);
    Ok(report.finish(args.common.json, &args.common.files))
}

/// The server's memory at each number of connections, and the memory per connection between the first and the last.
fn report_memory(report: &mut Report, memory: &[(usize, Memory)]) {
    let ([(first, a), ..], [.., (last, b)]) = (memory, memory) else { return };
    let entry = |(count, m): &(usize, Memory)| {
        json!({
            "connections": count, "rss": m.rss, "pss": m.pss, "private_dirty": m.private_dirty, "anonymous": m.anonymous,
        })
    };
    report.set("memory", memory.iter().map(entry).collect::<Vec<_>>());
    for (count, m) in memory {
        let [rss, pss] = [m.rss, m.pss].map(|bytes| bytes as f64 / f64::from(1 << 20));
        report.row("server memory", format!("{rss:.1} MiB resident ({pss:.1} Pss) at {count}"));
    }
    // If a table has just doubled, the slope of one step is about the table rather than about a connection.
    for pair in memory.windows(2).filter(|_| memory.len() > 2) {
        let slope = (pair[1].1.pss as f64 - pair[0].1.pss as f64) / (pair[1].0 - pair[0].0) as f64;
        report.row(&format!("from {} to {}", pair[0].0, pair[1].0), format!("{} bytes (Pss slope)", human(slope)));
    }
    if memory.len() > 1 {
        let slope = |a: u64, b: u64| (b as f64 - a as f64) / (last - first) as f64;
        report.set("rss_per_connection", slope(a.rss, b.rss));
        report.set("private_dirty_per_connection", slope(a.private_dirty, b.private_dirty));
        let (anonymous, pss) = (slope(a.anonymous, b.anonymous), slope(a.pss, b.pss));
        report.number(
            "anonymous_per_connection",
            anonymous,
            "heap and stacks per connection",
            "bytes (Anonymous slope)",
        );
        report.number("pss_per_connection", pss, "memory per connection", "bytes (Pss slope)");
    }
}

/// Connections in all: a rate with an end determines them.
fn connect_total(args: &args::Connect) -> usize {
    args.rate.rate.as_ref().and_then(Rate::arrivals).unwrap_or(args.total)
}

/// The workers of this process for its part of a `connect` run, or those that carry it.
pub fn connect_workers(args: &args::Connect) -> Result<StartedWorkers<Idle>, RunError> {
    let total = connect_total(args);
    if let Some(remote) = lead(&args.common, total, 0)? {
        return Ok(remote);
    }
    let here = args.common.share.split(total, 1)[0].1;
    check_open_files(if args.close { args.common.concurrency } else { here })?;
    let urls = args.nodes.urls();
    let mut plan = plan(&urls, args.protocol, args.channel.clone(), &args.common)?;
    (plan.close, plan.rate) = (args.close, args.rate.rate.clone());
    plan.messages.app = args.pusher.app(args.protocol, &urls[0])?;
    start(&plan, &args.common, total, args.rate.arrivals)
}

pub fn run_connect(args: &args::Connect) -> Result<u8, RunError> {
    let (total, rate) = (connect_total(args), args.rate.rate.as_ref());
    let (mut workers, _) = connect_workers(args)?;
    start_barrier::wait(args.common.gate.as_deref())?;
    let seconds = |rate: &Rate| rate.seconds().or(rate.fixed().map(|fixed| total as f64 / fixed));
    let scheduled = rate.map_or(0.0, |rate| seconds(rate).unwrap_or(args.common.open_timeout));
    let (window, all) = measure(&mut workers, &args.common, &|| 0, |workers| {
        allow(workers, total);
        let timeout = args.common.open_timeout + scheduled;
        workers.wait(timeout, "storm", |counters| counters.settled() >= total)
    });
    let finished = workers.finish()?;

    let mut report = Report::new("connect");
    let counters = window.counters();
    report.set("total", counters.settled());
    report.nodes(&args.nodes.urls());
    report.count("opened", counters.ready, "opened");
    report.count("failed", counters.failed, "failed");
    let [full, resumed] = finished.connections.handshakes;
    if full + resumed > 0 {
        report.count("handshakes_full", full, "full handshakes");
        report.count("handshakes_resumed", resumed, "resumed sessions");
    }
    report.number("seconds", window.seconds(), "took", "s");
    report.number("per_second", counters.ready as f64 / window.seconds(), "connections per second", "");
    report.set("own_busy", window.generator_busy());
    report.row("generator", format!("{:.1} % busy", window.generator_busy() * 100.0));
    if window.has_server {
        let each = window.server.nanos as f64 / counters.ready as f64;
        report.number("server_ns_per_connection", each, "server CPU per connection", "ns");
    }
    let from = if rate.is_some() { "from intended connect to" } else { "from connect to" };
    report.latency("upgraded_us", &format!("{from} upgrade"), &finished.connections.opening.upgraded);
    report.latency("ready_us", &format!("{from} ready"), &finished.connections.opening.ready);
    report.steps(rate, &finished.results, "connections");
    report.connections(&finished, Failures::None);
    report_processes(&mut report, &finished.processes, None);
    if !all {
        report.void("not all connections were answered in time");
    }
    Ok(report.finish(args.common.json, &args.common.files))
}
