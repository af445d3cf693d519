//! The version of the kernel, and features of it that help this server.

use super::finding::Finding;
use super::host::Host;
use super::plan::Plan;

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let Ok(release) = host.sysctl("kernel.osrelease") else {
        return vec![Finding::unknown("version", "/proc/sys/kernel/osrelease")];
    };
    let Some(version) = version(&release) else {
        return vec![Finding::note("version", release).expected("a version number")];
    };
    let mut found = vec![Finding::ok("version", release)];
    found.push(feature(
        "tcp_migrate_req",
        host.exists("/proc/sys/net/ipv4/tcp_migrate_req"),
        (5, 14),
        "connections that wait on a closing listener move to another listener of the same port, so --join resets none",
    ));
    found.push(feature(
        "SO_INCOMING_CPU in reuseport groups",
        version >= (6, 2),
        (6, 2),
        "a connection can be accepted on the shard whose core receives its packets",
    ));
    found.push(feature(
        "busy polling per epoll (EPIOCSPARAMS)",
        has_epoll_params(host),
        (6, 9),
        "a shard can poll the queue of the network interface itself; without it, net.core.busy_poll does so for the whole host",
    ));
    found.push(ktls(host, plan));
    found
}

/// EPIOCSPARAMS.
pub(crate) fn has_epoll_params(host: &Host) -> bool {
    host.sysctl("kernel.osrelease").ok().and_then(|release| version(&release)).is_some_and(|version| version >= (6, 9))
}

/// `6.8.0-45-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn feature(name: &str, is_available: bool, since: (u32, u32), benefit: &str) -> Finding {
    let (major, minor) = since;
    match is_available {
        true => Finding::ok(name, "available").why(format!("With it, {benefit}.")),
        false => Finding::note(name, format!("not available: it needs Linux {major}.{minor} or newer"))
            .why(format!("With it, {benefit}."))
            .cost("a restart of the host")
            .fix("upgrade the kernel"),
    }
}

fn ktls(host: &Host, plan: &Plan) -> Finding {
    let known = host.sysctl("net.ipv4.tcp_available_ulp").unwrap_or_default();
    let actual = match known.split(' ').any(|name| name == "tls") {
        true => "available",
        false => "not loaded (modprobe tls)",
    };
    let why = match plan.tls {
        true => "The server encrypts by itself and does not use it.",
        false => "No listener uses TLS.",
    };
    Finding::ok("TLS in the kernel (kTLS)", actual).why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.4.0-generic"), Some((5, 4)));
        assert_eq!(version("4.19"), Some((4, 19)));
        assert_eq!(version("unknown"), None);
    }
}
