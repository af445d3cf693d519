//! The settings of how a process ends.

use super::{Item, item};
use crate::config::value::Unit;
use crate::config::{Handover, Shutdown};

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

pub static HANDOVER: &[Item<Handover>] = &[
    item(
        "socket",
        Unit::Text,
        |h| &mut h.socket,
        "Path of a unix socket, for this user alone, at which the next process takes the listeners over: nobody who \
         connects meanwhile is refused, and while both live what is published at either reaches the subscribers of both. \
         Empty: there is no handover.",
    ),
    item(
        "take",
        Unit::Switch,
        |h: &mut Handover| &mut h.take,
        "Take over from the process that answers at handover.socket, which ends in order once this one is ready. Where \
         nobody answers this one starts as usual.",
    )
    .flag("takeover"),
    item(
        "bytes_max",
        Unit::Bytes,
        |h| &mut h.bytes_max,
        "Bytes of publications that may wait for the other process during a handover; past it publishers wait, and the \
         server API answers error 111.",
    ),
];
