//! Both ends of a handover in the life of a process: the old process before it, and its successor, the next process.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::shard_client::ShardClient;
use super::start::ControlListeners;
use super::systemd;
use crate::admin::process_stats::ProcessStats;
use crate::config;
use crate::engine::net::listener::ListenSockets;
use crate::handover::{HandoverListener, Inherited, Link, PassedSockets, SuccessorEvent, Takeover};

/// What this process got from the old process, and what it passes to its successor.
pub(crate) struct Handover {
    pub inherited: Option<Inherited>,
    pub sockets: ListenSockets,
    /// No other broker orders the channels, so that they are passed on too.
    pub gives_channels: bool,
    pub stats: Arc<ProcessStats>,
}

/// Waits for the next process. Without `handover.socket` it waits for ever.
pub(crate) struct Successor {
    /// The task that serves `handover.socket`.
    listener: Option<JoinHandle<()>>,
    /// The path of the socket, once this process listens there.
    path: Arc<OnceLock<PathBuf>>,
    events: mpsc::UnboundedReceiver<SuccessorEvent>,
    /// A process that is ready and has not proven itself.
    candidate: Option<Arc<Link>>,
    /// Keeps the channel open where no task holds its sender.
    _sender: mpsc::UnboundedSender<SuccessorEvent>,
}

impl Handover {
    /// Tells the old process that this one is ready. Once this process is the one that serves, tells the service manager, and
    /// listens for the next one: until then the next one must find the old process. Must run within the control runtime.
    pub(crate) fn start(
        self,
        settings: &config::Handover,
        shards: &ShardClient,
        listeners: &ControlListeners,
        serving: watch::Sender<bool>,
    ) -> Successor {
        let Self { inherited, sockets, gives_channels, stats } = self;
        let (proven, is_proven) = oneshot::channel();
        let on_proven = move || {
            systemd::ready();
            // Nothing waits for it without `handover.socket`.
            let _ = proven.send(());
        };
        let on_serving = move || _ = serving.send_replace(true);
        let predecessor_ended = match inherited {
            Some(inherited) => {
                let (ended, has_ended) = watch::channel(false);
                let (shards, trial) = (shards.clone(), settings.trial_time);
                tokio::spawn(async move {
                    if inherited.take_over(shards, trial, on_serving, on_proven).await == Takeover::Refused {
                        // No client was accepted: there is nothing to close.
                        std::process::exit(1);
                    }
                    ended.send_replace(true);
                });
                Some(has_ended)
            }
            None => {
                on_serving();
                on_proven();
                None
            }
        };
        let (sender, events) = mpsc::unbounded_channel();
        let mut successor =
            Successor { listener: None, path: Arc::default(), events, candidate: None, _sender: sender.clone() };
        if settings.socket.is_empty() {
            return successor;
        }
        let passed = match PassedSockets::new(sockets, listeners.admin.as_ref(), listeners.grpc.as_ref()) {
            Ok(passed) => passed,
            Err(error) => {
                log::error!(
                    "handover: cannot keep the listening sockets: {error}; no process can take over from this one"
                );
                return successor;
            }
        };
        let (settings, shards, path) = (settings.clone(), shards.clone(), Arc::clone(&successor.path));
        successor.listener = Some(tokio::spawn(async move {
            if is_proven.await.is_err() {
                return;
            }
            match HandoverListener::open(&settings.socket, passed, settings.bytes_max, &stats) {
                Ok(listener) => {
                    let listener = listener.with_channels(gives_channels).after(predecessor_ended);
                    log::info!("handover: a new process can take over at {}", settings.socket);
                    path.get_or_init(|| listener.path().to_owned());
                    listener.run(shards, move |event| drop(sender.send(event))).await;
                }
                Err(error) => log::error!(
                    "handover.socket: cannot listen on {}: {error}; no process can take over from this one",
                    settings.socket
                ),
            }
        }));
        successor
    }
}

impl Successor {
    /// Returns the link to the next process once that process has taken over.
    pub(crate) async fn proven(&mut self) -> Option<Arc<Link>> {
        loop {
            match self.events.recv().await? {
                SuccessorEvent::Proven(link) => return Some(link),
                SuccessorEvent::Ready(link) => self.candidate = Some(link),
                SuccessorEvent::Failed => self.candidate = None,
            }
        }
    }

    /// The link to a next process that is ready and has not proven itself yet.
    pub(crate) fn candidate(&self) -> Option<Arc<Link>> {
        self.candidate.clone()
    }

    /// Accepts no next process any more.
    pub(crate) fn stop(self) {
        if let Some(task) = self.listener {
            task.abort();
        }
        if let Some(path) = self.path.get() {
            let _ = std::fs::remove_file(path);
        }
    }
}
