//! How publications are written for a subscriber.

/// How publications are written for a subscriber. A publication is encoded once per format in use, whatever the number
/// of subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WireFormat {
    /// Encoding and compression, as the caller numbers them.
    pub wire: u8,
    /// Publications come as deltas to the one before.
    pub delta: bool,
    /// Subscribers filter by tags, each with its own filter.
    pub filtered: bool,
    /// Joins and leaves are sent too.
    pub join_leave: bool,
}

const _: () = assert!(size_of::<WireFormat>() == 4);

impl WireFormat {
    /// Whole publications, unfiltered, without joins and leaves.
    #[cfg(test)]
    pub(crate) const fn plain(wire: u8) -> Self {
        Self { wire, delta: false, filtered: false, join_leave: false }
    }
}
