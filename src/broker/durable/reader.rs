//! The reader thread of a lane: it carries out reads one after the other, and answers the shards itself.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::shards::RETRY;
use super::stats::{LaneStats, LogRefusal};
use crate::broker::message::{Answer, BrokerError, Event, HistoryRead, Ticket};
use crate::broker::port::EventPort;
use crate::durable::{Files, FoundPage, LogRead, QueryPlan, ReadError, ReadPlan};
use crate::ids::ShardId;
use crate::pubsub::Position;

/// Reads that wait for the thread; past it they fail.
const READS_MAX: usize = 1024;

/// A read for a shard.
pub(super) struct Job<F: Files> {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) work: Work<F>,
}

pub(super) enum Work<F: Files> {
    /// With the position at the moment of the plan.
    History(Position, ReadPlan<F>),
    Query(Box<QueryPlan<F>>),
}

/// What a query has found, for the lane to leave out what is not visible any more.
pub(super) struct Page {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) page: FoundPage,
}

/// The lane thread's end. The thread ends when it is dropped.
pub(super) struct Reader<F: Files> {
    jobs: SyncSender<Job<F>>,
    thread: JoinHandle<()>,
}

impl<F: Files> Reader<F> {
    /// `pages` gets what queries find.
    pub(super) fn start(
        name: &str,
        ports: Vec<EventPort>,
        pages: UnboundedSender<Page>,
        stats: Arc<LaneStats>,
    ) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(READS_MAX);
        let work = move || Worker { ports, pages, stats, is_blocked: false }.run(&jobs);
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { jobs: sender, thread })
    }

    /// Queues a read. It is given back if there is no room.
    pub(super) fn read(&self, job: Job<F>) -> Result<(), Job<F>> {
        self.jobs.try_send(job).map_err(|(TrySendError::Full(job) | TrySendError::Disconnected(job))| job)
    }

    /// Waits until everything is read.
    pub(super) fn join(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            log::error!("a reader thread of the durable log has panicked");
        }
    }
}

struct Worker {
    /// By `ShardId`.
    ports: Vec<EventPort>,
    pages: UnboundedSender<Page>,
    stats: Arc<LaneStats>,
    is_blocked: bool,
}

impl Worker {
    fn run<F: Files>(mut self, jobs: &Receiver<Job<F>>) {
        loop {
            // While a shard has no room, nothing more is read: what was read waits in memory.
            let is_full = self.ports.iter().any(|port| !port.has_room());
            let next = match (is_full, self.is_blocked) {
                (true, _) => {
                    std::thread::sleep(RETRY);
                    Err(RecvTimeoutError::Timeout)
                }
                (false, true) => jobs.recv_timeout(RETRY),
                (false, false) => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(job) => self.read(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.is_blocked = self.ports.iter_mut().fold(false, |blocked, port| blocked | !port.flush());
        }
        self.ports.iter_mut().for_each(|port| _ = port.flush());
    }

    fn read<F: Files>(&mut self, job: Job<F>) {
        let Job { shard, ticket, work } = job;
        let answer = match work {
            Work::History(top, plan) => self.history(top, plan),
            Work::Query(plan) => match plan.run() {
                Ok(page) => {
                    // The lane ends later than this thread.
                    _ = self.pages.send(Page { shard, ticket, page });
                    return;
                }
                Err(error) => Err(self.failed(error, Position::default())),
            },
        };
        self.ports[shard.index()].push(Event::Answer { ticket, answer });
    }

    fn history<F: Files>(&self, top: Position, plan: ReadPlan<F>) -> Result<Answer, BrokerError> {
        match plan.run() {
            Ok(LogRead { records, top, since_is_kept }) => {
                Ok(Answer::History(HistoryRead { records, top, since_is_kept }))
            }
            Err(error) => Err(self.failed(error, top)),
        }
    }

    fn failed(&self, error: ReadError, top: Position) -> BrokerError {
        match error {
            ReadError::Missing => {
                self.stats.refuse(LogRefusal::Missing);
                BrokerError::Missing(top)
            }
            ReadError::Io(reason) => {
                self.stats.refuse(LogRefusal::ReadFailed);
                log::error!("durable log {}: a read failed: {reason}; its client gets error 100", self.stats.name);
                BrokerError::Refused(reason.into())
            }
        }
    }
}
