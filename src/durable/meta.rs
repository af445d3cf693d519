//! What a lane knows of its channels: the meta of each, in a table by name.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;
use thin_vec::ThinVec;

use super::checkpoint::{MetaRow, PAST_GENERATIONS_MAX, PastGeneration};
use super::codec::{Reader, put_text, put_varint};
use crate::pubsub::{Epoch, Position, Since};

/// The digits of generations: 0 has no text, 61 is the last one.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
pub(super) const GENERATION_MAX: u8 = 61;

/// The publisher's version of the last publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LastVersion {
    pub(super) number: u64,
    pub(super) epoch: Box<str>,
}

/// A channel. The publications from `first` to `top` are its history, as long as it lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ChannelMeta {
    pub(super) name: Box<str>,
    /// Six letters.
    pub(super) epoch: [u8; 6],
    pub(super) generation: u8,
    pub(super) class: u8,
    pub(super) is_strict: bool,
    pub(super) history_size: u32,
    /// Oldest first.
    pub(super) past: ThinVec<PastGeneration>,
    /// 0: nothing was published.
    pub(super) top: u64,
    pub(super) first: u64,
    /// The history expires `history_ttl_ms` later.
    pub(super) last_time: u64,
    /// The position expires `meta_ttl_ms` later.
    pub(super) last_use: u64,
    /// None if the last publication had none.
    pub(super) version: Option<Box<LastVersion>>,
    pub(super) history_ttl_ms: u64,
    /// 0 for never.
    pub(super) meta_ttl_ms: u64,
}

/// An idle channel takes this, its name, and its place in the table: 8 bytes.
const _: () = assert!(size_of::<ChannelMeta>() <= 104);

impl ChannelMeta {
    pub(super) fn new(name: &str, epoch: [u8; 6], now: u64) -> Self {
        Self {
            name: name.into(),
            epoch,
            generation: 0,
            class: 0,
            is_strict: true,
            history_size: 0,
            past: ThinVec::new(),
            top: 0,
            first: 1,
            last_time: 0,
            last_use: now,
            version: None,
            history_ttl_ms: 0,
            meta_ttl_ms: 0,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: epoch_of(self.epoch, self.generation), offset: self.top }
    }

    /// The offsets that a reader may see: `first` to `top`, empty if the first is above the last.
    pub(super) fn visible(&self, now: u64) -> (u64, u64) {
        let lives = self.last_time.saturating_add(self.history_ttl_ms) > now;
        if lives { (self.first, self.top) } else { (self.top + 1, self.top) }
    }

    pub(super) fn is_forgotten(&self, now: u64) -> bool {
        self.meta_ttl_ms > 0 && self.last_use.max(self.last_time).saturating_add(self.meta_ttl_ms) <= now
    }

    /// True if a publication with this version is not above the last one.
    pub(super) fn is_stale(&self, version: u64, epoch: &str) -> bool {
        let covers = |last: &LastVersion| (epoch.is_empty() || *epoch == *last.epoch) && version <= last.number;
        version > 0 && self.version.as_deref().is_some_and(covers)
    }

    pub(super) fn set_version(&mut self, number: u64, epoch: &str) {
        self.version = (number > 0).then(|| Box::new(LastVersion { number, epoch: epoch.into() }));
    }

    /// A publication with this offset was made. Idempotent, so that records can be read twice.
    pub(super) fn published(&mut self, offset: u64, time: u64) {
        // After an expiry nothing older comes back.
        if self.last_time.saturating_add(self.history_ttl_ms) <= time {
            self.first = self.first.max(offset);
        }
        self.top = self.top.max(offset);
        self.first = self.first.max((self.top + 1).saturating_sub(u64::from(self.history_size)));
        self.last_time = self.last_time.max(time);
        self.last_use = self.last_use.max(time);
    }

    /// Whether a reader at this position has read a prefix of what the channel has now.
    pub(super) fn keeps(&self, since: Since) -> bool {
        let Some(epoch) = since.epoch else { return true };
        if epoch == epoch_of(self.epoch, self.generation) {
            return true;
        }
        let is_of = |past: &PastGeneration| epoch == epoch_of(self.epoch, past.generation);
        self.past.iter().any(|past| is_of(past) && since.offset <= past.durable_top)
    }

    /// Publications may have been shown that are lost. `base`: six other letters, for when the generations are used up.
    pub(super) fn begin_generation(&mut self, base: [u8; 6]) {
        if self.generation == GENERATION_MAX {
            (self.epoch, self.generation) = (base, 0);
            self.past.clear();
            // The records of the other letters are not those of this life.
            self.first = self.top + 1;
            return;
        }
        let top = self.top;
        // A reader of an older generation has also read on, but no further than this one goes now.
        self.past.iter_mut().for_each(|past| past.durable_top = past.durable_top.min(top));
        self.past.push(PastGeneration { generation: self.generation, durable_top: top });
        if self.past.len() > PAST_GENERATIONS_MAX {
            self.past.remove(0);
        }
        self.generation += 1;
    }

    pub(super) fn row(&self) -> MetaRow {
        let version = self.version.as_deref();
        MetaRow {
            name: self.name.clone(),
            epoch: self.epoch,
            generation: self.generation,
            past: self.past.to_vec(),
            top: self.top,
            first: self.first,
            last_time: self.last_time,
            last_use: self.last_use,
            version: version.map_or(0, |version| version.number),
            version_epoch: version.map_or_else(Box::default, |version| version.epoch.clone()),
            history_size: self.history_size,
            history_ttl_ms: self.history_ttl_ms,
            meta_ttl_ms: self.meta_ttl_ms,
            class: self.class,
            is_strict: self.is_strict,
        }
    }

    pub(super) fn of_row(row: MetaRow) -> Self {
        let mut meta = Self::new(&row.name, row.epoch, row.last_use);
        (meta.generation, meta.class, meta.is_strict) = (row.generation, row.class, row.is_strict);
        meta.past = row.past.into_iter().collect();
        (meta.top, meta.first, meta.last_time) = (row.top, row.first, row.last_time);
        (meta.history_size, meta.history_ttl_ms) = (row.history_size, row.history_ttl_ms);
        meta.meta_ttl_ms = row.meta_ttl_ms;
        meta.set_version(row.version, &row.version_epoch);
        meta
    }

    /// The body of the record that names the channel in a segment. The top and the last time are in its head.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_text(out, &self.name);
        out.extend_from_slice(&self.epoch);
        out.extend_from_slice(&[self.generation, self.class, u8::from(self.is_strict), self.past.len() as u8]);
        for past in &self.past {
            out.push(past.generation);
            put_varint(out, past.durable_top);
        }
        let numbers = [self.first, self.last_use, u64::from(self.history_size), self.history_ttl_ms, self.meta_ttl_ms];
        numbers.into_iter().for_each(|number| put_varint(out, number));
        let version = self.version.as_deref();
        put_varint(out, version.map_or(0, |version| version.number));
        put_text(out, version.map_or("", |version| &version.epoch));
    }

    pub(super) fn read(body: &[u8], top: u64, last_time: u64) -> Option<Self> {
        let mut body = Reader(body);
        let name = body.text()?;
        let mut meta = Self::new(name, body.array()?, 0);
        let [generation, class, is_strict, past] = body.array()?;
        (meta.generation, meta.class, meta.is_strict) = (generation, class, is_strict == 1);
        for _ in 0..past {
            let [generation] = body.array()?;
            meta.past.push(PastGeneration { generation, durable_top: body.varint()? });
        }
        (meta.top, meta.last_time) = (top, last_time);
        (meta.first, meta.last_use) = (body.varint()?, body.varint()?);
        meta.history_size = u32::try_from(body.varint()?).ok()?;
        (meta.history_ttl_ms, meta.meta_ttl_ms) = (body.varint()?, body.varint()?);
        let number = body.varint()?;
        meta.set_version(number, body.text()?);
        (generation <= GENERATION_MAX).then_some(meta)
    }
}

/// Text of at most eight bytes, which is its own number.
pub(super) fn epoch_text(base: [u8; 6], generation: u8) -> [u8; 8] {
    let mut text = [0; 8];
    text[..6].copy_from_slice(&base);
    if generation > 0 {
        (text[6], text[7]) = (b'.', DIGITS[usize::from(generation.min(GENERATION_MAX))]);
    }
    text
}

pub(super) fn epoch_of(base: [u8; 6], generation: u8) -> Epoch {
    epoch_of_text(&epoch_text(base, generation))
}

/// From text that is padded with zeros. What is not text is the epoch of no channel.
pub(super) fn epoch_of_text(text: &[u8; 8]) -> Epoch {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok().and_then(Epoch::from_broker).unwrap_or_default()
}

/// Channels by a slot, which is used again after a channel is removed.
#[derive(Default)]
pub(super) struct Channels {
    metas: Slab<ChannelMeta>,
    by_name: HashTable<u32>,
    hasher: RandomState,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.metas.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |&slot| *self.metas[slot as usize].name == *name).copied()
    }

    pub(super) fn get(&self, slot: u32) -> &ChannelMeta {
        &self.metas[slot as usize]
    }

    /// `None`: no channel is in this slot.
    pub(super) fn epoch(&self, slot: u32) -> Option<[u8; 6]> {
        self.metas.get(slot as usize).map(|meta| meta.epoch)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut ChannelMeta {
        &mut self.metas[slot as usize]
    }

    /// Adds a channel, or replaces the one with its name.
    pub(super) fn insert(&mut self, meta: ChannelMeta) -> u32 {
        if let Some(slot) = self.find(&meta.name) {
            self.metas[slot as usize] = meta;
            return slot;
        }
        let hash = self.hasher.hash_one(&*meta.name);
        let slot = u32::try_from(self.metas.insert(meta)).expect("the names of 4 billion channels exceed the memory");
        self.by_name.insert_unique(hash, slot, |&slot| self.hasher.hash_one(&*self.metas[slot as usize].name));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let meta = self.metas.remove(slot as usize);
        let hash = self.hasher.hash_one(&*meta.name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ChannelMeta> {
        self.metas.iter_mut().map(|(_, meta)| meta)
    }

    /// The channels of up to `max` slots from `from` on, and where to go on: `None` after the last.
    pub(super) fn slice(&self, from: usize, max: usize) -> (impl Iterator<Item = (u32, &ChannelMeta)>, Option<usize>) {
        let end = from.saturating_add(max).min(self.metas.capacity());
        let metas = (from..end).filter_map(|slot| Some((slot as u32, self.metas.get(slot)?)));
        (metas, (end < self.metas.capacity()).then_some(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> ChannelMeta {
        let mut meta = ChannelMeta::new("news", *b"abcdef", 5);
        (meta.history_size, meta.history_ttl_ms, meta.meta_ttl_ms) = (2, 100, 1_000);
        meta
    }

    #[test]
    fn meta_comes_back_from_a_record_and_from_a_checkpoint() {
        let mut meta = meta();
        meta.published(1, 10);
        meta.set_version(3, "v");
        meta.begin_generation(*b"zzzzzz");
        let mut body = Vec::new();
        meta.put(&mut body);
        assert_eq!(ChannelMeta::read(&body, meta.top, meta.last_time), Some(meta.clone()));
        assert_eq!(ChannelMeta::of_row(meta.row()), meta);
        for end in 0..body.len() {
            assert_eq!(ChannelMeta::read(&body[..end], 1, 10), None);
        }
    }

    #[test]
    fn history_keeps_its_size_and_expires_after_its_last_publication() {
        let mut meta = meta();
        for offset in 1..=3 {
            meta.published(offset, 10 * offset);
        }
        assert_eq!((meta.visible(129), meta.visible(130)), ((2, 3), (4, 3)));
        meta.published(4, 130);
        assert_eq!(meta.visible(130), (4, 4), "what had expired stays away");
    }

    #[test]
    fn reader_of_an_older_generation_is_kept_up_to_what_that_one_kept() {
        let mut meta = meta();
        meta.published(7, 10);
        meta.begin_generation(*b"zzzzzz");
        let since = |text, offset| Since { epoch: Epoch::from_broker(text), offset };
        assert!(meta.keeps(since("abcdef", 7)) && !meta.keeps(since("abcdef", 8)));
        assert!(meta.keeps(since("abcdef.1", 9)) && !meta.keeps(since("abcdef.2", 1)) && !meta.keeps(since("x", 0)));
        assert_eq!(meta.position().epoch, Epoch::from_broker("abcdef.1").expect("short"));
        (0..4).for_each(|_| meta.begin_generation(*b"zzzzzz"));
        assert!(!meta.keeps(since("abcdef", 7)), "only four generations are kept");
        (0..57).for_each(|_| meta.begin_generation(*b"zzzzzz"));
        assert_eq!((meta.epoch, meta.generation, meta.past.len()), (*b"zzzzzz", 0, 0));
    }
}
