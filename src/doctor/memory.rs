//! Memory: what the expected connections and the configured bounds take against what there is, huge pages, swap.

use super::container;
use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

/// Bytes of the kernel for an established connection that is idle: socket, inode, dentry, file, epoll item. A
/// million on loopback took about 9.4 GB for both ends.
const KERNEL_BYTES: u64 = 4700;
/// Bytes of the server for one with a token, a channel of its own, position and presence (README, "What it showed").
const SERVER_BYTES: u64 = 1510;
/// More with TLS.
const TLS_BYTES: u64 = 3737;
/// Bytes of a shard whatever its load: receive buffer, turn buffers, mail at its bounds.
const SHARD_BYTES: u64 = 32 << 20;

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    let mut found = vec![room(host, plan)];
    found.extend(mark(host, plan));
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

pub fn total_bytes(host: &Host) -> Option<u64> {
    meminfo(host, "MemTotal")
}

/// What is free, within the control group where that says less.
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

fn room(host: &Host, plan: &Plan) -> Finding {
    let name = "memory";
    let tls = if plan.tls { TLS_BYTES } else { 0 };
    let each = KERNEL_BYTES + SERVER_BYTES + tls;
    let clients = plan.connections.saturating_mul(each).saturating_add(plan.shards as u64 * SHARD_BYTES);
    let bounds = plan.history_bytes.saturating_add(plan.backlog_bytes);
    let should = format!(
        "{} for {} clients, and up to {} for histories and slow readers",
        size(clients),
        plan.connections,
        size(bounds)
    );
    let Some(free) = available(host, plan) else {
        return Finding::unseen(name, "/proc/meminfo").should(should);
    };
    let severity = match free {
        free if free < clients => Severity::Fail,
        free if free < clients.saturating_add(bounds) => Severity::Warn,
        _ => Severity::Ok,
    };
    Finding::new(severity, name, format!("{} free", size(free)))
        .should(should)
        .why("An idle client takes 4.7 KB of the kernel and up to 1.5 KB of the server, 3.7 KB more with TLS. Past what there is, the kernel kills the process.")
        .cost("memory, or shorter histories and fewer bytes for slow readers")
        .mend("more memory, fewer connections (client.connection_limit), or smaller engine.history_bytes_max and engine.backlog_bytes_max")
}

/// `limits.memory_bytes_max`, where it is set or missed.
fn mark(host: &Host, plan: &Plan) -> Option<Finding> {
    let name = "limits.memory_bytes_max";
    let group = container::memory(host, &plan.process).map(|(most, _)| most);
    let there = group.into_iter().chain(total_bytes(host)).min()?;
    match (plan.memory_bytes_max, group) {
        (0, Some(_)) => Some(Finding::ok(name, "unset: nine tenths of what the control group allows")),
        (0, None) => Some(
            Finding::note(name, "unset, and no control group bounds the memory")
                .should(format!("at most {}", size(there / 10 * 9)))
                .why("With a mark, nobody new is let in when memory runs short; without, the kernel kills the process with everybody in it.")
                .cost("nothing below it")
                .mend(format!("limits.memory_bytes_max = \"{}MiB\", or MemoryMax= in the unit", (there / 10 * 9) >> 20)),
        ),
        (set, _) if set > there => Some(
            Finding::warn(name, format!("{}, and there are {}", size(set), size(there)))
                .should(format!("at most {}", size(there / 10 * 9)))
                .why("The kernel kills the process before the mark is reached.")
                .cost("nothing")
                .mend(format!("limits.memory_bytes_max = \"{}MiB\"", (there / 10 * 9) >> 20)),
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
            false => Finding::unseen(name, "/sys/kernel/mm"),
        };
    };
    let defrag = chosen("defrag").unwrap_or_default();
    let fine = (enabled == plan.profile.thp || enabled == "never") && defrag != "always";
    let severity = if fine { Severity::Ok } else { Severity::Warn };
    let mend = format!("tuning/tune apply memory --profile {} --yes", plan.profile.name);
    Finding::new(severity, name, format!("{enabled}, defrag {defrag}"))
        .should(format!("{} or never; defrag not always", plan.profile.thp))
        .why("With \"always\" small allocations grow to 2 MiB each, and a core may stop for milliseconds while the kernel makes room for one.")
        .cost("other programs of this host that do not ask for huge pages get none")
        .mend(mend)
}

fn swap(host: &Host, plan: &Plan) -> Finding {
    let name = "swap";
    let Ok(text) = host.text("/proc/swaps") else { return Finding::unseen(name, "/proc/swaps") };
    let areas = text.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
    let swappiness = host.sysctl("vm.swappiness").unwrap_or_default();
    if areas == 0 {
        return Finding::ok(name, "none");
    }
    let severity = if plan.profile.swap_off { Severity::Warn } else { Severity::Note };
    Finding::new(severity, name, format!("{areas} areas, vm.swappiness {swappiness}"))
        .should("none for this service")
        .why("An idle client's memory is the first to be written out, and a shard that reads it back stands still for all its clients.")
        .cost("without swap a shortage ends in the kernel killing somebody; limits.memory_bytes_max is the gentler bound")
        .mend("MemorySwapMax=0 in the unit (tuning/systemd/corecast.service has it), or swapoff -a")
}
