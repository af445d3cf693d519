//! The shards' cores: whether the process may use them, what they share, and what else runs on them.

use super::cpus::Cpus;
use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    if plan.usable.is_empty() {
        return vec![Finding::unknown("shards", "/proc/self/status")];
    }
    let mut found = vec![shards(plan)];
    if !plan.cores.is_empty() {
        found.push(siblings(host, plan));
        found.extend(spread(host, plan));
        found.extend(isolation(host, plan));
        found.extend(tickless(host, plan));
    }
    found
}

fn shards(plan: &Plan) -> Finding {
    let name = "shards";
    if !plan.missing.is_empty() {
        let missing: Cpus = plan.missing.iter().copied().collect();
        return Finding::fail(name, format!("the process may not use the cores {missing}, only {}", plan.usable))
            .expected("cores that the process may use")
            .why("The server does not start.")
            .cost("nothing")
            .fix("list other cores in `cores`, or allow these: CPUAffinity= and AllowedCPUs= in the unit, --cpuset-cpus for the container");
    }
    if plan.oversubscribed {
        return Finding::warn(name, format!("{} on {} cores", plan.shards, plan.usable.len()))
            .expected("at most one per core")
            .why("Shards on one core delay each other. Without oversubscribe = true the server does not start.")
            .cost("nothing")
            .fix("lower `shards`, or remove it");
    }
    Finding::ok(name, format!("{} on cores {}", plan.shards, plan.cores))
}

/// Hyper-threads of one physical core.
fn siblings(host: &Host, plan: &Plan) -> Finding {
    let name = "physical cores (SMT)";
    let mut shared = Vec::new();
    let mut readable = false;
    for core in plan.cores.iter() {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let Some(threads) = host.text(&path).ok().and_then(|text| Cpus::list(&text)) else { continue };
        readable = true;
        let ours: Cpus = threads.iter().filter(|&thread| plan.cores.has(thread)).collect();
        if ours.len() > 1 && ours.iter().next() == Some(core) {
            shared.push(ours);
        }
    }
    if !readable {
        return Finding::unknown(name, "/sys/devices/system/cpu/cpu*/topology");
    }
    if shared.is_empty() {
        return Finding::ok(name, "no two shards share a core");
    }
    let firsts: Cpus = plan
        .cores
        .iter()
        .filter(|&core| !shared.iter().any(|pair| pair.has(core) && pair.iter().next() != Some(core)))
        .collect();
    let shown: Vec<String> = shared.iter().take(8).map(|pair| format!("{{{pair}}}")).collect();
    let more = if shared.len() > 8 { " …" } else { "" };
    let severity = if plan.profile.smt_apart { Severity::Warn } else { Severity::Note };
    Finding::new(severity, name, format!("{} are shared by two or more shards: {}{more}", shared.len(), shown.join(" ")))
        .expected("one shard per physical core, if low latency is more important than total throughput")
        .why("Two threads of a core share its execution units and caches. Together they do more than one alone, but each is slower and delays the other.")
        .cost("less total throughput: a second thread adds a part of a core")
        .fix(format!("cores = \"{firsts}\" in the configuration"))
}

/// The memory nodes, each with its cores.
pub(crate) fn nodes(host: &Host) -> Vec<(usize, Cpus)> {
    let folder = "/sys/devices/system/node";
    let names = host.names(folder).unwrap_or_default();
    let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse::<usize>().ok());
    let cores = |node: usize| Cpus::list(&host.text(&format!("{folder}/node{node}/cpulist")).ok()?);
    numbers.filter_map(|node| Some((node, cores(node)?))).filter(|(_, cores)| !cores.is_empty()).collect()
}

fn spread(host: &Host, plan: &Plan) -> Option<Finding> {
    let nodes = nodes(host);
    if nodes.len() < 2 {
        return None;
    }
    let used: Vec<String> =
        nodes.iter().filter(|(_, cores)| cores.meets(&plan.cores)).map(|(node, _)| node.to_string()).collect();
    let name = "memory nodes (NUMA)";
    if used.len() < 2 {
        return Some(Finding::ok(name, format!("all shards on node {}", used.join(""))));
    }
    Some(
        Finding::note(name, format!("shards on nodes {}", used.join(", ")))
            .expected("cores of one node, or one server per node")
            .why("A publication that one shard sends to another crosses the link between their nodes.")
            .cost("fewer cores for one server")
            .fix(format!("cores = \"{}\" in the configuration, and a second server on the others", nodes[0].1)),
    )
}

fn set(host: &Host, file: &str) -> Cpus {
    let text = host.text(&format!("/sys/devices/system/cpu/{file}")).unwrap_or_default();
    Cpus::list(&text).unwrap_or_default()
}

fn isolation(host: &Host, plan: &Plan) -> Option<Finding> {
    let name = "isolated cores";
    let isolated = set(host, "isolated");
    let open = plan.cores.less(&isolated);
    if open.is_empty() {
        return Some(Finding::ok(name, format!("{isolated}")));
    }
    if !isolated.is_empty() && !isolated.meets(&plan.cores) {
        return Some(
            Finding::warn(name, format!("{isolated}, and no shard runs there"))
                .expected("the shards' cores")
                .why("The scheduler does not use isolated cores, so they are idle unless a program is placed there.")
                .cost("nothing")
                .fix(format!("cores = \"{isolated}\" in the configuration")),
        );
    }
    if !plan.profile.isolate {
        return None;
    }
    let actual = if isolated.is_empty() { "none".into() } else { isolated.to_string() };
    Some(
        Finding::warn(name, actual)
            .expected(format!("the shards' cores {}", plan.cores))
            .why("Another program can occupy a shard's core for milliseconds, and all clients of the shard wait.")
            .cost("other programs cannot use those cores, even if they are idle; some cores must remain for them")
            .fix(format!(
                "until the next boot: tuning/tune apply cpu --cores {0} --profile {1} --yes; permanently: \
                 isolcpus=managed_irq,domain,{0} rcu_nocbs={0} on the kernel command line",
                plan.cores, plan.profile.name
            )),
    )
}

fn tickless(host: &Host, plan: &Plan) -> Option<Finding> {
    let cores = set(host, "nohz_full");
    cores.meets(&plan.cores).then(|| {
        Finding::warn("tickless cores (nohz_full)", cores.to_string())
            .expected("no core of a shard")
            .why("On such a core every system call also accounts for CPU time, and this server makes a system call for every write.")
            .cost("a timer tick every few milliseconds")
            .fix("remove nohz_full= from the kernel command line")
    })
}
