//! Which channel expires next, and which was used least recently.
//!
//! [`ExpiryLists`] has one list for each namespace and time span in use; a list orders its channels by their last use. A
//! channel that is used moves to the back of its list, so that the front is both the next to expire and the least recently
//! used: nothing is scanned. The lists link the channels through [`ListLinks`] in the channels themselves and own no memory for them.
//!
//! Invariants: the times of a list do not fall from front to back; only an empty list changes its class.

use slab::Slab;

use crate::ids::{ChannelKey, OptionU32};

/// What another process has used may be older than the clock of this one: times count from so many milliseconds before its
/// zero.
const BEFORE_ZERO: u64 = 1 << 48;

/// What a group of lists is for.
#[derive(Clone, Copy)]
pub(super) enum ListKind {
    /// Channels with publications, by the time of the last one.
    History = 0,
    /// Channels without subscribers and members that keep a position, by their last use.
    Idle = 1,
}

impl ListKind {
    pub(super) const COUNT: usize = 2;
}

/// A channel's place in the lists of one kind.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct ListLinks {
    /// The index of the list.
    list: OptionU32<u32>,
    before: OptionU32<ChannelKey>,
    after: OptionU32<ChannelKey>,
    /// The last use, in milliseconds after `BEFORE_ZERO`.
    used: u64,
}

impl ListLinks {
    pub(super) fn is_linked(&self) -> bool {
        self.list.is_some()
    }
}

/// What the lists can link. A channel that is in a list has links.
pub(super) trait Linked {
    fn links(&self, kind: ListKind) -> &ListLinks;
    fn links_mut(&mut self, kind: ListKind) -> &mut ListLinks;
}

/// What the channels of one list have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ListClass {
    pub(super) namespace: u16,
    /// Milliseconds from the last use to the expiry; `u64::MAX` for never.
    pub(super) span: u64,
}

/// Channels of one class, the least recently used first.
struct LruList {
    class: ListClass,
    front: OptionU32<ChannelKey>,
    back: OptionU32<ChannelKey>,
}

/// The lists of one kind: one for each class, and those are few.
pub(super) struct ExpiryLists {
    kind: ListKind,
    lists: Vec<LruList>,
}

impl ExpiryLists {
    pub(super) fn new(kind: ListKind) -> Self {
        Self { kind, lists: Vec::new() }
    }

    fn links<'a, T: Linked>(&self, channels: &'a Slab<T>, key: ChannelKey) -> &'a ListLinks {
        channels[key.index()].links(self.kind)
    }

    fn links_mut<'a, T: Linked>(&self, channels: &'a mut Slab<T>, key: ChannelKey) -> &'a mut ListLinks {
        channels[key.index()].links_mut(self.kind)
    }

    /// The channel is used now: it moves to the back of the list of this class.
    pub(super) fn touch<T: Linked>(&mut self, channels: &mut Slab<T>, key: ChannelKey, class: ListClass, now: u64) {
        self.move_to_back(channels, key, class, now.saturating_add(BEFORE_ZERO));
    }

    /// `used` counts from `BEFORE_ZERO`.
    #[inline]
    fn move_to_back<T: Linked>(&mut self, channels: &mut Slab<T>, key: ChannelKey, class: ListClass, used: u64) {
        let links = self.links_mut(channels, key);
        links.used = used;
        let same = links.list.get().map(|at| at as usize).filter(|&at| self.lists[at].class == class);
        if same.is_some_and(|at| self.lists[at].back == OptionU32::some(key)) {
            return;
        }
        self.remove(channels, key);
        let at = same.unwrap_or_else(|| self.list_of(class));
        let back = std::mem::replace(&mut self.lists[at].back, OptionU32::some(key));
        let list = OptionU32::some(at as u32);
        *self.links_mut(channels, key) = ListLinks { list, before: back, after: OptionU32::NONE, used };
        match back.get() {
            None => self.lists[at].front = OptionU32::some(key),
            Some(back) => self.links_mut(channels, back).after = OptionU32::some(key),
        }
    }

    /// Sets the last use of a listed channel to so long ago. `sort` follows before the order of the list matters.
    pub(super) fn set_age<T: Linked>(&self, channels: &mut Slab<T>, key: ChannelKey, age: u64, now: u64) {
        self.links_mut(channels, key).used = now.saturating_add(BEFORE_ZERO).saturating_sub(age);
    }

    /// How long ago a listed channel was used.
    pub(super) fn age<T: Linked>(&self, channels: &Slab<T>, key: ChannelKey, now: u64) -> Option<u64> {
        let links = self.links(channels, key);
        links.is_linked().then(|| now.saturating_add(BEFORE_ZERO).saturating_sub(links.used))
    }

    /// Puts every list in the order of the last use.
    pub(super) fn sort<T: Linked>(&mut self, channels: &mut Slab<T>) {
        for at in 0..self.lists.len() {
            let mut keys = Vec::new();
            let mut next = self.lists[at].front.get();
            while let Some(key) = next {
                let links = self.links(channels, key);
                keys.push((links.used, key));
                next = links.after.get();
            }
            keys.sort_unstable();
            let class = self.lists[at].class;
            for (used, key) in keys {
                self.move_to_back(channels, key, class, used);
            }
        }
    }

    /// Does nothing if the channel is in no list of this kind.
    pub(super) fn remove<T: Linked>(&mut self, channels: &mut Slab<T>, key: ChannelKey) {
        let ListLinks { list, before, after, .. } = std::mem::take(self.links_mut(channels, key));
        let Some(list) = list.get() else { return };
        match before.get() {
            None => self.lists[list as usize].front = after,
            Some(before) => self.links_mut(channels, before).after = after,
        }
        match after.get() {
            None => self.lists[list as usize].back = before,
            Some(after) => self.links_mut(channels, after).before = before,
        }
    }

    /// The index of the list of this class: an existing one, an empty one or a new one.
    fn list_of(&mut self, class: ListClass) -> usize {
        if let Some(at) = self.lists.iter().position(|list| list.class == class) {
            return at;
        }
        let empty = self.lists.iter().position(|list| list.front.is_none());
        let at = empty.unwrap_or_else(|| {
            self.lists.push(LruList { class, front: OptionU32::NONE, back: OptionU32::NONE });
            self.lists.len() - 1
        });
        self.lists[at].class = class;
        at
    }

    /// The next channel to expire, and when.
    pub(super) fn next_expiry<T: Linked>(&self, channels: &Slab<T>) -> Option<(u64, ChannelKey)> {
        let lists = self.lists.iter().filter(|list| list.class.span != u64::MAX);
        let fronts = lists.filter_map(|list| Some((list.front.get()?, list.class.span)));
        fronts
            .map(|(key, span)| (self.links(channels, key).used.saturating_add(span), key))
            .min()
            .map(|(expiry, key)| (expiry.saturating_sub(BEFORE_ZERO), key))
    }

    /// The channel of a namespace that was used least recently, and when.
    pub(super) fn least_recent<T: Linked>(&self, channels: &Slab<T>, namespace: u16) -> Option<(u64, ChannelKey)> {
        let lists = self.lists.iter().filter(|list| list.class.namespace == namespace);
        let fronts = lists.filter_map(|list| list.front.get());
        fronts.map(|key| (self.links(channels, key).used, key)).min()
    }
}
