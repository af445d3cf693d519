//! `machine`: how the engine uses the kernel and the hardware.

use std::time::Duration;

use super::section::section;
use crate::config::parse::scalar::{Bool, Bytes, Count, Time};

section! {
    /// The section `machine`. Most of it is for hosts that run little else; `corecast doctor` says which settings fit a host.
    #[derive(Clone, Debug)]
    pub struct Machine {}

    /// Accept a connection on the shard whose core receives its packets (SO_INCOMING_CPU). For hosts whose network device has a
    /// queue for each shard, with the queue's interrupt on the shard's core (see tuning/). It has no use on loopback, where that
    /// is the client's core.
    incoming_cpu: bool as Bool = false, restart;

    /// Time that an idle shard polls for events before it sleeps, at most 1s. A wake-up costs a few microseconds, and much more
    /// from a deep sleep state of a core. Polling keeps the core busy.
    spin: Duration as Time = Duration::ZERO, restart, example("\"50us\"");

    /// Time that a waiting shard polls the queue of the network device instead of waiting for its interrupt, at most 1s
    /// (EPIOCSPARAMS, from Linux 6.9; needs a device with NAPI, so it has no use on loopback).
    busy_poll: Duration as Time = Duration::ZERO, restart, example("\"64us\"");

    /// Packets to take in one such poll; more than 64 needs CAP_NET_ADMIN.
    busy_poll_budget: u32 as Count = 8, restart;

    /// Keep the interrupts of the device off while shards poll often enough. Needs napi_defer_hard_irqs and gro_flush_timeout of
    /// the device.
    busy_poll_prefer: bool as Bool = false, restart;

    /// Time that the kernel holds a new connection back until its first bytes arrive, in whole seconds (TCP_DEFER_ACCEPT). It
    /// saves one wake-up per connection, and silent connections need no descriptor. The time does not count for
    /// engine.upgrade_timeout. 0s: off.
    defer_accept: Duration as Time = Duration::ZERO, restart;

    /// Unsent bytes past which a socket accepts no more (TCP_NOTSENT_LOWAT). Further bytes wait in this process, where they are
    /// bounded and shared.
    // Two of the largest messages: with space for one, a client with several messages in flight was blocked at each (a fifth
    // more CPU).
    notsent_bytes_max: u32 as Bytes = 128 * 1024, restart;

    /// Time that sent data may stay without an acknowledgement; past it the connection is closed (TCP_USER_TIMEOUT). 0s: the
    /// kernel's limit of about 15 minutes, or the missing pong.
    user_timeout: Duration as Time = Duration::ZERO, restart;

    /// Give each shard its own descriptor table: accept and close share nothing, and the limit on open files applies to each
    /// shard. /proc/PID/fd then shows only the descriptors of the control thread.
    own_file_tables: bool as Bool = false, restart;

    /// Ask for huge pages for the connection tables (transparent_hugepage must be madvise or always). For hundreds of thousands
    /// of connections; with fewer it only costs memory.
    huge_pages: bool as Bool = false, restart;
}
