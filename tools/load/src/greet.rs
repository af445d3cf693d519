//! `idle` and `connect`: connections that are opened, greet, answer pings, and say nothing else.
//!
//! Plan: one scene for both; they differ in when connections are begun and whether they are kept.
//! Invariant: each connection is counted once as open or failed; only what its server sends ends it early.

use crate::crew::Phase;
use crate::dialect::{self, CONNECT_ID, Dialect, Note, SUBSCRIBE_ID};
use crate::engine::{Io, Scene};
use crate::frame::{self, Fault};
use crate::harvest::{Figures, Harvest};
use crate::net::Target;
use crate::rate::Rate;
use hdrhistogram::Histogram;

#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub dialect: Dialect,
    /// The channel to subscribe to.
    pub channel: Option<String>,
    /// The connection's number is appended to it.
    pub own_channel: bool,
    /// End each connection once it is open.
    pub close: bool,
    /// How often connections are begun: figures are told by its steps.
    pub rate: Option<Rate>,
}

impl Plan {
    fn differ(&self) -> bool {
        self.own_channel || self.dialect.tokens.is_some()
    }

    fn greeting(&self, number: usize) -> Option<String> {
        let own = self.channel.as_ref().filter(|_| self.own_channel).map(|name| format!("{name}{number}"));
        self.dialect.greeting(number, own.as_deref().or(self.channel.as_deref()))
    }
}

pub struct Greet {
    plan: Plan,
    first: usize,
    /// The same for all, unless each has a name or a channel of its own.
    greeting: Option<String>,
    ready_by: Option<u64>,
    /// From the (intended) beginning to the answered upgrade, and to the answered greeting.
    pub upgraded: Histogram<u64>,
    pub ready: Histogram<u64>,
    figures: Figures,
    pub pings: u64,
}

impl Greet {
    pub fn new(plan: Plan, first: usize) -> Self {
        Self {
            first,
            greeting: (!plan.differ()).then(|| plan.dialect.greeting(0, plan.channel.as_deref())).flatten(),
            ready_by: plan.dialect.ready_by(plan.channel.is_some()),
            upgraded: crate::report::histogram(),
            ready: crate::report::histogram(),
            figures: Figures::new(plan.rate.as_ref()),
            pings: 0,
            plan,
        }
    }

    fn ready(&mut self, io: &mut Io, id: usize) {
        let (born, age) = (io.born[id], io.now.saturating_sub(io.born[id]));
        self.ready.saturating_record(age);
        self.figures.sent(io.opened_from, born, 1);
        self.figures.came(io.opened_from, born, age, 1);
        io.took(age, 1);
        io.ready(id);
        if self.plan.close {
            io.cut(id);
        }
    }

    fn message(&mut self, io: &mut Io, id: usize, body: &[u8]) -> Result<(), Fault> {
        io.tally.received += 1;
        if !self.plan.dialect.is_centrifuge() {
            return Ok(());
        }
        for note in dialect::notes(body)? {
            arrived(io, id, &note);
            match note {
                Note::Ping => {
                    self.pings += 1;
                    io.send_frame(id, frame::TEXT, b"{}");
                }
                Note::Reply(reply) if Some(reply) == self.ready_by => self.ready(io, id),
                Note::Error(_, text) => return Err(Fault::Answer(text)),
                Note::Reply(_) | Note::Other => {}
            }
        }
        Ok(())
    }
}

/// Notes when the commands of a greeting are answered.
pub fn arrived(io: &mut Io, id: usize, note: &Note) {
    match note {
        Note::Reply(CONNECT_ID) if !io.is_ready(id) => io.connected(id),
        Note::Reply(SUBSCRIBE_ID) if !io.is_ready(id) => io.subscribed(id),
        _ => {}
    }
}

impl Scene for Greet {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, self.first + id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        self.upgraded.saturating_record(io.now.saturating_sub(io.born[id]));
        let own = self.plan.differ().then(|| self.plan.greeting(self.first + id)).flatten();
        if let Some(greeting) = own.as_ref().or(self.greeting.as_ref()) {
            io.send_frame(id, frame::TEXT, greeting.as_bytes());
        }
        if self.ready_by.is_none() {
            self.ready(io, id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        io.messages(id, bytes, |io, message| self.message(io, id, message))
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        if !io.was_ready {
            self.figures.sent(io.opened_from, io.born[id], 1);
        }
    }

    fn turn(&mut self, _io: &mut Io, _phase: Phase) -> Option<u64> {
        None
    }

    fn harvest(&mut self) -> Harvest {
        let mut harvest = Harvest { steps: self.figures.take(), ..Harvest::default() };
        for (name, histogram) in [("upgraded", &self.upgraded), ("ready", &self.ready)] {
            harvest.latency.insert(name.into(), histogram.clone());
        }
        harvest.add_count("pings", self.pings);
        harvest
    }
}
