//! The driver against real servers, which the tests start themselves.

mod failures;
mod harness;
mod history;
mod presence;
mod publish;
mod servers;
mod stub;
mod stubbed;
