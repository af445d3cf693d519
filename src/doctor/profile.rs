//! What a host is used for: the files of `tuning/profiles`, which `tuning/tune` reads too.

use std::collections::BTreeMap;

use super::sysctl_rule::{SysctlRule, parse_rules};

/// The names and their files; the first is the default.
pub const PROFILES: &[(&str, &str)] = &[
    ("throughput", include_str!("../../tuning/profiles/throughput.conf")),
    ("latency", include_str!("../../tuning/profiles/latency.conf")),
    ("million-connections", include_str!("../../tuning/profiles/million-connections.conf")),
    ("small-vm", include_str!("../../tuning/profiles/small-vm.conf")),
];

/// The cores that should handle the interrupts of the network interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irqs {
    /// The shards' cores, evenly.
    Shards,
    /// Cores without shards.
    Apart,
    Any,
}

#[derive(Clone, Debug)]
pub struct Profile {
    pub name: &'static str,
    pub connections: u64,
    /// None: any.
    pub governor: Option<String>,
    /// Microseconds; 0: any idle state.
    pub cstate_exit_us_max: u64,
    /// Two shards must not share a physical core.
    pub smt_apart: bool,
    pub isolate: bool,
    pub irqs: Irqs,
    /// RPS is on if the network interface has fewer queues than there are shards.
    pub rps: bool,
    pub busy_poll_us: u64,
    pub thp: String,
    pub swap_off: bool,
    /// Percent of the memory for TCP buffers; 0: the kernel's default.
    pub tcp_mem_percent: u64,
    /// Further kernel settings, or other values for them.
    pub sysctl_rules: Vec<SysctlRule>,
}

impl Profile {
    /// None: there is no such profile. A test reads every file.
    pub fn named(name: &str) -> Option<Self> {
        let (name, text) = PROFILES.iter().find(|(known, _)| *known == name)?;
        let (settings, own): (Vec<SysctlRule>, Vec<SysctlRule>) =
            parse_rules(text).into_iter().partition(|rule| !rule.key.contains('.'));
        let words: BTreeMap<&str, &str> =
            settings.iter().map(|rule| (rule.key.as_str(), rule.value.as_str())).collect();
        let word = |key: &str| words.get(key).copied();
        let number = |key: &str| word(key)?.parse::<u64>().ok();
        Some(Self {
            name,
            connections: number("connections")?,
            governor: Some(word("governor")?.to_owned()).filter(|governor| governor != "any"),
            cstate_exit_us_max: number("cstate_exit_us_max")?,
            smt_apart: word("smt")? == "apart",
            isolate: word("isolate")? == "yes",
            irqs: match word("irqs")? {
                "shards" => Irqs::Shards,
                "apart" => Irqs::Apart,
                _ => Irqs::Any,
            },
            rps: word("rps")? == "few-queues",
            busy_poll_us: number("busy_poll_us")?,
            thp: word("thp")?.to_owned(),
            swap_off: word("swap")? == "off",
            tcp_mem_percent: number("tcp_mem_percent")?,
            sysctl_rules: own,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_read_and_has_the_same_keys() {
        let keys = |text: &str| -> Vec<String> {
            parse_rules(text).into_iter().map(|rule| rule.key).filter(|key| !key.contains('.')).collect()
        };
        for (name, text) in PROFILES {
            assert_eq!(keys(text), keys(PROFILES[0].1), "{name}");
            let profile = Profile::named(name).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert!(profile.connections > 0 && profile.tcp_mem_percent < 100);
            for rule in &profile.sysctl_rules {
                assert!(rule.holds(&rule.value), "{name}: {}", rule.key);
            }
        }
        assert!(Profile::named("other").is_none());
    }
}
