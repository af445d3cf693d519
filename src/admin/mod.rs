//! The admin address: a small web server on the control thread, for operators and for the application's backend.
//!
//! ```text
//!  /api, /api/*   the server API over HTTP (the module `api`); needs the API key
//!  /health        200, or 503 while the server shuts down
//!  /health/ready  the same, and 503 with the cause while a broker or the durable log does not serve
//!  /metrics       Prometheus or OpenMetrics text
//!  /stats         the numbers that the page shows, as JSON
//!  /              the page: a chat client and a table of the shards
//! ```
//!
//! It shares no state with the shards and reads their numbers through `ShardApi`. Only the API asks for a key, so the
//! address must not be reachable from a public network.
//!
//! - `server`      accepts connections, up to `connection_limit`, and serves HTTP/1.1 on each, over TLS if configured
//! - `router`      finds the answer for a path
//! - `metrics`     what `/metrics` shows, `cluster_metrics` of the cluster, `broker_metrics` of the connections to brokers, `log_metrics` of the durable log; `exposition` is the text format; `process_stats` and `procfs` are sources
//! - `stats`, `page`   what `/stats` and `/` show
//! - `settings`    what all of them take from the configuration

pub(crate) mod broker_metrics;
pub(crate) mod cluster_metrics;
pub(crate) mod connection_limit;
pub(crate) mod exposition;
pub(crate) mod log_metrics;
pub(crate) mod metrics;
pub(crate) mod page;
pub mod process_stats;
pub mod procfs;
pub(crate) mod router;
pub(crate) mod server;
pub mod settings;
pub(crate) mod stats;

pub use server::serve;
pub use settings::{Current, Settings, api_settings};
