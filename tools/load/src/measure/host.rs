//! Facts about the host of a run, as far as figures depend on them. What cannot be read is left out.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Kernel settings that change the cost of a socket or the possible number of sockets.
const SYSCTLS: &str = "fs/file-max fs/nr_open net/core/busy_poll net/core/default_qdisc net/core/netdev_max_backlog \
     net/core/rmem_max net/core/somaxconn net/core/wmem_max net/ipv4/ip_local_port_range net/ipv4/tcp_congestion_control \
     net/ipv4/tcp_max_syn_backlog net/ipv4/tcp_mem net/ipv4/tcp_rmem net/ipv4/tcp_tw_reuse net/ipv4/tcp_wmem \
     net/netfilter/nf_conntrack_max";

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// The choice in brackets, such as `madvise` in `always [madvise] never`.
fn chosen(text: &str) -> String {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(one, _)| one).to_string()
}

/// The moment at which a run starts, and the load average of the host at that moment.
#[derive(Clone, Debug, Default)]
pub struct Start {
    pub date: String,
    pub load_average: Option<String>,
}

impl Start {
    pub fn now() -> Self {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let load = read("/proc/loadavg");
        let load_average = load.map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(" "));
        Self { date: utc(seconds), load_average }
    }
}

/// The UTC date and time of Unix seconds (Howard Hinnant's algorithm `civil_from_days`).
fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", time / 3600, time / 60 % 60, time % 60)
}

/// Facts by name, for a run against `peer`.
pub fn facts(start: &Start, peer: Option<SocketAddr>, server: Option<&str>) -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let sysctl = |name: &str| Some((name.replace('/', "."), read(&format!("/proc/sys/{name}"))?));
    let sysctls: BTreeMap<String, String> = SYSCTLS.split(' ').filter_map(sysctl).collect();
    let text = |path: &str| read(path).map(Value::from);
    let facts = [
        ("cpu", field(&cpuinfo, "model name").map(Value::from)),
        ("cores", std::thread::available_parallelism().ok().map(|n| n.get().into())),
        ("smt", read("/sys/devices/system/cpu/smt/active").map(|text| (text == "1").into())),
        ("virtual", Some(field(&cpuinfo, "flags").is_some_and(|flags| flags.contains("hypervisor")).into())),
        ("governor", text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("mitigations", Some(json!(mitigations()))),
        ("memory_bytes", field(&meminfo, "MemTotal").and_then(|text| kib(&text)).map(Value::from)),
        ("kernel", text("/proc/sys/kernel/osrelease")),
        ("clock_source", text("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("huge_pages", read("/sys/kernel/mm/transparent_hugepage/enabled").map(|text| chosen(&text).into())),
        ("files_max", limit.current.map(Value::from)),
        ("files_hard_max", limit.maximum.map(Value::from)),
        ("load_average_at_start", start.load_average.clone().map(Value::from)),
        ("loopback", peer.map(|peer| peer.ip().is_loopback().into())),
        ("server", server.map(Value::from)),
        ("sysctls", Some(json!(sysctls))),
    ];
    let known = facts.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    Value::Object(known.collect::<Map<_, _>>())
}

/// The mitigations of the kernel for processor vulnerabilities that affect this processor.
fn mitigations() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, read(entry.path().to_str()?)?));
    entries.filter_map(one).filter(|(_, text)| text != "Not affected").collect()
}

/// The value of the first line `name : value`.
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
        let facts = facts(&Start::now(), Some("127.0.0.1:80".parse().unwrap()), Some("corecast 1"));
        assert!(facts["cores"].as_u64().unwrap() > 0 && facts["memory_bytes"].as_u64().unwrap() > 0, "{facts}");
        assert!(facts["kernel"].is_string() && facts["sysctls"]["net.core.somaxconn"].is_string(), "{facts}");
        assert_eq!((&facts["loopback"], &facts["server"]), (&json!(true), &json!("corecast 1")));
    }

    #[test]
    fn files_of_the_kernel_are_parsed() {
        assert_eq!(field("a\t: 1\nmodel name\t: X 9\n", "model name").as_deref(), Some("X 9"));
        assert_eq!(kib("2 kB"), Some(2048));
        assert_eq!([chosen("always [madvise] never"), chosen("tsc")], ["madvise", "tsc"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_767_225_599), "2025-12-31 23:59:59 UTC");
    }
}
