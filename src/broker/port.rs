//! The two ways between shards and a broker thread, each bounded in bytes when they are taken: requests through a
//! [`RequestPort`], events through an [`EventPort`]. Both gather what one turn brings, so that a turn wakes the other side once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::message::{Event, Request};

/// A shard's end of the queue to one broker thread. Clones share the queue, and gather on their own.
pub struct RequestPort {
    batches: UnboundedSender<Vec<Request>>,
    /// Only the shard of this port locks it.
    gathered: Mutex<Vec<Request>>,
    queued: Arc<Queued>,
}

/// The broker thread's end.
pub struct RequestQueue {
    batches: UnboundedReceiver<Vec<Request>>,
    queued: Arc<Queued>,
}

/// Shows the bytes that wait in a queue.
pub struct QueueGauge(Arc<Queued>);

impl QueueGauge {
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// Bytes that wait in a queue, with their bound.
struct Queued {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A queue of so many bytes of requests.
pub fn request_queue(bytes_max: usize) -> (RequestPort, RequestQueue) {
    let (sender, receiver) = unbounded_channel();
    let queued = Arc::new(Queued { bytes: AtomicUsize::new(0), bytes_max });
    let port = RequestPort { batches: sender, gathered: Mutex::default(), queued: Arc::clone(&queued) };
    (port, RequestQueue { batches: receiver, queued })
}

impl Clone for RequestPort {
    fn clone(&self) -> Self {
        Self { batches: self.batches.clone(), gathered: Mutex::default(), queued: Arc::clone(&self.queued) }
    }
}

impl RequestPort {
    /// Takes a request for the next [`RequestPort::flush`]; gives it back if there is no room, or the thread has ended.
    pub fn try_send(&self, request: Request) -> Result<(), Request> {
        if self.queued.bytes.load(Ordering::Relaxed) >= self.queued.bytes_max {
            return Err(request);
        }
        self.send(request)
    }

    /// Takes a request whatever waits: for those of which there is at most one for each channel or member.
    pub fn send(&self, request: Request) -> Result<(), Request> {
        if self.batches.is_closed() {
            return Err(request);
        }
        self.queued.bytes.fetch_add(request.bytes(), Ordering::Relaxed);
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        Ok(())
    }

    /// Queues what was taken. What a thread gets that has just ended is lost with it.
    pub fn flush(&self) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if !gathered.is_empty() {
            _ = self.batches.send(std::mem::take(&mut gathered));
        }
    }

    pub fn queued_bytes(&self) -> usize {
        self.queued.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for RequestPort {
    fn drop(&mut self) {
        self.flush();
    }
}

impl RequestQueue {
    /// Whether every sender is gone, and nothing waits.
    pub fn is_closed(&self) -> bool {
        self.batches.is_closed() && self.batches.is_empty()
    }

    /// Takes what waits now.
    pub fn take_waiting(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        while let Ok(batch) = self.batches.try_recv() {
            requests.extend(batch);
        }
        self.uncount(&requests);
        requests
    }

    pub fn gauge(&self) -> QueueGauge {
        QueueGauge(Arc::clone(&self.queued))
    }

    /// Waits for requests and takes the batches that are there, until they are `enough`. Returns how many; 0 when every sender
    /// is gone.
    pub async fn receive(&mut self, requests: &mut Vec<Request>, enough: usize) -> usize {
        let before = requests.len();
        let mut next = self.batches.recv().await;
        while let Some(batch) = next {
            requests.extend(batch);
            next = if requests.len() - before < enough { self.batches.try_recv().ok() } else { None };
        }
        self.uncount(&requests[before..]);
        requests.len() - before
    }

    fn uncount(&self, taken: &[Request]) {
        self.queued.bytes.fetch_sub(taken.iter().map(Request::bytes).sum(), Ordering::Relaxed);
    }
}

/// Events on their way to one shard. Their bytes count until the shard drops the batch.
pub struct EventBatch {
    pub events: std::vec::IntoIter<Event>,
    bytes: usize,
    queued: Arc<AtomicUsize>,
}

impl Drop for EventBatch {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How a batch gets into a shard's mailbox; it is given back if there is no room now.
pub type PostEvents = Arc<dyn Fn(EventBatch) -> Result<(), EventBatch> + Send + Sync>;

/// A broker thread's end of the way to one shard.
pub struct EventPort {
    post: PostEvents,
    waiting: Vec<Event>,
    waiting_bytes: usize,
    /// A batch that found the mailbox full.
    rejected: Option<EventBatch>,
    queued: Arc<AtomicUsize>,
    bytes_max: usize,
    /// For a port to another process: whether that is gone.
    has_ended: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl EventPort {
    pub fn new(post: PostEvents, bytes_max: usize) -> Self {
        let waiting = Vec::new();
        Self { post, waiting, waiting_bytes: 0, rejected: None, queued: Arc::default(), bytes_max, has_ended: None }
    }

    /// A port to another process, which may end.
    pub fn until(self, has_ended: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        Self { has_ended: Some(has_ended), ..self }
    }

    /// Nothing that is pushed has a receiver any more.
    pub fn has_ended(&self) -> bool {
        self.has_ended.as_ref().is_some_and(|has_ended| has_ended())
    }

    /// Whether a publication fits. Without room it is dropped, and `Event::Subscribed` follows when there is room again.
    pub fn has_room(&self) -> bool {
        self.queued.load(Ordering::Relaxed) + self.waiting_bytes < self.bytes_max
    }

    /// Adds an event to the next batch. Only those of publications may be left out for lack of room.
    pub fn push(&mut self, mut event: Event) {
        event.check();
        self.waiting_bytes += event.bytes();
        self.waiting.push(event);
    }

    /// Posts what waits. False: the mailbox is full, and the caller tries again soon.
    pub fn flush(&mut self) -> bool {
        if let Some(batch) = self.rejected.take()
            && let Err(batch) = (self.post)(batch)
        {
            self.rejected = Some(batch);
            return false;
        }
        if self.waiting.is_empty() {
            return true;
        }
        let bytes = std::mem::take(&mut self.waiting_bytes);
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        let events = std::mem::take(&mut self.waiting).into_iter();
        let batch = EventBatch { events, bytes, queued: Arc::clone(&self.queued) };
        match (self.post)(batch) {
            Ok(()) => true,
            Err(batch) => {
                self.rejected = Some(batch);
                false
            }
        }
    }

    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed) + self.waiting_bytes
    }
}
