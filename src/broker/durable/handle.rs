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
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (sender, answer) = oneshot::channel();
            _ = lane.send(Command::Close(sender));
            answers.push(answer);
        }
        let mut result = Ok(());
        for answer in answers {
            // A thread that has ended has closed its lane.
            result = result.and(answer.await.unwrap_or(Ok(())));
        }
        result
    }

    /// Opens every lane again.
    pub(crate) async fn open(&self) {
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (sender, answer) = oneshot::channel();
            _ = lane.send(Command::Open(sender));
            answers.push(answer);
        }
        for answer in answers {
            _ = answer.await;
        }
    }
}
