//! `/metrics`: the numbers of the shards, the backends and the process at the moment of the request.
//!
//! Nothing is registered and nothing is atomic: each request reads fresh snapshots and writes them as text
//! (`exposition`). A counter or gauge is one line of a table: its name, its help text and how to read it from a snapshot.
//! A series carries the shard, or the proxy or key set by its name in the configuration.

use std::fmt::Display;
use std::sync::atomic::Ordering;

use super::broker_metrics;
use super::cluster_metrics;
use super::exposition::{Exposition, Family, Float, Format, Kind, Labels};
use super::log_metrics;
use super::process_stats::ProcessStats;
use super::procfs;
use crate::api::settings::VERSION;
use crate::api::unauthorized::{Api, Unauthorized};
use crate::backend::jwks::KeySetSnapshot;
use crate::backend::{DURATION_BUCKETS_MS, ProxySnapshot, Reason};
use crate::broker::durable::LogStats;
use crate::broker::stats::BrokerStats;
use crate::cluster::view::ClusterView;
use crate::engine::rejection::Rejection;
use crate::engine::stats::{
    Bound, Closed, Counters, DROPPED_POLICIES, Refused, Snapshot, TURN_BUCKETS_US, TlsCounts, TlsFailed,
};

/// A name, a help text, and how to read the value.
type Row<T> = (&'static str, &'static str, fn(&T) -> u64);

const COUNTERS: &[Row<Counters>] = &[
    ("connections_accepted", "Connections accepted from the listeners.", |c| c.accepted),
    ("messages", "Complete data messages received from clients; control frames are not counted.", |c| c.messages_in),
    ("replies", "Messages queued for a single connection, such as replies to commands.", |c| c.replies),
    ("publications", "Publications accepted by this shard as the home shard of the channel.", |c| c.publications),
    ("encodings", "Publications encoded, once for each wire format in use.", |c| c.encodings),
    ("deliveries", "Publications queued for subscribers, counted once per subscriber.", |c| c.deliveries),
    ("socket_reads", "Read calls on client sockets.", |c| c.reads),
    (
        "connection_shares_spent",
        "Times that a connection used up its share of a turn; the rest of its input waited.",
        |c| c.shares_spent,
    ),
    ("socket_writes", "Write calls on client sockets.", |c| c.writes),
    ("socket_writes_short", "Write calls that the socket accepted only in part or not at all.", |c| c.writes_short),
    ("received_bytes", "Bytes read from client sockets.", |c| c.bytes_in),
    ("sent_bytes", "Bytes written to client sockets.", |c| c.bytes_out),
    ("epoll_ctl", "Calls of epoll_ctl.", |c| c.epoll_ctls),
    ("mailbox_pushes", "Batches put into the mailboxes of other shards.", |c| c.mail_pushes),
    ("mailbox_overflows", "Batches that had to wait because the mailbox of the other shard was full.", |c| {
        c.mail_overflows
    }),
    ("mailbox_wakes", "Wake-ups of other shards, one eventfd write each.", |c| c.mail_wakes),
    ("publications_repaired", "Publications not sent to a slow shard at first and sent later from the history.", |c| {
        c.publications_repaired
    }),
    (
        "publications_lost",
        "Publications not sent to a slow shard and no longer in the history when it caught up.",
        |c| c.publications_lost,
    ),
    ("publications_refused", "Publications that the broker did not take, or did not answer.", |c| {
        c.publications_refused
    }),
    ("publications_local", "Publications delivered on this server only, while the broker was away.", |c| {
        c.publications_local
    }),
    ("broker_reads_merged", "Reads of a history or presence that shared the request of another to the broker.", |c| {
        c.broker_reads_merged
    }),
    ("subscribes_failed", "Subscribes that failed because the broker was away.", |c| c.subscribes_failed),
    ("recoveries", "Subscriptions that received every publication they had missed.", |c| c.recoveries),
    ("recoveries_failed", "Subscriptions whose missed publications were no longer in the history.", |c| {
        c.recoveries_failed
    }),
    (
        "replies_refused",
        "Replies not produced because they exceed the memory for backlogs, engine.backlog_bytes_max.",
        |c| c.replies_refused,
    ),
    ("tokens_refused", "Tokens rejected as invalid; expired tokens are not counted.", |c| c.tokens_refused),
    ("backend_questions", "Calls of this shard to backends, and requests for token key sets.", |c| c.backend_calls),
    ("backend_questions_failed", "Calls counted in backend_questions that failed.", |c| c.backend_failures),
    ("deflate_connections", "Connections that negotiated compression.", |c| c.deflate_agreed),
    ("deflates", "Messages compressed; a publication is compressed once for all its subscribers.", |c| c.deflates),
    ("deflate_input_bytes", "Bytes of compressed messages before compression.", |c| c.deflate_bytes_in),
    ("deflate_output_bytes", "Bytes of compressed messages after compression.", |c| c.deflate_bytes_out),
    ("inflates", "Compressed messages received from clients.", |c| c.inflates),
    ("inflate_output_bytes", "Bytes of compressed messages from clients after decompression.", |c| c.inflate_bytes_out),
    ("subscriptions_cut", "Subscriptions told to subscribe again because the connection did not read.", |c| {
        c.subscriptions_cut
    }),
    ("flushes_cut", "Flushes that took more than one turn of the event loop.", |c| c.flushes_cut),
    ("drain_waves", "Groups of connections closed during the shutdown.", |c| c.drain_waves),
    ("log_lost", "Log records dropped because the ring to the control thread was full.", |c| c.log_lost),
];

const GAUGES: &[Row<Snapshot>] = &[
    ("connections", "Open WebSocket connections.", |s| s.connections),
    (
        "draining",
        "1 while the shard rejects new connections and closes the existing ones for a shutdown, else 0.",
        |s| s.draining.into(),
    ),
    ("subscriptions", "Active subscriptions of the connections of this shard.", |s| s.subscriptions),
    ("channels", "Channels whose home shard is this one.", |s| s.channels),
    ("users", "Distinct users connected to this shard; anonymous users are not counted.", |s| s.users),
    ("history_bytes", "Bytes of the channel histories held by this shard.", |s| s.history_bytes),
    ("backlog_bytes", "Bytes queued for slow connections; bytes shared by several are counted for each.", |s| {
        s.backlog_bytes
    }),
    (
        "backlog_kept_bytes",
        "Bytes of memory held by the queues of slow connections; shared bytes are counted once.",
        |s| s.backlog_kept_bytes,
    ),
    ("backlog_reserved_bytes", "Bytes reserved for replies that are requested and not encoded yet.", |s| {
        s.backlog_reserved_bytes
    }),
    ("replies_waiting", "Commands whose replies wait for memory of engine.backlog_bytes_max.", |s| s.replies_waiting),
    ("backlog_connections", "Connections with a non-empty queue.", |s| s.backlog_connections),
    ("spill_bytes", "Bytes held in partly received messages.", |s| s.spill_bytes),
    ("deflate_contexts", "Connections with a compression context of their own.", |s| s.deflate_contexts),
    (
        "tls_held_bytes",
        "Bytes buffered by TLS connections: partial records, and output that the socket has not accepted.",
        |s| s.tls_held_bytes,
    ),
    ("admission_shut", "1 while new connections are rejected because of event-loop lag or memory use, else 0.", |s| {
        s.shedding.into()
    }),
];

const TLS_COUNTERS: &[Row<TlsCounts>] = &[
    ("tls_early_requests", "Connections whose upgrade request arrived as TLS early data (0-RTT).", |t| t.early),
    ("tls_handshakes_put_off", "TLS handshakes postponed to a later turn of the event loop.", |t| t.put_off),
];

const PROXY_COUNTERS: &[Row<ProxySnapshot>] = &[
    ("backend_calls", "Calls to the backend, whatever their result.", |p| p.calls),
    ("backend_retries", "Repeated attempts of calls to the backend.", |p| p.retries),
    ("backend_circuit_openings", "Times that the circuit breaker opened.", |p| p.opened),
];

const PROXY_GAUGES: &[Row<ProxySnapshot>] = &[
    (
        "backend_circuit_open",
        "1 while the circuit breaker is open and calls fail without reaching the backend, else 0.",
        |p| p.open.into(),
    ),
    ("backend_in_flight", "Calls that are waiting or in progress.", |p| p.in_flight),
];

const KEY_SET_COUNTERS: &[Row<KeySetSnapshot>] = &[
    ("key_set_fetches", "Fetches of the token key set (JWKS).", |k| k.fetches),
    ("key_set_fetches_failed", "Fetches of the token key set (JWKS) that failed.", |k| k.failures),
];

const PROCESS_COUNTERS: &[Row<ProcessStats>] = &[
    ("admin_connections_refused", "Connections to the admin address rejected because of admin.connections_max.", |p| {
        p.admin_refused.load(Ordering::Relaxed)
    }),
    ("handover_forwarded", "Publications forwarded to the peer process during a handover.", |p| {
        p.handover_forwarded.load(Ordering::Relaxed)
    }),
    ("handover_received", "Publications received from the peer process during a handover.", |p| {
        p.handover_received.load(Ordering::Relaxed)
    }),
    ("handover_lost_bytes", "Bytes that could not be sent to the peer process during a handover.", |p| {
        p.handover_lost_bytes.load(Ordering::Relaxed)
    }),
];

const PROCESS_GAUGES: &[Row<ProcessStats>] = &[
    ("admin_connections", "Open connections to the admin address.", |p| p.admin_connections.load(Ordering::Relaxed)),
    ("handover_bytes_peak", "Largest number of bytes queued for the peer process during a handover.", |p| {
        p.handover_bytes_peak.load(Ordering::Relaxed)
    }),
];

const RELOAD_GAUGES: &[Row<ProcessStats>] = &[
    ("config_last_reload_successful", "1 unless the last reload of the configuration was rejected, else 0.", |p| {
        (!p.reload_failed.load(Ordering::Relaxed)).into()
    }),
    (
        "config_last_reload_success_timestamp_seconds",
        "When the configuration in effect was read, in seconds since 1970.",
        |p| p.read_at_unix_s.load(Ordering::Relaxed),
    ),
];

/// What is known about the backends and key sets.
#[derive(Default, Debug)]
pub(crate) struct Backends {
    pub proxies: Vec<ProxySnapshot>,
    pub key_sets: Vec<KeySetSnapshot>,
}

/// Everything that one response shows.
pub(crate) struct Report<'a> {
    pub shards: &'a [Snapshot],
    pub backends: &'a Backends,
    pub process: &'a ProcessStats,
    pub unauthorized: &'a Unauthorized,
    /// If this server is in one.
    pub cluster: Option<&'a ClusterView>,
    /// The connections to brokers.
    pub brokers: &'a BrokerStats,
    pub durable_log: &'a LogStats,
    /// Seconds since 1970.
    pub started_at: f64,
}

/// The text of one response. Resident memory, CPU time and descriptors are read from the kernel on the way.
pub(crate) fn encode(format: Format, report: &Report<'_>) -> String {
    let mut text = Exposition::new(format);
    text.set_prefix("corecast_");
    shards(&mut text, report.shards);
    backends(&mut text, report.backends);
    handover_and_reloads(&mut text, report.process);
    let help = "Calls of the server API rejected because the API key is missing or wrong.";
    let mut family = text.family(Kind::Counter, "api_unauthorized", help);
    for (api, name) in Api::ALL {
        family.sample(&[("api", &name)], report.unauthorized.calls(api));
    }
    if let Some(cluster) = report.cluster {
        cluster_metrics::write(&mut text, cluster);
    }
    broker_metrics::write(&mut text, report.brokers);
    log_metrics::write(&mut text, report.durable_log);
    text.set_prefix("process_");
    process(&mut text, report.started_at);
    text.finish()
}

fn shards(text: &mut Exposition, shards: &[Snapshot]) {
    for (name, help, read) in GAUGES {
        per_shard(text.family(Kind::Gauge, name, help), shards, *read);
    }
    for (name, help, read) in COUNTERS {
        per_shard(text.family(Kind::Counter, name, help), shards, |shard| read(&shard.counters));
    }
    let help = "Average time that a ready socket waits until the event loop handles it.";
    let lag = |shard: &Snapshot| Float(shard.lag_us as f64 / 1e6);
    per_shard(text.family(Kind::Gauge, "loop_lag_seconds", help), shards, lag);
    // The name before; the next release leaves it out.
    let help = "Deprecated, use corecast_loop_lag_seconds.";
    per_shard(text.family(Kind::Gauge, "loop_lag_microseconds", help), shards, |shard| shard.lag_us);
    let help = "Publications removed from histories because of the limit on the memory of all histories.";
    per_shard(text.family(Kind::Counter, "history_evicted", help), shards, |shard| shard.history_evicted);
    let help = "Calls of epoll_wait, by whether they were allowed to block.";
    per_shard_and(text.family(Kind::Counter, "epoll_waits", help), shards, "mode", |shard| {
        let blocking = shard.counters.epoll_waits_blocking;
        [("blocking", blocking), ("polling", shard.counters.epoll_waits.saturating_sub(blocking))]
    });
    let help = "Connections rejected before the WebSocket upgrade completed, by reason.";
    per_shard_and(text.family(Kind::Counter, "connections_refused", help), shards, "reason", |shard| {
        Refused::ALL.map(|(reason, name)| (name, shard.counters.refused[reason as usize]))
    });
    let help = "Times that a limit was reached, by its setting.";
    per_shard_and(text.family(Kind::Counter, "limit_reached", help), shards, "limit", |shard| {
        Bound::ALL.map(|(bound, name)| (name, shard.counters.reached[bound as usize]))
    });
    let help = "WebSocket connections closed, by reason.";
    per_shard_and(text.family(Kind::Counter, "connections_closed", help), shards, "reason", |shard| {
        Closed::ALL.map(|(reason, name)| (name, shard.counters.closed[reason as usize]))
    });
    let help = "Commands and frames of open connections rejected, by reason.";
    per_shard_and(text.family(Kind::Counter, "refusals", help), shards, "reason", |shard| {
        Rejection::ALL.map(|(rejection, name)| (name, shard.counters.rejections[rejection as usize]))
    });
    closes(text, shards);
    tls(text, shards);
    let help = "Publications dropped because the subscriber did not read, by the policy of the namespace.";
    per_shard_and(text.family(Kind::Counter, "publications_dropped", help), shards, "policy", |shard| {
        std::array::from_fn::<_, { DROPPED_POLICIES.len() }, _>(|at| (DROPPED_POLICIES[at], shard.counters.dropped[at]))
    });
    let help = "Turns of the event loop by the time they worked; time spent waiting for events is not counted.";
    let mut family = text.family(Kind::Histogram, "loop_turn_seconds", help);
    for shard in shards {
        let bounds = TURN_BUCKETS_US.iter().map(|&us| f64::from(us) / 1e6).chain([f64::INFINITY]);
        let Counters { turn_us, turn_us_sum, .. } = shard.counters;
        family.histogram(&[("shard", &shard.shard)], turn_us_sum as f64 / 1e6, bounds.zip(turn_us));
    }
    let mut family = text.family(Kind::Gauge, "shard_core", "CPU core that the shard is pinned to.");
    for (shard, core) in shards.iter().filter_map(|shard| Some((shard, shard.core?))) {
        family.sample(&[("shard", &shard.shard)], core);
    }
    text.family(Kind::Gauge, "build_info", "Version of the running server; always 1.")
        .sample(&[("version", &VERSION)], 1);
}

fn closes(text: &mut Exposition, shards: &[Snapshot]) {
    let help = "Connections closed by the server, by close code; codes without a series of their own count as other.";
    let mut family = text.family(Kind::Counter, "closes", help);
    for shard in shards {
        for (code, count) in shard.counters.closes.by_code() {
            let code = code.map_or("other".to_owned(), |code| code.to_string());
            family.sample(&[("shard", &shard.shard), ("code", &code)], count);
        }
    }
}

fn tls(text: &mut Exposition, shards: &[Snapshot]) {
    let help = "TLS handshakes completed, by whether a session was resumed.";
    per_shard_and(text.family(Kind::Counter, "tls_handshakes", help), shards, "kind", |shard| {
        [("full", shard.tls.full), ("resumed", shard.tls.resumed)]
    });
    let help = "TLS sessions that failed, most of them during the handshake, by reason.";
    per_shard_and(text.family(Kind::Counter, "tls_failures", help), shards, "reason", |shard| {
        TlsFailed::ALL.map(|(reason, name)| (name, shard.tls.failed[reason as usize]))
    });
    for (name, help, read) in TLS_COUNTERS {
        per_shard(text.family(Kind::Counter, name, help), shards, |shard| read(&shard.tls));
    }
}

/// A family without a series is left out: most servers have no backend.
fn backends(text: &mut Exposition, backends: &Backends) {
    if !backends.proxies.is_empty() {
        proxies(text, &backends.proxies);
    }
    let sets = &backends.key_sets;
    if sets.is_empty() {
        return;
    }
    let setting = |set: &KeySetSnapshot| set.name.clone();
    for (name, help, read) in KEY_SET_COUNTERS {
        one_each(text.family(Kind::Counter, name, help), sets, ("setting", setting), read);
    }
    let help = "1 while keys of a fetched token key set (JWKS) are in use, else 0.";
    one_each(text.family(Kind::Gauge, "key_set_present", help), sets, ("setting", setting), |set| {
        u8::from(set.present)
    });
}

fn proxies(text: &mut Exposition, proxies: &[ProxySnapshot]) {
    let proxy = |proxy: &ProxySnapshot| proxy.name.clone();
    for (name, help, read) in PROXY_GAUGES {
        one_each(text.family(Kind::Gauge, name, help), proxies, ("proxy", proxy), read);
    }
    for (name, help, read) in PROXY_COUNTERS {
        one_each(text.family(Kind::Counter, name, help), proxies, ("proxy", proxy), read);
    }
    let mut family = text.family(Kind::Counter, "backend_failures", "Calls to the backend that failed, by reason.");
    for proxy in proxies {
        for (reason, name) in Reason::ALL {
            family.sample(&[("proxy", &proxy.name), ("reason", &name)], proxy.failures[reason as usize]);
        }
    }
    let help = "Duration of calls that were sent to the backend, with all attempts.";
    let mut family = text.family(Kind::Histogram, "backend_call_seconds", help);
    for proxy in proxies {
        let bounds = DURATION_BUCKETS_MS.iter().map(|&ms| ms as f64 / 1e3).chain([f64::INFINITY]);
        let sum = proxy.duration_sum.as_secs_f64();
        family.histogram(&[("proxy", &proxy.name)], sum, bounds.zip(proxy.durations));
    }
}

fn handover_and_reloads(text: &mut Exposition, stats: &ProcessStats) {
    for (name, help, read) in PROCESS_COUNTERS {
        text.family(Kind::Counter, name, help).sample(&[], read(stats));
    }
    for (name, help, read) in PROCESS_GAUGES {
        text.family(Kind::Gauge, name, help).sample(&[], read(stats));
    }
    let help = "Reloads of the configuration on SIGHUP, by result.";
    let mut family = text.family(Kind::Counter, "config_reloads", help);
    for (result, count) in [("applied", &stats.reloads_applied), ("refused", &stats.reloads_refused)] {
        family.sample(&[("result", &result)], count.load(Ordering::Relaxed));
    }
    for (name, help, read) in RELOAD_GAUGES {
        text.family(Kind::Gauge, name, help).sample(&[], read(stats));
    }
}

/// The names that every Prometheus client library uses for its process. Values that the kernel does not report are
/// omitted.
fn process(text: &mut Exposition, started_at: f64) {
    let help = "User and system CPU time of all threads.";
    text.family(Kind::Counter, "cpu_seconds", help).sample(&[], Float(procfs::cpu_seconds()));
    let help = "When the process started, in seconds since 1970.";
    text.family(Kind::Gauge, "start_time_seconds", help).sample(&[], Float(started_at));
    for (name, help, value) in [
        ("resident_memory_bytes", "Resident memory of the process.", procfs::resident_bytes()),
        ("open_fds", "Open file descriptors.", procfs::open_descriptors()),
        ("max_fds", "Limit of open file descriptors.", procfs::descriptors_max()),
    ] {
        if let Some(value) = value {
            text.family(Kind::Gauge, name, help).sample(&[], value);
        }
    }
}

fn per_shard<V: Display>(family: Family<'_>, shards: &[Snapshot], value: impl Fn(&Snapshot) -> V) {
    one_each(family, shards, ("shard", |shard: &Snapshot| shard.shard), value);
}

/// One sample of each shard for each value of a second label.
fn per_shard_and<const N: usize>(
    mut family: Family<'_>,
    shards: &[Snapshot],
    label: &str,
    values: impl Fn(&Snapshot) -> [(&'static str, u64); N],
) {
    for shard in shards {
        for (name, value) in values(shard) {
            family.sample(&[("shard", &shard.shard), (label, &name)], value);
        }
    }
}

/// One sample for each item, with one label.
fn one_each<T, L: Display, V: Display>(
    mut family: Family<'_>,
    items: &[T],
    (label, name): (&str, impl Fn(&T) -> L),
    value: impl Fn(&T) -> V,
) {
    for item in items {
        let labels: Labels<'_> = &[(label, &name(item))];
        family.sample(labels, value(item));
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
