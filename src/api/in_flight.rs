//! Bounds how many publications are in flight: a few for each call, and for all calls together fewer than a shard's mailbox
//! takes. A busy shard therefore makes callers wait instead of having their calls rejected.
//!
//! Invariant: a call that waits for a permit holds none, so that calls never wait for each other in a circle.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::shard_api::{ApiError, ApiResult};
use crate::engine::control_port::COMMANDS_MAX;

/// Publications that one call has in flight.
const PER_CALL_MAX: usize = 64;
/// Publications that all calls of one front-end have in flight; past it they wait. There are two front-ends, and other
/// senders of orders.
const PER_FRONT_END_MAX: usize = COMMANDS_MAX / 4;
/// How long a call waits for a permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(PER_CALL_MAX <= PER_FRONT_END_MAX && 2 * PER_FRONT_END_MAX < COMMANDS_MAX);

/// The permits of one front-end: one for each publication in flight.
pub(crate) struct Permits(Semaphore);

pub(crate) type Permit<'a> = SemaphorePermit<'a>;

impl Default for Permits {
    fn default() -> Self {
        Self(Semaphore::new(PER_FRONT_END_MAX))
    }
}

impl Permits {
    /// For callers that hold no permit. Errors: none was free in time.
    pub(crate) async fn acquire(&self) -> ApiResult<Permit<'_>> {
        if let Ok(permit) = self.0.try_acquire() {
            return Ok(permit);
        }
        timeout(PERMIT_TIMEOUT, self.0.acquire()).await.ok().and_then(Result::ok).ok_or(ApiError::TooManyRequests)
    }
}

/// What one call has in flight, and its results so far, in the order of the call.
pub(crate) struct Window<W, T> {
    in_flight: VecDeque<W>,
    results: Vec<T>,
}

impl<T, W: Future<Output = T>> Window<W, T> {
    pub(crate) fn new(parts: usize) -> Self {
        Self { in_flight: VecDeque::with_capacity(parts.min(PER_CALL_MAX)), results: Vec::with_capacity(parts) }
    }

    /// A permit for one more part. If none is free, first finishes the parts in flight, which hold permits.
    pub(crate) async fn acquire<'a>(&mut self, permits: &'a Permits) -> ApiResult<Permit<'a>> {
        if let Ok(permit) = permits.0.try_acquire() {
            return Ok(permit);
        }
        self.drain().await;
        permits.acquire().await
    }

    /// Adds a part that has begun. If the window is full, waits for the oldest part first.
    pub(crate) async fn push(&mut self, begun: W) {
        if self.in_flight.len() == PER_CALL_MAX
            && let Some(first) = self.in_flight.pop_front()
        {
            self.results.push(first.await);
        }
        self.in_flight.push_back(begun);
    }

    /// Waits for everything in flight.
    pub(crate) async fn drain(&mut self) {
        while let Some(first) = self.in_flight.pop_front() {
            self.results.push(first.await);
        }
    }

    pub(crate) async fn finish(mut self) -> Vec<T> {
        self.drain().await;
        self.results
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll_once<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn call_finishes_its_own_parts_before_it_waits_for_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let entered = runtime.enter();
        let permits = Permits::default();
        let mut others: Vec<_> = (1..PER_FRONT_END_MAX).map(|_| permits.0.try_acquire().unwrap()).collect();
        let mut call = Box::pin(async {
            let mut window = Window::new(3);
            for number in 0..3 {
                let permit = window.acquire(&permits).await.unwrap();
                window.push(async move { (number, drop(permit)).0 }).await;
            }
            window.finish().await
        });
        assert_eq!(poll_once(&mut call), Poll::Ready(vec![0, 1, 2]), "one permit is enough");

        others.push(permits.0.try_acquire().unwrap());
        let mut waiting = Box::pin(permits.acquire());
        assert!(poll_once(&mut waiting).is_pending());
        others.pop();
        assert!(matches!(poll_once(&mut waiting), Poll::Ready(Ok(_))));
        drop(entered);
    }
}
