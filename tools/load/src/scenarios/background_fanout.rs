//! The others: a fan-out at a fixed rate that goes on while another load does, to see what they notice of it.
//!
//! A crew of its own with one worker, which wakes only for a delivery: what it sees as delay is the server's, and what the
//! other workers took from it on a core they share. So it is timed twice: before the load (calm) and while it is on.

use crate::args::{self, Common};
use crate::engine::Pace;
use crate::engine::workers::{Control, Crew, Phase, Totals};
use crate::measure::rate::{Arrivals, Rate};
use crate::net::Target;
use crate::protocols::Dialect;
use crate::protocols::token::Tokens;
use crate::report::Report;
use crate::runs::{self, Refusal};
use crate::scenarios::fanout::{Fanout, Plan};
use crate::scenarios::in_flight::Slots;
use crate::scenarios::members::Members;
use crate::scenarios::publisher::Choice;
use std::sync::Arc;

pub struct Beside {
    crew: Crew<Fanout>,
    plan: Arc<Plan>,
    opened: bool,
}

impl Beside {
    /// Connects the subscribers and a publisher; nothing is published yet.
    pub fn start(
        args: &args::Beside,
        url: &str,
        tokens: Option<Arc<Tokens>>,
        common: &Common,
    ) -> Result<Option<Self>, Refusal> {
        if args.beside_subscribers == 0 {
            return Ok(None);
        }
        let dialect = Dialect { tokens, size: args.beside_size, ..Dialect::default() };
        if args.beside_size < dialect.size_min() {
            return Err(Refusal(format!("--beside-size must be at least {}", dialect.size_min())));
        }
        let target = Target::parse(url, &common.transport).map_err(Refusal)?;
        let plan = Arc::new(Plan {
            publish_target: target.clone(),
            target,
            dialect,
            backend: None,
            channels: vec![args.beside_channel.clone()],
            members: Members::Dealt { channels: 1 },
            publishers: 1,
            voices: Vec::new(),
            window: 1,
            probes: args.beside_subscribers,
            rate: Some(Rate::constant(args.beside_rate)),
            arrivals: Arrivals::Even,
            slots: Slots::new(),
            apart: None,
            own_channel: None,
        });
        let control = Control::new(1);
        let mut scene = Fanout::new(plan.clone(), control.clone(), 0, 0, args.beside_subscribers);
        scene.publish(Choice::Turns);
        let total = args.beside_subscribers + 1;
        let pace = Pace { total, concurrency: common.concurrency, schedule: None };
        let mut crew = runs::crew_beside(control, vec![(scene, pace)], common)?;
        crew.allow(0, total);
        crew.wait(common.open_timeout, "others", |t| (t.ready + t.failed) as usize >= total);
        let opened = crew.tally().ready as usize == total;
        Ok(Some(Self { crew, plan, opened }))
    }

    /// Publishes for some time with nothing else going on.
    pub fn calm(&mut self, seconds: f64) {
        self.crew.set_phase(Phase::Warm);
        self.crew.wait(seconds, "calm", |t| t.closed > 0);
    }

    /// The load is on from now.
    pub fn under_load(&self) {
        self.crew.set_phase(Phase::Measure);
    }

    pub fn totals(&self) -> Totals {
        self.crew.totals()
    }

    /// Ends it, and says what they got and when; gives the number of their publications.
    pub fn end(mut self, report: &mut Report) -> Result<u64, Refusal> {
        self.crew.set_phase(Phase::Drain);
        runs::drain(&mut self.crew);
        let published = self.crew.tally().sent;
        let ended = self.crew.finish()?;
        if !self.opened {
            report.void("the others could not all be connected".into());
        }
        runs::faults(report, &ended, true);
        runs::judge(report, self.plan.slots.missing(), &ended.harvest);
        report.latency("beside_calm_us", "others, before", &ended.harvest.histogram("calm"));
        report.latency("beside_us", "others, meanwhile", &ended.harvest.all_steps());
        report.latency("beside_last_us", "others, to the last of them", &ended.harvest.histogram("last"));
        report.beside(ended.timeline);
        report.set("beside_publications", published.into());
        Ok(published)
    }
}
