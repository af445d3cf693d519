//! The joint of engine, protocol and pubsub: one `Messaging` per shard serves the Centrifugo client protocol.
//!
//! Connections and commands:
//! - `request_checks` of all endpoints · `handshake` the upgrade request · `session` a connection's phase · `keepalive` its timer
//! - `streams` HTTP streaming and server-sent events · `emulation` commands for them · `session_ids` how clients name them
//! - `commands` dispatches a message · `connect`, `connect_reply` · `subscribe` · `publish` · `queries` · `refresh`
//! - `access` what a client may do · `hooks` rules of a program that embeds the server · `tokens`, `token_checks`
//! - `backend_calls`, `proxy_calls` · `data_format`
//! - `users` the connections of each user · `pending` what connections wait for
//!
//! Channels:
//! - `subscription` from the request to live, `subscription_end` · `home_requests` what home shards owe · `subscribe_reply`
//! - `reply_payment`, `large_replies` replies that are paid for in bytes before they are produced
//! - `home_shard`, `home_queries`, `presence_snapshots` the home shard's side · `encodings` a publication's frames
//!
//! Channels that a broker orders:
//! - `home_broker` the state · `broker_channels` from the subscription to the repair of holes · `broker_calls` answers
//! - `broker_events` what arrives and what is due · `presence_renewal` · `control_broker` calls of the server API
//!
//! Between threads and processes:
//! - `mail`, `arena` the messages between shards · `receive` what they do
//! - `control_request`, `control` requests of the control thread · `api_call`, `api_checks`, `connection_calls` calls of the server API
//! - `handover_peer` the peer process while one takes over from another · `handover_message`, `handover_request`, `handover_fields` what it is told
//! - `handover_copy` gives the channels away · `handover_follow` takes them over, serves requests, and follows
//!
//! `state` holds all components; `app` is what the engine calls; `settings` is what the operator configured. Imports go one
//! way: components, then `state`, then functions over it, then `app`.

mod access;
pub mod api_call;
mod api_checks;
mod app;
mod arena;
mod backend_calls;
mod broker_calls;
mod broker_channels;
mod broker_events;
mod commands;
mod connect;
mod connect_reply;
mod connection_calls;
mod control;
mod control_broker;
pub mod control_request;
mod data_format;
mod emulation;
mod encodings;
mod handover_copy;
mod handover_fields;
mod handover_follow;
pub mod handover_message;
mod handover_peer;
mod handover_request;
mod handshake;
mod home_broker;
mod home_queries;
mod home_requests;
mod home_shard;
mod hooks;
mod keepalive;
mod large_replies;
mod mail;
mod past;
mod past_home;
mod pending;
mod presence_renewal;
mod presence_snapshots;
mod proxy_calls;
pub(crate) mod publication_json;
mod publish;
mod queries;
mod receive;
mod refresh;
mod rejections;
mod reply_payment;
mod request_checks;
mod session;
mod session_ids;
mod settings;
mod shared_reads;
mod signature_queue;
mod state;
mod streams;
mod subscribe;
mod subscribe_reply;
mod subscription;
mod subscription_end;
mod token_checks;
mod tokens;
mod users;

pub use api_call::{ApiCall, ApiReply};
pub use control_request::ControlRequest;
pub use handover_peer::{Forwarded, HandoverPeer, HomeProgress, PeerOrder};
pub use handshake::{ECHO_PATH, PATH, UNI_PATH};
pub use home_broker::BrokerLinks;
pub use hooks::{Denied, HookClient, Hooks, PublishDecision};
pub use mail::Mail;
pub use settings::{ConnectionCounts, Settings, TokenKind, UserConnected};
pub use state::Messaging;
