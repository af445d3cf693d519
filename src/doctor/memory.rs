//! Memory: what the expected connections and the configured bounds need against what is free; huge pages; swap.

use super::container;
use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

/// Bytes of the kernel for an idle established connection: socket, inode, dentry, file, epoll item. A million connections on
/// loopback took about 9.4 GB for both ends.
const KERNEL_BYTES: u64 = 4700;
/// Bytes of the server for a connection with a token and one channel of its own with position and presence.
const SERVER_BYTES: u64 = 1510;
/// Further bytes with TLS.
const TLS_BYTES: u64 = 3737;
/// Bytes of a shard without any load: receive buffer, turn buffers, mail at its bounds.
const SHARD_BYTES: u64 = 32 << 20;

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let mut found = vec![space(host, plan)];
    found.extend(limit(host, plan));
    found.push(huge_pages(host, plan));
    found.push(swap(host, plan));
    found
}

/// A line of /proc/meminfo in bytes.
fn meminfo(host: &Host, key: &str) -> Option<u64> {
    let text = host.text("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

pub(crate) fn total_bytes(host: &Host) -> Option<u64> {
    meminfo(host, "MemTotal")
}

/// The free memory of the host, or of the control group if that is less.
fn available(host: &Host, plan: &Plan) -> Option<u64> {
    let group = container::memory(host, &plan.process).map(|(most, used)| most.saturating_sub(used));
    let machine = meminfo(host, "MemAvailable");
    machine.into_iter().chain(group).min()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}

fn space(host: &Host, plan: &Plan) -> Finding {
    let name = "memory";
    let tls = if plan.tls { TLS_BYTES } else { 0 };
    let each = KERNEL_BYTES + SERVER_BYTES + tls;
    let clients = plan.connections.saturating_mul(each).saturating_add(plan.shards as u64 * SHARD_BYTES);
    let bounds = plan.history_bytes.saturating_add(plan.backlog_bytes);
    let expected = format!(
        "{} for {} clients, and up to {} for histories and slow readers",
        size(clients),
        plan.connections,
        size(bounds)
    );
    let Some(free) = available(host, plan) else {
        return Finding::unknown(name, "/proc/meminfo").expected(expected);
    };
    let severity = match free {
        free if free < clients => Severity::Fail,
        free if free < clients.saturating_add(bounds) => Severity::Warn,
        _ => Severity::Ok,
    };
    Finding::new(severity, name, format!("{} free", size(free)))
        .expected(expected)
        .why("An idle client needs 4.7 KB of the kernel and up to 1.5 KB of the server, and 3.7 KB more with TLS. If memory runs out, the kernel kills the process.")
        .cost("memory, or shorter histories and fewer bytes for slow readers")
        .fix("add memory, allow fewer connections (client.connection_limit), or lower engine.history_bytes_max and engine.backlog_bytes_max")
}

/// `limits.memory_bytes_max`, if it is set or should be.
fn limit(host: &Host, plan: &Plan) -> Option<Finding> {
    let name = "limits.memory_bytes_max";
    let group = container::memory(host, &plan.process).map(|(most, _)| most);
    let total = group.into_iter().chain(total_bytes(host)).min()?;
    match (plan.memory_bytes_max, group) {
        (0, Some(_)) => Some(Finding::ok(name, "not set: 90 % of the limit of the control group")),
        (0, None) => Some(
            Finding::note(name, "not set, and no control group limits the memory")
                .expected(format!("at most {}", size(total / 10 * 9)))
                .why("With a limit the server rejects new connections if memory runs low; without one the kernel kills the process and closes every connection.")
                .cost("nothing below the limit")
                .fix(format!("set limits.memory_bytes_max = \"{}MiB\", or MemoryMax= in the unit", (total / 10 * 9) >> 20)),
        ),
        (set, _) if set > total => Some(
            Finding::warn(name, format!("{}, but there are only {}", size(set), size(total)))
                .expected(format!("at most {}", size(total / 10 * 9)))
                .why("The kernel kills the process before the limit is reached.")
                .cost("nothing")
                .fix(format!("set limits.memory_bytes_max = \"{}MiB\"", (total / 10 * 9) >> 20)),
        ),
        (set, _) => Some(Finding::ok(name, size(set))),
    }
}

fn huge_pages(host: &Host, plan: &Plan) -> Finding {
    let name = "transparent huge pages";
    let folder = "/sys/kernel/mm/transparent_hugepage";
    let chosen = |file: &str| {
        let text = host.text(&format!("{folder}/{file}")).ok()?;
        Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
    };
    let Some(enabled) = chosen("enabled") else {
        return match host.exists("/sys/kernel/mm") {
            true => Finding::ok(name, "not in this kernel"),
            false => Finding::unknown(name, "/sys/kernel/mm"),
        };
    };
    let defrag = chosen("defrag").unwrap_or_default();
    let fine = (enabled == plan.profile.thp || enabled == "never") && defrag != "always";
    let severity = if fine { Severity::Ok } else { Severity::Warn };
    let fix = format!("tuning/tune apply memory --profile {} --yes", plan.profile.name);
    Finding::new(severity, name, format!("{enabled}, defrag {defrag}"))
        .expected(format!("{} or never; defrag not always", plan.profile.thp))
        .why("With \"always\" small allocations grow to 2 MiB each, and a core may stop for milliseconds while the kernel frees such a page.")
        .cost("other programs on this host get huge pages only if they ask for them")
        .fix(fix)
}

fn swap(host: &Host, plan: &Plan) -> Finding {
    let name = "swap";
    let Ok(text) = host.text("/proc/swaps") else { return Finding::unknown(name, "/proc/swaps") };
    let areas = text.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
    let swappiness = host.sysctl("vm.swappiness").unwrap_or_default();
    if areas == 0 {
        return Finding::ok(name, "none");
    }
    let severity = if plan.profile.swap_off { Severity::Warn } else { Severity::Note };
    Finding::new(severity, name, format!("{areas} swap areas, vm.swappiness {swappiness}"))
        .expected("none for this service")
        .why("The memory of idle clients is swapped out first, and a shard that reads it back stops serving all its clients meanwhile.")
        .cost("without swap the kernel kills a process if memory runs out; limits.memory_bytes_max rejects connections before that")
        .fix("set MemorySwapMax=0 in the unit (tuning/systemd/corecast.service has it), or run swapoff -a")
}
