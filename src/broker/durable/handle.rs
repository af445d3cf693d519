//! How the process commands the lane threads.

use tokio::sync::{mpsc, oneshot};

/// What the process asks of a lane thread.
pub(crate) enum Command {
    /// Carry out what waits, and close the log. Requests wait from then on.
    Close(oneshot::Sender<Result<(), String>>),
    /// Open it again, once no other process has it.
    Open(oneshot::Sender<()>),
}

/// All lanes, as the process commands them. Clones command the same lanes.
#[derive(Clone, Default)]
pub(crate) struct LogHandle {
    lanes: Vec<mpsc::UnboundedSender<Command>>,
}

impl LogHandle {
    pub(crate) fn new(lanes: Vec<mpsc::UnboundedSender<Command>>) -> Self {
        Self { lanes }
    }

    /// Closes every lane: another process may open the log afterwards. What is asked of it meanwhile waits for `open`.
    pub(crate) async fn close(&self) -> Result<(), String> {
        let mut result = Ok(());
        for answer in self.command(Command::Close) {
            // A thread that has ended has closed its lane.
            result = result.and(answer.await.unwrap_or(Ok(())));
        }
        result
    }

    /// Opens every lane again.
    pub(crate) async fn open(&self) {
        for answer in self.command(Command::Open) {
            _ = answer.await;
        }
    }

    /// Every lane works at once.
    fn command<T>(&self, command: fn(oneshot::Sender<T>) -> Command) -> Vec<oneshot::Receiver<T>> {
        let send = |lane: &mpsc::UnboundedSender<Command>| {
            let (sender, answer) = oneshot::channel();
            _ = lane.send(command(sender));
            answer
        };
        self.lanes.iter().map(send).collect()
    }
}
