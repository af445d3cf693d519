//! The coordinator's view of the worker processes: it starts them here or meets them on other hosts, sends them commands, receives
//! their reports, and ends them.
//!
//! For `Workers`, a worker process is one worker. A thread per process receives its reports: counters go to the worker's slot,
//! replies to the caller that waits. A phase begins at the same instant in all processes, a little later than it takes to announce
//! it.
//! Invariant: a process that is lost breaks the run, and its name is reported.

use crate::RunError;
use crate::distributed::coordinator_protocol::{Command, Job, MESSAGE_BYTES_MAX, Report, Rest, receive, send};
use crate::engine::clock::{SECOND, now};
use crate::engine::control::{Control, Phase};
use crate::measure::latency_series::merge;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

/// From a command to the moment at which all processes of this machine follow it. For other hosts, the network is added.
const LEAD: u64 = SECOND / 4;
/// The timeout for the answer of a process.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout for the counters of all processes.
const REFRESH_TIMEOUT: u64 = 5 * SECOND;
/// Exchanges that compare two clocks; the fastest one counts.
const CLOCK_EXCHANGES: usize = 32;

/// How far another clock is ahead, and the uncertainty of that; nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    pub ahead: i64,
    pub uncertainty: u64,
}

pub struct RemoteWorker {
    name: String,
    writer: Box<dyn Write + Send>,
    reader: Option<Box<dyn Read + Send>>,
    /// A process that this one started.
    child: Option<Child>,
    /// Only on other hosts; `None`: the clock of this machine.
    clock: Option<ClockOffset>,
    /// The number of the last `Refresh` that was answered.
    refreshed: Arc<AtomicU64>,
    answers: Option<Receiver<Report>>,
}

impl RemoteWorker {
    pub fn new(name: String, reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        let (reader, writer) = (Some(Box::new(reader) as _), Box::new(writer));
        Self { name, writer, reader, child: None, clock: None, refreshed: Arc::default(), answers: None }
    }

    /// A worker process on another host, whose clock has to be compared.
    pub fn on_host(name: String, stream: std::net::TcpStream) -> std::io::Result<Self> {
        Ok(Self { clock: Some(ClockOffset::default()), ..Self::new(name, stream.try_clone()?, stream) })
    }

    /// Starts a worker process on this machine.
    pub fn spawn(number: usize) -> Result<Self, RunError> {
        let mut command = process::Command::new(std::env::current_exe()?);
        // Ctrl-C is for the coordinator, which ends its processes.
        command.process_group(0);
        let mut child = command.arg("part").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(RunError("a worker process has no pipes".into()));
        };
        Ok(Self { child: Some(child), ..Self::new(format!("process {number}"), output, input) })
    }

    fn send(&mut self, command: &Command) -> Result<(), RunError> {
        send(&mut self.writer, command).map_err(|e| RunError(format!("{}: {e}", self.name)))
    }

    /// Waits for an answer.
    fn answer(&self) -> Result<Report, RunError> {
        let lost = || RunError(format!("{} does not answer", self.name));
        match self.answers.as_ref().ok_or_else(lost)?.recv_timeout(ANSWER_TIMEOUT).map_err(|_| lost())? {
            Report::Rejected(reason) => Err(RunError(format!("{}: {reason}", self.name))),
            other => Ok(other),
        }
    }

    /// Starts to receive its reports as worker number `worker`.
    fn listen(&mut self, control: &Arc<Control>, worker: usize) {
        let (sender, answers) = channel();
        self.answers = Some(answers);
        let (control, refreshed) = (control.clone(), self.refreshed.clone());
        if let Some(reader) = self.reader.take() {
            std::thread::spawn(move || receive_reports(reader, &control, worker, &refreshed, &sender));
        }
    }

    /// Compares its clock with the clock of this machine.
    fn compare_clock(&mut self) -> Result<ClockOffset, RunError> {
        let mut best = ClockOffset { ahead: 0, uncertainty: u64::MAX };
        for _ in 0..CLOCK_EXCHANGES {
            let asked = now();
            self.send(&Command::ReadClock)?;
            let Report::Clock(theirs) = self.answer()? else {
                return Err(RunError(format!("{} does not report its clock", self.name)));
            };
            let half = (now() - asked) / 2;
            if half < best.uncertainty {
                best = ClockOffset { ahead: theirs.wrapping_sub(asked + half).cast_signed(), uncertainty: half };
            }
        }
        Ok(best)
    }

    fn ahead(&self) -> i64 {
        self.clock.map_or(0, |clock| clock.ahead)
    }
}

fn receive_reports(
    mut reader: impl Read,
    control: &Control,
    worker: usize,
    refreshed: &AtomicU64,
    answers: &Sender<Report>,
) {
    while let Ok(report) = receive(&mut reader, MESSAGE_BYTES_MAX) {
        match report {
            Report::Progress { refresh, counters, cpu, seconds } => {
                control.publish_remote(worker, &counters, cpu, seconds);
                refreshed.store(refresh, Relaxed);
            }
            Report::Results(results) => control.hand_over(worker, *results),
            other => {
                let (finished, rejected) = (matches!(other, Report::Finished(_)), matches!(other, Report::Rejected(_)));
                if answers.send(other).is_err() || finished {
                    return;
                }
                if rejected {
                    break;
                }
            }
        }
    }
    control.set_broken();
}

/// All worker processes of a run.
pub struct RemoteWorkers {
    workers: Vec<RemoteWorker>,
    lead: u64,
    refreshes: u64,
}

/// What is reported about the processes of a run.
#[derive(Clone, Debug, Default)]
pub struct ProcessStats {
    /// Name, opened connections, and nanoseconds that opening them took.
    pub processes: Vec<(String, u64, u64)>,
    /// Names of the processes that ended too early.
    pub lost: Vec<String>,
    /// The uncertainty of a latency between hosts, and the drift of their clocks during the run; `None`: one clock.
    pub clock: Option<(u64, u64)>,
}

impl RemoteWorkers {
    /// Gives every process its job and waits until all are ready.
    pub fn start(mut workers: Vec<RemoteWorker>, control: &Arc<Control>) -> Result<Self, RunError> {
        workers.iter_mut().enumerate().for_each(|(number, worker)| worker.listen(control, number));
        for worker in workers.iter_mut().filter(|worker| worker.clock.is_some()) {
            worker.clock = Some(worker.compare_clock()?);
        }
        let (of, first) = (workers.len(), workers.first().map_or(0, RemoteWorker::ahead));
        let args: Vec<String> = std::env::args().skip(1).collect();
        for (part, worker) in workers.iter_mut().enumerate() {
            let (version, args) = (env!("CARGO_PKG_VERSION").into(), args.clone());
            let (ahead, origin) = (worker.ahead() - first, control.origin.saturating_add_signed(worker.ahead()));
            worker.send(&Command::Start(Job { version, args, part, of, ahead, origin }))?;
        }
        for worker in &workers {
            let Report::Ready = worker.answer()? else {
                return Err(RunError(format!("{} is not ready", worker.name)));
            };
        }
        let slowest =
            workers.iter().filter_map(|worker| worker.clock).map(|clock| clock.uncertainty).max().unwrap_or(0);
        Ok(Self { workers, lead: LEAD + 4 * slowest, refreshes: 0 })
    }

    pub fn allow(&mut self, worker: usize, total: usize) {
        // The thread that receives the reports notices a process that is lost.
        let _ = self.workers[worker].send(&Command::Allow(total));
    }

    /// Lets all processes enter a phase at one moment, waits for that moment and returns it.
    pub fn set_phase(&mut self, phase: Phase, rate: f64) -> u64 {
        let at = now() + self.lead;
        for worker in &mut self.workers {
            let at = at.saturating_add_signed(worker.ahead());
            let _ = worker.send(&Command::SetPhase { phase, at, rate });
        }
        sleep(Duration::from_nanos(at.saturating_sub(now())));
        at
    }

    /// Waits until every process has reported its counters as of now.
    pub fn refresh(&mut self, control: &Control) {
        self.refreshes += 1;
        let (number, end) = (self.refreshes, now() + REFRESH_TIMEOUT);
        for worker in &mut self.workers {
            let _ = worker.send(&Command::Refresh(number));
        }
        let is_behind = |worker: &RemoteWorker| worker.refreshed.load(Relaxed) < number;
        while self.workers.iter().any(is_behind) && now() < end && !control.is_broken() {
            sleep(Duration::from_micros(200));
        }
    }

    /// Stops all processes and adds up what they hold.
    pub fn finish(mut self) -> (Rest, ProcessStats) {
        let (mut sum, mut stats) = (Rest::default(), ProcessStats::default());
        let mut clock = self.workers.iter().any(|worker| worker.clock.is_some()).then_some((0, 0));
        for worker in &mut self.workers {
            let (Some(before), Some((uncertainty, drift))) = (worker.clock, &mut clock) else { continue };
            let Ok(after) = worker.compare_clock() else { continue };
            *uncertainty = (*uncertainty).max(before.uncertainty.max(after.uncertainty));
            *drift = (*drift).max(after.ahead.abs_diff(before.ahead));
        }
        // Two clocks are compared with this one, so both may be wrong.
        stats.clock = clock.map(|(uncertainty, drift)| (2 * uncertainty + drift, drift));
        self.set_phase(Phase::Stop, 0.0);
        for mut worker in self.workers {
            match worker.answer() {
                Ok(Report::Finished(rest)) => {
                    stats.processes.push((worker.name, rest.opened, rest.opening_nanos));
                    sum.results.merge(rest.results);
                    sum.connections.merge(rest.connections);
                    merge(&mut sum.seconds, rest.seconds);
                }
                Ok(_) | Err(_) => stats.lost.push(worker.name),
            }
            // The end of its input ends the process.
            worker.writer = Box::new(std::io::sink());
            if let Some(mut child) = worker.child {
                let _ = child.wait();
            }
        }
        (sum, stats)
    }
}
