//! Shards' log records, written here so that no shard ever waits for a log.

use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::engine::log_ring::LogRecord;
use crate::ids::ShardId;

const WRITE_INTERVAL: Duration = Duration::from_millis(500);

/// Writes what comes, for ever.
pub async fn write(journals: Vec<Receiver<(ShardId, LogRecord)>>) {
    loop {
        write_waiting(&journals);
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
}

pub fn write_waiting(journals: &[Receiver<(ShardId, LogRecord)>]) {
    for (shard, note) in journals.iter().flat_map(Receiver::try_iter) {
        write_one(shard, note);
    }
}

/// Who it was, where that is known.
fn from(address: Option<IpAddr>) -> String {
    address.map_or(String::new(), |address| format!(" from {address}"))
}

fn write_one(shard: ShardId, note: LogRecord) {
    match note {
        LogRecord::Started { core: Some(core), .. } => log::debug!("shard {shard}: runs on core {core}"),
        LogRecord::Started { core: None, wanted: Some(core) } => {
            log::warn!("shard {shard}: the kernel did not let it on core {core}; it runs wherever there is room");
        }
        LogRecord::Started { core: None, wanted: None } => log::debug!("shard {shard}: runs wherever there is room"),
        LogRecord::NoHugePages { errno } => {
            let error = std::io::Error::from_raw_os_error(errno);
            log::warn!("shard {shard}: no huge pages, machine.huge_pages: {error}");
        }
        LogRecord::AcceptFailed { errno } => {
            let error = std::io::Error::from_raw_os_error(errno);
            log::warn!("shard {shard}: cannot accept: {error}; those who are here are served, and it is tried again");
        }
        LogRecord::SlowClosed { slot, backlog_bytes, address } => {
            let from = from(address);
            log::info!("shard {shard}: connection {slot}{from} closed as slow with {backlog_bytes} bytes waiting");
        }
        LogRecord::Reached { bound, count, address } => {
            let (name, from) = (bound.name(), from(address));
            log::warn!("shard {shard}: {name}: {count} times past the limit since this was last said, last{from}");
        }
        LogRecord::TlsFailed { count, why } => {
            log::info!(
                "shard {shard}: {count} TLS sessions failed since this was last said, the last one: {}",
                why.name()
            );
        }
        LogRecord::Lagging { lag_us, shut: true } => log::warn!(
            "shard {shard}: sockets wait {} ms for their turn (limits.lag_max): nobody new is let in until it is half of that",
            lag_us / 1000
        ),
        LogRecord::Lagging { lag_us, shut: false } => {
            log::warn!(
                "shard {shard}: sockets wait {} ms for their turn: new connections are let in again",
                lag_us / 1000
            );
        }
        LogRecord::Dropped { oldest, all_but_latest, subscriptions_cut } => log::info!(
            "shard {shard}: for clients that do not read {oldest} publications were dropped as the oldest and \
             {all_but_latest} for a newer one; {subscriptions_cut} subscriptions were told to come again"
        ),
        LogRecord::Crowded { kept_bytes, connections } => log::warn!(
            "shard {shard}: {connections} clients that do not read keep {kept_bytes} bytes alive: those with most waiting \
             are closed (engine.backlog_bytes_max)"
        ),
        LogRecord::Gap { count, subscribers } => log::warn!(
            "shard {shard}: {count} publications of a channel were lost to {subscribers} subscribers: the shard did not \
             keep up (engine.mail_bytes_max)"
        ),
    }
}
