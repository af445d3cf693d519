//! The control thread's own small mailbox in a shard, looked at once a turn. Orders come through it; answers go back by the
//! closure that came with the question, so that the shard knows nothing of who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Millis;
use super::stats::Snapshot;
use crate::engine::config::EngineConfig;

/// Orders that may wait for a shard; one more is refused before it is queued.
pub const ORDERS_MAX: usize = 1024;

pub enum Order<R> {
    /// For the app.
    App(R),
    Snapshot(Box<dyn FnOnce(Snapshot) + Send>),
    /// Closes the listeners, and who is here in waves within so many milliseconds. `admits`: upgrades under way are
    /// completed, and not refused.
    Drain {
        window: Millis,
        admits: bool,
    },
    /// From now on these hold, of which what the engine's memory was laid out for is as it was.
    Limits(Arc<EngineConfig>),
    /// Who connects from now on gets these certificates and rules.
    Tls(Arc<rustls::ServerConfig>),
    /// Ends the thread, whatever is left.
    Stop,
}

/// The asking end. Clones share the mailbox.
pub struct Port<R> {
    orders: Sender<Order<R>>,
    /// Somebody has knocked since the shard looked: one knock is enough.
    knocked: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl<R> Clone for Port<R> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone(), knocked: Arc::clone(&self.knocked), wake: Arc::clone(&self.wake) }
    }
}

/// The shard's end.
pub struct Inbox<R> {
    orders: Receiver<Order<R>>,
    knocked: Arc<AtomicBool>,
}

pub fn port<R>(wake: Arc<dyn Fn() + Send + Sync>) -> (Port<R>, Inbox<R>) {
    let (sender, receiver) = bounded(ORDERS_MAX);
    let knocked = Arc::new(AtomicBool::new(false));
    (Port { orders: sender, knocked: Arc::clone(&knocked), wake }, Inbox { orders: receiver, knocked })
}

impl<R> Port<R> {
    /// Queues an order and has the shard look, or gives the order back where too many wait or the shard is gone.
    pub fn send(&self, order: Order<R>) -> Result<(), Order<R>> {
        self.orders.try_send(order).map_err(crossbeam_channel::TrySendError::into_inner)?;
        if !self.knocked.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
        Ok(())
    }
}

impl<R> Inbox<R> {
    /// The next order. The knock is forgotten before the last look, so that none is missed.
    pub fn next(&self) -> Option<Order<R>> {
        self.orders
            .try_recv()
            .ok()
            .or_else(|| self.knocked.swap(false, Ordering::SeqCst).then(|| self.orders.try_recv().ok()).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn knocks_are_few_and_none_is_missed() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let (port, inbox) = port::<u8>(Arc::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        for round in 1..=3 {
            for i in 0..ORDERS_MAX {
                assert!(port.send(Order::App(i as u8)).is_ok());
            }
            assert!(port.send(Order::Stop).is_err(), "full");
            assert_eq!(std::iter::from_fn(|| inbox.next()).count(), ORDERS_MAX);
            assert_eq!(wakes.load(Ordering::SeqCst), round);
        }
    }
}
