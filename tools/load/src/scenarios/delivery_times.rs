//! The deliveries of a worker: counted down and timed once per publication, node and turn.
//!
//! What a client recovers after a reconnect is timed apart: its age is that of the outage.

use crate::engine::connection::Io;
use crate::measure::histogram::LatencyHistogram;
use crate::measure::last_delivery::LastDeliveries;
use crate::measure::results::{Results, StepRecorder};
use crate::scenarios::delivery_check::DeliveryChecker;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::in_flight::SLOTS;
use crate::scenarios::node_figures::NodeFigures;
use crate::scenarios::payload::{self, Stamp};
use std::mem::take;
use std::sync::Arc;

/// A publication that was delivered in this turn.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    stamp: Stamp,
    channel: usize,
    node: u8,
    recovered: bool,
    /// The intended send time.
    time: u64,
}

pub struct DeliveryTimes {
    plan: Arc<Plan>,
    /// Deliveries per slot, node and kind (live, recovered) in this turn, and the publications that have any.
    counts: Vec<u32>,
    delivered: Vec<Delivered>,
    pub steps: StepRecorder,
    /// Deliveries that were due before the measured time.
    before: LatencyHistogram,
    /// From the intended send time to the delivery at the last subscriber.
    last: LatencyHistogram,
    last_deliveries: LastDeliveries,
    publications: u64,
    /// The deliveries come with the reply to a subscription that recovers.
    pub recovering: bool,
    /// By node; the last ones are of the publishers.
    pub figures: Vec<NodeFigures>,
}

impl DeliveryTimes {
    pub fn new(plan: Arc<Plan>) -> Self {
        let nodes = plan.targets.len();
        Self {
            counts: vec![0; SLOTS * nodes * if plan.reconnects.is_some() { 2 } else { 1 }],
            delivered: Vec::new(),
            steps: StepRecorder::new(plan.rate.as_ref()),
            before: LatencyHistogram::default(),
            last: LatencyHistogram::default(),
            last_deliveries: LastDeliveries::default(),
            publications: 0,
            recovering: false,
            figures: vec![NodeFigures::default(); nodes + 1],
            plan,
        }
    }

    /// A node delivered a publication in this turn; `bytes` begins with its payload.
    #[inline]
    pub fn delivered(&mut self, stamp: Stamp, channel: usize, node: u8, bytes: &[u8]) {
        let (slot, nodes, recovered) = (usize::from(stamp.slot), self.plan.targets.len(), self.recovering);
        let kind = if recovered { SLOTS * nodes } else { 0 };
        let count = &mut self.counts[kind + slot * nodes + usize::from(node)];
        *count += 1;
        if *count == 1 {
            self.delivered.push(Delivered { stamp, channel, node, recovered, time: payload::time(bytes) });
        }
    }

    /// Counts the deliveries of this turn down and records their latency. Slots of publications that reached their last subscriber
    /// go to `retired`.
    pub fn record(&mut self, io: &mut Io, retired: &mut Vec<u16>, checker: &mut DeliveryChecker) {
        let (in_flight, nodes) = (&self.plan.in_flight, self.plan.targets.len());
        for Delivered { stamp, channel, node, recovered, time } in self.delivered.drain(..) {
            let (slot, node) = (stamp.slot, usize::from(node));
            let kind = if recovered { SLOTS * nodes } else { 0 };
            let n = take(&mut self.counts[kind + usize::from(slot) * nodes + node]);
            let time = time.saturating_add_signed(self.plan.clock_ahead.unwrap_or(0));
            let age = io.now.saturating_sub(time);
            let figures = &mut self.figures[node];
            figures.deliveries += u64::from(n);
            if recovered {
                figures.missed.saturating_record_n(age, u64::from(n));
            } else {
                io.record_latency(age, u64::from(n));
            }
            let measured = !recovered && self.steps.received(io.measured_from, time, age, u64::from(n));
            if measured && nodes > 1 {
                figures.latency.saturating_record_n(age, u64::from(n));
            }
            if !measured && !recovered {
                self.before.saturating_record_n(age, u64::from(n));
            }
            if self.plan.clock_ahead.is_some() {
                // Deliveries are in flight here; the coordinator adds what the publishing process sent.
                io.counters.in_flight = io.counters.in_flight.wrapping_sub(u64::from(n));
                self.last_deliveries.record(channel, stamp, age, measured);
                continue;
            }
            if !in_flight.expects(slot, n) {
                checker.faults[node].unknown += u64::from(n);
                continue;
            }
            if in_flight.delivered(slot, n) {
                retired.push(slot);
                self.publications += 1;
                if measured {
                    self.last.saturating_record(age);
                }
            }
        }
    }

    /// Returns what was measured and starts again; the number of publications is of the whole run.
    pub fn take_results(&mut self) -> Results {
        let (steps, last_deliveries) = (self.steps.take(), take(&mut self.last_deliveries));
        let mut results = Results { steps, last_deliveries, ..Results::default() };
        results.take_histogram("before", &mut self.before);
        results.take_histogram("last", &mut self.last);
        results.add_count("publications", self.publications);
        results
    }
}
