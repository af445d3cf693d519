//! The driver against real servers, which the tests start themselves.

mod cluster;
mod failures;
mod harness;
mod history;
mod presence;
mod publish;
mod sentinel;
mod servers;
mod single;
mod stub;
mod stubbed;
