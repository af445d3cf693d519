//! A broker thread as a home shard sees it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;

use super::servers::PATIENCE;
use crate::broker::control::ControlPort;
use crate::broker::message::*;
use crate::broker::port::{EventBatch, EventPort, RequestPort, request_queue};
use crate::broker::redis::{ThreadArgs, run};
use crate::broker::stats::{BrokerStats, LinkState};
use crate::broker::thread;
use crate::config::Redis;
use crate::ids::ShardId;
use crate::protocol::RawClientInfo;
use crate::pubsub::{Epoch, HistoryFilter, HistoryOptions, Since, TimeRange};

pub(super) const HISTORY: HistoryOptions =
    HistoryOptions { namespace: 0, size: 100, ttl_ms: 300_000, meta_ttl_ms: 3_600_000 };

pub(super) struct Driver {
    pub(super) requests: Option<RequestPort>,
    batches: Receiver<EventBatch>,
    /// Events that no wait has asked for.
    seen: std::cell::RefCell<Vec<Event>>,
    pub(super) stats: Arc<BrokerStats>,
    thread: Option<JoinHandle<()>>,
    tickets: Cell<u32>,
}

pub(super) struct Options {
    pub(super) control: Option<ControlPort>,
    pub(super) events_bytes_max: usize,
    pub(super) queue_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { control: None, events_bytes_max: 64 << 20, queue_bytes_max: 64 << 20 }
    }
}

impl Driver {
    pub(super) fn start(config: Redis) -> Self {
        Self::start_with(config, Options::default())
    }

    pub(super) fn start_with(config: Redis, options: Options) -> Self {
        let (port, requests) = request_queue(options.queue_bytes_max);
        let (sender, batches) = channel::<EventBatch>();
        let post = Arc::new(move |batch: EventBatch| sender.send(batch).map_err(|rejected| rejected.0));
        let events = vec![EventPort::new(post, options.events_bytes_max)];
        let stats = Arc::<BrokerStats>::default();
        let args = ThreadArgs {
            config,
            requests,
            events,
            control: options.control,
            stats: Arc::clone(&stats),
            has_pub_sub: true,
            queue_bytes_max: options.queue_bytes_max,
        };
        let thread = thread::spawn("test broker".into(), move || run(args)).expect("the machine has threads");
        let (seen, tickets) = (Default::default(), Cell::new(0));
        Self { requests: Some(port), batches, seen, stats, thread: Some(thread), tickets }
    }

    /// Starts, and waits until all connections are up.
    pub(super) fn ready(config: Redis) -> Self {
        let driver = Self::start(config);
        driver.wait_until_healthy();
        driver
    }

    /// Waits until all connections are up. Health also permits short absences.
    pub(super) fn wait_until_healthy(&self) {
        let start = Instant::now();
        let is_up = || {
            let connections = self.stats.connections();
            !connections.is_empty() && connections.iter().all(|connection| connection.state() == LinkState::Up)
        };
        while !is_up() {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.stats.health());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(super) fn send(&self, channel: &str, kind: RequestKind) {
        let request = Request { from: ShardId(0), channel: channel.into(), kind };
        let port = self.requests.as_ref().expect("it runs");
        assert!(port.send(request).is_ok(), "the thread runs");
        port.flush();
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(self.tickets.get())
    }

    /// Waits for an event that `pick` takes. The others stay for later waits.
    pub(super) fn wait_for<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.borrow_mut();
        loop {
            if let Some(at) = seen.iter().position(|event| pick(event).is_some()) {
                return pick(&seen.remove(at)).expect("it was picked");
            }
            match self.batches.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(mut batch) => seen.extend(batch.events.by_ref()),
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; but {seen:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("no {what}; the thread has ended"),
            }
        }
    }

    /// What came and was not asked for.
    pub(super) fn take_seen(&self) -> Vec<Event> {
        let mut seen = self.seen.borrow_mut();
        while let Ok(mut batch) = self.batches.try_recv() {
            seen.extend(batch.events.by_ref());
        }
        std::mem::take(&mut *seen)
    }

    pub(super) fn answer(&self, ticket: Ticket) -> Result<Answer, BrokerError> {
        self.wait_for("answer", |event| match event {
            Event::Answer { ticket: of, answer } if *of == ticket => Some(clone(answer)),
            _ => None,
        })
    }

    pub(super) fn subscribe(&self, channel: &str, serial: u32) {
        self.send(channel, RequestKind::Subscribe(SubscribeSerial(serial)));
        self.wait_subscribed(channel, serial);
    }

    pub(super) fn wait_subscribed(&self, channel: &str, serial: u32) {
        self.wait_for(&format!("subscription to {channel}"), |event| match event {
            Event::Subscribed { channel: of, serial: SubscribeSerial(number) } => {
                (**of == *channel && *number == serial).then_some(())
            }
            _ => None,
        });
    }

    pub(super) fn publish_later(&self, channel: &str, publish: PublishRequest) -> Ticket {
        let ticket = self.ticket();
        self.send(channel, RequestKind::Publish { ticket, publish: Box::new(publish) });
        ticket
    }

    pub(super) fn publish(&self, channel: &str, publish: PublishRequest) -> Result<Published, BrokerError> {
        match self.answer(self.publish_later(channel, publish))? {
            Answer::Published(published) => Ok(published),
            other => panic!("{other:?}"),
        }
    }

    /// The next publication of a channel: data, offset, epoch.
    pub(super) fn wait_publication(&self, channel: &str) -> (Bytes, u64, Option<Epoch>) {
        self.wait_for(&format!("publication in {channel}"), |event| match event {
            Event::Publication { channel: of, record, position } if **of == *channel => {
                Some((record.data.clone(), record.offset, position.map(|position| position.epoch)))
            }
            _ => None,
        })
    }

    /// The text of the next publication with, or without, a position.
    pub(super) fn wait_publication_with(&self, channel: &str, has_position: bool) -> String {
        self.wait_for(&format!("publication in {channel}"), |event| match event {
            Event::Publication { channel: of, record, position } if **of == *channel => {
                (position.is_some() == has_position).then(|| String::from_utf8_lossy(&record.data).into_owned())
            }
            _ => None,
        })
    }

    pub(super) fn history(&self, channel: &str, since: Option<u64>, limit: i32, reverse: bool) -> HistoryRead {
        let since = since.map(|offset| Since { epoch: None, offset });
        let ticket = self.ticket();
        let filter = HistoryFilter { since, limit, reverse };
        self.send(channel, RequestKind::History { ticket, filter, range: TimeRange::ALL, options: HISTORY });
        match self.answer(ticket) {
            Ok(Answer::History(read)) => read,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn offsets(&self, channel: &str, since: Option<u64>, limit: i32, reverse: bool) -> Vec<u64> {
        self.history(channel, since, limit, reverse).records.iter().map(|record| record.offset).collect()
    }

    pub(super) fn presence(&self, channel: &str) -> Vec<Bytes> {
        let ticket = self.ticket();
        self.send(channel, RequestKind::Presence { ticket });
        match self.answer(ticket) {
            Ok(Answer::Presence(members)) => members.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Clients and users.
    pub(super) fn presence_stats(&self, channel: &str) -> (u32, u32) {
        let ticket = self.ticket();
        self.send(channel, RequestKind::PresenceStats { ticket });
        match self.answer(ticket) {
            Ok(Answer::PresenceStats { clients, users }) => (clients, users),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.requests = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("it was started").expect("the thread does not panic");
        }
    }
}

fn clone(answer: &Result<Answer, BrokerError>) -> Result<Answer, BrokerError> {
    match answer {
        Err(error) => Err(error.clone()),
        Ok(Answer::Published(published)) => Ok(Answer::Published(*published)),
        Ok(Answer::History(read)) => {
            Ok(Answer::History(HistoryRead { records: read.records.clone(), top: read.top, since_is_kept: false }))
        }
        Ok(Answer::HistoryRemoved) => Ok(Answer::HistoryRemoved),
        Ok(Answer::Query(page)) => Ok(Answer::Query(page.clone())),
        Ok(Answer::Presence(members)) => Ok(Answer::Presence(members.clone())),
        Ok(Answer::PresenceStats { clients, users }) => Ok(Answer::PresenceStats { clients: *clients, users: *users }),
    }
}

pub(super) fn data(text: &str) -> PublishRequest {
    PublishRequest { data: Bytes::copy_from_slice(text.as_bytes()), ..PublishRequest::default() }
}

pub(super) fn kept(text: &str) -> PublishRequest {
    PublishRequest { history: HISTORY, ..data(text) }
}

/// A packed client info.
pub(super) fn client_info(client: u8, user: &str) -> Bytes {
    let mut packed = Vec::new();
    RawClientInfo { client: [client; 16], user, conn_info: b"{\"a\":1}", chan_info: b"\0\xff" }.pack(&mut packed);
    packed.into()
}
