//! Which server a link connects to, each time anew.

use std::rc::Rc;

use super::dial::{DialError, Dialed, Dialer, Expect};
use crate::config::Endpoint;

/// The server of a link.
#[derive(Clone)]
pub(super) enum Target {
    /// Always this one. Its name is resolved for each connection.
    Server { dialer: Rc<Dialer>, endpoint: Endpoint, expect: Expect },
}

impl Target {
    pub(super) async fn dial(&self) -> Result<Dialed, DialError> {
        match self {
            Self::Server { dialer, endpoint, expect } => dialer.dial(endpoint, *expect).await,
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        match self {
            Self::Server { dialer, .. } => dialer,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Server { endpoint, .. } => endpoint_name(endpoint),
        }
    }
}

pub(super) fn endpoint_name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(host, port) if host.contains(':') => format!("redis [{host}]:{port}"),
        Endpoint::Tcp(host, port) => format!("redis {host}:{port}"),
        Endpoint::Unix(path) => format!("redis {}", path.display()),
    }
}
