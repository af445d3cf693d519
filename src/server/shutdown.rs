//! The shutdown: readiness turns red, for a while if a load balancer must see it first; the listeners close; connections are
//! closed in waves while the rest is served.
//!
//! A connection is closed behind the replies to the commands that were taken. A shard without connections goes on as home
//! shard. All shards stop together when no connection is open, nothing is in flight and every call of the server API is
//! answered, or at `shutdown.timeout`. A second signal stops them at once, unless it comes right after the first: `timeout` and
//! service managers signal a process and then its group.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::reload::Reload;
use super::shard_client::ShardClient;
use super::successor::Successor;
use super::systemd;
use crate::api::ShardApi;
use crate::config::Shutdown;
use crate::engine::Upgrades;
use crate::engine::stats::Snapshot;

/// How often the shards are asked whether they are done.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How often the log says how many connections are left.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// A signal this long after the first one is the same signal, sent again.
const SAME_SIGNAL_INTERVAL: Duration = Duration::from_secs(1);

/// How the server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Every connection was closed, or `shutdown.timeout` was reached.
    InOrder,
    /// A second signal: the open connections were cut.
    AtOnce,
}

/// The signals that end the server.
pub(crate) struct StopSignals {
    pub term: Signal,
    pub int: Signal,
}

impl StopSignals {
    async fn next(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}

/// Waits for a signal or for a successor that is ready, then shuts down; a second signal cuts that short. `servers` are the
/// tasks that accept at the control thread's own listeners.
pub(crate) async fn run(
    reload: &Reload,
    shards: &ShardClient,
    mut signals: StopSignals,
    mut successor: Successor,
    servers: Vec<JoinHandle<()>>,
) -> Ended {
    let link = tokio::select! { () = signals.next() => None, link = successor.proven() => link };
    // At a signal, a successor that is ready takes over also if it has not proven itself yet.
    let by_signal = link.is_none();
    let link = link.or_else(|| successor.candidate());
    let first = Instant::now();
    match link {
        // The successor has these listeners too. Connections that are open get one more response.
        Some(_) => servers.iter().for_each(JoinHandle::abort),
        None => successor.stop(),
    }
    systemd::stopping();
    let settings = reload.config().shutdown.clone();
    let shut_down = async {
        let until = close_connections(&settings, shards, link.is_some()).await;
        answer_calls(shards, &servers, until).await;
        if let Some(link) = &link {
            link.finish_sending().await;
        }
    };
    let second_signal = async {
        let mut first = first;
        if link.is_some() && !by_signal {
            // A signal to both processes means an orderly shutdown of both.
            signals.next().await;
            first = Instant::now();
            log::info!(
                "signal ignored: this process shuts down already, since another one took over; one more signal cuts its \
                 open connections"
            );
        }
        next_after(first, async || signals.next().await).await;
    };
    tokio::select! {
        () = shut_down => Ended::InOrder,
        () = second_signal => {
            log::warn!("second signal: shutting down at once; open connections are cut without a close handshake");
            Ended::AtOnce
        }
    }
}

/// Takes no more calls of the server API, and waits for the replies to those that have begun.
async fn answer_calls(shards: &ShardClient, servers: &[JoinHandle<()>], until: Instant) {
    servers.iter().for_each(JoinHandle::abort);
    shards.open_calls.close();
    let begun = shards.open_calls.count();
    while shards.open_calls.count() > 0 && Instant::now() < until {
        sleep(CHECK_INTERVAL).await;
    }
    let left = shards.open_calls.count();
    if left > 0 {
        log::warn!(
            "shutdown.timeout is over: {left} calls of the server API are not answered; their outcome is unknown"
        );
    } else if begun > 0 {
        // The tasks of their connections write the responses.
        sleep(CHECK_INTERVAL).await;
    }
}

/// Waits for a signal that is not the first one sent again.
async fn next_after(first: Instant, mut next: impl AsyncFnMut()) {
    loop {
        next().await;
        let after = first.elapsed();
        if after > SAME_SIGNAL_INTERVAL {
            return;
        }
        log::info!(
            "signal ignored: it came {} ms after the first one, as when a process and its group are signaled; another one, \
             {SAME_SIGNAL_INTERVAL:?} after the first, cuts the open connections",
            after.as_millis()
        );
    }
}

/// `has_successor`: another process accepts the new connections. Returns when `shutdown.timeout` ends.
async fn close_connections(settings: &Shutdown, shards: &ShardClient, has_successor: bool) -> Instant {
    let Shutdown { timeout, delay, rate_max, .. } = *settings;
    if !has_successor && !delay.is_zero() {
        shards.report_not_ready();
        log::info!("shutting down in {delay:?} (shutdown.delay): /health is red; until then new clients are accepted");
        sleep(delay).await;
    }
    let count = open_connections(&shards.snapshots().await);
    let (window, is_paced) = settings.window_for(count);
    if !is_paced {
        log::warn!(
            "shutdown.rate_max: {rate_max} a second is too slow for {count} connections within shutdown.timeout \
             ({timeout:?}); closing them within {window:?}"
        );
    }
    log::info!(
        "shutting down: no new clients; closing {count} connections within {window:?}, the last of them after \
         {timeout:?} at most; a second signal after {SAME_SIGNAL_INTERVAL:?} cuts them at once"
    );
    // The successor accepts as well: upgrades under way are completed here, and the clients reconnect to it.
    let upgrades = if has_successor { Upgrades::Complete } else { Upgrades::Refuse };
    shards.drain(window, upgrades);
    let (began, mut logged) = (Instant::now(), Instant::now());
    let mut open = count;
    while began.elapsed() < timeout {
        let snapshots = shards.snapshots().await;
        if snapshots.len() == shards.shard_count() && snapshots.iter().all(|snapshot| snapshot.idle) {
            log::info!("shutdown complete: every connection was closed in order");
            return began + timeout;
        }
        open = open_connections(&snapshots);
        if logged.elapsed() >= PROGRESS_INTERVAL {
            logged = Instant::now();
            log::info!("shutting down: {open} of {count} connections are still open");
        }
        sleep(CHECK_INTERVAL).await;
    }
    log::warn!("shutdown.timeout ({timeout:?}) is over: {open} connections are cut without a close handshake");
    began + timeout
}

fn open_connections(snapshots: &[Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.connections).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signal_within_a_second_of_the_first_is_the_same_signal() {
        let first = Instant::now();
        let mut waits = [0, 300, 600, 300, 5_000].into_iter();
        next_after(first, async || {
            let wait = waits.next().expect("one of them ends it");
            tokio::time::advance(Duration::from_millis(wait)).await;
        })
        .await;
        assert_eq!(first.elapsed().as_millis(), 1_200, "those after 0, 300 and 900 ms are the first one");
    }
}
