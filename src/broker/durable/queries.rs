//! Queries over the past: planned by the lane thread, read by the reader thread, and answered by the lane thread without what
//! the channels do not have any more.

use super::driver::Driver;
use super::reader::{Job, Queried, Task};
use super::stats::LogRefusal;
use crate::broker::clock::now_ms;
use crate::broker::message::{Answer, BrokerError, Ticket};
use crate::broker::query::{LogQuery, QueryKey, QueryPage, QueryRefusal};
use crate::durable::{Files, Query, QueryBy};
use crate::ids::ShardId;

/// Begins a query. Nothing is staged, and nothing `Strict` is unsynced.
pub(super) fn begin<F: Files>(driver: &mut Driver<F>, (shard, ticket): (ShardId, Ticket), query: &LogQuery) {
    let LogQuery { by, range, limit, bytes_max, reverse, cursor, accepts, .. } = query;
    let by = match by {
        QueryKey::User(user) => QueryBy::User(user),
        QueryKey::Tag { value, .. } => QueryBy::Tag(value),
    };
    let query = Query {
        by,
        range: *range,
        limit: *limit as usize,
        bytes_max: *bytes_max,
        reverse: *reverse,
        cursor,
        accepts: accepts.clone(),
    };
    let Ok(plan) = driver.lane.plan_query(&query) else {
        return driver.shards.answer(shard, ticket, Ok(Answer::Query(Err(QueryRefusal::BadCursor))));
    };
    if driver.reader.read(Job::Read { shard, ticket, task: Box::new(Task::Query(plan)) }).is_err() {
        driver.stats.refuse(LogRefusal::ReadsFull);
        driver.shards.answer(shard, ticket, Err(BrokerError::Unavailable));
    }
}

/// A page was read.
pub(super) fn answer<F: Files>(driver: &mut Driver<F>, queried: Queried) {
    let Queried { shard, ticket, mut page } = queried;
    driver.lane.keep_visible(&mut page, now_ms());
    if page.unreadable > 0 && driver.may_log() {
        let (dir, count) = (driver.options.name.clone(), page.unreadable);
        log::error!("durable log {dir}: {count} publications cannot be read; a query goes on without them");
    }
    let publications = page.publications.into_iter().map(|found| (found.channel, found.record)).collect();
    driver.shards.answer(shard, ticket, Ok(Answer::Query(Ok(QueryPage { publications, cursor: page.cursor }))));
    driver.shards.flush();
}
