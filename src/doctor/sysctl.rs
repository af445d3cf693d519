//! Kernel settings against the files of `tuning/sysctl.d` and the profile, the only places with the expected values.

use super::finding::{Finding, Severity};
use super::host::{Host, Unreadable};
use super::plan::Plan;
use super::sysctl_rule::{SysctlRule, parse_rules};

pub(crate) const SERVER: &str = include_str!("../../tuning/sysctl.d/90-corecast.conf");
pub(crate) const LOAD: &str = include_str!("../../tuning/sysctl.d/91-corecast-load.conf");

/// Settings that limit the number of connections.
const CAPACITY: [&str; 4] =
    ["fs.nr_open", "fs.file-max", "fs.epoll.max_user_watches", "net.netfilter.nf_conntrack_max"];

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let own = &plan.profile.sysctl_rules;
    let server = parse_rules(SERVER).into_iter().filter(|rule| own.iter().all(|other| other.key != rule.key));
    let load = if plan.load { parse_rules(LOAD) } else { Vec::new() };
    let poll = (plan.profile.busy_poll_us > 0 && plan.machine.busy_poll.is_zero()).then(|| busy_poll(plan));
    let mut found: Vec<Finding> =
        server.chain(own.clone()).chain(load).chain(poll).map(|rule| judge(host, plan, rule)).collect();
    found.extend(tcp_mem(host, plan));
    found
}

fn judge(host: &Host, plan: &Plan, rule: SysctlRule) -> Finding {
    let found = match host.sysctl(&rule.key) {
        Ok(actual) if rule.holds(&actual) => Finding::ok(&rule.key, actual),
        Ok(actual) if is_unused(host, &rule) => {
            Finding::note(&rule.key, format!("{actual}, but no connection is tracked"))
        }
        Ok(actual) => Finding::new(severity(&rule, &actual, plan), &rule.key, actual),
        Err(Unreadable::Absent) if rule.optional => {
            Finding::ok(&rule.key, "not in this kernel, or its module is not loaded")
        }
        Err(_) => Finding::unknown(&rule.key, &format!("/proc/sys/{}", rule.key.replace('.', "/"))),
    };
    let is_unknown = found.severity == Severity::Unknown;
    let fix = if is_unknown { found.fix.clone() } else { fix(&rule) };
    found.expected(rule.rule).why(rule.why).cost(rule.cost).fix(fix)
}

/// Connection tracking that is built in but not used by any rule.
fn is_unused(host: &Host, rule: &SysctlRule) -> bool {
    rule.key.starts_with("net.netfilter.") && host.sysctl(super::conntrack::COUNT).is_ok_and(|count| count == "0")
}

fn severity(rule: &SysctlRule, actual: &str, plan: &Plan) -> Severity {
    let too_few = CAPACITY.contains(&rule.key.as_str())
        && actual
            .parse::<u64>()
            .is_ok_and(|actual| actual < if rule.key == "fs.nr_open" { plan.descriptors() } else { plan.files() });
    match (too_few, plan.is_small()) {
        (true, _) => Severity::Fail,
        (false, true) => Severity::Note,
        (false, false) => Severity::Warn,
    }
}

fn fix(rule: &SysctlRule) -> String {
    format!(
        "tuning/tune apply sysctl --yes; only this one, until the next boot: sysctl -w {}='{}'",
        rule.key, rule.value
    )
}

fn busy_poll(plan: &Plan) -> SysctlRule {
    let text = format!(
        "# Unit: µs that epoll_wait polls the queue of the network interface before it sleeps. A packet that arrives meanwhile \
         costs no interrupt and no wake-up. Only for interfaces with NAPI, not for loopback.\n\
         # cost: up to this much CPU time before each sleep, so an idle core is never fully idle\nnet.core.busy_poll = {}",
        plan.profile.busy_poll_us
    );
    parse_rules(&text).remove(0)
}

/// Bytes of the kernel for a connection with one small unread message (90-corecast.conf).
const UNREAD_BYTES: u64 = 2560;
const PAGE_BYTES: u64 = 4096;

/// No value fits every machine, so the file has none: the number of connections decides.
fn tcp_mem(host: &Host, plan: &Plan) -> Option<Finding> {
    let name = "net.ipv4.tcp_mem";
    let text = match host.sysctl(name) {
        Ok(text) => text,
        Err(_) => return Some(Finding::unknown(name, "/proc/sys/net/ipv4/tcp_mem")),
    };
    let most: u64 = text.rsplit(' ').next()?.parse().ok()?;
    let memory = super::memory::total_bytes(host).unwrap_or(u64::MAX);
    let wanted = memory / 100 * plan.profile.tcp_mem_percent / PAGE_BYTES;
    let needed = (plan.connections.saturating_mul(UNREAD_BYTES) / PAGE_BYTES).min(memory / PAGE_BYTES / 2).max(wanted);
    // Slightly less is fine, since shares of memory are rounded.
    let severity = if most >= needed / 100 * 99 { Severity::Ok } else { Severity::Warn };
    Some(
        Finding::new(severity, name, text)
            .expected(format!("field 3 at least {needed} pages"))
            .why(
                "Unit: pages of all TCP buffers together: normal, pressure, limit. One small unread message needs about 2.5 KiB; past \
                 the limit the kernel drops packets of all connections.",
            )
            .cost("nothing until clients stop reading; then memory, up to the limit")
            .fix(format!("sysctl -w net.ipv4.tcp_mem='{} {} {needed}'", needed / 2, needed / 4 * 3)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_files_is_understood() {
        for (file, least) in [(SERVER, 14), (LOAD, 2)] {
            let rules = parse_rules(file);
            assert!(rules.len() >= least);
            for rule in &rules {
                assert_eq!(rule.conditions(), rule.rule.split(',').count(), "{}: {}", rule.key, rule.rule);
                assert!(rule.holds(&rule.value), "{}: its own value breaks its rule", rule.key);
                assert!(rule.why.starts_with("Unit: ") && !rule.cost.is_empty(), "{}", rule.key);
            }
        }
    }
}
