//! Whether what Redis accepts is delivered: a word that goes the way of a publication and must come back.
//!
//! A PUB/SUB connection that stays silent is no proof of a fault, and neither is an open socket of health. So a silent connection
//! publishes to a channel of its own. If Redis accepts that and nothing arrives, the connection is on the wrong server, or dead.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::job::ProbeOutcome;

/// Connections that deliver nothing are made anew more and more rarely, up to so many intervals.
const FACTOR_MAX: u32 = 10;

pub(super) struct Probe {
    interval: Duration,
    /// Intervals to wait for the next probe.
    factor: u32,
    last_message: Instant,
    sent: Option<(Instant, Rc<Cell<ProbeOutcome>>)>,
}

/// What is to be done.
pub(super) enum ProbeStep {
    Nothing,
    /// Publish a probe that reports here.
    Send(Rc<Cell<ProbeOutcome>>),
    /// Make the connection anew.
    Undelivered,
}

impl Probe {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, factor: 1, last_message: now, sent: None }
    }

    /// A message has arrived, of whatever channel.
    pub(super) fn arrived(&mut self, now: Instant) {
        (self.last_message, self.sent, self.factor) = (now, None, 1);
    }

    /// The connection is new: the first probe is due.
    pub(super) fn reconnected(&mut self, now: Instant) {
        self.sent = None;
        self.last_message = now.checked_sub(self.interval).unwrap_or(now);
        if self.factor > 1 {
            // The connection before delivered nothing.
            self.last_message = now;
        }
    }

    pub(super) fn step(&mut self, now: Instant) -> ProbeStep {
        let Some((since, outcome)) = &self.sent else {
            if now.duration_since(self.last_message) < self.interval * (self.factor - 1).max(1) {
                return ProbeStep::Nothing;
            }
            let outcome = Rc::<Cell<ProbeOutcome>>::default();
            self.sent = Some((now, Rc::clone(&outcome)));
            return ProbeStep::Send(outcome);
        };
        match outcome.get() {
            ProbeOutcome::Accepted if now.duration_since(*since) >= self.interval => {
                self.factor = (self.factor * 2).min(FACTOR_MAX);
                self.sent = None;
                ProbeStep::Undelivered
            }
            // The way to Redis is what fails.
            ProbeOutcome::Failed => {
                (self.sent, self.last_message) = (None, now);
                ProbeStep::Nothing
            }
            ProbeOutcome::Accepted | ProbeOutcome::Sent => ProbeStep::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn send(probe: &mut Probe, now: Instant) -> Rc<Cell<ProbeOutcome>> {
        let ProbeStep::Send(outcome) = probe.step(now) else { panic!("a probe is due") };
        outcome
    }

    #[test]
    fn silent_connection_is_probed_once_for_each_interval() {
        let start = Instant::now();
        let mut probe = Probe::new(INTERVAL, start);
        assert!(matches!(probe.step(start + INTERVAL / 2), ProbeStep::Nothing));
        probe.arrived(start + INTERVAL / 2);
        assert!(matches!(probe.step(start + INTERVAL), ProbeStep::Nothing));
        let outcome = send(&mut probe, start + INTERVAL * 2);
        outcome.set(ProbeOutcome::Accepted);
        probe.arrived(start + INTERVAL * 2);
        assert!(matches!(probe.step(start + INTERVAL * 5 / 2), ProbeStep::Nothing));
        send(&mut probe, start + INTERVAL * 3);
    }

    #[test]
    fn accepted_probe_that_does_not_arrive_ends_the_connection() {
        let mut now = Instant::now();
        let mut probe = Probe::new(INTERVAL, now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let before = now;
            probe.reconnected(now);
            while !matches!(probe.step(now), ProbeStep::Send(ref outcome) if { outcome.set(ProbeOutcome::Accepted); true })
            {
                now += INTERVAL;
            }
            waits.push(now.duration_since(before).as_secs() / INTERVAL.as_secs());
            assert!(matches!(probe.step(now + INTERVAL / 2), ProbeStep::Nothing));
            now += INTERVAL;
            assert!(matches!(probe.step(now), ProbeStep::Undelivered));
        }
        assert_eq!(waits, [0, 1, 3, 7, 9, 9]);
    }

    #[test]
    fn probe_that_redis_does_not_accept_says_nothing_about_delivery() {
        let start = Instant::now();
        let mut probe = Probe::new(INTERVAL, start);
        let outcome = send(&mut probe, start + INTERVAL);
        assert!(matches!(probe.step(start + INTERVAL * 9), ProbeStep::Nothing), "no answer yet");
        outcome.set(ProbeOutcome::Failed);
        assert!(matches!(probe.step(start + INTERVAL * 9), ProbeStep::Nothing));
        send(&mut probe, start + INTERVAL * 10);
    }
}
