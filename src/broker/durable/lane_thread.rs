//! The loop of a lane thread: it opens the lane, serves it, and closes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::driver::Driver;
use super::handle::Command;
use super::opening::{LogOptions, open_error, open_lane};
use super::queries;
use super::reader::{Queried, Reader};
use super::round;
use super::shards::{RETRY, Shards};
use super::stats::{LaneStats, LogState};
use crate::broker::clock::now_ms;
use crate::broker::message::{BrokerError, Request};
use crate::broker::port::{EventPort, RequestQueue};
use crate::durable::{Files, Lane, LockError, OpenError};

/// Requests that are taken at once.
const REQUESTS_ENOUGH: usize = 4096;
/// How soon a directory that another process has is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// How soon it is looked again whether the shards have ended, or a directory can be opened.
const POLL: Duration = Duration::from_secs(1);

/// What one lane thread works with.
pub(crate) struct ThreadArgs<F: Files> {
    pub(crate) source: Source<F>,
    pub(crate) options: LogOptions,
    pub(crate) requests: RequestQueue,
    /// By `ShardId`: those of the lane thread and those of the reader thread.
    pub(crate) events: Vec<EventPort>,
    pub(crate) reader_events: Vec<EventPort>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) stats: Arc<LaneStats>,
}

/// The lane of a thread.
pub(crate) enum Source<F: Files> {
    Open(Box<Lane<F>>),
    /// Another process has it, and gives it away: it is opened when its lock is free.
    Awaited,
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
        let mut driver = Driver::new(lane, reader, shards, &options, &stats);
        let asked = serve(&mut driver, &mut requests, &mut commands, &mut queried).await;
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
        let Some(asked) = asked else { break };
        // Who asked may have gone.
        _ = asked.send(closed);
        if !wait_to_open(&mut commands, &requests, &mut queried, &mut shards).await {
            break;
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
            Err(error) => {
                let what = open_error(&options.name, &error);
                stats.set_state(LogState::Failed, &what);
                if !std::mem::replace(&mut is_logged, true) {
                    log::error!("{what}\n  Its channels wait until it can be opened.");
                }
            }
        }
        if requests.is_closed() {
            return None;
        }
        tokio::time::sleep(if is_logged { POLL } else { LOCK_RETRY }).await;
    }
}

/// Waits while another process has the log. False: the shards have ended.
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
            () = tokio::time::sleep(POLL) => {
                if requests.is_closed() {
                    return false;
                }
            }
        }
    }
}

/// Serves requests while the lane is open. Returns the sender of the close command; `None` if the shards have ended.
async fn serve<F: Files>(
    driver: &mut Driver<F>,
    requests: &mut RequestQueue,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    queried: &mut mpsc::UnboundedReceiver<Queried>,
) -> Option<oneshot::Sender<Result<(), String>>> {
    let mut taken: Vec<Request> = Vec::new();
    let mut is_commanded = true;
    loop {
        let wake_at = driver.wake_at();
        tokio::select! {
            biased;
            command = commands.recv(), if is_commanded => match command {
                Some(Command::Close(answer)) => {
                    // What waits was asked before.
                    let waiting = requests.take_waiting();
                    round::carry_out(driver, waiting.into_iter());
                    return Some(answer);
                }
                Some(Command::Open(answer)) => _ = answer.send(()),
                None => is_commanded = false,
            },
            // Those are few, and requests may come without a pause.
            Some(found) = queried.recv() => queries::answer(driver, found),
            count = requests.receive(&mut taken, REQUESTS_ENOUGH) => {
                if count == 0 {
                    return None;
                }
                round::carry_out(driver, taken.drain(..));
            }
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
        driver.do_what_is_due();
    }
}
