//! `/metrics`: the shards' numbers at the moment of the scrape, as OpenMetrics text or as Prometheus' older text.
//!
//! Nothing is registered and nothing is atomic: a collector writes what the snapshots hold. Each counter is one line of
//! a table. Series carry the shard, or the proxy by its name in the configuration.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::process_stats::{ProcessStats, Shown};
use super::{VERSION, procfs};
use crate::backend::jwks::KeySetSnapshot;
use crate::backend::{DURATION_BUCKETS_MS, ProxySnapshot, Reason};
use crate::engine::stats::{
    Bound, Closed, Counters, DROPPED_POLICIES, Refused, Snapshot, TURN_BUCKETS_US, TlsCounts, TlsFailed,
};

/// The content type of what `encode` makes.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of what `older` makes of it.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

type Read<T> = fn(&T) -> u64;

const COUNTERS: &[(&str, &str, Read<Counters>)] = &[
    ("connections_accepted", "Sockets taken from the listeners", |c| c.accepted),
    ("messages", "Messages received whole, control frames not counted", |c| c.messages_in),
    ("replies", "Messages queued for peers one by one", |c| c.replies),
    ("publications", "Publications stamped by this shard as home", |c| c.publications),
    ("encodings", "Publications written out, once per form in use", |c| c.encodings),
    ("deliveries", "Publications times their subscribers", |c| c.deliveries),
    ("socket_reads", "Reads from client sockets", |c| c.reads),
    ("socket_writes", "Writes to client sockets", |c| c.writes),
    ("socket_writes_short", "Writes that the socket took in part or not at all", |c| c.writes_short),
    ("received_bytes", "Bytes read from client sockets", |c| c.bytes_in),
    ("sent_bytes", "Bytes written to client sockets", |c| c.bytes_out),
    ("epoll_ctl", "epoll_ctl calls", |c| c.epoll_ctls),
    ("mailbox_pushes", "Batches put into other shards' mailboxes", |c| c.mail_pushes),
    ("mailbox_overflows", "Batches that found the mailbox full first", |c| c.mail_overflows),
    ("mailbox_wakes", "Wakes of other shards, one eventfd write each", |c| c.mail_wakes),
    ("publications_repaired", "Publications skipped for a slow shard and sent later", |c| c.publications_repaired),
    ("publications_lost", "Publications skipped for a slow shard and not sent later", |c| c.publications_lost),
    ("recoveries", "Subscriptions that got all they had missed", |c| c.recoveries),
    ("recoveries_failed", "Subscriptions whose missed publications were not there any more", |c| c.recoveries_failed),
    ("tokens_refused", "Tokens that were not believed, expired ones not counted", |c| c.tokens_refused),
    ("backend_questions", "Questions of this shard to backends and for key sets", |c| c.backend_calls),
    ("backend_questions_failed", "Of them, those without a good answer", |c| c.backend_failures),
    ("deflate_connections", "Connections that agreed on compression", |c| c.deflate_agreed),
    ("deflates", "Messages that went through a compressor: a publication once for all", |c| c.deflates),
    ("deflate_input_bytes", "Bytes of such messages before", |c| c.deflate_bytes_in),
    ("deflate_output_bytes", "Bytes of such messages after", |c| c.deflate_bytes_out),
    ("inflates", "Compressed messages of clients", |c| c.inflates),
    ("inflate_output_bytes", "Bytes of such messages, inflated", |c| c.inflate_bytes_out),
    ("subscriptions_cut", "Subscriptions told to come again since they did not read", |c| c.subscriptions_cut),
    ("flushes_cut", "Flushes that ended in a later turn than they began in", |c| c.flushes_cut),
    ("drain_waves", "Waves of closes since the process was told to end", |c| c.drain_waves),
    ("log_lost", "Log records that found the ring to the control thread full", |c| c.log_lost),
];

const GAUGES: &[(&str, &str, Read<Snapshot>)] = &[
    ("connections", "Open WebSockets", |s| s.connections),
    ("draining", "1 while the shard lets nobody new in and closes who is here in waves", |s| s.draining.into()),
    ("subscriptions", "Live subscriptions of this shard's connections", |s| s.subscriptions),
    ("channels", "Channels that this shard is home to", |s| s.channels),
    ("users", "Users with a connection to this shard, anonymous ones not counted", |s| s.users),
    ("history_bytes", "Bytes of the histories that this shard keeps", |s| s.history_bytes),
    ("backlog_bytes", "Bytes that wait for slow peers, shared ones counted for each", |s| s.backlog_bytes),
    ("backlog_kept_bytes", "Bytes kept alive for slow peers, shared ones counted once", |s| s.backlog_kept_bytes),
    ("backlog_connections", "Connections that something waits for", |s| s.backlog_connections),
    ("spill_bytes", "Bytes held in partly received messages", |s| s.spill_bytes),
    ("deflate_contexts", "Connections with compression contexts of their own", |s| s.deflate_contexts),
    ("tls_held_bytes", "Bytes of TLS that wait: records in part, and what peers do not take", |s| s.tls_held_bytes),
    ("loop_lag_microseconds", "How long ready sockets wait for their turn, on the average", |s| s.lag_us),
    ("admission_shut", "1 while nobody new is let in, for the lag or the memory", |s| s.shut.into()),
];

const TLS_COUNTERS: &[(&str, &str, Read<TlsCounts>)] = &[
    ("tls_early_requests", "Connections whose request came as early data (0-RTT)", |t| t.early),
    ("tls_handshakes_put_off", "Hand-shakes that waited for a later turn", |t| t.put_off),
];

const PROXY_COUNTERS: &[(&str, &str, Read<ProxySnapshot>)] = &[
    ("backend_calls", "Calls to the backend that were asked for, whatever became of them", |p| p.calls),
    ("backend_retries", "Tries beyond the first", |p| p.retries),
    ("backend_circuit_openings", "Times that the circuit opened", |p| p.opened),
];

const PROXY_GAUGES: &[(&str, &str, Read<ProxySnapshot>)] = &[
    ("backend_circuit_open", "1 while the circuit is open and the backend is not asked", |p| p.open.into()),
    ("backend_in_flight", "Calls that wait or are on their way", |p| p.in_flight),
];

const KEY_SET_COUNTERS: &[(&str, &str, Read<KeySetSnapshot>)] = &[
    ("key_set_fetches", "Fetches of the key set (JWKS)", |k| k.fetches),
    ("key_set_fetches_failed", "Of them, those that brought no key set", |k| k.failures),
];

/// The numbers of what is asked beyond the process.
#[derive(Default, Debug)]
pub struct Backends {
    pub proxies: Vec<ProxySnapshot>,
    pub key_sets: Vec<KeySetSnapshot>,
}

/// The OpenMetrics text for these snapshots, with what the kernel says about the process.
pub fn encode(snapshots: Vec<Snapshot>, backends: Backends, life: Arc<ProcessStats>, started_at: f64) -> String {
    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("corecast");
    ours.register_collector(Box::new(Shards(snapshots)));
    ours.register_collector(Box::new(backends));
    ours.register_collector(Box::new(Shown(life)));
    registry.sub_registry_with_prefix("process").register_collector(Box::new(Process { started_at }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes every write");
    out
}

/// The same in the older format, for readers that do not ask for OpenMetrics: there a counter's `HELP` and `TYPE` name
/// the sample, `_total` included.
pub fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let (Some((name, words)), Some(kind)) = (help.take(), line.rsplit(' ').next()) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            out.push_str(&format!("# HELP {name}{suffix} {words}\n# TYPE {name}{suffix} {kind}\n"));
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[derive(Debug)]
struct Shards(Vec<Snapshot>);

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for (name, help, read) in GAUGES {
            let mut family = open(&mut encoder, name, help, MetricType::Gauge)?;
            for shard in &self.0 {
                family.encode_family(&[("shard", shard.shard)])?.encode_gauge(&read(shard))?;
            }
        }
        for (name, help, read) in COUNTERS {
            let mut family = open(&mut encoder, name, help, MetricType::Counter)?;
            for shard in &self.0 {
                counter(family.encode_family(&[("shard", shard.shard)])?, read(&shard.counters))?;
            }
        }
        let help = "Publications that went from histories because all together took too much";
        let mut family = open(&mut encoder, "history_evicted", help, MetricType::Counter)?;
        for shard in &self.0 {
            counter(family.encode_family(&[("shard", shard.shard)])?, shard.history_evicted)?;
        }
        let mut family = open(&mut encoder, "epoll_waits", "epoll_wait calls", MetricType::Counter)?;
        for shard in &self.0 {
            let blocking = shard.counters.epoll_waits_blocking;
            let polling = shard.counters.epoll_waits.saturating_sub(blocking);
            labelled(&mut family, shard, "mode", [("blocking", blocking), ("polling", polling)])?;
        }
        let help = "Connections refused before they became a WebSocket";
        let mut family = open(&mut encoder, "connections_refused", help, MetricType::Counter)?;
        for shard in &self.0 {
            let reasons = Refused::ALL.map(|(reason, name)| (name, shard.counters.refused[reason as usize]));
            labelled(&mut family, shard, "reason", reasons)?;
        }
        let help = "How often a limit was reached, by the setting's name";
        let mut family = open(&mut encoder, "limit_reached", help, MetricType::Counter)?;
        for shard in &self.0 {
            let limits = Bound::ALL.map(|(bound, name)| (name, shard.counters.reached[bound as usize]));
            labelled(&mut family, shard, "limit", limits)?;
        }
        let mut family = open(&mut encoder, "connections_closed", "WebSockets that ended", MetricType::Counter)?;
        for shard in &self.0 {
            let reasons = Closed::ALL.map(|(reason, name)| (name, shard.counters.closed[reason as usize]));
            labelled(&mut family, shard, "reason", reasons)?;
        }
        self.encode_tls(&mut encoder)?;
        let help = "Publications dropped for subscribers that did not read, by the policy of their namespace";
        let mut family = open(&mut encoder, "publications_dropped", help, MetricType::Counter)?;
        for shard in &self.0 {
            let of = |policy: usize| (DROPPED_POLICIES[policy], shard.counters.dropped[policy]);
            labelled(&mut family, shard, "policy", [of(0), of(1)])?;
        }
        self.encode_turns(&mut encoder)?;
        let mut family = open(&mut encoder, "shard_core", "The core that the shard is pinned to", MetricType::Gauge)?;
        for (shard, core) in self.0.iter().filter_map(|shard| Some((shard, shard.core?))) {
            family.encode_family(&[("shard", shard.shard)])?.encode_gauge(&(core as u64))?;
        }
        let mut family = open(&mut encoder, "build_info", "The version that runs, always 1", MetricType::Gauge)?;
        family.encode_family(&[("version", VERSION)])?.encode_gauge(&1u64)
    }
}

impl Shards {
    fn encode_tls(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut family =
            open(encoder, "tls_handshakes", "Hand-shakes of TLS that were completed", MetricType::Counter)?;
        for shard in &self.0 {
            let kinds = [("full", shard.tls.full), ("resumed", shard.tls.resumed)];
            labelled(&mut family, shard, "kind", kinds)?;
        }
        let help = "TLS sessions that failed, most of them in their hand-shake";
        let mut family = open(encoder, "tls_failures", help, MetricType::Counter)?;
        for shard in &self.0 {
            let reasons = TlsFailed::ALL.map(|(reason, name)| (name, shard.tls.failed[reason as usize]));
            labelled(&mut family, shard, "reason", reasons)?;
        }
        for (name, help, read) in TLS_COUNTERS {
            let mut family = open(encoder, name, help, MetricType::Counter)?;
            for shard in &self.0 {
                counter(family.encode_family(&[("shard", shard.shard)])?, read(&shard.tls))?;
            }
        }
        Ok(())
    }

    fn encode_turns(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Loop turns by how long they worked, waiting not counted";
        let mut family = open(encoder, "loop_turn_seconds", help, MetricType::Histogram)?;
        let bounds = TURN_BUCKETS_US.iter().map(|&us| f64::from(us) / 1e6).chain([f64::INFINITY]);
        for shard in &self.0 {
            let counts = shard.counters.turn_us;
            let buckets: Vec<(f64, u64)> = bounds.clone().zip(counts).collect();
            let sum = shard.counters.turn_us_sum as f64 / 1e6;
            let labels = [("shard", shard.shard)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)?;
        }
        Ok(())
    }
}

impl Collector for Backends {
    /// A family without a series is left out: most servers have no backend.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        if !self.proxies.is_empty() {
            self.encode_proxies(&mut encoder)?;
        }
        if self.key_sets.is_empty() {
            return Ok(());
        }
        for (name, help, read) in KEY_SET_COUNTERS {
            let mut family = open(&mut encoder, name, help, MetricType::Counter)?;
            for set in &self.key_sets {
                counter(family.encode_family(&[("setting", set.name.as_str())])?, read(set))?;
            }
        }
        let mut family = open(&mut encoder, "key_set_present", "1 once the key set is there", MetricType::Gauge)?;
        for set in &self.key_sets {
            family.encode_family(&[("setting", set.name.as_str())])?.encode_gauge(&u64::from(set.present))?;
        }
        Ok(())
    }
}

impl Backends {
    fn encode_proxies(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        for (name, help, read) in PROXY_GAUGES {
            let mut family = open(encoder, name, help, MetricType::Gauge)?;
            for proxy in &self.proxies {
                family.encode_family(&[("proxy", proxy.name.as_str())])?.encode_gauge(&read(proxy))?;
            }
        }
        for (name, help, read) in PROXY_COUNTERS {
            let mut family = open(encoder, name, help, MetricType::Counter)?;
            for proxy in &self.proxies {
                counter(family.encode_family(&[("proxy", proxy.name.as_str())])?, read(proxy))?;
            }
        }
        let mut family = open(encoder, "backend_failures", "Calls without a good answer", MetricType::Counter)?;
        for proxy in &self.proxies {
            for (reason, name) in Reason::ALL {
                let labels = [("proxy", proxy.name.as_str()), ("reason", name)];
                counter(family.encode_family(&labels)?, proxy.failures[reason as usize])?;
            }
        }
        let help = "Calls that went to the backend, by how long they were under way, every try counted";
        let mut family = open(encoder, "backend_call_seconds", help, MetricType::Histogram)?;
        let bounds = DURATION_BUCKETS_MS.iter().map(|&ms| ms as f64 / 1e3).chain([f64::INFINITY]);
        for proxy in &self.proxies {
            let buckets: Vec<(f64, u64)> = bounds.clone().zip(proxy.durations).collect();
            let (sum, count) = (proxy.duration_sum.as_secs_f64(), proxy.durations.iter().sum());
            let labels = [("proxy", proxy.name.as_str())];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn open<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, Error> {
    encoder.encode_descriptor(name, help, None, kind)
}

fn counter(mut metric: MetricEncoder<'_>, value: u64) -> Result<(), Error> {
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn labelled<const N: usize>(
    family: &mut MetricEncoder<'_>,
    shard: &Snapshot,
    label: &str,
    values: [(&str, u64); N],
) -> Result<(), Error> {
    for (name, value) in values {
        let labels = [("shard", shard.shard.to_string()), (label, name.to_owned())];
        counter(family.encode_family(&labels)?, value)?;
    }
    Ok(())
}

/// The names that every Prometheus client uses for its process.
#[derive(Debug)]
struct Process {
    started_at: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        open(&mut encoder, "cpu_seconds", "User and system time of all threads", MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&procfs::cpu_seconds(), None)?;
        open(&mut encoder, "start_time_seconds", "Start, in seconds since 1970", MetricType::Gauge)?
            .encode_gauge(&self.started_at)?;
        for (name, help, value) in [
            ("resident_memory_bytes", "Resident memory", procfs::resident_bytes()),
            ("open_fds", "Open file descriptors", procfs::open_descriptors()),
            ("max_fds", "File descriptors that may be open", procfs::descriptors_max()),
        ] {
            if let Some(value) = value {
                open(&mut encoder, name, help, MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn snapshots() -> Vec<Snapshot> {
        let mut shards = vec![Snapshot::default(), Snapshot { shard: 1, core: Some(3), ..Snapshot::default() }];
        for shard in &mut shards {
            shard.connections = 7 + u64::from(shard.shard);
            shard.counters.writes = 5;
            (shard.users, shard.history_bytes, shard.history_evicted) = (3, 4096, 2);
            (shard.counters.recoveries, shard.counters.recoveries_failed) = (11, 1);
            (shard.counters.backend_calls, shard.counters.backend_failures) = (13, 2);
            shard.counters.tokens_refused = 6;
            shard.counters.dropped = [8, 9];
            shard.counters.epoll_waits = 9;
            shard.counters.epoll_waits_blocking = 2;
            shard.counters.closed[Closed::Slow as usize] = 4;
            for us in [1, 10, 11, 300_000] {
                shard.counters.turn(us);
            }
        }
        shards
    }

    fn backends() -> Backends {
        let mut proxy = ProxySnapshot { name: "chat \"x\"".into(), calls: 9, ..ProxySnapshot::default() };
        (proxy.retries, proxy.opened, proxy.open, proxy.in_flight) = (3, 2, true, 4);
        proxy.failures[Reason::Late as usize] = 5;
        for ms in [1, 2, 7000] {
            proxy.took(std::time::Duration::from_millis(ms));
        }
        let other = ProxySnapshot { name: "rpc.proxy".into(), ..ProxySnapshot::default() };
        let name = "client.token.jwks_public_endpoint".into();
        let key_sets = vec![KeySetSnapshot { name, fetches: 8, failures: 7, present: true }];
        Backends { proxies: vec![proxy, other], key_sets }
    }

    /// Reads the text as strictly as its grammar is: every sample stands under its family's HELP and TYPE, its name
    /// carries the suffix of the kind, no family is torn or comes twice, no series comes twice.
    fn check(text: &str, openmetrics: bool) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut family = (String::new(), String::new());
        let mut lines = text.strip_suffix('\n').expect("the last line ends").lines().peekable();
        while let Some(line) = lines.next() {
            if line == "# EOF" {
                assert!(openmetrics && lines.peek().is_none());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').expect("HELP has words");
                assert!(!words.is_empty() && families.insert(name.to_owned()), "{name} comes twice");
                let kind =
                    lines.next().and_then(|line| line.strip_prefix("# TYPE ")).and_then(|line| line.strip_prefix(name));
                let kind = kind.expect("TYPE follows HELP").trim();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                family = (name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                let name = series.split('{').next().unwrap();
                let rest = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{name} is not of {}", family.0));
                let suffixes: &[&str] = match family.1.as_str() {
                    "counter" if openmetrics => &["_total"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&rest), "{name}");
                assert!(family.1 != "counter" || name.ends_with("_total"), "{name}");
                let value: f64 = value.parse().expect("a number");
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
            }
        }
        samples
    }

    #[test]
    fn both_formats_are_well_formed_and_say_the_same() {
        let text = encode(snapshots(), backends(), Arc::default(), 1.5);
        assert!(text.ends_with("# EOF\n"));
        let samples = check(&text, true);
        assert_eq!(samples, check(&older(&text), false));
        for (series, value) in [
            ("corecast_connections{shard=\"1\"}", 8.0),
            ("corecast_socket_writes_total{shard=\"0\"}", 5.0),
            ("corecast_epoll_waits_total{shard=\"0\",mode=\"blocking\"}", 2.0),
            ("corecast_epoll_waits_total{shard=\"0\",mode=\"polling\"}", 7.0),
            ("corecast_connections_closed_total{shard=\"1\",reason=\"slow\"}", 4.0),
            ("corecast_publications_dropped_total{shard=\"1\",policy=\"keep_latest\"}", 9.0),
            ("corecast_shard_core{shard=\"1\"}", 3.0),
            ("corecast_users{shard=\"1\"}", 3.0),
            ("corecast_history_bytes{shard=\"1\"}", 4096.0),
            ("corecast_history_evicted_total{shard=\"1\"}", 2.0),
            ("corecast_recoveries_total{shard=\"0\"}", 11.0),
            ("corecast_recoveries_failed_total{shard=\"0\"}", 1.0),
            ("corecast_tokens_refused_total{shard=\"0\"}", 6.0),
            ("corecast_backend_questions_total{shard=\"0\"}", 13.0),
            ("corecast_backend_questions_failed_total{shard=\"0\"}", 2.0),
            ("corecast_backend_calls_total{proxy=\"rpc.proxy\"}", 0.0),
            ("corecast_backend_calls_total{proxy=\"chat \\\"x\\\"\"}", 9.0),
            ("corecast_backend_retries_total{proxy=\"chat \\\"x\\\"\"}", 3.0),
            ("corecast_backend_circuit_openings_total{proxy=\"chat \\\"x\\\"\"}", 2.0),
            ("corecast_backend_circuit_open{proxy=\"chat \\\"x\\\"\"}", 1.0),
            ("corecast_backend_in_flight{proxy=\"chat \\\"x\\\"\"}", 4.0),
            ("corecast_backend_failures_total{proxy=\"chat \\\"x\\\"\",reason=\"timeout\"}", 5.0),
            ("corecast_backend_call_seconds_bucket{le=\"0.001\",proxy=\"chat \\\"x\\\"\"}", 1.0),
            ("corecast_backend_call_seconds_count{proxy=\"chat \\\"x\\\"\"}", 3.0),
            ("corecast_key_set_fetches_total{setting=\"client.token.jwks_public_endpoint\"}", 8.0),
            ("corecast_key_set_fetches_failed_total{setting=\"client.token.jwks_public_endpoint\"}", 7.0),
            ("corecast_key_set_present{setting=\"client.token.jwks_public_endpoint\"}", 1.0),
            ("process_start_time_seconds", 1.5),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
        }
        assert!(samples.keys().any(|series| series.starts_with("corecast_build_info{version=")));
        assert!(samples["process_resident_memory_bytes"] > 0.0 && samples["process_open_fds"] > 0.0);
    }

    #[test]
    fn the_histogram_is_cumulative_and_ends_in_its_count() {
        let samples = check(&encode(snapshots(), backends(), Arc::default(), 0.0), true);
        let bucket = |le: &str| samples[&format!("corecast_loop_turn_seconds_bucket{{le=\"{le}\",shard=\"0\"}}")];
        assert_eq!(bucket("0.00001"), 2.0);
        assert_eq!(bucket("0.000025"), 3.0);
        assert_eq!(bucket("0.25"), 3.0);
        assert_eq!(bucket("+Inf"), 4.0);
        assert_eq!(samples["corecast_loop_turn_seconds_count{shard=\"0\"}"], 4.0);
        assert!((samples["corecast_loop_turn_seconds_sum{shard=\"0\"}"] - 0.300_022).abs() < 1e-9);
    }

    #[test]
    fn without_shards_that_answer_the_text_is_still_well_formed() {
        check(&encode(Vec::new(), Backends::default(), Arc::default(), 0.0), true);
    }
}
