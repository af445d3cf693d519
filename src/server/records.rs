//! Shards' log records, written here so that no shard ever waits for a log.

use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::ids::ShardId;
use crate::shard::journal::Note;

const WRITE_INTERVAL: Duration = Duration::from_millis(500);

/// Writes what comes, for ever.
pub async fn write(journals: Vec<Receiver<(ShardId, Note)>>) {
    loop {
        write_waiting(&journals);
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
}

pub fn write_waiting(journals: &[Receiver<(ShardId, Note)>]) {
    for (shard, note) in journals.iter().flat_map(Receiver::try_iter) {
        write_one(shard, note);
    }
}

fn write_one(shard: ShardId, note: Note) {
    match note {
        Note::Started { core: Some(core), .. } => log::debug!("shard {shard}: runs on core {core}"),
        Note::Started { core: None, wanted: Some(core) } => {
            log::warn!("shard {shard}: the kernel did not let it on core {core}; it runs wherever there is room");
        }
        Note::Started { core: None, wanted: None } => log::debug!("shard {shard}: runs wherever there is room"),
        Note::AcceptFailed { errno } => {
            let error = std::io::Error::from_raw_os_error(errno);
            log::warn!("shard {shard}: cannot accept: {error}; those who are here are served, and it is tried again");
        }
        Note::SlowClosed { slot, backlog_bytes } => {
            log::info!("shard {shard}: connection {slot} closed as slow with {backlog_bytes} bytes waiting");
        }
        Note::Gap { count, subscribers } => log::warn!(
            "shard {shard}: {count} publications of a channel were lost to {subscribers} subscribers: the shard did not \
             keep up (engine.mail_bytes_max)"
        ),
    }
}
