//! The events of a broker thread on their way to the shards, shared by the tasks of the thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::message::{Answer, BrokerError, Event, Ticket};
use crate::broker::port::EventPort;
use crate::ids::ShardId;

/// Pause before a batch is posted again that found a mailbox full.
const POST_PAUSE: Duration = Duration::from_millis(1);

/// No borrow outlives a call, so tasks cannot get in each other's way.
#[derive(Clone)]
pub(super) struct EventSink(Rc<Inner>);

struct Inner {
    /// By `ShardId`.
    ports: RefCell<Vec<EventPort>>,
    rejected: Notify,
}

impl EventSink {
    pub(super) fn new(ports: Vec<EventPort>) -> Self {
        Self(Rc::new(Inner { ports: RefCell::new(ports), rejected: Notify::new() }))
    }

    pub(super) fn push(&self, to: ShardId, event: Event) {
        self.0.ports.borrow_mut()[to.index()].push(event);
    }

    pub(super) fn answer(&self, to: ShardId, ticket: Ticket, answer: Result<Answer, BrokerError>) {
        self.push(to, Event::Answer { ticket, answer });
    }

    /// Whether a publication fits.
    pub(super) fn has_room(&self, to: ShardId) -> bool {
        self.0.ports.borrow()[to.index()].has_room()
    }

    /// Posts what was pushed. What a full mailbox rejects is posted by `keep_posting`.
    pub(super) fn flush(&self) {
        if !self.post() {
            self.0.rejected.notify_one();
        }
    }

    /// Posts rejected batches until the mailboxes take them. Never ends.
    pub(super) async fn keep_posting(&self) {
        loop {
            self.0.rejected.notified().await;
            while !self.post() {
                tokio::time::sleep(POST_PAUSE).await;
            }
        }
    }

    fn post(&self) -> bool {
        // Every port is flushed, also behind one whose mailbox is full.
        self.0.ports.borrow_mut().iter_mut().filter_map(|port| (!port.flush()).then_some(())).count() == 0
    }
}
