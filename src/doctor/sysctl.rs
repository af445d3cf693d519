//! Kernel settings against the files of `tuning/sysctl.d` and the profile: the values stand there and nowhere else.

use super::finding::{Finding, Severity};
use super::host::{Blind, Host};
use super::knob::{Knob, knobs};
use super::plan::Plan;

pub const SERVER: &str = include_str!("../../tuning/sysctl.d/90-corecast.conf");
pub const LOAD: &str = include_str!("../../tuning/sysctl.d/91-corecast-load.conf");

/// What bounds the number of connections itself.
const CAPACITY: [&str; 4] =
    ["fs.nr_open", "fs.file-max", "fs.epoll.max_user_watches", "net.netfilter.nf_conntrack_max"];

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    let own = &plan.profile.knobs;
    let server = knobs(SERVER).into_iter().filter(|knob| own.iter().all(|other| other.key != knob.key));
    let load = if plan.load { knobs(LOAD) } else { Vec::new() };
    let poll = (plan.profile.busy_poll_us > 0 && plan.machine.busy_poll.is_zero()).then(|| busy_poll(plan));
    let mut found: Vec<Finding> =
        server.chain(own.clone()).chain(load).chain(poll).map(|knob| judge(host, plan, knob)).collect();
    found.extend(tcp_mem(host, plan));
    found
}

fn judge(host: &Host, plan: &Plan, knob: Knob) -> Finding {
    let found = match host.sysctl(&knob.key) {
        Ok(is) if knob.holds(&is) => Finding::ok(&knob.key, is),
        Ok(is) if idle(host, &knob) => Finding::note(&knob.key, format!("{is}, and nothing is tracked now")),
        Ok(is) => Finding::new(severity(&knob, &is, plan), &knob.key, is),
        Err(Blind::Absent) if knob.optional => {
            Finding::ok(&knob.key, "not in this kernel, or its module is not loaded")
        }
        Err(_) => Finding::unseen(&knob.key, &format!("/proc/sys/{}", knob.key.replace('.', "/"))),
    };
    let unseen = found.severity == Severity::Unseen;
    let mend = if unseen { found.mend.clone() } else { mend(&knob) };
    found.should(knob.rule).why(knob.why).cost(knob.cost).mend(mend)
}

/// Connection tracking that is built in and that no rule uses.
fn idle(host: &Host, knob: &Knob) -> bool {
    knob.key.starts_with("net.netfilter.") && host.sysctl(super::conntrack::COUNT).is_ok_and(|count| count == "0")
}

fn severity(knob: &Knob, is: &str, plan: &Plan) -> Severity {
    let too_few = CAPACITY.contains(&knob.key.as_str())
        && is
            .parse::<u64>()
            .is_ok_and(|is| is < if knob.key == "fs.nr_open" { plan.descriptors() } else { plan.files() });
    match (too_few, plan.is_small()) {
        (true, _) => Severity::Fail,
        (false, true) => Severity::Note,
        (false, false) => Severity::Warn,
    }
}

fn mend(knob: &Knob) -> String {
    format!(
        "tuning/tune apply sysctl --yes; this one alone, until the next boot: sysctl -w {}='{}'",
        knob.key, knob.value
    )
}

fn busy_poll(plan: &Plan) -> Knob {
    let text = format!(
        "# Unit: µs that epoll_wait looks at the card's queue before it sleeps. A packet that comes meanwhile costs no interrupt \
         and no wake. Only for connections through a card with NAPI, not for loopback.\n\
         # cost: up to so much of a core's time for each sleep; an idle core is never quite idle\nnet.core.busy_poll = {}",
        plan.profile.busy_poll_us
    );
    knobs(&text).remove(0)
}

/// Bytes that a connection with one small unread message holds in the kernel (90-corecast.conf).
const UNREAD_BYTES: u64 = 2560;
const PAGE_BYTES: u64 = 4096;

/// No number fits every machine, so the file has none: it is judged by the connections.
fn tcp_mem(host: &Host, plan: &Plan) -> Option<Finding> {
    let name = "net.ipv4.tcp_mem";
    let text = match host.sysctl(name) {
        Ok(text) => text,
        Err(_) => return Some(Finding::unseen(name, "/proc/sys/net/ipv4/tcp_mem")),
    };
    let most: u64 = text.rsplit(' ').next()?.parse().ok()?;
    let memory = super::memory::total_bytes(host).unwrap_or(u64::MAX);
    let wished = memory / 100 * plan.profile.tcp_mem_percent / PAGE_BYTES;
    let needed = (plan.connections.saturating_mul(UNREAD_BYTES) / PAGE_BYTES).min(memory / PAGE_BYTES / 2).max(wished);
    // A little less is as good: shares of memory are rounded.
    let severity = if most >= needed / 100 * 99 { Severity::Ok } else { Severity::Warn };
    Some(
        Finding::new(severity, name, text)
            .should(format!("field 3 at least {needed} pages"))
            .why(
                "Unit: pages of all TCP buffers together: calm, pressure, most. One small unread message holds about 2.5 KiB; past \
                 the third number the kernel drops what it would have to hold, for everybody.",
            )
            .cost("nothing until clients stop reading; then memory, up to the third number")
            .mend(format!("sysctl -w net.ipv4.tcp_mem='{} {} {needed}'", needed / 2, needed / 4 * 3)),
    )
}
