//! Connection tracking: whether every connection also costs a row in the firewall's table, and how full that is.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

pub const COUNT: &str = "net.netfilter.nf_conntrack_count";
const MAX: &str = "net.netfilter.nf_conntrack_max";

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    let name = "tracked connections";
    let number = |key: &str| host.sysctl(key).ok().and_then(|text| text.parse::<u64>().ok());
    let loaded = host.exists("/sys/module/nf_conntrack");
    let (Some(count), Some(most)) = (number(COUNT), number(MAX)) else {
        // Built in, it has rows only where rules ask for it, and says so in this folder.
        return vec![match loaded && host.exists("/proc/sys/net/netfilter/nf_conntrack_max") {
            true => Finding::unseen(name, "/proc/sys/net/netfilter/nf_conntrack_count"),
            false => Finding::ok(name, "nothing is tracked here"),
        }];
    };
    let room = most.saturating_sub(count);
    let severity = match (count, room < plan.connections) {
        // It may be built in and idle: rules of a firewall would have filled it with somebody.
        (0, true) => Severity::Note,
        (_, true) => Severity::Fail,
        (0, false) => Severity::Ok,
        (_, false) => Severity::Note,
    };
    vec![
        Finding::new(severity, name, format!("{count} of {most}"))
            .should(format!("none, or room for {} more", plan.connections))
            .why(
                "A firewall that tracks looks every packet up in its table, and drops the packets of new connections when that is \
                 full (dmesg: \"nf_conntrack: table full\").",
            )
            .cost("without tracking, rules by state (ct state) do not see the clients; with a larger table 320 bytes a row")
            .mend(format!("do not track the clients' ports: {}; or tuning/tune apply sysctl --yes", notrack(plan))),
    ]
}

fn notrack(plan: &Plan) -> String {
    let ports: Vec<String> = plan.ports.iter().take(1).map(u16::to_string).collect();
    let port = ports.first().map_or("8000", String::as_str);
    format!("in nft, hooks prerouting and output at priority raw: tcp dport {port} notrack, tcp sport {port} notrack")
}
