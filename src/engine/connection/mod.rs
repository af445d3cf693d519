//! One connection: its states, reading, the upgrade, frames, writing, closing, and its backlog.

pub(crate) mod backlog;
pub(crate) mod close;
pub(crate) mod frames;
pub(crate) mod read;
pub(crate) mod request;
pub(crate) mod slow_consumer;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod upgrade;
pub(crate) mod write;
