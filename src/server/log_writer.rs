//! Writes the shards' log records, so that no shard ever waits for a log.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::engine::log_ring::{LogRecord, RestartCause};
use crate::engine::stats::Bound;
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

/// What the server does when a limit is reached.
fn consequence(bound: Bound) -> &'static str {
    match bound {
        Bound::ShardConnections | Bound::Connections | Bound::ConnectionRate => "new connections are answered with 503",
        Bound::PendingHeads => "incomplete requests that keep more than an equal part are answered with 503",
        Bound::AddressConnections | Bound::AddressHandshakes => "new connections are answered with 429",
        Bound::AddressTable => "new addresses are admitted without being counted",
        Bound::UpgradeTimeout => "requests that are not complete are answered with 408",
        Bound::ProxyHeader => "such connections are closed",
        Bound::UserConnections => "the user's next connection is closed with 3504",
        Bound::Message => "such messages close their connection with 1009",
        Bound::Channels => "subscribes get error 106, a connect is closed with 3505",
        Bound::TagsFilters => "subscribes with such filters get error 106",
        Bound::CommandRate => "such connections are closed with 3013, unless client.rate_limit_dry_run is set",
        Bound::ByteRate => "such connections are read more slowly, unless client.rate_limit_dry_run is set",
        Bound::Backlog | Bound::Backlogs => "slow connections are closed with 3008",
    }
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
            let what = consequence(bound);
            log::warn!("shard {shard}: limit {limit} reached {count} times since the last such line{by}: {what}");
        }
        LogRecord::Refused { what, suppressed, address } => {
            let from = with_address("; address", address);
            let others = match suppressed {
                0 => String::new(),
                n => format!(" ({n} similar lines suppressed)"),
            };
            log::info!("shard {shard}: {what}{from}{others}");
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
        LogRecord::Restarted { cause, subscribers } => write_restart(shard, cause, subscribers),
    }
}

fn write_restart(shard: ShardId, cause: RestartCause, subscribers: u32) {
    match cause {
        RestartCause::NotKept(count) => log::warn!(
            "shard {shard}: {count} publications of a channel were missed and are no longer in the broker's history; \
             {subscribers} subscribers continue after them, those with a position get recovered: false"
        ),
        RestartCause::TooLarge(count) => log::info!(
            "shard {shard}: {count} publications of a channel were missed and take more bytes than are sent to a client \
             at once; of {subscribers} subscribers, those with a position recover them from the history"
        ),
        RestartCause::NewEpoch => log::warn!(
            "shard {shard}: the broker has lost the history of a channel, and it is unknown how many publications are \
             lost; {subscribers} subscribers continue in the new epoch, those with a position get recovered: false"
        ),
    }
}
