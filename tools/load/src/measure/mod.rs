//! What is measured, and how: rates and schedules, latencies, processor time, memory, facts about the host.

pub mod histogram;
pub mod host;
pub mod last_delivery;
pub mod latency_series;
pub mod rate;
pub mod results;
pub mod server;
pub mod timeline;
