//! Times: their bounds, and which must be shorter than which.

use std::time::Duration;

use super::checks::Checks;
use crate::config::parse::scalar::show_duration;
use crate::config::schema::config::Config;
use crate::config::schema::lifecycle::Shutdown;
use crate::config::schema::machine::Machine;
use crate::engine::timer_wheel::TICK;

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn times(config: &Config, checks: &mut Checks) {
    let client = &config.client;
    let ping = client.ping_interval;
    let is_whole = ping >= Duration::from_secs(1) && ping.subsec_nanos() == 0;
    let what = format!("{} is not a number of whole seconds, in which clients get it", show_duration(ping));
    checks.require(is_whole, "client.ping_interval", what, "write at least \"1s\", such as \"25s\"");
    let pong = client.pong_timeout;
    let what = format!("{} is not shorter than client.ping_interval, {}", show_duration(pong), show_duration(ping));
    let fix = "write a shorter time, such as \"8s\", or a longer interval: only one ping may be unanswered";
    checks.require(pong < ping, "client.pong_timeout", what, fix);
    machine(&config.machine, checks);
    let spans = [
        ("client.stale_close_delay", client.stale_close_delay),
        ("client.expired_close_delay", client.expired_close_delay),
        ("client.expired_sub_close_delay", client.expired_sub_close_delay),
        ("engine.upgrade_timeout", config.engine.upgrade_timeout),
        ("engine.close_timeout", config.engine.close_timeout),
        ("engine.linger_timeout", config.engine.linger_timeout),
        ("admin.request_timeout", config.admin.request_timeout),
    ];
    for (setting, span) in [("client.pong_timeout", pong)].into_iter().chain(spans) {
        let what = format!("{} is shorter than a timer tick, {}", show_duration(span), show_duration(TICK));
        checks.require(span >= TICK, setting, what, "write at least \"100ms\"");
    }
    let Shutdown { timeout, window, delay, .. } = config.shutdown;
    let what = format!("{} is not shorter than shutdown.timeout, {}", show_duration(window), show_duration(timeout));
    let fix = "leave time after it for the last clients to answer their close, such as \"20s\" of \"30s\"";
    checks.require(window.is_zero() || window < timeout, "shutdown.window", what, fix);
    let shutdown = [("shutdown.timeout", timeout), ("shutdown.delay", delay)];
    for (setting, span) in [("client.ping_interval", ping)].into_iter().chain(spans).chain(shutdown) {
        let what = format!("{} is more than an hour", show_duration(span));
        checks.require(span <= HOUR, setting, what, "write at most \"1h\"");
    }
}

/// Bounds of the kernel, which counts some of them in microseconds, in seconds, or in one or two bytes.
fn machine(machine: &Machine, checks: &mut Checks) {
    for (setting, span) in [("machine.spin", machine.spin), ("machine.busy_poll", machine.busy_poll)] {
        let what = format!("{} is too long for a core to poll", show_duration(span));
        checks.require(span <= Duration::from_secs(1), setting, what, "write at most \"1s\"");
    }
    let budget = machine.busy_poll_budget;
    let what = format!("the kernel does not accept {budget} packets");
    let fix = "write 1 to 1024; more than 64 needs CAP_NET_ADMIN";
    checks.require((1..=1024).contains(&budget), "machine.busy_poll_budget", what, fix);
    let defer = machine.defer_accept;
    let what = format!("{} is not a whole number of seconds up to a minute", show_duration(defer));
    let fits = defer.subsec_nanos() == 0 && defer <= Duration::from_secs(60);
    checks.require(fits, "machine.defer_accept", what, "write \"0s\" for off, or a time such as \"5s\"");
    let user = machine.user_timeout;
    let what = format!("{} is not between a second and an hour", show_duration(user));
    let fits = user.is_zero() || (Duration::from_secs(1)..=HOUR).contains(&user);
    checks.require(
        fits,
        "machine.user_timeout",
        what,
        "write \"0s\" for the kernel's limit, or a time such as \"30s\"",
    );
    let bytes = machine.notsent_bytes_max;
    let what = format!("{bytes} is too small");
    checks.require(bytes >= 4096, "machine.notsent_bytes_max", what, "write at least \"4KiB\"");
}
