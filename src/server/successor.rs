//! Both ends of a handover in the life of a process: the old process before it, and its successor, the next process.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::shard_client::ShardClient;
use super::start::ControlListeners;
use crate::admin::process_stats::ProcessStats;
use crate::config;
use crate::engine::net::listener::ListenSockets;
use crate::handover::{HandoverListener, Inherited, Link, PassedSockets};

/// What this process got from the old process, and what it passes to its successor.
pub(crate) struct Handover {
    pub inherited: Option<Inherited>,
    pub sockets: ListenSockets,
    pub stats: Arc<ProcessStats>,
}

/// Waits for the next process. Without `handover.socket` it waits for ever.
pub(crate) struct Successor {
    /// The task that serves `handover.socket`, and the path of the socket.
    listener: Option<(JoinHandle<()>, PathBuf)>,
    ready: mpsc::UnboundedReceiver<Arc<Link>>,
    /// Keeps the channel open where no task holds its sender.
    _sender: mpsc::UnboundedSender<Arc<Link>>,
}

impl Handover {
    /// Tells the old process that this one is ready, and listens for the next one. Must run within the control runtime.
    pub(crate) fn start(
        self,
        settings: &config::Handover,
        shards: &ShardClient,
        listeners: &ControlListeners,
    ) -> Successor {
        let Self { inherited, sockets, stats } = self;
        if let Some(inherited) = inherited {
            tokio::spawn(inherited.report_ready(shards.clone()));
        }
        let (sender, ready) = mpsc::unbounded_channel();
        let config::Handover { socket, bytes_max, .. } = settings;
        if socket.is_empty() {
            return Successor { listener: None, ready, _sender: sender };
        }
        let passed = PassedSockets { clients: sockets, admin: listeners.admin.as_ref(), grpc: listeners.grpc.as_ref() };
        let listener = match HandoverListener::open(socket, passed, *bytes_max, &stats) {
            Ok(listener) => {
                log::info!("handover: a new process can take over at {socket}");
                let (path, ready) = (listener.path().to_owned(), sender.clone());
                let run = listener.run(shards.clone(), move |link| drop(ready.send(link)));
                Some((tokio::spawn(run), path))
            }
            Err(error) => {
                log::error!(
                    "handover.socket: cannot listen on {socket}: {error}; no process can take over from this one"
                );
                None
            }
        };
        Successor { listener, ready, _sender: sender }
    }
}

impl Successor {
    /// Returns the link to the next process once that process serves clients.
    pub(crate) async fn ready(&mut self) -> Option<Arc<Link>> {
        self.ready.recv().await
    }

    /// Accepts no next process any more.
    pub(crate) fn stop(self) {
        if let Some((task, path)) = self.listener {
            task.abort();
            let _ = std::fs::remove_file(path);
        }
    }
}
