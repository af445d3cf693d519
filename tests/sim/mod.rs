//! The simulation: shards over sockets in memory, in one thread, in a schedule made from a seed.
//!
//! - `cluster` the shards, their mailboxes and the clock · `socket`, `client_socket` the two ends of a connection
//! - `publish_simulation` clients that publish and subscribe (`publishing_client`) under small limits
//! - `reconnect_simulation` clients that are cut and recover (`reconnecting_client`), checked against `model`;
//!   `scenario` has its parameters
//! - `broker_simulation` servers that share a `broker` which fails
//! - `pending_calls` calls of the server API while a home shard owes an answer
//! - `protocol` commands and replies of both encodings · `counts` the events that happened

pub mod broker;
pub mod broker_simulation;
pub mod client_socket;
pub mod cluster;
pub mod counts;
pub mod model;
/// The messages of the protocol, as prost reads them.
#[path = "../../src/protocol/protobuf/peer_tests.rs"]
#[allow(dead_code)]
pub mod pb;
#[cfg(test)]
mod pending_calls;
pub mod protocol;
pub mod publish_simulation;
pub mod publishing_client;
pub mod reconnect_simulation;
pub mod reconnecting_client;
pub mod scenario;
pub mod socket;
