//! A lane: the log of the channels of one directory, written by one thread.

use std::marker::PhantomData;

use super::files::Files;
use super::types::*;
use crate::pubsub::{HistoryFilter, HistoryOptions, Position, TimeRange};

/// All calls come from one thread; times are milliseconds since 1970.
pub struct Lane<F: Files> {
    _lock: F::Lock,
}

/// A read whose files are known. It runs on any thread.
pub struct ReadPlan<F: Files> {
    files: PhantomData<F>,
}

impl<F: Files> Lane<F> {
    pub fn open(files: F, _options: LaneOptions, _now: u64) -> Result<(Self, OpenReport), OpenError> {
        let lock = files.lock().map_err(OpenError::Lock)?;
        Ok((Self { _lock: lock }, OpenReport::default()))
    }

    /// Takes a publication, which `commit` writes. If its durability is `Strict`, it is kept after `sync`.
    pub fn publish(
        &mut self,
        _channel: &str,
        _publication: &NewPublication<'_>,
        _now: u64,
    ) -> Result<Staged, RefuseReason> {
        Err(RefuseReason::Failed)
    }

    /// Drops the publications and keeps the position. Kept after `commit` and `sync` as a publication is.
    pub fn remove_history(&mut self, _channel: &str, _options: &HistoryOptions, _now: u64) -> Result<(), RefuseReason> {
        Err(RefuseReason::Failed)
    }

    /// The position of a channel, and a use of it. Called when nothing is staged.
    pub fn position(&mut self, _channel: &str, _options: &HistoryOptions, _now: u64) -> Position {
        Position::default()
    }

    /// Writes what is staged.
    pub fn commit(&mut self) -> Result<(), LaneError> {
        Ok(())
    }

    /// Syncs what is written.
    pub fn sync(&mut self) -> Result<(), LaneError> {
        Ok(())
    }

    /// Finds the files that hold a part of the history, without reading them. Called when nothing is staged, and nothing `Strict`
    /// is unsynced.
    pub fn plan_read(
        &mut self,
        _channel: &str,
        _filter: HistoryFilter,
        _range: TimeRange,
        _options: &HistoryOptions,
        _now: u64,
    ) -> ReadPlan<F> {
        ReadPlan { files: PhantomData }
    }

    /// Seals, removes, makes checkpoints. Returns true if there is more to do at once.
    pub fn maintain(&mut self, _now: u64) -> Result<bool, LaneError> {
        Ok(false)
    }

    /// Makes the log clean and unlocks it.
    pub fn close(self, _now: u64) -> Result<(), LaneError> {
        Ok(())
    }

    pub fn health(&self) -> LaneHealth {
        LaneHealth::default()
    }

    pub fn stats(&self) -> LaneStats {
        LaneStats::default()
    }
}

impl<F: Files> ReadPlan<F> {
    pub fn run(self) -> Result<LogRead, ReadError> {
        let _ = self.files;
        Err(ReadError::Missing)
    }
}
