//! Settings of the section `machine`, which help only on some hosts, against what this host has.

use super::finding::Finding;
use super::host::Host;
use super::kernel;
use super::plan::Plan;

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let mut found = vec![steering(plan)];
    found.extend(polling(host, plan));
    found.extend(huge_pages(host, plan));
    found
}

/// The core of every shard handles the interrupts of a queue, and no other core does.
fn has_queue_for_each_shard(plan: &Plan) -> bool {
    let cores = &plan.cores;
    let fits = |nic: &super::nic::Nic| {
        nic.rx >= plan.shards
            && cores.iter().all(|core| nic.irqs.iter().any(|irq| irq.cpus.has(core)))
            && nic.irqs.iter().all(|irq| irq.cpus.len() == 1 && irq.cpus.meets(cores))
    };
    !cores.is_empty() && !plan.loopback && !plan.nics.is_empty() && plan.nics.iter().all(fits)
}

fn steering(plan: &Plan) -> Finding {
    let name = "machine.incoming_cpu";
    match (plan.machine.incoming_cpu, has_queue_for_each_shard(plan)) {
        (true, true) => Finding::ok(name, "set, and each shard's core receives the packets of a queue"),
        (false, false) => Finding::ok(name, "not set, and the queues of the network interface are not arranged for it"),
        (true, false) => Finding::warn(name, "set, but the network interface does not have one queue per shard's core")
            .expected("not set, or one queue per shard's core")
            .why("A connection is accepted on the shard whose core receives its packets; shards whose cores receive none get no clients.")
            .cost("nothing")
            .fix("run tuning/tune apply irq --yes, or set machine.incoming_cpu = false"),
        (false, true) => Finding::note(name, "not set, and each shard's core receives the packets of a queue")
            .expected("set")
            .why("With it, the core that receives a packet also reads it, and no other core is woken.")
            .cost("the network interface decides how connections are spread")
            .fix("set machine.incoming_cpu = true"),
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
        (false, _) => Finding::warn(name, format!("{set}, which this kernel does not support"))
            .expected("0s, or Linux 6.9 or newer")
            .fix("net.core.busy_poll does so for the whole host: tuning/tune apply busypoll --profile latency --yes"),
        (true, true) => Finding::warn(name, format!("{set}, on loopback"))
            .expected("0s")
            .why("Loopback has no queue to poll; the CPU time is lost.")
            .fix("set machine.busy_poll = \"0s\""),
        (true, false) => Finding::ok(name, set),
    }];
    let deferred = |name: &str| host.number(&format!("/sys/class/net/{name}/napi_defer_hard_irqs")).unwrap_or(0) > 0;
    if machine.busy_poll_prefer && !plan.nics.iter().all(|nic| deferred(&nic.name)) {
        found.push(
            Finding::warn("machine.busy_poll_prefer", "set, but the network interface does not defer its interrupts")
                .expected("napi_defer_hard_irqs and gro_flush_timeout above 0")
                .why("Without them the network interface sends interrupts anyway.")
                .cost("if a shard does not poll, packets wait for up to gro_flush_timeout")
                .fix("use a profile with napi_defer_hard_irqs and gro_flush_timeout_ns, and run tuning/tune apply busypoll"),
        );
    }
    found
}

fn huge_pages(host: &Host, plan: &Plan) -> Option<Finding> {
    let text = host.text("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let granted = text.contains("[madvise]") || text.contains("[always]");
    plan.machine.huge_pages.then(|| match granted {
        true => Finding::ok("machine.huge_pages", "set, and the kernel provides them"),
        false => Finding::warn("machine.huge_pages", "set, but the kernel provides none")
            .expected("transparent_hugepage set to madvise")
            .cost("more memory, which pays off from some hundred thousand connections")
            .fix("run tuning/tune apply memory --yes, or set machine.huge_pages = false"),
    })
}
