//! What a record of a segment means for what is known of the channels. Records may be read twice, or be older than the
//! checkpoint; batches come in the order of their serials.

use super::codec::Reader;
use super::format::{IS_STRICT, Kind, PublicationBody, Record, u32_at};
use super::keys::Keys;
use super::meta::{ChannelMeta, Channels, epoch_text};
use super::state::State;

/// The dictionary of the segment that is read: the slot and the epoch of each channel index.
#[derive(Default)]
pub(super) struct Replay {
    dictionary: Vec<Option<(u32, [u8; 6])>>,
}

/// What the segments and the checkpoint say.
pub(super) struct Known<'a> {
    pub(super) time: &'a mut u64,
    pub(super) channels: &'a mut Channels,
    pub(super) keys: &'a mut Keys,
    pub(super) state: &'a mut State,
}

impl Known<'_> {
    /// `with_meta`: the checkpoint does not have yet what the record says.
    pub(super) fn replay(&mut self, class: u8, replay: &mut Replay, record: &Record<'_>, with_meta: bool) {
        let head = record.head;
        *self.time = head.time.max(*self.time);
        if head.kind == Kind::Channel {
            self.replay_channel(replay, record, with_meta);
            return;
        }
        if !with_meta {
            return;
        }
        if head.kind == Kind::Publication {
            let Some(body) = PublicationBody::read(head.flags, record.body) else { return };
            if let Some(slot) = self.living(replay, head.channel) {
                let meta = self.channels.get_mut(slot);
                meta.published(head.offset, head.time);
                meta.set_version(body.version, body.version_epoch);
                (meta.is_strict, meta.class) = (head.flags & IS_STRICT != 0, class);
                let text = epoch_text(meta.epoch, meta.generation);
                if let Some(key) = body.key {
                    self.keys.insert(key, head.time, Some((text, head.offset)));
                }
            }
            return;
        }
        match (head.kind, self.living(replay, head.channel)) {
            (Kind::Truncate, Some(slot)) => {
                let meta = self.channels.get_mut(slot);
                meta.first = meta.first.max(head.offset + 1);
            }
            (Kind::Touch, Some(slot)) => {
                let meta = self.channels.get_mut(slot);
                meta.last_time = meta.last_time.max(head.time);
                meta.last_use = meta.last_use.max(head.time);
            }
            (Kind::Forget, _) => _ = self.replay_forget(record.body),
            (Kind::Key, _) => {
                if let Some(key) = Reader(record.body).array() {
                    self.keys.insert(u128::from_le_bytes(key), head.time, None);
                }
            }
            _ => {}
        }
    }

    /// The slot of a channel that is still the one which the dictionary names.
    fn living(&self, replay: &Replay, index: u32) -> Option<u32> {
        let (slot, epoch) = (*replay.dictionary.get(index as usize)?)?;
        (self.channels.epoch(slot) == Some(epoch)).then_some(slot)
    }

    fn replay_channel(&mut self, replay: &mut Replay, record: &Record<'_>, with_meta: bool) {
        let head = record.head;
        let Some(meta) = ChannelMeta::read(record.body, head.offset, head.time) else { return };
        let (name, epoch) = (meta.name.clone(), meta.epoch);
        let slot = if with_meta {
            Some(self.replay_meta(meta))
        } else {
            self.channels.find(&name).filter(|&slot| self.channels.epoch(slot) == Some(epoch))
        };
        let index = head.channel as usize;
        if index == replay.dictionary.len() {
            replay.dictionary.push(None);
        }
        if let Some(entry) = replay.dictionary.get_mut(index) {
            *entry = slot.map(|slot| (slot, epoch));
        }
    }

    fn replay_meta(&mut self, mut meta: ChannelMeta) -> u32 {
        let Some(slot) = self.channels.find(&meta.name) else { return self.channels.insert(meta) };
        let known = self.channels.get(slot);
        if known.epoch == meta.epoch {
            meta.top = meta.top.max(known.top);
            meta.first = meta.first.max(known.first);
            meta.last_time = meta.last_time.max(known.last_time);
            meta.last_use = meta.last_use.max(known.last_use);
            if known.generation > meta.generation {
                (meta.generation, meta.past) = (known.generation, known.past.clone());
            }
            *self.channels.get_mut(slot) = meta;
            return slot;
        }
        if known.top > 0 {
            // The record that the other life has ended was not written.
            self.state.end_life(&meta.name);
        }
        self.channels.remove(slot);
        self.channels.insert(meta)
    }

    fn replay_forget(&mut self, body: &[u8]) -> Option<()> {
        let life = u32_at(body, 0)?;
        let epoch: [u8; 6] = *body.get(4..)?.first_chunk()?;
        let name = std::str::from_utf8(body.get(10..)?).ok()?;
        self.state.ended_life(name, life);
        let slot = self.channels.find(name)?;
        if self.channels.epoch(slot) == Some(epoch) {
            self.channels.remove(slot);
        }
        Some(())
    }
}
