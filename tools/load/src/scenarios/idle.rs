//! `idle` and `connect`: connections that are opened, set up, answer pings, and send nothing else.
//!
//! One scenario for both; they differ in when connections begin and whether they are kept.
//! Invariant: each connection is counted once, as open or failed.

use crate::engine::Scenario;
use crate::engine::connection::Io;
use crate::measure::rate::Rate;
use crate::measure::results::{Results, StepRecorder};
use crate::net::Target;
use crate::net::frame::ProtocolError;
use crate::protocols::connection_setup::ConnectionSetup;
use crate::protocols::{Messages, Protocol};

#[derive(Clone, Debug)]
pub struct Plan {
    /// The nodes, which the connections use in turn.
    pub targets: Vec<Target>,
    pub messages: Messages,
    /// The channel to subscribe to.
    pub channel: Option<String>,
    /// The number of the connection is appended to the channel.
    pub own_channel: bool,
    /// End each connection once it is open.
    pub close: bool,
    /// The rate at which connections begin: figures are reported by its steps.
    pub rate: Option<Rate>,
}

impl Plan {
    /// The channel of connection `number`, if it has one.
    fn channel(&self, number: usize) -> Option<String> {
        let name = self.channel.as_ref()?;
        Some(if self.own_channel { format!("{name}{number}") } else { name.clone() })
    }

    fn setup(&self, number: usize) -> Vec<Vec<u8>> {
        let channel = self.channel(number);
        self.messages.setup(number, channel.as_deref().as_slice())
    }
}

pub struct Idle {
    plan: Plan,
    first: usize,
    /// The setup messages, if they are the same for all connections.
    common_setup: Option<Vec<Vec<u8>>>,
    setup: ConnectionSetup,
    steps: StepRecorder,
    pings: u64,
}

impl Idle {
    /// The scenario of a worker for so many connections, the first of which has the number `first` in the run.
    pub fn new(plan: Plan, first: usize, connections: usize) -> Self {
        let differ = plan.own_channel || plan.messages.tokens.is_some();
        Self {
            first,
            common_setup: (!differ).then(|| plan.setup(0)),
            setup: ConnectionSetup::new(connections),
            steps: StepRecorder::new(plan.rate.as_ref()),
            pings: 0,
            plan,
        }
    }

    fn ready(&mut self, io: &mut Io, id: usize) {
        let (begun_at, age) = (io.begun_at[id], io.age(id));
        self.steps.sent(io.opened_from, begun_at, 1);
        self.steps.received(io.opened_from, begun_at, age, 1);
        io.record_latency(age, 1);
        io.ready(id);
        if self.plan.close {
            io.reset(id);
        }
    }

    fn message(&mut self, io: &mut Io, id: usize, body: &[u8]) -> Result<(), ProtocolError> {
        io.counters.received += 1;
        let plan = &self.plan;
        let subscribes = plan.messages.protocol == Protocol::Pusher && !io.is_ready(id);
        let channel = plan.channel(self.first + id).filter(|_| subscribes);
        let handled = self.setup.handle(io, &plan.messages, id, channel.as_deref().as_slice(), body)?;
        self.pings += handled.pings;
        if handled.ready {
            self.ready(io, id);
        }
        handled.errors.into_iter().next().map_or(Ok(()), |text| Err(ProtocolError::Response(text)))
    }
}

impl Scenario for Idle {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        let number = self.first + id;
        (&self.plan.targets[number % self.plan.targets.len()], number)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        let opcode = self.plan.messages.opcode();
        let own = if self.common_setup.is_none() { self.plan.setup(self.first + id) } else { Vec::new() };
        self.common_setup.as_ref().unwrap_or(&own).iter().for_each(|message| io.send_frame(id, opcode, message));
        if self.setup.expect_replies(&self.plan.messages, id, usize::from(self.plan.channel.is_some())) {
            self.ready(io, id);
        }
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        io.messages(id, bytes, |io, message| self.message(io, id, message))
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        if !io.was_ready {
            self.steps.sent(io.opened_from, io.begun_at[id], 1);
        }
    }

    fn take_results(&mut self) -> Results {
        let mut results = Results { steps: self.steps.take(), ..Results::default() };
        results.add_count("pings", self.pings);
        results
    }
}
