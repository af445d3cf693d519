//! The course of `fanout`, `chat`, `notifications` and `slow`: one scene, which differ in who is where, who publishes, and when.

use crate::args::message_options::{Probing, Speech};
use crate::args::scenes;
use crate::args::{self, Common, Timing};
use crate::distributed::remote_workers;
use crate::engine::Pace;
use crate::engine::workers::{Control, Manned};
use crate::measure::last_delivery::Apart;
use crate::measure::rate::{Arrivals, Rate};
use crate::net::Target;
use crate::report::Report;
use crate::runs::{Ran, Refusal, check_files, common_report, crew_on, judge, kept, rate_value, shares, steps, traffic};
use crate::scenarios::abuse::Abuse;
use crate::scenarios::fanout::{Fanout, Plan};
use crate::scenarios::in_flight::{SLOTS, Slots};
use crate::scenarios::members::Members;
use crate::scenarios::publisher::{Choice, Talker};
use crate::scenarios::sink_check;
use crate::scenarios::slow_readers::Slow;
use serde_json::json;
use std::sync::Arc;

/// Voices that a stamp can tell apart in one channel.
const VOICES_MAX: usize = 256;

/// Who is where, and who publishes.
struct Crowd<'a> {
    kind: &'static str,
    url: &'a str,
    speech: &'a Speech,
    timing: &'a Timing,
    common: &'a Common,
    abuse: &'a args::Abuse,
    slow: Option<&'a scenes::Slow>,
    subscribers: usize,
    channels: Vec<String>,
    own_channel: Option<String>,
    members: Members,
    voices: Vec<usize>,
    choice: Choice,
    /// Publications a second; none: closed loop.
    rate: Option<Rate>,
    arrivals: Arrivals,
    window: u16,
}

impl Crowd<'_> {
    /// How many members there are up to the last one who speaks for himself; talkers are the first ones.
    fn talkers(&self) -> usize {
        match &self.choice {
            Choice::Talkers(talkers) if self.speech.api.is_none() => talkers.last().map_or(0, |last| last.member + 1),
            _ => 0,
        }
    }

    fn probes(&self) -> usize {
        let all = self.subscribers;
        self.speech.probing.probes.map_or(all, |n| (n as usize).clamp(self.talkers().min(all), all))
    }

    fn plan(&mut self) -> Result<Plan, Refusal> {
        let dialect = self.speech.dialect(self.url)?;
        let (publish_target, backend) = self.speech.publishing(self.url, self.common, &dialect)?;
        let talk = self.talkers() > 0;
        Ok(Plan {
            target: Target::speaking(self.speech.protocol, self.url, &self.common.transport).map_err(Refusal)?,
            publish_target,
            backend,
            dialect,
            channels: std::mem::take(&mut self.channels),
            own_channel: self.own_channel.clone(),
            members: self.members.clone(),
            publishers: if talk { 0 } else { usize::from(self.speech.publishers) },
            voices: if talk { std::mem::take(&mut self.voices) } else { Vec::new() },
            window: usize::from(self.window),
            rate: self.rate.clone(),
            arrivals: self.arrivals,
            probes: self.probes(),
            slots: Slots::new(),
            apart: (!self.common.share.is_whole()).then_some(Apart { ahead: self.common.share.ahead }),
        })
    }

    fn check(&self) -> Result<(), Refusal> {
        let (channels, probes) = (self.channels.len(), self.probes());
        if matches!(self.members, Members::Dealt { .. }) && self.subscribers < channels {
            return Err(Refusal(
                "--subscribers must be at least --channels: a channel that nobody hears proves nothing".into(),
            ));
        }
        if self.rate.is_none() && channels * usize::from(self.window) > SLOTS / 2 {
            return Err(Refusal("--window times --channels must be at most 32768".into()));
        }
        if self.rate.is_none() && probes < channels {
            return Err(Refusal(
                "--probes must be at least --channels: a window is refilled by what probes got".into(),
            ));
        }
        if probes < self.subscribers && self.common.transport.deflate.is_on() {
            return Err(Refusal(
                "--probes: sinks cannot count what is compressed; leave out --deflate or --probes".into(),
            ));
        }
        let share = self.common.share;
        if share.is_whole() && self.common.parts.is_on() {
            // Each of the others checks its own.
            return self.check_parts();
        }
        let publishers = if self.talkers() > 0 || share.part > 0 { 0 } else { usize::from(self.speech.publishers) };
        let slow = self.slow.map_or(0, slow_ones);
        let here: usize = share.split(self.subscribers, 1).iter().map(|share| share.1).sum();
        check_files(here + publishers + slow + self.abuse.connections())
    }

    /// What several processes can share.
    fn check_parts(&self) -> Result<(), Refusal> {
        let parts = &self.common.parts;
        if self.kind != "fanout" {
            parts.refuse(&format!("{} runs in one process", self.kind))?;
        }
        if self.rate.is_none() {
            parts.refuse("a window counts publications down in one process, so give a --rate")?;
        }
        if self.abuse.connections() > 0 || self.speech.probing.probes.is_some() {
            parts.refuse("--half-open, --never-read and --probes go with one process")?;
        }
        Ok(())
    }
}

/// The workers' subscribers, as (first, count), and their cores.
fn seats(
    probing: &Probing,
    common: &Common,
    subscribers: usize,
    probes: usize,
    talkers: usize,
) -> (Vec<(usize, usize)>, Vec<usize>) {
    let (workers, cores) = (usize::from(common.threads), common.cores.as_ref().map_or(&[][..], |list| &list.0));
    if probing.probes.is_none() {
        return (lead(subscribers, workers, talkers), cores.to_vec());
    }
    let own = probing.probe_cores.as_ref().map_or(&[][..], |list| &list.0);
    let mut seats = lead(probes, own.len().max(1), talkers);
    seats.extend(shares(subscribers - probes, workers).into_iter().map(|(first, count)| (probes + first, count)));
    let sinks = cores.iter().copied().cycle().take(if own.is_empty() { cores.len() } else { workers });
    (seats, own.iter().copied().chain(sinks).collect())
}

/// Shares of which the first has all talkers, since that worker publishes.
fn lead(total: usize, workers: usize, talkers: usize) -> Vec<(usize, usize)> {
    let mut all = shares(total, workers);
    if all[0].1 < talkers {
        let rest = shares(total - talkers, (workers - 1).max(1));
        all = std::iter::once((0, talkers)).chain(rest.into_iter().map(|(first, n)| (talkers + first, n))).collect();
        all.truncate(workers);
    }
    all
}

/// The workers with their connections still to be made, and how many each has.
fn man(crowd: &mut Crowd, plan: &Arc<Plan>) -> Result<Manned<Fanout>, Refusal> {
    let (common, subscribers, talkers) = (crowd.common, crowd.subscribers, crowd.talkers());
    let (mut seats, cores) = seats(&crowd.speech.probing, common, subscribers, plan.probes, talkers);
    let share = common.share;
    if !share.is_whole() {
        seats = share.split(subscribers, usize::from(common.threads));
    }
    let control = Control::since(seats.len(), share.origin);
    // The first worker of all publishes.
    let mut choice = Some(std::mem::replace(&mut crowd.choice, Choice::Turns)).filter(|_| share.part == 0);
    let (mut totals, mut scenes) = (Vec::new(), Vec::new());
    for (worker, (first, count)) in seats.into_iter().enumerate() {
        let mut scene = Fanout::new(plan.clone(), control.clone(), worker, first, count);
        if let Some(choice) = choice.take() {
            scene.publish(choice);
        }
        let total = count + if worker == 0 && share.part == 0 { plan.publishers } else { 0 };
        totals.push(total);
        scenes.push((scene, Pace { total, concurrency: common.concurrency, schedule: None }));
    }
    Ok((crew_on(cores, control, scenes, common)?, totals))
}

fn run(mut crowd: Crowd, extra: impl FnOnce(&mut Report)) -> Result<u8, Refusal> {
    crowd.check()?;
    let (common, subscribers) = (crowd.common, crowd.subscribers);
    let plan = Arc::new(crowd.plan()?);
    let (crew, totals) = match remote_workers::hire(common, subscribers, plan.publishers)? {
        Some(hired) => hired,
        None => man(&mut crowd, &plan)?,
    };
    let abuse = Abuse::start(crowd.abuse, &plan, common)?;
    let slow = crowd.slow.map(|args| Slow::start(args, slow_ones(args), subscribers, &plan, common)).transpose()?;
    let aside = || abuse.as_ref().map_or(0, Abuse::cpu) + slow.as_ref().map_or(0, Slow::cpu);
    let seconds = (crowd.timing.warmup, crowd.timing.measured(crowd.rate.as_ref()));
    let ran = traffic(crew, &totals, common, seconds, &aside, plan.probes < subscribers)?;
    let mut report = tell(&crowd, &plan, &ran);
    extra(&mut report);
    if let Some(abuse) = abuse {
        abuse.end(&mut report)?;
    }
    if let Some(slow) = slow {
        slow.end(&mut report)?;
    }
    if let Some(pid) = common.server_pid {
        let peak = crate::measure::server::peak(pid);
        report.set("server_rss_peak", peak.into());
        report.row("server memory", format!("{:.1} MiB resident at the most", peak as f64 / f64::from(1 << 20)));
    }
    Ok(report.finish(common))
}

fn tell(crowd: &Crowd, plan: &Plan, ran: &Ran<Fanout>) -> Report {
    let mut report = Report::new(crowd.kind);
    report.set("subscribers", crowd.subscribers.into());
    report.set("size", crowd.speech.size.into());
    match &crowd.rate {
        Some(rate) => report.set("rate", rate_value(rate)),
        None => report.set("window", crowd.window.into()),
    }
    common_report(&mut report, ran, "deliveries", crowd.rate.is_none());
    let (harvest, parts) = (&ran.ended.harvest, crowd.common.parts.is_on());
    if let Some(window) = &ran.window {
        let sent = window.per_second(|tally| tally.sent);
        report.number("publications_per_second", sent, "publications per second", "");
        if crowd.rate.is_some() {
            // Over processes deliveries are under way, not publications.
            let each = if parts { crowd.subscribers / plan.channels.len() } else { 1 };
            kept(&mut report, window, harvest.sent() * each as u64, "publications");
        }
    }
    report.latency("latency_us", "latency of deliveries", &harvest.all_steps());
    match harvest.lasts.histogram() {
        Some(over_processes) => {
            let mut last = harvest.histogram("last");
            last.add(&over_processes).unwrap_or_default();
            report.latency("last_us", "time to last subscriber", &last);
        }
        None => report.row("time to last subscriber", "not told: too many publications to compare".into()),
    }
    if plan.backend.is_some() {
        report.latency("answer_us", "from request to answer", &harvest.histogram("answer"));
    }
    steps(&mut report, crowd.rate.as_ref(), harvest, "publications");
    let publications = harvest.count("published");
    report.set("frame_bytes", harvest.most.get("frame_bytes").copied().unwrap_or(0).into());
    report.set("run_publications", publications.into());
    report.set("run_deliveries", ran.received.into());
    report.row("checked", format!("{} deliveries of {publications} publications in the whole run", ran.received));
    sink_check::sinks(&mut report, plan, &ran.ended.scenes);
    // Over processes nobody sees a publication reach its last subscriber: there the deliveries are counted.
    judge(&mut report, if parts { ran.undrained } else { plan.slots.missing() }, harvest);
    remote_workers::tell(
        &mut report,
        &ran.ended.together,
        Some(harvest.all_steps().value_at_quantile(0.5) as f64 / 1e3),
    );
    report
}

// ---- fanout, slow

fn fanout<'a>(args: &'a args::Fanout, kind: &'static str, slow: Option<&'a scenes::Slow>) -> Crowd<'a> {
    let channels = usize::from(args.channels);
    Crowd {
        kind,
        url: &args.url,
        speech: &args.speech,
        timing: &args.timing,
        common: &args.common,
        abuse: &args.abuse,
        subscribers: args.subscribers - slow.map_or(0, slow_ones),
        slow,
        channels: args.speech.channels(&args.channel, channels),
        own_channel: args.own_channel.as_ref().map(|name| args.speech.channel(name)),
        members: Members::Dealt { channels },
        voices: Vec::new(),
        choice: Choice::Turns,
        rate: args.rate.clone(),
        arrivals: args.arrivals,
        window: args.window,
    }
}

pub fn run_fanout(args: &args::Fanout) -> Result<u8, Refusal> {
    run(fanout(args, "fanout", None), |_| ())
}

/// This process's part of a fan-out; all of it, if there are no others, or those who carry it.
pub fn fanout_crew(args: &args::Fanout) -> Result<Manned<Fanout>, Refusal> {
    let mut crowd = fanout(args, "fanout", None);
    crowd.check()?;
    let plan = Arc::new(crowd.plan()?);
    if let Some(hired) = remote_workers::hire(crowd.common, crowd.subscribers, plan.publishers)? {
        return Ok(hired);
    }
    man(&mut crowd, &plan)
}

fn slow_ones(args: &scenes::Slow) -> usize {
    (args.fanout.subscribers as f64 * args.slow).round() as usize
}

pub fn run_slow(args: &scenes::Slow) -> Result<u8, Refusal> {
    run(fanout(&args.fanout, "slow", Some(args)), |_| ())
}

// ---- chat

/// The first `wanted` members speak, in rooms where there is a number left, of which the other half of the result says how many
/// are taken. One whose rooms are all full of voices lurks.
fn talk(members: &Members, rooms: usize, wanted: usize) -> (Vec<Talker>, Vec<usize>) {
    let (mut voices, mut talkers) = (vec![0; rooms], Vec::new());
    for member in 0..wanted {
        let mut own = Vec::new();
        for room in members.channels(member) {
            if voices[room] < VOICES_MAX {
                own.push((room as u32, voices[room] as u8));
                voices[room] += 1;
            }
        }
        if !own.is_empty() {
            talkers.push(Talker { member, rooms: own });
        }
    }
    (talkers, voices)
}

pub fn run_chat(args: &scenes::Chat) -> Result<u8, Refusal> {
    let (users, rooms) = (args.connections.max(1), usize::from(args.rooms));
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let members = Members::zipf(users, rooms, usize::from(args.rooms_per_user), args.zipf, &mut rng);
    let wanted = (users as f64 * args.talkers).round() as usize;
    let (talkers, voices) = talk(&members, rooms, wanted.clamp(1, users));
    if args.speech.protocol == crate::protocols::Protocol::Plain && args.speech.hello.is_none() {
        return Err(Refusal("chat over the plain protocol needs --hello, to enter rooms".into()));
    }
    let (count, sizes) = (talkers.len(), members.sizes(users, rooms));
    let crowd = Crowd {
        kind: "chat",
        url: &args.url,
        speech: &args.speech,
        timing: &args.timing,
        common: &args.common,
        abuse: &scenes::PEACE,
        slow: None,
        subscribers: users,
        channels: args.speech.channels(&args.channel, rooms),
        own_channel: None,
        members,
        voices,
        choice: Choice::Talkers(talkers),
        rate: Some(Rate::constant(args.talk_rate * count as f64)),
        arrivals: args.arrivals,
        window: 1,
    };
    run(crowd, |report| tell_rooms(report, count, sizes))
}

fn tell_rooms(report: &mut Report, talkers: usize, mut sizes: Vec<u32>) {
    sizes.sort_unstable();
    let (seats, largest, median) = (sizes.iter().sum::<u32>(), sizes[sizes.len() - 1], sizes[sizes.len() / 2]);
    report.set("talkers", talkers.into());
    report.set("rooms", json!({"count": sizes.len(), "seats": seats, "largest": largest, "median": median}));
    report.row("rooms", format!("{} with {seats} seats; the largest has {largest}, the median {median}", sizes.len()));
    report.row("talkers", format!("{talkers}"));
}

// ---- notifications

pub fn run_notifications(args: &scenes::Notifications) -> Result<u8, Refusal> {
    let users = args.connections.max(1);
    let crowd = Crowd {
        kind: "notifications",
        url: &args.url,
        speech: &args.speech,
        timing: &args.timing,
        common: &args.common,
        abuse: &scenes::PEACE,
        slow: None,
        subscribers: users,
        channels: args.speech.channels(&args.channel, users),
        own_channel: None,
        // A table, since users may be more than a stamp can tell apart.
        members: Members::Table { starts: (0..=users as u32).collect(), rooms: (0..users as u32).collect() },
        voices: Vec::new(),
        choice: Choice::Random,
        rate: Some(args.rate.clone()),
        arrivals: args.arrivals,
        window: 1,
    };
    run(crowd, |_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn talkers_are_all_of_the_first_worker_and_nobody_is_left_out() {
        assert_eq!(lead(10, 2, 3), [(0, 5), (5, 5)]);
        assert_eq!(lead(10, 3, 8), [(0, 8), (8, 1), (9, 1)]);
        assert_eq!(lead(10, 1, 10), [(0, 10)]);
        assert_eq!(lead(10, 2, 10), [(0, 10), (10, 0)]);
    }

    #[test]
    fn no_room_has_more_voices_than_a_stamp_can_tell_apart() {
        let members = Members::Table { starts: (0..=600).collect(), rooms: vec![0; 600] };
        let (talkers, voices) = talk(&members, 1, 600);
        assert_eq!(voices, [VOICES_MAX]);
        assert_eq!(talkers.len(), VOICES_MAX, "the others lurk");
    }
}
