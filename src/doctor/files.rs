//! Descriptors: the limit of the process, and the open files of the host.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

const FIX: &str = "as a service: LimitNOFILE= in the unit (tuning/systemd/corecast.service); from a shell: tuning/tune apply \
                    limits --yes and log in again; for a container: --ulimit nofile=";

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    vec![limit(host, plan), open(host, plan)]
}

/// The hard limit, since the server raises the soft one itself.
fn limit(host: &Host, plan: &Plan) -> Finding {
    let place = format!("/proc/{}/limits", plan.process);
    let name = "descriptors of the process, hard limit";
    let needed = plan.descriptors();
    let Some((soft, hard)) = host.text(&place).ok().and_then(|text| parse(&text)) else {
        return Finding::unknown(name, &place).expected(format!("at least {needed}"));
    };
    let shown = |limit: u64| if limit == u64::MAX { "unlimited".into() } else { limit.to_string() };
    let actual = format!("{} (soft limit {}, which the server raises itself)", shown(hard), shown(soft));
    let severity = if hard < needed { Severity::Fail } else { Severity::Ok };
    Finding::new(severity, name, actual)
        .expected(format!("at least {needed}"))
        .why("Each connection needs one, and with machine.own_file_tables the limit applies to each shard. Past it new connections wait in the kernel's queue until another one closes.")
        .cost("nothing until they are used")
        .fix(format!("{FIX}{}", needed.max(1 << 20)))
}

fn parse(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace();
    let mut next = || match numbers.next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    Some((next()?, next()?))
}

fn open(host: &Host, plan: &Plan) -> Finding {
    let (name, place) = ("open files of the whole host", "fs.file-nr");
    let numbers = host.sysctl(place).unwrap_or_default();
    let numbers: Vec<u64> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [open, _, most] = numbers[..] else { return Finding::unknown(name, "/proc/sys/fs/file-nr") };
    let free = most.saturating_sub(open);
    let severity = if free < plan.files() { Severity::Fail } else { Severity::Ok };
    Finding::new(severity, name, format!("{open} of {most}"))
        .expected(format!("space for {} more", plan.files()))
        .why("Past it accept fails with ENFILE for every process of the host.")
        .cost("nothing until they are used")
        .fix("raise fs.file-max: tuning/tune apply sysctl --yes; or find the process that holds them: ls /proc/*/fd | wc -l")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_the_limits_is_read() {
        let line = |rest: &str| format!("Limit   Soft   Hard   Units\nMax open files            {rest}    files\n");
        assert_eq!(parse(&line("1024                 524288")), Some((1024, 524_288)));
        assert_eq!(parse(&line("unlimited            unlimited")), Some((u64::MAX, u64::MAX)));
        assert_eq!(parse("Max processes 1 1"), None);
    }
}
