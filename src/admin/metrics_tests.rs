//! The text of `/metrics` in both formats, read by a strict reader.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::broker::durable::LogStats;
use crate::broker::stats::BrokerStats;
use crate::cluster::stats::{Counts, Dropped, SurveyEnd};
use crate::cluster::view::{ClusterView, NodeInfo, NodeState, NodeView};

fn snapshots() -> Vec<Snapshot> {
    let mut shards = vec![Snapshot::default(), Snapshot { shard: 1, core: Some(3), ..Snapshot::default() }];
    for shard in &mut shards {
        shard.connections = 7 + u64::from(shard.shard);
        shard.counters.writes = 5;
        (shard.users, shard.history_bytes, shard.history_evicted) = (3, 4096, 2);
        (shard.counters.recoveries, shard.counters.recoveries_failed) = (11, 1);
        (shard.counters.backend_calls, shard.counters.backend_failures) = (13, 2);
        (shard.counters.tokens_refused, shard.lag_us) = (6, 12_500);
        shard.counters.dropped = [8, 9];
        shard.counters.epoll_waits = 9;
        shard.counters.epoll_waits_blocking = 2;
        shard.counters.closed[Closed::Slow as usize] = 4;
        shard.counters.rejections[Rejection::Permission as usize] = 3;
        [3500, 3500, 4999].into_iter().for_each(|code| shard.counters.closes.count(code));
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
        proxy.record_duration(std::time::Duration::from_millis(ms));
    }
    let other = ProxySnapshot { name: "rpc.proxy".into(), ..ProxySnapshot::default() };
    let name = "client.token.jwks_public_endpoint".into();
    let key_sets = vec![KeySetSnapshot { name, fetches: 8, failures: 7, present: true }];
    Backends { proxies: vec![proxy, other], key_sets }
}

fn cluster() -> ClusterView {
    let node = |state| NodeView { info: NodeInfo::default(), state, heard_ms_ago: 5_000 };
    let others = [NodeState::Running, NodeState::Stalled, NodeState::Lost, NodeState::Lost].map(node).into();
    let mut counts = Counts { received: 7, sent: 8, surveys_answered: 9, ..Counts::default() };
    counts.dropped[Dropped::Unsupported as usize] = 3;
    counts.surveys[SurveyEnd::Partial as usize] = 2;
    ClusterView { metrics: None, others, counts, silent_ms: 1_500 }
}

fn text(format: Format) -> String {
    let (shards, backends, process) = (&snapshots(), &backends(), &ProcessStats::default());
    let unauthorized = &Unauthorized::default();
    let cluster = Some(&cluster());
    let (brokers, durable_log) = (&BrokerStats::default(), &LogStats::default());
    encode(format, &Report { shards, backends, process, unauthorized, cluster, brokers, durable_log, started_at: 1.5 })
}

/// Checks the grammar strictly: every sample follows the HELP and TYPE of its family, its name has the suffix of the kind,
/// no family is split or repeated, no series is repeated. Returns the samples by series.
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
            assert!(!words.is_empty() && families.insert(name.to_owned()), "{name} is repeated");
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
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is repeated");
        }
    }
    samples
}

#[test]
fn formats_are_well_formed_and_have_equal_samples() {
    let text = text(Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"));
    let samples = check(&text, true);
    let other = check(&super::tests::text(Format::Prometheus), false);
    assert!(other.keys().eq(samples.keys()));
    let is_volatile = |series: &str| series.starts_with("process_");
    assert!(samples.iter().all(|(series, value)| is_volatile(series) || other[series] == *value));
    for (series, value) in [
        ("corecast_connections{shard=\"1\"}", 8.0),
        ("corecast_socket_writes_total{shard=\"0\"}", 5.0),
        ("corecast_epoll_waits_total{shard=\"0\",mode=\"blocking\"}", 2.0),
        ("corecast_epoll_waits_total{shard=\"0\",mode=\"polling\"}", 7.0),
        ("corecast_connections_closed_total{shard=\"1\",reason=\"slow\"}", 4.0),
        ("corecast_refusals_total{shard=\"1\",reason=\"permission_denied\"}", 3.0),
        ("corecast_closes_total{shard=\"0\",code=\"3500\"}", 2.0),
        ("corecast_closes_total{shard=\"0\",code=\"other\"}", 1.0),
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
        ("corecast_cluster_nodes{state=\"running\"}", 2.0),
        ("corecast_cluster_nodes{state=\"stalled\"}", 1.0),
        ("corecast_cluster_nodes{state=\"lost\"}", 2.0),
        ("corecast_cluster_silence_seconds", 1.5),
        ("corecast_cluster_messages_received_total", 7.0),
        ("corecast_cluster_messages_sent_total", 8.0),
        ("corecast_cluster_messages_dropped_total{reason=\"unsupported\"}", 3.0),
        ("corecast_cluster_surveys_total{result=\"partial\"}", 2.0),
        ("corecast_cluster_surveys_answered_total", 9.0),
        ("process_start_time_seconds", 1.5),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
    }
    assert!(samples.keys().any(|series| series.starts_with("corecast_build_info{version=")));
    assert!(samples["process_resident_memory_bytes"] > 0.0 && samples["process_open_fds"] > 0.0);
}

/// The rules of `promtool check metrics`, and that labels hold names instead of prose.
#[test]
fn names_and_labels_follow_the_conventions_of_prometheus() {
    let text = text(Format::Prometheus);
    // Base units are seconds and bytes; a deprecated name may keep its own for one release.
    let units =
        ["milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "bits"];
    let short = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];
    let kinds = ["counter", "gauge", "histogram", "summary"];
    let mut deprecated = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(help.ends_with('.') && help.len() <= 120, "{name}: {help}");
            if help.starts_with("Deprecated, use corecast_") {
                deprecated.insert(name.to_owned());
            }
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(["_sum", "_count", "_bucket"].iter().all(|end| !name.ends_with(end)), "{name}");
            let parts: Vec<&str> = name.split('_').collect();
            assert!(kinds.iter().chain(&short).all(|word| !parts.contains(word)), "{name}");
            assert!(deprecated.contains(name) || units.iter().all(|unit| !parts.contains(unit)), "{name}");
        } else if let Some((_, labels)) = line.split_once('{') {
            let labels = labels.rsplit_once('}').expect("it ends").0;
            // Names of backends come from the configuration.
            let fixed =
                labels.split(',').filter(|label| !label.starts_with("proxy=") && !label.starts_with("version="));
            for (label, value) in fixed.map(|label| label.split_once('=').expect("a value")) {
                let word = value.trim_matches('"');
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+".contains(&byte);
                assert!(!word.is_empty() && word.bytes().all(fits), "{label}={value}");
            }
        }
    }
    assert_eq!(deprecated, BTreeSet::from(["corecast_loop_lag_microseconds".to_owned()]));
}

#[test]
fn lag_is_in_seconds_and_for_one_release_in_microseconds_too() {
    let samples = check(&text(Format::Prometheus), false);
    let of = |name: &str| samples[&format!("corecast_{name}{{shard=\"1\"}}")];
    assert!((of("loop_lag_seconds") - 0.0125).abs() < 1e-12);
    assert_eq!(of("loop_lag_microseconds"), 12_500.0);
}

#[test]
fn histogram_is_cumulative_and_ends_with_its_count() {
    let samples = check(&text(Format::OpenMetrics), true);
    let bucket = |le: &str| samples[&format!("corecast_loop_turn_seconds_bucket{{le=\"{le}\",shard=\"0\"}}")];
    assert_eq!(bucket("0.00001"), 2.0);
    assert_eq!(bucket("0.000025"), 3.0);
    assert_eq!(bucket("0.25"), 3.0);
    assert_eq!(bucket("+Inf"), 4.0);
    assert_eq!(samples["corecast_loop_turn_seconds_count{shard=\"0\"}"], 4.0);
    assert!((samples["corecast_loop_turn_seconds_sum{shard=\"0\"}"] - 0.300_022).abs() < 1e-9);
}

#[test]
fn text_without_shards_is_well_formed() {
    let report = Report {
        shards: &[],
        backends: &Backends::default(),
        process: &ProcessStats::default(),
        unauthorized: &Unauthorized::default(),
        cluster: None,
        brokers: &BrokerStats::default(),
        durable_log: &LogStats::default(),
        started_at: 0.0,
    };
    check(&encode(Format::OpenMetrics, &report), true);
}
