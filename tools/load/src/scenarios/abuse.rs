//! Peers that do what no honest one does: handshakes that never end, and subscribers that never read.
//!
//! A crew of its own with one worker, so that honest subscribers are timed by workers that have nothing to do with these. Half of
//! the half-open connections say nothing, the others half a head. Those that the server cuts come again at once, so that their
//! number stays; how often that was is reported. Who never reads does not even notice that it was cut, since the end waits behind
//! what it did not read: so each gives up after a while and comes again.
//! Invariant: connections `0..half_open` are half-open, the others subscribe and then stop reading.

use crate::args::{self, Common};
use crate::engine::clock::SECOND;
use crate::engine::workers::{Control, Crew, Phase};
use crate::engine::{Io, Pace, Scene};
use crate::measure::rate::Schedule;
use crate::net::Target;
use crate::net::frame::Fault;
use crate::protocols::Dialect;
use crate::protocols::connection_setup::Welcome;
use crate::report::Report;
use crate::runs::{self, Refusal};
use crate::scenarios::fanout::Plan;
use std::collections::VecDeque;

/// Bytes of the kernel's receive buffer of one who never reads: little is hidden in it.
const DEAF_BUFFER_BYTES: usize = 4096;
/// Seconds over which the first half-open handshakes are begun. Those that the server cuts come again at once, so that they
/// stay spread like this, as those of strangers would be.
const SPREAD_SECONDS: f64 = 4.0;
/// Nanoseconds after which one who never reads gives up.
const DEAF_FOR: u64 = 5 * SECOND;

pub struct Abuser {
    half_open: usize,
    /// Nothing is said there, or half a head; over TLS, the silent ones do not even shake hands.
    silent: Target,
    half: Target,
    deaf: Target,
    /// The first half of an upgrade's head.
    half_head: Vec<u8>,
    dialect: Dialect,
    welcome: Welcome,
    channel: String,
    /// Who is deaf, and until when; in the order of time.
    deaf_until: VecDeque<(u64, usize)>,
    /// How many of both kinds stood, ended, and began anew.
    pub renewed: [u64; 2],
    /// Connections of both kinds that never stood.
    pub refused: [u64; 2],
}

impl Abuser {
    fn kind(&self, id: usize) -> usize {
        usize::from(id >= self.half_open)
    }

    fn deafen(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        io.deafen(id);
        self.deaf_until.push_back((io.now + DEAF_FOR, id));
    }
}

impl Scene for Abuser {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        let target = match id < self.half_open {
            true if id.is_multiple_of(2) => &self.half,
            true => &self.silent,
            false => &self.deaf,
        };
        (target, id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        if id < self.half_open {
            if id.is_multiple_of(2) {
                io.send(id, &self.half_head);
            }
            return io.ready(id);
        }
        if self.welcome.begin(io, &self.dialect, id, id, &[&self.channel]) {
            self.deafen(io, id);
        }
    }

    /// The half-open ones take whatever the server says; the others read until they are subscribed.
    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        if id < self.half_open || io.is_ready(id) {
            return Ok(bytes.len());
        }
        io.messages(id, bytes, |io, message| {
            if self.welcome.hear(io, &self.dialect, id, &[&self.channel], message)?.ready {
                self.deafen(io, id);
            }
            Ok(())
        })
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        let kind = self.kind(id);
        *(if io.was_ready { &mut self.renewed[kind] } else { &mut self.refused[kind] }) += 1;
        io.again(id);
    }

    fn turn(&mut self, io: &mut Io, _phase: Phase) -> Option<u64> {
        while let Some(&(until, id)) = self.deaf_until.front() {
            if until > io.now {
                return Some(until);
            }
            self.deaf_until.pop_front();
            // One whose end was noticed has begun anew already.
            if io.is_deaf(id) {
                io.cut(id);
                self.renewed[1] += 1;
                io.again(id);
            }
        }
        None
    }
}

/// All of them, at work.
pub struct Abuse {
    crew: Crew<Abuser>,
    counts: [usize; 2],
}

impl Abuse {
    /// Connects them to where the subscribers of `plan` connect; none if none is asked for.
    pub fn start(args: &args::Abuse, plan: &Plan, common: &Common) -> Result<Option<Self>, Refusal> {
        let total = args.connections();
        if total == 0 {
            return Ok(None);
        }
        let request = &plan.target.request;
        let scene = Abuser {
            half_open: args.half_open,
            silent: Target::silent(plan.target.addr),
            half: Target { request: Vec::new(), ..plan.target.clone() },
            deaf: Target { receive_buffer: Some(DEAF_BUFFER_BYTES), ..plan.target.clone() },
            half_head: request[..request.len() / 2].to_vec(),
            dialect: plan.dialect.clone(),
            welcome: Welcome::new(total),
            channel: plan.channels[0].clone(),
            deaf_until: VecDeque::new(),
            renewed: [0; 2],
            refused: [0; 2],
        };
        let pace =
            Pace { total, concurrency: usize::MAX, schedule: Some(Schedule::new(total as f64 / SPREAD_SECONDS)) };
        let mut crew = runs::crew_beside(Control::new(1), vec![(scene, pace)], common)?;
        crew.allow(0, total);
        crew.wait(common.open_timeout, "abusers", |t| (t.ready + t.failed) as usize >= total);
        Ok(Some(Self { crew, counts: [args.half_open, args.never_read] }))
    }

    /// Nanoseconds that they took of our processors until now.
    pub fn cpu(&self) -> u64 {
        self.crew.totals().cpu.iter().sum()
    }

    pub fn end(self, report: &mut Report) -> Result<(), Refusal> {
        let ended = self.crew.finish()?;
        let names = [("half_open", "half-open handshakes"), ("never_read", "subscribers that never read")];
        for (kind, (key, what)) in names.into_iter().enumerate().filter(|(kind, _)| self.counts[*kind] > 0) {
            let sum = |read: fn(&Abuser) -> [u64; 2]| ended.scenes.iter().map(|scene| read(scene)[kind]).sum::<u64>();
            let (renewed, refused) = (sum(|scene| scene.renewed), sum(|scene| scene.refused));
            report.set(key, self.counts[kind].into());
            report.set(&format!("{key}_renewed"), renewed.into());
            report.set(&format!("{key}_refused"), refused.into());
            report.row(what, format!("{}, begun anew {renewed} times, {refused} refused", self.counts[kind]));
        }
        if let Some((why, n)) = ended.errors.iter().next() {
            report.row("first refusal", format!("{why} ({n})"));
        }
        Ok(())
    }
}
