//! Behavior over real sockets and of the built program, in one binary, which links once instead of fifty times.
//!
//! `common` starts the server and contains its clients, `fake` replaces the shards below the server API, `tree`
//! simulates a host's /proc and /sys. A module is named for its subject; run one with `cargo test --test it
//! compression::`.

mod common;
mod fake;
/// The targets of the fuzzer, which the workspace of the tests does not contain.
#[path = "../../tools/fuzz/src/lib.rs"]
mod fuzz;
mod tree;

mod accept_without_descriptors;
mod admin_abuse;
mod api_against_pending;
#[cfg(feature = "grpc")]
mod api_grpc;
mod api_methods;
mod api_publish;
mod api_publish_and_metrics;
#[cfg(feature = "grpc")]
mod api_settings;
mod api_unknown_fields;
mod backend_failures;
#[cfg(feature = "grpc")]
mod backend_grpc_calls;
mod backend_http_calls;
mod backend_jwks;
mod backend_killed;
mod broker_servers;
mod channels_across_shards;
mod cluster_failures;
mod cluster_mixed;
mod cluster_nats;
mod cluster_nodes;
mod cluster_reads;
mod cluster_topologies;
mod compression;
mod config_brokers;
mod config_errors_on_the_command_line;
mod config_from_platforms;
mod config_of_centrifugo;
mod config_sources;
mod config_validation;
mod connect_channels;
mod connection_close;
mod doctor_findings;
mod documents;
mod durable;
mod durable_kill_loop;
mod echo;
mod embedded_hooks;
mod fuzz_corpus;
mod heartbeats_after_sigstop;
mod history_by_time;
mod history_query;
mod hostile_peers;
mod jwks_outages;
mod kept_connections;
mod limits_per_address;
mod log_output_failures;
mod log_secrets;
mod machine_settings;
mod mail_behind;
mod overload_admission;
mod presence_of_large_channel;
mod protocol_errors;
mod publisher_backpressure;
mod rate_limits_per_client;
mod refresh_answers;
mod refusals;
mod reload_by_sighup;
mod reply_memory;
mod shard_panic;
mod shutdown_by_sigterm;
mod slow_consumer_disconnect;
mod slow_consumer_policies;
mod source_partial_transfers;
mod start_errors;
mod store_command;
mod streams;
mod streams_golden;
mod tags_filter_bounds;
mod takeover;
mod takeover_of_channels;
mod text_frames;
mod tls_connections;
mod tls_resumption;
mod token_command;
mod token_requirements;
mod tuning_scripts;
mod turn_time;
mod unix_sockets;
mod upgrade_rejections;
mod ws_codec_against_tungstenite;
