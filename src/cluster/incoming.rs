//! What arrives from the other servers. Nothing here waits: calls and answers that take time have tasks of their own, with
//! bounds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::channels;
use super::nodes::Change;
use super::own_shards::OwnShards;
use super::proto::{self, SurveyRequest, SurveyResponse};
use super::shared::Shared;
use super::stats::{Dropped, add};
use super::view::NodeInfo;
use super::wire::{self, Content, Received};
use crate::messaging::ApiCall;

/// How often the table of servers is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Messages taken at a time.
const BATCH_MAX: usize = 64;
/// Bytes of received calls that wait for the shards, each with what it takes besides its message.
const CALLS_BYTES_MAX: usize = 16 * 1024 * 1024;
const CALL_BYTES: usize = 512;
/// Surveys of other servers that are answered at a time: each copies the names of all channels.
const ANSWERS_MAX: usize = 4;

pub(crate) struct Incoming<S> {
    shared: Arc<Shared>,
    uid: String,
    shards: S,
    calls: UnboundedSender<QueuedCall>,
    calls_room: Arc<Semaphore>,
    answers_room: Arc<Semaphore>,
}

type QueuedCall = (ApiCall, OwnedSemaphorePermit);

impl<S: OwnShards> Incoming<S> {
    /// Also starts the task that hands calls to the shards.
    pub(crate) fn new(shared: Arc<Shared>, shards: S) -> Self {
        let (calls, queue) = mpsc::unbounded_channel();
        tokio::spawn(carry_out(queue, Arc::clone(&shared), shards.clone()));
        Self {
            uid: shared.uid(),
            shared,
            shards,
            calls,
            calls_room: Arc::new(Semaphore::new(CALLS_BYTES_MAX)),
            answers_room: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Returns if the broker's thread ends.
    pub(crate) async fn run(self, mut bus: mpsc::Receiver<Vec<u8>>) {
        let mut batch = Vec::new();
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        loop {
            let received = timeout_at(next_check, bus.recv_many(&mut batch, BATCH_MAX)).await;
            if received == Ok(0) {
                log::warn!("cluster: the broker takes no part any more; this server is on its own");
                return;
            }
            batch.drain(..).for_each(|bytes| self.receive(&bytes));
            let now = Instant::now();
            if now >= next_check {
                next_check = now + CHECK_INTERVAL;
                self.shared.check();
            }
        }
    }

    fn receive(&self, bytes: &[u8]) {
        let channel_bytes_max = self.shared.settings.get().channel_bytes_max;
        let decoded = wire::decode(bytes, &self.uid, channel_bytes_max);
        if let Ok(Received { content: Content::Own(survey), .. }) = decoded {
            self.shared.hear();
            survey.into_iter().for_each(|id| self.shared.surveys.delivered(id));
            return;
        }
        add(&self.shared.counters.received);
        let Received { from, content } = match decoded {
            Ok(received) => received,
            Err(why) => {
                self.shared.drop_message(why, "a received message");
                return;
            }
        };
        self.shared.hear();
        let resumed = self.shared.nodes().heard(&from, Instant::now());
        self.note(resumed);
        match content {
            Content::Node(info) => self.announced(&from, info),
            Content::Shutdown => {
                let left = self.shared.nodes().left(&from);
                self.note(left);
            }
            Content::Call(call) => self.queue(call, bytes.len()),
            Content::SurveyRequest(request) => self.answer(from, request),
            Content::SurveyResponse(response) => self.shared.surveys.answer(from, response),
            Content::Own(_) | Content::Nothing => {}
        }
    }

    fn note(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.shared.note(&change);
        }
    }

    /// A server that is new here does not know this one either.
    fn announced(&self, from: &str, info: NodeInfo) {
        let change = self.shared.nodes().announced(info, Instant::now());
        match change {
            Ok(Some(change)) => {
                self.shared.note(&change);
                self.shared.announce(Some(from), true);
            }
            Ok(None) => {}
            Err(()) => _ = self.shared.drop_message(Dropped::NodesFull, "an announcement"),
        }
    }

    fn queue(&self, call: ApiCall, bytes: usize) {
        let bytes = u32::try_from(bytes + CALL_BYTES).unwrap_or(u32::MAX);
        let is_queued = Arc::clone(&self.calls_room)
            .try_acquire_many_owned(bytes)
            .is_ok_and(|permit| self.calls.send((call, permit)).is_ok());
        if !is_queued {
            self.shared.drop_message(Dropped::IncomingFull, "a received call");
        }
    }

    fn answer(&self, to: String, request: SurveyRequest) {
        let shared = Arc::clone(&self.shared);
        let Ok(permit) = Arc::clone(&self.answers_room).try_acquire_owned() else {
            shared.drop_message(Dropped::SurveysFull, "a survey of another server");
            return send_answer(&shared, &to, SurveyResponse { id: request.id, code: 1, data: Vec::new() });
        };
        let shards = self.shards.clone();
        tokio::spawn(async move {
            let response = channels::answer(&shared, &shards, request).await;
            send_answer(&shared, &to, response);
            drop(permit);
        });
    }
}

fn send_answer(shared: &Shared, to: &str, response: SurveyResponse) {
    let command = proto::Command { survey_response: Some(response), ..proto::Command::default() };
    // What is dropped is counted; the survey of the other server fails.
    let _ = shared.send(Some(to), command);
}

/// Hands the calls to the shards, in the order in which they arrived.
async fn carry_out(mut queue: UnboundedReceiver<QueuedCall>, shared: Arc<Shared>, shards: impl OwnShards) {
    while let Some((call, permit)) = queue.recv().await {
        if !shards.carry_out(call).await {
            shared.drop_message(Dropped::IncomingFull, "a received call");
        }
        drop(permit);
    }
}
