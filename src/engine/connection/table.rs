//! The connections of a shard: a slab of their states, and a dense array of the write flags that the delivery loop
//! reads.
//!
//! Invariants: `write_flags` has an entry for every slot that was ever used; the generation of a slot grows with each
//! connection that takes it; `open` counts the connections in `Phase::Open`.

use std::io;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::state::{Conn, ConnFlags, Phase, WriteFlags};
use crate::ids::ConnId;
use crate::sys::advise_huge;

pub(crate) struct Connections {
    slab: Slab<Conn>,
    /// By slot.
    pub write_flags: Vec<WriteFlags>,
    generations: u32,
    /// Connections in `Phase::Open`.
    pub open: u64,
}

impl Connections {
    /// Memory is reserved, not touched: pages come with the connections, and the slab never moves.
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { slab: Slab::with_capacity(connections_max), write_flags: Vec::new(), generations: 0, open: 0 }
    }

    /// A new connection, in a free slot or at the end.
    pub(crate) fn insert(&mut self, phase: Phase) -> ConnId {
        self.generations = self.generations.wrapping_add(1);
        let slot = self.slab.insert(Conn::new(self.generations, phase));
        if slot == self.write_flags.len() {
            self.write_flags.push(WriteFlags::NOT_OPEN);
        } else {
            self.write_flags[slot] = WriteFlags::NOT_OPEN;
        }
        ConnId::new(slot as u32, self.generations)
    }

    pub(crate) fn free_slot(&mut self, slot: u32) {
        self.slab.remove(slot as usize);
    }

    /// Taken slots, in any phase.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Connections since the start, modulo 2^32.
    pub(crate) fn generations(&self) -> u32 {
        self.generations
    }

    /// `None` if the connection is closed, also if another one has its slot.
    #[inline]
    pub(crate) fn get(&self, conn: ConnId) -> Option<&Conn> {
        self.slab.get(conn.index()).filter(|known| known.generation == conn.generation)
    }

    /// As `get`.
    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.slab.get_mut(conn.index()).filter(|known| known.generation == conn.generation)
    }

    /// The connection in a slot, if the slot is taken.
    #[inline]
    pub(crate) fn in_slot(&mut self, slot: u32) -> Option<&mut Conn> {
        self.slab.get_mut(slot as usize)
    }

    /// The id of the connection in a slot, if the slot is taken.
    #[inline]
    pub(crate) fn id_at(&self, slot: u32) -> Option<ConnId> {
        self.slab.get(slot as usize).map(|known| ConnId::new(slot, known.generation))
    }

    /// The id of the connection in a slot that is taken.
    #[inline]
    pub(crate) fn id(&self, slot: u32) -> ConnId {
        ConnId::new(slot, self[slot].generation)
    }

    /// Open, and no close is requested.
    #[inline]
    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(Conn::is_open)
    }

    /// Our close frame is not queued yet: replies and broadcasts still go out, unless the backlog will be dropped.
    #[inline]
    pub(crate) fn takes_more(&self, conn: ConnId) -> bool {
        self.get(conn)
            .is_some_and(|known| known.phase == Phase::Open && !known.flags.contains(ConnFlags::CLOSES_AS_SLOW))
    }

    /// Our close frame is not queued yet.
    pub(crate) fn awaits_close(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|known| known.phase == Phase::Open)
    }

    #[inline]
    pub(crate) fn set(&mut self, slot: u32, flags: WriteFlags) {
        self.write_flags[slot as usize].insert(flags);
    }

    #[inline]
    pub(crate) fn clear(&mut self, slot: u32, flags: WriteFlags) {
        self.write_flags[slot as usize].remove(flags);
    }

    /// True if one of `flags` is set.
    #[inline]
    pub(crate) fn has(&self, slot: u32, flags: WriteFlags) -> bool {
        self.write_flags[slot as usize].intersects(flags)
    }

    /// Asks for huge pages under the memory of all connections that the shard may have.
    pub(crate) fn advise_huge_pages(&mut self, connections_max: usize) -> io::Result<()> {
        self.write_flags.reserve(connections_max);
        // A slab shows its memory only by an entry.
        let key = self.slab.insert(Conn::new(0, Phase::Closed));
        let slab = advise_huge(&raw const self.slab[key], connections_max);
        self.slab.remove(key);
        slab.and(advise_huge(self.write_flags.as_ptr(), connections_max)).map(|_| ())
    }
}

impl Index<u32> for Connections {
    type Output = Conn;

    #[inline]
    fn index(&self, slot: u32) -> &Conn {
        &self.slab[slot as usize]
    }
}

impl IndexMut<u32> for Connections {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Conn {
        &mut self.slab[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reused_slot_has_a_new_generation_and_fresh_flags() {
        let mut connections = Connections::new(4);
        let first = connections.insert(Phase::Open);
        connections.clear(first.slot, WriteFlags::NOT_OPEN);
        connections.set(first.slot, WriteFlags::BLOCKED);
        connections.free_slot(first.slot);
        let second = connections.insert(Phase::Upgrading);
        assert_eq!((second.slot, connections.id_at(second.slot)), (first.slot, Some(second)));
        assert!(connections.get(first).is_none() && connections.get(second).is_some());
        assert_eq!(connections.write_flags, [WriteFlags::NOT_OPEN]);
    }

    #[test]
    fn connection_with_a_requested_close_takes_more_and_is_not_open() {
        let mut connections = Connections::new(4);
        let conn = connections.insert(Phase::Open);
        assert!(connections.is_open(conn) && connections.takes_more(conn));
        connections[conn.slot].flags.insert(ConnFlags::CLOSE_REQUESTED);
        assert!(!connections.is_open(conn) && connections.takes_more(conn));
        connections[conn.slot].flags.insert(ConnFlags::CLOSES_AS_SLOW);
        assert!(!connections.takes_more(conn) && connections.awaits_close(conn));
        connections[conn.slot].phase = Phase::Closing;
        assert!(!connections.takes_more(conn) && !connections.awaits_close(conn));
    }
}
