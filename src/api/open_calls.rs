//! The calls that the front-ends have begun and not answered, so that a shutdown answers them first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shared by all front-ends of a process.
#[derive(Clone, Default)]
pub struct OpenCalls(Arc<State>);

#[derive(Default)]
struct State {
    count: AtomicUsize,
    is_closed: AtomicBool,
}

/// A call from its begin to its reply.
#[derive(Default)]
pub struct OpenCall(Option<OpenCalls>);

impl OpenCalls {
    /// `None` after `close`: the call must be rejected.
    pub(crate) fn begin(&self) -> Option<OpenCall> {
        if self.0.is_closed.load(Ordering::Relaxed) {
            return None;
        }
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Some(OpenCall(Some(self.clone())))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// No call begins any more.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(calls) = &self.0 {
            calls.0.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_until_they_end_and_none_begins_after_the_close() {
        let calls = OpenCalls::default();
        let (first, second) = (calls.begin(), calls.clone().begin());
        calls.close();
        assert!(first.is_some() && second.is_some() && calls.begin().is_none());
        drop(first);
        assert_eq!(calls.count(), 1);
        drop(second);
        assert_eq!(calls.count(), 0);
        drop(OpenCall::default());
    }
}
