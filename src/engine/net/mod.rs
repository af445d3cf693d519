//! Sockets: listeners and their options, the byte source below the codec, TLS, file tables, cores.

pub mod affinity;
pub mod cpu_quota;
pub(crate) mod fd_table;
pub mod listener;
pub mod source;
pub mod stream;
pub mod tls;
