//! The `unsafe` code of the project: system calls that no safe crate offers, and instructions that only some processors
//! have.
//!
//! A safe function of this module is sound from anywhere. An `unsafe fn` names its contract under `# Safety`; the only callers
//! are in `engine::net::fd_table`, which argues at each call why the contract holds. `tests/house_rules.rs` checks that no
//! other file contains `unsafe` code.

#![allow(unsafe_code)]

mod epoll;
mod files;
mod heap;
mod pages;
mod socket;
mod xor;

pub(crate) use epoll::{BusyPoll, set_busy_poll};
pub(crate) use files::{close_copy, own_file_table};
pub(crate) use heap::return_free_memory;
pub(crate) use pages::advise_huge;
pub(crate) use socket::set_defer_accept;
pub(crate) use xor::{BLOCK, xor_blocks};
