//! The host that a run was made on, as far as figures depend on it. What cannot be read is left out.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

/// Settings of the kernel that change what a socket costs or how many there can be.
const SYSCTLS: [&str; 16] = [
    "fs/file-max",
    "fs/nr_open",
    "net/core/busy_poll",
    "net/core/default_qdisc",
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_max",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
    "net/netfilter/nf_conntrack_max",
];

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// The one that is in brackets, of those that can be chosen.
fn chosen(text: &str) -> String {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(one, _)| one).to_string()
}

/// What a run starts with: the moment, and how busy the host was already.
#[derive(Clone, Debug, Default)]
pub struct Begin {
    pub date: String,
    pub load_average: Option<String>,
}

impl Begin {
    pub fn now() -> Self {
        let load = read("/proc/loadavg");
        let load = load.map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(" "));
        Self { date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string(), load_average: load }
    }
}

/// Facts by name, for a run against `peer`.
pub fn facts(begin: &Begin, peer: Option<SocketAddr>, server: Option<&str>) -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cpu0 = "/sys/devices/system/cpu/cpu0/cpufreq";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let sysctls: BTreeMap<String, String> =
        SYSCTLS.iter().filter_map(|name| Some((name.replace('/', "."), read(&format!("/proc/sys/{name}"))?))).collect();
    let facts = [
        ("cpu", field(&cpuinfo, "model name").map(Value::from)),
        ("cores", std::thread::available_parallelism().ok().map(|n| n.get().into())),
        ("smt", read("/sys/devices/system/cpu/smt/active").map(|text| (text == "1").into())),
        ("virtual", Some(field(&cpuinfo, "flags").is_some_and(|flags| flags.contains("hypervisor")).into())),
        ("governor", read(&format!("{cpu0}/scaling_governor")).map(Value::from)),
        ("mitigations", Some(json!(mitigations()))),
        ("memory_bytes", field(&meminfo, "MemTotal").and_then(|text| kib(&text)).map(Value::from)),
        ("kernel", read("/proc/sys/kernel/osrelease").map(Value::from)),
        ("clock_source", read("/sys/devices/system/clocksource/clocksource0/current_clocksource").map(Value::from)),
        ("huge_pages", read("/sys/kernel/mm/transparent_hugepage/enabled").map(|text| chosen(&text).into())),
        ("files_max", limit.current.map(Value::from)),
        ("files_hard_max", limit.maximum.map(Value::from)),
        ("load_average_at_start", begin.load_average.clone().map(Value::from)),
        ("loopback", peer.map(|peer| peer.ip().is_loopback().into())),
        ("server", server.map(Value::from)),
        ("sysctls", Some(json!(sysctls))),
    ];
    let known = facts.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    Value::Object(known.collect::<Map<_, _>>())
}

/// What the kernel does against faults of the processor; those that do not concern it are left out.
fn mitigations() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| {
        let text = read(entry.path().to_str()?)?;
        (text != "Not affected").then(|| Some((entry.file_name().into_string().ok()?, text)))?
    };
    entries.filter_map(one).collect()
}

/// `name : value`, the first of that name.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_string())
}

fn kib(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse::<u64>().ok().map(|n| n * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_cores_memory_and_a_kernel() {
        let facts = facts(&Begin::now(), Some("127.0.0.1:80".parse().unwrap()), Some("corecast 1"));
        assert!(facts["cores"].as_u64().unwrap() > 0 && facts["memory_bytes"].as_u64().unwrap() > 0, "{facts}");
        assert!(facts["kernel"].is_string() && facts["sysctls"]["net.core.somaxconn"].is_string(), "{facts}");
        assert_eq!((&facts["loopback"], &facts["server"]), (&json!(true), &json!("corecast 1")));
    }

    #[test]
    fn files_of_the_kernel_are_understood() {
        assert_eq!(field("a\t: 1\nmodel name\t: X 9\n", "model name").as_deref(), Some("X 9"));
        assert_eq!(kib("2 kB"), Some(2048));
        assert_eq!([chosen("always [madvise] never"), chosen("tsc")], ["madvise", "tsc"]);
        let date = Begin::now().date;
        assert!(date.len() == 23 && date.starts_with("20") && date.ends_with(" UTC"), "{date}");
    }
}
