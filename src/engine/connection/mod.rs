//! One connection: its state table, reading, the upgrade and its frames, closing, slow consumers.

pub(crate) mod close;
pub(crate) mod read;
pub(crate) mod receive;
pub(crate) mod slow_consumer;
pub(crate) mod state;
