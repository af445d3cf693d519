//! From the settings to the engine's own configuration: the one place where names differ.

use super::schema::config::Config;
use crate::engine::config::{CompressionConfig, EngineConfig, Machine};

/// What the engine is started with, or reloaded with.
pub fn engine_config(config: &Config) -> EngineConfig {
    let Config { engine, limits, client, websocket, .. } = config;
    EngineConfig {
        connections_max: engine.connections_max,
        message_bytes_max: websocket.message_size_limit,
        outbound_bytes_max: client.queue_max_size,
        backlog_bytes_max: engine.backlog_bytes_max,
        upgrade_timeout: engine.upgrade_timeout,
        request_head_bytes_max: engine.request_head_bytes_max,
        request_fields_max: engine.request_fields_max,
        request_target_bytes_max: engine.request_target_bytes_max,
        pending_heads_bytes_max: engine.pending_heads_bytes_max,
        close_timeout: engine.close_timeout,
        linger_timeout: engine.linger_timeout,
        accepts_per_turn: engine.accepts_per_turn,
        handshakes_per_turn: engine.handshakes_per_turn,
        read_bytes_per_turn: engine.read_bytes_per_turn,
        mail_per_turn: engine.mail_per_turn,
        deliveries_per_slice: engine.deliveries_per_slice,
        mailbox_batches_max: engine.mailbox_batches_max,
        mail_bytes_max: engine.mail_bytes_max,
        turn_bytes_max: engine.turn_bytes_max,
        compression: CompressionConfig {
            enabled: websocket.compression,
            min_bytes: websocket.compression_min_size,
            level: websocket.compression_level,
            window_bits: websocket.compression_window_bits,
            server_takeover: websocket.compression_server_takeover,
            client_takeover: websocket.compression_client_takeover,
            contexts_max: websocket.compression_contexts_max,
            inflated_bytes_max: websocket.decompressed_message_size_limit,
        },
        machine: machine(config),
        connections_per_address: limits.connections_per_address,
        handshakes_per_address: limits.handshakes_per_address,
        handshakes_per_address_burst: limits.handshakes_per_address_burst,
        exempt: limits.exempt.clone(),
        trusted_proxies: limits.trusted_proxies.clone(),
        lag_max: limits.lag_max,
        bytes_per_second: client.byte_rate_limit,
        bytes_burst: client.byte_rate_burst,
        bytes_dry_run: client.rate_limit_dry_run,
        ..EngineConfig::default()
    }
}

fn machine(config: &Config) -> Machine {
    let machine = &config.machine;
    Machine {
        incoming_cpu: machine.incoming_cpu,
        spin: machine.spin,
        busy_poll: machine.busy_poll,
        busy_poll_budget: machine.busy_poll_budget,
        busy_poll_prefer: machine.busy_poll_prefer,
        defer_accept: machine.defer_accept,
        notsent_bytes_max: machine.notsent_bytes_max,
        user_timeout: machine.user_timeout,
        own_file_tables: machine.own_file_tables,
        huge_pages: machine.huge_pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_settings_are_the_defaults_of_the_engine() {
        let (settings, engine) = (engine_config(&Config::default()), EngineConfig::default());
        assert_eq!(format!("{settings:?}"), format!("{engine:?}"));
    }
}
