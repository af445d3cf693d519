//! A file table for each shard (`Machine::own_file_tables`). The only callers of the `unsafe` functions of `sys`.
//!
//! A table begins as a copy of the process's table. So that a descriptor is closed when its owner closes it, each shard
//! closes its copies of foreign descriptors (the polls and listeners of other shards, and those of the control thread),
//! and when all shards have unshared, the process's table closes its copies of the shards' descriptors. Wakers stay
//! open in all tables: every shard wakes every other.
//!
//! Why this is sound: `threads::start` makes every poll, waker and listener before it starts the threads. A shard
//! accepts its own sockets and keeps them in its `Shard`, which never leaves the thread. Later only mail crosses
//! between shards, and commands come from the control thread: both are types of the app, and `Machine::own_file_tables`
//! requires that they contain no descriptors.

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::Poll;

use super::listener::{ListenSockets, ShardListeners};
use crate::sys::{close_copy, own_file_table};

/// A shard, and what the kernel answered.
type Unshared = (usize, io::Result<()>);

/// What the thread that starts the shards knows of the descriptors.
pub(crate) struct FdTables {
    /// By shard: its poll and its listeners.
    owned: Arc<[Vec<RawFd>]>,
    /// Of no shard.
    private: Arc<[RawFd]>,
    results: (Sender<Unshared>, Receiver<Unshared>),
}

/// What one shard needs to leave the common table.
pub(crate) struct Unshare {
    shard: usize,
    owned: Arc<[Vec<RawFd>]>,
    private: Arc<[RawFd]>,
    result: Sender<Unshared>,
}

impl FdTables {
    /// `kept` and `private` stay the control thread's alone.
    pub(crate) fn new(
        polls: &[(Poll, Arc<mio::Waker>)],
        listeners: &[ShardListeners],
        kept: &ListenSockets,
        private: &[RawFd],
    ) -> Self {
        let number = |socket: &OwnedFd| socket.as_raw_fd();
        let of_shard = |((poll, _), listeners): (&(Poll, _), &ShardListeners)| {
            let listeners = listeners.iter().map(|(socket, _)| number(socket));
            listeners.chain([poll.as_raw_fd()]).collect()
        };
        let kept = kept.iter().flat_map(|(_, sockets)| sockets.iter().map(number));
        Self {
            owned: polls.iter().zip(listeners).map(of_shard).collect(),
            private: kept.chain(private.iter().copied()).collect(),
            results: channel(),
        }
    }

    pub(crate) fn unshare(&self, shard: usize) -> Unshare {
        let (owned, private) = (Arc::clone(&self.owned), Arc::clone(&self.private));
        Unshare { shard, owned, private, result: self.results.0.clone() }
    }

    /// Waits until all shards have tables of their own, and gives up the copies of what is theirs. Returns what the operator
    /// must know: a shard that the kernel refused a table stays in the common one, with its descriptors.
    pub(crate) fn close_shard_copies(self, shards: usize) -> Option<String> {
        let mut refused = None;
        for (shard, result) in self.results.1.iter().take(shards) {
            match result {
                Ok(()) => self.owned[shard].iter().for_each(|&number| {
                    // SAFETY: the shard has moved its poll and listeners into its thread, which has a table of its own now.
                    // The thread that starts the shards has given them away and knows only their numbers.
                    unsafe { close_copy(number) }
                }),
                Err(error) => refused = Some(error),
            }
        }
        refused.map(|error| format!("machine.own_file_tables: the kernel refused a file table for each shard: {error}"))
    }
}

impl Unshare {
    /// For the shard's thread, before it opens anything.
    pub(crate) fn run(self) {
        // SAFETY: the thread has opened nothing yet. What it owns (poll, listeners) and what it uses of others (wakers) was
        // opened before the thread began, and no descriptor crosses later: see the head of this file.
        let result = unsafe { own_file_table() };
        if result.is_ok() {
            let mine: HashSet<RawFd> = self.owned[self.shard].iter().copied().collect();
            let all = self.owned.iter().flatten().chain(&*self.private);
            all.filter(|number| !mine.contains(number)).for_each(|&number| {
                // SAFETY: this table is separate since the call above. The number belongs to another shard, or to the control
                // thread, and nothing that this thread was given contains it.
                unsafe { close_copy(number) }
            });
        }
        // The thread that starts the shards waits for it. If that thread has ended, so does the process.
        let _ = self.result.send((self.shard, result));
    }
}
