//! The course of `idle` and `connect`.

use crate::args;
use crate::distributed::remote_workers;
use crate::distributed::start_barrier;
use crate::engine::Pace;
use crate::engine::counters::Tally;
use crate::engine::workers::{Control, Crew, Ended, Manned};
use crate::measure::rate::{Arrivals, Rate, Schedule};
use crate::measure::server::{Memory, memory, spent};
use crate::net::Target;
use crate::protocols::{Dialect, Protocol};
use crate::report::{Report, Window, human};
use crate::runs::{self, Refusal, check_files, endings, shares, watch};
use crate::scenarios::idle::{Greet, Plan};
use serde_json::json;

fn dialect(protocol: Protocol) -> Dialect {
    Dialect { protocol, ..Dialect::default() }
}

/// What connections that only greet say, without tokens.
pub fn plan(url: &str, protocol: Protocol, channel: Option<String>, common: &args::Common) -> Result<Plan, Refusal> {
    let target = Target::speaking(protocol, url, &common.transport).map_err(Refusal)?;
    let channel = channel.filter(|_| protocol.has_channels());
    Ok(Plan { target, dialect: dialect(protocol), channel, own_channel: false, close: false, rate: None })
}

pub fn start(plan: &Plan, common: &args::Common, total: usize, arrivals: Arrivals) -> Result<Crew<Greet>, Refusal> {
    let (share, workers) = (common.share, usize::from(common.threads));
    let scene = |(worker, &(first, count)): (usize, &(usize, usize))| {
        // A storm at a rate is not slowed down by what is still on its way.
        let concurrency = if plan.rate.is_some() { usize::MAX } else { common.concurrency.div_ceil(workers) };
        let schedule = plan
            .rate
            .as_ref()
            .map(|rate| Schedule::of(rate, arrivals, share.part * workers + worker, share.of * workers));
        let pace = Pace { total: count, concurrency, schedule };
        (Greet::new(plan.clone(), first, count), pace)
    };
    let control = Control::since(workers, share.origin);
    runs::crew(control, share.split(total, workers).iter().enumerate().map(scene).collect(), common)
}

pub fn allow(crew: &Crew<Greet>, total: usize) {
    for (worker, (_, count)) in shares(total, crew.hands()).into_iter().enumerate() {
        crew.allow(worker, count);
    }
}

/// Opens connections step by step and reads the server's memory at each.
fn climb(args: &args::Idle, crew: &mut Crew<Greet>) -> Vec<(usize, Memory)> {
    let mut steps = args.steps.clone();
    steps.retain(|&step| step < args.connections);
    steps.sort_unstable();
    steps.push(args.connections);
    let mut seen = Vec::new();
    for step in steps {
        allow(crew, step);
        crew.wait(args.common.open_timeout, "opening", |t| (t.ready + t.failed) as usize >= step);
        let all_there = |tally: &Tally| (tally.ready - tally.closed) as usize == step;
        let Some(pid) = args.common.server_pid.filter(|_| all_there(&crew.tally())) else { continue };
        crew.wait(args.settle, "settling", |tally| !all_there(tally));
        if all_there(&crew.tally()) {
            seen.push((step, memory(pid)));
        }
    }
    seen
}

/// This process's part of an idle run.
pub fn idle_crew(args: &args::Idle) -> Result<Manned<Greet>, Refusal> {
    let totals = counts(&args.common, args.connections);
    check_files(totals.iter().sum())?;
    let protocol = if args.plain { Protocol::Plain } else { args.protocol };
    let channel = (protocol.has_channels() && !args.channel.is_empty()).then(|| args.channel.clone());
    let target = Target::speaking(protocol, &args.url, &args.common.transport).map_err(Refusal)?;
    let dialect = Dialect {
        tokens: runs::tokens(&args.identity)?,
        positioned: args.positioned,
        app: args.pusher.app(protocol, &args.url)?,
        ..dialect(protocol)
    };
    let plan = Plan { target, dialect, channel, own_channel: args.own_channel, close: false, rate: None };
    Ok((start(&plan, &args.common, args.connections, Arrivals::Even)?, totals))
}

/// Connections of each worker in this process.
fn counts(common: &args::Common, total: usize) -> Vec<usize> {
    common.share.split(total, usize::from(common.threads)).into_iter().map(|share| share.1).collect()
}

pub fn run_idle(args: &args::Idle) -> Result<u8, Refusal> {
    let (mut crew, _) = match remote_workers::hire(&args.common, args.connections, 0)? {
        Some(hired) => hired,
        None => idle_crew(args)?,
    };
    let watch = watch(&args.common);
    let first = watch.sample();
    let memory = climb(args, &mut crew);
    let opened = crew.tally();
    start_barrier::pass(args.common.gate.as_deref())?;
    let (sample, before) = (watch.sample(), crew.totals());
    let hold = if args.on_close { f64::INFINITY } else { args.hold };
    let all_gone = crew.wait(hold, "holding", |t| t.ready > 0 && t.closed == t.ready);
    let (after, last) = (crew.totals(), watch.sample());
    let window =
        Window { before, after, spent: spent(&sample, &last), has_server: watch.pid.is_some(), spin: args.common.spin };
    let whole = spent(&first, &last);
    let received = crew.tally().received;
    let ended = crew.finish()?;

    let mut report = Report::new("idle");
    report.set("connections", args.connections.into());
    report.count("open", opened.ready, "opened");
    endings(&mut report, &ended, false);
    slopes(&mut report, &memory);
    if (opened.ready as usize) < args.connections {
        report.void(format!("{} of {} connections were opened", opened.ready, args.connections));
    }
    report.number("held_seconds", window.seconds(), "held", "s");
    if window.has_server {
        let share = window.spent.nanos as f64 / 1e9 / window.seconds();
        report.set("server_busy", json!(share));
        report.row("server while holding", format!("{:.3} % of one core", share * 100.0));
    }
    report.count("pings", ended.harvest.count("pings"), "pings answered");
    for (code, n) in &ended.closes {
        let what = if *code == 1006 { "ended without a close frame".into() } else { format!("closed with {code}") };
        report.row(&what, format!("{n} connections"));
    }
    report.set("all_closed", all_gone.into());
    let closed: u64 = ended.closes.values().sum();
    if closed > 0 && !args.on_close && !all_gone {
        report.void(format!("{closed} connections were ended by the server"));
    }
    report.counters(&whole, received);
    remote_workers::tell(&mut report, &ended.together, None);
    Ok(report.finish(&args.common))
}

/// Memory at each count, and what a connection costs between the first and the last.
fn slopes(report: &mut Report, memory: &[(usize, Memory)]) {
    let entry = |(count, m): &(usize, Memory)| {
        json!({
            "connections": count, "rss": m.rss, "pss": m.pss, "private_dirty": m.private_dirty, "anonymous": m.anonymous,
        })
    };
    if memory.is_empty() {
        return;
    }
    report.set("memory", memory.iter().map(entry).collect::<Vec<_>>().into());
    for (count, m) in memory {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        report.row("server memory", format!("{:.1} MiB resident ({:.1} Pss) at {count}", mib(m.rss), mib(m.pss)));
    }
    let slope = |pair: &[(usize, Memory)], read: fn(&Memory) -> u64| {
        let [(a, first), (b, last)] = [&pair[0], &pair[pair.len() - 1]];
        (read(last) as f64 - read(first) as f64) / (b - a) as f64
    };
    // Where a table has just doubled, the slope of one step says more of the table than of a connection.
    for pair in memory.windows(2).filter(|_| memory.len() > 2) {
        let text = format!("{} bytes (Pss slope)", human(slope(pair, |m| m.pss)));
        report.row(&format!("from {} to {}", pair[0].0, pair[1].0), text);
    }
    if memory.len() > 1 {
        report.set("rss_per_connection", json!(slope(memory, |m| m.rss)));
        report.set("private_dirty_per_connection", json!(slope(memory, |m| m.private_dirty)));
        let anonymous = slope(memory, |m| m.anonymous);
        report.number(
            "anonymous_per_connection",
            anonymous,
            "heap and stacks per connection",
            "bytes (Anonymous slope)",
        );
        report.number("pss_per_connection", slope(memory, |m| m.pss), "memory per connection", "bytes (Pss slope)");
    }
}

/// Connections in all: a rate that ends says it by itself.
fn storm_total(args: &args::Connect) -> usize {
    args.rate.as_ref().and_then(Rate::arrivals).unwrap_or(args.total)
}

/// This process's part of a storm.
pub fn connect_crew(args: &args::Connect) -> Result<Manned<Greet>, Refusal> {
    let total = storm_total(args);
    let totals = counts(&args.common, total);
    if !args.close {
        check_files(totals.iter().sum())?;
    } else {
        check_files(args.common.concurrency)?;
    }
    let mut plan = plan(&args.url, args.protocol, args.channel.clone(), &args.common)?;
    (plan.close, plan.rate) = (args.close, args.rate.clone());
    plan.dialect.app = args.pusher.app(args.protocol, &args.url)?;
    Ok((start(&plan, &args.common, total, args.arrivals)?, totals))
}

pub fn run_connect(args: &args::Connect) -> Result<u8, Refusal> {
    let total = storm_total(args);
    let (mut crew, _) = match remote_workers::hire(&args.common, total, 0)? {
        Some(hired) => hired,
        None => connect_crew(args)?,
    };
    let watch = watch(&args.common);
    start_barrier::pass(args.common.gate.as_deref())?;
    let (sample, before) = (watch.sample(), crew.totals());
    allow(&crew, total);
    let slack = args.rate.as_ref().map_or(0.0, |rate| {
        rate.seconds().or(rate.fixed().map(|fixed| total as f64 / fixed)).unwrap_or(args.common.open_timeout)
    });
    let all = crew.wait(args.common.open_timeout + slack, "storm", |t| (t.ready + t.failed) as usize >= total);
    let (after, last) = (crew.totals(), watch.sample());
    let window =
        Window { before, after, spent: spent(&sample, &last), has_server: watch.pid.is_some(), spin: args.common.spin };
    let ended = crew.finish()?;
    Ok(storm_report(args, &window, &ended, all).finish(&args.common))
}

fn storm_report(args: &args::Connect, window: &Window, ended: &Ended<Greet>, all: bool) -> Report {
    let mut report = Report::new("connect");
    let tally = window.after.tally.since(&window.before.tally);
    report.set("total", (tally.ready + tally.failed).into());
    report.count("opened", tally.ready, "opened");
    report.count("failed", tally.failed, "failed");
    if ended.handshakes != [0; 2] {
        let [full, resumed] = ended.handshakes;
        report.count("handshakes_full", full, "full hand-shakes");
        report.count("handshakes_resumed", resumed, "sessions taken up again");
    }
    report.number("seconds", window.seconds(), "took", "s");
    report.number("per_second", tally.ready as f64 / window.seconds(), "connections per second", "");
    report.set("own_busy", json!(window.generator_busy()));
    report.row("generator", format!("{:.1} % busy", window.generator_busy() * 100.0));
    if window.has_server {
        let each = window.spent.nanos as f64 / tally.ready as f64;
        report.number("server_ns_per_connection", each, "server CPU per connection", "ns");
    }
    let from = if args.rate.is_some() { "from intended begin to" } else { "from connect to" };
    report.latency("upgraded_us", &format!("{from} upgrade"), &ended.harvest.histogram("upgraded"));
    report.latency("ready_us", &format!("{from} ready"), &ended.harvest.histogram("ready"));
    runs::steps(&mut report, args.rate.as_ref(), &ended.harvest, "connections");
    endings(&mut report, ended, true);
    remote_workers::tell(&mut report, &ended.together, None);
    if !all {
        report.void("not all connections were answered in time".into());
    }
    report
}
