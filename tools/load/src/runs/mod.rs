//! The course of each subcommand: workers made, phases moved, figures taken, report written.
//!
//! Counts are taken over the whole run, from silence to silence, so that they are exact; rates, processor time and latency
//! over the measured window.

pub mod certificate;
pub mod drain;
pub mod fanout_runs;
pub mod idle_runs;
pub mod publish_runs;
pub mod restart;
pub mod run_file;
pub mod samples;
pub mod search;
pub mod series;

use crate::args;
use crate::args::Common;
use crate::distributed::remote_workers;
use crate::distributed::remote_workers::Far;
use crate::distributed::start_barrier;
use crate::engine::clock::{SECOND, now};
use crate::engine::workers::{Control, Crew, Ended, Manned, Means, Phase};
use crate::engine::{Pace, Scene};
pub use crate::measure::rate_result::{kept, rate_value, steps};
use crate::measure::results::Harvest;
use crate::measure::server::{Spent, Watch, spent};
use crate::net::{Target, raise_files};
use crate::protocols::token::Tokens;
use crate::report::live::Mode;
use crate::report::{Report, Window};
use crate::scenarios::echo;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

/// Seconds in which what is under way at the end may still arrive, and after how many of silence none of it will.
const DRAIN_SECONDS: f64 = 10.0;
const SILENCE_SECONDS: f64 = 1.0;
/// How long tokens hold: longer than any run.
const TOKEN_SECONDS: u64 = 24 * 60 * 60;
/// Descriptors that are not connections: polls, wakers, timers, standard streams, /proc.
const FILES_SPARE: usize = 64;

/// What ended a run before it began: usage (exit code 2) or the system.
#[derive(Debug)]
pub struct Refusal(pub String);

impl<E: std::fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Splits `total` over the workers: (first, count) for each.
pub fn shares(total: usize, workers: usize) -> Vec<(usize, usize)> {
    let upto = |worker| total * worker / workers;
    (0..workers).map(|worker| (upto(worker), upto(worker + 1) - upto(worker))).collect()
}

/// What makes tokens, if connections bring any.
pub fn tokens(identity: &args::Identity) -> Result<Option<Arc<Tokens>>, Refusal> {
    let Some(name) = &identity.token_secret_env else { return Ok(None) };
    let secret = std::env::var(name).map_err(|_| Refusal(format!("--token-secret-env: {name} is not set")))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (user, info, expires_at) = (identity.user_bytes, identity.info_bytes, now + TOKEN_SECONDS);
    Ok(Some(Arc::new(Tokens::new(&secret, user, info, expires_at, identity.subscription_tokens))))
}

pub fn watch(common: &Common) -> Watch {
    Watch { pid: common.server_pid, metrics: common.server_metrics.clone() }
}

/// Refuses what the limit of open files cannot hold.
pub fn check_files(connections: usize) -> Result<(), Refusal> {
    let limit = raise_files();
    if connections + FILES_SPARE > limit {
        return Err(Refusal(format!(
            "{connections} connections need more open files than the hard limit of {limit} allows; raise it (ulimit -Hn)"
        )));
    }
    Ok(())
}

/// The crew that a run is about: it is watched.
pub fn crew<S: Scene + 'static>(
    control: Arc<Control>,
    scenes: Vec<(S, Pace)>,
    common: &Common,
) -> Result<Crew<S>, Refusal> {
    crew_on(cores(common), control, scenes, common)
}

/// The same on these cores, in turn.
pub fn crew_on<S: Scene + 'static>(
    cores: Vec<usize>,
    control: Arc<Control>,
    scenes: Vec<(S, Pace)>,
    common: &Common,
) -> Result<Crew<S>, Refusal> {
    common.files.check()?;
    start(cores, control, scenes, common, watched(common).filter(|_| common.share.is_whole()))
}

/// What is looked at every second.
fn watched(common: &Common) -> Option<Watch> {
    // Each look at the counters costs the server something: only a whole report is worth that.
    let metrics = common.server_metrics.clone().filter(|_| common.files.any());
    Some(Watch { pid: common.server_pid, metrics })
}

/// The crew of a run that other processes carry.
pub fn lead<S: Scene + 'static>(control: Arc<Control>, far: Far, common: &Common) -> Result<Crew<S>, Refusal> {
    common.files.check()?;
    let mode = Mode::choose(common.quiet, common.live);
    Ok(Crew::hire(control, far, &Means { mode, watch: watched(common), ..Means::default() })?)
}

/// A crew that is there besides.
pub fn crew_beside<S: Scene + 'static>(
    control: Arc<Control>,
    scenes: Vec<(S, Pace)>,
    common: &Common,
) -> Result<Crew<S>, Refusal> {
    start(cores(common), control, scenes, common, None)
}

/// The cores that were named, if any were.
fn cores(common: &Common) -> Vec<usize> {
    common.cores.as_ref().map_or_else(Vec::new, |list| list.0.clone())
}

fn start<S: Scene + 'static>(
    cores: Vec<usize>,
    control: Arc<Control>,
    scenes: Vec<(S, Pace)>,
    common: &Common,
    watch: Option<Watch>,
) -> Result<Crew<S>, Refusal> {
    let mode = Mode::choose(common.quiet, common.live);
    Ok(Crew::start(control, scenes, &Means { cores, spin: common.spin, mode, watch })?)
}

/// A run of traffic, ended.
pub struct Ran<S> {
    pub ended: Ended<S>,
    pub window: Option<Window>,
    /// Counters over the whole run, and what came in it.
    pub whole: Spent,
    pub received: u64,
    pub undrained: u64,
}

/// What other crews of ours took of the processors until now, in nanoseconds.
pub type Aside<'a> = &'a dyn Fn() -> u64;

/// Opens all connections, warms up, measures for so many seconds, drains; what goes on `aside` counts as the generator's. Where
/// some only count, it ends when nothing has come for a while, since what nobody follows is not known to be under way.
pub fn traffic<S: Scene + 'static>(
    mut crew: Crew<S>,
    totals: &[usize],
    common: &Common,
    (warmup, duration): (f64, f64),
    aside: Aside,
    some_count: bool,
) -> Result<Ran<S>, Refusal> {
    let watch = watch(common);
    let all = totals.iter().sum::<usize>() as u64;
    totals.iter().enumerate().for_each(|(worker, &total)| crew.allow(worker, total));
    crew.wait(common.open_timeout, "opening", |t| t.ready + t.failed >= all);
    let mut ran_window = None;
    let first = watch.sample();
    if crew.tally().ready == all {
        start_barrier::pass(common.gate.as_deref())?;
        // A server without a greeting may still be taking note of the last connections.
        sleep(Duration::from_millis(200));
        crew.set_phase(Phase::Warm);
        crew.wait(warmup, "warm-up", |t| t.closed > 0);
        crew.set_phase(Phase::Measure);
        let processes = Watch { metrics: None, ..watch.clone() };
        let all = |crew: &Crew<S>| {
            let mut totals = crew.totals();
            if let Some(first) = totals.cpu.first_mut() {
                *first += aside();
            }
            totals
        };
        let (sample, before) = (processes.sample(), all(&crew));
        crew.wait(duration, "measured", |t| t.closed > 0);
        let (after, last) = (all(&crew), processes.sample());
        let spent = spent(&sample, &last);
        ran_window = Some(Window { before, after, spent, has_server: common.server_pid.is_some(), spin: common.spin });
        crew.set_phase(Phase::Drain);
        drain(&mut crew);
        if some_count {
            quiet(&mut crew);
        }
    }
    let tally = crew.tally();
    let whole = spent(&first, &watch.sample());
    let ended = crew.finish()?;
    Ok(Ran { ended, window: ran_window, whole, received: tally.received, undrained: tally.in_flight })
}

/// Waits until nothing has come for a while.
pub fn quiet<S: Scene + 'static>(crew: &mut Crew<S>) {
    let (mut received, mut at) = (0, now());
    crew.wait(DRAIN_SECONDS, "last ones", |tally| {
        if tally.received != received {
            (received, at) = (tally.received, now());
        }
        (now() - at) as f64 > SILENCE_SECONDS * SECOND as f64
    });
}

pub fn drain<S: Scene + 'static>(crew: &mut Crew<S>) {
    // What a worker sends in the turn in which the phase changes is under way too.
    let control = crew.control.clone();
    crew.wait(DRAIN_SECONDS, "draining", |_| control.all_saw());
    let (mut received, mut at) = (0, now());
    crew.wait(DRAIN_SECONDS, "draining", |tally| {
        if tally.received != received {
            (received, at) = (tally.received, now());
        }
        tally.in_flight == 0 || (now() - at) as f64 > SILENCE_SECONDS * SECOND as f64
    });
}

/// What became of the connections of the crew that the run is about, and its course; whatever ended them before their time makes
/// the run void.
pub fn endings<S>(report: &mut Report, ended: &Ended<S>, open_wanted: bool) {
    faults(report, ended, open_wanted);
    report.openings(&ended.openings);
    report.lag(&ended.lag);
    report.timeline(ended.timeline.clone(), ended.peer);
}

/// Ends and errors alone, by kind.
pub fn faults<S>(report: &mut Report, ended: &Ended<S>, open_wanted: bool) {
    report.set("closes", serde_json::json!(ended.closes));
    report.set("errors", serde_json::json!(ended.errors));
    for (why, n) in &ended.errors {
        report.row("connections failed", format!("{n} × {why}"));
        report.void(format!("{n} connections failed: {why}"));
    }
    for (code, n) in ended.closes.iter().filter(|_| open_wanted) {
        let how = if *code == 1006 { "without a close frame".into() } else { format!("with code {code}") };
        report.row("connections closed", format!("{n} × {how}"));
        report.void(format!("{n} connections were ended by the server {how}"));
    }
}

pub fn common_report<S>(report: &mut Report, ran: &Ran<S>, unit: &str, closed_loop: bool) {
    endings(report, &ran.ended, true);
    match &ran.window {
        Some(window) => report.window(window, unit, closed_loop),
        None => report.void("not all connections could be opened, so nothing was measured".into()),
    }
    report.counters(&ran.whole, ran.received);
}

pub fn run_echo(args: &args::Echo) -> Result<u8, Refusal> {
    if args.common.transport.deflate.is_on() {
        return Err(Refusal("echo compares frames as they are: --deflate is for the other loads".into()));
    }
    let (crew, totals) = match remote_workers::hire(&args.common, args.connections, 0)? {
        Some(hired) => hired,
        None => echo_crew(args)?,
    };
    let duration = args.timing.measured(args.rate.as_ref());
    let ran = traffic(crew, &totals, &args.common, (args.timing.warmup, duration), &|| 0, false)?;
    Ok(echo_report(args, &ran).finish(&args.common))
}

/// This process's part of the run, and the connections of each worker.
pub fn echo_crew(args: &args::Echo) -> Result<Manned<echo::Echo>, Refusal> {
    let (share, threads) = (args.common.share, usize::from(args.common.threads));
    let shares = share.split(args.connections, threads);
    let totals: Vec<usize> = shares.iter().map(|share| share.1).collect();
    check_files(totals.iter().sum())?;
    let plan = echo::Plan {
        target: Target::parse(&args.url, &args.common.transport).map_err(Refusal)?,
        depth: usize::from(args.depth),
        size: args.size,
        opcode: if args.text { crate::net::frame::TEXT } else { crate::net::frame::BINARY },
        raw: args.raw_frames,
        rate: args.rate.clone(),
        arrivals: args.arrivals,
        workers: threads * share.of,
    };
    let scene = |(worker, &(first, count)): (usize, &(usize, usize))| {
        let pace = Pace { total: count, concurrency: args.common.concurrency, schedule: None };
        (echo::Echo::new(plan.clone(), share.part * threads + worker, first, count), pace)
    };
    let control = Control::since(threads, share.origin);
    Ok((crew(control, shares.iter().enumerate().map(scene).collect(), &args.common)?, totals))
}

fn echo_report(args: &args::Echo, ran: &Ran<echo::Echo>) -> Report {
    let mut report = Report::new("echo");
    report.set("connections", args.connections.into());
    report.set("size", args.size.into());
    match &args.rate {
        Some(rate) => report.set("rate", rate_value(rate)),
        None => report.set("depth", args.depth.into()),
    }
    common_report(&mut report, ran, "messages", args.rate.is_none());
    let harvest = &ran.ended.harvest;
    if let Some(window) = ran.window.as_ref().filter(|_| args.rate.is_some()) {
        kept(&mut report, window, harvest.sent(), "messages");
    }
    let wrong = harvest.count("wrong");
    let from = if args.rate.is_some() { "latency (from intended send)" } else { "latency" };
    report.latency("latency_us", from, &harvest.all_steps());
    steps(&mut report, args.rate.as_ref(), harvest, "messages");
    report.set("lost", (ran.undrained + wrong).into());
    if ran.undrained > 0 {
        report.void(format!("{} messages did not come back", ran.undrained));
    }
    if wrong > 0 {
        report.void(format!("{wrong} echoes were wrong"));
    }
    remote_workers::tell(&mut report, &ran.ended.together, None);
    report
}

/// What a fan-out counts that must not be.
pub const FAULTS: [(&str, &str); 7] = [
    ("lost", "deliveries were skipped (gaps)"),
    ("duplicates", "deliveries came twice"),
    ("reordered", "deliveries came out of order"),
    ("strange", "deliveries were none of ours"),
    ("disagreeing", "subscribers saw another order than the first of their channel"),
    ("held_back", "publications could not be sent: too many under way"),
    ("refused", "publications were answered by an error"),
];

/// Whatever was lost, doubled or swapped makes a run void; `missing` deliveries never came.
pub fn judge(report: &mut Report, missing: u64, harvest: &Harvest) {
    // What has not come to all cannot be in one order for all.
    let counted = |name| if name == "disagreeing" && missing > 0 { 0 } else { harvest.count(name) };
    let found = FAULTS.iter().map(|(name, what)| (*name, counted(*name), *what));
    for (key, n, what) in std::iter::once(("missing", missing, "deliveries never came")).chain(found) {
        report.set(key, n.into());
        if n > 0 {
            report.void(format!("{n} {what}"));
        }
    }
    if let Some(text) = harvest.texts.get("first error") {
        report.row("first error", text.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (total, workers) in [(10, 3), (2, 4), (1000, 1)] {
            let shares = shares(total, workers);
            assert_eq!(shares.len(), workers);
            let mut next = 0;
            for (first, count) in shares {
                assert_eq!(first, next);
                next += count;
            }
            assert_eq!(next, total);
        }
    }
}
