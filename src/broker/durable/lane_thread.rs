//! The loop of a lane thread, and what is due in it: the sync of `process` channels, and the maintenance of the files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::fallback::Fallback;
use super::queries;
use super::reader::{Queried, Reader};
use super::shards::{RETRY, Shards};
use super::stats::{LaneStats, LogState};
use super::{Command, LogOptions, Source, ThreadArgs, now_ms, open_error, open_lane, round};
use crate::broker::message::{BrokerError, Request};
use crate::broker::port::RequestQueue;
use crate::durable::{Files, Lane, LaneError, LockError, OpenError};

/// Requests that are taken at once.
const REQUESTS_ENOUGH: usize = 4096;
/// How soon a directory that another process has is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// Between two maintenances: after a write, and without one.
const MAINTENANCE: Duration = Duration::from_secs(1);
const IDLE_MAINTENANCE: Duration = Duration::from_secs(60);
/// An error that may come with every write is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// An open lane with all that it works on.
pub(super) struct Driver<F: Files> {
    pub(super) lane: Lane<F>,
    pub(super) reader: Reader<F>,
    pub(super) shards: Shards,
    pub(super) fallback: Option<Box<Fallback>>,
    pub(super) options: LogOptions,
    pub(super) stats: Arc<LaneStats>,
    /// When the oldest write has to be synced.
    sync_at: Option<Instant>,
    maintain_at: Instant,
    logged: Option<Instant>,
}

/// Why a lane is not served any more.
enum End {
    /// The shards have ended.
    Finished,
    /// Another process gets the log.
    Closed,
}

/// Serves requests until every sender of them is gone. It runs on the runtime of `thread::spawn`. `files` makes the directory
/// again whenever it is opened.
pub(crate) async fn run<F: Files>(args: ThreadArgs<F>, files: impl Fn() -> std::io::Result<F>) {
    let ThreadArgs { source, options, mut requests, events, reader_events, mut commands, stats } = args;
    let mut shards = Shards::new(events);
    let name = format!("log reader {}", options.lane.lane);
    let (queried_sender, mut queried) = mpsc::unbounded_channel();
    let mut reader = match Reader::start(&name, reader_events, queried_sender, Arc::clone(&stats)) {
        Ok(reader) => reader,
        Err(error) => {
            stats.set_state(LogState::Failed, "the reader thread does not start");
            log::error!("durable log {}: its reader thread does not start: {error}; its channels fail", options.name);
            return;
        }
    };
    let mut lane = match source {
        Source::Open(lane) => Some(*lane),
        Source::Awaited => None,
    };
    loop {
        let lane = match lane.take() {
            Some(lane) => lane,
            None => match wait_for_lock(&files, &options, &stats, &requests).await {
                Some(lane) => lane,
                None => break,
            },
        };
        let mut driver = Driver {
            lane,
            reader,
            shards,
            fallback: None,
            options: options.clone(),
            stats: Arc::clone(&stats),
            sync_at: None,
            maintain_at: Instant::now() + MAINTENANCE,
            logged: None,
        };
        let (end, asked) = driver.serve(&mut requests, &mut commands, &mut queried).await;
        let Driver { lane, reader: own_reader, shards: own_shards, .. } = driver;
        (reader, shards) = (own_reader, own_shards);
        let closed = lane.close(now_ms()).map_err(|error| error.to_string());
        report_close(&options.name, &closed);
        stats.set_state(LogState::Closed, "");
        // What was asked before is answered before another process has the log.
        while asked.is_some() && shards.needs_flush() {
            shards.flush();
            tokio::time::sleep(RETRY).await;
        }
        if let Some(asked) = asked {
            _ = asked.send(closed);
        }
        match end {
            End::Finished => break,
            End::Closed if !wait_to_open(&mut commands, &requests, &mut queried, &mut shards).await => break,
            End::Closed => {}
        }
    }
    shards.flush();
    reader.join();
}

fn report_close(dir: &str, closed: &Result<(), String>) {
    match closed {
        Ok(()) => log::info!("durable log {dir}: closed"),
        Err(error) => log::error!(
            "durable log {dir}: it could not be closed in order: {error}; the next start reads it as after a crash"
        ),
    }
}

/// Opens the lane as soon as no other process has it. `None`: the shards have ended.
async fn wait_for_lock<F: Files>(
    files: &impl Fn() -> std::io::Result<F>,
    options: &LogOptions,
    stats: &LaneStats,
    requests: &RequestQueue,
) -> Option<Lane<F>> {
    let mut is_logged = false;
    loop {
        let opened = match files() {
            Ok(files) => open_lane(files, options, stats),
            Err(error) => Err(OpenError::Io { file: options.name.to_string(), error }),
        };
        match opened {
            Ok(lane) => return Some(lane),
            Err(OpenError::Lock(LockError::Held(_))) => {}
            Err(error) if !is_logged => {
                is_logged = true;
                let what = open_error(&options.name, &error);
                stats.set_state(LogState::Failed, &what);
                log::error!("{what}\n  Its channels wait until it can be opened.");
            }
            Err(_) => {}
        }
        if requests.is_closed() {
            return None;
        }
        tokio::time::sleep(if is_logged { MAINTENANCE } else { LOCK_RETRY }).await;
    }
}

/// The log is another process'. False: the shards have ended.
async fn wait_to_open(
    commands: &mut mpsc::UnboundedReceiver<Command>,
    requests: &RequestQueue,
    queried: &mut mpsc::UnboundedReceiver<Queried>,
    shards: &mut Shards,
) -> bool {
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Open(answer)) => {
                    _ = answer.send(());
                    return true;
                }
                Some(Command::Close(answer)) => _ = answer.send(Ok(())),
                None => return false,
            },
            // What a query has found may not be there any more.
            Some(Queried { shard, ticket, .. }) = queried.recv() => {
                shards.answer(shard, ticket, Err(BrokerError::Unavailable));
                shards.flush();
            }
            () = tokio::time::sleep(MAINTENANCE) => {
                if requests.is_closed() {
                    return false;
                }
            }
        }
    }
}

impl<F: Files> Driver<F> {
    async fn serve(
        &mut self,
        requests: &mut RequestQueue,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        queried: &mut mpsc::UnboundedReceiver<Queried>,
    ) -> (End, Option<tokio::sync::oneshot::Sender<Result<(), String>>>) {
        let mut taken: Vec<Request> = Vec::new();
        let mut is_commanded = true;
        self.stats.update(&self.lane);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                command = commands.recv(), if is_commanded => match command {
                    Some(Command::Close(answer)) => {
                        // What waits was asked before.
                        let waiting = requests.take_waiting();
                        round::carry_out(self, waiting.into_iter());
                        return (End::Closed, Some(answer));
                    }
                    Some(Command::Open(answer)) => _ = answer.send(()),
                    None => is_commanded = false,
                },
                count = requests.receive(&mut taken, REQUESTS_ENOUGH) => {
                    if count == 0 {
                        return (End::Finished, None);
                    }
                    round::carry_out(self, taken.drain(..));
                }
                Some(found) = queried.recv() => queries::answer(self, found),
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            self.do_what_is_due();
        }
    }

    /// When something is due.
    fn wake_at(&self) -> Instant {
        let flush_at = self.shards.needs_flush().then(|| Instant::now() + RETRY);
        [self.sync_at, flush_at].into_iter().flatten().fold(self.maintain_at, Instant::min)
    }

    fn do_what_is_due(&mut self) {
        if self.shards.needs_flush() {
            self.shards.flush();
        }
        let now = Instant::now();
        if self.sync_at.is_some_and(|at| at <= now)
            && let Err(error) = self.sync()
        {
            self.disk_failed(&error);
        }
        if self.maintain_at <= now {
            self.maintain();
        }
    }

    /// Something was written: it is synced in time.
    pub(super) fn wrote(&mut self) {
        let now = Instant::now();
        if self.sync_at.is_none() {
            self.sync_at = Some(now + self.options.sync_interval);
            self.stats.set_unsynced_since(now_ms());
        }
        self.maintain_at = self.maintain_at.min(now + MAINTENANCE);
    }

    pub(super) fn sync(&mut self) -> Result<(), LaneError> {
        let began = Instant::now();
        self.sync_at = None;
        let result = self.lane.sync();
        self.stats.sync_time.record(began.elapsed());
        if result.is_ok() {
            self.stats.set_unsynced_since(0);
        }
        result
    }

    fn maintain(&mut self) {
        let again = match self.lane.maintain(now_ms()) {
            Ok(has_more) => has_more,
            Err(error) => {
                self.disk_failed(&error);
                false
            }
        };
        self.stats.update(&self.lane);
        let pause = match (again, self.sync_at) {
            (true, _) => Duration::ZERO,
            (false, Some(_)) => MAINTENANCE,
            (false, None) => IDLE_MAINTENANCE,
        };
        self.maintain_at = Instant::now() + pause;
    }

    /// For errors that may come with every write.
    pub(super) fn may_log(&mut self) -> bool {
        let may = self.logged.is_none_or(|at| at.elapsed() > LOG_INTERVAL);
        if may {
            self.logged = Some(Instant::now());
        }
        may
    }
}
