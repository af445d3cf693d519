//! Subscribers that read slowly: a given number of bytes per second; what the server does with them.
//!
//! They have a worker of their own, so that the workers that time the other subscribers have nothing to do with them. The server
//! cannot recognize a slow reader until its queue grows: it answers pings, which it reads late. When the load is over, all read
//! what is left, so that the end of a connection is seen behind what the server had sent before.
//! Invariant: missing sequence numbers of a publisher are counted as a gap; only counted, because the server may drop them.

use crate::RunError;
use crate::args::Slow;
use crate::args::options::Common;
use crate::engine::clock::SECOND;
use crate::engine::connection::{Io, ending_text};
use crate::engine::control::{Control, Phase};
use crate::engine::workers::{WorkerOptions, Workers};
use crate::engine::{Opening, Scenario};
use crate::net::Target;
use crate::net::frame::ProtocolError;
use crate::protocols::connection_setup::ConnectionSetup;
use crate::report::Report;
use crate::runs::BackgroundLoad;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::payload::{BYTES_MIN, MAGIC, Stamp};
use memchr::memmem;
use serde_json::json;
use std::sync::Arc;

/// How often per second a slow reader may read.
const READS_PER_SECOND: u64 = 20;

pub struct SlowReaders {
    plan: Arc<Plan>,
    targets: Vec<Target>,
    first: usize,
    bytes_per_read: usize,
    next_read: u64,
    setup: ConnectionSetup,
    /// The next sequence number by connection and publisher.
    expected: Vec<u32>,
    deliveries: u64,
    /// Skipped publications, and whether a connection has any.
    skipped: u64,
    has_gap: Vec<bool>,
}

impl SlowReaders {
    fn message(&mut self, io: &mut Io, id: usize, message: &[u8]) -> Result<(), ProtocolError> {
        let mut found = 0;
        for at in memmem::find_iter(message, &MAGIC).filter(|at| message.len() >= at + BYTES_MIN) {
            if let Some(stamp) = message[at..].first_chunk().map(Stamp::read) {
                self.delivery(id, stamp);
                found += 1;
            }
        }
        io.counters.received += found as u64;
        if found > 0 && found >= self.plan.messages.count(message) {
            return Ok(());
        }
        let plan = self.plan.clone();
        let handled = self.setup.handle(io, &plan.messages, id, &plan.names(self.first + id), message)?;
        if handled.ready {
            self.ready(io, id);
        }
        Ok(())
    }

    fn delivery(&mut self, id: usize, stamp: Stamp) {
        self.deliveries += 1;
        let index = id * self.plan.publishers + usize::from(stamp.publisher);
        let Some(expected) = self.expected.get_mut(index) else { return };
        if stamp.seq > *expected {
            self.skipped += u64::from(stamp.seq - *expected);
            self.has_gap[id] = true;
        }
        *expected = stamp.seq.wrapping_add(1);
    }

    fn ready(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        io.limit_reads(id, Some(0));
    }
}

impl Scenario for SlowReaders {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        let number = self.first + id;
        (&self.targets[number % self.targets.len()], number)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        let plan = self.plan.clone();
        let number = self.first + id;
        if self.setup.begin(io, &plan.messages, id, number, &plan.names(number)) {
            self.ready(io, id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        io.messages(id, bytes, |io, message| self.message(io, id, message))
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        if phase >= Phase::Drain {
            (0..self.has_gap.len()).for_each(|id| io.limit_reads(id, None));
            return None;
        }
        if io.now >= self.next_read {
            self.next_read = io.now + SECOND / READS_PER_SECOND;
            let ready: Vec<usize> = (0..self.has_gap.len()).filter(|&id| io.is_ready(id)).collect();
            ready.into_iter().for_each(|id| io.limit_reads(id, Some(self.bytes_per_read)));
        }
        Some(self.next_read)
    }
}

/// The slow readers of a run.
pub struct SlowLoad {
    workers: Workers<SlowReaders>,
    count: usize,
    bytes_per_second: u32,
}

impl SlowLoad {
    /// The number of slow readers among all subscribers.
    pub fn count(args: &Slow) -> usize {
        (args.fanout.subscribers as f64 * args.slow).round() as usize
    }

    /// Connects them to the server of the other subscribers; their numbers begin behind those of the others.
    pub fn start(args: &Slow, first: usize, plan: &Arc<Plan>, common: &Common) -> Result<Self, RunError> {
        let count = Self::count(args);
        let with_buffer = |target: &Target| Target { receive_buffer: Some(args.slow_buffer), ..target.clone() };
        let scenario = SlowReaders {
            plan: plan.clone(),
            targets: plan.targets.iter().map(with_buffer).collect(),
            first,
            bytes_per_read: (args.slow_rate as usize).div_ceil(READS_PER_SECOND as usize),
            next_read: 0,
            setup: ConnectionSetup::new(count),
            expected: vec![0; count * plan.publishers],
            deliveries: 0,
            skipped: 0,
            has_gap: vec![false; count],
        };
        let opening = Opening { total: count, concurrency: common.concurrency, schedule: None };
        let options = WorkerOptions::background(common);
        let mut workers = Workers::start(Control::new(1, None), vec![(scenario, opening)], &options)?;
        workers.open(&[count], common.open_timeout, "slow readers");
        Ok(Self { workers, count, bytes_per_second: args.slow_rate })
    }
}

impl BackgroundLoad for SlowLoad {
    fn cpu(&self) -> u64 {
        self.workers.cpu()
    }

    fn finish(mut self: Box<Self>, report: &mut Report) -> Result<(), RunError> {
        let before = self.workers.counters().received;
        self.workers.set_phase(Phase::Drain);
        self.workers.wait_for_silence("slow readers, rest", true);
        let counters = self.workers.counters();
        let mut finished = self.workers.finish()?;
        let Some(scenario) = finished.scenarios.pop() else { return Ok(()) };
        let (count, rate, open) = (self.count, self.bytes_per_second, counters.ready - counters.closed);
        let gaps = scenario.has_gap.iter().filter(|&&has_gap| has_gap).count();
        let (closes, errors) = (&finished.connections.closes, &finished.connections.errors);
        report.row(
            "slow readers",
            format!("{count} with {rate} bytes per second each, {open} still connected at the end"),
        );
        report.count("slow_deliveries", scenario.deliveries, "deliveries to slow readers");
        report.set(
            "slow",
            json!({
                "count": count, "bytes_per_second": rate, "open": open, "closes": closes, "failed": counters.failed,
                "errors": errors, "gapped": gaps, "skipped": scenario.skipped, "read_late": counters.received - before,
            }),
        );
        for (code, n) in closes {
            report.row("", format!("{n} {}", ending_text(*code)));
        }
        if gaps > 0 {
            report.row("", format!("{gaps} with gaps, {} publications skipped", scenario.skipped));
        }
        errors.iter().for_each(|(reason, n)| report.row("", format!("{n} failed: {reason}")));
        if (counters.ready as usize) < count {
            report.void(format!("{} of {count} slow readers were subscribed", counters.ready));
        }
        Ok(())
    }
}
