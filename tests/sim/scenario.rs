//! The parameters of a simulation of reconnecting clients, and the server's settings for it.

use std::time::Duration;

use corecast::config::{Config, SlowConsumer};
use corecast::messaging::Settings;

use super::model::HistoryLimits;

pub const HOUR: u64 = 3_600_000;

/// The clients, the history and the clock of a simulation.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub clients: usize,
    pub history: HistoryLimits,
    /// Milliseconds that the clock advances in one step, at most.
    pub clock_step_max: u64,
    /// Every subscription is recoverable, those of the server too.
    pub force_recovery: bool,
    /// Every publication may be sent as a delta.
    pub deltas: bool,
    /// Mailboxes have room for everything: no join is left out, and no shard is skipped.
    pub has_room: bool,
}

impl Scenario {
    /// Histories expire, and it is known when.
    pub fn has_expiry(&self) -> bool {
        self.history.exact && self.history.ttl < HOUR
    }

    /// The server's settings.
    pub fn settings(&self, slow_consumer: (SlowConsumer, usize)) -> Settings {
        let HistoryLimits { size, ttl, meta_ttl, recovered_max, .. } = self.history;
        let mut config = Config { dev: false, ..Config::dev() };
        config.client.allowed_origins = Vec::new();
        config.client.ping_interval = Duration::from_secs(1_000_000);
        config.client.pong_timeout = Duration::from_secs(1);
        config.client.stale_close_delay = Duration::from_secs(1_000_000);
        config.client.recovery_max_publication_limit = recovered_max as u32;
        let namespace = &mut config.channel.without_namespace;
        namespace.history_size = size as u32;
        namespace.history_ttl = Duration::from_millis(ttl);
        namespace.history_meta_ttl = Duration::from_millis(meta_ttl);
        namespace.force_recovery = self.force_recovery;
        (namespace.slow_consumer, namespace.slow_consumer_bytes_max) = slow_consumer;
        namespace.delta_publish = self.deltas;
        Settings::new(&config, |_| false)
    }
}
