//! The workers together, and the coordinator's view of them.
//!
//! Plan: `Crew::start` runs one thread per worker; the coordinator allows connections, moves the phase, reads the tallies and
//! shows progress once a second; `finish` gives the scenes back. What is shared is `Control`: a phase, how many connections
//! may be begun, and one board per worker.

use crate::clock::{SECOND, now};
use crate::engine::{Ending, Engine, Io, Pace, Scene};
use crate::harvest::Harvest;
use crate::net;
use crate::tally::{Board, Tally};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, OnceLock};
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

const PHASES: [Phase; 6] = [Phase::Open, Phase::Warm, Phase::Measure, Phase::Drain, Phase::Pause, Phase::Stop];

#[derive(Debug, Default)]
struct Seat {
    board: Board,
    allowed: AtomicUsize,
    waker: OnceLock<mio::Waker>,
    tid: AtomicU32,
    /// What was measured until the last pause.
    harvest: Mutex<Option<Harvest>>,
}

/// Shared by coordinator and workers.
#[derive(Debug)]
pub struct Control {
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
        let seats = (0..workers).map(|_| Seat::default()).collect();
        let [measured_from, rate] = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Self { phase: AtomicU8::new(0), measured_from, rate, seats, broken: AtomicBool::new(false) })
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
}

pub struct Crew<S> {
    pub control: Arc<Control>,
    threads: Vec<JoinHandle<io::Result<(S, Harvest, Io)>>>,
    progress: Option<Progress>,
}

impl<S: Scene + 'static> Crew<S> {
    /// Starts one worker per scene; none begins a connection before `allow`.
    pub fn start(
        control: Arc<Control>,
        scenes: Vec<(S, Pace)>,
        cores: &[usize],
        spin: bool,
        quiet: bool,
    ) -> io::Result<Self> {
        let mut threads = Vec::new();
        for (worker, (mut scene, pace)) in scenes.into_iter().enumerate() {
            let engine = Engine::new(control.clone(), worker, pace, spin)?;
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
        Ok(Self { control, threads, progress: (!quiet).then(Progress::default) })
    }

    /// Lets every worker begin connections until it has `total`.
    pub fn allow(&self, worker: usize, total: usize) {
        self.control.seats[worker].allowed.store(total, Relaxed);
        self.control.wake(worker);
    }

    pub fn set_phase(&self, phase: Phase) {
        match phase {
            Phase::Warm => self.control.measured_from.store(0, Relaxed),
            Phase::Measure => self.control.measured_from.store(now(), Relaxed),
            _ => {}
        }
        self.control.phase.store(phase as u8, Release);
        (0..self.control.seats.len()).for_each(|worker| self.control.wake(worker));
    }

    pub fn tally(&self) -> Tally {
        self.control.seats.iter().fold(Tally::default(), |sum, seat| sum.plus(&seat.board.read()))
    }

    pub fn totals(&self) -> Totals {
        let cpu = self.control.seats.iter().map(|seat| {
            let tid = seat.tid.load(Relaxed);
            crate::server::run_time(&format!("/proc/self/task/{tid}/schedstat"))
        });
        Totals { at: now(), cpu: cpu.collect(), tally: self.tally() }
    }

    /// Waits until `done` says so or the deadline is over, showing progress; true if done.
    pub fn wait(&mut self, seconds: f64, what: &str, mut done: impl FnMut(&Tally) -> bool) -> bool {
        let end = now().saturating_add((seconds * SECOND as f64) as u64);
        loop {
            let tally = self.tally();
            if done(&tally) {
                return true;
            }
            if now() >= end || self.control.broken.load(Relaxed) {
                return false;
            }
            if let Some(progress) = &mut self.progress {
                progress.tick(what, &tally);
            }
            sleep(Duration::from_nanos((end - now().min(end)).min(SECOND / 50)));
        }
    }

    /// Stops all workers and takes back what they hold.
    pub fn finish(self) -> io::Result<Ended<S>> {
        self.set_phase(Phase::Stop);
        let mut ended = Ended {
            scenes: Vec::new(),
            harvest: Harvest::default(),
            closes: BTreeMap::new(),
            errors: BTreeMap::new(),
            endings: Vec::new(),
            handshakes: [0; 2],
        };
        for thread in self.threads {
            let (scene, harvest, io) = thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
            ended.scenes.push(scene);
            ended.harvest.add(harvest);
            ended.endings.extend(io.endings);
            (0..2).for_each(|kind| ended.handshakes[kind] += io.handshakes[kind]);
            io.closes.iter().for_each(|(code, n)| *ended.closes.entry(*code).or_default() += n);
            io.errors.iter().for_each(|(why, n)| *ended.errors.entry(why.clone()).or_default() += n);
        }
        Ok(ended)
    }
}

/// One line a second, to stderr.
#[derive(Debug, Default)]
struct Progress {
    begun: u64,
    next: u64,
    last: Tally,
    last_at: u64,
}

impl Progress {
    fn tick(&mut self, what: &str, tally: &Tally) {
        let at = now();
        if self.begun == 0 {
            (self.begun, self.next, self.last_at, self.last) = (at, at + SECOND, at, *tally);
        }
        if at < self.next {
            return;
        }
        let seconds = (at - self.last_at) as f64 / SECOND as f64;
        let delta = tally.since(&self.last);
        let open = tally.ready - tally.closed;
        let mut line = format!("{:>4} s  {what:<8} {open} open", (at - self.begun) / SECOND);
        if delta.received + delta.sent > 0 {
            let rate = |n: u64| (n as f64 / seconds) as u64;
            line += &format!(", {}/s in, {}/s out", rate(delta.received), rate(delta.sent));
        }
        for (name, n) in [("failed", tally.failed), ("closed", tally.closed), ("faults", tally.faults)] {
            if n > 0 {
                line += &format!(", {n} {name}");
            }
        }
        let _ = writeln!(io::stderr(), "{line}");
        (self.next, self.last_at, self.last) = (self.next + SECOND, at, *tally);
    }
}
