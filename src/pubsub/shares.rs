//! The bytes of histories by namespace, and which namespace gives way when all together exceed their bound.
//!
//! A namespace's share is the bound divided by the number of namespaces that have any bytes. A namespace over its share makes
//! room for its own growth; one within its share has room made by the largest. So one namespace, however many channels its
//! clients make up, cannot take the share of another.

/// The number of a namespace in the settings, 0 for channels without one.
pub(super) type NamespaceNumber = u16;

#[derive(Default, Debug)]
pub(super) struct NamespaceBytes {
    /// By number. As long as the highest number that was ever used.
    bytes: Vec<usize>,
    total: usize,
}

impl NamespaceBytes {
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn add(&mut self, namespace: NamespaceNumber, bytes: usize) {
        let at = usize::from(namespace);
        if self.bytes.len() <= at {
            self.bytes.resize(at + 1, 0);
        }
        self.bytes[at] += bytes;
        self.total += bytes;
    }

    /// Takes back what was added.
    pub(super) fn remove(&mut self, namespace: NamespaceNumber, bytes: usize) {
        if let Some(own) = self.bytes.get_mut(usize::from(namespace)) {
            *own -= bytes;
            self.total -= bytes;
        }
    }

    /// What took `before` bytes takes `after`.
    pub(super) fn replace(&mut self, namespace: NamespaceNumber, before: usize, after: usize) {
        self.add(namespace, after);
        self.remove(namespace, before);
    }

    /// The namespace that makes room when `growing` has grown and all together exceed `bytes_max`.
    pub(super) fn gives_way(&self, growing: NamespaceNumber, bytes_max: usize) -> NamespaceNumber {
        let namespaces = self.bytes.iter().filter(|&&bytes| bytes > 0).count();
        let share = bytes_max / namespaces.max(1);
        if self.bytes.get(usize::from(growing)).is_some_and(|&own| own > share) {
            return growing;
        }
        let largest = self.bytes.iter().enumerate().max_by_key(|&(_, &bytes)| bytes);
        largest.map_or(growing, |(number, _)| number as NamespaceNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_over_its_share_makes_room_for_itself() {
        let mut all = NamespaceBytes::default();
        for (namespace, bytes) in [(0, 60), (2, 45), (5, 10)] {
            all.add(namespace, bytes);
        }
        assert_eq!(all.total(), 115);
        assert_eq!(all.gives_way(2, 100), 2, "over its share of 33");
        assert_eq!(all.gives_way(5, 100), 0, "the largest makes room for one within its share");
        assert_eq!(all.gives_way(9, 100), 0, "one without bytes is within its share");
        all.remove(0, 60);
        assert_eq!((all.gives_way(5, 50), all.total()), (2, 55));
    }
}
