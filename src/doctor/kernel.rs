//! The kernel's version, and what it can do that this server or its operator may want.

use super::finding::Finding;
use super::host::Host;
use super::plan::Plan;

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    let Ok(release) = host.sysctl("kernel.osrelease") else {
        return vec![Finding::unseen("version", "/proc/sys/kernel/osrelease")];
    };
    let Some(version) = version(&release) else {
        return vec![Finding::note("version", release).should("a number, by which the rest could be judged")];
    };
    let mut found = vec![Finding::ok("version", release)];
    found.push(feature(
        "tcp_migrate_req",
        host.exists("/proc/sys/net/ipv4/tcp_migrate_req"),
        (5, 14),
        "connections that wait on a listener that closes go over to another of the same port: --join resets none",
    ));
    found.push(feature(
        "SO_INCOMING_CPU in reuseport groups",
        version >= (6, 2),
        (6, 2),
        "a connection can go to the shard on whose core its packets come in",
    ));
    found.push(feature(
        "busy poll for each epoll (EPIOCSPARAMS)",
        has_epoll_params(host),
        (6, 9),
        "a shard can look at the card's queue itself; before, net.core.busy_poll does it for the whole host",
    ));
    found.push(ktls(host, plan));
    found
}

/// EPIOCSPARAMS.
pub fn has_epoll_params(host: &Host) -> bool {
    host.sysctl("kernel.osrelease").ok().and_then(|release| version(&release)).is_some_and(|version| version >= (6, 9))
}

/// `6.8.0-45-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn feature(name: &str, is_there: bool, since: (u32, u32), what: &str) -> Finding {
    let (major, minor) = since;
    match is_there {
        true => Finding::ok(name, "there").why(format!("{what}.")),
        false => Finding::note(name, format!("not there: Linux {major}.{minor} and newer have it"))
            .why(format!("With it {what}."))
            .cost("a restart of the host")
            .mend("upgrade the kernel"),
    }
}

fn ktls(host: &Host, plan: &Plan) -> Finding {
    let known = host.sysctl("net.ipv4.tcp_available_ulp").unwrap_or_default();
    let is = match known.split(' ').any(|name| name == "tls") {
        true => "there",
        false => "not loaded (modprobe tls)",
    };
    let why = match plan.tls {
        true => "The server encrypts by itself and does not use it; nothing is lost.",
        false => "Only for TLS, which no listener speaks here.",
    };
    Finding::ok("TLS in the kernel (kTLS)", is).why(why)
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
