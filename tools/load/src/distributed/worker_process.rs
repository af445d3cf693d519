//! A worker process: it carries one part of a run that a coordinator leads.
//!
//! A thread reads the commands; the main thread carries them out and reports its counters in between. When the coordinator is
//! gone, the process ends.

use crate::RunError;
use crate::args::options::{Common, Cores, Files};
use crate::args::search::Searched;
use crate::args::share::{Share, shares};
use crate::cli::{Cli, Command as Subcommand};
use crate::distributed::coordinator_protocol::{Command, Job, MESSAGE_BYTES_MAX, Report, Rest, receive, send};
use crate::engine::Scenario;
use crate::engine::clock::now;
use crate::engine::control::Phase;
use crate::engine::workers::{StartedWorkers, Workers};
use crate::runs::{echo_runs, fanout_runs, idle_runs};
use clap::Parser;
use std::io::{stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often the counters are reported without being asked for.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// The timeout for the results of the workers.
const RESULTS_SECONDS: f64 = 10.0;

/// The exchange with the coordinator over standard input and output, which may be pipes or a connection.
struct Exchange {
    commands: Receiver<Command>,
    /// The number of the last `Refresh`.
    refresh: u64,
    /// When the last connections were permitted, how many, and the time that opening took so far.
    opening_since: u64,
    allowed: usize,
    opening_nanos: u64,
}

impl Exchange {
    fn begin() -> Self {
        let (sender, commands) = channel();
        std::thread::spawn(move || {
            let mut input = stdin().lock();
            while let Ok(command) = receive(&mut input, MESSAGE_BYTES_MAX) {
                if sender.send(command).is_err() {
                    return;
                }
            }
        });
        Self { commands, refresh: 0, opening_since: 0, allowed: 0, opening_nanos: 0 }
    }

    fn report(&self, report: &Report) -> Result<(), RunError> {
        Ok(send(&mut stdout().lock(), report)?)
    }

    fn report_progress<S: Scenario + 'static>(&mut self, workers: &mut Workers<S>) -> Result<(), RunError> {
        let totals = workers.totals();
        if self.allowed > 0 && totals.counters.settled() >= self.allowed {
            self.opening_nanos += totals.at - self.opening_since;
            self.allowed = 0;
        }
        let seconds = workers.control.take_seconds();
        self.report(&Report::Progress { refresh: self.refresh, counters: totals.counters, cpu: totals.cpu, seconds })
    }
}

/// Carries a part until the coordinator ends it or is gone.
pub fn run() -> Result<u8, RunError> {
    let mut exchange = Exchange::begin();
    let job = loop {
        match exchange.commands.recv() {
            Ok(Command::ReadClock) => exchange.report(&Report::Clock(now()))?,
            Ok(Command::Start(job)) => break job,
            Ok(_) => return Err(RunError("the coordinator must send the job first".into())),
            Err(_) => return Ok(0),
        }
    };
    match start_job(&mut exchange, job) {
        Ok(()) => Ok(0),
        Err(RunError(reason)) => {
            // The coordinator may be gone.
            let _ = exchange.report(&Report::Rejected(reason));
            Ok(2)
        }
    }
}

fn start_job(exchange: &mut Exchange, job: Job) -> Result<(), RunError> {
    if job.version != env!("CARGO_PKG_VERSION") {
        let (theirs, ours) = (job.version, env!("CARGO_PKG_VERSION"));
        return Err(RunError(format!("the coordinator has version {theirs}, this process {ours}")));
    }
    if job.part >= job.of {
        return Err(RunError(format!("there is no part {} of {}", job.part, job.of)));
    }
    let share = Share { part: job.part, of: job.of, ahead: job.ahead, origin: Some(job.origin) };
    let words = std::iter::once("corecast-load".into()).chain(job.args);
    let command = match Cli::try_parse_from(words).map_err(|e| RunError(e.to_string()))?.command {
        Subcommand::Search(search) => match search.prepared()?.scenario {
            Searched::Echo(args) => Subcommand::Echo(*args),
            Searched::Fanout(args) => Subcommand::Fanout(*args),
        },
        other => other,
    };
    match command {
        Subcommand::Echo(mut args) => {
            restrict(&mut args.common, share);
            serve(exchange, echo_runs::workers(&args)?)
        }
        Subcommand::Fanout(mut args) => {
            restrict(&mut args.load.common, share);
            serve(exchange, fanout_runs::workers(&args)?)
        }
        Subcommand::Idle(mut args) => {
            restrict(&mut args.common, share);
            serve(exchange, idle_runs::idle_workers(&args)?)
        }
        Subcommand::Connect(mut args) => {
            restrict(&mut args.common, share);
            serve(exchange, idle_runs::connect_workers(&args)?)
        }
        _ => Err(RunError("this subcommand runs in one process".into())),
    }
}

/// Restricts the options of the whole run to one part. The coordinator observes the server and writes the report.
fn restrict(common: &mut Common, share: Share) {
    common.share = share;
    common.quiet = true;
    (common.server_pid, common.server_metrics, common.files) = (None, None, Files::default());
    common.concurrency = common.concurrency.div_ceil(share.of);
    if let Some(Cores(cores)) = &mut common.cores {
        let turn = share.part * usize::from(common.threads) % cores.len();
        cores.rotate_left(turn);
    }
}

/// Carries out commands until the run ends; the workers come with the number of connections of each.
fn serve<S: Scenario + 'static>(
    exchange: &mut Exchange,
    (mut workers, totals): StartedWorkers<S>,
) -> Result<(), RunError> {
    exchange.report(&Report::Ready)?;
    loop {
        match exchange.commands.recv_timeout(REPORT_INTERVAL) {
            Ok(Command::ReadClock) => exchange.report(&Report::Clock(now()))?,
            Ok(Command::Allow(total)) => {
                let is_all = total >= totals.iter().sum();
                let split = shares(total, totals.len());
                for worker in 0..totals.len() {
                    workers.allow(worker, if is_all { totals[worker] } else { split[worker].1 });
                }
                (exchange.opening_since, exchange.allowed) = (now(), total);
            }
            Ok(Command::SetPhase { phase, at, rate }) => {
                if phase == Phase::Measure {
                    workers.announce_measurement(at);
                }
                std::thread::sleep(Duration::from_nanos(at.saturating_sub(now())));
                if phase == Phase::Stop {
                    break;
                }
                workers.enter_phase(phase, at, rate);
                if phase == Phase::Pause {
                    exchange.report(&Report::Results(Box::new(workers.results(RESULTS_SECONDS))))?;
                }
            }
            Ok(Command::Refresh(number)) => {
                exchange.refresh = number;
                exchange.report_progress(&mut workers)?;
            }
            Ok(Command::Start(_)) => return Err(RunError("a worker process has one job".into())),
            Err(RecvTimeoutError::Timeout) => exchange.report_progress(&mut workers)?,
            // The coordinator is gone, and its run with it.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let opened = workers.counters().ready;
    let finished = workers.finish()?;
    exchange.report(&Report::Finished(Box::new(Rest {
        results: finished.results,
        connections: finished.connections,
        seconds: finished.timeline.seconds,
        opened,
        opening_nanos: exchange.opening_nanos,
    })))
}
