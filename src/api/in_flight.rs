//! How many publications are under way: a few of each call, and of all calls together no more than a shard's mailbox takes,
//! so that a busy shard makes backends wait and does not have them refused.
//!
//! Invariant: whoever waits for a place holds none, so that nobody waits for those who wait.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::shard_api::{AskError, Asked};
use crate::engine::control_port::ORDERS_MAX;

/// What one call has under way at a time.
const OPEN_MAX: usize = 64;
/// What all calls of one front-end have; past it they wait. There are two front-ends, and others who give orders.
const OPEN_MAX_IN_ALL: usize = ORDERS_MAX / 4;
/// How long a call waits for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(OPEN_MAX <= OPEN_MAX_IN_ALL && 2 * OPEN_MAX_IN_ALL < ORDERS_MAX);

pub struct Places(Semaphore);

pub type Place<'a> = SemaphorePermit<'a>;

impl Default for Places {
    fn default() -> Self {
        Self(Semaphore::new(OPEN_MAX_IN_ALL))
    }
}

impl Places {
    /// For callers that hold no place. Errors: there was none in time.
    pub async fn wait(&self) -> Asked<Place<'_>> {
        if let Ok(place) = self.0.try_acquire() {
            return Ok(place);
        }
        timeout(PLACE_TIMEOUT, self.0.acquire()).await.ok().and_then(Result::ok).ok_or(AskError::TooManyRequests)
    }
}

/// What one call has under way, and what came of it so far, in the order of the call.
pub struct Window<W, T> {
    open: VecDeque<W>,
    done: Vec<T>,
}

impl<T, W: Future<Output = T>> Window<W, T> {
    /// For a call with so many parts.
    pub fn new(parts: usize) -> Self {
        Self { open: VecDeque::with_capacity(parts.min(OPEN_MAX)), done: Vec::with_capacity(parts) }
    }

    /// A place for one more, before which others of this call may have to end.
    pub async fn place<'a>(&mut self, places: &'a Places) -> Asked<Place<'a>> {
        if let Ok(place) = places.0.try_acquire() {
            return Ok(place);
        }
        self.drain().await;
        places.wait().await
    }

    pub async fn push(&mut self, begun: W) {
        if self.open.len() == OPEN_MAX
            && let Some(first) = self.open.pop_front()
        {
            self.done.push(first.await);
        }
        self.open.push_back(begun);
    }

    /// Waits for all that is under way.
    pub async fn drain(&mut self) {
        while let Some(first) = self.open.pop_front() {
            self.done.push(first.await);
        }
    }

    pub async fn finish(mut self) -> Vec<T> {
        self.drain().await;
        self.done
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// One look at a future that nothing wakes.
    fn look<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_call_ends_what_it_has_before_it_waits_for_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let entered = runtime.enter();
        let places = Places::default();
        let mut others: Vec<_> = (1..OPEN_MAX_IN_ALL).map(|_| places.0.try_acquire().unwrap()).collect();
        let mut call = Box::pin(async {
            let mut window = Window::new(3);
            for number in 0..3 {
                let place = window.place(&places).await.unwrap();
                window.push(async move { (number, drop(place)).0 }).await;
            }
            window.finish().await
        });
        assert_eq!(look(&mut call), Poll::Ready(vec![0, 1, 2]), "one place is enough");

        others.push(places.0.try_acquire().unwrap());
        let mut waiting = Box::pin(places.wait());
        assert!(look(&mut waiting).is_pending());
        others.pop();
        assert!(matches!(look(&mut waiting), Poll::Ready(Ok(_))));
        drop(entered);
    }
}
