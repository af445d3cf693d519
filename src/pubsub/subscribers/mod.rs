//! A shard's own side of the channels: who subscribes here, and what the turn has for them.
//!
//! A feed is one channel in one form. Its members stand in a dense vector of slots that a cast shares while it is under
//! way; meanwhile nobody enters or leaves it: leavers are marked, newcomers wait with the place from which the turn buffer
//! is theirs. A subscription is live from the moment the home's answer is handled, in the same order in which
//! deliveries are: no gap, no duplicate. One that recovers waits for an answer of its own, in the same order again.
//!
//! ```text
//! Pending ──home's answer──► Newcomer ──turn's end──► Member
//!    └──answer, form is a delta──► Fresh ──first publication, whole──► Newcomer
//! Newcomer, Member ──something of a delta feed was dropped──► Fresh
//! any ──left──► Left (while a vector or list still names it) ──► gone
//! ```
//!
//! Invariants: `members[i]` is the slot of `subs[i]`; a Member's `place` is its index there; `count` is the number of
//! subscriptions that did not leave; a feed with `count` 0 does not exist. Members of a filtered feed are never cast to.
//!
//! - here: what there is, who comes, and who is found.
//! - `deliver`: what comes from home, and what the turn's end hands out.
//! - `leave`: who goes.

pub(crate) mod deliver;
pub(crate) mod leave;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use slab::Slab;
use thin_vec::ThinVec;

use super::name_index::Names;
use super::{Position, Top, WireFormat};
use crate::ids::{ConnId, GroupId, SubscriptionId};
use crate::slow_policy::SlowConsumerPolicy;

pub use leave::Left;

/// The key that stands for "no subscription".
pub const NO_SUB: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for its feed's answer, or, where `OWN_ANSWER` is set, for its own.
    Pending,
    /// Live in a delta feed, and has nothing yet that a delta could be applied to.
    Fresh,
    Newcomer,
    Member,
    Left,
}

/// What a subscription is beside its place: kept in one byte, for whoever looks at it at the end.
pub mod flag {
    /// The server made it: a client cannot end it, and its end closes the connection where state is lost.
    pub const SERVER: u16 = 1;
    /// It may miss nothing unknowingly.
    pub const POSITIONED: u16 = 2;
    pub const RECOVERABLE: u16 = 4;
    /// Stands in the channel's presence.
    pub const PRESENCE: u16 = 8;
    /// Its coming and going is told.
    pub const JOIN_LEAVE: u16 = 16;
    /// The client renews it (and not the backend).
    pub const CLIENT_REFRESH: u16 = 32;
    /// It came with the connection's token.
    pub const FROM_TOKEN: u16 = 64;
    /// Waits, or waited, for an answer of its own.
    pub const OWN_ANSWER: u16 = 128;
    /// To whom comes back the channel's newest publication is enough.
    pub const CACHE: u16 = 256;
}

/// One subscription of one connection. `D` is what its owner keeps with it, where there is something.
struct Sub<D> {
    conn: ConnId,
    feed: u32,
    /// Member: the index in the feed's vectors, fresh: in its list. Newcomer: where its share of the turn buffer begins.
    place: u32,
    /// The connection's next subscription.
    next: u32,
    serial: u32,
    state: State,
    flags: u16,
    detail: Option<Box<D>>,
}

const _: () = assert!(size_of::<Sub<u64>>() <= 40);

struct SubscriberGroup {
    generation: u32,
    /// The next feed of the same name, in another form; `NO_FEED` behind the last.
    sibling: u32,
    name: Rc<str>,
    form: WireFormat,
    slow: SlowConsumerPolicy,
    /// Home has answered: `seq` and `position` are those of what was delivered up to now.
    live: bool,
    /// Deltas cannot be applied: something was lost. The next publication goes out whole.
    base_lost: bool,
    seq: u64,
    position: Position,
    count: u32,
    members: Rc<Vec<u32>>,
    subs: Vec<u32>,
    /// Pending ones, newcomers, fresh ones and leavers, as far as there are any.
    pending: ThinVec<u32>,
    newcomers: ThinVec<u32>,
    fresh: ThinVec<u32>,
    leavers: ThinVec<u32>,
    /// Frames that came since the last flush began.
    turn: Vec<u8>,
    turn_messages: u32,
    /// Where the newest publication among them begins; `NO_LATEST` where there is none.
    turn_latest: u32,
    /// Stands in the list of those that the turn's end looks at.
    touched: bool,
}

const NO_FEED: u32 = u32::MAX;
const NO_LATEST: u32 = u32::MAX;

/// A channel of one subscriber costs this, twice four members' places, and the name, beside what its home has.
const _: () = assert!(size_of::<SubscriberGroup>() <= 168);

/// A subscribe: whose, of what, and how it goes live.
pub struct Wanted<'a, D> {
    pub conn: ConnId,
    pub name: &'a str,
    pub form: WireFormat,
    /// Of the channel: what becomes of its publications for a peer that does not read.
    pub slow: SlowConsumerPolicy,
    pub flags: u16,
    pub detail: Option<Box<D>>,
    /// It goes live by `go_live` and not with its feed.
    pub own_answer: bool,
}

/// What became of a subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    pub sub: SubscriptionId,
    pub feed: GroupId,
    /// The first: home must be asked for this feed.
    pub first: bool,
    /// Live at once: the feed is, and its place in the order is this position.
    pub live: Option<Position>,
}

/// A delivery's place: one above the one before it; and its offset in the channel's stream, 0 where it has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    pub seq: u64,
    pub offset: u64,
}

/// What a feed has for all its members in this turn.
pub struct PendingBroadcast {
    pub feed: GroupId,
    pub slow: SlowConsumerPolicy,
    pub members: Rc<Vec<u32>>,
    pub frames: Rc<Vec<u8>>,
    /// Where the newest publication begins in the frames.
    pub latest: Option<usize>,
    pub messages: u32,
}

/// What a newcomer gets of this turn.
pub struct Share<'a> {
    pub conn: ConnId,
    pub feed: GroupId,
    pub slow: SlowConsumerPolicy,
    pub frames: &'a [u8],
    pub latest: Option<usize>,
}

/// What the end of a turn hands out.
pub enum Out<'a> {
    One(Share<'a>),
    All(PendingBroadcast),
}

pub struct Subscribers<D> {
    feeds: Slab<SubscriberGroup>,
    /// Of each name the first feed: nearly always the only one.
    names: Names,
    subs: Slab<Sub<D>>,
    generations: u32,
    serials: u32,
    touched: Vec<u32>,
    turn_bytes: usize,
    frozen: Vec<Rc<Vec<u8>>>,
    buffers: Vec<Vec<u8>>,
    subscriptions: usize,
}

impl<D> Default for Subscribers<D> {
    fn default() -> Self {
        Self {
            feeds: Slab::new(),
            names: Names::default(),
            subs: Slab::new(),
            generations: 0,
            serials: 0,
            touched: Vec::new(),
            turn_bytes: 0,
            frozen: Vec::new(),
            buffers: Vec::new(),
            subscriptions: 0,
        }
    }
}

impl<D> Subscribers<D> {
    /// Live and pending subscriptions, those that have left not counted.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Bytes that the next flush will cast, each once.
    pub fn turn_bytes(&self) -> usize {
        self.turn_bytes
    }

    /// Adds a subscription to the connection whose list begins at `first`, which becomes the new beginning.
    pub fn subscribe(&mut self, first: &mut u32, wanted: Wanted<'_, D>) -> Joined {
        let Wanted { conn, name, form, slow, flags, detail, own_answer } = wanted;
        let (key, new) = match self.key_of(name, form) {
            Some(key) => (key, false),
            None => (self.open(name, form, slow), true),
        };
        self.serials = self.serials.wrapping_add(1);
        let flags = flags & !flag::OWN_ANSWER | if own_answer { flag::OWN_ANSWER } else { 0 };
        let (serial, next, state) = (self.serials, *first, State::Pending);
        let sub = self.subs.insert(Sub { conn, feed: key, place: 0, next, serial, state, flags, detail }) as u32;
        *first = sub;
        self.subscriptions += 1;
        let feed = &mut self.feeds[key as usize];
        feed.count += 1;
        let mut live = None;
        let id = GroupId::new(key, feed.generation);
        if !own_answer && feed.live {
            live = Some(feed.position);
            self.enter(sub, false);
        } else if !own_answer {
            feed.pending.push(sub);
        }
        Joined { sub: SubscriptionId::new(sub, serial), feed: id, first: new, live }
    }

    fn key_of(&self, name: &str, form: WireFormat) -> Option<u32> {
        self.of_name(name).find(|&key| self.feeds[key as usize].form == form)
    }

    /// The feeds of a name, in all forms.
    fn of_name(&self, name: &str) -> impl Iterator<Item = u32> + '_ {
        let first = self.names.find(name, |key| &self.feeds[key as usize].name);
        self.siblings(first.unwrap_or(NO_FEED))
    }

    fn siblings(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let key = |key: u32| (key != NO_FEED).then_some(key);
        std::iter::successors(key(first), move |&last| key(self.feeds[last as usize].sibling))
    }

    fn open(&mut self, name: &str, form: WireFormat, slow: SlowConsumerPolicy) -> u32 {
        self.generations = self.generations.wrapping_add(1);
        let last = self.of_name(name).last();
        let shared = last.map_or_else(|| Rc::from(name), |last| Rc::clone(&self.feeds[last as usize].name));
        let key = self.feeds.insert(SubscriberGroup {
            generation: self.generations,
            sibling: NO_FEED,
            name: shared,
            form,
            slow,
            live: false,
            base_lost: false,
            seq: 0,
            position: Position::default(),
            count: 0,
            members: Rc::default(),
            subs: Vec::new(),
            pending: ThinVec::new(),
            newcomers: ThinVec::new(),
            fresh: ThinVec::new(),
            leavers: ThinVec::new(),
            turn: Vec::new(),
            turn_messages: 0,
            turn_latest: NO_LATEST,
            touched: false,
        }) as u32;
        match last {
            Some(last) => self.feeds[last as usize].sibling = key,
            None => self.names.insert(name, key, |key| &self.feeds[key as usize].name),
        }
        key
    }

    /// From now on the subscription gets what is delivered. `has_base`: it has what the next delta is made against.
    fn enter(&mut self, sub: u32, has_base: bool) {
        let entry = &mut self.subs[sub as usize];
        let feed = &mut self.feeds[entry.feed as usize];
        if feed.form.delta && !has_base {
            entry.state = State::Fresh;
            entry.place = feed.fresh.len() as u32;
            return feed.fresh.push(sub);
        }
        match Rc::get_mut(&mut feed.members) {
            Some(members) if feed.turn.is_empty() => {
                entry.place = members.len() as u32;
                entry.state = State::Member;
                members.push(entry.conn.slot);
                feed.subs.push(sub);
            }
            _ => {
                entry.place = feed.turn.len() as u32;
                entry.state = State::Newcomer;
                feed.newcomers.push(sub);
                let key = entry.feed;
                self.touch(key);
            }
        }
    }

    fn touch(&mut self, key: u32) {
        let feed = &mut self.feeds[key as usize];
        if !feed.touched {
            feed.touched = true;
            self.touched.push(key);
        }
    }

    /// The feed, to which something is delivered at this place.
    fn advance(&mut self, id: GroupId, at: At) -> Option<&mut SubscriberGroup> {
        let feed = self.feed(id)?;
        debug_assert!(feed.live && at.seq == feed.seq + 1, "home's FIFO has no gap");
        feed.seq = at.seq;
        if at.offset > 0 {
            feed.position.offset = at.offset;
        }
        Some(feed)
    }

    /// The feed of that name, if it is still the same one.
    fn feed(&mut self, id: GroupId) -> Option<&mut SubscriberGroup> {
        self.feeds.get_mut(id.index()).filter(|feed| feed.generation == id.generation)
    }

    /// Home's answer: the pending subscriptions go live, in the order they came. `None` where the feed is gone.
    pub fn answer(&mut self, id: GroupId, top: Top) -> Option<Vec<u32>> {
        let feed = self.feed(id)?;
        feed.live = true;
        (feed.position, feed.seq) = (top.position, top.seq);
        let pending = std::mem::take(&mut feed.pending);
        let mut live = Vec::with_capacity(pending.len());
        for sub in pending {
            if self.subs[sub as usize].state == State::Left {
                self.subs.remove(sub as usize);
            } else {
                self.enter(sub, false);
                live.push(sub);
            }
        }
        Some(live)
    }

    /// The answer that one subscription waited for. False where it is gone.
    pub fn go_live(&mut self, id: SubscriptionId, has_base: bool) -> bool {
        let waits =
            self.subs.get(id.index()).is_some_and(|sub| sub.serial == id.generation && sub.state == State::Pending);
        if waits {
            debug_assert!(self.feeds[self.subs[id.index()].feed as usize].live, "the feed's answer came before");
            self.enter(id.slot, has_base);
        }
        waits
    }

    /// The live subscription of a connection, whose list begins at `first`, in a feed.
    pub fn live_in(&self, first: u32, id: GroupId) -> Option<u32> {
        self.feeds.get(id.index()).filter(|feed| feed.generation == id.generation)?;
        self.of_conn(first).find(|&sub| {
            let sub = &self.subs[sub as usize];
            sub.feed == id.slot && !matches!(sub.state, State::Pending | State::Left)
        })
    }

    /// The feed of a subscription, and what becomes of its publications for a peer that does not read.
    pub fn feed_of(&self, sub: u32) -> (GroupId, SlowConsumerPolicy) {
        let slot = self.subs[sub as usize].feed;
        let feed = &self.feeds[slot as usize];
        (GroupId::new(slot, feed.generation), feed.slow)
    }

    /// As the channel's namespace says; to close, where the feed is gone.
    pub fn slow(&self, id: GroupId) -> SlowConsumerPolicy {
        let feed = self.feeds.get(id.index()).filter(|feed| feed.generation == id.generation);
        feed.map_or(SlowConsumerPolicy::Close, |feed| feed.slow)
    }

    /// What a subscribe can be answered with at once: the position of a live feed.
    pub fn position(&self, name: &str, form: WireFormat) -> Option<Position> {
        let feed = &self.feeds[self.key_of(name, form)? as usize];
        feed.live.then_some(feed.position)
    }

    /// True where a subscribe needs no question to home.
    pub fn knows(&self, name: &str, form: WireFormat) -> bool {
        self.key_of(name, form).is_some()
    }

    /// The subscriptions of the connection whose list begins at `first`.
    pub fn of_conn(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let step = |&sub: &u32| self.subs.get(sub as usize).map(|sub| sub.next).filter(|&next| next != NO_SUB);
        std::iter::successors((first != NO_SUB).then_some(first), step)
    }

    /// The connection's subscription to a channel, in whatever form.
    pub fn find(&self, first: u32, name: &str) -> Option<u32> {
        let known = self.names.find(name, |key| &self.feeds[key as usize].name)?;
        self.of_conn(first).find(|&sub| self.siblings(known).any(|key| key == self.subs[sub as usize].feed))
    }

    /// Live subscriptions of a feed, for whatever must be done to each.
    pub fn of_feed(&self, id: GroupId) -> Vec<u32> {
        let Some(feed) = self.feeds.get(id.index()).filter(|feed| feed.generation == id.generation) else {
            return Vec::new();
        };
        let lists = feed.subs.iter().chain(&feed.newcomers).chain(&feed.fresh);
        lists.copied().filter(|&sub| self.subs[sub as usize].state != State::Left).collect()
    }

    /// Names of the channels that have subscribers here, with their number.
    pub fn channels(&self) -> impl Iterator<Item = (&str, u32)> + '_ {
        self.names.keys().map(|first| {
            let count = self.siblings(first).map(|key| self.feeds[key as usize].count).sum();
            (&*self.feeds[first as usize].name, count)
        })
    }

    pub fn is_pending(&self, sub: u32) -> bool {
        self.subs[sub as usize].state == State::Pending
    }

    pub fn is_delta(&self, sub: u32) -> bool {
        self.feeds[self.subs[sub as usize].feed as usize].form.delta
    }

    pub fn conn_of(&self, sub: u32) -> ConnId {
        self.subs[sub as usize].conn
    }

    pub fn name_of(&self, sub: u32) -> Rc<str> {
        Rc::clone(&self.feeds[self.subs[sub as usize].feed as usize].name)
    }

    pub fn flags_of(&self, sub: u32) -> u16 {
        self.subs[sub as usize].flags
    }

    pub fn detail_of(&self, sub: u32) -> Option<&D> {
        self.subs[sub as usize].detail.as_deref()
    }

    pub fn detail_mut(&mut self, sub: u32) -> &mut Option<Box<D>> {
        &mut self.subs[sub as usize].detail
    }
}
