//! A file table for each shard (`Machine::own_file_tables`).
//!
//! A table begins as a copy of the process's. So that a descriptor ends when its owner closes it, each shard closes its copies
//! of what is not its own (other shards' polls and listeners, what only the control thread uses), and when all have parted
//! the process's table gives up its copies of what is theirs. Wakers stay open in all of them: everybody wakes everybody.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::Poll;

use super::listener::{Listeners, Sockets};
use crate::sys::{close_copy, own_file_table};

/// A shard, and what the kernel said.
type Parted = (usize, io::Result<()>);

/// What the thread that starts the shards knows.
pub(crate) struct Tables {
    /// By shard: its poll and its listeners.
    owned: Arc<[Vec<RawFd>]>,
    /// Of no shard.
    private: Arc<[RawFd]>,
    told: (Sender<Parted>, Receiver<Parted>),
}

/// What one shard needs to leave the common table.
pub(crate) struct Parting {
    shard: usize,
    owned: Arc<[Vec<RawFd>]>,
    private: Arc<[RawFd]>,
    told: Sender<Parted>,
}

impl Tables {
    /// `kept` and `private` stay the control thread's alone.
    pub fn new(polls: &[(Poll, Arc<mio::Waker>)], listeners: &[Listeners], kept: &Sockets, private: &[RawFd]) -> Self {
        let number = |socket: &OwnedFd| socket.as_raw_fd();
        let of_shard = |((poll, _), listeners): (&(Poll, _), &Listeners)| {
            let listeners = listeners.iter().map(|(socket, _)| number(socket));
            listeners.chain([poll.as_raw_fd()]).collect()
        };
        let kept = kept.iter().flat_map(|(_, sockets)| sockets.iter().map(number));
        Self {
            owned: polls.iter().zip(listeners).map(of_shard).collect(),
            private: kept.chain(private.iter().copied()).collect(),
            told: channel(),
        }
    }

    pub fn parting(&self, shard: usize) -> Parting {
        let (owned, private) = (Arc::clone(&self.owned), Arc::clone(&self.private));
        Parting { shard, owned, private, told: self.told.0.clone() }
    }

    /// Waits until all shards have tables of their own, and gives up the copies of what is theirs. What the operator must know:
    /// a shard that the kernel refused a table stays in the common one, with its descriptors.
    pub fn part(self, shards: usize) -> Option<String> {
        let mut refused = None;
        for (shard, parted) in self.told.1.iter().take(shards) {
            match parted {
                Ok(()) => self.owned[shard].iter().for_each(|&number| close_copy(number)),
                Err(error) => refused = Some(error),
            }
        }
        refused.map(|error| format!("no file table for each shard, machine.own_file_tables: {error}"))
    }
}

impl Parting {
    /// For the shard's thread, before it opens anything.
    pub fn part(self) {
        let parted = own_file_table();
        if parted.is_ok() {
            let mine: HashSet<RawFd> = self.owned[self.shard].iter().copied().collect();
            let all = self.owned.iter().flatten().chain(&*self.private);
            all.filter(|number| !mine.contains(number)).for_each(|&number| close_copy(number));
        }
        // Whoever started us waits; is he gone, so is the process.
        let _ = self.told.send((self.shard, parted));
    }
}
