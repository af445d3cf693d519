//! Network interfaces against the shards: queues, the cores that handle their interrupts, RPS, XPS, memory node.

use super::cores;
use super::cpus::Cpus;
use super::finding::{Finding, Severity};
use super::host::Host;
use super::nic::Nic;
use super::plan::Plan;
use super::profile::Irqs;

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    if let Some(name) = &plan.no_such_interface {
        let names = host.names("/sys/class/net").unwrap_or_default().join(", ");
        return vec![
            Finding::unknown("interface", &format!("{name} does not exist on this host and"))
                .fix(format!("name one of: {names}")),
        ];
    }
    if plan.loopback {
        return vec![
            Finding::note(
                "interface",
                "the server listens only on loopback, so there is no network interface to check",
            )
            .fix("use --config FILE or --interface NAME to check the network interface of the clients"),
        ];
    }
    if plan.nics.is_empty() {
        return vec![
            Finding::unknown("interface", "a default route or an interface in /sys/class/net")
                .fix("name the interface with --interface NAME"),
        ];
    }
    plan.nics.iter().flat_map(|nic| judge(host, plan, nic)).collect()
}

fn judge(host: &Host, plan: &Plan, nic: &Nic) -> Vec<Finding> {
    if !nic.is_physical {
        let actual = format!("{} receive and {} send queues, a virtual interface", nic.rx, nic.tx);
        return vec![
            Finding::note(nic.name.clone(), actual)
                .why("Its packets come through another interface, of the host or outside the container.")
                .fix("run the doctor where that interface is"),
        ];
    }
    let mut found = vec![queues(plan, nic), spreading(plan, nic)];
    found.extend(interrupts(plan, nic));
    found.extend(sending(plan, nic));
    found.extend(node(host, plan, nic));
    if host.runs("irqbalance") && plan.profile.irqs != Irqs::Any {
        found.push(irqbalance(nic));
    }
    found
}

fn tune(nic: &Nic, plan: &Plan) -> String {
    format!(
        "tuning/tune apply irq --interface {} --cores {} --profile {} --yes",
        nic.name,
        plan.places(),
        plan.profile.name
    )
}

fn queues(plan: &Plan, nic: &Nic) -> Finding {
    let actual = format!("{} receive, {} send", nic.rx, nic.tx);
    let few = nic.rx < plan.shards;
    let severity = if few { Severity::Note } else { Severity::Ok };
    Finding::new(severity, format!("{}: queues", nic.name), actual)
        .expected(format!("{}, one per shard", plan.shards))
        .why("One core handles all packets of a queue. With fewer queues than shards, some cores handle the packets of others.")
        .cost("an interrupt and buffers per queue, a few MiB")
        .fix(format!("ethtool -l {} shows how many queues are possible; {}", nic.name, tune(nic, plan)))
}

/// Virtual devices and containers may have no interrupts, or none that can be read.
fn interrupts(plan: &Plan, nic: &Nic) -> Option<Finding> {
    let name = format!("{}: interrupts", nic.name);
    if nic.irqs.is_empty() {
        return Some(Finding::unknown(
            name,
            &format!("/proc/interrupts has no line for {}, so its interrupts", nic.name),
        ));
    }
    if plan.cores.is_empty() || plan.profile.irqs == Irqs::Any {
        let on: Cpus = nic.irqs.iter().flat_map(|irq| irq.cpus.iter()).collect();
        return Some(Finding::ok(name, format!("{} on cores {on}", nic.irqs.len())));
    }
    let on_shards = nic.irqs.iter().filter(|irq| irq.cpus.meets(&plan.cores)).count();
    let busiest = plan
        .cores
        .iter()
        .map(|core| (handled_by(nic, core), core))
        .max_by_key(|&(count, core)| (count, usize::MAX - core));
    let (most, busiest) = busiest.unwrap_or_default();
    let fair = nic.irqs.len().div_ceil(plan.cores.len());
    let (wrong, expected) = match plan.profile.irqs {
        Irqs::Apart => (on_shards > 0, "on cores without a shard".to_owned()),
        // All interrupts on other cores is also a good choice, if there are spare cores.
        _ => (
            on_shards > 0 && (on_shards < nic.irqs.len() || most > fair),
            format!("evenly on the shards' cores {}, at most {fair} each; or all on other cores", plan.cores),
        ),
    };
    let on: Vec<String> = nic.irqs.iter().take(32).map(|irq| irq.cpus.to_string()).collect();
    let actual = match on_shards {
        0 => format!("{} on cores without a shard ({})", nic.irqs.len(), on.join(" ")),
        _ => format!(
            "{on_shards} of {} on shards' cores, {most} of them on core {busiest} ({})",
            nic.irqs.len(),
            on.join(" ")
        ),
    };
    let severity = if wrong { Severity::Warn } else { Severity::Ok };
    Some(
        Finding::new(severity, name, actual)
            .expected(expected)
            .why("A core that handles the packets of other shards has less time for its own shard, whose clients wait longer.")
            .cost("nothing")
            .fix(tune(nic, plan)),
    )
}

fn handled_by(nic: &Nic, core: usize) -> usize {
    nic.irqs.iter().filter(|irq| irq.cpus.has(core)).count()
}

/// RPS.
fn spreading(plan: &Plan, nic: &Nic) -> Finding {
    let name = format!("{}: receive packet steering (RPS)", nic.name);
    if nic.rps.is_empty() {
        return Finding::unknown(name, &format!("/sys/class/net/{}/queues/rx-0/rps_cpus", nic.name));
    }
    let on: Cpus = nic.rps.iter().flat_map(Cpus::iter).collect();
    let few = nic.rx < plan.shards;
    let wanted = few && plan.profile.rps;
    let actual = if on.is_empty() { "off".to_owned() } else { format!("on, to cores {on}") };
    let (severity, expected) = match (wanted, on.is_empty()) {
        (true, true) => (Severity::Warn, format!("to the shards' cores {}", plan.places())),
        (true, false) => (Severity::Ok, String::new()),
        (false, true) => (Severity::Ok, String::new()),
        (false, false) => (Severity::Warn, "off".to_owned()),
    };
    let why = match wanted {
        true => {
            "With fewer queues than shards, one core does the network work of all and is the first to be overloaded."
        }
        false => "Each shard has its own queue, and moving packets to another core costs an interrupt between cores.",
    };
    let cost = if wanted { "an interrupt between cores per batch of packets" } else { "nothing" };
    Finding::new(severity, name, actual).expected(expected).why(why).cost(cost).fix(tune(nic, plan))
}

/// XPS. Nothing to choose with one queue.
fn sending(plan: &Plan, nic: &Nic) -> Option<Finding> {
    if nic.tx < 2 || nic.xps.is_empty() || plan.cores.is_empty() {
        return None;
    }
    let name = format!("{}: transmit packet steering (XPS)", nic.name);
    let none = plan.cores.iter().filter(|&core| !nic.xps.iter().any(|cpus| cpus.has(core))).collect::<Cpus>();
    let busy = plan.cores.iter().filter(|&core| nic.xps.iter().filter(|cpus| cpus.has(core)).count() > 1).count();
    if none.is_empty() {
        let actual = if busy == 0 { "each core has its own".into() } else { format!("{busy} cores have several") };
        return Some(Finding::ok(name, actual));
    }
    Some(
        Finding::warn(name, format!("the cores {none} have none"))
            .expected("every shard's core has one")
            .why("Without it the queue is chosen by hash, and cores wait for each other's lock on every write.")
            .cost("nothing")
            .fix(tune(nic, plan)),
    )
}

fn node(host: &Host, plan: &Plan, nic: &Nic) -> Option<Finding> {
    let nodes = cores::nodes(host);
    let node = nic.node.filter(|_| nodes.len() > 1)?;
    let name = format!("{}: memory node", nic.name);
    let near = &nodes.iter().find(|(number, _)| *number == node)?.1;
    let far = plan.cores.less(near);
    if far.is_empty() {
        return Some(Finding::ok(name, format!("{node}, with all shards")));
    }
    Some(
        Finding::new(if far.len() == plan.cores.len() { Severity::Warn } else { Severity::Note }, name, format!("{node}; the shards on cores {far} are on another node"))
            .expected(format!("shards on the cores of that node: {near}"))
            .why("Packets are written to the memory of the interface's node; a core of another node reads them across the link between the nodes.")
            .cost("the cores of the other node serve no clients; a second server with its own interface can use them")
            .fix(format!("cores = \"{near}\" in the configuration")),
    )
}

fn irqbalance(nic: &Nic) -> Finding {
    let banned: Vec<String> = nic.irqs.iter().map(|irq| format!("--banirq={}", irq.number)).collect();
    Finding::warn(format!("{}: irqbalance", nic.name), "running")
        .expected("stopped, or configured to ignore this interface")
        .why("It moves interrupts every ten seconds, also those that were placed manually.")
        .cost("interrupts of other devices are no longer moved")
        .fix(format!(
            "run systemctl disable --now irqbalance, then tuning/tune apply irq; or set IRQBALANCE_ARGS=\"{}\"",
            banned.join(" ")
        ))
}
