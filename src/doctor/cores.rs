//! The shards' cores: whether they are to be had, whose units and caches they share, what else runs there.

use super::cpus::Cpus;
use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    if plan.usable.is_empty() {
        return vec![Finding::unseen("shards", "/proc/self/status")];
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
        return Finding::fail(name, format!("cores {missing} are not ones that the process may use ({})", plan.usable))
            .should("cores out of those")
            .why("The server does not start.")
            .cost("nothing")
            .mend("name others in `cores`, or let it have them: CPUAffinity= and AllowedCPUs= of the unit, --cpuset-cpus of the container");
    }
    if plan.oversubscribed {
        return Finding::warn(name, format!("{} on {} cores", plan.shards, plan.usable.len()))
            .should("at most one for each core")
            .why("Shards take turns, and waits of one show in the other. Without oversubscribe = true the server does not start.")
            .cost("nothing")
            .mend("lower `shards`, or leave it out");
    }
    Finding::ok(name, format!("{} on cores {}", plan.shards, plan.cores))
}

/// Hyper-threads of one physical core.
fn siblings(host: &Host, plan: &Plan) -> Finding {
    let name = "physical cores (SMT)";
    let mut shared = Vec::new();
    let mut seen = false;
    for core in plan.cores.iter() {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let Some(threads) = host.text(&path).ok().and_then(|text| Cpus::list(&text)) else { continue };
        seen = true;
        let ours: Cpus = threads.iter().filter(|&thread| plan.cores.has(thread)).collect();
        if ours.len() > 1 && ours.iter().next() == Some(core) {
            shared.push(ours);
        }
    }
    if !seen {
        return Finding::unseen(name, "/sys/devices/system/cpu/cpu*/topology");
    }
    if shared.is_empty() {
        return Finding::ok(name, "no two shards share one");
    }
    let firsts: Cpus = plan
        .cores
        .iter()
        .filter(|&core| !shared.iter().any(|pair| pair.has(core) && pair.iter().next() != Some(core)))
        .collect();
    let shown: Vec<String> = shared.iter().take(8).map(|pair| format!("{{{pair}}}")).collect();
    let more = if shared.len() > 8 { " …" } else { "" };
    let severity = if plan.profile.smt_apart { Severity::Warn } else { Severity::Note };
    Finding::new(severity, name, format!("{} are shared by two shards: {}{more}", shared.len(), shown.join(" ")))
        .should("one shard for each, where short waits count more than the sum")
        .why("Two threads of one core share its units and first caches: together they do more than one alone, each alone does less, and one waits for the other.")
        .cost("less in all: a second thread is worth a part of a core")
        .mend(format!("cores = \"{firsts}\" in the configuration"))
}

/// Memory nodes with the cores of each.
pub fn nodes(host: &Host) -> Vec<(usize, Cpus)> {
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
            .should("those of one node, or one server for each")
            .why("What one shard hands to another, every publication, crosses the link between the nodes where they are apart.")
            .cost("fewer cores for one server")
            .mend(format!("cores = \"{}\" in the configuration, and a second server on the others", nodes[0].1)),
    )
}

fn set(host: &Host, file: &str) -> Cpus {
    let text = host.text(&format!("/sys/devices/system/cpu/{file}")).unwrap_or_default();
    Cpus::list(&text).unwrap_or_default()
}

fn isolation(host: &Host, plan: &Plan) -> Option<Finding> {
    let name = "cores kept from everything else";
    let isolated = set(host, "isolated");
    let open = plan.cores.less(&isolated);
    if open.is_empty() {
        return Some(Finding::ok(name, format!("{isolated}")));
    }
    if !isolated.is_empty() && !isolated.meets(&plan.cores) {
        return Some(
            Finding::warn(name, format!("{isolated}, and no shard is there"))
                .should("the shards' cores")
                .why("Nobody uses cores that the scheduler leaves alone unless he is told to.")
                .cost("nothing")
                .mend(format!("cores = \"{isolated}\" in the configuration")),
        );
    }
    if !plan.profile.isolate {
        return None;
    }
    let is = if isolated.is_empty() { "none".into() } else { isolated.to_string() };
    Some(
        Finding::warn(name, is)
            .should(format!("the shards' cores {}", plan.cores))
            .why("Another program on a shard's core takes it for milliseconds at a time, and all clients of the shard wait.")
            .cost("those cores do nothing else, busy or idle; some must be left for the rest")
            .mend(format!(
                "until the next boot: tuning/tune apply cpu --cores {0} --profile {1} --yes; for good: isolcpus=managed_irq,domain,{0} rcu_nocbs={0} \
                 on the kernel's command line",
                plan.cores, plan.profile.name
            )),
    )
}

fn tickless(host: &Host, plan: &Plan) -> Option<Finding> {
    let cores = set(host, "nohz_full");
    cores.meets(&plan.cores).then(|| {
        Finding::warn("cores without a tick (nohz_full)", cores.to_string())
            .should("none of the shards'")
            .why("On such a core every system call also keeps account of time; this server makes one for every write.")
            .cost("the tick again, once in some milliseconds")
            .mend("take nohz_full= off the kernel's command line")
    })
}
