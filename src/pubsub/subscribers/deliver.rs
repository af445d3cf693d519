//! What home sends for a feed, and what the end of a turn hands out of it.
//!
//! Most of it is cast: gathered in the feed's turn buffer, written by the flush. What differs from subscriber to subscriber
//! (filters, the first publication of a delta) is handed out at once, one by one.

use std::mem;
use std::rc::Rc;

use thin_vec::ThinVec;

use super::{At, NO_LATEST, Out, PendingBroadcast, Share, State, SubscriberGroup, Subscribers};
use crate::ids::{ConnId, GroupId};

/// Turn buffers above this are given back to the allocator, and so are those beyond this many.
const KEPT_BYTES_MAX: usize = 256 * 1024;
const KEPT_BUFFERS_MAX: usize = 64;

impl SubscriberGroup {
    fn latest(&self) -> Option<usize> {
        (self.turn_latest != NO_LATEST).then_some(self.turn_latest as usize)
    }
}

impl<D> Subscribers<D> {
    /// A publication for all live subscriptions of a feed. False where the feed is gone.
    pub fn deliver(&mut self, id: GroupId, at: At, frame: &[u8]) -> bool {
        let there = self.advance(id, at).is_some();
        if there {
            self.gather(id, frame, true);
        }
        there
    }

    /// What is no publication (a join, a leave) for all live subscriptions of a feed. `each` gets those of a filtered feed.
    pub fn notice(&mut self, id: GroupId, frame: &[u8], mut each: impl FnMut(ConnId, &[u8])) {
        let Some(feed) = self.feed(id) else { return };
        if feed.form.filtered {
            for sub in self.of_feed(id) {
                each(self.subs[sub as usize].conn, frame);
            }
            return;
        }
        for sub in feed.fresh.clone() {
            each(self.subs[sub as usize].conn, frame);
        }
        self.gather(id, frame, false);
    }

    /// A publication of a delta feed, as a difference to the one before it and whole. `each` gets those who have nothing
    /// yet that a difference could be applied to.
    pub fn deliver_delta(
        &mut self,
        id: GroupId,
        at: At,
        whole: &[u8],
        delta: &[u8],
        mut each: impl FnMut(ConnId, &[u8]),
    ) {
        let Some(feed) = self.advance(id, at) else { return };
        let frame = if mem::take(&mut feed.base_lost) || delta.is_empty() { whole } else { delta };
        let fresh = mem::take(&mut feed.fresh);
        if !feed.members.is_empty() || !feed.newcomers.is_empty() {
            self.gather(id, frame, true);
        }
        for sub in fresh {
            each(self.subs[sub as usize].conn, whole);
            self.enter(sub, true);
        }
    }

    /// A publication of a filtered feed: `each` decides who gets it.
    pub fn deliver_each(&mut self, id: GroupId, at: At, mut each: impl FnMut(ConnId, Option<&D>)) {
        if self.advance(id, at).is_none() {
            return;
        }
        for sub in self.of_feed(id) {
            let sub = &self.subs[sub as usize];
            each(sub.conn, sub.detail.as_deref());
        }
    }

    /// Deliveries up to `last` that home could not keep for us, the last offset among them. Returns how many subscriptions
    /// miss them.
    pub fn lost(&mut self, id: GroupId, last: u64, offset: u64) -> Option<u32> {
        let feed = self.feed(id)?;
        debug_assert!(last > feed.seq);
        (feed.seq, feed.position.offset) = (last, offset);
        feed.base_lost = true;
        Some(feed.count)
    }

    fn gather(&mut self, id: GroupId, frame: &[u8], publication: bool) {
        let feed = &mut self.feeds[id.index()];
        if feed.turn.capacity() == 0
            && let Some(buffer) = self.buffers.pop()
        {
            feed.turn = buffer;
        }
        if publication {
            feed.turn_latest = feed.turn.len() as u32;
        }
        feed.turn.extend_from_slice(frame);
        feed.turn_messages += 1;
        self.turn_bytes += frame.len();
        self.touch(id.slot);
    }

    /// No cast is under way: hands out what the turn gathered. Newcomers first get their own part, behind which they are
    /// members like the others.
    pub fn end_turn(&mut self, mut out: impl FnMut(Out<'_>)) {
        // Whom `let_in` has wait is touched anew, for the next turn.
        let touched = self.touched.len();
        for at in 0..touched {
            let key = self.touched[at];
            self.feeds[key as usize].touched = false;
            for sub in mem::take(&mut self.feeds[key as usize].leavers) {
                self.remove_member(sub);
            }
            self.let_in(key, &mut out);
            let feed = &mut self.feeds[key as usize];
            if feed.turn.is_empty() {
                continue;
            }
            self.turn_bytes -= feed.turn.len();
            let frames = Rc::new(mem::take(&mut feed.turn));
            self.frozen.push(Rc::clone(&frames));
            let (messages, latest) = (mem::take(&mut feed.turn_messages), feed.latest());
            feed.turn_latest = NO_LATEST;
            let (id, members) = (GroupId::new(key, feed.generation), Rc::clone(&feed.members));
            out(Out::All(PendingBroadcast { feed: id, slow: feed.slow, members, frames, latest, messages }));
        }
        self.touched.drain(..touched);
    }

    /// Newcomers to whom the whole of this turn belongs become members; the others get their part, and wait.
    fn let_in(&mut self, key: u32, out: &mut impl FnMut(Out<'_>)) {
        let feed = &mut self.feeds[key as usize];
        if feed.newcomers.is_empty() {
            return;
        }
        let newest = feed.latest();
        let members = Rc::get_mut(&mut feed.members).expect("no cast shares the members now");
        let mut waiting = ThinVec::new();
        for sub in mem::take(&mut feed.newcomers) {
            let entry = &mut self.subs[sub as usize];
            if entry.state == State::Left {
                self.subs.remove(sub as usize);
            } else if entry.place == 0 {
                entry.place = members.len() as u32;
                entry.state = State::Member;
                members.push(entry.conn.slot);
                feed.subs.push(sub);
            } else {
                let frames = &feed.turn[entry.place as usize..];
                if !frames.is_empty() {
                    let latest = newest.and_then(|at| at.checked_sub(entry.place as usize));
                    let id = GroupId::new(key, feed.generation);
                    out(Out::One(Share { conn: entry.conn, feed: id, slow: feed.slow, frames, latest }));
                }
                entry.place = 0;
                waiting.push(sub);
            }
        }
        if !waiting.is_empty() {
            feed.newcomers = waiting;
            self.touch(key);
        }
    }

    /// The flush has ended: buffers that nobody holds any more serve again.
    pub fn end_flush(&mut self) {
        while let Some(frames) = self.frozen.pop() {
            if let Ok(buffer) = Rc::try_unwrap(frames) {
                self.keep_buffer(buffer);
            }
        }
    }

    pub(crate) fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES_MAX && self.buffers.len() < KEPT_BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// What the turn has for a subscription that ends by our decision: it takes its share first.
    pub fn share(&self, sub: u32) -> &[u8] {
        let sub = &self.subs[sub as usize];
        let turn = &self.feeds[sub.feed as usize].turn;
        match sub.state {
            State::Member => turn,
            State::Newcomer => &turn[sub.place as usize..],
            State::Pending | State::Fresh | State::Left => &[],
        }
    }

    /// Where the newest publication begins in its share.
    pub fn latest_of_share(&self, sub: u32) -> Option<usize> {
        let sub = &self.subs[sub as usize];
        let latest = self.feeds[sub.feed as usize].latest()?;
        if sub.state == State::Newcomer { latest.checked_sub(sub.place as usize) } else { Some(latest) }
    }
}
