//! Settings of the engine that only help on some hosts: those that are set against what this host has.

use super::finding::Finding;
use super::host::Host;
use super::kernel;
use super::plan::Plan;

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    let mut found = vec![steering(plan)];
    found.extend(polling(host, plan));
    found.extend(huge_pages(host, plan));
    found
}

/// Every shard's core takes the interrupts of a queue, and no other core takes any.
fn has_queue_for_each_shard(plan: &Plan) -> bool {
    let cores = &plan.cores;
    let fits = |card: &super::card::Card| {
        card.rx >= plan.shards
            && cores.iter().all(|core| card.irqs.iter().any(|irq| irq.cpus.has(core)))
            && card.irqs.iter().all(|irq| irq.cpus.len() == 1 && irq.cpus.meets(cores))
    };
    !cores.is_empty() && !plan.loopback && !plan.cards.is_empty() && plan.cards.iter().all(fits)
}

fn steering(plan: &Plan) -> Finding {
    let name = "machine.incoming_cpu";
    match (plan.machine.incoming_cpu, has_queue_for_each_shard(plan)) {
        (true, true) => Finding::ok(name, "set, and each shard's core takes a queue's packets"),
        (false, false) => Finding::ok(name, "unset, and the card's queues are not laid out for it"),
        (true, false) => Finding::warn(name, "set, and the card's queues are not one for each shard's core")
            .should("unset, or the queues laid out for it")
            .why("A connection goes to the shard on whose core its packets come in; shards whose cores take none get no clients.")
            .cost("nothing")
            .mend("tuning/tune apply irq --yes, or machine.incoming_cpu = false"),
        (false, true) => Finding::note(name, "unset, and each shard's core takes a queue's packets")
            .should("set")
            .why("Then a packet is taken in on the core that will read it, and no other core is woken.")
            .cost("connections are spread as the card spreads them")
            .mend("machine.incoming_cpu = true"),
    }
}

fn polling(host: &Host, plan: &Plan) -> Vec<Finding> {
    let machine = &plan.machine;
    if machine.busy_poll.is_zero() {
        return Vec::new();
    }
    let name = "machine.busy_poll";
    let set = format!("{} µs", machine.busy_poll.as_micros());
    let mut found = vec![match (kernel::has_epoll_params(host), plan.loopback) {
        (false, _) => Finding::warn(name, format!("{set}, which this kernel cannot do"))
            .should("0s, or Linux 6.9 and newer")
            .mend("net.core.busy_poll does it for the whole host: tuning/tune apply busypoll --profile latency --yes"),
        (true, true) => Finding::warn(name, format!("{set}, on loopback"))
            .should("0s")
            .why("Loopback has no queue to look at; the time is lost.")
            .mend("machine.busy_poll = \"0s\""),
        (true, false) => Finding::ok(name, set),
    }];
    let deferred = |name: &str| host.number(&format!("/sys/class/net/{name}/napi_defer_hard_irqs")).unwrap_or(0) > 0;
    if machine.busy_poll_prefer && !plan.cards.iter().all(|card| deferred(&card.name)) {
        found.push(
            Finding::warn("machine.busy_poll_prefer", "set, and the card does not defer its interrupts")
                .should("napi_defer_hard_irqs and gro_flush_timeout above 0")
                .why("Without them the card interrupts all the same.")
                .cost("a shard that does not look keeps packets waiting for up to gro_flush_timeout")
                .mend("a profile with napi_defer_hard_irqs and gro_flush_timeout_ns, and tuning/tune apply busypoll"),
        );
    }
    found
}

fn huge_pages(host: &Host, plan: &Plan) -> Option<Finding> {
    let text = host.text("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let granted = text.contains("[madvise]") || text.contains("[always]");
    plan.machine.huge_pages.then(|| match granted {
        true => Finding::ok("machine.huge_pages", "set, and the kernel gives them"),
        false => Finding::warn("machine.huge_pages", "set, and the kernel gives none")
            .should("transparent_hugepage at madvise")
            .cost("memory below some hundred thousand connections")
            .mend("tuning/tune apply memory --yes, or machine.huge_pages = false"),
    })
}
