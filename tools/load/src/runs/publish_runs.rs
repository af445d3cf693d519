//! The course of `storm` and `publish`: a load, and beside it subscribers who must not suffer from it.
//!
//! Plan: the others connect and are timed in peace, then the load is on, then both end and are checked. What the server spent
//! in peace is taken off what it spent meanwhile, so that a cost per client or publication is that of the load alone.

use crate::args::{self, Common};
use crate::distributed::start_barrier;
use crate::engine::clock::now;
use crate::engine::workers::{Control, Crew, Ended, Phase, Totals};
use crate::engine::{Pace, Scene};
use crate::measure::server::{Sample, Spent, Watch, spent};
use crate::net::{Place, Target};
use crate::protocols::Dialect;
use crate::report::{Report, Window, histogram, human};
use crate::runs::{self, Refusal, check_files, endings, shares};
use crate::scenarios::api_publisher::{self, Api, Places};
use crate::scenarios::background_fanout::Beside;
use crate::scenarios::storm::{self, Storm};
use crate::scenarios::storm_setup::Herald;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A core below this did not limit the throughput.
const BUSY_MIN: f64 = 0.97;

/// What a server spends in a second with only the others to serve, by its threads' names.
type Peace = BTreeMap<String, f64>;

/// Times the others in peace.
fn peace(others: &mut Option<Beside>, seconds: f64, watch: &Watch) -> Peace {
    let Some(others) = others else { return Peace::new() };
    let (sample, begun) = (watch.sample(), now());
    others.calm(seconds);
    let elapsed = (now() - begun) as f64 / 1e9;
    let spent = spent(&sample, &watch.sample());
    spent.by_name.into_iter().map(|(name, nanos)| (name, nanos as f64 / elapsed)).collect()
}

/// One look at everything: the load's workers, the others' one, the server, this process.
struct Look {
    totals: Totals,
    server: Sample,
    own: Sample,
}

fn look<S: Scene + 'static>(crew: &Crew<S>, others: &Option<Beside>, watch: &Watch) -> Look {
    let mut totals = crew.totals();
    if let (Some(others), Some(first)) = (others, totals.cpu.first_mut()) {
        // The others' worker sits on the first worker's core.
        *first += others.totals().cpu.iter().sum::<u64>();
    }
    let own = Watch { pid: Some(std::process::id()), metrics: None };
    Look { totals, server: watch.sample(), own: own.sample() }
}

fn window(common: &Common, before: &Look, after: &Look) -> Window {
    Window {
        before: before.totals.clone(),
        after: after.totals.clone(),
        spent: spent(&before.server, &after.server),
        has_server: common.server_pid.is_some(),
        spin: common.spin,
    }
}

/// The server's cost of one `unit`, less that of peace, by threads of one name.
fn costs(report: &mut Report, window: &Window, peace: &Peace, unit: &str) {
    let done = window.after.tally.since(&window.before.tally).received as f64;
    if !window.has_server || done == 0.0 {
        return;
    }
    let mut each = BTreeMap::new();
    for (name, &nanos) in &window.spent.by_name {
        let net = nanos as f64 - peace.get(name).copied().unwrap_or(0.0) * window.seconds();
        each.insert(name.clone(), net / done / 1e3);
        let busy = nanos as f64 / 1e9 / window.seconds() * 100.0;
        let cost = human(net / done / 1e3);
        report.row(&format!("server, threads {name}"), format!("{cost} µs per {unit} ({busy:.1} % of a core busy)"));
    }
    report.number("server_us_each", each.values().sum(), &format!("server CPU per {unit}"), "µs");
    report.set("server_us_by_thread", json!(each));
}

fn processes(common: &Common) -> Watch {
    Watch { pid: common.server_pid, metrics: None }
}

// ---- storm

fn storm_plan(args: &args::Storm) -> Result<storm::Plan, Refusal> {
    let target = Target::parse(&args.url, &args.common.transport).map_err(Refusal)?;
    let dialect = Dialect { tokens: runs::tokens(&args.identity)?, positioned: true, ..Dialect::default() };
    let prepare = || {
        // A user that is none of the clients, whose names are numbers from 0.
        let mut herald = Herald::enter(&target, &dialect, args.sockets + args.beside.beside_subscribers + 1)?;
        let data = "x".repeat(args.size.saturating_sub(2));
        let mut channels = Vec::new();
        for i in 0..args.channels {
            let name = format!("{}{i}", args.channel);
            let since = herald.subscribe(&name)?;
            (0..args.missed).try_for_each(|_| herald.publish(&name, &data))?;
            channels.push((name, since));
        }
        Ok(channels)
    };
    let channels = prepare().map_err(|why: String| Refusal(format!("cannot prepare the channels: {why}")))?;
    Ok(storm::Plan { target, dialect, channels, missed: usize::from(args.missed) })
}

pub fn run_storm(args: &args::Storm) -> Result<u8, Refusal> {
    let common = &args.common;
    common.parts.refuse("storm runs in one process")?;
    check_files(args.sockets + args.beside.beside_subscribers + 1)?;
    let workers = usize::from(common.threads);
    if args.sockets < workers {
        return Err(Refusal("--sockets must be at least --threads".into()));
    }
    let plan = Arc::new(storm_plan(args)?);
    let mut others = Beside::start(&args.beside, &args.url, plan.dialect.tokens.clone(), common)?;
    let (clients, returns) = (shares(args.sockets, workers), shares(args.total, workers));
    let scene = |(&(first, clients), &(_, returns)): (&(usize, usize), &(usize, usize))| {
        let total = clients + returns;
        let pace = Pace { total, concurrency: common.concurrency.div_ceil(workers), schedule: None };
        (Storm::new(plan.clone(), first, clients, total), pace)
    };
    let scenes = clients.iter().zip(&returns).map(scene).collect();
    let mut crew = runs::crew(Control::new(workers), scenes, common)?;
    let watch = processes(common);
    let first = runs::watch(common).sample();
    let begun = args.sockets as u64;
    clients.iter().enumerate().for_each(|(worker, share)| crew.allow(worker, share.1));
    let opened = crew.wait(common.open_timeout, "opening", |t| t.ready + t.failed >= begun);
    start_barrier::pass(common.gate.as_deref())?;
    let peace = peace(&mut others, args.beside.calm, &watch);
    let before = look(&crew, &others, &watch);
    others.iter().for_each(Beside::under_load);
    crew.set_phase(Phase::Measure);
    let all = begun + args.total as u64;
    for (worker, (clients, returns)) in clients.iter().zip(&returns).enumerate() {
        crew.allow(worker, clients.1 + returns.1);
    }
    let done = opened && crew.wait(common.open_timeout, "storm", |t| t.ready + t.failed >= all || t.closed > 0);
    let after = look(&crew, &others, &watch);

    let mut report = Report::new("storm");
    if let Some(others) = others {
        others.end(&mut report)?;
    }
    let whole = spent(&first, &runs::watch(common).sample());
    let ended = crew.finish()?;
    endings(&mut report, &ended, true);
    let window = window(common, &before, &after);
    let recovered = ended.scenes.iter().fold(histogram(), |mut sum, scene| {
        // The histograms have the same bounds, so adding cannot fail.
        let _ = sum.add(&scene.recovered);
        sum
    });
    storm_report(&mut report, args, &window, &peace);
    report.latency("recovered_us", "from connect to recovered", &recovered);
    report.set("pings", ended.scenes.iter().map(|scene| scene.pings).sum::<u64>().into());
    report.set("server_metrics", json!(whole.metrics));
    if !done {
        report.void("not every client came back in time".into());
    }
    Ok(report.finish(common))
}

fn storm_report(report: &mut Report, args: &args::Storm, window: &Window, peace: &Peace) {
    let tally = window.after.tally.since(&window.before.tally);
    report.set("sockets", args.sockets.into());
    report.count("reconnects", tally.received, "reconnects");
    report.row("each", format!("connected, subscribed, recovered {} publications: checked", args.missed));
    report.number("seconds_taken", window.seconds(), "took", "s");
    report.window(window, "recoveries", true);
    costs(report, window, peace, "reconnect");
    let busy = window.spent.busiest as f64 / 1e9;
    if busy > 0.0 {
        let most = tally.received as f64 / busy;
        report.number("per_second_of_a_full_core", most, "computed for a full core", "reconnects per second");
    }
}

// ---- publish

fn api_plan(args: &args::Publish) -> Result<api_publisher::Plan, Refusal> {
    let place = Place::parse(&args.url, "http://").map_err(Refusal)?;
    let key = match &args.key_env {
        Some(name) => Some(std::env::var(name).map_err(|_| Refusal(format!("--key-env: {name} is not set")))?),
        None => None,
    };
    let method = if args.batch > 1 { "batch" } else { "publish" };
    let path = format!("{}/{method}", place.path.trim_end_matches('/'));
    Ok(api_publisher::Plan {
        target: Target::silent(place.addr),
        head: api_publisher::Plan::head(&place.host, &path, key.as_deref()),
        channels: (0..args.channels).map(|i| format!("{}{i}", args.channel)).collect(),
        batch: usize::from(args.batch),
        parallel: args.parallel,
        data: format!("\"{}\"", "x".repeat(args.size as usize - 2)),
        rate: args.rate.as_ref().map(|rate| rate.shared(usize::from(args.batch))),
        arrivals: args.arrivals,
        workers: usize::from(args.common.threads),
    })
}

pub fn run_publish(args: &args::Publish) -> Result<u8, Refusal> {
    let common = &args.common;
    common.parts.refuse("publish runs in one process")?;
    check_files(args.connections + args.others.beside_subscribers + 1)?;
    let plan = Arc::new(api_plan(args)?);
    let tokens = runs::tokens(&args.identity)?;
    let mut others = match &args.beside {
        Some(url) => Beside::start(&args.others, url, tokens, common)?,
        None => None,
    };
    let workers = usize::from(common.threads);
    let shares = shares(args.connections, workers);
    let scene = |(worker, &(_, count)): (usize, &(usize, usize))| {
        let pace = Pace { total: count, concurrency: common.concurrency, schedule: None };
        (Api::new(plan.clone(), worker, count), pace)
    };
    let mut crew = runs::crew(Control::new(workers), shares.iter().enumerate().map(scene).collect(), common)?;
    shares.iter().enumerate().for_each(|(worker, share)| crew.allow(worker, share.1));
    crew.wait(common.open_timeout, "opening", |t| (t.ready + t.failed) as usize >= args.connections);
    let opened = crew.tally().ready as usize == args.connections;
    let watch = processes(common);
    let first = runs::watch(common).sample();
    start_barrier::pass(common.gate.as_deref())?;
    let peace = peace(&mut others, args.others.calm, &watch);
    others.iter().for_each(Beside::under_load);
    crew.set_phase(Phase::Warm);
    crew.wait(args.timing.warmup, "warm-up", |t| t.closed > 0);
    crew.set_phase(Phase::Measure);
    let before = look(&crew, &others, &watch);
    let duration = args.timing.measured(args.rate.as_ref());
    crew.wait(duration, "measured", |t| t.closed > 0);
    let after = look(&crew, &others, &watch);
    crew.set_phase(Phase::Drain);
    runs::drain(&mut crew);

    let mut report = Report::new("publish");
    let for_others = others.map_or(Ok(0), |others| others.end(&mut report))?;
    let whole = spent(&first, &runs::watch(common).sample());
    let tally = crew.tally();
    let ended = crew.finish()?;
    endings(&mut report, &ended, true);
    if !opened {
        report.void("not all connections could be opened".into());
    }
    let window = window(common, &before, &after);
    report.set("batch", args.batch.into());
    report.set("connections", args.connections.into());
    report.window(&window, "publications", false);
    if args.rate.is_some() {
        runs::kept(&mut report, &window, ended.harvest.sent() * u64::from(args.batch), "publications");
    }
    costs(&mut report, &window, &peace, "publication");
    if args.rate.is_none() && window.has_server {
        together(&mut report, &window, &spent(&before.own, &after.own));
    }
    answers(&mut report, args, &ended);
    report.set("unanswered", tally.in_flight.into());
    if tally.in_flight > 0 {
        report.void(format!("{} publications were never answered", tally.in_flight));
    }
    counted(&mut report, &whole, tally.received + for_others);
    report.set("server_metrics", json!(whole.metrics));
    Ok(report.finish(common))
}

/// A closed loop is a throughput only where a core had no more to give: the server's, or one that it shares with us.
fn together(report: &mut Report, window: &Window, own: &Spent) {
    let mut cores: BTreeMap<u32, u64> = window.spent.by_core.clone();
    own.by_core.iter().for_each(|(core, nanos)| *cores.entry(*core).or_default() += nanos);
    let busy = |nanos: u64| nanos as f64 / 1e9 / window.seconds();
    for (core, &nanos) in &cores {
        let server = busy(window.spent.by_core.get(core).copied().unwrap_or(0));
        let text = format!("{:.1} % busy, {:.1} % by the server", busy(nanos) * 100.0, server * 100.0);
        report.row(&format!("core {core}"), text);
    }
    let most =
        cores.values().map(|&nanos| busy(nanos)).fold(window.spent.busiest as f64 / 1e9 / window.seconds(), f64::max);
    if most < BUSY_MIN {
        report.void(format!("as a throughput: no core more than {:.1} % busy, below 97 %", most * 100.0));
    }
}

/// What the answers said.
fn answers(report: &mut Report, args: &args::Publish, ended: &Ended<Api>) {
    let scenes = &ended.scenes;
    let mut places = vec![Places::default(); usize::from(args.channels)];
    for scene in scenes {
        places.iter_mut().zip(&scene.places).for_each(|(sum, one)| *sum = sum.plus(*one));
    }
    let from = if args.rate.is_some() { "from intended request to answer" } else { "from request to answer" };
    report.latency("answer_us", from, &ended.harvest.all_steps());
    runs::steps(report, args.rate.as_ref(), &ended.harvest, "requests");
    let unsound = places.iter().filter(|places| !places.sound()).count() as u64;
    let placed = places.iter().filter(|places| **places != Places::default()).count();
    report.row(
        "offsets",
        match placed {
            0 => "not told: the channels have no history".into(),
            n => format!("all different and without a gap in {} of {n} channels", n as u64 - unsound),
        },
    );
    let refused: u64 = scenes.iter().map(|scene| scene.refused).sum();
    for (key, n, what) in [
        ("unsound", unsound, "channels have offsets twice or gaps between them"),
        ("answered_by_error", refused, "publications were answered by an error"),
    ] {
        report.set(key, n.into());
        if n > 0 {
            report.void(format!("{n} {what}"));
        }
    }
    if let Some(text) = scenes.iter().find_map(|scene| scene.first_error.clone()) {
        report.row("first error", text);
    }
}

/// The server must have stamped what we know of and nothing else.
fn counted(report: &mut Report, whole: &Spent, published: u64) {
    let Some(&stamped) = whole.metrics.get("corecast_publications_total") else { return };
    if stamped as u64 != published {
        report.void(format!("the server counted {stamped} publications, of {published} that were answered"));
    }
}
