//! A fan-out at a fixed rate in the background of another load, which shows how that load affects other clients.
//!
//! It has a worker of its own, which wakes only for deliveries. A delay that it measures is therefore caused by the server, or by
//! the other workers if they share its core. So it is timed twice: before the load and while the load is on.

use crate::RunError;
use crate::args::options::{Background, Common};
use crate::engine::Opening;
use crate::engine::control::{Control, Phase};
use crate::engine::workers::{WorkerOptions, Workers};
use crate::measure::rate::{Arrivals, Rate};
use crate::net::Target;
use crate::protocols::token::Tokens;
use crate::protocols::{Messages, Protocol};
use crate::report::{Failures, Report};
use crate::runs;
use crate::scenarios::fanout::Fanout;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::in_flight::InFlight;
use crate::scenarios::publisher::ChannelChoice;
use crate::scenarios::subscriptions::Subscriptions;
use std::sync::Arc;

pub struct BackgroundFanout {
    workers: Workers<Fanout>,
    plan: Arc<Plan>,
    opened: bool,
}

impl BackgroundFanout {
    /// Connects the subscribers and a publisher; nothing is published yet.
    pub fn start(
        args: &Background,
        url: &str,
        tokens: Option<Arc<Tokens>>,
        common: &Common,
    ) -> Result<Option<Self>, RunError> {
        if args.subscribers == 0 {
            return Ok(None);
        }
        let messages = Messages { tokens, size: args.size, ..Messages::default() };
        if args.size < messages.size_min() {
            return Err(RunError(format!("--beside-size must be at least {}", messages.size_min())));
        }
        let target = Target::new(Protocol::Plain, url, &common.transport)?;
        let plan = Arc::new(Plan {
            publish_target: target.clone(),
            targets: vec![target],
            messages,
            api: None,
            channels: vec![args.channel.clone()],
            own_channel: None,
            subscriptions: Subscriptions::InTurn { channels: 1 },
            publishers: 1,
            publishers_of: vec![1],
            talkers: 0,
            window: 1,
            rate: Some(Rate::constant(args.rate)),
            arrivals: Arrivals::Even,
            probes: args.subscribers,
            in_flight: InFlight::default(),
            clock_ahead: None,
            reconnects: None,
        });
        let control = Control::new(1, None);
        let mut scenario = Fanout::new(plan.clone(), control.clone(), 0, 0, args.subscribers);
        scenario.publish(ChannelChoice::InTurn);
        let total = args.subscribers + 1;
        let opening = Opening { total, concurrency: common.concurrency, schedule: None };
        let mut workers = Workers::start(control, vec![(scenario, opening)], &WorkerOptions::background(common))?;
        let opened = workers.open(&[total], common.open_timeout, "background");
        Ok(Some(Self { workers, plan, opened }))
    }

    /// Publishes for some time without another load.
    pub fn run_alone(&mut self, seconds: f64) {
        self.workers.set_phase(Phase::Warmup);
        self.workers.wait(seconds, "calm", |counters| counters.closed > 0);
    }

    /// The load begins now.
    pub fn begin_load(&mut self) {
        self.workers.set_phase(Phase::Measure);
    }

    pub fn cpu(&self) -> u64 {
        self.workers.cpu()
    }

    /// Ends the fan-out and reports its deliveries; returns the number of its publications.
    pub fn finish(mut self, report: &mut Report) -> Result<u64, RunError> {
        self.workers.set_phase(Phase::Drain);
        self.workers.drain();
        let published = self.workers.counters().sent;
        let finished = self.workers.finish()?;
        if !self.opened {
            report.void("not all background subscribers could be connected");
        }
        report.connection_faults(&finished.connections, Failures::None);
        runs::report_delivery_faults(report, self.plan.in_flight.missing(), &finished.results);
        report.latency("beside_calm_us", "background, before the load", &finished.results.histogram("before"));
        report.latency("beside_us", "background, under load", &finished.results.all_steps());
        report.latency("beside_last_us", "background, last subscriber", &finished.results.histogram("last"));
        report.background(finished.timeline);
        report.set("beside_publications", published);
        Ok(published)
    }
}
