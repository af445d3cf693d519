//! Whether the oldest segment of a class still has a publication that can be read.
//!
//! What cannot be read any more never comes back. So the channels are gone through once, in parts, up to the first one that
//! still reads from the segment; as long as that one does, nothing has to be looked at.

use std::collections::HashMap;
use std::io;

use super::codec::hash_name;
use super::files::Files;
use super::meta::Channels;
use super::sealed::Sealed;

pub(super) struct Survey {
    /// Of the segment.
    sequence: u64,
    /// The last offset of each channel hash in it.
    last: HashMap<u64, u64>,
    next_slot: usize,
    /// A channel that reads from it: its slot, its epoch, and its last offset there.
    reader: Option<(u32, [u8; 6], u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Read,
    /// There are more channels to look at.
    Unknown,
    Unread,
}

impl Survey {
    pub(super) fn new<F: Files>(sealed: &Sealed<F>, files: &F) -> io::Result<Self> {
        let last = sealed.with_index(files, |index| index.last_offsets())?;
        Ok(Self { sequence: sealed.segment.id.sequence, last, next_slot: 0, reader: None })
    }

    pub(super) fn is_of<F: Files>(&self, sealed: &Sealed<F>) -> bool {
        self.sequence == sealed.segment.id.sequence
    }

    /// Looks at up to `slots` channels.
    pub(super) fn go_on<F: Files>(
        &mut self,
        sealed: &Sealed<F>,
        files: &F,
        (channels, now): (&Channels, u64),
        slots: usize,
    ) -> io::Result<Verdict> {
        if let Some((slot, epoch, last)) = self.reader {
            if channels.epoch(slot) == Some(epoch) {
                let (first, top) = channels.get(slot).visible(now);
                if first <= last && first <= top {
                    return Ok(Verdict::Read);
                }
            }
            self.reader = None;
        }
        if self.last.is_empty() {
            return Ok(Verdict::Unread);
        }
        let (metas, next) = channels.slice(self.next_slot, slots);
        for (slot, meta) in metas {
            let (first, top) = meta.visible(now);
            if first > top {
                continue;
            }
            let Some(&last) = self.last.get(&hash_name(&meta.name)) else { continue };
            if first <= last && sealed.has_channel(files, (&meta.name, meta.epoch), first, last.min(top))? {
                self.reader = Some((slot, meta.epoch, last));
                self.next_slot = slot as usize;
                return Ok(Verdict::Read);
            }
        }
        Ok(match next {
            Some(next) => {
                self.next_slot = next;
                Verdict::Unknown
            }
            None => Verdict::Unread,
        })
    }
}
