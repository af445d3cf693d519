//! The reader thread of a lane: it carries out reads one after the other, and answers the shards itself.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::shards::RETRY;
use super::stats::{LaneStats, LogRefusal};
use crate::broker::message::{Answer, BrokerError, Event, HistoryRead, Ticket, check};
use crate::broker::port::EventPort;
use crate::durable::{Files, FoundPage, IndexTask, LogRead, QueryPlan, ReadError, ReadPlan};
use crate::ids::ShardId;

/// Reads that wait for the thread; past it they fail.
const READS_MAX: usize = 1024;

pub(super) enum Job<F: Files> {
    /// For a shard.
    Read { shard: ShardId, ticket: Ticket, task: Box<Task<F>> },
    /// The index of a segment that was sealed.
    Index(IndexTask<F>),
}

pub(super) enum Task<F: Files> {
    History(ReadPlan<F>),
    /// The lane thread answers, since it knows what the channels still have.
    Query(QueryPlan<F>),
}

/// A page that was found for a shard.
pub(super) struct Queried {
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
    /// `queried` gets the pages of queries.
    pub(super) fn start(
        name: &str,
        ports: Vec<EventPort>,
        queried: UnboundedSender<Queried>,
        stats: Arc<LaneStats>,
    ) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(READS_MAX);
        let work = move || Work { ports, queried, stats, is_blocked: false }.run(&jobs);
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { jobs: sender, thread })
    }

    /// Queues a job. It is given back if there is no room.
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

struct Work {
    /// By `ShardId`.
    ports: Vec<EventPort>,
    queried: UnboundedSender<Queried>,
    stats: Arc<LaneStats>,
    is_blocked: bool,
}

impl Work {
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
        let (shard, ticket, task) = match job {
            Job::Read { shard, ticket, task } => (shard, ticket, task),
            Job::Index(task) => return task.run(),
        };
        let answer = match *task {
            Task::History(plan) => {
                let top = plan.top;
                match plan.run() {
                    Ok(LogRead { records, top, since_is_kept }) => {
                        Ok(Answer::History(HistoryRead { records, top, since_is_kept }))
                    }
                    Err(ReadError::Missing) => {
                        self.stats.refuse(LogRefusal::Missing);
                        Err(BrokerError::Missing(top))
                    }
                    Err(ReadError::Io(reason)) => Err(self.failed(reason)),
                }
            }
            Task::Query(plan) => match plan.run() {
                Ok(mut page) => {
                    // Here, since a page is large, and the lane thread has publications to write.
                    page.publications.iter_mut().for_each(|found| check(&mut found.record));
                    // Without a lane thread nothing waits for the page.
                    _ = self.queried.send(Queried { shard, ticket, page });
                    return;
                }
                Err(ReadError::Missing) => Err(self.failed("an index names what is not there".to_owned())),
                Err(ReadError::Io(reason)) => Err(self.failed(reason)),
            },
        };
        self.ports[shard.index()].push(Event::Answer { ticket, answer });
    }

    fn failed(&self, reason: String) -> BrokerError {
        self.stats.refuse(LogRefusal::ReadFailed);
        log::error!("durable log {}: a read failed: {reason}; its client gets error 100", self.stats.name);
        BrokerError::Refused(reason.into())
    }
}
