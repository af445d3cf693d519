//! The shards as the control thread sees them: questions with a bound and a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::control::{AskError, Fleet, Published};
use crate::counters::Snapshot;
use crate::hub::Homes;
use crate::node::Ask;
use crate::shard::port::{Order, Port};

/// How long a shard may take to answer: many turns, even under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Milliseconds in which a full mailbox must have room for an order.
const ORDER_TRIES: u32 = 1_000;

#[derive(Clone)]
pub struct Shards {
    ports: Arc<[Port<Ask>]>,
    homes: Homes,
    draining: Arc<AtomicBool>,
}

impl Shards {
    pub fn new(ports: Vec<Port<Ask>>, homes: Homes) -> Self {
        Self { ports: ports.into(), homes, draining: Arc::default() }
    }

    /// Readiness red, nobody new, and those who are here closed in waves within `window`.
    pub fn drain(&self, window: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell(|| Order::Drain(window.as_millis() as u64));
    }

    /// Ends the threads.
    pub fn stop(&self) {
        self.tell(|| Order::Stop);
    }

    /// An order that every shard must get. One whose mailbox stays full is beyond words, and ends with the process.
    fn tell(&self, order: impl Fn() -> Order<Ask>) {
        for port in self.ports.iter() {
            let told = (0..ORDER_TRIES).any(|try_| {
                if try_ > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                port.send(order()).is_ok()
            });
            if !told {
                log::error!("a shard does not take orders any more");
            }
        }
    }

    pub fn count(&self) -> usize {
        self.ports.len()
    }
}

impl Fleet for Shards {
    async fn publish(&self, channel: &str, data: Box<RawValue>) -> Result<Published, AskError> {
        let (answer, answered) = oneshot::channel();
        let answer = Box::new(move |position| _ = answer.send(position));
        let ask = Ask::Publish { channel: channel.into(), data: data.into(), answer };
        let home = &self.ports[self.homes.of(channel).index()];
        home.send(Order::App(ask)).map_err(|_| AskError::TooManyRequests)?;
        match timeout(ANSWER_TIMEOUT, answered).await {
            // Without history there is no position to tell.
            Ok(Ok(_)) => Ok(Published::default()),
            _ => Err(AskError::OutcomeUnknown),
        }
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        let asked: Vec<_> = self
            .ports
            .iter()
            .filter_map(|port| {
                let (answer, answered) = oneshot::channel();
                let answer = Box::new(move |snapshot| drop(answer.send(snapshot)));
                port.send(Order::Snapshot(answer)).ok().map(|()| answered)
            })
            .collect();
        let mut snapshots = Vec::with_capacity(asked.len());
        for answered in asked {
            if let Ok(Ok(snapshot)) = timeout(ANSWER_TIMEOUT, answered).await {
                snapshots.push(snapshot);
            }
        }
        snapshots
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
