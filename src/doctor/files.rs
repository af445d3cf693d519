//! Descriptors: what the process may open, and what is open on the host.

use super::finding::{Finding, Severity};
use super::host::Host;
use super::plan::Plan;

const MEND: &str = "as a service: LimitNOFILE= in the unit (tuning/systemd/corecast.service); from a shell: tuning/tune apply \
                    limits --yes and log in again; in a container: --ulimit nofile=";

pub fn look(host: &Host, plan: &Plan) -> Vec<Finding> {
    vec![limit(host, plan), open(host, plan)]
}

/// The server raises the soft limit itself, so the hard one counts.
fn limit(host: &Host, plan: &Plan) -> Finding {
    let place = format!("/proc/{}/limits", plan.process);
    let name = "descriptors of the process, hard limit";
    let needed = plan.descriptors();
    let Some((soft, hard)) = host.text(&place).ok().and_then(|text| parse(&text)) else {
        return Finding::unseen(name, &place).should(format!("at least {needed}"));
    };
    let shown = |limit: u64| if limit == u64::MAX { "unlimited".into() } else { limit.to_string() };
    let is = format!("{} (soft {}, which the server raises itself)", shown(hard), shown(soft));
    let severity = if hard < needed { Severity::Fail } else { Severity::Ok };
    Finding::new(severity, name, is)
        .should(format!("at least {needed}"))
        .why("One for each connection, counted for each shard where machine.own_file_tables is set. Past it whoever comes waits in the kernel's queue until somebody leaves.")
        .cost("nothing until they are open")
        .mend(format!("{MEND}{}", needed.max(1 << 20)))
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
    let [open, _, most] = numbers[..] else { return Finding::unseen(name, "/proc/sys/fs/file-nr") };
    let room = most.saturating_sub(open);
    let severity = if room < plan.files() { Severity::Fail } else { Severity::Ok };
    Finding::new(severity, name, format!("{open} of {most}"))
        .should(format!("room for {} more", plan.files()))
        .why("Past it accept fails with ENFILE, for every process of the host.")
        .cost("nothing until they are open")
        .mend("raise fs.file-max: tuning/tune apply sysctl --yes; or look for who has them: ls /proc/*/fd | wc -l")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_limits_is_read() {
        let line = |rest: &str| format!("Limit   Soft   Hard   Units\nMax open files            {rest}    files\n");
        assert_eq!(parse(&line("1024                 524288")), Some((1024, 524_288)));
        assert_eq!(parse(&line("unlimited            unlimited")), Some((u64::MAX, u64::MAX)));
        assert_eq!(parse("Max processes 1 1"), None);
    }
}
