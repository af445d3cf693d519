//! `idle` and `connect`: connections that are opened, greet, answer pings, and say nothing else.
//!
//! Plan: one scene for both; they differ in when connections are begun and whether they are kept.
//! Invariant: each connection is counted once as open or failed; only what its server sends ends it early.

use crate::engine::workers::Phase;
use crate::engine::{Io, Scene};
use crate::measure::rate::Rate;
use crate::measure::results::{Figures, Harvest};
use crate::net::Target;
use crate::net::frame::Fault;
use crate::protocols::connection_setup::Welcome;
use crate::protocols::{Dialect, Protocol};
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

    /// The channel of connection `number`, if it subscribes to any.
    fn channel(&self, number: usize) -> Option<String> {
        let name = self.channel.as_ref()?;
        Some(if self.own_channel { format!("{name}{number}") } else { name.clone() })
    }

    fn greeting(&self, number: usize) -> Vec<Vec<u8>> {
        let channel = self.channel(number);
        self.dialect.greeting(number, channel.as_deref().as_slice())
    }
}

pub struct Greet {
    plan: Plan,
    first: usize,
    /// The same for all, unless each has a name or a channel of its own.
    greeting: Option<Vec<Vec<u8>>>,
    welcome: Welcome,
    /// From the (intended) beginning to the answered upgrade, and to the answered greeting.
    pub upgraded: Histogram<u64>,
    pub ready: Histogram<u64>,
    figures: Figures,
    pub pings: u64,
}

impl Greet {
    /// A worker's scene for `connections`, of which the first has the number `first` in the run.
    pub fn new(plan: Plan, first: usize, connections: usize) -> Self {
        Self {
            first,
            greeting: (!plan.differ()).then(|| plan.greeting(0)),
            welcome: Welcome::new(connections),
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
        let (plan, greets) = (&self.plan, !io.is_ready(id));
        let channel = plan.channel(self.first + id).filter(|_| greets && plan.dialect.protocol == Protocol::Pusher);
        let heard = self.welcome.hear(io, &plan.dialect, id, channel.as_deref().as_slice(), body)?;
        self.pings += heard.pings;
        if heard.ready {
            self.ready(io, id);
        }
        heard.errors.into_iter().next().map_or(Ok(()), |text| Err(Fault::Answer(text)))
    }
}

impl Scene for Greet {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, self.first + id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        self.upgraded.saturating_record(io.now.saturating_sub(io.born[id]));
        let opcode = self.plan.dialect.opcode();
        match &self.greeting {
            Some(same) => same.iter().for_each(|message| io.send_frame(id, opcode, message)),
            None => self.plan.greeting(self.first + id).iter().for_each(|message| io.send_frame(id, opcode, message)),
        }
        if self.welcome.expect(&self.plan.dialect, id, usize::from(self.plan.channel.is_some())) {
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
