//! Control groups, as containers and services have them: processor time and memory, by version 2 or 1.

use super::finding::Finding;
use super::host::Host;
use super::plan::Plan;

const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 says "no limit" as a number that no machine has.
const BYTES_MAX: u64 = 1 << 50;

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    if host.text(&format!("/proc/{}/cgroup", plan.process)).is_err() {
        return vec![Finding::unseen("control group", &format!("/proc/{}/cgroup", plan.process))];
    }
    let mut found = vec![cores(host, plan)];
    let (file, place) = throttled(host, plan);
    if let Some(times) = file.filter(|&times| times > 0) {
        found.push(
            Finding::warn("processor time, so far", format!("stopped {times} times ({place})"))
                .should("never")
                .why("A group that has used up its time stands still until the next period, up to 100 ms, with all its shards.")
                .cost("as the bound below")
                .mend("raise or remove the bound on processor time"),
        );
    }
    let limit = memory(host, &plan.process);
    found.push(Finding::ok(
        "memory",
        limit.map_or("not bounded".into(), |(most, used)| format!("{} MiB of {} MiB used", used >> 20, most >> 20)),
    ));
    found
}

/// The groups from the process's own up to the root, as folders of a version 1 controller or, with "", of version 2.
fn groups(host: &Host, process: &str, controller: &str) -> Vec<String> {
    let text = host.text(&format!("/proc/{process}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == controller).then(|| path.to_owned())
    });
    let base = if controller.is_empty() { ROOT.to_owned() } else { format!("{ROOT}/{controller}") };
    let path = path.unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut folders = Vec::new();
    loop {
        folders.push([&[base.as_str()], &parts[..]].concat().join("/"));
        if parts.pop().is_none() {
            return folders;
        }
    }
}

/// The least that is allowed, in bytes, and what of it is used. None: not bounded, or not to be seen.
pub fn memory(host: &Host, process: &str) -> Option<(u64, u64)> {
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

/// Cores' worth of time in a period.
fn quota(host: &Host, plan: &Plan) -> Option<f64> {
    let new = groups(host, &plan.process, "").into_iter().filter_map(|folder| {
        let text = host.text(&format!("{folder}/cpu.max")).ok()?;
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    let old = groups(host, &plan.process, "cpu").into_iter().filter_map(|folder| {
        let number = |file: &str| host.text(&format!("{folder}/{file}")).ok()?.parse::<f64>().ok();
        let quota = number("cpu.cfs_quota_us").filter(|&quota| quota > 0.0)?;
        Some(quota / number("cpu.cfs_period_us")?)
    });
    new.chain(old).filter(|cores| cores.is_finite()).min_by(f64::total_cmp)
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

fn cores(host: &Host, plan: &Plan) -> Finding {
    let name = "processor time";
    let Some(quota) = quota(host, plan) else { return Finding::ok(name, "not bounded") };
    let is = format!("{quota:.2} cores' worth for {} shards", plan.shards);
    // Whole cores or more for each shard: the control thread's share is small.
    if quota >= plan.shards as f64 {
        return Finding::ok(name, is);
    }
    let whole = (quota.floor() as usize).max(1);
    Finding::fail(name, is)
        .should(format!("not bounded, or {} and more", plan.shards))
        .why("Busy shards use the period's time up in its first part, and then all of them stand still to its end, up to 100 ms.")
        .cost("the container takes whole cores")
        .mend(format!("give it cores instead of time (--cpuset-cpus, a whole number of cpus with the static policy), or shards = {whole}"))
}
