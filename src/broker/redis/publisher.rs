//! Where jobs go that are about no channel's requests: probes and messages of the cluster.

use std::rc::Rc;

use super::cluster::Cluster;
use super::command_link::Commander;
use super::job::Job;

#[derive(Clone)]
pub(super) enum Publisher {
    Link(Commander),
    Cluster(Rc<Cluster>),
}

impl Publisher {
    pub(super) fn send(&self, job: Job) {
        match self {
            Self::Link(commander) => commander.send(job),
            Self::Cluster(cluster) => cluster.send(job),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::Link(commander) => commander.is_up(),
            Self::Cluster(cluster) => cluster.is_up(),
        }
    }
}
