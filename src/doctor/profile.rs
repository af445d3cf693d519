//! What a host is wanted for: the files of `tuning/profiles`, which `tuning/tune` reads too.

use std::collections::BTreeMap;

use super::knob::{Knob, knobs};

/// The names and their files; the first is the default.
pub const PROFILES: &[(&str, &str)] = &[
    ("throughput", include_str!("../../tuning/profiles/throughput.conf")),
    ("latency", include_str!("../../tuning/profiles/latency.conf")),
    ("million-connections", include_str!("../../tuning/profiles/million-connections.conf")),
    ("small-vm", include_str!("../../tuning/profiles/small-vm.conf")),
];

/// Where the network card's interrupts belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irqs {
    /// Evenly on the shards' cores.
    Shards,
    /// On the cores without shards.
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
    /// Two shards shall not share a physical core.
    pub smt_apart: bool,
    pub isolate: bool,
    pub irqs: Irqs,
    /// Packets are spread by software where the card has fewer queues than there are shards.
    pub rps: bool,
    pub busy_poll_us: u64,
    pub thp: String,
    pub swap_off: bool,
    /// Percent of memory that TCP's buffers may take; 0: as the kernel has it.
    pub tcp_mem_percent: u64,
    /// Kernel settings that it wants otherwise, or more.
    pub knobs: Vec<Knob>,
}

impl Profile {
    /// Panics never: a test reads every file.
    pub fn named(name: &str) -> Option<Self> {
        let (name, text) = PROFILES.iter().find(|(known, _)| *known == name)?;
        let (settings, own): (Vec<Knob>, Vec<Knob>) = knobs(text).into_iter().partition(|knob| !knob.key.contains('.'));
        let words: BTreeMap<&str, &str> =
            settings.iter().map(|knob| (knob.key.as_str(), knob.value.as_str())).collect();
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
            knobs: own,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_read_and_says_the_same_keys() {
        let keys = |text: &str| -> Vec<String> {
            knobs(text).into_iter().map(|knob| knob.key).filter(|key| !key.contains('.')).collect()
        };
        for (name, text) in PROFILES {
            assert_eq!(keys(text), keys(PROFILES[0].1), "{name}");
            let profile = Profile::named(name).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert!(profile.connections > 0 && profile.tcp_mem_percent < 100);
            for knob in &profile.knobs {
                assert!(knob.holds(&knob.value), "{name}: {}", knob.key);
            }
        }
        assert!(Profile::named("other").is_none());
    }
}
