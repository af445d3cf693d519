//! Which server a link connects to, each time anew.

use std::rc::Rc;

use super::dial::{DialError, Dialed, Dialer, Expect};
use super::sentinel::Sentinels;
use super::topology::Topology;
use crate::config::Endpoint;

/// The server of a link.
#[derive(Clone)]
pub(super) enum Target {
    /// Always this one. Its name is resolved for each connection. In a cluster with what it belongs to.
    Server { dialer: Rc<Dialer>, endpoint: Endpoint, expect: Expect, topology: Option<Rc<Topology>> },
    /// The master that the sentinels name, or one of its replicas.
    Sentinel { dialer: Rc<Dialer>, sentinels: Rc<Sentinels>, expect: Expect },
    /// The owner of a slot of a cluster; any of its servers without a slot.
    Cluster { topology: Rc<Topology>, slot: Option<u16>, on_replica: bool },
}

impl Target {
    /// Returns the connection, and the server that it goes to.
    pub(super) async fn dial(&self) -> Result<(Dialed, Endpoint), DialError> {
        match self {
            Self::Server { dialer, endpoint, expect, .. } => {
                Ok((dialer.dial(endpoint, *expect).await?, endpoint.clone()))
            }
            Self::Sentinel { dialer, sentinels, expect } => sentinels.dial(dialer, *expect).await,
            Self::Cluster { topology, slot, on_replica } => topology.dial(*slot, *on_replica).await,
        }
    }

    /// Whether the connection to this server is on the wrong one by now.
    pub(super) fn has_moved_from(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Server { .. } => false,
            Self::Sentinel { sentinels, expect, .. } => *expect == Expect::Master && sentinels.has_moved_from(endpoint),
            Self::Cluster { topology, slot, on_replica } => {
                let owner = slot.filter(|_| !on_replica).and_then(|slot| topology.master_of(slot));
                owner.is_some_and(|owner| owner != *endpoint)
            }
        }
    }

    /// The connection to the server is lost, or the server says that it is the wrong one.
    pub(super) fn doubt(&self) {
        if let Self::Cluster { topology, .. } | Self::Server { topology: Some(topology), .. } = self {
            topology.stale.notify_one();
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        match self {
            Self::Server { dialer, .. } | Self::Sentinel { dialer, .. } => dialer,
            Self::Cluster { topology, .. } => topology.dialer(),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Server { endpoint, .. } => endpoint_name(endpoint),
            Self::Sentinel { sentinels, expect: Expect::Replica, .. } => format!("{} (replica)", sentinels.name()),
            Self::Sentinel { sentinels, .. } => sentinels.name(),
            Self::Cluster { slot: Some(slot), .. } => format!("redis cluster, owner of slot {slot}"),
            Self::Cluster { .. } => "redis cluster".to_owned(),
        }
    }
}

fn endpoint_name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(host, port) if host.contains(':') => format!("redis [{host}]:{port}"),
        Endpoint::Tcp(host, port) => format!("redis {host}:{port}"),
        Endpoint::Unix(path) => format!("redis {}", path.display()),
    }
}
