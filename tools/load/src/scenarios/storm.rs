//! `storm`: clients that come back. Each connects, subscribes and recovers in one frame; what it gets is checked.
//!
//! Plan: as many connections as there are clients are made first (not timed); after that each connection that begins ends
//! its client's one before by a reset, so that the number of sockets stays. A client is a user and has one channel.
//! Invariant: a connection is ready only when `connect` was answered before `subscribe`, the subscription says that it
//! recovered, and every publication that was missed came with it in its order.

use crate::engine::clock::now;
use crate::engine::connection::Openings;
use crate::engine::workers::Phase;
use crate::engine::{Io, Scene};
use crate::net::Target;
use crate::net::frame::{self, Fault};
use crate::protocols::{self, CONNECT_ID, Dialect, SUBSCRIBE_ID, Since};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::sync::Arc;

/// What every worker of a run has in common.
#[derive(Debug)]
pub struct Plan {
    pub target: Target,
    pub dialect: Dialect,
    /// Where each channel stood before the publications that are missed.
    pub channels: Vec<(String, Since)>,
    pub missed: usize,
}

pub struct Storm {
    plan: Arc<Plan>,
    /// Clients of workers before this one, and of this one.
    first: usize,
    clients: usize,
    /// Each client's first message, a whole frame: made at its first connection, so that the storm is not ours.
    messages: Vec<Vec<u8>>,
    /// Whose `connect` was answered.
    connected: Vec<bool>,
    phase: Phase,
    /// From the beginning to the checked recovery, in the measured time.
    pub recovered: Histogram<u64>,
    pub pings: u64,
}

impl Storm {
    /// A worker's scene for `clients` of the run's, who make `connections` altogether.
    pub fn new(plan: Arc<Plan>, first: usize, clients: usize, connections: usize) -> Self {
        let recovered = crate::report::histogram();
        let connected = vec![false; connections];
        Self {
            plan,
            first,
            clients,
            messages: vec![Vec::new(); clients],
            connected,
            phase: Phase::Open,
            recovered,
            pings: 0,
        }
    }

    fn client(&self, id: usize) -> usize {
        self.first + id % self.clients
    }

    fn channel(&self, id: usize) -> &(String, Since) {
        &self.plan.channels[self.client(id) % self.plan.channels.len()]
    }

    fn message(&mut self, io: &mut Io, id: usize, message: &[u8]) -> Result<(), Fault> {
        for line in protocols::lines(message) {
            if line == b"{}" {
                self.pings += 1;
                io.send_frame(id, frame::TEXT, b"{}");
            } else {
                self.reply(io, id, &protocols::reply(line)?)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, io: &mut Io, id: usize, reply: &Value) -> Result<(), Fault> {
        let number = reply["id"].as_u64();
        if number.is_some() && !reply["error"].is_null() {
            return Err(Fault::Answer(reply["error"].to_string()));
        }
        match number {
            Some(CONNECT_ID) if reply["connect"].is_object() => {
                self.connected[id] = true;
                io.connected(id);
            }
            Some(SUBSCRIBE_ID) if self.connected[id] => {
                judge(&reply["subscribe"], &self.channel(id).1, self.plan.missed).map_err(Fault::Answer)?;
                io.tally.received += 1;
                io.subscribed(id);
                // The turn's own clock is read behind its sockets: here it still shows the turn before.
                let age = now().saturating_sub(io.born[id]);
                io.took(age, 1);
                if self.phase == Phase::Measure {
                    self.recovered.saturating_record(age);
                }
                io.ready(id);
            }
            Some(_) => return Err(Fault::Answer("a reply that is none of ours, or before its time".into())),
            None => {}
        }
        Ok(())
    }
}

/// Whether the answer to a recovery since `since` brings exactly what was `missed`.
fn judge(result: &Value, since: &Since, missed: usize) -> Result<(), String> {
    if result["recovered"] != true {
        return Err("not recovered".into());
    }
    let none = Vec::new();
    let publications = result["publications"].as_array().unwrap_or(&none);
    let offsets = publications.iter().map(|publication| publication["offset"].as_u64());
    if offsets.ne((1..=missed as u64).map(|n| Some(since.offset + n))) {
        return Err(format!("recovered {} publications or others than the {missed} missed", publications.len()));
    }
    Ok(())
}

impl Scene for Storm {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, self.client(id))
    }

    fn make_room(&mut self, io: &mut Io, id: usize) -> bool {
        let Some(before) = id.checked_sub(self.clients) else { return true };
        if io.is_ready(before) {
            io.cut(before);
        }
        // One that is still on its way keeps its place until it has arrived or failed.
        !io.is_open(before)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        let client = id % self.clients;
        if self.messages[client].is_empty() {
            let (channel, since) = self.channel(id);
            let message = protocols::json::returning(&self.plan.dialect, self.client(id), channel, since);
            let key = fastrand::u32(..).to_ne_bytes();
            frame::put_masked(&mut self.messages[client], frame::TEXT, key, &[message.as_bytes()]);
        }
        io.send(id, &self.messages[client]);
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        io.messages(id, bytes, |io, message| self.message(io, id, message))
    }

    fn closed(&mut self, _io: &mut Io, _id: usize) {}

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        if phase == Phase::Measure && self.phase != phase {
            // Those who were there before are not the storm.
            io.openings = Openings::default();
        }
        self.phase = phase;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_missed_and_all_of_it_is_a_recovery() {
        let since = Since { epoch: "e".into(), offset: 7 };
        let publications = json!([{"offset": 8, "data": 1}, {"offset": 9, "data": 2}]);
        let good = json!({"recovered": true, "publications": publications});
        assert_eq!(judge(&good, &since, 2), Ok(()));
        assert_eq!(judge(&json!({"recovered": true}), &since, 0), Ok(()));
        assert!(judge(&good, &since, 1).is_err() && judge(&good, &since, 3).is_err());
        assert!(judge(&json!({"publications": publications}), &since, 2).is_err(), "it does not say so");
        let gap = json!({"recovered": true, "publications": [{"offset": 8}, {"offset": 10}]});
        assert!(judge(&gap, &since, 2).is_err());
    }
}
