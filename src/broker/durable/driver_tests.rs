//! Tests of the lane thread over a real directory whose syncs and writes can be held and made to fail.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::unbounded_channel;

use super::handle::LogHandle;
use super::lane_thread::{Source, ThreadArgs, run};
use super::opening::{LogOptions, open_lane};
use super::stats::{LogRefusal, LogState, LogStats};
use crate::broker::Broker;
use crate::broker::message::{
    Answer, BrokerError, Durability, Event, HistoryRead, LogFields, PublishRequest, Published, Request, RequestKind,
    SubscribeSerial, Ticket,
};
use crate::broker::port::{EventBatch, EventPort, request_queue};
use crate::broker::thread;
use crate::config::OnFailure;
use crate::durable::{Directory, File, Files, LaneOptions, LockError};
use crate::ids::ShardId;
use crate::pubsub::{HistoryFilter, HistoryOptions, Position, TimeRange};

const SHARD: ShardId = ShardId(0);
const HISTORY: HistoryOptions = HistoryOptions { namespace: 0, size: 100, ttl_ms: 300_000, meta_ttl_ms: 0 };
const PATIENCE: Duration = Duration::from_secs(20);

/// What the disk does.
#[derive(Default)]
struct Switches {
    holds_syncs: bool,
    fails: bool,
}

#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<Switches>, Condvar)>);

impl Disk {
    fn set(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.0.0.lock().expect("no test panics while holding the lock"));
        self.0.1.notify_all();
    }

    fn check(&self) -> io::Result<()> {
        match self.0.0.lock().expect("no test panics while holding the lock").fails {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }

    fn wait_until_syncs_go_on(&self) {
        let switches = self.0.0.lock().expect("no test panics while holding the lock");
        drop(self.0.1.wait_while(switches, |switches| switches.holds_syncs));
    }
}

struct TestFiles {
    directory: Directory,
    disk: Disk,
}

struct TestFile {
    file: Arc<std::fs::File>,
    disk: Disk,
}

impl TestFiles {
    fn wrap(&self, file: Arc<std::fs::File>) -> Arc<TestFile> {
        Arc::new(TestFile { file, disk: self.disk.clone() })
    }
}

impl Files for TestFiles {
    type File = TestFile;
    type Lock = <Directory as Files>::Lock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.check()?;
        self.directory.list()
    }
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<TestFile>> {
        self.disk.check()?;
        self.directory.create(name, bytes).map(|file| self.wrap(file))
    }
    fn open(&self, name: &str) -> io::Result<Arc<TestFile>> {
        self.directory.open(name).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_directory()
    }
    fn lock(&self) -> Result<Self::Lock, LockError> {
        self.directory.lock()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl File for TestFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.disk.check()?;
        File::write_at(&*self.file, bytes, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        File::read_at(&*self.file, buffer, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.wait_until_syncs_go_on();
        self.disk.check()?;
        File::sync_data(&*self.file)
    }
    fn len(&self) -> io::Result<u64> {
        File::len(&*self.file)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        File::truncate(&*self.file, bytes)
    }
}

/// A lane thread with one shard.
struct Log {
    path: PathBuf,
    disk: Disk,
    broker: Option<Broker>,
    handle: LogHandle,
    batches: Receiver<EventBatch>,
    /// The state before each opening.
    openings: Receiver<LogState>,
    seen: Vec<Event>,
    stats: Arc<LogStats>,
    last_ticket: u32,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.disk.set(|switches| switches.holds_syncs = false);
        drop(self.broker.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Log {
    fn start(on_failure: OnFailure, queue_bytes_max: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corecast-lane-{}-{number}", std::process::id()));
        let (disk, stats) = (Disk::default(), Arc::new(LogStats::default()));
        let name = path.to_str().expect("a path of text").into();
        let lane = LaneOptions { segment_bytes: 1 << 20, free_bytes_min: 0, ..LaneOptions::default() };
        let options = LogOptions { name, lane, sync_interval: Duration::from_secs(3600), on_failure };
        let (port, requests) = request_queue(queue_bytes_max);
        let lane_stats = stats.register(&options.name, requests.gauge());
        let (opening, openings) = channel();
        let files = {
            let (path, disk, stats) = (path.clone(), disk.clone(), Arc::clone(&lane_stats));
            move || {
                // The test may have ended.
                _ = opening.send(stats.state());
                Directory::new(&path).map(|directory| TestFiles { directory, disk: disk.clone() })
            }
        };
        let lane = open_lane(files().expect("a directory"), &options, &lane_stats).expect("it is new");
        let (sender, batches) = channel();
        let events = || {
            let sender = sender.clone();
            vec![EventPort::new(Arc::new(move |batch| sender.send(batch).map_err(|unsent| unsent.0)), 1 << 20)]
        };
        let (commands, lane_commands) = unbounded_channel();
        let (source, stats_of_lane) = (Source::Open(Box::new(lane)), Arc::clone(&lane_stats));
        let args = ThreadArgs {
            source,
            options,
            requests,
            events: events(),
            reader_events: events(),
            commands: lane_commands,
            stats: stats_of_lane,
        };
        let thread = thread::spawn("log test".into(), move || run(args, files)).expect("the machine has threads");
        let (broker, handle) = (Some(Broker::new(vec![port])), LogHandle::new(vec![commands]));
        let (seen, last_ticket, thread) = (Vec::new(), 0, Some(thread));
        Self { path, disk, broker, handle, batches, openings, seen, stats, last_ticket, thread }
    }

    /// Takes requests that leave with the next flush. Returns the last ticket.
    fn take(&mut self, channel: &str, kind: impl FnOnce(Ticket) -> RequestKind) -> Result<Ticket, Request> {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let request = Request { from: SHARD, channel: channel.into(), kind: kind(ticket) };
        self.broker.as_ref().expect("the test runs").send(request).map(|()| ticket)
    }

    fn flush(&self) {
        self.broker.as_ref().expect("the test runs").flush();
    }

    fn send(&mut self, channel: &str, kind: impl FnOnce(Ticket) -> RequestKind) -> Ticket {
        let ticket = self.take(channel, kind).map_err(drop).expect("there is room");
        self.flush();
        ticket
    }

    /// The next event that the test looks for. The others are kept.
    fn wait_for<T>(&mut self, is_wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            if let Some(at) = self.seen.iter().position(|event| is_wanted(event).is_some()) {
                return is_wanted(&self.seen.remove(at)).expect("just looked");
            }
            let mut batch = self.batches.recv_timeout(PATIENCE).expect("the event comes");
            self.seen.extend(batch.events.by_ref());
        }
    }

    fn answer_of(&mut self, wanted: Ticket) -> Result<Published, BrokerError> {
        self.wait_for(|event| match event {
            Event::Answer { ticket, answer: Ok(Answer::Published(published)) } if *ticket == wanted => {
                Some(Ok(*published))
            }
            Event::Answer { ticket, answer: Err(error) } if *ticket == wanted => Some(Err(error.clone())),
            _ => None,
        })
    }

    fn publish(&mut self, channel: &str, request: PublishRequest) -> Result<Published, BrokerError> {
        let ticket = self.send(channel, |ticket| RequestKind::Publish { ticket, publish: Box::new(request) });
        self.answer_of(ticket)
    }

    fn history(&mut self, channel: &str) -> (Vec<Bytes>, Position) {
        let filter = HistoryFilter { since: None, limit: -1, reverse: false };
        let (range, options) = (TimeRange::ALL, HISTORY);
        let wanted = self.send(channel, |ticket| RequestKind::History { ticket, filter, range, options });
        self.wait_for(|event| match event {
            Event::Answer { ticket, answer: Ok(Answer::History(HistoryRead { records, top, .. })) }
                if *ticket == wanted =>
            {
                Some((records.iter().map(|record| record.data.clone()).collect(), *top))
            }
            Event::Answer { ticket, answer: Err(error) } if *ticket == wanted => panic!("{error}"),
            _ => None,
        })
    }

    fn refusals(&self, reason: LogRefusal) -> u64 {
        self.stats.lanes()[0].refusals[reason as usize].load(Ordering::Relaxed)
    }

    fn has_seen_answer(&mut self, wanted: Ticket) -> bool {
        self.batches.try_iter().for_each(|mut batch| self.seen.extend(batch.events.by_ref()));
        self.seen.iter().any(|event| matches!(event, Event::Answer { ticket, .. } if *ticket == wanted))
    }
}

fn data(text: &str, durability: Durability) -> PublishRequest {
    let log = LogFields { durability, user: Box::default(), tag: Box::default() };
    let data = Bytes::copy_from_slice(text.as_bytes());
    PublishRequest { data, history: HISTORY, log: Some(Box::new(log)), ..PublishRequest::default() }
}

#[test]
fn process_is_answered_while_the_sync_of_strict_ones_takes_its_time() {
    let mut log = Log::start(OnFailure::Refuse, 1 << 20);
    log.disk.set(|switches| switches.holds_syncs = true);
    let publish = |durability| move |ticket| RequestKind::Publish { ticket, publish: Box::new(data("1", durability)) };
    let strict = log.take("strict", publish(Durability::Strict)).map_err(drop).expect("there is room");
    let process = log.send("process", publish(Durability::Process));
    assert_eq!(log.answer_of(process).expect("it is written").position.expect("a position").offset, 1);
    assert!(!log.has_seen_answer(strict), "it is not synced");
    log.disk.set(|switches| switches.holds_syncs = false);
    assert_eq!(log.answer_of(strict).expect("it is synced").position.expect("a position").offset, 1);
}

#[test]
fn queue_of_a_slow_disk_is_bounded_and_what_it_took_is_kept() {
    let mut log = Log::start(OnFailure::Refuse, 64 * 1024);
    log.disk.set(|switches| switches.holds_syncs = true);
    let text = "x".repeat(1000);
    let mut tickets = Vec::new();
    // The lane has taken the first ones, and the rest waits until its bound.
    while let Ok(ticket) =
        log.take("a", |ticket| RequestKind::Publish { ticket, publish: Box::new(data(&text, Durability::Strict)) })
    {
        log.flush();
        tickets.push(ticket);
        assert!(tickets.len() < 10_000, "the queue has a bound");
    }
    assert!(log.stats.lanes()[0].queued_bytes() >= 64 * 1024);
    log.disk.set(|switches| switches.holds_syncs = false);
    for (ticket, offset) in tickets.iter().zip(1..) {
        assert_eq!(log.answer_of(*ticket).expect("it is kept").position.expect("a position").offset, offset);
    }
    assert_eq!(log.history("a").0.len(), tickets.len().min(100));
}

#[test]
fn subscriber_gets_what_is_kept_in_order_also_without_a_position() {
    let mut log = Log::start(OnFailure::Refuse, 1 << 20);
    log.send("a", |_| RequestKind::Subscribe(SubscribeSerial(1)));
    let plain = PublishRequest { history: HistoryOptions { size: 0, ..HISTORY }, ..data("2", Durability::Strict) };
    let keyed = PublishRequest { idempotency_key: "k".into(), ..data("3", Durability::Strict) };
    for (request, position) in [(data("1", Durability::Strict), Some(1)), (plain, None), (keyed.clone(), Some(2))] {
        let published = log.publish("a", request).expect("it is kept");
        assert_eq!(published.position.map(|position| position.offset), position);
    }
    assert!(log.publish("a", keyed).expect("it is known").is_suppressed);
    log.send("a", |_| RequestKind::Unsubscribe);
    log.publish("a", data("4", Durability::Strict)).expect("it is kept");
    let publications = log.seen.iter().filter_map(|event| match event {
        Event::Publication { record, position, .. } => Some((record.data.clone(), position.map(|at| at.offset))),
        _ => None,
    });
    let delivered: Vec<(Bytes, _)> = publications.collect();
    assert_eq!(delivered, [("1".into(), Some(1)), ("2".into(), None), ("3".into(), Some(2))]);
    assert!(matches!(log.seen[0], Event::Subscribed { .. }));
    assert_eq!(log.history("a").0, ["1", "3", "4"]);
}

#[test]
fn failed_disk_refuses_publications_and_serves_what_it_has() {
    let mut log = Log::start(OnFailure::Refuse, 1 << 20);
    log.publish("a", data("1", Durability::Strict)).expect("it is kept");
    let before = log.history("a");
    log.disk.set(|switches| switches.fails = true);
    for durability in [Durability::Strict, Durability::Process, Durability::Strict] {
        assert!(matches!(log.publish("a", data("2", durability)), Err(BrokerError::Refused(_))));
    }
    assert_eq!(log.stats.lanes()[0].state(), LogState::Failed);
    assert!(log.stats.health().is_err_and(|cause| cause.contains("durable log")));
    assert_eq!(log.refusals(LogRefusal::Failed), 3);
    assert_eq!(log.history("a"), before, "no offset was used up");
}

#[test]
fn failed_disk_with_the_memory_policy_begins_another_epoch() {
    let mut log = Log::start(OnFailure::Memory, 1 << 20);
    log.publish("a", data("1", Durability::Process)).expect("it is kept");
    let (_, before) = log.history("a");
    log.disk.set(|switches| switches.fails = true);
    while log.publish("a", data("lost", Durability::Process)).is_err() {}
    assert_eq!(log.stats.lanes()[0].state(), LogState::Failed);
    let (kept, top) = log.history("a");
    assert_ne!(top.epoch, before.epoch, "it does not continue what the log has");
    assert_eq!((kept, top.offset), (vec!["lost".into()], 1));
    assert!(log.publish("a", data("2", Durability::Strict)).is_err(), "strict ones are not kept in memory");
    log.send("b", |_| RequestKind::Subscribe(SubscribeSerial(1)));
    let published = log.publish("b", data("3", Durability::Process)).expect("it is in memory");
    let delivered = log.wait_for(|event| match event {
        Event::Publication { position, .. } => Some(*position),
        _ => None,
    });
    assert_eq!(delivered, published.position);
}

#[test]
fn closed_log_is_opened_again_with_what_it_had_and_requests_wait() {
    let mut log = Log::start(OnFailure::Refuse, 1 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    log.publish("a", data("1", Durability::Process)).expect("it is kept");
    let before = log.history("a");
    runtime.block_on(log.handle.close()).expect("it is closed in order");
    assert_eq!(log.stats.lanes()[0].state(), LogState::Closed);
    let waiting =
        log.send("a", |ticket| RequestKind::Publish { ticket, publish: Box::new(data("2", Durability::Process)) });
    assert!(!log.has_seen_answer(waiting));
    runtime.block_on(log.handle.open());
    let position = log.answer_of(waiting).expect("it is kept").position.expect("a position");
    assert_eq!(position, Position { offset: 2, ..before.1 });
    assert_eq!(log.history("a").0, ["1", "2"]);
}

#[test]
fn directory_that_cannot_be_opened_again_is_a_failure_until_it_can() {
    let mut log = Log::start(OnFailure::Refuse, 1 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    log.publish("a", data("1", Durability::Process)).expect("it is kept");
    runtime.block_on(log.handle.close()).expect("it is closed in order");
    log.disk.set(|switches| switches.fails = true);
    runtime.block_on(log.handle.open());
    let before = || log.openings.recv_timeout(PATIENCE).expect("it is tried again");
    let states: Vec<_> = (0..4).map(|_| before()).collect();
    assert_eq!(states, [LogState::Opening, LogState::Closed, LogState::Failed, LogState::Failed]);
    log.disk.set(|switches| switches.fails = false);
    assert_eq!(log.history("a").0, ["1"]);
    assert_eq!(log.stats.lanes()[0].state(), LogState::Open);
}
