//! The thread without a connection: it connects, with growing pauses, and rejects at once what needs the server.

use std::time::Duration;

use tokio::time::Instant;

use super::dial::Dialed;
use super::url::ServerAddress;
use super::{Driver, REQUESTS_MAX, random_below};
use crate::broker::message::{BrokerError, Event, Request, RequestKind};
use crate::broker::stats::{LinkState, Refusal};

/// The pause before the second attempt. It doubles with each one after it.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A failure with the same cause is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Ends with a connection that is logged in; `None` if every sender of requests is gone.
pub(super) async fn wait_for_connection(driver: &mut Driver) -> Option<(ServerAddress, Dialed)> {
    let mut attempts = driver.losses;
    let mut logged: Option<(Instant, String)> = None;
    loop {
        let server = driver.servers[0].clone();
        driver.servers.rotate_left(1);
        match attempt(driver, &server, pause(attempts)).await? {
            Ok(dialed) => return Some((server, dialed)),
            Err(cause) => {
                attempts = attempts.saturating_add(1);
                driver.is_undelivering = false;
                driver.stats.set_state(LinkState::Down, &cause);
                let is_new = logged.as_ref().is_none_or(|(at, last)| *last != cause || at.elapsed() > LOG_INTERVAL);
                if is_new {
                    log::error!("broker {}: cannot connect: {cause}; trying again", server.name());
                    logged = Some((Instant::now(), cause));
                }
            }
        }
    }
}

/// One attempt after a pause, with the requests that come meanwhile.
async fn attempt(driver: &mut Driver, server: &ServerAddress, pause: Duration) -> Option<Result<Dialed, String>> {
    let dialer = driver.dialer.clone();
    let dial = async {
        tokio::time::sleep(pause).await;
        dialer.dial(server).await
    };
    tokio::pin!(dial);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            dialed = &mut dial => return Some(dialed),
            count = driver.requests.receive(&mut batch, REQUESTS_MAX) => {
                if count == 0 {
                    return None;
                }
                batch.drain(..).for_each(|request| handle(driver, request));
            }
            () = driver.shards.wait_for_room() => {}
        }
        driver.shards.flush(&mut driver.subscriptions);
    }
}

/// Nodes that lost one server do not come back in one moment.
fn pause(attempts: u32) -> Duration {
    if attempts == 0 {
        return Duration::from_millis(random_below(50));
    }
    let pause = PAUSE_MIN.saturating_mul(1 << (attempts - 1).min(10)).min(PAUSE_MAX);
    pause * 3 / 4 + Duration::from_millis(random_below(pause.as_millis() as u64 / 2))
}

fn handle(driver: &mut Driver, request: Request) {
    let Request { from, channel, kind } = request;
    match kind {
        RequestKind::Subscribe(serial) => {
            driver.subscriptions.insert(channel.clone(), from, serial);
            driver.shards.push(from, Event::SubscribeDelayed { channel, serial });
        }
        RequestKind::Unsubscribe => drop(driver.subscriptions.remove(&channel)),
        RequestKind::Publish { ticket, .. } => {
            driver.reject((from, ticket), Refusal::Away, BrokerError::Unavailable);
        }
        RequestKind::JoinLeave { .. } => driver.stats.refuse(Refusal::Away),
        RequestKind::History { ticket, .. }
        | RequestKind::HistoryRemove { ticket }
        | RequestKind::Query { ticket, .. }
        | RequestKind::Presence { ticket }
        | RequestKind::PresenceStats { ticket } => {
            driver.shards.answer(from, ticket, Err(BrokerError::NotSupported));
        }
        RequestKind::PresenceSet { .. } | RequestKind::PresenceRemove { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        assert!(pause(0) < Duration::from_millis(50));
        for (attempts, middle_ms) in [(1, 100), (2, 200), (5, 1600), (6, 2000), (60, 2000), (u32::MAX, 2000)] {
            let pause = pause(attempts).as_millis() as u64;
            assert!((middle_ms * 3 / 4..=middle_ms * 5 / 4).contains(&pause), "{attempts}: {pause} ms");
        }
    }
}
