//! The subcommands `fanout`, `chat`, `notifications` and `slow`. They share one scenario and differ in who subscribes to what, who
//! publishes, and when.

use super::node_report::report_nodes;
use super::{BackgroundLoad, Course, Traffic, check_open_files, report_delivery_faults, report_traffic, run_traffic};
use crate::RunError;
use crate::args::share::shares;
use crate::args::{self, Load, Nodes, Reconnect};
use crate::distributed::coordinator::{lead, report_processes};
use crate::engine::Opening;
use crate::engine::clock::SECOND;
use crate::engine::control::Control;
use crate::engine::workers::{StartedWorkers, WorkerOptions, Workers};
use crate::measure::rate::{Arrivals, Rate};
use crate::measure::server;
use crate::net::targets;
use crate::protocols::Protocol;
use crate::report::{Failures, Report};
use crate::scenarios::fanout::Fanout;
use crate::scenarios::fanout_plan::{Plan, Reconnects};
use crate::scenarios::in_flight::{InFlight, SLOTS};
use crate::scenarios::publisher::{ChannelChoice, Talker};
use crate::scenarios::slow_readers::SlowLoad;
use crate::scenarios::subscriptions::Subscriptions;
use serde_json::json;
use std::sync::Arc;

/// Publishers that a stamp can distinguish in one channel.
const PUBLISHERS_MAX: usize = 256;
/// Nodes that a connection can name.
const NODES_MAX: usize = 200;

/// A run of the fan-out family.
pub struct FanoutRun<'a> {
    kind: &'static str,
    urls: Vec<String>,
    load: &'a Load,
    subscribers: usize,
    choice: ChannelChoice,
    plan: Arc<Plan>,
    /// Connections of a load beside the fan-out.
    background_connections: usize,
}

impl<'a> FanoutRun<'a> {
    /// A run in closed loop with one publication in flight, in which all publishers publish to all channels.
    fn new(
        (kind, nodes): (&'static str, &Nodes),
        load: &'a Load,
        subscribers: usize,
        channels: Vec<String>,
        subscriptions: Subscriptions,
    ) -> Result<Self, RunError> {
        let (message, common, urls) = (&load.message, &load.common, nodes.urls());
        if urls.len() > NODES_MAX {
            return Err(RunError(format!("a run has at most {NODES_MAX} nodes")));
        }
        let messages = message.messages(&urls[0])?;
        let (publish_target, api) = message.publish_target(&urls[0], common, &messages)?;
        let publishers = usize::from(message.publishers);
        let plan = Plan {
            targets: targets(message.protocol, &urls, &common.transport)?,
            publish_target,
            api,
            messages,
            publishers_of: vec![publishers; channels.len()],
            channels,
            own_channel: None,
            subscriptions,
            publishers,
            talkers: 0,
            window: 1,
            rate: None,
            arrivals: Arrivals::Even,
            probes: message.probes.map_or(subscribers, |n| (n as usize).min(subscribers)),
            in_flight: InFlight::default(),
            clock_ahead: (!common.share.is_whole()).then_some(common.share.ahead),
            reconnects: None,
        };
        let (choice, plan) = (ChannelChoice::InTurn, Arc::new(plan));
        Ok(Self { kind, urls, load, subscribers, choice, plan, background_connections: 0 })
    }

    fn plan_mut(&mut self) -> &mut Plan {
        Arc::get_mut(&mut self.plan).expect("not shared before the run starts")
    }

    /// A fan-out, of whose subscribers so many belong to a load beside it.
    pub fn fanout(args: &'a args::Fanout, kind: &'static str, background_subscribers: usize) -> Result<Self, RunError> {
        let (channels, message) = (usize::from(args.channels), &args.load.message);
        let (subscribers, names) =
            (args.subscribers - background_subscribers, message.channels(&args.channel, channels));
        let mut run =
            Self::new((kind, &args.nodes), &args.load, subscribers, names, Subscriptions::InTurn { channels })?;
        let plan = run.plan_mut();
        plan.own_channel = args.own_channel.as_ref().map(|name| message.channel(name));
        (plan.rate, plan.arrivals) = (args.rate.rate.clone(), args.rate.arrivals);
        plan.window = usize::from(args.window);
        run.background_connections = background_subscribers;
        Ok(run)
    }

    /// Accounts for connections of a load beside the fan-out.
    pub fn with_background(self, connections: usize) -> Self {
        Self { background_connections: connections, ..self }
    }

    /// Lets clients reconnect if the options say so.
    fn set_reconnects(&mut self) -> Result<(), RunError> {
        let (load, has_rate) = (self.load, self.plan.rate.is_some());
        let default = if self.urls.len() > 1 && has_rate { Reconnect::Same } else { Reconnect::Off };
        let reconnect = load.reconnect.unwrap_or(default);
        if reconnect == Reconnect::Off {
            return Ok(());
        }
        let error = |text: &str| Err(RunError(format!("--reconnect {text}, or use --reconnect off")));
        if !has_rate {
            return error("needs a --rate: a window would wait for closed clients");
        }
        if load.message.protocol != Protocol::Centrifuge {
            return error("needs --protocol centrifuge, in JSON");
        }
        if self.plan.probes < self.subscribers {
            return error("needs probes, because sinks cannot recover: omit --probes");
        }
        load.common.processes.reject("clients that reconnect need one process")?;
        let delay_max = (load.reconnect_delay_max * SECOND as f64) as u64;
        let plan = self.plan_mut();
        plan.reconnects = Some(Reconnects { moves: reconnect == Reconnect::Next, delay_max });
        plan.messages.positioned = true;
        Ok(())
    }

    fn check(&self) -> Result<(), RunError> {
        let (plan, common) = (&self.plan, &self.load.common);
        let (channels, probes, closed_loop) = (plan.channels.len(), plan.probes, plan.rate.is_none());
        let error = |text: &str| Err(RunError(text.into()));
        if matches!(plan.subscriptions, Subscriptions::InTurn { .. }) && self.subscribers < channels {
            return error("--subscribers must be at least --channels: a channel without subscribers proves nothing");
        }
        if closed_loop && channels * plan.window > SLOTS / 2 {
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
        let publishers = if share.part > 0 { 0 } else { plan.publishers };
        let here: usize = share.split(self.subscribers, 1).iter().map(|share| share.1).sum();
        check_open_files(here + publishers + self.background_connections)
    }

    fn check_processes(&self) -> Result<(), RunError> {
        let processes = &self.load.common.processes;
        if self.kind != "fanout" {
            processes.reject(&format!("{} runs in one process", self.kind))?;
        }
        if self.plan.rate.is_none() {
            processes.reject("a window counts publications down in one process, so give a --rate")?;
        }
        if self.urls.len() > 1 {
            processes.reject("several nodes need one process")?;
        }
        if self.load.message.probes.is_some() || self.background_connections > 0 {
            processes.reject("--probes and background loads need one process")?;
        }
        Ok(())
    }

    /// The subscribers of each worker, as the first one and the count, and the cores of the workers.
    fn distribute(&self) -> (Vec<(usize, usize)>, Vec<usize>) {
        let (message, common) = (&self.load.message, &self.load.common);
        let (probes, talkers) = (self.plan.probes, self.plan.talkers);
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
    fn workers(&self) -> Result<StartedWorkers<Fanout>, RunError> {
        self.check()?;
        let (plan, common) = (&self.plan, &self.load.common);
        if let Some(remote) = lead(common, self.subscribers, plan.publishers)? {
            return Ok(remote);
        }
        let (distribution, cores) = self.distribute();
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
        mut self,
        start: impl FnOnce(&Arc<Plan>) -> Result<Option<Box<dyn BackgroundLoad>>, RunError>,
        extra: impl FnOnce(&mut Report),
    ) -> Result<u8, RunError> {
        self.set_reconnects()?;
        let (plan, common) = (&self.plan, &self.load.common);
        let workers = self.workers()?;
        let background = start(plan)?;
        let background_cpu = || background.as_ref().map_or(0, |load| load.cpu());
        let seconds = (self.load.timing.warmup, self.load.timing.measured(plan.rate.as_ref()));
        let (has_sinks, reconnects) = (plan.probes < self.subscribers, plan.reconnects.is_some());
        let course = Course { seconds, has_sinks, reconnects };
        let traffic = run_traffic(workers, common, &course, &background_cpu)?;
        let mut report = self.report(&traffic);
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

    fn report(&self, traffic: &Traffic<Fanout>) -> Report {
        let plan = &self.plan;
        let mut report = Report::new(self.kind);
        report.set("subscribers", self.subscribers);
        report.set("size", self.load.message.size);
        match &plan.rate {
            Some(rate) => report.rate(rate),
            None => report.set("window", plan.window),
        }
        let reconnects = plan.reconnects.is_some();
        let allowed = if reconnects { Failures::All } else { Failures::None };
        report_traffic(&mut report, traffic, "deliveries", plan.rate.is_none(), allowed);
        let (results, processes) = (&traffic.finished.results, self.load.common.processes.is_on());
        if let Some(window) = &traffic.window {
            let per_second = window.counters().sent as f64 / window.seconds();
            report.number("publications_per_second", per_second, "publications per second", "");
            // What is published while clients are away is in flight until they recover.
            if plan.rate.is_some() && !reconnects {
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
        report.steps(plan.rate.as_ref(), results, "publications");
        let publications = results.count("published");
        report.set("frame_bytes", results.frame_bytes);
        report.set("run_publications", publications);
        report.set("run_deliveries", traffic.received);
        let text = format!("{} deliveries of {publications} publications in the whole run", traffic.received);
        report.row("checked", text);
        report_sinks(&mut report, plan, &traffic.finished.scenarios);
        // With several processes no process sees the last delivery of a publication: there, deliveries are counted.
        let missing = if processes { traffic.missing } else { plan.in_flight.missing() };
        if !reconnects {
            report_delivery_faults(&mut report, missing, results);
        }
        report_nodes(&mut report, plan, &self.urls, traffic);
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
    if args.load.reconnect.is_some_and(|reconnect| reconnect != Reconnect::Off) {
        return Err(RunError("--reconnect works with fanout, chat, notifications and slow, in one process".into()));
    }
    FanoutRun::fanout(args, "fanout", 0)?.workers()
}

pub fn run_fanout(args: &args::Fanout) -> Result<u8, RunError> {
    FanoutRun::fanout(args, "fanout", 0)?.run(|_| Ok(None), |_| ())
}

pub fn run_slow(args: &args::Slow) -> Result<u8, RunError> {
    let run = FanoutRun::fanout(&args.fanout, "slow", SlowLoad::count(args))?;
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
    let names = message.channels(&args.channel, rooms);
    let mut run = FanoutRun::new(("chat", &args.nodes), &args.load, users, names, subscriptions)?;
    let plan = run.plan_mut();
    (plan.rate, plan.arrivals) = (Some(Rate::constant(args.talk_rate * count as f64)), args.arrivals);
    if let Some(last) = talkers.last().filter(|_| plan.api.is_none()) {
        (plan.talkers, plan.publishers, plan.publishers_of) = (last.member + 1, 0, publishers);
        plan.probes = plan.probes.max(plan.talkers);
    }
    run.choice = ChannelChoice::Talkers(talkers);
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
    let names = args.load.message.channels(&args.channel, users);
    let subscriptions = Subscriptions::one_each(users);
    let mut run = FanoutRun::new(("notifications", &args.nodes), &args.load, users, names, subscriptions)?;
    run.choice = ChannelChoice::Random;
    (run.plan_mut().rate, run.plan_mut().arrivals) = (Some(args.rate.clone()), args.arrivals);
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
    fn a_room_has_at_most_as_many_publishers_as_a_stamp_can_distinguish() {
        let subscriptions = Subscriptions::Table { starts: (0..=600).collect(), channels: vec![0; 600] };
        let (talkers, publishers) = choose_talkers(&subscriptions, 1, 600);
        assert_eq!(publishers, [PUBLISHERS_MAX]);
        assert_eq!(talkers.len(), PUBLISHERS_MAX, "the others only read");
    }
}
