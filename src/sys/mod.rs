//! Every `unsafe` of the project, each with its argument: calls of the kernel that no safe crate offers, and instructions
//! that only some processors have. What is outside of this module is checked by the compiler alone.
//!
//! All functions here are safe to call from anywhere, except where their first line says for whom they are.

#![allow(unsafe_code)]

mod epoll;
mod files;
mod pages;
mod socket;
mod xor;

pub use epoll::{BusyPoll, set_busy_poll};
pub use files::{close_copy, own_file_table};
pub use pages::advise_huge;
pub use socket::set_defer_accept;
pub use xor::{BLOCK, xor_blocks};
