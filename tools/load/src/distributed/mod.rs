//! Runs that several processes or hosts carry together.

pub mod agent;
pub mod coordinator;
pub mod coordinator_protocol;
pub mod remote_workers;
pub mod start_barrier;
pub mod worker_process;
