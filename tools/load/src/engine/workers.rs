//! The workers together, and the coordinator's view of them.
//!
//! Plan: `Crew::start` runs one thread per worker; the coordinator allows connections, moves the phase, reads the tallies and
//! shows progress; `finish` gives the scenes back. What is shared is `Control`: a phase, how many connections may be begun, and
//! one seat per worker with a board of what it counted and the seconds that nobody fetched yet.

use crate::distributed::remote_workers::{Far, Together};
use crate::engine::clock::{SECOND, now};
use crate::engine::connection::Openings;
use crate::engine::counters::{Board, Tally};
use crate::engine::{Ending, Engine, Io, Pace, Scene};
use crate::measure::latency_series::{Second, Seconds};
use crate::measure::results::Harvest;
use crate::measure::server::Watch;
use crate::measure::timeline::{Timeline, Watcher};
use crate::net;
use crate::report::live::{Mode, State, View};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// What all workers are doing. It only ever moves forward; a search goes round from `Pause` to `Warm`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Phase {
    Open,
    /// Traffic runs; what is measured is thrown away.
    Warm,
    Measure,
    /// Nothing new is sent; what is under way may arrive.
    Drain,
    /// All is silent, and what was measured is handed over.
    Pause,
    Stop,
}

pub const PHASES: [Phase; 6] = [Phase::Open, Phase::Warm, Phase::Measure, Phase::Drain, Phase::Pause, Phase::Stop];

#[derive(Debug, Default)]
struct Seat {
    board: Board,
    allowed: AtomicUsize,
    waker: OnceLock<mio::Waker>,
    tid: AtomicU32,
    /// Of another process: nanoseconds on a processor per worker, as it said last.
    told_cpu: Mutex<Vec<u64>>,
    /// The phase of the last turn that is shown on the board.
    seen: AtomicU8,
    /// What was measured until the last pause.
    harvest: Mutex<Option<Harvest>>,
    seconds: Mutex<Vec<Second>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// Shared by coordinator and workers.
#[derive(Debug)]
pub struct Control {
    /// Where seconds are counted from.
    origin: u64,
    phase: AtomicU8,
    /// When the measured time began; 0: it has not.
    measured_from: AtomicU64,
    /// The bits of messages per second over all workers, where they change from one measurement to the next.
    rate: AtomicU64,
    seats: Vec<Seat>,
    /// A worker ended by an error of its own.
    broken: AtomicBool,
}

impl Control {
    pub fn new(workers: usize) -> Arc<Self> {
        Self::since(workers, None)
    }

    /// Seconds are counted from that moment, or from now.
    pub fn since(workers: usize, origin: Option<u64>) -> Arc<Self> {
        let seats = (0..workers).map(|_| Seat::default()).collect();
        let [measured_from, rate] = [AtomicU64::new(0), AtomicU64::new(0)];
        let phase = AtomicU8::new(0);
        Arc::new(Self {
            origin: origin.unwrap_or_else(now),
            phase,
            measured_from,
            rate,
            seats,
            broken: AtomicBool::new(false),
        })
    }

    pub fn origin(&self) -> u64 {
        self.origin
    }

    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Acquire))]
    }

    /// When the measured time began; 0: it has not.
    pub fn measured_from(&self) -> u64 {
        self.measured_from.load(Relaxed)
    }

    /// Messages per second over all workers, in place of what scenes were made with; 0: as they were made.
    pub fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Relaxed))
    }

    /// A worker can go on no longer.
    pub fn give_up(&self) {
        self.broken.store(true, Relaxed);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// A worker hands over what was measured.
    pub fn hand_over(&self, worker: usize, harvest: Harvest) {
        *self.seats[worker].harvest.lock().expect("no holder panics: it only stores") = Some(harvest);
    }

    pub fn allowed(&self, worker: usize) -> usize {
        self.seats[worker].allowed.load(Relaxed)
    }

    pub fn show(&self, worker: usize, tally: &Tally) {
        self.seats[worker].board.show(tally);
    }

    /// A worker's seconds that are over, and its errors if there are new ones.
    pub fn tell(&self, worker: usize, io: &mut Io) {
        let seat = &self.seats[worker];
        if !io.pulse.done.is_empty() {
            seat.seconds.lock().expect("no holder panics: it only appends").append(&mut io.pulse.done);
        }
        if io.tally.failed + io.tally.closed > io.faults_told {
            io.faults_told = io.tally.failed + io.tally.closed;
            seat.errors.lock().expect("no holder panics: it only copies").clone_from(&io.errors);
        }
    }

    /// Seconds that another process's workers have over.
    pub fn told_seconds(&self, worker: usize, mut seconds: Vec<Second>) {
        self.seats[worker].seconds.lock().expect("no holder panics: it only appends").append(&mut seconds);
    }

    /// Seconds that are over since the last look.
    pub fn new_seconds(&self) -> Seconds {
        let mut seconds = Seconds::default();
        self.take_seconds(&mut seconds);
        seconds
    }

    fn take_seconds(&self, into: &mut Seconds) {
        for seat in &self.seats {
            into.add(std::mem::take(&mut *seat.seconds.lock().expect("no holder panics: it only appends")));
        }
    }

    /// Failures by kind until now.
    fn errors(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for seat in &self.seats {
            let errors = seat.errors.lock().expect("no holder panics: it only copies");
            errors.iter().for_each(|(why, n)| *sum.entry(why.clone()).or_default() += n);
        }
        sum
    }

    pub fn tally(&self) -> Tally {
        self.seats.iter().fold(Tally::default(), |sum, seat| sum.plus(&seat.board.read()))
    }

    /// Nanoseconds on a processor, per worker.
    pub fn cpu(&self) -> Vec<u64> {
        let run_time = |seat: &Seat| match seat.tid.load(Relaxed) {
            0 => seat.told_cpu.lock().expect("no holder panics: it only stores").clone(),
            tid => vec![crate::measure::server::run_time(&format!("/proc/self/task/{tid}/schedstat"))],
        };
        self.seats.iter().flat_map(run_time).collect()
    }

    /// What a worker in another process says of itself.
    pub fn told(&self, worker: usize, tally: &Tally, cpu: Vec<u64>) {
        self.show(worker, tally);
        *self.seats[worker].told_cpu.lock().expect("no holder panics: it only stores") = cpu;
    }

    /// The worker's last turn was one of that phase, and is shown.
    pub fn saw(&self, worker: usize, phase: Phase) {
        self.seats[worker].seen.store(phase as u8, Release);
    }

    /// Whether every worker has shown a turn of the present phase: what it says then is no leftover of the one before.
    pub fn all_saw(&self) -> bool {
        let phase = self.phase.load(Relaxed);
        self.seats.iter().all(|seat| seat.seen.load(Acquire) == phase)
    }

    pub fn set_waker(&self, worker: usize, waker: mio::Waker) {
        let _ = self.seats[worker].waker.set(waker);
    }

    pub fn wake(&self, worker: usize) {
        if let Some(waker) = self.seats[worker].waker.get() {
            let _ = waker.wake();
        }
    }
}

/// Everything the workers counted until now, at one moment.
#[derive(Clone, Debug)]
pub struct Totals {
    pub at: u64,
    pub tally: Tally,
    /// Nanoseconds on a processor, per worker.
    pub cpu: Vec<u64>,
}

/// What is left when all workers have stopped.
#[derive(Debug)]
pub struct Ended<S> {
    pub scenes: Vec<S>,
    /// What all of them measured since the last pause.
    pub harvest: Harvest,
    pub closes: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
    /// Ready connections that the server ended, in no order.
    pub endings: Vec<Ending>,
    /// TLS hand-shakes that were full, and that took a session up again.
    pub handshakes: [u64; 2],
    pub openings: Openings,
    /// How late messages and connections left, against when they should have.
    pub lag: Histogram<u64>,
    /// The whole course of time; only of a crew that is watched there are looks.
    pub timeline: Timeline,
    /// What there is to say of the processes, where there were several.
    pub together: Together,
    /// Where the first connection went.
    pub peer: Option<SocketAddr>,
}

/// What a crew is run with.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// Cores to pin the workers to, in turn.
    pub cores: Vec<usize>,
    pub spin: bool,
    pub mode: Mode,
    /// The server that is looked at every second, if the crew is the one that the run is about.
    pub watch: Option<Watch>,
}

pub struct Crew<S> {
    pub control: Arc<Control>,
    threads: Vec<JoinHandle<io::Result<(S, Harvest, Io)>>>,
    view: View,
    seconds: Seconds,
    phases: Vec<(&'static str, u64)>,
    watcher: Option<Watcher>,
    peer: Option<SocketAddr>,
    /// The workers are other processes.
    far: Option<Mutex<Far>>,
}

/// A crew, and the connections of each of its workers.
pub type Manned<S> = (Crew<S>, Vec<usize>);

impl<S: Scene + 'static> Crew<S> {
    /// Starts one worker per scene; none begins a connection before `allow`.
    pub fn start(control: Arc<Control>, scenes: Vec<(S, Pace)>, means: &Means) -> io::Result<Self> {
        let Means { cores, spin, mode, watch } = means;
        let peer = scenes.iter().find(|(_, pace)| pace.total > 0).map(|(scene, _)| scene.target(0).0.addr);
        let watcher = watch.clone().map(|watch| Watcher::start(control.clone(), watch)).transpose()?;
        let mut threads = Vec::new();
        for (worker, (mut scene, pace)) in scenes.into_iter().enumerate() {
            let engine = Engine::new(control.clone(), worker, pace, *spin)?;
            let control = control.clone();
            let core = (!cores.is_empty()).then(|| cores[worker % cores.len()]);
            let body = move || {
                if let Some(core) = core.filter(|&core| !net::pin(core)) {
                    eprintln!("corecast-load: worker {worker} could not be pinned to core {core}");
                }
                control.seats[worker].tid.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Relaxed);
                let result = engine.run(&mut scene);
                control.broken.fetch_or(result.is_err(), Relaxed);
                result.map(|io| {
                    let harvest = scene.harvest();
                    (scene, harvest, io)
                })
            };
            threads.push(std::thread::Builder::new().name(format!("load-{worker}")).spawn(body)?);
        }
        let (view, seconds, phases) = (View::new(*mode), Seconds::default(), vec![("opening", control.origin())]);
        Ok(Self { control, threads, far: None, view, seconds, phases, watcher, peer })
    }

    /// Leads the parts of other processes as workers.
    pub fn hire(control: Arc<Control>, far: Far, means: &Means) -> io::Result<Self> {
        let watcher = means.watch.clone().map(|watch| Watcher::start(control.clone(), watch)).transpose()?;
        let (view, seconds, phases) = (View::new(means.mode), Seconds::default(), vec![("opening", control.origin())]);
        let (threads, far, peer) = (Vec::new(), Some(Mutex::new(far)), None);
        Ok(Self { control, threads, far, view, seconds, phases, watcher, peer })
    }

    fn far(&self) -> Option<MutexGuard<'_, Far>> {
        Some(self.far.as_ref()?.lock().expect("no holder panics: it only writes and waits"))
    }

    /// How many workers there are; parts count as one each.
    pub fn hands(&self) -> usize {
        self.control.seats.len()
    }

    /// Lets every worker begin connections until it has `total`.
    pub fn allow(&self, worker: usize, total: usize) {
        if let Some(mut far) = self.far() {
            return far.allow(worker, total);
        }
        self.control.seats[worker].allowed.store(total, Relaxed);
        self.control.wake(worker);
    }

    pub fn set_phase(&self, phase: Phase) {
        let rate = self.control.rate();
        let Some(mut far) = self.far() else { return self.enter(phase, now(), rate) };
        let at = far.enter(phase, rate);
        self.enter(phase, at, rate);
        if phase < Phase::Stop {
            far.look(&self.control);
        }
        (0..self.hands()).for_each(|worker| self.control.saw(worker, phase));
    }

    /// Messages per second over all workers, in place of what their scenes were made with, from the next phase on.
    pub fn set_rate(&self, rate: f64) {
        self.control.rate.store(rate.to_bits(), Relaxed);
    }

    /// The measured time will begin at `at`: what is due from then on may come before this process has woken for it.
    pub fn foretell(&self, at: u64) {
        self.control.measured_from.store(at, Relaxed);
    }

    /// The phase that began at `at`, and its rate.
    pub fn enter(&self, phase: Phase, at: u64, rate: f64) {
        self.set_rate(rate);
        match phase {
            Phase::Warm => self.control.measured_from.store(0, Relaxed),
            Phase::Measure => self.control.measured_from.store(at, Relaxed),
            _ => {}
        }
        self.control.phase.store(phase as u8, Release);
        (0..self.control.seats.len()).for_each(|worker| self.control.wake(worker));
    }

    pub fn tally(&self) -> Tally {
        self.control.tally()
    }

    /// What all workers measured until this pause; less, if they do not hand it over in time.
    pub fn harvest(&mut self, seconds: f64) -> Harvest {
        let control = self.control.clone();
        let seats = || control.seats.iter().map(|seat| seat.harvest.lock().expect("no holder panics: it only stores"));
        self.wait(seconds, "pause", |_| seats().all(|seat| seat.is_some()));
        seats().filter_map(|mut seat| seat.take()).fold(Harvest::default(), |mut sum, one| {
            sum.add(one);
            sum
        })
    }

    pub fn totals(&self) -> Totals {
        if let Some(mut far) = self.far() {
            far.look(&self.control);
        }
        Totals { at: now(), cpu: self.control.cpu(), tally: self.tally() }
    }

    /// Waits until `done` says so or the deadline is over, showing progress; true if done.
    pub fn wait(&mut self, seconds: f64, what: &'static str, mut done: impl FnMut(&Tally) -> bool) -> bool {
        let begin = now();
        let end = begin.saturating_add((seconds * SECOND as f64) as u64);
        if self.phases.last().is_some_and(|(name, _)| *name != what) {
            self.phases.push((what, begin));
        }
        self.view.enter(what);
        let answer = loop {
            let tally = self.tally();
            if done(&tally) {
                break true;
            }
            if now() >= end || self.control.broken.load(Relaxed) {
                break false;
            }
            self.show(&tally, begin, end);
            sleep(Duration::from_nanos((end - now().min(end)).min(SECOND / 50)));
        };
        self.view.leave(&self.tally());
        answer
    }

    fn show(&mut self, tally: &Tally, begin: u64, end: u64) {
        let at = now();
        if !self.view.is_due(at) {
            return;
        }
        self.control.take_seconds(&mut self.seconds);
        // The last one that is over for all workers.
        let last = ((at - self.control.origin) / SECOND).checked_sub(1).and_then(|index| self.seconds.get(index));
        let wanted: u64 = self.control.seats.iter().map(|seat| seat.allowed.load(Relaxed) as u64).sum();
        let begun = tally.ready + tally.failed;
        let part = |done: u64, of: u64| Some(done as f64 / of.max(1) as f64);
        let share = match self.control.phase() {
            Phase::Drain | Phase::Stop => None,
            _ if begun < wanted => part(begun, wanted),
            _ if end == u64::MAX => None,
            _ => part(at - begin, end - begin),
        };
        let latency = last.map(|second| &second.latency);
        self.view.draw(&State { at, tally, share, latency, errors: &self.control.errors() });
    }

    /// Stops all workers and takes back what they hold.
    pub fn finish(mut self) -> io::Result<Ended<S>> {
        let looks = self.watcher.take().map(Watcher::end);
        if self.far.is_none() {
            self.set_phase(Phase::Stop);
        }
        let mut ended = Ended {
            scenes: Vec::new(),
            harvest: Harvest::default(),
            closes: BTreeMap::new(),
            errors: BTreeMap::new(),
            endings: Vec::new(),
            handshakes: [0; 2],
            openings: Openings::default(),
            lag: crate::report::histogram(),
            together: Together::default(),
            timeline: Timeline::default(),
            peer: self.peer,
        };
        if let Some(far) = self.far {
            far.into_inner().expect("no holder panics: it only writes and waits").finish(&mut ended);
            self.seconds.add(std::mem::take(&mut ended.timeline.seconds).into_vec());
        }
        for thread in self.threads {
            let (scene, harvest, io) = thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
            ended.scenes.push(scene);
            ended.harvest.add(harvest);
            ended.endings.extend(io.endings);
            ended.openings.add(&io.openings);
            // The histograms have the same bounds, so adding cannot fail.
            let _ = ended.lag.add(&io.lag);
            (0..2).for_each(|kind| ended.handshakes[kind] += io.handshakes[kind]);
            io.closes.iter().for_each(|(code, n)| *ended.closes.entry(*code).or_default() += n);
            io.errors.iter().for_each(|(why, n)| *ended.errors.entry(why.clone()).or_default() += n);
        }
        self.control.take_seconds(&mut self.seconds);
        let (origin, phases, seconds) = (self.control.origin, self.phases, self.seconds);
        let (begin, looks) = looks.unwrap_or_default();
        ended.timeline = Timeline { begin, origin, phases, looks, seconds };
        Ok(ended)
    }
}
