//! Which connections are admitted: limits per address, overload, the address behind a proxy.

pub mod address_table;
pub(crate) mod overload;
pub(crate) mod peer;
pub mod proxy_protocol;
