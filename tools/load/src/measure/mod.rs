//! What is measured, and how: rates, latencies, processor time, memory.

pub mod host;
pub mod last_delivery;
pub mod latency_series;
pub mod rate;
pub mod rate_result;
pub mod results;
pub mod server;
pub mod timeline;
