//! `restart`: one process takes over from another, and nobody may notice more than the protocol allows.
//!
//! Plan: three things go on at once. Newcomers connect at a rate, each subscribes and leaves (`greet`); subscribers stay, come
//! back when they are closed and say where they were (`faithful`); a publisher for each process numbers what it publishes
//! (`courier`). The processes are started and ended by others meanwhile. At the end every gap is held against what was
//! acknowledged to the publishers.

use crate::args;
use crate::distributed::start_barrier;
use crate::engine::Pace;
use crate::engine::clock::now;
use crate::engine::workers::{Control, Crew, Ended, Phase};
use crate::measure::rate::{Arrivals, Rate};
use crate::report::Report;
use crate::runs::idle_runs;
use crate::runs::{self, Refusal, check_files, endings};
use crate::scenarios::idle::{self, Greet};
use crate::scenarios::reconnecting_subscriber::{self, Faithful};
use crate::scenarios::restart_publisher::{Courier, Log, Outcome};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Seconds in which the newcomers under way at the end may still be answered, and the last deliveries arrive.
const LAST_SECONDS: f64 = 5.0;
/// Newcomers that are under way at a time, at most; for the limit of open files.
const UNDER_WAY_MAX: usize = 4000;

pub fn run(args: &args::Restart) -> Result<u8, Refusal> {
    args.common.parts.refuse("restart runs in one process")?;
    check_files(args.subscribers + UNDER_WAY_MAX)?;
    let stay =
        idle_runs::plan(&args.url, crate::protocols::Protocol::Centrifuge, Some(args.channel.clone()), &args.common)?;
    let mut residents = residents(args, &stay)?;
    let arrive = idle::Plan { close: true, rate: Some(Rate::constant(args.newcomers)), ..stay };
    let total = (args.newcomers * args.duration) as usize;
    let mut newcomers = idle_runs::start(&arrive, &args.common, total, Arrivals::Even)?;
    start_barrier::pass(args.common.gate.as_deref())?;
    let stop = Arc::new(AtomicBool::new(false));
    let couriers = couriers(args, &stop)?;

    residents.set_phase(Phase::Measure);
    idle_runs::allow(&newcomers, total);
    let answered = |t: &crate::engine::counters::Tally| (t.ready + t.failed) as usize >= total;
    let all = newcomers.wait(args.duration + LAST_SECONDS, "newcomers", answered);
    stop.store(true, Relaxed);
    let join = |courier: JoinHandle<Log>| courier.join().map_err(|_| Refusal("a publisher panicked".into()));
    let logs = couriers.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
    runs::quiet(&mut residents);
    let standing = {
        let t = residents.tally();
        t.ready - t.closed
    };

    let mut report = Report::new("restart");
    report.set("seconds", args.duration.into());
    tell_newcomers(&mut report, &newcomers.finish()?, total, all);
    tell_publications(&mut report, &logs);
    let mut ended = residents.finish()?;
    ended.scenes.iter_mut().for_each(|scene| scene.end(now()));
    if (standing as usize) < args.subscribers {
        report.void(format!("{standing} of {} subscribers stood at the end", args.subscribers));
    }
    tell_residents(&mut report, &ended, &logs);
    Ok(report.finish(&args.common))
}

fn residents(args: &args::Restart, plan: &idle::Plan) -> Result<Crew<Faithful>, Refusal> {
    let total = args.subscribers;
    let scene = Faithful::new(plan.target.clone(), &args.channel, total, args.api.len());
    let pace = Pace { total, concurrency: args.common.concurrency, schedule: None };
    let mut crew = runs::crew_beside(Control::new(1), vec![(scene, pace)], &args.common)?;
    crew.allow(0, total);
    if !crew.wait(args.common.open_timeout, "opening", |t| t.ready as usize >= total) {
        let why = crew.finish()?.errors.into_keys().next().unwrap_or_else(|| "no answer".into());
        return Err(Refusal(format!("the subscribers cannot connect: {why}")));
    }
    Ok(crew)
}

fn couriers(args: &args::Restart, stop: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<Log>>, Refusal> {
    let key = match &args.key_env {
        Some(name) => Some(std::env::var(name).map_err(|_| Refusal(format!("--key-env: {name} is not set")))?),
        None => None,
    };
    let start = |(i, url): (usize, &String)| {
        Courier::start((i, url), (&args.channel, key.as_deref()), args.rate, stop).map_err(Refusal)
    };
    args.api.iter().enumerate().map(start).collect()
}

fn tell_newcomers(report: &mut Report, ended: &Ended<Greet>, total: usize, all: bool) {
    let failed: u64 = ended.errors.values().sum();
    report.count("newcomers", total as u64, "newcomers");
    report.count("newcomers_failed", failed, "of them failed");
    for scene in &ended.scenes {
        report.latency("newcomers_ready_us", "from intended begin to ready", &scene.ready);
    }
    endings(report, ended, true);
    report.set("newcomers_errors", json!(ended.errors));
    if !all {
        report.void("not all newcomers were answered in time".into());
    }
}

fn tell_publications(report: &mut Report, logs: &[Log]) {
    for (i, log) in logs.iter().enumerate() {
        let count = |is: fn(&Outcome) -> bool| log.iter().filter(|sent| is(&sent.outcome)).count();
        let acknowledged = count(|outcome| *outcome == Outcome::Acknowledged);
        let doubt = count(|outcome| *outcome == Outcome::Doubt);
        let refused = log.len() - acknowledged - doubt;
        let text = format!("{acknowledged} acknowledged, {refused} refused, {doubt} in doubt");
        report.row(&format!("publications at API {}", i + 1), text);
        let counts = json!({"acknowledged": acknowledged, "refused": refused, "in_doubt": doubt});
        report.set(&format!("publications_{}", i + 1), counts);
        let refusal = log.iter().find_map(|sent| match &sent.outcome {
            Outcome::Refused(text) => Some(text.clone()),
            _ => None,
        });
        refusal.into_iter().for_each(|text| report.row("first refusal", text));
        if acknowledged == 0 {
            report.void(format!("nothing was ever published at API {}", i + 1));
        }
    }
}

fn tell_residents(report: &mut Report, ended: &Ended<Faithful>, logs: &[Log]) {
    report.set("closes", json!(ended.closes));
    report.row("closes of subscribers, by code", format!("{:?}", ended.closes));
    for (why, n) in &ended.errors {
        report.void(format!("{n} subscribers were refused: {why}"));
    }
    let gaps = || ended.scenes.iter().flat_map(|scene| &scene.gaps);
    let told: u64 = gaps().filter(|gap| gap.told).map(|gap| reconnecting_subscriber::lost(gap, logs)).sum();
    let untold: u64 = gaps().filter(|gap| !gap.told).map(|gap| reconnecting_subscriber::lost(gap, logs)).sum();
    let lives = || ended.scenes.iter().flat_map(|scene| &scene.lives);
    let missing: u64 = lives().map(|life| reconnecting_subscriber::missing(life, logs)).sum();
    let sum = |read: fn(&reconnecting_subscriber::Findings) -> u64| {
        ended.scenes.iter().map(|s| read(&s.findings)).sum::<u64>()
    };
    report.count("deliveries", sum(|f| f.deliveries), "deliveries");
    report.count("came_back", sum(|f| f.recovered + f.not_recovered), "subscribers came back");
    report.count("recovered", sum(|f| f.recovered), "  of them answered recovered: true");
    report.count("not_recovered", sum(|f| f.not_recovered), "  of them answered recovered: false");
    report.count("missed_and_told", told, "publications between two connections, told as not recovered");
    report.count("seen_again", sum(|f| f.seen_again), "publications seen on both connections");
    report.count("unsubscribed", sum(|f| f.unsubscribed), "subscriptions ended by the server");
    for (key, n, what) in [
        ("lost", untold, "publications were skipped without a word"),
        ("missing", missing, "publications never came to subscribers that were connected"),
        ("twice", sum(|f| f.twice), "publications came twice or out of order on one connection"),
    ] {
        report.set(key, n.into());
        if n > 0 {
            report.void(format!("{n} {what}"));
        }
    }
    if ended.closes.contains_key(&1006) {
        report.void(format!("{} subscribers were cut without a close frame", ended.closes[&1006]));
    }
}
