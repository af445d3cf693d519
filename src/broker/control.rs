//! Messages between the servers of a cluster, by way of the broker: the control channel of all servers, and that of one.
//!
//! They are bytes here. `cluster` knows what they mean.

use tokio::sync::mpsc;

/// Control messages that may wait in either direction.
const WAITING_MAX: usize = 4096;

/// A message to other servers.
#[derive(Debug)]
pub(crate) struct ControlMessage {
    /// The uid of one server; `None` for all, the sender included.
    pub(crate) to: Option<Box<str>>,
    pub(crate) payload: Vec<u8>,
}

/// The cluster's end.
pub(crate) struct ControlBus {
    pub(crate) outgoing: mpsc::Sender<ControlMessage>,
    pub(crate) incoming: mpsc::Receiver<Vec<u8>>,
}

/// The broker's end. What it cannot send now waits within the bound of the queue; what the cluster does not take in time is
/// dropped and counted.
pub(crate) struct ControlPort {
    pub(crate) outgoing: mpsc::Receiver<ControlMessage>,
    pub(crate) incoming: mpsc::Sender<Vec<u8>>,
    /// The uid of this server, whose own channel the broker subscribes to as well.
    pub(crate) uid: Box<str>,
}

pub(crate) fn control_bus(uid: &str) -> (ControlBus, ControlPort) {
    let (out_sender, out_receiver) = mpsc::channel(WAITING_MAX);
    let (in_sender, in_receiver) = mpsc::channel(WAITING_MAX);
    let bus = ControlBus { outgoing: out_sender, incoming: in_receiver };
    (bus, ControlPort { outgoing: out_receiver, incoming: in_sender, uid: uid.into() })
}
