//! Every setting, declared once: its name, type, unit, default, reason, and whether a reload applies it.
//!
//! `section` is the macro of a declaration, `registry` the list of all settings by name; the other modules are the sections.

pub(crate) mod broker;
pub(crate) mod channel;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod durable;
pub(crate) mod engine;
pub(crate) mod lifecycle;
pub(crate) mod machine;
pub(crate) mod namespace;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod registry;
pub(crate) mod section;
pub(crate) mod server;
pub(crate) mod streams;
pub(crate) mod tables;
pub(crate) mod tls;
pub(crate) mod token;
