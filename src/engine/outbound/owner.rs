//! The owners of frames: the sources of frames, and the backlog of each owner whose frames a policy may drop.

use crate::slow_policy::SlowConsumerPolicy;

/// The source of frames, and the policy for them while the peer does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The app's own name for the source, never used again for another one.
    pub id: u64,
    pub policy: SlowConsumerPolicy,
}

impl Owner {
    /// None for the policy that drops nothing.
    pub(crate) fn droppable_id(self) -> Option<u64> {
        (self.policy != SlowConsumerPolicy::Close).then_some(self.id)
    }
}

/// What waits for this peer of an owner whose frames a policy may drop.
pub(crate) struct OwnerBacklog {
    pub owner: Owner,
    pub bytes: usize,
    pub items: usize,
    /// Frames came since its policy was applied.
    pub changed: bool,
}

/// Messages that a policy dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped {
    pub owner: Owner,
    pub messages: u64,
}

/// What happens to a broadcast under way to a peer whose subscription has ended since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InFlight {
    /// The peer still gets it, and the policy of a later subscription does not apply to it.
    Disowned,
    /// It follows a gap: the peer does not get it.
    Refused,
}
