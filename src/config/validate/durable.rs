//! The durable log, and the namespaces that use it.

use std::collections::HashSet;

use super::checks::Checks;
use crate::config::parse::scalar::show_duration;
use crate::config::schema::config::Config;
use crate::config::schema::namespace::{Durability, Namespace};

const DIRS_MAX: usize = 16;
/// Bytes of a file of the log.
const SEGMENT_MIN: usize = 1 << 20;
const SEGMENT_MAX: usize = 1 << 30;

pub(crate) fn durable(config: &Config, checks: &mut Checks) {
    let durable = &config.durable;
    if durable.enabled {
        directories(&durable.data_dirs, checks);
    }
    let is_copied = durable.enabled && config.machine.own_file_tables;
    let what = "durable.enabled is set too: the shards would keep the files of the log open after their end";
    checks.require(!is_copied, "machine.own_file_tables", what, "remove one of the two");
    let (segment, message) = (durable.segment_size, config.websocket.message_size_limit);
    let what = format!("{segment} is not within 1 MiB and 1 GiB");
    let fits = (SEGMENT_MIN..=SEGMENT_MAX).contains(&segment);
    checks.require(fits, "durable.segment_size", what, "write a size such as \"64MiB\"");
    let (sync, checkpoint) = (durable.sync_interval, durable.checkpoint_interval);
    let what = format!("{} is not within 10ms and 1h", show_duration(sync));
    let fits = (10..=3_600_000).contains(&sync.as_millis());
    let fix = "write a time such as \"1s\"; the durability strict syncs every publication";
    checks.require(fits, "durable.sync_interval", what, fix);
    let what = format!("{} is not within 1s and 24h", show_duration(checkpoint));
    let fits = (1..=86_400).contains(&checkpoint.as_secs());
    checks.require(fits, "durable.checkpoint_interval", what, "write a time such as \"5m\"");
    let (all, least) = (durable.bytes_max, segment.saturating_mul(4));
    let what = format!("{all} holds less than four files of durable.segment_size, {segment} bytes");
    checks.require(all == 0 || all >= least, "durable.bytes_max", what, "write a larger size, or 0 for no limit");
    let queue = durable.queue_bytes_max;
    let what = format!("{queue} holds no message of websocket.message_size_limit, {message} bytes");
    let fits = queue >= message.max(64 * 1024);
    checks.require(fits, "durable.queue_bytes_max", what, "write a larger size, such as \"64MiB\"");
    for (section, namespace) in config.channel.sections() {
        check_namespace(config, &section, namespace, checks);
    }
}

fn directories(dirs: &[String], checks: &mut Checks) {
    let what = format!("it names {} directories, not 1 to {DIRS_MAX}", dirs.len());
    let fix = "name one directory on each disk, such as [\"/var/lib/corecast\"]";
    checks.require((1..=DIRS_MAX).contains(&dirs.len()), "durable.data_dirs", what, fix);
    let mut seen = HashSet::new();
    let is_twice = dirs.iter().any(|dir| !seen.insert(dir.trim_end_matches('/')));
    checks.require(!is_twice, "durable.data_dirs", "it names a directory twice", "name each directory once");
    let is_empty = dirs.iter().any(String::is_empty);
    checks.require(!is_empty, "durable.data_dirs", "it names an empty path", fix);
}

fn check_namespace(config: &Config, section: &str, one: &Namespace, checks: &mut Checks) {
    let of =
        if one.name.is_empty() { "channels without a namespace" } else { &format!("the namespace \"{}\"", one.name) };
    let at = |key: &str| format!("{section}.{key}");
    let is_durable = one.durability != Durability::Memory;
    let what = format!("{of} cannot have it: durable.enabled is false");
    let fix = "set durable.enabled = true and durable.data_dirs, or remove it";
    checks.require(!is_durable || config.durable.enabled, &at("durability"), what, fix);
    let what = format!("{of} cannot have it: an outside broker keeps the publications");
    let fix = "remove it: what the history survives is up to the broker";
    checks.require(!is_durable || config.brokers.publications.is_none(), &at("durability"), what, fix);
    let what = format!("{of} cannot have it: it keeps no history");
    let fix = "set history_size and history_ttl, or remove it";
    checks.require(!is_durable || one.has_history(), &at("durability"), what, fix);
    for (key, is_set) in
        [("history_index_user", one.history_index_user), ("history_index_tag", !one.history_index_tag.is_empty())]
    {
        let what = format!("{of} cannot have it: its durability is memory, which has no index");
        checks.require(is_durable || !is_set, &at(key), what, "set durability = \"process\" or \"strict\"");
    }
    let what = format!("{of} cannot have it: the namespace has no index by user");
    let is_found = one.history_index_user || !one.allow_history_query_for_client;
    checks.require(
        is_found,
        &at("allow_history_query_for_client"),
        what,
        "set history_index_user = true, or remove it",
    );
}
