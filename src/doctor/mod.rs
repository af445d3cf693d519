//! Checks whether a host suits this server, without changing it. Each finding has the actual and the expected value, why it
//! matters, how to fix it, and what the fix costs.
//!
//! - `host` reads all files, below a root that tests choose
//! - `profile` and `sysctl_rule` read the files of `tuning/`, the only place with the expected values
//! - `plan` is what the host is checked against
//! - each other file checks one area: `files`, `sysctl`, `conntrack`, `ports`, `network` (with the facts of `nic`), `cores`,
//!   `power`, `machine`, `memory`, `container`, `kernel`, `counters`
//!
//! Invariant: whatever a file contains, and if it is missing, every area has a finding and nothing panics.

pub(crate) mod conntrack;
pub(crate) mod container;
pub(crate) mod cores;
pub(crate) mod counters;
pub(crate) mod cpus;
pub(crate) mod files;
pub(crate) mod finding;
pub(crate) mod host;
pub(crate) mod kernel;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod nic;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod power;
pub(crate) mod profile;
pub(crate) mod sysctl;
pub(crate) mod sysctl_rule;

use serde::Serialize;

use crate::config::Config;
pub use finding::{Finding, Severity};
use host::Host;
use plan::Plan;
pub use plan::Question;
pub use profile::{PROFILES, Profile};

/// The result of all checks, and the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Fine,
    /// At least one finding has a fix to apply.
    Problems,
    /// No problem was found, but something could not be read.
    Unknown,
}

#[derive(Serialize, Debug)]
pub struct Report {
    pub verdict: Verdict,
    pub profile: &'static str,
    pub shards: usize,
    /// Such as `0-3,8`; "none" if they are not pinned.
    pub cores: String,
    pub connections: u64,
    pub interfaces: Vec<String>,
    /// In the order of their areas.
    pub findings: Vec<Finding>,
}

type Check = fn(&Host, &Plan) -> Vec<Finding>;

/// In the order of the report.
const AREAS: &[(&str, Check)] = &[
    ("descriptors", files::check),
    ("kernel settings", sysctl::check),
    ("connection tracking", conntrack::check),
    ("ports", ports::check),
    ("network interface", network::check),
    ("cores", cores::check),
    ("frequency, clock and power", power::check),
    ("machine settings", machine::check),
    ("memory", memory::check),
    ("control group", container::check),
    ("kernel", kernel::check),
    ("counters since boot", counters::check),
];

/// Checks the host. Reads a few hundred small files.
pub fn examine(question: &Question, config: &Config) -> Report {
    let host = Host::new(&question.root);
    let plan = Plan::new(&host, question, config);
    let tagged = |(area, check): &(&'static str, Check)| {
        let (area, found) = (*area, check(&host, &plan));
        found.into_iter().map(move |finding| Finding { area, ..finding }).collect::<Vec<_>>()
    };
    let findings: Vec<Finding> = AREAS.iter().flat_map(tagged).collect();
    let any = |severity| findings.iter().any(|finding| finding.severity == severity);
    let verdict = match () {
        _ if any(Severity::Fail) || any(Severity::Warn) => Verdict::Problems,
        _ if any(Severity::Unknown) => Verdict::Unknown,
        _ => Verdict::Fine,
    };
    Report {
        verdict,
        profile: plan.profile.name,
        shards: plan.shards,
        cores: plan.cores.to_string(),
        connections: plan.connections,
        interfaces: plan.nics.iter().map(|nic| nic.name.clone()).collect(),
        findings,
    }
}
