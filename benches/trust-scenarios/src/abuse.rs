//! `abuse`: a fan-out together with abusive clients, which never finish their handshake or never read.
//!
//! The abusive clients have a worker of their own, so that they do not delay the workers that time the honest
//! subscribers. Half of the half-open connections send nothing, the others half of an upgrade request. Those that the
//! server closes are opened again at once, so that their number stays the same; the report has the count. A client that
//! never reads does not notice that it was closed, because the end waits behind unread data; so each gives up after a
//! while and is opened again.
//! Invariant: connections `0..half_open` are half-open, the others subscribe and then stop reading.

use clap::Args as ClapArgs;
use corecast_load::RunError;
use corecast_load::args::Fanout;
use corecast_load::args::options::Common;
use corecast_load::engine::clock::SECOND;
use corecast_load::engine::connection::Io;
use corecast_load::engine::control::{Control, Phase};
use corecast_load::engine::workers::{WorkerOptions, Workers};
use corecast_load::engine::{Opening, Scenario};
use corecast_load::measure::rate::{Arrivals, Rate, Schedule};
use corecast_load::net::Target;
use corecast_load::net::frame::ProtocolError;
use corecast_load::protocols::Messages;
use corecast_load::protocols::connection_setup::ConnectionSetup;
use corecast_load::report::Report;
use corecast_load::runs::{BackgroundLoad, fanout_runs::FanoutRun};
use corecast_load::scenarios::fanout_plan::Plan;
use std::collections::VecDeque;

/// The kernel's receive buffer of a client that never reads: little data fits into it.
const NEVER_READ_BUFFER_BYTES: usize = 4096;
/// The seconds over which the first half-open connections begin. Those that the server closes begin again at once, so they stay
/// spread like this, as those of independent clients would be.
const SPREAD_SECONDS: f64 = 4.0;
/// The nanoseconds after which a client that never reads gives up.
const NEVER_READ_TIMEOUT: u64 = 5 * SECOND;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Handshakes that begin and never end, every other one with half of an upgrade request
    #[arg(long, default_value_t = 0)]
    half_open: usize,
    /// Subscribers of the first channel that never read; each gives up after 5 s and connects again
    #[arg(long, default_value_t = 0)]
    never_read: usize,
    #[command(flatten)]
    fanout: Fanout,
}

/// Counts of half-open connections, and of clients that never read.
type Counts = [u64; 2];

pub struct AbusiveClients {
    half_open: usize,
    /// For connections that send nothing (with TLS not even a handshake), half of a request, or that never read.
    silent: Target,
    half: Target,
    never_read: Target,
    /// The first half of an upgrade request.
    half_request: Vec<u8>,
    messages: Messages,
    setup: ConnectionSetup,
    channel: String,
    /// When clients that never read give up, in the order of time.
    give_up_at: VecDeque<(u64, usize)>,
    /// Connections that were established, ended, and were opened again.
    renewed: Counts,
    /// Connections that were never established.
    rejected: Counts,
}

impl AbusiveClients {
    fn stop_reading(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        if let Some(connection) = io.connections[id].as_mut() {
            connection.paused = true;
        }
        self.give_up_at.push_back((io.now + NEVER_READ_TIMEOUT, id));
    }
}

impl Scenario for AbusiveClients {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        let target = match id < self.half_open {
            true if id.is_multiple_of(2) => &self.half,
            true => &self.silent,
            false => &self.never_read,
        };
        (target, id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        if id < self.half_open {
            if id.is_multiple_of(2) {
                io.send(id, &self.half_request);
            }
            return io.ready(id);
        }
        if self.setup.begin(io, &self.messages, id, id, &[&self.channel]) {
            self.stop_reading(io, id);
        }
    }

    /// Half-open connections ignore what the server sends; the others read until they are subscribed.
    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        if id < self.half_open || io.is_ready(id) {
            return Ok(bytes.len());
        }
        io.messages(id, bytes, |io, message| {
            if self.setup.handle(io, &self.messages, id, &[&self.channel], message)?.ready {
                self.stop_reading(io, id);
            }
            Ok(())
        })
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        let counts = if io.was_ready { &mut self.renewed } else { &mut self.rejected };
        counts[usize::from(id >= self.half_open)] += 1;
        io.reopen(id);
    }

    fn turn(&mut self, io: &mut Io, _phase: Phase) -> Option<u64> {
        while let Some(&(at, id)) = self.give_up_at.front() {
            if at > io.now {
                return Some(at);
            }
            self.give_up_at.pop_front();
            // If the end of a connection was noticed, it has been opened again already.
            if io.connections[id].as_ref().is_some_and(|connection| connection.paused) {
                io.reset(id);
                self.renewed[1] += 1;
                io.reopen(id);
            }
        }
        None
    }
}

/// The abusive clients of a run.
struct Abuse {
    workers: Workers<AbusiveClients>,
    counts: Counts,
}

impl Abuse {
    /// Connects them to the server of the subscribers of `plan`.
    fn start(args: &Args, plan: &Plan, common: &Common) -> Result<Self, RunError> {
        let total = args.half_open + args.never_read;
        let target = &plan.targets[0];
        let request = &target.request;
        let scenario = AbusiveClients {
            half_open: args.half_open,
            silent: Target::without_upgrade(target.addr),
            half: Target { request: Vec::new(), ..target.clone() },
            never_read: Target { receive_buffer: Some(NEVER_READ_BUFFER_BYTES), ..target.clone() },
            half_request: request[..request.len() / 2].to_vec(),
            messages: plan.messages.clone(),
            setup: ConnectionSetup::new(total),
            channel: plan.channels[0].clone(),
            give_up_at: VecDeque::new(),
            renewed: [0; 2],
            rejected: [0; 2],
        };
        let schedule = Schedule::new(&Rate::constant(total as f64 / SPREAD_SECONDS), Arrivals::Even, 0, 1);
        let opening = Opening { total, concurrency: usize::MAX, schedule: Some(schedule) };
        let options = WorkerOptions::background(common);
        let mut workers = Workers::start(Control::new(1, None), vec![(scenario, opening)], &options)?;
        workers.open(&[total], common.open_timeout, "abusers");
        Ok(Self { workers, counts: [args.half_open as u64, args.never_read as u64] })
    }
}

impl BackgroundLoad for Abuse {
    fn cpu(&self) -> u64 {
        self.workers.cpu()
    }

    fn finish(self: Box<Self>, report: &mut Report) -> Result<(), RunError> {
        let finished = self.workers.finish()?;
        let names = [("half_open", "half-open handshakes"), ("never_read", "subscribers that never read")];
        for (kind, (key, what)) in names.into_iter().enumerate().filter(|(kind, _)| self.counts[*kind] > 0) {
            let sum =
                |read: fn(&AbusiveClients) -> Counts| finished.scenarios.iter().map(|s| read(s)[kind]).sum::<u64>();
            let (count, renewed, rejected) = (self.counts[kind], sum(|s| s.renewed), sum(|s| s.rejected));
            report.set(key, count);
            report.set(&format!("{key}_renewed"), renewed);
            report.set(&format!("{key}_refused"), rejected);
            report.row(what, format!("{count}, opened again {renewed} times, {rejected} rejected"));
        }
        if let Some((reason, n)) = finished.connections.errors.iter().next() {
            report.row("first error", format!("{reason} ({n})"));
        }
        Ok(())
    }
}

pub fn run(args: &Args) -> Result<u8, RunError> {
    let (total, common) = (args.half_open + args.never_read, &args.fanout.load.common);
    let run = FanoutRun::fanout(&args.fanout, "fanout", 0)?.with_background(total);
    let start = |plan: &std::sync::Arc<Plan>| {
        let load = (total > 0).then(|| Abuse::start(args, plan, common)).transpose()?;
        Ok(load.map(|load| Box::new(load) as Box<dyn BackgroundLoad>))
    };
    run.run(start, |_| ())
}
