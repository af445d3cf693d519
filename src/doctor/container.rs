//! Control groups of containers and services, version 2 or 1: limits on CPU time and memory.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;
use crate::engine::net::cpu_quota::group_folders;

/// Version 1 writes "no limit" as a number larger than any machine's memory.
const BYTES_MAX: u64 = 1 << 50;

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    if host.text(&format!("/proc/{}/cgroup", plan.process)).is_err() {
        return vec![Finding::unknown("control group", &format!("/proc/{}/cgroup", plan.process))];
    }
    let mut found = vec![cores(plan)];
    let (count, file) = throttled(host, plan);
    if let Some(times) = count.filter(|&times| times > 0) {
        found.push(
            Finding::warn("CPU throttling", format!("{times} times ({file})"))
                .expected("never")
                .why("A group that has used its CPU time is stopped until the next period, up to 100 ms, with all its shards.")
                .cost("the container may use more CPU time")
                .fix("raise or remove the limit on CPU time"),
        );
    }
    let limit = memory(host, &plan.process);
    found.push(Finding::ok(
        "memory",
        limit.map_or("no limit".into(), |(most, used)| format!("{} MiB of {} MiB used", used >> 20, most >> 20)),
    ));
    found
}

/// The groups from the process up to the root: folders of a version 1 controller or, with "", of version 2.
fn groups(host: &Host, process: &str, controller: &str) -> Vec<String> {
    let text = host.text(&format!("/proc/{process}/cgroup")).unwrap_or_default();
    group_folders(&text, controller)
}

/// The tightest limit in bytes and the bytes in use. None: no limit, or it cannot be read.
pub(crate) fn memory(host: &Host, process: &str) -> Option<(u64, u64)> {
    let of = |controller: &str, most: &str, used: &str| -> Vec<(u64, u64)> {
        let folders = groups(host, process, controller);
        let both = |folder: &String| {
            let most = host.number(&format!("{folder}/{most}")).ok().filter(|&most| most < BYTES_MAX)?;
            Some((most, host.number(&format!("{folder}/{used}")).unwrap_or(0)))
        };
        folders.iter().filter_map(both).collect()
    };
    let bounds =
        [of("", "memory.max", "memory.current"), of("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")];
    bounds.into_iter().flatten().min_by_key(|(most, used)| most.saturating_sub(*used))
}

fn throttled(host: &Host, plan: &Plan) -> (Option<u64>, String) {
    let folders = ["", "cpu"].iter().flat_map(|controller| groups(host, &plan.process, controller));
    let mut counts = folders.filter_map(|folder| {
        let text = host.text(&format!("{folder}/cpu.stat")).ok()?;
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.trim().parse().ok())?;
        Some((Some(count), format!("{folder}/cpu.stat")))
    });
    counts.find(|(count, _)| *count > Some(0)).unwrap_or((None, String::new()))
}

fn cores(plan: &Plan) -> Finding {
    let name = "CPU time";
    let Some(quota) = plan.cpu_quota else { return Finding::ok(name, "no limit") };
    let actual = format!("{quota:.2} cores for {} shards", plan.shards);
    // One core per shard is enough: the control thread needs little.
    if quota >= plan.shards as f64 {
        return Finding::ok(name, actual);
    }
    let whole = (quota.floor() as usize).max(1);
    // The start rounds up, so that no part of the limit is unused.
    let severity = if plan.shards as f64 <= quota.ceil() { Severity::Note } else { Severity::Fail };
    Finding::new(severity, name, actual)
        .expected(format!("no limit, or at least {}", plan.shards))
        .why("Busy shards use the CPU time of a period in its first part, and all of them are stopped until its end, up to 100 ms.")
        .cost("the container uses whole cores")
        .fix(format!("assign cores instead of CPU time (--cpuset-cpus, or a whole number of CPUs with the static policy), or set shards = {whole}"))
}
