//! The small mailbox of the control thread in a shard, read once a turn. Commands arrive through it; answers return by
//! the closure of the command, so that the shard does not depend on the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::config::EngineConfig;
use super::drain::Upgrades;
use super::stats::Snapshot;
use super::timer_wheel::Millis;

/// Commands that may wait for a shard. One more is given back.
pub const COMMANDS_MAX: usize = 1024;

/// What the control thread asks of a shard.
pub enum ControlCommand<R> {
    /// For the app.
    App(R),
    Snapshot(Box<dyn FnOnce(Snapshot) + Send>),
    /// Closes the listeners, and the open connections in waves within so many milliseconds.
    Drain {
        window: Millis,
        upgrades: Upgrades,
    },
    /// Accepts connections, if the shard was started without that.
    Accept,
    /// From now on these settings hold. What the engine's memory was laid out for is unchanged in them.
    Config(Arc<EngineConfig>),
    /// New connections get these certificates and rules.
    Tls(Arc<rustls::ServerConfig>),
    /// Ends the thread, whatever is left.
    Stop,
}

/// The control thread's end. Clones share the mailbox.
pub struct ControlPort<R> {
    commands: Sender<ControlCommand<R>>,
    /// The shard was notified since it last looked: once is enough.
    notified: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl<R> Clone for ControlPort<R> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone(), notified: Arc::clone(&self.notified), wake: Arc::clone(&self.wake) }
    }
}

/// The shard's end.
pub struct ControlInbox<R> {
    commands: Receiver<ControlCommand<R>>,
    notified: Arc<AtomicBool>,
}

/// A port and its inbox. `wake` ends the wait of the shard.
pub fn control_port<R>(wake: Arc<dyn Fn() + Send + Sync>) -> (ControlPort<R>, ControlInbox<R>) {
    let (sender, receiver) = bounded(COMMANDS_MAX);
    let notified = Arc::new(AtomicBool::new(false));
    let port = ControlPort { commands: sender, notified: Arc::clone(&notified), wake };
    (port, ControlInbox { commands: receiver, notified })
}

impl<R> ControlPort<R> {
    /// Queues a command and wakes the shard, or gives the command back if too many wait or the shard is gone.
    pub fn send(&self, command: ControlCommand<R>) -> Result<(), ControlCommand<R>> {
        // What ends a shard does not depend on a runtime that may have ended (`send_soon`).
        let may_wait = matches!(command, ControlCommand::App(_));
        if self.queue(command)? || !may_wait {
            (self.wake)();
        }
        Ok(())
    }

    /// As `send`, on a runtime that goes on: the shard is woken after the tasks that are ready now, and so finds what all of them
    /// send.
    pub fn send_soon(&self, command: ControlCommand<R>) -> Result<(), ControlCommand<R>> {
        if self.queue(command)? {
            let wake = Arc::clone(&self.wake);
            tokio::spawn(async move { wake() });
        }
        Ok(())
    }

    /// True if the shard has to be woken.
    fn queue(&self, command: ControlCommand<R>) -> Result<bool, ControlCommand<R>> {
        self.commands.try_send(command).map_err(crossbeam_channel::TrySendError::into_inner)?;
        Ok(!self.notified.swap(true, Ordering::SeqCst))
    }
}

impl<R> ControlInbox<R> {
    /// The next command. The notification is cleared before the last look, so that none is missed.
    pub fn next(&self) -> Option<ControlCommand<R>> {
        self.commands
            .try_recv()
            .ok()
            .or_else(|| self.notified.swap(false, Ordering::SeqCst).then(|| self.commands.try_recv().ok()).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn commands_wake_the_shard_once_and_none_is_missed() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let (port, inbox) = control_port::<u8>(Arc::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
        for round in 1..=3 {
            runtime.block_on(async {
                for i in 0..COMMANDS_MAX {
                    assert!(port.send_soon(ControlCommand::App(i as u8)).is_ok());
                }
                assert_eq!(wakes.load(Ordering::SeqCst), round - 1, "other tasks may send more");
                tokio::task::yield_now().await;
            });
            assert!(port.send(ControlCommand::Stop).is_err(), "full");
            assert_eq!(std::iter::from_fn(|| inbox.next()).count(), COMMANDS_MAX);
            assert_eq!(wakes.load(Ordering::SeqCst), round);
        }
        // The runtime is not driven any more.
        _ = runtime.block_on(async { port.send_soon(ControlCommand::App(1)) });
        assert!(port.send(ControlCommand::Stop).is_ok());
        assert_eq!(wakes.load(Ordering::SeqCst), 4, "what ends the shard does not wait");
    }
}
