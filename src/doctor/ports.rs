//! Ports: the range for outgoing connections against the ports that the server listens on.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

const RANGE: &str = "net.ipv4.ip_local_port_range";

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let text = host.sysctl(RANGE).unwrap_or_default();
    let range =
        text.split_once(' ').and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
    let Some((first, last)) = range else {
        return vec![Finding::unknown(RANGE, "/proc/sys/net/ipv4/ip_local_port_range")];
    };
    let reserved = host.sysctl("net.ipv4.ip_local_reserved_ports").unwrap_or_default();
    let reserved = super::cpus::Cpus::list(&reserved).unwrap_or_default();
    let taken = |port: &&u16| (first..=last).contains(port) && !reserved.has(usize::from(**port));
    let ours: Vec<String> = plan.ports.iter().filter(taken).map(u16::to_string).collect();
    let outgoing = Finding::ok(
        RANGE,
        format!("{first} {last}: {} per target", u32::from(last.saturating_sub(first)) + 1),
    )
    .why(
        "Connections of clients use none of these ports, backend calls a few, and a proxy on this host one per client.",
    );
    let severity = if ours.is_empty() { Severity::Ok } else { Severity::Warn };
    let actual = match ours.is_empty() {
        true => "outside the range for outgoing connections".to_owned(),
        false => format!("{} in the range for outgoing connections", ours.join(", ")),
    };
    let listening = Finding::new(severity, "ports that the server listens on", actual)
        .expected("outside the range, or reserved")
        .why("An outgoing connection of any program may use the port when the server restarts.")
        .cost("nothing")
        .fix(format!("sysctl -w net.ipv4.ip_local_reserved_ports='{}'", ours.join(",")));
    vec![outgoing, listening]
}
