//! Network cards against the shards: queues, whose cores take their interrupts, spreading by software, memory node.

use super::card::Card;
use super::cores;
use super::cpus::Cpus;
use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;
use super::profile::Irqs;

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    if let Some(name) = &plan.no_such_interface {
        let there = host.names("/sys/class/net").unwrap_or_default().join(", ");
        return vec![
            Finding::unseen("interface", &format!("{name} is not on this host, and"))
                .mend(format!("name one of: {there}")),
        ];
    }
    if plan.loopback {
        return vec![
            Finding::note("interface", "the server listens on loopback only: no card is in the way")
                .mend("with --config FILE or --interface NAME the card that clients come through is looked at"),
        ];
    }
    if plan.cards.is_empty() {
        return vec![
            Finding::unseen("interface", "/sys/class/net, or a default route in it,").mend("name it: --interface NAME"),
        ];
    }
    plan.cards.iter().flat_map(|card| judge(host, plan, card)).collect()
}

fn judge(host: &Host, plan: &Plan, card: &Card) -> Vec<Finding> {
    if !card.is_physical {
        let is = format!("{} receive and {} send queues, no device behind it", card.rx, card.tx);
        return vec![
            Finding::note(card.name.clone(), is)
                .why("Its packets come through another card, of the host or below the container.")
                .mend("run the doctor where that card is"),
        ];
    }
    let mut found = vec![queues(plan, card), spreading(plan, card)];
    found.extend(interrupts(plan, card));
    found.extend(sending(plan, card));
    found.extend(node(host, plan, card));
    if host.runs("irqbalance") && plan.profile.irqs != Irqs::Any {
        found.push(irqbalance(card));
    }
    found
}

fn tune(card: &Card, plan: &Plan) -> String {
    format!(
        "tuning/tune apply irq --interface {} --cores {} --profile {} --yes",
        card.name,
        plan.places(),
        plan.profile.name
    )
}

fn queues(plan: &Plan, card: &Card) -> Finding {
    let is = format!("{} receive, {} send", card.rx, card.tx);
    let few = card.rx < plan.shards;
    let severity = if few { Severity::Note } else { Severity::Ok };
    Finding::new(severity, format!("{}: queues", card.name), is)
        .should(format!("{}, one for each shard", plan.shards))
        .why("A queue's packets are taken in on one core. With fewer queues than shards some cores do it for others.")
        .cost("an interrupt and buffers for each queue, some MiB")
        .mend(format!("ethtool -l {} says what the card has; {}", card.name, tune(card, plan)))
}

/// None where it has none, or the kernel does not say: virtual devices, containers.
fn interrupts(plan: &Plan, card: &Card) -> Option<Finding> {
    let name = format!("{}: interrupts", card.name);
    if card.irqs.is_empty() {
        return Some(Finding::unseen(
            name,
            &format!("whose they are: no line of /proc/interrupts names {}, which", card.name),
        ));
    }
    if plan.cores.is_empty() || plan.profile.irqs == Irqs::Any {
        let on: Cpus = card.irqs.iter().flat_map(|irq| irq.cpus.iter()).collect();
        return Some(Finding::ok(name, format!("{} on cores {on}", card.irqs.len())));
    }
    let on_shards = card.irqs.iter().filter(|irq| irq.cpus.meets(&plan.cores)).count();
    let busiest =
        plan.cores.iter().map(|core| (takes(card, core), core)).max_by_key(|&(count, core)| (count, usize::MAX - core));
    let (most, busiest) = busiest.unwrap_or_default();
    let fair = card.irqs.len().div_ceil(plan.cores.len());
    let (wrong, should) = match plan.profile.irqs {
        Irqs::Apart => (on_shards > 0, "on cores without a shard".to_owned()),
        // All of them elsewhere is a choice too, and a good one where there are cores to spare.
        _ => (
            on_shards > 0 && (on_shards < card.irqs.len() || most > fair),
            format!("evenly on the shards' cores {}, at most {fair} each; or all on others", plan.cores),
        ),
    };
    let on: Vec<String> = card.irqs.iter().take(32).map(|irq| irq.cpus.to_string()).collect();
    let is = match on_shards {
        0 => format!("{} on cores without a shard ({})", card.irqs.len(), on.join(" ")),
        _ => format!(
            "{on_shards} of {} on shards' cores, {most} of them on core {busiest} ({})",
            card.irqs.len(),
            on.join(" ")
        ),
    };
    let severity = if wrong { Severity::Warn } else { Severity::Ok };
    Some(
        Finding::new(severity, name, is)
            .should(should)
            .why("A core that takes in the packets of others has less time for its own shard, whose clients wait longer.")
            .cost("nothing")
            .mend(tune(card, plan)),
    )
}

fn takes(card: &Card, core: usize) -> usize {
    card.irqs.iter().filter(|irq| irq.cpus.has(core)).count()
}

/// RPS.
fn spreading(plan: &Plan, card: &Card) -> Finding {
    let name = format!("{}: packets spread by software (RPS)", card.name);
    if card.rps.is_empty() {
        return Finding::unseen(name, &format!("/sys/class/net/{}/queues/rx-0/rps_cpus", card.name));
    }
    let on: Cpus = card.rps.iter().flat_map(Cpus::iter).collect();
    let few = card.rx < plan.shards;
    let wanted = few && plan.profile.rps;
    let is = if on.is_empty() { "off".to_owned() } else { format!("on, to cores {on}") };
    let (severity, should) = match (wanted, on.is_empty()) {
        (true, true) => (Severity::Warn, format!("to the shards' cores {}", plan.places())),
        (true, false) => (Severity::Ok, String::new()),
        (false, true) => (Severity::Ok, String::new()),
        (false, false) => (Severity::Warn, "off".to_owned()),
    };
    let why = match wanted {
        true => "With fewer queues than shards, one core does the network's work for all; it is the first to be full.",
        false => "Each shard has a queue of its own: handing packets to another core costs an interrupt between cores.",
    };
    let cost = if wanted { "an interrupt between cores for a batch of packets" } else { "nothing" };
    Finding::new(severity, name, is).should(should).why(why).cost(cost).mend(tune(card, plan))
}

/// XPS; a card with one queue has no choice.
fn sending(plan: &Plan, card: &Card) -> Option<Finding> {
    if card.tx < 2 || card.xps.is_empty() || plan.cores.is_empty() {
        return None;
    }
    let name = format!("{}: send queues by core (XPS)", card.name);
    let none = plan.cores.iter().filter(|&core| !card.xps.iter().any(|cpus| cpus.has(core))).collect::<Cpus>();
    let busy = plan.cores.iter().filter(|&core| card.xps.iter().filter(|cpus| cpus.has(core)).count() > 1).count();
    if none.is_empty() {
        let is = if busy == 0 { "each core has one of its own".into() } else { format!("{busy} cores have several") };
        return Some(Finding::ok(name, is));
    }
    Some(
        Finding::warn(name, format!("cores {none} have none"))
            .should("every shard's core has one")
            .why("Without it the queue is chosen by hash, and cores wait for each other at its lock in every write.")
            .cost("nothing")
            .mend(tune(card, plan)),
    )
}

fn node(host: &Host, plan: &Plan, card: &Card) -> Option<Finding> {
    let nodes = cores::nodes(host);
    let node = card.node.filter(|_| nodes.len() > 1)?;
    let name = format!("{}: memory node", card.name);
    let near = &nodes.iter().find(|(number, _)| *number == node)?.1;
    let far = plan.cores.less(near);
    if far.is_empty() {
        return Some(Finding::ok(name, format!("{node}, where all shards are")));
    }
    Some(
        Finding::new(if far.len() == plan.cores.len() { Severity::Warn } else { Severity::Note }, name, format!("{node}; shards on cores {far} are far from it"))
            .should(format!("shards on that node's cores: {near}"))
            .why("Packets are written into the memory of the card's node; a core of another reads each across the link between them.")
            .cost("the far node's cores serve no clients; a second server with a card of its own can have them")
            .mend(format!("cores = \"{near}\" in the configuration")),
    )
}

fn irqbalance(card: &Card) -> Finding {
    let banned: Vec<String> = card.irqs.iter().map(|irq| format!("--banirq={}", irq.number)).collect();
    Finding::warn(format!("{}: irqbalance", card.name), "runs")
        .should("stopped, or told to leave the card alone")
        .why("It moves interrupts every ten seconds, also those that were placed by hand.")
        .cost("interrupts of other devices stay where they are")
        .mend(format!(
            "systemctl disable --now irqbalance, then tuning/tune apply irq; or IRQBALANCE_ARGS=\"{}\"",
            banned.join(" ")
        ))
}
