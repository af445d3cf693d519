//! Clients that stay through failures of their servers: a closed client reconnects as SDKs do and recovers from its positions.
//!
//! Stages of a client: new → complete ⇄ away → ended. It is complete when it is connected and has the replies to all of its
//! subscriptions. It is away from a close, a server that is silent, or an unsubscribe that asks for another subscribe, until it is
//! complete again; a close code after which SDKs do not reconnect ends it. Delays between attempts grow and have full jitter.
//! Invariants: `Counters::away` is the number of clients that are away; a position never falls behind within an epoch, so what was
//! delivered is not requested again. A client that was never complete belongs to the opening of the run, not to this file.

use crate::engine::clock::SECOND;
use crate::engine::connection::Io;
use crate::measure::rate::NEVER;
use crate::net::frame::{self, ProtocolError};
use crate::protocols::{CONNECT_ID, Position, SUBSCRIBE_ID, json};
use crate::scenarios::fanout_plan::{Plan, Reconnects};
use crate::scenarios::node_figures::NodeFigures;
use crate::scenarios::payload::BYTES_MIN;
use memchr::memmem;
use serde_json::Value;
use std::collections::BTreeSet;
use std::mem::{replace, take};

/// The shortest delay before an attempt, as in SDKs; the random part begins with this too.
const DELAY_MIN: u64 = SECOND / 2;
/// The time in which a connection must be upgraded and its `connect` answered.
const CONNECT_TIMEOUT: u64 = 10 * SECOND;
/// The delay past the announced interval of pings after which a server counts as silent, as in SDKs.
const PING_DELAY_MAX: u64 = 10 * SECOND;
/// The interval of pings if the server announces none.
const PING_INTERVAL: u64 = 25 * SECOND;
/// From this code of an unsubscribe on, SDKs subscribe again.
const RESUBSCRIBE_MIN: u64 = 2500;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    New,
    Complete,
    Away {
        since: u64,
    },
    Ended,
}

#[derive(Clone, Debug, Default)]
struct Client {
    stage: Stage,
    /// The reply to `connect` was received on the current connection.
    connected: bool,
    /// Replies to `subscribe` that are still expected.
    expected: usize,
    /// Failed attempts since it was last complete.
    attempts: u32,
    /// When the server was last heard, and how long it may be silent.
    heard: u64,
    silence_max: u64,
    /// By channel, once it was subscribed.
    positions: Vec<Option<Position>>,
}

/// The clients of a worker: its subscribers, and behind them the connections that only publish.
#[derive(Debug)]
pub struct ReconnectingClients {
    reconnects: Reconnects,
    /// The first subscriber of this worker, and their number.
    first: usize,
    subscribers: usize,
    clients: Vec<Client>,
    /// When a client reconnects, or subscribes to the channel again.
    due: BTreeSet<(u64, usize, Option<usize>)>,
    next_check: u64,
}

impl ReconnectingClients {
    pub fn new(reconnects: Reconnects, first: usize, subscribers: usize, publishers: usize) -> Self {
        let clients = vec![Client::default(); subscribers + publishers];
        Self { reconnects, first, subscribers, clients, due: BTreeSet::new(), next_check: 0 }
    }

    fn names(&self, plan: &Plan, id: usize) -> Vec<String> {
        if id < self.subscribers { plan.all_names(self.first + id) } else { Vec::new() }
    }

    /// A connection that only publishes over an API is established: there is nothing to set up.
    pub fn api_opened(&mut self, io: &mut Io, id: usize) {
        (self.clients[id].connected, self.clients[id].silence_max) = (true, NEVER);
        self.complete(io, id, &mut NodeFigures::default());
    }

    /// Sends `connect`, and `subscribe` with the positions.
    pub fn opened(&mut self, io: &mut Io, plan: &Plan, id: usize) {
        let names = self.names(plan, id);
        let client = &mut self.clients[id];
        client.positions.resize(names.len(), None);
        client.expected = names.len();
        let channels = names.iter().map(String::as_str).zip(client.positions.iter().map(Option::as_ref));
        let message = json::setup(&plan.messages, self.first + id, channels);
        io.send_frame(id, frame::TEXT, message.as_bytes());
    }

    /// Bytes were received on connection `id`. Returns whether it expects no reply to a subscription.
    pub fn hears(&mut self, id: usize, now: u64) -> bool {
        self.clients[id].heard = now;
        self.clients[id].stage == Stage::Complete
    }

    /// A publication of the client's channel number `channel` was delivered; `bytes` begins with its payload.
    #[inline]
    pub fn delivered(&mut self, id: usize, channel: usize, bytes: &[u8]) {
        if let Some(position) = self.clients[id].positions.get_mut(channel).and_then(Option::as_mut) {
            position.offset = position.offset.max(offset_behind(bytes).unwrap_or(0));
        }
    }

    /// Handles a reply or a push that is no publication.
    pub fn handle(
        &mut self,
        io: &mut Io,
        plan: &Plan,
        id: usize,
        value: &Value,
        figures: &mut NodeFigures,
    ) -> Result<(), ProtocolError> {
        match value["id"].as_u64() {
            Some(CONNECT_ID) if value["error"].is_null() => {
                let client = &mut self.clients[id];
                let interval = value["connect"]["ping"].as_u64().map_or(PING_INTERVAL, |seconds| seconds * SECOND);
                (client.connected, client.silence_max) = (true, interval + PING_DELAY_MAX);
                io.connected(id);
                if client.stage != Stage::New {
                    io.ready(id);
                }
                if client.expected == 0 {
                    self.complete(io, id, figures);
                }
                Ok(())
            }
            Some(CONNECT_ID) => Err(ProtocolError::Response(value["error"].to_string())),
            Some(n) => match n.checked_sub(SUBSCRIBE_ID).map(|n| n as usize) {
                Some(channel) if channel < self.clients[id].positions.len() => {
                    self.subscribed(io, id, channel, value, figures)
                }
                _ => Ok(()),
            },
            None => {
                let push = &value["push"];
                let Some(code) = push["unsubscribe"]["code"].as_u64() else { return Ok(()) };
                let mut names = self.names(plan, id).into_iter();
                let Some(channel) = names.position(|name| push["channel"] == name.as_str()) else { return Ok(()) };
                *figures.unsubscribes.entry(code).or_default() += 1;
                self.leave(io, id);
                self.clients[id].expected += 1;
                if code >= RESUBSCRIBE_MIN {
                    self.subscribe(io, plan, id, channel);
                }
                Ok(())
            }
        }
    }

    fn subscribe(&self, io: &mut Io, plan: &Plan, id: usize, channel: usize) {
        let (names, since) = (self.names(plan, id), self.clients[id].positions[channel].as_ref());
        let command = SUBSCRIBE_ID + channel as u64;
        let message = json::subscribe(&plan.messages, self.first + id, command, &names[channel], since);
        io.send_frame(id, frame::TEXT, message.as_bytes());
    }

    fn subscribed(
        &mut self,
        io: &mut Io,
        id: usize,
        channel: usize,
        value: &Value,
        figures: &mut NodeFigures,
    ) -> Result<(), ProtocolError> {
        let (client, error, result) = (&mut self.clients[id], &value["error"], &value["subscribe"]);
        if !error.is_null() {
            if error["temporary"] != true {
                return Err(ProtocolError::Response(error.to_string()));
            }
            figures.failed += 1;
            self.schedule(io.now, id, Some(channel));
            return Ok(());
        }
        if result["recoverable"] != true {
            let text =
                "a channel without recovery: its namespace needs history and allow_recovery, or use --reconnect off";
            return Err(ProtocolError::Response(text.into()));
        }
        let epoch = result["epoch"].as_str().unwrap_or_default().to_string();
        let position = Position { epoch, offset: result["offset"].as_u64().unwrap_or(0) };
        if client.positions[channel].replace(position).is_some() {
            *(if result["recovered"] == true { &mut figures.recovered } else { &mut figures.not_recovered }) += 1;
        }
        client.expected = client.expected.saturating_sub(1);
        if client.expected == 0 && client.connected {
            if client.stage == Stage::New {
                io.subscribed(id);
            }
            self.complete(io, id, figures);
        }
        Ok(())
    }

    fn complete(&mut self, io: &mut Io, id: usize, figures: &mut NodeFigures) {
        io.ready(id);
        let client = &mut self.clients[id];
        client.attempts = 0;
        if let Stage::Away { since } = replace(&mut client.stage, Stage::Complete) {
            io.counters.away -= 1;
            figures.away.saturating_record(io.now.saturating_sub(since));
        }
    }

    fn leave(&mut self, io: &mut Io, id: usize) {
        if self.clients[id].stage == Stage::Complete {
            self.clients[id].stage = Stage::Away { since: io.now };
            io.counters.away += 1;
        }
    }

    /// The next attempt, as SDKs time it.
    fn schedule(&mut self, now: u64, id: usize, channel: Option<usize>) {
        let client = &mut self.clients[id];
        let most = DELAY_MIN.saturating_mul(1 << client.attempts.min(20)).min(self.reconnects.delay_max);
        client.attempts += 1;
        let delay = (DELAY_MIN + fastrand::u64(..=most)).min(self.reconnects.delay_max);
        self.due.insert((now + delay, id, channel));
    }

    /// Connection `id` to a node of `nodes` has ended, with `code`. Returns the node of the next attempt.
    pub fn closed(&mut self, io: &mut Io, id: usize, (node, nodes): (u8, usize), figures: &mut NodeFigures) -> u8 {
        let was_connected = take(&mut self.clients[id].connected);
        let stage = self.clients[id].stage;
        if matches!(stage, Stage::New | Stage::Ended) {
            return node;
        }
        match was_connected {
            true => *figures.closes.entry(io.close_code).or_default() += 1,
            false => figures.failed += 1,
        }
        self.leave(io, id);
        self.due.retain(|(_, other, _)| *other != id);
        if !reconnects_after(io.close_code) {
            io.counters.away -= 1;
            self.clients[id].stage = Stage::Ended;
            figures.ended += 1;
            return node;
        }
        self.schedule(io.now, id, None);
        let moves = self.reconnects.moves && id < self.subscribers;
        if moves { ((usize::from(node) + 1) % nodes) as u8 } else { node }
    }

    /// Opens what is due again; returns when the next attempt is, and the connections whose servers are silent.
    pub fn turn(&mut self, io: &mut Io, plan: &Plan) -> (u64, Vec<usize>) {
        while let Some(&(at, id, channel)) = self.due.first().filter(|(at, ..)| *at <= io.now) {
            self.due.remove(&(at, id, channel));
            match channel {
                Some(channel) => self.subscribe(io, plan, id, channel),
                None => io.reopen(id),
            }
        }
        let mut silent = Vec::new();
        if io.now >= self.next_check {
            self.next_check = io.now + SECOND;
            let is_silent = |(id, client): (usize, &Client)| {
                let limit = if client.connected { client.silence_max } else { CONNECT_TIMEOUT };
                let since = client.heard.max(io.begun_at[id]);
                client.stage != Stage::New && io.is_open(id) && io.now.saturating_sub(since) > limit
            };
            silent.extend(self.clients.iter().enumerate().filter(|one| is_silent(*one)).map(|(id, _)| id));
        }
        (self.due.first().map_or(self.next_check, |(at, ..)| (*at).min(self.next_check)), silent)
    }
}

/// Whether SDKs reconnect after that close code.
fn reconnects_after(code: u16) -> bool {
    !matches!(code, 3500..4000 | 4500..5000)
}

/// The offset of a publication in JSON, which follows its data; `bytes` begins with the payload.
fn offset_behind(bytes: &[u8]) -> Option<u64> {
    let (name, rest) = (b"\"offset\":", bytes.get(BYTES_MIN..)?);
    let digits = &rest[memmem::find(rest, name)? + name.len()..];
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    frame::number(&digits[..end]).map(|n| n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_follows_the_payload_and_the_info_of_the_publisher() {
        let payload = format!("~cl~{}", "0".repeat(BYTES_MIN - 4));
        let text = format!(r#"{payload}abc","info":{{"user":"","client":"x"}},"offset":1234}}}}}}"#);
        assert_eq!(offset_behind(text.as_bytes()), Some(1234));
        for cut in 0..text.len() {
            let _ = offset_behind(&text.as_bytes()[..cut]);
        }
        assert_eq!(offset_behind(payload.as_bytes()), None);
    }

    #[test]
    fn delay_grows_to_its_bound_with_jitter() {
        let reconnects = Reconnects { moves: false, delay_max: 4 * SECOND };
        let mut clients = ReconnectingClients::new(reconnects, 0, 1, 0);
        for attempt in 0..40 {
            clients.schedule(0, 0, None);
            let (delay, ..) = clients.due.pop_first().unwrap();
            let most = (DELAY_MIN + (DELAY_MIN << attempt.min(9))).min(4 * SECOND);
            assert!((DELAY_MIN..=most).contains(&delay), "attempt {attempt}: {delay}");
        }
    }

    #[test]
    fn codes_of_final_closes_end_a_client() {
        assert!([1006, 3000, 3001, 3012, 4000, 5000].into_iter().all(reconnects_after));
        assert!([3500, 3503, 3999, 4500, 4999].into_iter().all(|code| !reconnects_after(code)));
    }
}
