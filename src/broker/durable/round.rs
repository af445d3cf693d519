//! One turn of a lane thread: requests are staged, written, synced if a `strict` one is among them, and answered.
//!
//! The order matters. Publications of one channel are answered in the order of their offsets, since its durability is that of its
//! namespace: all of them wait for the sync, or none. Reads come last: what was written before them is in their files.

use std::time::Instant;

use super::driver::Driver;
use super::fallback::record_of;
use super::queries;
use super::reader::{Job, Task};
use super::stats::LogRefusal;
use crate::broker::clock::now_ms;
use crate::broker::message::{
    Answer, BrokerError, Durability, HistoryRead, LogFields, PublishRequest, Published, Request, RequestKind, Ticket,
};
use crate::broker::query::LogQuery;
use crate::durable::{Files, LaneError, NewPublication, RefuseReason, Staged};
use crate::ids::ShardId;
use crate::pubsub::{HistoryFilter, HistoryOptions, TimeRange};

/// Publications of one write.
const WRITE_REQUESTS_MAX: usize = 4096;
/// Bytes of the requests of one turn, the reads among them.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// What a turn has staged, and what waits for it.
#[derive(Default)]
struct Round {
    publications: Vec<Pending>,
    removals: Vec<(ShardId, Ticket)>,
    reads: Vec<Read>,
    queries: Vec<(ShardId, Ticket, Box<LogQuery>)>,
    bytes: usize,
}

/// A publication that is staged.
struct Pending {
    from: ShardId,
    ticket: Ticket,
    channel: Box<str>,
    publish: Box<PublishRequest>,
    staged: Staged,
    durability: Durability,
}

struct Read {
    from: ShardId,
    ticket: Ticket,
    channel: Box<str>,
    filter: HistoryFilter,
    range: TimeRange,
    options: HistoryOptions,
}

/// Carries out requests, in as many writes as they need.
pub(super) fn carry_out<F: Files>(driver: &mut Driver<F>, requests: impl Iterator<Item = Request>) {
    let mut round = Round::default();
    for request in requests {
        round.bytes += request.bytes();
        take(driver, &mut round, request);
        if round.publications.len() >= WRITE_REQUESTS_MAX || round.bytes >= WRITE_BYTES_MAX {
            finish(driver, std::mem::take(&mut round));
        }
    }
    finish(driver, round);
}

fn take<F: Files>(driver: &mut Driver<F>, round: &mut Round, request: Request) {
    let Request { from, channel, kind } = request;
    match kind {
        RequestKind::Publish { ticket, publish } => stage(driver, round, (from, ticket), channel, publish),
        RequestKind::Subscribe(serial) => driver.shards.subscribe(from, channel, serial),
        RequestKind::Unsubscribe => driver.shards.unsubscribe(from, &channel),
        RequestKind::History { ticket, filter, range, options } => {
            round.reads.push(Read { from, ticket, channel, filter, range, options });
        }
        RequestKind::HistoryRemove { ticket } => remove(driver, round, (from, ticket), &channel),
        RequestKind::Query { ticket, query } => round.queries.push((from, ticket, query)),
        RequestKind::Presence { ticket } | RequestKind::PresenceStats { ticket } => {
            driver.shards.answer(from, ticket, Err(BrokerError::NotSupported));
        }
        // The home shard has the presence of durable channels.
        RequestKind::JoinLeave { .. } | RequestKind::PresenceSet { .. } | RequestKind::PresenceRemove { .. } => {}
    }
}

fn stage<F: Files>(
    driver: &mut Driver<F>,
    round: &mut Round,
    (from, ticket): (ShardId, Ticket),
    channel: Box<str>,
    publish: Box<PublishRequest>,
) {
    let now = now_ms();
    let durability = publish.log.as_ref().map_or(Durability::Process, |log| log.durability);
    if durability == Durability::Process && driver.fallback.is_some() {
        return publish_in_memory(driver, (from, ticket), &channel, &publish);
    }
    let (user, tag) = match publish.log.as_deref() {
        Some(LogFields { user, tag, .. }) => (&**user, &**tag),
        None => ("", ""),
    };
    let publication = NewPublication {
        data: &publish.data,
        client_info: &publish.client_info,
        tags: &publish.tags,
        user,
        tag,
        version: publish.version,
        version_epoch: &publish.version_epoch,
        idempotency_key: &publish.idempotency_key,
        history: publish.history,
        durability,
    };
    match driver.lane.publish(&channel, &publication, now) {
        Ok(staged) => round.publications.push(Pending { from, ticket, channel, publish, staged, durability }),
        Err(reason) => refuse(driver, (from, ticket), reason),
    }
}

fn refuse<F: Files>(driver: &mut Driver<F>, (from, ticket): (ShardId, Ticket), reason: RefuseReason) {
    driver.stats.refuse(match reason {
        RefuseReason::DiskFull => LogRefusal::DiskFull,
        RefuseReason::TooLarge => LogRefusal::TooLarge,
        RefuseReason::Failed => LogRefusal::Failed,
    });
    driver.shards.answer(from, ticket, Err(BrokerError::Refused(reason.to_string().into())));
}

fn remove<F: Files>(driver: &mut Driver<F>, round: &mut Round, (from, ticket): (ShardId, Ticket), channel: &str) {
    if let Some(fallback) = driver.fallback.as_mut().filter(|fallback| fallback.has(channel)) {
        fallback.remove_history(channel);
        return driver.shards.answer(from, ticket, Ok(Answer::HistoryRemoved));
    }
    match driver.lane.remove_history(channel, now_ms()) {
        Ok(()) => round.removals.push((from, ticket)),
        Err(reason) => refuse(driver, (from, ticket), reason),
    }
}

/// Writes and syncs what is staged, and answers.
fn finish<F: Files>(driver: &mut Driver<F>, round: Round) {
    let Round { publications, removals, reads, queries, .. } = round;
    if !publications.is_empty() || !removals.is_empty() {
        write(driver, publications, removals);
    }
    reads.into_iter().for_each(|one| read(driver, one));
    for (from, ticket, query) in queries {
        queries::begin(driver, (from, ticket), &query);
    }
    driver.shards.flush();
}

fn write<F: Files>(driver: &mut Driver<F>, publications: Vec<Pending>, removals: Vec<(ShardId, Ticket)>) {
    let (strict, process): (Vec<_>, Vec<_>) =
        publications.into_iter().partition(|one| one.durability == Durability::Strict);
    let began = Instant::now();
    if let Err(error) = driver.lane.commit() {
        // What was written of another class can be read: it must not be lost later.
        let error = driver.sync().err().unwrap_or(error);
        return failed(driver, process.into_iter().chain(strict), removals, &error);
    }
    driver.stats.written(strict.len() + process.len(), began.elapsed());
    driver.wrote();
    process.into_iter().for_each(|one| made(driver, one));
    if strict.is_empty() && removals.is_empty() {
        return;
    }
    // `process` ones are on their way while the disk syncs.
    driver.shards.flush();
    if let Err(error) = driver.sync() {
        return failed(driver, strict.into_iter(), removals, &error);
    }
    strict.into_iter().for_each(|one| made(driver, one));
    for (from, ticket) in removals {
        driver.shards.answer(from, ticket, Ok(Answer::HistoryRemoved));
    }
}

/// A publication is kept.
fn made<F: Files>(driver: &mut Driver<F>, one: Pending) {
    let Pending { from, ticket, channel, publish, staged: Staged { position, time, is_suppressed }, .. } = one;
    if !is_suppressed {
        let offset = position.map_or(0, |position| position.offset);
        driver.shards.deliver(&channel, position, || record_of(&publish, offset, time));
    }
    driver.shards.answer(from, ticket, Ok(Answer::Published(Published { position, is_suppressed })));
}

/// What was staged is not kept.
fn failed<F: Files>(
    driver: &mut Driver<F>,
    publications: impl Iterator<Item = Pending>,
    removals: Vec<(ShardId, Ticket)>,
    error: &LaneError,
) {
    driver.disk_failed(error);
    let reason = if matches!(error, LaneError::DiskFull) { LogRefusal::DiskFull } else { LogRefusal::Failed };
    let tickets = publications.map(|one| (one.from, one.ticket)).chain(removals);
    for (from, ticket) in tickets {
        driver.stats.refuse(reason);
        driver.shards.answer(from, ticket, Err(BrokerError::Refused(error.to_string().into())));
    }
}

fn read<F: Files>(driver: &mut Driver<F>, read: Read) {
    let Read { from, ticket, channel, filter, range, options } = read;
    let now = now_ms();
    if let Some(fallback) = driver.fallback.as_mut().filter(|fallback| fallback.has(&channel)) {
        let found = fallback.history(&channel, (filter, range), &options, now);
        return driver.shards.answer(from, ticket, Ok(Answer::History(found)));
    }
    let plan = driver.lane.plan_read(&channel, filter, range, &options, now);
    // A recovery at the top, or a question for the position.
    if plan.is_empty() {
        let read = HistoryRead { records: Vec::new(), top: plan.top, since_is_kept: plan.since_is_kept };
        return driver.shards.answer(from, ticket, Ok(Answer::History(read)));
    }
    if driver.reader.read(Job::Read { shard: from, ticket, task: Box::new(Task::History(plan)) }).is_err() {
        driver.stats.refuse(LogRefusal::ReadsFull);
        driver.shards.answer(from, ticket, Err(BrokerError::Unavailable));
    }
}

fn publish_in_memory<F: Files>(
    driver: &mut Driver<F>,
    (from, ticket): (ShardId, Ticket),
    channel: &str,
    publish: &PublishRequest,
) {
    let Some(fallback) = &mut driver.fallback else { return };
    let (published, record) = fallback.publish(channel, publish, now_ms());
    if !published.is_suppressed {
        driver.shards.deliver(channel, published.position, || record);
    }
    crate::broker::stats::add(&driver.stats.in_memory, 1);
    driver.shards.answer(from, ticket, Ok(Answer::Published(published)));
}
