//! A shard's own side of the channels: who subscribes here, and what the turn has for them.
//!
//! A feed is one channel in one wire form. Its members stand in a dense vector of slots that a cast shares while it is under
//! way; meanwhile nobody enters or leaves it: leavers are marked, newcomers wait with the place from which the turn buffer
//! is theirs. A subscription is live from the moment the home's answer is handled, in the same order in which
//! deliveries are: no gap, no duplicate.
//!
//! ```text
//! Pending ──home's answer──► Newcomer ──turn's end──► Member
//! any ──left──► Left (while a vector or list still names it) ──► gone
//! ```
//!
//! Invariants: `members[i]` is the slot of `subs[i]`; a Member's `place` is its index there; `count` is the number of
//! subscriptions that did not leave; a feed with `count` 0 does not exist.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use slab::Slab;

use super::{Form, Position};
use crate::ids::{ConnId, FeedId};

/// The key that stands for "no subscription".
pub const NO_SUB: u32 = u32::MAX;
/// Turn buffers above this are given back to the allocator, and so are those beyond this many.
const KEPT_BYTES_MAX: usize = 256 * 1024;
const KEPT_BUFFERS_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pending,
    Newcomer,
    Member,
    Left,
}

/// One subscription of one connection.
struct Sub {
    conn: ConnId,
    feed: u32,
    /// Member: the index in the feed's vectors. Newcomer: where its share of the turn buffer begins.
    place: u32,
    /// The connection's next subscription.
    next: u32,
    state: State,
}

const _: () = assert!(size_of::<Sub>() <= 24);

struct Feed {
    generation: u32,
    name: Box<str>,
    form: Form,
    /// Home has answered: `position` is what was delivered up to now.
    live: bool,
    position: Position,
    count: u32,
    members: Rc<Vec<u32>>,
    subs: Vec<u32>,
    /// Pending ones, newcomers and leavers, as far as there are any.
    pending: Vec<u32>,
    newcomers: Vec<u32>,
    leavers: Vec<u32>,
    /// Frames that came since the last flush began.
    turn: Vec<u8>,
    turn_messages: u32,
    /// Stands in the list of those that the turn's end looks at.
    touched: bool,
}

/// What became of a subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Joined {
    /// Live at once: the feed is, and its place in the order is this position.
    Live(u32, Position),
    /// Waits for the answer that is already on its way.
    Pending(u32),
    /// The first: home must be asked for this feed.
    First(u32, FeedId),
}

/// The last one left: home must be told.
#[derive(PartialEq, Eq, Debug)]
pub struct Left {
    pub feed: FeedId,
    pub name: Box<str>,
}

/// What a feed has for all its members in this turn.
pub struct Turn {
    pub feed: u32,
    pub members: Rc<Vec<u32>>,
    pub frames: Rc<Vec<u8>>,
    pub messages: u32,
}

/// What a newcomer gets of this turn.
pub struct Share<'a> {
    pub conn: ConnId,
    pub frames: &'a [u8],
}

/// What the end of a turn hands out.
pub enum Out<'a> {
    One(Share<'a>),
    All(Turn),
}

#[derive(Default)]
pub struct Feeds {
    feeds: Slab<Feed>,
    names: HashMap<Box<str>, Vec<u32>>,
    subs: Slab<Sub>,
    generations: u32,
    touched: Vec<u32>,
    turn_bytes: usize,
    frozen: Vec<Rc<Vec<u8>>>,
    buffers: Vec<Vec<u8>>,
    subscriptions: usize,
}

impl Feeds {
    /// Live and pending subscriptions, those that have left not counted.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Bytes that the next flush will cast, each once.
    pub fn turn_bytes(&self) -> usize {
        self.turn_bytes
    }

    /// Adds a subscription to the connection whose list begins at `first`, which becomes the new beginning.
    pub fn subscribe(&mut self, conn: ConnId, first: &mut u32, name: &str, form: Form) -> Joined {
        let known = self.names.get(name).and_then(|keys| keys.iter().find(|&&k| self.feeds[k as usize].form == form));
        let (key, new) = match known {
            Some(&key) => (key, false),
            None => (self.open(name, form), true),
        };
        let sub = Sub { conn, feed: key, place: 0, next: *first, state: State::Pending };
        let sub = self.subs.insert(sub) as u32;
        *first = sub;
        self.subscriptions += 1;
        let feed = &mut self.feeds[key as usize];
        feed.count += 1;
        if feed.live {
            let position = feed.position;
            self.enter(sub);
            return Joined::Live(sub, position);
        }
        feed.pending.push(sub);
        if new { Joined::First(sub, FeedId { slot: key, generation: feed.generation }) } else { Joined::Pending(sub) }
    }

    fn open(&mut self, name: &str, form: Form) -> u32 {
        self.generations = self.generations.wrapping_add(1);
        let key = self.feeds.insert(Feed {
            generation: self.generations,
            name: name.into(),
            form,
            live: false,
            position: Position::default(),
            count: 0,
            members: Rc::default(),
            subs: Vec::new(),
            pending: Vec::new(),
            newcomers: Vec::new(),
            leavers: Vec::new(),
            turn: Vec::new(),
            turn_messages: 0,
            touched: false,
        }) as u32;
        self.names.entry(name.into()).or_default().push(key);
        key
    }

    /// From now on the subscription gets what is delivered.
    fn enter(&mut self, sub: u32) {
        let entry = &mut self.subs[sub as usize];
        let feed = &mut self.feeds[entry.feed as usize];
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

    /// The feed of that name, if it is still the same one.
    fn feed(&mut self, id: FeedId) -> Option<&mut Feed> {
        self.feeds.get_mut(id.index()).filter(|feed| feed.generation == id.generation)
    }

    /// Home's answer: the pending subscriptions go live, in the order they came. `None` where the feed is gone.
    pub fn answer(&mut self, id: FeedId, position: Position) -> Option<Vec<u32>> {
        let feed = self.feed(id)?;
        feed.live = true;
        feed.position = position;
        let pending = mem::take(&mut feed.pending);
        let mut live = Vec::with_capacity(pending.len());
        for sub in pending {
            if self.subs[sub as usize].state == State::Left {
                self.subs.remove(sub as usize);
            } else {
                self.enter(sub);
                live.push(sub);
            }
        }
        Some(live)
    }

    /// A publication for all live subscriptions of a feed. False where the feed is gone.
    pub fn deliver(&mut self, id: FeedId, offset: u64, frame: &[u8]) -> bool {
        let buffer = self.buffers.pop();
        let Some(feed) = self.feed(id) else {
            self.buffers.extend(buffer);
            return false;
        };
        debug_assert!(feed.live && offset == feed.position.offset + 1, "home's FIFO has no gap");
        feed.position.offset = offset;
        let spare = match buffer {
            Some(buffer) if feed.turn.capacity() == 0 => {
                feed.turn = buffer;
                None
            }
            spare => spare,
        };
        feed.turn.extend_from_slice(frame);
        feed.turn_messages += 1;
        self.buffers.extend(spare);
        self.turn_bytes += frame.len();
        self.touch(id.slot);
        true
    }

    /// Publications up to `last` that home could not keep for us. Returns how many subscriptions miss them.
    pub fn lost(&mut self, id: FeedId, last: u64) -> Option<u32> {
        let feed = self.feed(id)?;
        debug_assert!(last > feed.position.offset);
        feed.position.offset = last;
        Some(feed.count)
    }

    /// Ends a subscription and takes it out of its connection's list. Of what the turn has it gets nothing more.
    pub fn unsubscribe(&mut self, sub: u32, first: &mut u32) -> Option<Left> {
        let next = self.subs[sub as usize].next;
        if *first == sub {
            *first = next;
        } else {
            let before = self.of_conn(*first).find(|&s| self.subs[s as usize].next == sub);
            let before = before.expect("a subscription stands in its connection's list");
            self.subs[before as usize].next = next;
        }
        self.leave(sub)
    }

    /// Ends the first subscription of a connection that is gone.
    pub fn unsubscribe_first(&mut self, first: &mut u32) -> Option<Left> {
        let sub = *first;
        *first = self.subs[sub as usize].next;
        self.leave(sub)
    }

    fn leave(&mut self, sub: u32) -> Option<Left> {
        self.subscriptions -= 1;
        let Sub { feed: key, state, .. } = self.subs[sub as usize];
        let feed = &mut self.feeds[key as usize];
        feed.count -= 1;
        if feed.count == 0 {
            return Some(self.close(key));
        }
        match state {
            State::Member if Rc::get_mut(&mut feed.members).is_some() => self.remove_member(sub),
            State::Member => {
                self.subs[sub as usize].state = State::Left;
                feed.leavers.push(sub);
                self.touch(key);
            }
            // The list that names it finds it left.
            _ => self.subs[sub as usize].state = State::Left,
        }
        None
    }

    fn remove_member(&mut self, sub: u32) {
        let Sub { feed, place, .. } = self.subs.remove(sub as usize);
        let feed = &mut self.feeds[feed as usize];
        let members = Rc::get_mut(&mut feed.members).expect("no cast shares the members now");
        members.swap_remove(place as usize);
        feed.subs.swap_remove(place as usize);
        if let Some(&moved) = feed.subs.get(place as usize) {
            self.subs[moved as usize].place = place;
        }
    }

    /// Nobody is left: the feed and all that it names are gone. A cast under way holds its own references.
    fn close(&mut self, key: u32) -> Left {
        let feed = self.feeds.remove(key as usize);
        // A leaver is still in `subs`: every entry is named once.
        for sub in feed.subs.into_iter().chain(feed.pending).chain(feed.newcomers) {
            self.subs.remove(sub as usize);
        }
        self.turn_bytes -= feed.turn.len();
        self.keep_buffer(feed.turn);
        if feed.touched {
            self.touched.retain(|&k| k != key);
        }
        if let Some(keys) = self.names.get_mut(&feed.name) {
            keys.retain(|&k| k != key);
            if keys.is_empty() {
                self.names.remove(&feed.name);
            }
        }
        Left { feed: FeedId { slot: key, generation: feed.generation }, name: feed.name }
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
            let messages = mem::take(&mut feed.turn_messages);
            out(Out::All(Turn { feed: key, members: Rc::clone(&feed.members), frames, messages }));
        }
        self.touched.drain(..touched);
    }

    /// Newcomers to whom the whole of this turn belongs become members; the others get their part, and wait.
    fn let_in(&mut self, key: u32, out: &mut impl FnMut(Out<'_>)) {
        let feed = &mut self.feeds[key as usize];
        if feed.newcomers.is_empty() {
            return;
        }
        let members = Rc::get_mut(&mut feed.members).expect("no cast shares the members now");
        let mut waiting = Vec::new();
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
                    out(Out::One(Share { conn: entry.conn, frames }));
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
    pub fn thaw(&mut self) {
        while let Some(frames) = self.frozen.pop() {
            if let Ok(buffer) = Rc::try_unwrap(frames) {
                self.keep_buffer(buffer);
            }
        }
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
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
            State::Pending | State::Left => &[],
        }
    }

    /// True where a subscribe needs no question to home.
    pub fn knows(&self, name: &str, form: Form) -> bool {
        self.names.get(name).is_some_and(|keys| keys.iter().any(|&key| self.feeds[key as usize].form == form))
    }

    /// The subscriptions of the connection whose list begins at `first`.
    pub fn of_conn(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let step = |&sub: &u32| self.subs.get(sub as usize).map(|sub| sub.next).filter(|&next| next != NO_SUB);
        std::iter::successors((first != NO_SUB).then_some(first), step)
    }

    /// The connection's subscription to a channel, in whatever form.
    pub fn find(&self, first: u32, name: &str) -> Option<u32> {
        let keys = self.names.get(name)?;
        self.of_conn(first).find(|&sub| keys.contains(&self.subs[sub as usize].feed))
    }

    pub fn is_pending(&self, sub: u32) -> bool {
        self.subs[sub as usize].state == State::Pending
    }

    pub fn conn_of(&self, sub: u32) -> ConnId {
        self.subs[sub as usize].conn
    }
}

#[cfg(test)]
#[path = "feeds_tests.rs"]
mod tests;
