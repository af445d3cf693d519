//! `storm`: clients that reconnect. Each connects, subscribes and recovers in one frame, and what it gets is checked.
//!
//! As many connections as there are clients are opened first, without timing. After that, each connection that begins ends the
//! previous one of its client with a reset, so that the number of sockets stays the same. A client is a user with one channel.
//! Invariant: a connection is ready only if the reply to `connect` came before that to `subscribe`, the subscription was recovered,
//! and every missed publication came with it in order.

use crate::engine::Scenario;
use crate::engine::clock::now;
use crate::engine::connection::{Io, OpeningTimes};
use crate::engine::control::Phase;
use crate::measure::histogram::LatencyHistogram;
use crate::measure::results::Results;
use crate::net::Target;
use crate::net::frame::{self, ProtocolError};
use crate::protocols::{self, CONNECT_ID, Messages, Position, SUBSCRIBE_ID};
use serde_json::Value;
use std::sync::Arc;

/// What all workers of a run share.
#[derive(Debug)]
pub struct Plan {
    pub target: Target,
    pub messages: Messages,
    /// The position of each channel before the missed publications.
    pub channels: Vec<(String, Position)>,
    pub missed: usize,
}

pub struct Storm {
    plan: Arc<Plan>,
    /// Clients of the workers before this one, and of this one.
    first: usize,
    clients: usize,
    /// The first message of each client as a whole frame, made at its first connection, so that the storm does not pay for it.
    frames: Vec<Vec<u8>>,
    /// Whether the reply to `connect` was received, by connection.
    connected: Vec<bool>,
    phase: Phase,
    /// From the beginning to the checked recovery, in the measured time.
    recovered: LatencyHistogram,
    pings: u64,
}

impl Storm {
    /// The scenario of a worker for `clients` of the run, which open `connections` in all.
    pub fn new(plan: Arc<Plan>, first: usize, clients: usize, connections: usize) -> Self {
        let (frames, connected) = (vec![Vec::new(); clients], vec![false; connections]);
        let recovered = LatencyHistogram::default();
        Self { plan, first, clients, frames, connected, phase: Phase::Open, recovered, pings: 0 }
    }

    fn client(&self, id: usize) -> usize {
        self.first + id % self.clients
    }

    fn channel(&self, id: usize) -> &(String, Position) {
        &self.plan.channels[self.client(id) % self.plan.channels.len()]
    }

    fn reply(&mut self, io: &mut Io, id: usize, line: &[u8]) -> Result<(), ProtocolError> {
        if line == b"{}" {
            self.pings += 1;
            io.send_frame(id, frame::TEXT, b"{}");
            return Ok(());
        }
        let reply = protocols::reply(line)?;
        let Some(number) = reply["id"].as_u64() else { return Ok(()) };
        if !reply["error"].is_null() {
            return Err(ProtocolError::Response(reply["error"].to_string()));
        }
        match number {
            CONNECT_ID if reply["connect"].is_object() => {
                self.connected[id] = true;
                io.connected(id);
            }
            SUBSCRIBE_ID if self.connected[id] => {
                let since = &self.channel(id).1;
                check_recovery(&reply["subscribe"], since, self.plan.missed).map_err(ProtocolError::Response)?;
                io.counters.received += 1;
                io.subscribed(id);
                // `io.now` is still the time of the turn before.
                let age = now().saturating_sub(io.begun_at[id]);
                io.record_latency(age, 1);
                if self.phase == Phase::Measure {
                    self.recovered.saturating_record(age);
                }
                io.ready(id);
            }
            _ => return Err(ProtocolError::Response("an unexpected reply".into())),
        }
        Ok(())
    }
}

/// Whether the reply to a recovery since `since` contains exactly the `missed` publications.
fn check_recovery(result: &Value, since: &Position, missed: usize) -> Result<(), String> {
    if result["recovered"] != true {
        return Err("not recovered".into());
    }
    let publications: Vec<&Value> = result["publications"].as_array().into_iter().flatten().collect();
    let offsets = publications.iter().map(|publication| publication["offset"].as_u64());
    if offsets.ne((1..=missed as u64).map(|n| Some(since.offset + n))) {
        return Err(format!("recovered {} publications, not the {missed} missed ones", publications.len()));
    }
    Ok(())
}

impl Scenario for Storm {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, self.client(id))
    }

    fn may_open(&mut self, io: &mut Io, id: usize) -> bool {
        let Some(previous) = id.checked_sub(self.clients) else { return true };
        if io.is_ready(previous) {
            io.reset(previous);
        }
        // A connection that is still opening is not ended.
        !io.is_open(previous)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        let client = id % self.clients;
        if self.frames[client].is_empty() {
            let (channel, since) = self.channel(id);
            let message =
                protocols::json::setup(&self.plan.messages, self.client(id), [(channel.as_str(), Some(since))]);
            let key = fastrand::u32(..).to_ne_bytes();
            frame::write_masked(&mut self.frames[client], frame::TEXT, key, &[message.as_bytes()]);
        }
        io.send(id, &self.frames[client]);
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        io.messages(id, bytes, |io, message| protocols::lines(message).try_for_each(|line| self.reply(io, id, line)))
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        if phase == Phase::Measure && self.phase != phase {
            // The connections before the storm are not part of it.
            io.stats.opening = OpeningTimes::default();
        }
        self.phase = phase;
        None
    }

    fn take_results(&mut self) -> Results {
        let mut results = Results::default();
        results.take_histogram("recovered", &mut self.recovered);
        results.add_count("pings", self.pings);
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recovery_contains_exactly_the_missed_publications() {
        let since = Position { epoch: "e".into(), offset: 7 };
        let publications = json!([{"offset": 8, "data": 1}, {"offset": 9, "data": 2}]);
        let good = json!({"recovered": true, "publications": publications});
        assert_eq!(check_recovery(&good, &since, 2), Ok(()));
        assert_eq!(check_recovery(&json!({"recovered": true}), &since, 0), Ok(()));
        assert!(check_recovery(&good, &since, 1).is_err() && check_recovery(&good, &since, 3).is_err());
        assert!(check_recovery(&json!({"publications": publications}), &since, 2).is_err(), "not marked as recovered");
        let gap = json!({"recovered": true, "publications": [{"offset": 8}, {"offset": 10}]});
        assert!(check_recovery(&gap, &since, 2).is_err());
    }
}
