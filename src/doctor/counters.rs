//! What has gone wrong since the host was started, as the kernel counted it.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

pub fn look(host: &Host, _: &Plan) -> Vec<Finding> {
    let counters = host.text("/proc/net/netstat").map(|text| TcpExt::of(&text));
    let Ok(counters) = counters else { return vec![Finding::unseen("counters", "/proc/net/netstat")] };
    let count = |name: &str| counters.number(name);
    let mut found = vec![
        judge(
            "connections that found no room in a listener's queue",
            count("ListenOverflows"),
            "Each tried again a second later or more, or gave up.",
            "raise net.core.somaxconn: tuning/tune apply sysctl --yes; clients that come back all at once need jitter",
        ),
        judge(
            "TCP came under memory pressure",
            count("TCPMemoryPressures"),
            "Buffers shrank for everybody, and past the last mark packets were dropped.",
            "raise net.ipv4.tcp_mem, see above",
        ),
        judge(
            "connections aborted for want of memory",
            count("TCPAbortOnMemory"),
            "Clients were cut by the kernel.",
            "raise net.ipv4.tcp_mem, or net.ipv4.tcp_max_orphans where they were closed already",
        ),
    ];
    found.push(match host.text("/proc/net/softnet_stat") {
        Ok(text) => judge(
            "packets dropped before the stack",
            dropped(&text),
            "They were sent again after a pause of 200 ms or more.",
            "raise net.core.netdev_max_backlog: tuning/tune apply sysctl --yes; spread the load: see the network card",
        ),
        Err(_) => Finding::unseen("packets dropped before the stack", "/proc/net/softnet_stat"),
    });
    found
}

fn judge(name: &str, count: Option<u64>, why: &str, mend: &str) -> Finding {
    let Some(count) = count else { return Finding::unseen(name, "the line of /proc/net/netstat") };
    // It says what was, perhaps under other settings.
    let severity = if count == 0 { Severity::Ok } else { Severity::Note };
    let is = if count == 0 { "never".into() } else { format!("{count} times") };
    Finding::new(severity, name, is).should("never").why(why).mend(mend)
}

/// The second column of each line, one line for each core, in hexadecimal.
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
