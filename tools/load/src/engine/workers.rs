//! All workers of a run, and the coordinator's view of them.
//!
//! `Workers::start` runs one thread per worker, or leads worker processes. The coordinator permits connections, sets the phase,
//! reads the counters and shows the progress; `finish` returns the scenarios and what was measured.

use crate::args::options::Common;
use crate::distributed::remote_workers::{ProcessStats, RemoteWorkers};
use crate::engine::clock::{SECOND, now};
use crate::engine::connection::{ConnectionStats, Io};
use crate::engine::control::{Control, Phase};
use crate::engine::counters::Counters;
use crate::engine::{EventLoop, Opening, Scenario};
use crate::interrupt;
use crate::measure::latency_series::{Seconds, merge};
use crate::measure::results::Results;
use crate::measure::server::{self, Watch};
use crate::measure::timeline::{Observer, Timeline};
use crate::net;
use crate::report::live::{Mode, Progress, State};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// The counters of all workers at one moment.
#[derive(Clone, Debug)]
pub struct Totals {
    pub at: u64,
    pub counters: Counters,
    /// Nanoseconds on a processor, per worker.
    pub cpu: Vec<u64>,
}

/// What remains when all workers have stopped.
#[derive(Debug, Default)]
pub struct Finished<S> {
    pub scenarios: Vec<S>,
    /// What all workers measured since the last pause.
    pub results: Results,
    pub connections: ConnectionStats,
    /// The whole run, second by second. Only observed workers have observations.
    pub timeline: Timeline,
    /// Only with several processes.
    pub processes: ProcessStats,
    /// The server address of the first connection.
    pub peer: Option<SocketAddr>,
}

/// How workers run.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    /// Cores to pin the workers to, in turn.
    pub cores: Vec<usize>,
    pub spin: bool,
    pub progress: Mode,
    /// The server that is observed every second, if the run is about these workers.
    pub watch: Option<Watch>,
}

impl WorkerOptions {
    /// Workers of a background load: the server is not observed for them.
    pub fn background(common: &Common) -> Self {
        let cores = common.cores.as_ref().map_or_else(Vec::new, |list| list.0.clone());
        Self { cores, spin: common.spin, progress: Mode::choose(common.quiet, common.live), watch: None }
    }

    /// The workers that the run is about. Fails if a report file cannot be written.
    pub fn observed(common: &Common) -> Result<Self, String> {
        common.files.check()?;
        server::check_pid(common.server_pid)?;
        // Each fetch of the counters costs the server something; only a full report is worth that.
        let metrics = common.server_metrics.clone().filter(|_| common.files.any());
        let watch = common.share.is_whole().then_some(Watch { pid: common.server_pid, metrics });
        Ok(Self { watch, ..Self::background(common) })
    }
}

/// Where the workers run.
enum Executors<S> {
    Threads(Vec<JoinHandle<io::Result<(S, Io)>>>),
    Processes(RemoteWorkers),
}

pub struct Workers<S> {
    pub control: Arc<Control>,
    executors: Executors<S>,
    progress: Progress,
    seconds: Seconds,
    phases: Vec<(&'static str, u64)>,
    observer: Option<Observer>,
    peer: Option<SocketAddr>,
}

/// Workers, and the number of connections of each.
pub type StartedWorkers<S> = (Workers<S>, Vec<usize>);

impl<S: Scenario + 'static> Workers<S> {
    /// Starts one worker thread per scenario. None begins a connection before `allow`.
    pub fn start(
        control: Arc<Control>,
        scenarios: Vec<(S, Opening)>,
        options: &WorkerOptions,
    ) -> Result<Self, crate::RunError> {
        let peer = scenarios.iter().find(|(_, opening)| opening.total > 0).map(|(one, _)| one.target(0).0.addr);
        let mut threads = Vec::new();
        for (worker, (mut scenario, opening)) in scenarios.into_iter().enumerate() {
            let event_loop = EventLoop::new(control.clone(), worker, opening, options.spin)?;
            let control = control.clone();
            let core = (!options.cores.is_empty()).then(|| options.cores[worker % options.cores.len()]);
            let body = move || {
                if let Some(Err(error)) = core.map(net::pin) {
                    eprintln!("corecast-load: worker {worker} was not pinned to its core: {error}");
                }
                control.slots[worker].tid.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Relaxed);
                let result = event_loop.run(&mut scenario);
                control.broken.fetch_or(result.is_err(), Relaxed);
                result.map(|io| (scenario, io))
            };
            threads.push(std::thread::Builder::new().name(format!("load-{worker}")).spawn(body)?);
        }
        Ok(Self { peer, ..Self::new(control, Executors::Threads(threads), options)? })
    }

    /// Leads worker processes; each counts as one worker.
    pub fn lead(
        control: Arc<Control>,
        processes: RemoteWorkers,
        options: &WorkerOptions,
    ) -> Result<Self, crate::RunError> {
        Ok(Self::new(control, Executors::Processes(processes), options)?)
    }

    fn new(control: Arc<Control>, executors: Executors<S>, options: &WorkerOptions) -> io::Result<Self> {
        let observer = options.watch.clone().map(|watch| Observer::start(control.clone(), watch)).transpose()?;
        let (progress, phases) = (Progress::new(options.progress), vec![("opening", control.origin)]);
        Ok(Self { control, executors, progress, seconds: Seconds::new(), phases, observer, peer: None })
    }

    pub fn count(&self) -> usize {
        self.control.slots.len()
    }

    /// Lets a worker begin connections until it has `total`.
    pub fn allow(&mut self, worker: usize, total: usize) {
        match &mut self.executors {
            Executors::Processes(processes) => processes.allow(worker, total),
            Executors::Threads(_) => {
                self.control.slots[worker].allowed.store(total, Relaxed);
                self.control.wake(worker);
            }
        }
    }

    /// Lets all workers begin their connections and waits for them; true if all are ready.
    pub fn open(&mut self, totals: &[usize], timeout: f64, what: &'static str) -> bool {
        let all = totals.iter().sum::<usize>();
        totals.iter().enumerate().for_each(|(worker, &total)| self.allow(worker, total));
        self.wait(timeout, what, |counters| counters.settled() >= all);
        self.counters().ready as usize == all
    }

    pub fn set_phase(&mut self, phase: Phase) {
        let rate = self.control.rate();
        let at = match &mut self.executors {
            Executors::Processes(processes) => processes.set_phase(phase, rate),
            Executors::Threads(_) => now(),
        };
        self.enter_phase(phase, at, rate);
        if let Executors::Processes(processes) = &mut self.executors {
            processes.refresh(&self.control);
            (0..self.count()).for_each(|worker| self.control.saw(worker, phase));
        }
    }

    /// Sets the rate over all workers, instead of that of the scenarios, from the next phase on.
    pub fn set_rate(&self, rate: f64) {
        self.control.rate.store(rate.to_bits(), Relaxed);
    }

    /// The measured time will begin at `at`. Deliveries that are due from then on may arrive before this process wakes for it.
    pub fn announce_measurement(&self, at: u64) {
        self.control.measured_from.store(at, Relaxed);
    }

    /// A phase began at `at`, with a rate.
    pub fn enter_phase(&self, phase: Phase, at: u64, rate: f64) {
        self.set_rate(rate);
        match phase {
            Phase::Warmup => self.control.measured_from.store(0, Relaxed),
            Phase::Measure => self.control.measured_from.store(at, Relaxed),
            _ => {}
        }
        self.control.phase.store(phase as u8, Release);
        (0..self.count()).for_each(|worker| self.control.wake(worker));
    }

    pub fn counters(&self) -> Counters {
        self.control.counters()
    }

    /// What all workers measured up to this pause; less if they do not hand it over in time.
    pub fn results(&mut self, timeout: f64) -> Results {
        let control = self.control.clone();
        self.wait_for(timeout, "pause", |_| control.slots.iter().all(|slot| slot.lock().results.is_some()));
        let mut sum = Results::default();
        control.slots.iter().filter_map(|slot| slot.lock().results.take()).for_each(|one| sum.merge(one));
        sum
    }

    pub fn totals(&mut self) -> Totals {
        if let Executors::Processes(processes) = &mut self.executors {
            processes.refresh(&self.control);
        }
        Totals { at: now(), cpu: self.control.cpu(), counters: self.counters() }
    }

    /// Nanoseconds on a processor, of all workers.
    pub fn cpu(&self) -> u64 {
        self.control.cpu().iter().sum()
    }

    /// Waits until `done` returns true, the time is over or Ctrl-C ends the load, showing the progress; returns whether it is
    /// done.
    pub fn wait(&mut self, seconds: f64, what: &'static str, done: impl FnMut(&Counters) -> bool) -> bool {
        self.wait_unless(interrupt::is_set, seconds, what, done)
    }

    /// The same for what follows the load: also an interrupted run waits for it.
    fn wait_for(&mut self, seconds: f64, what: &'static str, done: impl FnMut(&Counters) -> bool) -> bool {
        self.wait_unless(|| false, seconds, what, done)
    }

    fn wait_unless(
        &mut self,
        ends: impl Fn() -> bool,
        seconds: f64,
        what: &'static str,
        mut done: impl FnMut(&Counters) -> bool,
    ) -> bool {
        let begin = now();
        let end = begin.saturating_add((seconds * SECOND as f64) as u64);
        if self.phases.last().is_some_and(|(name, _)| *name != what) {
            self.phases.push((what, begin));
        }
        self.progress.begin_phase(what);
        let is_done = loop {
            let counters = self.counters();
            if done(&counters) {
                break true;
            }
            if now() >= end || self.control.is_broken() || ends() {
                break false;
            }
            self.show_progress(&counters, begin, end);
            sleep(Duration::from_nanos((end - now().min(end)).min(SECOND / 50)));
        };
        self.progress.end_phase(&self.counters());
        is_done
    }

    /// Waits until nothing is in flight (unless `ignore_in_flight`), or nothing was received for a second; ten seconds at most.
    pub fn wait_for_silence(&mut self, what: &'static str, ignore_in_flight: bool) {
        let (mut received, mut at) = (u64::MAX, now());
        self.wait_for(10.0, what, |counters| {
            if counters.received != received {
                (received, at) = (counters.received, now());
            }
            (counters.in_flight == 0 && !ignore_in_flight) || now() - at > SECOND
        });
    }

    /// Lets messages in flight arrive. What a worker sends in the turn in which the phase changes is in flight too.
    pub fn drain(&mut self) {
        let control = self.control.clone();
        self.wait_for(10.0, "draining", |_| control.all_saw_phase());
        self.wait_for_silence("draining", false);
    }

    fn show_progress(&mut self, counters: &Counters, begin: u64, end: u64) {
        let at = now();
        if !self.progress.is_due(at) {
            return;
        }
        merge(&mut self.seconds, self.control.take_seconds());
        // The last second that is over for all workers.
        let last = ((at - self.control.origin) / SECOND).checked_sub(1).and_then(|index| self.seconds.get(&index));
        let wanted: usize = self.control.slots.iter().map(|slot| slot.allowed.load(Relaxed)).sum();
        let share = |done: u64, of: u64| Some(done as f64 / of.max(1) as f64);
        let done = match self.control.phase() {
            Phase::Drain | Phase::Stop => None,
            _ if counters.settled() < wanted => share(counters.settled() as u64, wanted as u64),
            _ if end == u64::MAX => None,
            _ => share(at - begin, end - begin),
        };
        let latency = last.map(|second| &second.latency);
        self.progress.show(&State { at, counters, done, latency });
    }

    /// Stops all workers and returns what they hold.
    pub fn finish(mut self) -> Result<Finished<S>, crate::RunError> {
        let observed = self.observer.take().map(Observer::finish);
        let mut scenarios = Vec::new();
        let (mut results, mut connections) = (Results::default(), ConnectionStats::default());
        let mut processes = ProcessStats::default();
        if let Executors::Threads(_) = &self.executors {
            self.set_phase(Phase::Stop);
        }
        match self.executors {
            Executors::Processes(remote) => {
                let (rest, stats) = remote.finish();
                (results, connections, processes) = (rest.results, rest.connections, stats);
                merge(&mut self.seconds, rest.seconds);
            }
            Executors::Threads(threads) => {
                for thread in threads {
                    let (mut scenario, io) =
                        thread.join().map_err(|_| crate::RunError("a worker panicked".into()))??;
                    results.merge(scenario.take_results());
                    scenarios.push(scenario);
                    connections.merge(io.stats);
                }
            }
        }
        merge(&mut self.seconds, self.control.take_seconds());
        let (start, observations) = observed.unwrap_or_default();
        let (origin, phases, seconds) = (self.control.origin, self.phases, self.seconds);
        let timeline = Timeline { start, origin, phases, observations, seconds };
        Ok(Finished { scenarios, results, connections, timeline, processes, peer: self.peer })
    }
}
