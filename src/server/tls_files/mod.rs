//! Certificates, keys and session tickets, from their files to the TLS of the shards and of the admin address. The files are
//! read at the start and at each reload; a connection keeps what its handshake used.
//!
//! - `server_config` the TLS of both · `certificates` chains and keys · `tickets` ticket keys

pub(crate) mod certificates;
pub(crate) mod server_config;
pub(crate) mod tickets;
pub(crate) mod tls_error;

pub(crate) use server_config::Tls;
pub(crate) use tls_error::TlsError;
