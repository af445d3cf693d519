//! Settings against their bounds and against each other, after every value was read.

pub(crate) mod backends;
pub(crate) mod broker_warnings;
pub(crate) mod brokers;
pub(crate) mod channels;
pub(crate) mod checks;
pub(crate) mod durable;
pub(crate) mod engine;
pub(crate) mod limits;
pub(crate) mod network;
pub(crate) mod streams;
pub(crate) mod times;
pub(crate) mod warnings;

use super::schema::config::Config;
use crate::auth::Origins;
pub(crate) use checks::Checks;

/// Adds everything that is wrong to `checks`.
pub(crate) fn check(config: &Config, checks: &mut Checks) {
    network::cores(config, checks);
    network::listeners(config, checks);
    network::tls(config, checks);
    streams::paths(config, checks);
    times::times(config, checks);
    engine::bounds(config, checks);
    origins(config, checks);
    channels::channels(config, checks);
    backends::backends(config, checks);
    brokers::brokers(config, checks);
    durable::durable(config, checks);
    backends::tokens(config, checks);
}

fn origins(config: &Config, checks: &mut Checks) {
    if let Err(bad) = Origins::new(&config.client.allowed_origins) {
        let fix = "close the bracket, or write \\ before a character that has no special meaning";
        checks.require(false, "client.allowed_origins", bad.to_string(), fix);
    }
}
