//! Writes the shards' log records, so that no shard ever waits for a log.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::engine::log_ring::LogRecord;
use crate::ids::ShardId;

const WRITE_INTERVAL: Duration = Duration::from_millis(500);

/// Writes records as they come and never returns.
pub(crate) async fn run(rings: Vec<Receiver<(ShardId, LogRecord)>>) {
    loop {
        write_waiting(&rings);
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
}

pub(crate) fn write_waiting(rings: &[Receiver<(ShardId, LogRecord)>]) {
    for (shard, record) in rings.iter().flat_map(Receiver::try_iter) {
        write(shard, record);
    }
}

/// With the word before it; empty if the address is not known.
fn with_address(before: &str, address: Option<IpAddr>) -> String {
    address.map_or(String::new(), |address| format!("{before} {address}"))
}

fn write(shard: ShardId, record: LogRecord) {
    match record {
        LogRecord::Started { core: Some(core), .. } => log::debug!("shard {shard}: pinned to core {core}"),
        LogRecord::Started { core: None, wanted: Some(core) } => {
            log::warn!("shard {shard}: the kernel rejected pinning it to core {core}; it runs on any core");
        }
        LogRecord::Started { core: None, wanted: None } => log::debug!("shard {shard}: runs on any core"),
        LogRecord::NoHugePages { errno } => {
            let error = io::Error::from_raw_os_error(errno);
            log::warn!("shard {shard}: no huge pages (machine.huge_pages): {error}; its tables use small pages");
        }
        LogRecord::AcceptFailed { errno } => {
            let error = io::Error::from_raw_os_error(errno);
            log::warn!(
                "shard {shard}: accept failed: {error}; existing connections are unaffected, retrying in 100 ms"
            );
        }
        LogRecord::WatchFailed { errno } => {
            let error = io::Error::from_raw_os_error(errno);
            log::warn!(
                "shard {shard}: epoll_ctl failed for a new connection, which was closed: {error}; existing connections are \
                 unaffected, accepting again in 100 ms. If no space is left, raise the sysctl fs.epoll.max_user_watches"
            );
        }
        LogRecord::SlowClosed { slot, backlog_bytes, address } => {
            let from = with_address(" from", address);
            log::info!(
                "shard {shard}: closed connection {slot}{from} as a slow consumer: {backlog_bytes} bytes waited for it"
            );
        }
        LogRecord::Reached { bound, count, address } => {
            let (limit, by) = (bound.name(), with_address(", most recently by", address));
            log::warn!("shard {shard}: limit {limit} reached {count} times since the last such line{by}");
        }
        LogRecord::TlsFailed { count, why } => log::info!(
            "shard {shard}: {count} TLS sessions failed and were closed since the last such line, most recently: {}",
            why.name()
        ),
        LogRecord::Lagging { lag_us, shedding: true } => log::warn!(
            "shard {shard}: event-loop lag ({} ms) exceeds limits.lag_max: rejecting new connections until it drops below \
             half of that",
            lag_us / 1000
        ),
        LogRecord::Lagging { lag_us, shedding: false } => {
            log::warn!(
                "shard {shard}: event-loop lag dropped to {} ms: accepting new connections again",
                lag_us / 1000
            );
        }
        LogRecord::Dropped { oldest, all_but_latest, subscriptions_cut } => log::info!(
            "shard {shard}: dropped publications for clients that do not read: {oldest} as the oldest, {all_but_latest} for \
             a newer one; {subscriptions_cut} subscriptions must recover"
        ),
        LogRecord::Crowded { kept_bytes, connections } => log::warn!(
            "shard {shard}: backlogs of {connections} slow connections hold {kept_bytes} bytes, more than \
             engine.backlog_bytes_max: closing those with the largest backlogs"
        ),
        LogRecord::Gap { count, subscribers } => log::warn!(
            "shard {shard}: {count} publications of a channel were lost for {subscribers} subscribers, since the shard fell \
             behind (engine.mail_bytes_max); subscriptions with a position must recover"
        ),
    }
}
