//! Deliveries from the home shard, and what the end of a turn sends.
//!
//! Most publications are broadcast: they gather in the group's turn buffer and the flush writes them. What differs from
//! subscription to subscription (filters, the base of a delta) goes to each at once.

use std::mem;
use std::rc::Rc;

use thin_vec::ThinVec;

use super::table::Subscribers;
use super::types::{DeltaBase, PendingBroadcast, PendingUnicast, State, SubscriberGroup, TurnOutput, TurnShare};
use crate::ids::{ConnId, GroupId, GroupKey, OptionU32};
use crate::pubsub::position::{ChannelTop, DeliveryPosition, LostDeliveries};

/// Turn buffers above this size are freed, and so are spare ones beyond this number.
const SPARE_BYTES_MAX: usize = 256 * 1024;
const SPARE_BUFFERS_MAX: usize = 64;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Publication,
    /// A join or a leave: no publication, and never the newest one.
    JoinLeave,
}

impl<D> Subscribers<D> {
    /// A publication for all live subscriptions of a group. False if the group is gone.
    pub(crate) fn deliver(&mut self, id: GroupId, at: DeliveryPosition, frame: &[u8]) -> bool {
        let exists = self.advance(id, at).is_some();
        if exists {
            self.gather(id, frame, FrameKind::Publication);
        }
        exists
    }

    /// A join or a leave for all live subscriptions of a group. `each` gets it for those that no broadcast reaches.
    pub(crate) fn deliver_join_leave(&mut self, id: GroupId, frame: &[u8], mut each: impl FnMut(ConnId, &[u8])) {
        let Some(group) = self.group_mut(id) else { return };
        if group.wire_format.filtered {
            for key in self.of_group(id) {
                each(self.subscriptions[key.index()].conn, frame);
            }
            return;
        }
        for key in group.awaiting_base.clone() {
            each(self.subscriptions[key.index()].conn, frame);
        }
        self.gather(id, frame, FrameKind::JoinLeave);
    }

    /// A publication for a group with deltas, as a delta to the one before (empty for none) and whole. `each` gets it whole
    /// for subscriptions that have no base yet.
    pub(crate) fn deliver_delta(
        &mut self,
        id: GroupId,
        at: DeliveryPosition,
        whole: &[u8],
        delta: &[u8],
        mut each: impl FnMut(ConnId, &[u8]),
    ) {
        let Some(group) = self.advance(id, at) else { return };
        let frame = if mem::take(&mut group.base_lost) || delta.is_empty() { whole } else { delta };
        let awaiting_base = mem::take(&mut group.awaiting_base);
        if !group.members.is_empty() || !group.joining.is_empty() {
            self.gather(id, frame, FrameKind::Publication);
        }
        for key in awaiting_base {
            each(self.subscriptions[key.index()].conn, whole);
            self.start_delivery(key, DeltaBase::Known);
        }
    }

    /// A publication for a filtered group: `each` decides for each subscription.
    pub(crate) fn deliver_filtered(
        &mut self,
        id: GroupId,
        at: DeliveryPosition,
        mut each: impl FnMut(ConnId, Option<&D>),
    ) {
        if self.advance(id, at).is_none() {
            return;
        }
        for key in self.of_group(id) {
            let subscription = &self.subscriptions[key.index()];
            each(subscription.conn, subscription.detail.as_deref());
        }
    }

    /// Home could not keep these deliveries for us. Returns how many subscriptions miss them; `None` if the group is gone.
    pub(crate) fn skip_lost(&mut self, id: GroupId, lost: LostDeliveries) -> Option<u32> {
        let group = self.group_mut(id)?;
        debug_assert!(lost.last_seq > group.seq);
        (group.seq, group.position.offset) = (lost.last_seq, lost.offset);
        group.base_lost = true;
        Some(group.count)
    }

    /// What the group has got is not continued: it goes on at another position. Returns how many subscriptions are concerned;
    /// `None` if the group is gone.
    pub(crate) fn restart(&mut self, id: GroupId, top: ChannelTop) -> Option<u32> {
        let group = self.group_mut(id)?;
        (group.seq, group.position, group.base_lost) = (top.seq, top.position, true);
        Some(group.count)
    }

    /// Moves the group to the position of a delivery. `None` if the group is gone.
    fn advance(&mut self, id: GroupId, at: DeliveryPosition) -> Option<&mut SubscriberGroup> {
        let group = self.group_mut(id)?;
        debug_assert!(group.is_live && at.seq == group.seq + 1, "mail from home comes in order and without gaps");
        group.seq = at.seq;
        if at.offset > 0 {
            group.position.offset = at.offset;
        }
        Some(group)
    }

    fn gather(&mut self, id: GroupId, frame: &[u8], kind: FrameKind) {
        let group = &mut self.groups[id.index()];
        if group.turn.capacity() == 0
            && let Some(buffer) = self.spare_buffers.pop()
        {
            group.turn = buffer;
        }
        if kind == FrameKind::Publication {
            group.turn_latest = OptionU32::some(group.turn.len() as u32);
        }
        group.turn.extend_from_slice(frame);
        group.turn_messages += 1;
        self.turn_bytes += frame.len();
        self.touch(id.key());
    }

    /// Sends what the turn gathered. No broadcast is under way. Joining subscriptions first get their own part, and are
    /// members after it.
    pub(crate) fn end_turn(&mut self, mut send: impl FnMut(TurnOutput<'_>)) {
        // `admit_joining` may touch a group again, for the next turn.
        let touched = self.touched.len();
        for at in 0..touched {
            let key = self.touched[at];
            self.groups[key.index()].is_touched = false;
            for subscription in mem::take(&mut self.groups[key.index()].leaving) {
                self.remove_member(subscription);
            }
            self.admit_joining(key, &mut send);
            let group = &mut self.groups[key.index()];
            if group.turn.is_empty() {
                continue;
            }
            self.turn_bytes -= group.turn.len();
            let frames = Rc::new(mem::take(&mut group.turn));
            self.in_flush.push(Rc::clone(&frames));
            let latest = group.latest();
            group.turn_latest = OptionU32::NONE;
            send(TurnOutput::Broadcast(PendingBroadcast {
                group: key.with(group.generation),
                slow_policy: group.slow_policy,
                member_slots: Rc::clone(&group.member_slots),
                frames,
                latest,
                messages: mem::take(&mut group.turn_messages),
            }));
        }
        self.touched.drain(..touched);
    }

    /// Joining subscriptions that get the whole turn become members; the others get their part now and wait for the next
    /// turn.
    fn admit_joining(&mut self, key: GroupKey, send: &mut impl FnMut(TurnOutput<'_>)) {
        let group = &mut self.groups[key.index()];
        if group.joining.is_empty() {
            return;
        }
        let newest = group.latest();
        let slots = Rc::get_mut(&mut group.member_slots).expect("no broadcast is under way at the end of a turn");
        let mut waiting = ThinVec::new();
        for joining in mem::take(&mut group.joining) {
            let subscription = &mut self.subscriptions[joining.index()];
            if subscription.state == State::Left {
                self.subscriptions.remove(joining.index());
            } else if subscription.index == 0 {
                subscription.index = slots.len() as u32;
                subscription.state = State::Member;
                slots.push(subscription.conn.slot);
                group.members.push(joining);
            } else {
                let frames = &group.turn[subscription.index as usize..];
                if !frames.is_empty() {
                    let latest = newest.and_then(|at| at.checked_sub(subscription.index as usize));
                    send(TurnOutput::Unicast(PendingUnicast {
                        conn: subscription.conn,
                        group: key.with(group.generation),
                        slow_policy: group.slow_policy,
                        share: TurnShare { frames, latest },
                    }));
                }
                subscription.index = 0;
                waiting.push(joining);
            }
        }
        if !waiting.is_empty() {
            group.joining = waiting;
            self.touch(key);
        }
    }

    /// The flush has ended: buffers that no backlog holds are used again.
    pub(crate) fn end_flush(&mut self) {
        while let Some(frames) = self.in_flush.pop() {
            if let Ok(buffer) = Rc::try_unwrap(frames) {
                self.recycle(buffer);
            }
        }
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        let is_small = buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX;
        if is_small && self.spare_buffers.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare_buffers.push(buffer);
        }
    }
}
