//! Connection tracking: whether the firewall's table has a row for each connection, and how full it is.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

pub(crate) const COUNT: &str = "net.netfilter.nf_conntrack_count";
const MAX: &str = "net.netfilter.nf_conntrack_max";

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let name = "tracked connections";
    let number = |key: &str| host.sysctl(key).ok().and_then(|text| text.parse::<u64>().ok());
    let loaded = host.exists("/sys/module/nf_conntrack");
    let (Some(count), Some(most)) = (number(COUNT), number(MAX)) else {
        // A built-in module tracks only if rules ask for it; this folder then exists.
        return vec![match loaded && host.exists("/proc/sys/net/netfilter/nf_conntrack_max") {
            true => Finding::unknown(name, "/proc/sys/net/netfilter/nf_conntrack_count"),
            false => Finding::ok(name, "connections are not tracked"),
        }];
    };
    let free = most.saturating_sub(count);
    let severity = match (count, free < plan.connections) {
        // The module may be built in and unused: with firewall rules the table would have rows.
        (0, true) => Severity::Note,
        (_, true) => Severity::Fail,
        (0, false) => Severity::Ok,
        (_, false) => Severity::Note,
    };
    vec![
        Finding::new(severity, name, format!("{count} of {most}"))
            .expected(format!("none, or space for {} more", plan.connections))
            .why(
                "A tracking firewall looks up every packet in its table, and drops packets of new connections if the table is full \
                 (dmesg: \"nf_conntrack: table full\").",
            )
            .cost("without tracking, rules by state (ct state) do not match the clients; a larger table needs 320 bytes per row")
            .fix(format!("exclude the clients' ports from tracking: {}; or run tuning/tune apply sysctl --yes", notrack(plan))),
    ]
}

fn notrack(plan: &Plan) -> String {
    let ports: Vec<String> = plan.ports.iter().take(1).map(u16::to_string).collect();
    let port = ports.first().map_or("8000", String::as_str);
    format!(
        "in nft, in the hooks prerouting and output with priority raw: tcp dport {port} notrack, tcp sport {port} notrack"
    )
}
