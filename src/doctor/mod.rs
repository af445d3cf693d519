//! Looks at a host as this server needs it, changes nothing, and says what is, what should be, why, what it costs and how to
//! mend it.
//!
//! Plan: `host` is the one reader, below a root that tests choose; `profile` and `knob` read the files of `tuning/`, where
//! values stand once; `plan` is what the host is measured against. Each other file looks at one area: `files`, `sysctl`,
//! `conntrack`, `ports`, `network` (whose facts are in `card`), `cores`, `power`, `machine`, `memory`, `container`, `kernel`, `counters`.
//!
//! Invariant: whatever a file holds, or where it is missing, every area says something and nothing panics.

pub(crate) mod card;
pub(crate) mod conntrack;
pub(crate) mod container;
pub(crate) mod cores;
pub(crate) mod counters;
pub(crate) mod cpus;
pub(crate) mod files;
pub(crate) mod finding;
pub(crate) mod host;
pub(crate) mod kernel;
pub(crate) mod knob;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod power;
pub(crate) mod profile;
pub(crate) mod sysctl;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::Config;
pub use finding::{Finding, Severity};
use host::Host;
use plan::Plan;
pub use profile::{PROFILES, Profile};

/// What is asked of the doctor.
#[derive(Debug)]
pub struct Question {
    /// Where `proc` and `sys` are; `/` in life.
    pub root: PathBuf,
    /// The process whose limits and groups count. None: the doctor's own, which a server started from the same place has too.
    pub process: Option<u32>,
    pub profile: Profile,
    /// None: that of the default route.
    pub interface: Option<String>,
    /// None: as configured, else the profile's.
    pub connections: Option<u64>,
    /// Also the settings of a machine that generates load.
    pub load: bool,
}

/// What a script does next.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Fine,
    /// At least one thing should be mended.
    Mend,
    /// Nothing is wrong with what was seen, and something was not.
    Unseen,
}

#[derive(Serialize, Debug)]
pub struct Report {
    pub verdict: Verdict,
    pub profile: &'static str,
    pub shards: usize,
    /// As `0-3,8`; "none" where they are not pinned.
    pub cores: String,
    pub connections: u64,
    pub interfaces: Vec<String>,
    /// In the order of their areas.
    pub findings: Vec<Finding>,
}

type Look = fn(&Host, &Plan) -> Vec<Finding>;

/// In the order in which they are shown.
const AREAS: &[(&str, Look)] = &[
    ("descriptors", files::look),
    ("kernel settings", sysctl::look),
    ("connection tracking", conntrack::look),
    ("ports", ports::look),
    ("network card", network::look),
    ("cores", cores::look),
    ("clock and power", power::look),
    ("settings for this machine", machine::look),
    ("memory", memory::look),
    ("control group", container::look),
    ("kernel", kernel::look),
    ("since the start of the host", counters::look),
];

/// Reads the host. Costs some hundred small files.
pub fn examine(question: &Question, config: &Config) -> Report {
    let host = Host::new(&question.root);
    let plan = Plan::new(&host, question, config);
    let tagged = |(area, look): &(&'static str, Look)| {
        let (area, found) = (*area, look(&host, &plan));
        found.into_iter().map(move |finding| Finding { area, ..finding }).collect::<Vec<_>>()
    };
    let findings: Vec<Finding> = AREAS.iter().flat_map(tagged).collect();
    let any = |severity| findings.iter().any(|finding| finding.severity == severity);
    let verdict = match () {
        _ if any(Severity::Fail) || any(Severity::Warn) => Verdict::Mend,
        _ if any(Severity::Unseen) => Verdict::Unseen,
        _ => Verdict::Fine,
    };
    Report {
        verdict,
        profile: plan.profile.name,
        shards: plan.shards,
        cores: plan.cores.to_string(),
        connections: plan.connections,
        interfaces: plan.cards.iter().map(|card| card.name.clone()).collect(),
        findings,
    }
}
