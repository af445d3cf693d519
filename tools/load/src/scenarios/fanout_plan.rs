//! What the workers and publishers of a fan-out share: the servers, the channels, who subscribes, and the rate.

use crate::measure::rate::{Arrivals, Rate};
use crate::net::Target;
use crate::protocols::Messages;
use crate::protocols::publish_template::Api;
use crate::scenarios::in_flight::InFlight;
use crate::scenarios::subscriptions::Subscriptions;

/// How closed clients reconnect.
#[derive(Clone, Copy, Debug)]
pub struct Reconnects {
    /// To the next node instead of the same one.
    pub moves: bool,
    /// The longest delay in nanoseconds.
    pub delay_max: u64,
}

/// What all workers of a run share.
#[derive(Debug)]
pub struct Plan {
    /// The nodes of the subscribers.
    pub targets: Vec<Target>,
    pub publish_target: Target,
    pub messages: Messages,
    /// Publications go over this API at `publish_target`.
    pub api: Option<Api>,
    pub channels: Vec<String>,
    /// Each subscriber also has a channel without publications: its number is appended.
    pub own_channel: Option<String>,
    pub subscriptions: Subscriptions,
    /// Connections that only publish.
    pub publishers: usize,
    /// The number of publishers of each channel.
    pub publishers_of: Vec<usize>,
    /// Subscribers publish over their own connections, up to this number; 0: they do not.
    pub talkers: usize,
    /// Publications in flight per channel, in closed loop.
    pub window: usize,
    /// Publications per second over all channels, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    /// Subscribers below this number check every delivery, the others count.
    pub probes: usize,
    pub in_flight: InFlight,
    /// Only if several processes hold subscribers: nanoseconds by which the clock of this machine is ahead of the publishers'.
    pub clock_ahead: Option<i64>,
    /// How closed clients reconnect and recover; `None`: the run ends when the server closes a connection.
    pub reconnects: Option<Reconnects>,
}

impl Plan {
    /// The channel names of subscriber `number`.
    pub fn names(&self, number: usize) -> Vec<&str> {
        self.subscriptions.of(number).into_iter().map(|channel| self.channels[channel].as_str()).collect()
    }

    /// The same with its channel without publications, if it has one.
    pub fn all_names(&self, number: usize) -> Vec<String> {
        let own = self.own_channel.as_ref().map(|prefix| format!("{prefix}{number}"));
        self.names(number).into_iter().map(String::from).chain(own).collect()
    }

    /// The node of subscriber `number` at the beginning. The subscribers of each channel use the nodes in turn.
    pub fn node(&self, number: usize) -> u8 {
        let turn = match self.subscriptions {
            Subscriptions::InTurn { channels } => number / channels + number % channels,
            Subscriptions::Table { .. } => number,
        };
        (turn % self.targets.len()) as u8
    }
}
