//! Who goes: at once where nothing names the subscription, marked and taken out later where something does.

use std::rc::Rc;

use super::{NO_FEED, NO_SUB, State, Sub, Subscribers, flag};
use crate::ids::GroupId;

/// The last one left: home must be told.
#[derive(PartialEq, Eq, Debug)]
pub struct Left {
    pub feed: GroupId,
    pub name: Rc<str>,
}

impl<D> Subscribers<D> {
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

    fn leave(&mut self, sub: u32) -> Option<Left> {
        self.subscriptions -= 1;
        let Sub { feed: key, state, flags, place, .. } = self.subs[sub as usize];
        let feed = &mut self.feeds[key as usize];
        feed.count -= 1;
        // Who waits for an answer of its own stands in no list, and a fresh one knows its place there.
        let unnamed = state == State::Pending && flags & flag::OWN_ANSWER != 0 || state == State::Fresh;
        if state == State::Fresh {
            feed.fresh.swap_remove(place as usize);
            if let Some(&moved) = feed.fresh.get(place as usize) {
                self.subs[moved as usize].place = place;
            }
        }
        if unnamed {
            self.subs.remove(sub as usize);
        }
        if feed.count == 0 {
            return Some(self.close(key));
        }
        match state {
            _ if unnamed => {}
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

    /// Something was dropped of what a subscription of a delta feed had: the next publication comes to it whole. What the
    /// turn has for it is lost too.
    pub fn refresh(&mut self, sub: u32) {
        let Sub { conn, feed: key, state, place, serial, .. } = self.subs[sub as usize];
        let feed = &mut self.feeds[key as usize];
        match state {
            State::Pending | State::Fresh | State::Left => return,
            State::Newcomer => feed.newcomers.retain(|&other| other != sub),
            State::Member => match Rc::get_mut(&mut feed.members) {
                Some(_) => self.take_member(key, place),
                // A cast is under way: one that has left stands in its place until that has passed.
                None => {
                    let left = Sub {
                        conn,
                        feed: key,
                        place,
                        next: NO_SUB,
                        serial,
                        state: State::Left,
                        flags: 0,
                        detail: None,
                    };
                    let left = self.subs.insert(left) as u32;
                    feed.subs[place as usize] = left;
                    feed.leavers.push(left);
                    self.touch(key);
                }
            },
        }
        let feed = &mut self.feeds[key as usize];
        let entry = &mut self.subs[sub as usize];
        (entry.state, entry.place) = (State::Fresh, feed.fresh.len() as u32);
        feed.fresh.push(sub);
    }

    pub(crate) fn remove_member(&mut self, sub: u32) {
        let Sub { feed, place, .. } = self.subs.remove(sub as usize);
        self.take_member(feed, place);
    }

    fn take_member(&mut self, key: u32, place: u32) {
        let feed = &mut self.feeds[key as usize];
        let members = Rc::get_mut(&mut feed.members).expect("no cast shares the members now");
        members.swap_remove(place as usize);
        feed.subs.swap_remove(place as usize);
        if let Some(&moved) = feed.subs.get(place as usize) {
            self.subs[moved as usize].place = place;
        }
    }

    /// Nobody is left: the feed and all that it names are gone. A cast under way holds its own references.
    fn close(&mut self, key: u32) -> Left {
        let name = &self.feeds[key as usize].name;
        let before = self.of_name(name).find(|&other| self.feeds[other as usize].sibling == key);
        let feed = self.feeds.remove(key as usize);
        // A leaver is still in `subs`: every entry is named once.
        for sub in feed.subs.into_iter().chain(feed.pending).chain(feed.newcomers).chain(feed.fresh) {
            self.subs.remove(sub as usize);
        }
        self.turn_bytes -= feed.turn.len();
        self.keep_buffer(feed.turn);
        if feed.touched {
            self.touched.retain(|&k| k != key);
        }
        match before {
            Some(before) => self.feeds[before as usize].sibling = feed.sibling,
            None => self.names.replace(&feed.name, key, (feed.sibling != NO_FEED).then_some(feed.sibling)),
        }
        self.shrink();
        Left { feed: GroupId::new(key, feed.generation), name: feed.name }
    }

    /// Gives memory back where a great crowd has left.
    fn shrink(&mut self) {
        const WORTH_KEEPING: usize = 1024;
        if self.subs.is_empty() && self.subs.capacity() > WORTH_KEEPING {
            self.subs.shrink_to_fit();
        }
        if self.feeds.is_empty() && self.feeds.capacity() > WORTH_KEEPING {
            self.feeds.shrink_to_fit();
            self.names.shrink();
        }
    }
}
