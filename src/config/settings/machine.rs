//! The settings of how the engine uses the machine.

use super::{Item, item};
use crate::config::value::Unit;
use crate::engine::config::Machine;

/// Of a host that runs little else; `corecast doctor` says which of them fit it.
pub static MACHINE: &[Item<Machine>] = &[
    item(
        "incoming_cpu",
        Unit::Switch,
        |m: &mut Machine| &mut m.incoming_cpu,
        "Give a new connection to the shard on whose core its packets arrive (SO_INCOMING_CPU). For hosts whose network device \
         has a queue for each shard, its interrupt on that shard's core (tuning/). Not on loopback, where that is the client's core.",
    ),
    item(
        "spin",
        Unit::Time,
        |m: &mut Machine| &mut m.spin,
        "Time for which a shard without work looks for events before it sleeps, up to 1s: wakes cost some microseconds, and far more \
         from deep sleep of a core. It burns the core meanwhile.",
    )
    .example("\"50us\""),
    item(
        "busy_poll",
        Unit::Time,
        |m: &mut Machine| &mut m.busy_poll,
        "Time for which a shard's wait looks into the network device's queue itself, instead of waiting for its interrupt, up to 1s \
         (EPIOCSPARAMS, Linux 6.9 on; needs a device with NAPI, so nothing on loopback).",
    )
    .example("\"64us\""),
    item(
        "busy_poll_budget",
        Unit::Count,
        |m: &mut Machine| &mut m.busy_poll_budget,
        "Packets taken in one such look; above 64 takes CAP_NET_ADMIN.",
    ),
    item(
        "busy_poll_prefer",
        Unit::Switch,
        |m: &mut Machine| &mut m.busy_poll_prefer,
        "Keep the device's interrupts off while such looks come often enough; needs napi_defer_hard_irqs and \
         gro_flush_timeout of the device.",
    ),
    item(
        "defer_accept",
        Unit::Time,
        |m: &mut Machine| &mut m.defer_accept,
        "Let the kernel keep a connection until its first bytes have come, or about so long, in whole seconds (TCP_DEFER_ACCEPT): a \
         wake-up less for each, and no descriptor for who says nothing. The time does not count for engine.upgrade_timeout. 0s: off.",
    ),
    item(
        "notsent_bytes_max",
        Unit::Bytes,
        |m: &mut Machine| &mut m.notsent_bytes_max,
        "Bytes not yet on the wire past which a socket takes no more (TCP_NOTSENT_LOWAT): what waits beyond waits in this process, \
         where it is bounded and shared.",
    ),
    item(
        "user_timeout",
        Unit::Time,
        |m: &mut Machine| &mut m.user_timeout,
        "Time for which what was sent may stay without an acknowledgement before the connection is dead (TCP_USER_TIMEOUT). 0s: as \
         long as the kernel tries, about 15 minutes, or until the missing pong.",
    ),
    item(
        "own_file_tables",
        Unit::Switch,
        |m: &mut Machine| &mut m.own_file_tables,
        "Give each shard a table of descriptors of its own: nothing shared in accept and close, and the limit on open files counts \
         for each shard. /proc/PID/fd then shows the control thread's only.",
    ),
    item(
        "huge_pages",
        Unit::Switch,
        |m: &mut Machine| &mut m.huge_pages,
        "Ask for huge pages under the tables of connections (transparent_hugepage at madvise or always): for hundreds of thousands \
         of them; below that it only costs memory.",
    ),
];
