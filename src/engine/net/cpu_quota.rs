//! The limit on CPU time of the process's control groups, version 2 or 1 (cgroups(7)).

const ROOT: &str = "/sys/fs/cgroup";

/// The tightest limit in cores, such as 1.5. `process` is the name under /proc, and `read` returns the text of a file. None: there
/// is no limit, or it cannot be read.
pub fn cpu_quota(process: &str, read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let groups = read(&format!("/proc/{process}/cgroup"))?;
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let new = group_folders(&groups, "").into_iter().filter_map(|folder| {
        // `max 100000` is no limit.
        let text = read(&format!("{folder}/cpu.max"))?;
        let (quota, period) = text.trim().split_once(' ')?;
        Some(number(quota)? / number(period)?)
    });
    let old = group_folders(&groups, "cpu").into_iter().filter_map(|folder| {
        let quota = number(&read(&format!("{folder}/cpu.cfs_quota_us"))?).filter(|&quota| quota > 0.0)?;
        Some(quota / number(&read(&format!("{folder}/cpu.cfs_period_us"))?)?)
    });
    new.chain(old).filter(|cores| cores.is_finite() && *cores > 0.0).min_by(f64::total_cmp)
}

/// The limit in whole cores, rounded up.
pub fn whole_cores(quota: f64) -> usize {
    (quota.ceil() as usize).max(1)
}

/// The folders of the groups from the process up to the root: those of a controller of version 1 or, with "", of version 2.
/// `groups` is the text of /proc/PID/cgroup.
pub fn group_folders(groups: &str, controller: &str) -> Vec<String> {
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    });
    let base = if controller.is_empty() { ROOT.to_owned() } else { format!("{ROOT}/{controller}") };
    let mut parts: Vec<&str> = path.unwrap_or_default().split('/').filter(|part| !part.is_empty()).collect();
    let mut folders = Vec::new();
    loop {
        folders.push([&[base.as_str()], &parts[..]].concat().join("/"));
        if parts.pop().is_none() {
            return folders;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(files: &[(&str, &str)]) -> Option<f64> {
        cpu_quota("self", |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn tightest_limit_of_every_group_counts() {
        let new = ("/proc/self/cgroup", "0::/pods/one\n");
        let of = |inner: &'static str, outer: &'static str| {
            quota(&[new, ("/sys/fs/cgroup/pods/one/cpu.max", inner), ("/sys/fs/cgroup/pods/cpu.max", outer)])
        };
        assert_eq!(of("150000 100000\n", "max 100000\n"), Some(1.5));
        assert_eq!(of("max 100000\n", "50000 100000\n"), Some(0.5));
        assert_eq!(of("400000 100000\n", "200000 100000\n"), Some(2.0));
        assert_eq!(of("max 100000\n", "max 100000\n"), None);
        assert_eq!(of("odd\n", "0 0\n"), None);
        assert_eq!(quota(&[]), None);
    }

    #[test]
    fn version_1_is_read_in_a_container_and_on_a_host() {
        let groups = ("/proc/self/cgroup", "4:memory:/x\n1:cpu,cpuacct:/docker/one\n");
        for folder in ["/sys/fs/cgroup/cpu/docker/one", "/sys/fs/cgroup/cpu"] {
            let (max, period) = (format!("{folder}/cpu.cfs_quota_us"), format!("{folder}/cpu.cfs_period_us"));
            assert_eq!(quota(&[groups, (&max, "250000\n"), (&period, "100000\n")]), Some(2.5));
            assert_eq!(quota(&[groups, (&max, "-1\n"), (&period, "100000\n")]), None);
        }
    }

    #[test]
    fn shards_get_the_limit_rounded_up() {
        assert_eq!([0.1, 0.5, 1.0, 1.01, 2.5, 4.0].map(whole_cores), [1, 1, 1, 2, 3, 4]);
    }
}
