//! The subcommands `fanout`, `chat`, `notifications` and `slow`. They share one scenario and differ in who subscribes to what, who
//! publishes, and when.

use super::{Traffic, check_open_files, report_delivery_faults, report_traffic, run_traffic, shares};
use crate::RunError;
use crate::args::{self, Load};
use crate::distributed::remote_workers::{lead, report_processes};
use crate::engine::Opening;
use crate::engine::workers::{Control, StartedWorkers, WorkerOptions, Workers};
use crate::measure::rate::{Arrivals, Rate};
use crate::measure::server;
use crate::net::Target;
use crate::protocols::Protocol;
use crate::report::Report;
use crate::scenarios::fanout::{Fanout, Plan};
use crate::scenarios::in_flight::{InFlight, SLOTS};
use crate::scenarios::publisher::{ChannelChoice, Talker};
use crate::scenarios::slow_readers::SlowLoad;
use crate::scenarios::subscriptions::Subscriptions;
use serde_json::json;
use std::sync::Arc;

/// Publishers that a stamp can distinguish in one channel.
const PUBLISHERS_MAX: usize = 256;

/// A load that runs together with a fan-out, on workers of its own.
pub trait BackgroundLoad {
    /// Nanoseconds that it took of the processors so far.
    fn cpu(&self) -> u64;
    /// Ends it and reports what happened.
    fn finish(self: Box<Self>, report: &mut Report) -> Result<(), RunError>;
}

/// A run of the fan-out family.
pub struct FanoutRun<'a> {
    kind: &'static str,
    url: &'a str,
    load: &'a Load,
    subscribers: usize,
    channels: Vec<String>,
    own_channel: Option<String>,
    subscriptions: Subscriptions,
    /// Publishers per channel, if they are not the same for all.
    publishers_of: Option<Vec<usize>>,
    choice: ChannelChoice,
    /// Publications per second; `None`: closed loop.
    rate: Option<Rate>,
    arrivals: Arrivals,
    window: u16,
    /// Connections of the load that runs together with the fan-out.
    background_connections: usize,
}

impl<'a> FanoutRun<'a> {
    fn new(kind: &'static str, url: &'a str, load: &'a Load, subscriptions: Subscriptions) -> Self {
        Self {
            kind,
            url,
            load,
            subscribers: 0,
            channels: Vec::new(),
            own_channel: None,
            subscriptions,
            publishers_of: None,
            choice: ChannelChoice::InTurn,
            rate: None,
            arrivals: Arrivals::Even,
            window: 1,
            background_connections: 0,
        }
    }

    /// A fan-out; `background_subscribers` of its subscribers belong to a load that runs together with it.
    pub fn fanout(args: &'a args::Fanout, kind: &'static str, background_subscribers: usize) -> Self {
        let (channels, message) = (usize::from(args.channels), &args.load.message);
        Self {
            subscribers: args.subscribers - background_subscribers,
            channels: message.channels(&args.channel, channels),
            own_channel: args.own_channel.as_ref().map(|name| message.channel(name)),
            rate: args.rate.rate.clone(),
            arrivals: args.rate.arrivals,
            window: args.window,
            background_connections: background_subscribers,
            ..Self::new(kind, &args.url, &args.load, Subscriptions::InTurn { channels })
        }
    }

    /// Accounts for connections of the load that runs together with the fan-out.
    pub fn with_background(self, connections: usize) -> Self {
        Self { background_connections: connections, ..self }
    }

    /// Subscribers up to the last one that publishes over its own connection; talkers are the first ones.
    fn talkers(&self) -> usize {
        match &self.choice {
            ChannelChoice::Talkers(talkers) if self.load.message.api.is_none() => {
                talkers.last().map_or(0, |last| last.member + 1)
            }
            _ => 0,
        }
    }

    fn probes(&self) -> usize {
        let all = self.subscribers;
        self.load.message.probes.map_or(all, |n| (n as usize).clamp(self.talkers().min(all), all))
    }

    /// Connections that only publish.
    fn publishers(&self) -> usize {
        if self.talkers() > 0 { 0 } else { usize::from(self.load.message.publishers) }
    }

    fn plan(&self) -> Result<Plan, RunError> {
        let (message, common, talkers) = (&self.load.message, &self.load.common, self.talkers());
        let messages = message.messages(self.url)?;
        let (publish_target, api) = message.publish_target(self.url, common, &messages)?;
        let own_publishers = self.publishers_of.clone().filter(|_| talkers > 0);
        Ok(Plan {
            target: Target::new(message.protocol, self.url, &common.transport)?,
            publish_target,
            api,
            messages,
            channels: self.channels.clone(),
            own_channel: self.own_channel.clone(),
            subscriptions: self.subscriptions.clone(),
            publishers: self.publishers(),
            publishers_of: own_publishers.unwrap_or_else(|| vec![self.publishers(); self.channels.len()]),
            talkers,
            window: usize::from(self.window),
            rate: self.rate.clone(),
            arrivals: self.arrivals,
            probes: self.probes(),
            in_flight: InFlight::default(),
            clock_ahead: (!common.share.is_whole()).then_some(common.share.ahead),
        })
    }

    fn check(&self) -> Result<(), RunError> {
        let (channels, probes, common) = (self.channels.len(), self.probes(), &self.load.common);
        let closed_loop = self.rate.is_none();
        let error = |text: &str| Err(RunError(text.into()));
        if matches!(self.subscriptions, Subscriptions::InTurn { .. }) && self.subscribers < channels {
            return error("--subscribers must be at least --channels: a channel without subscribers proves nothing");
        }
        if closed_loop && channels * usize::from(self.window) > SLOTS / 2 {
            return error("--window times --channels must be at most 32768");
        }
        if closed_loop && probes < channels {
            return error("--probes must be at least --channels: a window follows the probes");
        }
        if probes < self.subscribers && common.transport.deflate.is_on() {
            return error("--probes: sinks cannot count compressed frames; omit --deflate or --probes");
        }
        let share = common.share;
        if share.is_whole() && common.processes.is_on() {
            // Each process checks its own limit of open files.
            return self.check_processes();
        }
        let publishers = if share.part > 0 { 0 } else { self.publishers() };
        let here: usize = share.split(self.subscribers, 1).iter().map(|share| share.1).sum();
        check_open_files(here + publishers + self.background_connections)
    }

    fn check_processes(&self) -> Result<(), RunError> {
        let processes = &self.load.common.processes;
        if self.kind != "fanout" {
            processes.reject(&format!("{} runs in one process", self.kind))?;
        }
        if self.rate.is_none() {
            processes.reject("a window counts publications down in one process, so give a --rate")?;
        }
        if self.load.message.probes.is_some() || self.background_connections > 0 {
            processes.reject("--probes and background loads need one process")?;
        }
        Ok(())
    }

    /// The subscribers of each worker, as the first one and the count, and the cores of the workers.
    fn distribute(&self, probes: usize) -> (Vec<(usize, usize)>, Vec<usize>) {
        let (message, common, talkers) = (&self.load.message, &self.load.common, self.talkers());
        let (workers, cores) = (usize::from(common.threads), common.cores.as_ref().map_or(&[][..], |list| &list.0));
        if !common.share.is_whole() {
            return (common.split(self.subscribers), cores.to_vec());
        }
        if message.probes.is_none() {
            return (shares_with_talkers(self.subscribers, workers, talkers), cores.to_vec());
        }
        let own = message.probe_cores.as_ref().map_or(&[][..], |list| &list.0);
        let mut all = shares_with_talkers(probes, own.len().max(1), talkers);
        let sinks = shares(self.subscribers - probes, workers);
        all.extend(sinks.into_iter().map(|(first, count)| (probes + first, count)));
        let sink_cores = cores.iter().copied().cycle().take(if own.is_empty() { cores.len() } else { workers });
        (all, own.iter().copied().chain(sink_cores).collect())
    }

    /// The workers of this process, or those that carry the run.
    fn workers(&self, plan: &Arc<Plan>) -> Result<StartedWorkers<Fanout>, RunError> {
        let common = &self.load.common;
        if let Some(remote) = lead(common, self.subscribers, plan.publishers)? {
            return Ok(remote);
        }
        let (distribution, cores) = self.distribute(plan.probes);
        let control = Control::new(distribution.len(), common.share.origin);
        let (mut totals, mut scenarios) = (Vec::new(), Vec::new());
        for (worker, (first, count)) in distribution.into_iter().enumerate() {
            let mut scenario = Fanout::new(plan.clone(), control.clone(), worker, first, count);
            // The first worker of all publishes.
            let publishes = worker == 0 && common.share.part == 0;
            if publishes {
                scenario.publish(self.choice.clone());
            }
            let total = count + if publishes { plan.publishers } else { 0 };
            totals.push(total);
            scenarios.push((scenario, Opening { total, concurrency: common.concurrency, schedule: None }));
        }
        let options = WorkerOptions { cores, ..WorkerOptions::observed(common)? };
        Ok((Workers::start(control, scenarios, &options)?, totals))
    }

    /// Runs it together with a load that `start` starts for the subscribers of the plan, and reports; `extra` adds to the report.
    pub fn run(
        self,
        start: impl FnOnce(&Arc<Plan>) -> Result<Option<Box<dyn BackgroundLoad>>, RunError>,
        extra: impl FnOnce(&mut Report),
    ) -> Result<u8, RunError> {
        self.check()?;
        let common = &self.load.common;
        let plan = Arc::new(self.plan()?);
        let workers = self.workers(&plan)?;
        let background = start(&plan)?;
        let background_cpu = || background.as_ref().map_or(0, |load| load.cpu());
        let seconds = (self.load.timing.warmup, self.load.timing.measured(self.rate.as_ref()));
        let traffic = run_traffic(workers, common, seconds, &background_cpu, plan.probes < self.subscribers)?;
        let mut report = self.report(&plan, &traffic);
        extra(&mut report);
        if let Some(load) = background {
            load.finish(&mut report)?;
        }
        if let Some(pid) = common.server_pid {
            let peak = server::peak(pid);
            report.set("server_rss_peak", peak);
            report.row("server memory", format!("{:.1} MiB resident at the peak", peak as f64 / f64::from(1 << 20)));
        }
        Ok(report.finish(common.json, &common.files))
    }

    fn report(&self, plan: &Plan, traffic: &Traffic<Fanout>) -> Report {
        let mut report = Report::new(self.kind);
        report.set("subscribers", self.subscribers);
        report.set("size", self.load.message.size);
        match &self.rate {
            Some(rate) => report.rate(rate),
            None => report.set("window", self.window),
        }
        report_traffic(&mut report, traffic, "deliveries", self.rate.is_none());
        let (results, processes) = (&traffic.finished.results, self.load.common.processes.is_on());
        if let Some(window) = &traffic.window {
            let per_second = window.counters().sent as f64 / window.seconds();
            report.number("publications_per_second", per_second, "publications per second", "");
            if self.rate.is_some() {
                // With several processes deliveries are in flight, not publications.
                let each = if processes { self.subscribers / plan.channels.len() } else { 1 };
                report.rate_kept(window, results.sent() * each as u64, "publications");
            }
        }
        let latency = results.all_steps();
        report.latency("latency_us", "latency of deliveries", &latency);
        match results.last() {
            Some(last) => report.latency("last_us", "time to last subscriber", &last),
            None => report.row("time to last subscriber", "unknown: too many publications to compare"),
        }
        if plan.api.is_some() {
            report.latency("answer_us", "API request to response", &results.histogram("api"));
        }
        report.steps(self.rate.as_ref(), results, "publications");
        let publications = results.count("published");
        report.set("frame_bytes", results.frame_bytes);
        report.set("run_publications", publications);
        report.set("run_deliveries", traffic.received);
        let text = format!("{} deliveries of {publications} publications in the whole run", traffic.received);
        report.row("checked", text);
        report_sinks(&mut report, plan, &traffic.finished.scenarios);
        // With several processes no process sees the last delivery of a publication: there, deliveries are counted.
        let missing = if processes { traffic.missing } else { plan.in_flight.missing() };
        report_delivery_faults(&mut report, missing, results);
        report_processes(&mut report, &traffic.finished.processes, Some(latency.micros(0.5)));
        report
    }
}

/// Each sink must have counted as many deliveries as were published to its channels.
fn report_sinks(report: &mut Report, plan: &Plan, scenarios: &[Fanout]) {
    let Some(publisher) = scenarios.iter().find_map(|scenario| scenario.publisher.as_ref()) else { return };
    let (mut sinks, mut deliveries, mut missing, mut surplus) = (0, 0, 0, 0);
    for (number, count) in scenarios.iter().flat_map(Fanout::sinks) {
        let channels = plan.subscriptions.of(number);
        let due: u64 = channels.into_iter().map(|channel| publisher.sequencer.published(channel)).sum();
        sinks += 1;
        deliveries += count;
        missing += due.saturating_sub(count);
        surplus += count.saturating_sub(due);
    }
    if sinks > 0 {
        report.set("sinks", sinks);
        report.row("sinks", format!("{sinks} connections counted {deliveries} deliveries"));
        report.fault("sinks_missing", missing, "deliveries to sinks never came");
        report.fault("sinks_surplus", surplus, "deliveries to sinks were not published");
    }
}

/// Shares of which the first contains all talkers, because that worker publishes.
fn shares_with_talkers(total: usize, workers: usize, talkers: usize) -> Vec<(usize, usize)> {
    let mut all = shares(total, workers);
    if all[0].1 < talkers {
        let rest = shares(total - talkers, (workers - 1).max(1));
        all = std::iter::once((0, talkers)).chain(rest.into_iter().map(|(first, n)| (talkers + first, n))).collect();
        all.truncate(workers);
    }
    all
}

/// The workers of this process for its part of a fan-out, or those that carry it.
pub fn workers(args: &args::Fanout) -> Result<StartedWorkers<Fanout>, RunError> {
    let run = FanoutRun::fanout(args, "fanout", 0);
    run.check()?;
    run.workers(&Arc::new(run.plan()?))
}

pub fn run_fanout(args: &args::Fanout) -> Result<u8, RunError> {
    FanoutRun::fanout(args, "fanout", 0).run(|_| Ok(None), |_| ())
}

pub fn run_slow(args: &args::Slow) -> Result<u8, RunError> {
    let run = FanoutRun::fanout(&args.fanout, "slow", SlowLoad::count(args));
    let (first, common) = (run.subscribers, &args.fanout.load.common);
    run.run(|plan| Ok(Some(Box::new(SlowLoad::start(args, first, plan, common)?))), |_| ())
}

/// The first `wanted` users talk in their rooms, as far as a room has publisher numbers left; a user with full rooms only reads.
/// Returns the talkers and the number of publishers of each room.
fn choose_talkers(subscriptions: &Subscriptions, rooms: usize, wanted: usize) -> (Vec<Talker>, Vec<usize>) {
    let (mut publishers, mut talkers) = (vec![0; rooms], Vec::new());
    for member in 0..wanted {
        let mut own = Vec::new();
        for room in subscriptions.of(member) {
            if publishers[room] < PUBLISHERS_MAX {
                own.push((room as u32, publishers[room] as u8));
                publishers[room] += 1;
            }
        }
        if !own.is_empty() {
            talkers.push(Talker { member, rooms: own });
        }
    }
    (talkers, publishers)
}

pub fn run_chat(args: &args::Chat) -> Result<u8, RunError> {
    let (users, rooms, message) = (args.connections.max(1), usize::from(args.rooms), &args.load.message);
    if message.protocol == Protocol::Plain && message.hello.is_none() {
        return Err(RunError("chat over the plain protocol needs --hello, to enter rooms".into()));
    }
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let subscriptions = Subscriptions::zipf(users, rooms, usize::from(args.rooms_per_user), args.zipf, &mut rng);
    let wanted = (users as f64 * args.talkers).round() as usize;
    let (talkers, publishers) = choose_talkers(&subscriptions, rooms, wanted.clamp(1, users));
    let (count, mut sizes) = (talkers.len(), subscriptions.sizes(users, rooms));
    let run = FanoutRun {
        subscribers: users,
        channels: message.channels(&args.channel, rooms),
        publishers_of: Some(publishers),
        choice: ChannelChoice::Talkers(talkers),
        rate: Some(Rate::constant(args.talk_rate * count as f64)),
        arrivals: args.arrivals,
        ..FanoutRun::new("chat", &args.url, &args.load, subscriptions)
    };
    sizes.sort_unstable();
    let (members, largest, median) = (sizes.iter().sum::<u32>(), sizes[rooms - 1], sizes[rooms / 2]);
    run.run(
        |_| Ok(None),
        |report| {
            report.set("talkers", count);
            report.set("rooms", json!({"count": rooms, "seats": members, "largest": largest, "median": median}));
            let text = format!("{rooms} with {members} members; the largest has {largest}, the median {median}");
            report.row("rooms", text);
            report.row("talkers", count.to_string());
        },
    )
}

pub fn run_notifications(args: &args::Notifications) -> Result<u8, RunError> {
    let users = args.connections.max(1);
    let run = FanoutRun {
        subscribers: users,
        channels: args.load.message.channels(&args.channel, users),
        choice: ChannelChoice::Random,
        rate: Some(args.rate.clone()),
        arrivals: args.arrivals,
        ..FanoutRun::new("notifications", &args.url, &args.load, Subscriptions::one_each(users))
    };
    run.run(|_| Ok(None), |_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_talkers_belong_to_the_first_worker() {
        assert_eq!(shares_with_talkers(10, 2, 3), [(0, 5), (5, 5)]);
        assert_eq!(shares_with_talkers(10, 3, 8), [(0, 8), (8, 1), (9, 1)]);
        assert_eq!(shares_with_talkers(10, 1, 10), [(0, 10)]);
        assert_eq!(shares_with_talkers(10, 2, 10), [(0, 10), (10, 0)]);
    }

    #[test]
    fn room_has_at_most_as_many_publishers_as_a_stamp_can_distinguish() {
        let subscriptions = Subscriptions::Table { starts: (0..=600).collect(), channels: vec![0; 600] };
        let (talkers, publishers) = choose_talkers(&subscriptions, 1, 600);
        assert_eq!(publishers, [PUBLISHERS_MAX]);
        assert_eq!(talkers.len(), PUBLISHERS_MAX, "the others only read");
    }
}
