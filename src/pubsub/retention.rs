//! How long channels keep what they keep: a lane per span of time, in each the channels by when they were last used.
//!
//! Whoever is used goes to the end of its lane, so that the front of a lane is both the next to expire and the one used
//! least recently: nothing is scanned. The lanes thread the channels' own places and own no memory per channel.
//!
//! Invariants: a lane's times never fall from front to back; a lane without channels may be given another span.

use slab::Slab;

use super::home_channels::Channel;

/// Stands for no lane and no neighbour.
const NONE: u32 = u32::MAX;
const KEPT: &str = "who stands in a lane keeps a stream";

/// Where a channel stands in lanes of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    lane: u32,
    before: u32,
    behind: u32,
    /// When it was last used, milliseconds.
    used: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self { lane: NONE, before: NONE, behind: NONE, used: 0 }
    }
}

impl Place {
    pub fn is_taken(&self) -> bool {
        self.lane != NONE
    }
}

/// What lanes are for, and which of a channel's places is theirs.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Channels with publications, by the last one.
    History = 0,
    /// Channels that nobody is in, by their last use.
    Idle = 1,
}

struct Lane {
    /// Milliseconds from the last use to the end; `u64::MAX` for never.
    span: u64,
    front: u32,
    back: u32,
}

pub(crate) struct Lanes {
    kind: Kind,
    /// As many as there are different spans: few.
    lanes: Vec<Lane>,
}

impl Lanes {
    pub fn new(kind: Kind) -> Self {
        Self { kind, lanes: Vec::new() }
    }

    fn place<'a>(&self, all: &'a Slab<Channel>, key: u32) -> &'a Place {
        &all[key as usize].stream.as_ref().expect(KEPT).places[self.kind as usize]
    }

    fn place_mut<'a>(&self, all: &'a mut Slab<Channel>, key: u32) -> &'a mut Place {
        &mut all[key as usize].stream.as_mut().expect(KEPT).places[self.kind as usize]
    }

    /// Used now: to the end of the lane of this span.
    pub fn touch(&mut self, all: &mut Slab<Channel>, key: u32, span: u64, now: u64) {
        let place = self.place_mut(all, key);
        place.used = now;
        if let Some(lane) = self.lanes.get(place.lane as usize)
            && lane.span == span
            && lane.back == key
        {
            return;
        }
        self.leave(all, key);
        let at = self.lane(span);
        let back = std::mem::replace(&mut self.lanes[at].back, key);
        *self.place_mut(all, key) = Place { lane: at as u32, before: back, behind: NONE, used: now };
        match back {
            NONE => self.lanes[at].front = key,
            _ => self.place_mut(all, back).behind = key,
        }
    }

    pub fn leave(&mut self, all: &mut Slab<Channel>, key: u32) {
        let place = self.place_mut(all, key);
        if !place.is_taken() {
            return;
        }
        let Place { lane, before, behind, .. } = std::mem::take(place);
        match before {
            NONE => self.lanes[lane as usize].front = behind,
            _ => self.place_mut(all, before).behind = behind,
        }
        match behind {
            NONE => self.lanes[lane as usize].back = before,
            _ => self.place_mut(all, behind).before = before,
        }
    }

    /// The lane of this span: its own, an empty one, or a new one.
    fn lane(&mut self, span: u64) -> usize {
        if let Some(at) = self.lanes.iter().position(|lane| lane.span == span) {
            return at;
        }
        let free = self.lanes.iter().position(|lane| lane.front == NONE);
        let at = free.unwrap_or_else(|| {
            self.lanes.push(Lane { span, front: NONE, back: NONE });
            self.lanes.len() - 1
        });
        self.lanes[at].span = span;
        at
    }

    /// Who expires next, and when.
    pub fn next_due(&self, all: &Slab<Channel>) -> Option<(u64, u32)> {
        let fronts = self.lanes.iter().filter(|lane| lane.front != NONE && lane.span != u64::MAX);
        fronts.map(|lane| (self.place(all, lane.front).used.saturating_add(lane.span), lane.front)).min()
    }

    /// Who was used least recently.
    pub fn oldest(&self, all: &Slab<Channel>) -> Option<(u64, u32)> {
        let fronts = self.lanes.iter().filter(|lane| lane.front != NONE);
        fronts.map(|lane| (self.place(all, lane.front).used, lane.front)).min()
    }
}
