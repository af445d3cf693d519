//! The settings of how a process ends.

use super::{Item, item};
use crate::config::Shutdown;
use crate::config::value::Unit;

pub static SHUTDOWN: &[Item<Shutdown>] = &[
    item(
        "timeout",
        Unit::Time,
        |s| &mut s.timeout,
        "Time for closing every connection in order when the process is asked to end; past it the rest is cut.",
    ),
    item(
        "window",
        Unit::Time,
        |s| &mut s.window,
        "Time over which the closes are spread, evenly, so that the clients do not come back all at once; each is served \
         until its turn. 0s: a third of the timeout, at most 5 s.",
    ),
    item(
        "rate_max",
        Unit::Count,
        |s| &mut s.rate_max,
        "Connections closed in a second at most, of all shards together: the window becomes as long as that needs, up to \
         two thirds of the timeout. 0: the window alone decides.",
    ),
    item(
        "delay",
        Unit::Time,
        |s| &mut s.delay,
        "Time between /health turning red (503, at both addresses) and the listeners closing: until then load balancers \
         send clients, and they are let in. The timeout begins behind it.",
    ),
];
