//! The families of `/metrics` about the connections to brokers. A server without a broker has none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::{Exposition, Float, Kind};
use crate::broker::stats::{BrokerStats, ConnectionStats, LinkState, Purpose, Refusal};

/// A name, a help text, and the counter.
type Row = (&'static str, &'static str, fn(&ConnectionStats) -> &AtomicU64);

const COUNTERS: &[Row] = &[
    ("broker_reconnects", "Connections made again after a loss.", |c| &c.reconnects),
    ("broker_resubscribes", "Channels subscribed to again after a connection was lost.", |c| &c.resubscribes),
    ("broker_messages_dropped", "Messages of the broker that a shard or the cluster had no room for.", |c| &c.dropped),
    ("broker_messages_malformed", "Messages of the broker that could not be read.", |c| &c.malformed),
];

pub(super) fn write(text: &mut Exposition, stats: &BrokerStats) {
    let connections = stats.connections();
    if connections.is_empty() {
        return;
    }
    let help = "State of the connection: 1 for the current state, 0 for the others.";
    let mut family = text.family(Kind::Gauge, "broker_connection_state", help);
    for connection in &connections {
        for (state, name) in LinkState::NAMES {
            let (broker, purpose) = labels(connection);
            let is_current = u8::from(connection.state() == state);
            family.sample(&[("broker", &broker), ("purpose", &purpose), ("state", &name)], is_current);
        }
    }
    each(text, &connections, Kind::Gauge, "broker_requests_in_flight", "Requests without an answer.", |c| {
        c.in_flight.load(Ordering::Relaxed) as u64
    });
    each(text, &connections, Kind::Gauge, "broker_queued_bytes", "Bytes of requests that are not answered.", |c| {
        c.queued_bytes.load(Ordering::Relaxed) as u64
    });
    let help = "Time since the last probe arrived; a probe is sent when nothing arrives for broker.probe_interval.";
    let mut family = text.family(Kind::Gauge, "broker_probe_age_seconds", help);
    for connection in &connections {
        if let Some(age) = connection.probe_age() {
            let (broker, purpose) = labels(connection);
            family.sample(&[("broker", &broker), ("purpose", &purpose)], Float(age.as_secs_f64()));
        }
    }
    for (name, help, counter) in COUNTERS {
        each(text, &connections, Kind::Counter, name, help, |c| counter(c).load(Ordering::Relaxed));
    }
    let help = "Requests that were not carried out, by reason.";
    let mut family = text.family(Kind::Counter, "broker_refusals", help);
    for connection in &connections {
        for (refusal, name) in Refusal::ALL {
            let (broker, purpose) = labels(connection);
            let count = connection.refusals[refusal as usize].load(Ordering::Relaxed);
            family.sample(&[("broker", &broker), ("purpose", &purpose), ("reason", &name)], count);
        }
    }
    let help = "Time from a request to its answer.";
    let mut family = text.family(Kind::Histogram, "broker_round_trip_seconds", help);
    for connection in connections.iter().filter(|connection| connection.purpose == Purpose::Commands) {
        let (broker, purpose) = labels(connection);
        family.durations(&[("broker", &broker), ("purpose", &purpose)], &connection.round_trips);
    }
}

fn each(
    text: &mut Exposition,
    connections: &[Arc<ConnectionStats>],
    kind: Kind,
    name: &'static str,
    help: &str,
    value: impl Fn(&ConnectionStats) -> u64,
) {
    let mut family = text.family(kind, name, help);
    for connection in connections {
        let (broker, purpose) = labels(connection);
        family.sample(&[("broker", &broker), ("purpose", &purpose)], value(connection));
    }
}

/// The labels `broker` and `purpose`.
fn labels(connection: &ConnectionStats) -> (&str, &'static str) {
    let purpose = match connection.purpose {
        Purpose::Commands => "commands",
        Purpose::PubSub => "pub_sub",
    };
    (&connection.name, purpose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::exposition::Format;

    #[test]
    fn connections_are_shown_with_their_state_and_round_trips() {
        let stats = BrokerStats::default();
        let text = |stats: &BrokerStats| {
            let mut text = Exposition::new(Format::accepted(""));
            text.set_prefix("corecast_");
            write(&mut text, stats);
            text.finish()
        };
        assert!(!text(&stats).contains("broker"));
        let commands = stats.register("redis a:1", Purpose::Commands);
        commands.set_state(LinkState::Up, "");
        commands.refuse(Refusal::Away);
        commands.round_trips.record(std::time::Duration::from_micros(70));
        let text = text(&stats);
        for line in [
            "corecast_broker_connection_state{broker=\"redis a:1\",purpose=\"commands\",state=\"up\"} 1",
            "corecast_broker_connection_state{broker=\"redis a:1\",purpose=\"commands\",state=\"down\"} 0",
            "corecast_broker_refusals_total{broker=\"redis a:1\",purpose=\"commands\",reason=\"away\"} 1",
            "corecast_broker_round_trip_seconds_count{broker=\"redis a:1\",purpose=\"commands\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
