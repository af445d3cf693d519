//! Subscribers that read slowly: so many bytes a second and no more, and what becomes of them.
//!
//! A crew of its own with one worker, so that honest subscribers are timed by workers that have nothing to do with these. A slow
//! one is not told apart by the server until its queue grows: it answers pings, which it reads late. When the load is over they
//! read all that is left, so that the end that the server gave them is seen behind what it had sent.
//! Invariant: what one got of a publisher is counted as a gap where numbers are missing; only counted, since the server may drop.

use crate::args::Common;
use crate::args::scenes;
use crate::engine::clock::SECOND;
use crate::engine::workers::{Control, Crew, Phase};
use crate::engine::{Io, Pace, Scene};
use crate::net::Target;
use crate::net::frame::Fault;
use crate::protocols::connection_setup::Welcome;
use crate::report::Report;
use crate::runs::{self, Refusal};
use crate::scenarios::fanout::Plan;
use crate::scenarios::payload::{BYTES_MIN, MAGIC, Stamp};
use memchr::memmem;
use serde_json::json;
use std::sync::Arc;

/// How often in a second a slow one may read.
const SIPS: u64 = 20;
/// Seconds in which they may read what is left, at the end.
const LAST_SECONDS: f64 = 10.0;

pub struct Slows {
    plan: Arc<Plan>,
    target: Target,
    first: usize,
    /// Bytes of one sip.
    sip: usize,
    next: u64,
    welcome: Welcome,
    /// By connection and publisher, the number that comes next.
    expected: Vec<u32>,
    deliveries: u64,
    /// Publications that were skipped, and connections to which that happened.
    skipped: u64,
    gapped: Vec<bool>,
    errors: u64,
}

impl Slows {
    fn message(&mut self, io: &mut Io, id: usize, message: &[u8]) -> Result<(), Fault> {
        let mut found = 0;
        for at in memmem::find_iter(message, &MAGIC) {
            if let Some(stamp) =
                message[at..].first_chunk().filter(|_| message.len() >= at + BYTES_MIN).map(Stamp::read)
            {
                self.delivery(id, stamp);
                found += 1;
            }
        }
        io.tally.received += found as u64;
        if found > 0 && found >= self.plan.dialect.messages_in(message) {
            return Ok(());
        }
        let plan = self.plan.clone();
        let names = plan.names(self.first + id);
        let heard = self.welcome.hear(io, &plan.dialect, id, &names, message)?;
        self.errors += heard.errors.len() as u64;
        if heard.ready {
            self.slow_down(io, id);
        }
        Ok(())
    }

    fn delivery(&mut self, id: usize, stamp: Stamp) {
        let publishers = self.plan.publishers;
        self.deliveries += 1;
        let Some(expected) = self.expected.get_mut(id * publishers + usize::from(stamp.publisher)) else { return };
        if stamp.seq > *expected {
            self.skipped += u64::from(stamp.seq - *expected);
            self.gapped[id] = true;
        }
        *expected = stamp.seq.wrapping_add(1);
    }

    fn slow_down(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        io.ration(id, Some(0));
    }
}

impl Scene for Slows {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.target, self.first + id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        let plan = self.plan.clone();
        let names = plan.names(self.first + id);
        if self.welcome.begin(io, &plan.dialect, id, self.first + id, &names) {
            self.slow_down(io, id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        io.messages(id, bytes, |io, message| self.message(io, id, message))
    }

    fn closed(&mut self, _io: &mut Io, _id: usize) {}

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        if phase >= Phase::Drain {
            (0..self.gapped.len()).for_each(|id| io.ration(id, None));
            return None;
        }
        if io.now >= self.next {
            self.next = io.now + SECOND / SIPS;
            for id in 0..self.gapped.len() {
                if io.is_ready(id) {
                    io.ration(id, Some(self.sip));
                }
            }
        }
        Some(self.next)
    }
}

/// All of them, at work.
pub struct Slow {
    crew: Crew<Slows>,
    count: usize,
    rate: u32,
}

impl Slow {
    /// Connects `count` of them to where the subscribers of `plan` connect; their numbers begin behind those of the others.
    pub fn start(
        args: &scenes::Slow,
        count: usize,
        first: usize,
        plan: &Arc<Plan>,
        common: &Common,
    ) -> Result<Self, Refusal> {
        let scene = Slows {
            plan: plan.clone(),
            target: Target { receive_buffer: Some(args.slow_buffer), ..plan.target.clone() },
            first,
            sip: (args.slow_rate as usize).div_ceil(SIPS as usize),
            next: 0,
            welcome: Welcome::new(count),
            expected: vec![0; count * plan.publishers],
            deliveries: 0,
            skipped: 0,
            gapped: vec![false; count],
            errors: 0,
        };
        let pace = Pace { total: count, concurrency: common.concurrency, schedule: None };
        let mut crew = runs::crew_beside(Control::new(1), vec![(scene, pace)], common)?;
        crew.allow(0, count);
        crew.wait(common.open_timeout, "slow ones", |t| (t.ready + t.failed) as usize >= count);
        Ok(Self { crew, count, rate: args.slow_rate })
    }

    /// Nanoseconds that they took of our processors until now.
    pub fn cpu(&self) -> u64 {
        self.crew.totals().cpu.iter().sum()
    }

    pub fn end(mut self, report: &mut Report) -> Result<(), Refusal> {
        let before = self.crew.tally().received;
        self.crew.set_phase(Phase::Drain);
        let (mut received, mut at) = (before, crate::engine::clock::now());
        self.crew.wait(LAST_SECONDS, "slow ones, the rest", |tally| {
            if tally.received != received {
                (received, at) = (tally.received, crate::engine::clock::now());
            }
            tally.closed >= tally.ready || crate::engine::clock::now() - at > SECOND
        });
        let tally = self.crew.tally();
        let ended = self.crew.finish()?;
        let sum = |read: fn(&Slows) -> u64| ended.scenes.iter().map(read).sum::<u64>();
        let gapped = sum(|scene| scene.gapped.iter().filter(|&&gapped| gapped).count() as u64);
        report.row("slow ones", format!("{} read {} bytes a second each", self.count, self.rate));
        report.count("slow_deliveries", sum(|scene| scene.deliveries), "deliveries to slow ones");
        report.set(
            "slow",
            json!({
                "count": self.count, "bytes_per_second": self.rate, "open": tally.ready - tally.closed,
                "closes": ended.closes, "failed": tally.failed, "errors": ended.errors, "gapped": gapped,
                "skipped": sum(|scene| scene.skipped), "read_late": tally.received - before,
            }),
        );
        report.row("of them", format!("{} still connected at the end", tally.ready - tally.closed));
        for (code, n) in &ended.closes {
            let how = if *code == 1006 { "ended without a close frame".into() } else { format!("closed with {code}") };
            report.row("", format!("{n} {how}"));
        }
        if gapped > 0 {
            report.row("", format!("{gapped} with gaps, {} publications skipped", sum(|scene| scene.skipped)));
        }
        for (why, n) in &ended.errors {
            report.row("", format!("{n} failed: {why}"));
        }
        if (tally.ready as usize) < self.count {
            report.void(format!("{} of {} slow subscribers were subscribed", tally.ready, self.count));
        }
        Ok(())
    }
}
