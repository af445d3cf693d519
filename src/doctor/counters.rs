//! Failures that the kernel counted since the host was started.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

pub(crate) fn check(host: &Host, _: &Plan) -> Vec<Finding> {
    let counters = host.text("/proc/net/netstat").map(|text| TcpExt::of(&text));
    let Ok(counters) = counters else { return vec![Finding::unknown("counters", "/proc/net/netstat")] };
    let count = |name: &str| counters.number(name);
    let mut found = vec![
        counter(
            "listen queue overflows",
            count("ListenOverflows"),
            "Each of these clients tried again after a second or more, or gave up.",
            "raise net.core.somaxconn: tuning/tune apply sysctl --yes; clients should reconnect with jitter",
        ),
        counter(
            "TCP memory pressure",
            count("TCPMemoryPressures"),
            "Buffers of all connections shrank, and past the limit packets were dropped.",
            "raise net.ipv4.tcp_mem (see kernel settings)",
        ),
        counter(
            "connections aborted for lack of memory",
            count("TCPAbortOnMemory"),
            "The kernel closed connections of clients.",
            "raise net.ipv4.tcp_mem, or net.ipv4.tcp_max_orphans if the connections were already closed",
        ),
    ];
    found.push(match host.text("/proc/net/softnet_stat") {
        Ok(text) => counter(
            "packets dropped before TCP",
            dropped(&text),
            "The sender repeated them after 200 ms or more.",
            "raise net.core.netdev_max_backlog: tuning/tune apply sysctl --yes; spread the load (see network interface)",
        ),
        Err(_) => Finding::unknown("packets dropped before TCP", "/proc/net/softnet_stat"),
    });
    found
}

fn counter(name: &str, count: Option<u64>, why: &str, fix: &str) -> Finding {
    let Some(count) = count else { return Finding::unknown(name, "this line of /proc/net/netstat") };
    // The settings may have changed since.
    let severity = if count == 0 { Severity::Ok } else { Severity::Note };
    let actual = if count == 0 { "never".into() } else { format!("{count} times") };
    Finding::new(severity, name, actual).expected("never").why(why).fix(fix)
}

/// The sum of the second column, in hexadecimal; there is one line per core.
fn dropped(softnet: &str) -> Option<u64> {
    softnet.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()).sum()
}

/// The lines "TcpExt:" of /proc/net/netstat: names, then numbers.
struct TcpExt(Vec<(String, u64)>);

impl TcpExt {
    fn of(text: &str) -> Self {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let pairs = names.split_whitespace().zip(numbers.split_whitespace());
        Self(pairs.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_their_names() {
        let counters = TcpExt::of("TcpExt: A ListenOverflows\nTcpExt: 1 7\nIpExt: A\nIpExt: 3\n");
        assert_eq!((counters.number("ListenOverflows"), counters.number("B")), (Some(7), None));
        assert_eq!(dropped("0000000a 00000001 0\n0000000b 0000000f 0\n"), Some(16));
    }
}
