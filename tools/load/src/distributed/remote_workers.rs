//! The coordinator's view of the processes that carry parts of its run: started here or met on other hosts, told what to do,
//! heard, and ended.
//!
//! Plan: a part is one worker of the crew to those who lead it. A thread per part hears its words: tallies go to the worker's
//! board, harvests to its seat, answers to whoever asked. Phases begin at one instant of all clocks: a little later than it takes
//! to say so.
//! Invariant: a part that is lost breaks the crew, and its name stands among the errors.

use crate::args::Common;
use crate::args::options::Parts;
use crate::distributed::agent;
use crate::distributed::coordinator_protocol::{self, Job, MESSAGE_BYTES_MAX, Order, Rest, Word};
use crate::engine::Scene;
use crate::engine::clock::{SECOND, now};
use crate::engine::connection::Openings;
use crate::engine::counters::Tally;
use crate::engine::workers::{Control, Ended, Manned, Phase};
use crate::report::{Report, human};
use crate::runs::{self, Refusal, shares};
use serde_json::json;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

/// From an order to the moment at which all follow it, for parts on this machine; elsewhere a journey comes to it.
const LEAD: u64 = SECOND / 4;
/// How long a part may take to be ready, and to hand over what it has.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a look at all parts may take.
const LOOK_SECONDS: u64 = 5;
/// Exchanges by which a clock is compared; the fastest of them counts.
const EXCHANGES: usize = 32;

/// How far another clock is ahead, and how far that may be wrong; nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    pub ahead: i64,
    pub uncertain: u64,
}

/// What a part's thread hears and others read.
#[derive(Debug, Default)]
struct Heard {
    look: AtomicU64,
}

pub struct Part {
    pub name: String,
    pub writer: Box<dyn Write + Send>,
    pub reader: Option<Box<dyn Read + Send>>,
    /// A process of ours.
    pub child: Option<Child>,
    /// Clocks of other hosts are compared; None: it is our own.
    pub clock: Option<Offset>,
    heard: Arc<Heard>,
    answers: Option<Receiver<Word>>,
}

impl Part {
    pub fn new(name: String, reader: Box<dyn Read + Send>, writer: Box<dyn Write + Send>) -> Self {
        let heard = Arc::default();
        Self { name, writer, reader: Some(reader), child: None, clock: None, heard, answers: None }
    }

    /// A process of this program that carries a part.
    fn spawn(number: usize) -> Result<Self, Refusal> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("part").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Refusal("a part has no pipes".into()));
        };
        let part = Self::new(format!("process {number}"), Box::new(output), Box::new(input));
        Ok(Self { child: Some(child), ..part })
    }

    fn say(&mut self, order: &Order) -> Result<(), Refusal> {
        coordinator_protocol::say(&mut self.writer, order).map_err(|e| Refusal(format!("{}: {e}", self.name)))
    }

    /// Waits for an answer.
    fn answer(&self) -> Result<Word, Refusal> {
        let lost = || Refusal(format!("{} does not answer", self.name));
        let word = self.answers.as_ref().ok_or_else(lost)?.recv_timeout(PATIENCE).map_err(|_| lost())?;
        match word {
            Word::Refused(why) => Err(Refusal(format!("{}: {why}", self.name))),
            other => Ok(other),
        }
    }

    /// Begins to hear it as worker number `worker`.
    fn listen(&mut self, control: &Arc<Control>, worker: usize) {
        let (sender, answers) = channel();
        self.answers = Some(answers);
        let (control, heard) = (control.clone(), self.heard.clone());
        if let Some(reader) = self.reader.take() {
            std::thread::spawn(move || hear(reader, &control, worker, &heard, &sender));
        }
    }

    /// Compares its clock with ours.
    fn compare_clock(&mut self) -> Result<Offset, Refusal> {
        let mut best = Offset { ahead: 0, uncertain: u64::MAX };
        for _ in 0..EXCHANGES {
            let asked = now();
            self.say(&Order::Clock)?;
            let Word::Clock(theirs) = self.answer()? else {
                return Err(Refusal(format!("{} says something else than the time", self.name)));
            };
            let took = now() - asked;
            if took / 2 < best.uncertain {
                best = Offset { ahead: theirs.wrapping_sub(asked + took / 2).cast_signed(), uncertain: took / 2 };
            }
        }
        Ok(best)
    }

    fn ahead(&self) -> i64 {
        self.clock.map_or(0, |clock| clock.ahead)
    }
}

fn hear(mut reader: impl Read, control: &Control, worker: usize, heard: &Heard, answers: &Sender<Word>) {
    while let Ok(word) = coordinator_protocol::hear(&mut reader, MESSAGE_BYTES_MAX) {
        match word {
            Word::Tally { look, tally, cpu, seconds } => {
                control.told(worker, &Tally::from_slice(&tally), cpu);
                control.told_seconds(worker, seconds);
                heard.look.store(look, Relaxed);
            }
            Word::Harvest(form) => match form.unpack() {
                Ok(harvest) => control.hand_over(worker, harvest),
                Err(_) => break,
            },
            other => {
                let (ended, refused) = (matches!(other, Word::Ended(_)), matches!(other, Word::Refused(_)));
                if answers.send(other).is_err() || ended {
                    return;
                }
                if refused {
                    break;
                }
            }
        }
    }
    control.give_up();
}

/// All parts of a run.
pub struct Far {
    parts: Vec<Part>,
    lead: u64,
    looks: u64,
}

/// What is told of a part.
#[derive(Clone, Debug)]
pub struct Said {
    pub name: String,
    pub opened: u64,
    pub opening_nanos: u64,
}

/// What is told of the parts together.
#[derive(Clone, Debug, Default)]
pub struct Together {
    pub parts: Vec<Said>,
    /// Names of those that ended before their time.
    pub lost: Vec<String>,
    /// By how much a latency between hosts may be wrong, and how far their clocks went apart during the run; None: one clock.
    pub clock: Option<(u64, u64)>,
}

impl Far {
    /// Gives every part its job and waits until all are ready.
    fn employ(mut parts: Vec<Part>, control: &Arc<Control>) -> Result<Self, Refusal> {
        parts.iter_mut().enumerate().for_each(|(worker, part)| part.listen(control, worker));
        for part in parts.iter_mut().filter(|part| part.clock.is_some()) {
            part.clock = Some(part.compare_clock()?);
        }
        let (of, first) = (parts.len(), parts.first().map_or(0, Part::ahead));
        let args: Vec<String> = std::env::args().skip(1).collect();
        for (number, part) in parts.iter_mut().enumerate() {
            let ahead = part.ahead().wrapping_sub(first);
            let version = env!("CARGO_PKG_VERSION").into();
            let origin = control.origin().saturating_add_signed(part.ahead());
            part.say(&Order::Job(Job { version, args: args.clone(), part: number, of, ahead, origin }))?;
        }
        for part in &parts {
            let Word::Ready = part.answer()? else {
                return Err(Refusal(format!("{} is not ready", part.name)));
            };
        }
        let slowest = parts.iter().filter_map(|part| part.clock).map(|clock| clock.uncertain).max().unwrap_or(0);
        Ok(Self { parts, lead: LEAD + 4 * slowest, looks: 0 })
    }

    pub fn allow(&mut self, worker: usize, total: usize) {
        // A part that cannot be told is noticed by the thread that hears it.
        let _ = self.parts[worker].say(&Order::Allow(total));
    }

    /// Lets all parts be in a phase from one moment on, and gives that moment when it has come.
    pub fn enter(&mut self, phase: Phase, rate: f64) -> u64 {
        let at = now() + self.lead;
        for part in &mut self.parts {
            let theirs = at.saturating_add_signed(part.ahead());
            let _ = part.say(&Order::Phase { phase: phase as u8, at: theirs, rate });
        }
        sleep(Duration::from_nanos(at.saturating_sub(now())));
        at
    }

    /// Waits until every part has said what it counted until now.
    pub fn look(&mut self, control: &Control) {
        self.looks += 1;
        let (look, end) = (self.looks, now() + LOOK_SECONDS * SECOND);
        for part in &mut self.parts {
            let _ = part.say(&Order::Look(look));
        }
        let behind = |part: &Part| part.heard.look.load(Relaxed) < look;
        while self.parts.iter().any(behind) && now() < end && !control.is_broken() {
            sleep(Duration::from_micros(200));
        }
    }

    /// Stops all parts and takes what they have.
    pub fn finish<S>(mut self, ended: &mut Ended<S>) {
        let mut clock = self.parts.iter().any(|part| part.clock.is_some()).then_some((0, 0));
        for part in &mut self.parts {
            let (Some(before), Some((uncertain, drift))) = (part.clock, &mut clock) else { continue };
            let Ok(after) = part.compare_clock() else { continue };
            *uncertain = (*uncertain).max(before.uncertain.max(after.uncertain));
            *drift = (*drift).max(after.ahead.abs_diff(before.ahead));
        }
        self.enter(Phase::Stop, 0.0);
        for mut part in self.parts {
            match part.answer() {
                Ok(Word::Ended(rest)) => {
                    let said = Said { name: part.name.clone(), opened: rest.opened, opening_nanos: rest.opening_nanos };
                    ended.together.parts.push(said);
                    take(ended, *rest);
                }
                Ok(_) | Err(_) => ended.together.lost.push(part.name.clone()),
            }
            // Its input ends, and with it the part.
            part.writer = Box::new(std::io::sink());
            if let Some(mut child) = part.child {
                let _ = child.wait();
            }
        }
        // Two clocks are compared with ours, so both may be wrong.
        ended.together.clock = clock.map(|(uncertain, drift)| (2 * uncertain + drift, drift));
    }
}

fn take<S>(ended: &mut Ended<S>, rest: Rest) {
    let [upgraded, connected, subscribed, ready, lag] = rest.histograms.map(|text| coordinator_protocol::unpack(&text));
    if let (Ok(upgraded), Ok(connected), Ok(subscribed), Ok(ready)) = (upgraded, connected, subscribed, ready) {
        ended.openings.add(&Openings { upgraded, connected, subscribed, ready });
    }
    if let Ok(lag) = lag {
        // Bounds are the same in every process of one version.
        let _ = ended.lag.add(lag);
    }
    match rest.harvest.unpack() {
        Ok(harvest) => ended.harvest.add(harvest),
        Err(e) => drop(ended.errors.insert(format!("a part's figures cannot be read: {e}"), 1)),
    }
    ended.timeline.seconds.add(rest.seconds);
    rest.closes.into_iter().for_each(|(code, n)| *ended.closes.entry(code).or_default() += n);
    rest.errors.into_iter().for_each(|(why, n)| *ended.errors.entry(why).or_default() += n);
    (0..2).for_each(|kind| ended.handshakes[kind] += rest.handshakes[kind]);
}

/// The crew of a run that is carried by several processes, and the connections of each: `more` for the first beside its share of
/// `total`. None: this process carries it alone.
pub fn hire<S: Scene + 'static>(common: &Common, total: usize, more: usize) -> Result<Option<Manned<S>>, Refusal> {
    if !common.share.is_whole() {
        // We are such a part.
        return Ok(None);
    }
    let Some(parts) = parts(&common.parts)? else { return Ok(None) };
    let mut totals: Vec<usize> = shares(total, parts.len()).into_iter().map(|share| share.1).collect();
    totals[0] += more;
    let control = Control::new(parts.len());
    let far = Far::employ(parts, &control)?;
    Ok(Some((runs::lead(control, far, common)?, totals)))
}

fn parts(options: &Parts) -> Result<Option<Vec<Part>>, Refusal> {
    if let Some(name) = &options.hosts_key_env {
        let key = agent::key("--hosts-key-env", name)?;
        let each = usize::from(options.processes.unwrap_or(1));
        let places = options.hosts.iter().flat_map(|host| (0..each).map(move |number| (host, number)));
        return places.map(|(host, number)| agent::meet(host, number, &key)).collect::<Result<Vec<_>, _>>().map(Some);
    }
    match options.processes {
        None => Ok(None),
        Some(n) => (0..usize::from(n)).map(Part::spawn).collect::<Result<Vec<_>, _>>().map(Some),
    }
}

/// What the parts were, how fast each opened its connections, and what their clocks are good for; `latency` between them must
/// be ten times as long as the clocks may be wrong, or it says nothing.
pub fn tell(report: &mut Report, together: &Together, latency: Option<f64>) {
    let rate = |said: &Said| said.opened as f64 / (said.opening_nanos as f64 / 1e9);
    if !together.lost.is_empty() {
        report.void(format!("{} was lost, and what it counted with it", together.lost.join(", ")));
    }
    if together.parts.is_empty() {
        return;
    }
    let entry = |said: &Said| json!({"name": said.name, "opened": said.opened, "opened_per_second": rate(said)});
    report.set("parts", together.parts.iter().map(entry).collect::<Vec<_>>().into());
    let opened = together.parts.iter().filter(|said| said.opened > 0 && said.opening_nanos > 0);
    let (least, most) = opened.map(rate).fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), r| (a.min(r), b.max(r)));
    let n = together.parts.len();
    report.row("processes", format!("{n}, each opened {} to {} connections per second", human(least), human(most)));
    let Some((uncertain, drift)) = together.clock else { return };
    let micros = |nanos: u64| nanos as f64 / 1e3;
    report.set("clock_uncertain_us", json!(micros(uncertain)));
    let (text, apart) = (human(micros(uncertain)), human(micros(drift)));
    report.row("clocks", format!("a latency between hosts may be wrong by {text} µs; they went {apart} µs apart"));
    if let Some(p50) = latency.filter(|p50| micros(uncertain) > p50 / 10.0) {
        let p50 = human(p50);
        report.void(format!(
            "as latency: the hosts' clocks may differ by {text} µs, more than a tenth of the p50 of {p50} µs"
        ));
    }
}
