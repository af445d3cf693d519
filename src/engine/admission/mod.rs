//! Which connections are admitted: limits per address, overload, the client's address behind a proxy.

pub(crate) mod address_keys;
pub mod address_table;
pub mod client_address;
pub(crate) mod overload;
pub mod peers;
pub mod proxy_protocol;
