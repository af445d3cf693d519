//! The families of `/metrics` about the servers of a cluster. A server that is in none has none of them.

use super::exposition::{Exposition, Float, Kind};
use crate::cluster::stats::{Counts, Dropped, SurveyEnd};
use crate::cluster::view::{ClusterView, NodeState};

/// A name, a help text, and how to read the value.
type Row = (&'static str, &'static str, fn(&Counts) -> u64);

const COUNTERS: &[Row] = &[
    ("cluster_messages_received", "Control messages received from other servers.", |c| c.received),
    ("cluster_messages_sent", "Control messages handed to the broker.", |c| c.sent),
    ("cluster_nodes_lost", "Servers removed because they no longer announced themselves.", |c| c.nodes_lost),
    ("cluster_nodes_returned", "Lost servers that announced themselves again.", |c| c.nodes_returned),
    ("cluster_surveys_answered", "Surveys of other servers, such as their `channels`, that were answered.", |c| {
        c.surveys_answered
    }),
    (
        "cluster_single_connections",
        "Users disconnected from the other servers because they may have a single connection.",
        |c| c.single_connections,
    ),
];

pub(super) fn write(text: &mut Exposition, view: &ClusterView) {
    let ClusterView { others, counts, silent_ms, .. } = view;
    let help = "Servers of the cluster by state, this one included; a lost server is forgotten after an hour.";
    let mut family = text.family(Kind::Gauge, "cluster_nodes", help);
    for (state, name) in NodeState::ALL {
        let own = usize::from(state == NodeState::Running);
        family.sample(&[("state", &name)], own + others.iter().filter(|node| node.state == state).count());
    }
    let help = "Time since the last control message, those of this server included; one is due every 3 seconds.";
    text.family(Kind::Gauge, "cluster_silence_seconds", help).sample(&[], Float(*silent_ms as f64 / 1e3));
    for (name, help, read) in COUNTERS {
        text.family(Kind::Counter, name, help).sample(&[], read(counts));
    }
    let help = "Control messages dropped, by reason.";
    let mut family = text.family(Kind::Counter, "cluster_messages_dropped", help);
    for (reason, name) in Dropped::ALL {
        family.sample(&[("reason", &name)], counts.dropped[reason as usize]);
    }
    let help = "Surveys of this server, by result; a partial one is without a server that no longer announces itself.";
    let mut family = text.family(Kind::Counter, "cluster_surveys", help);
    for (end, name) in SurveyEnd::ALL {
        family.sample(&[("result", &name)], counts.surveys[end as usize]);
    }
}
