//! A publication in the forms that subscribers want it in: each encoded, and each compressed, once for all of them.

use super::Mail;
use super::arena::Who;
use super::session::opcode;
use crate::engine::Context;
use crate::protocol::fossil;
use crate::protocol::reply::delta_fits_json;
use crate::protocol::{Encoding, Publication, Quoted, Tags};
use crate::pubsub::{At, EpochText, InterestedShard};
use crate::ws;

/// What stands in `hub::Form::wire`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire {
    pub encoding: Encoding,
    /// Of compression (`Context::compression_class`), 0 for none.
    pub class: u8,
}

impl Wire {
    const CLASS_SHIFT: u32 = 4;

    pub fn pack(self) -> u8 {
        self.encoding.index() | self.class << Self::CLASS_SHIFT
    }

    pub fn unpack(wire: u8) -> Self {
        let encoding = Encoding::from_index(wire & ((1 << Self::CLASS_SHIFT) - 1)).unwrap_or(Encoding::Json);
        Self { encoding, class: wire >> Self::CLASS_SHIFT }
    }
}

/// A publication's frames: each encoded when the first shard needs it.
#[derive(Default)]
pub(crate) struct Frames {
    pub plain: [Vec<u8>; Encoding::COUNT],
    whole: [Vec<u8>; Encoding::COUNT],
    delta: [Vec<u8>; Encoding::COUNT],
    difference: Vec<u8>,
    /// Of those above, compressed: each once for each class in use.
    twins: Vec<Twin>,
    spare: Vec<Vec<u8>>,
    /// Written out since the last look.
    encodings: u64,
}

/// Which of a publication's frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Whole,
    Delta,
}

struct Twin {
    kind: Kind,
    wire: Wire,
    frame: Vec<u8>,
}

impl Frames {
    pub fn clear(&mut self) {
        for frame in self.plain.iter_mut().chain(&mut self.whole).chain(&mut self.delta) {
            frame.clear();
        }
        self.difference.clear();
        for mut twin in self.twins.drain(..) {
            twin.frame.clear();
            self.spare.push(twin.frame);
        }
    }

    /// Since the last call.
    pub fn take_encodings(&mut self) -> u64 {
        std::mem::take(&mut self.encodings)
    }

    /// A frame that was made, as this form wants it.
    fn get(&mut self, cx: &mut Context<Mail>, kind: Kind, wire: Wire) -> &[u8] {
        let made = match kind {
            Kind::Plain => &self.plain,
            Kind::Whole => &self.whole,
            Kind::Delta => &self.delta,
        };
        let made = &made[usize::from(wire.encoding.index())];
        if wire.class == 0 || made.is_empty() {
            return made;
        }
        let known = self.twins.iter().position(|twin| twin.kind == kind && twin.wire == wire);
        let at = known.unwrap_or_else(|| {
            let mut frame = self.spare.pop().unwrap_or_default();
            cx.compress(wire.class, made, &mut frame);
            self.twins.push(Twin { kind, wire, frame });
            self.twins.len() - 1
        });
        &self.twins[at].frame
    }
}

/// What a publication says, whatever its form.
pub(crate) struct Content<'a> {
    pub channel: &'a str,
    pub offset: u64,
    pub epoch: u32,
    pub version: u64,
    pub data: &'a [u8],
    pub json: bool,
    pub who: Option<&'a [u8]>,
    pub tags: Tags<'a>,
}

impl Content<'_> {
    /// The whole WebSocket frame.
    fn encode(&self, frame: &mut Vec<u8>, encoding: Encoding, data: &[u8], quoted: Quoted, delta: bool) {
        let mut text = uuid::Uuid::encode_buffer();
        let info = self.who.map(|who| Who::unpack(who).info(&mut text));
        let (offset, tags, version) = (self.offset, self.tags, self.version);
        let epoch = EpochText::of(self.epoch);
        // Who was subscribed to an empty channel learns the epoch from what comes first, as from the original.
        let epoch = if offset == 1 && quoted != Quoted::Text { epoch.as_str() } else { "" };
        let publication =
            Publication { data, quoted, info, offset, tags, delta, epoch, version, ..Publication::default() };
        ws::frame_with(frame, opcode(encoding), |out| encoding.publication(out, self.channel, &publication));
    }

    fn plain(&self, frames: &mut Frames, encoding: Encoding) {
        let frame = &mut frames.plain[usize::from(encoding.index())];
        if frame.is_empty() {
            frames.encodings += 1;
            let quoted = if encoding.is_text() && !self.json { Quoted::Base64 } else { Quoted::No };
            self.encode(frame, encoding, self.data, quoted, false);
        }
    }

    /// For subscribers with deltas: whole, and, where it is shorter, the difference to the publication before.
    fn with_delta(&self, frames: &mut Frames, encoding: Encoding, before: Option<&[u8]>) {
        let index = usize::from(encoding.index());
        let quoted = if encoding.is_text() { Quoted::Text } else { Quoted::No };
        if !frames.whole[index].is_empty() {
            return;
        }
        frames.encodings += 1;
        self.encode(&mut frames.whole[index], encoding, self.data, quoted, false);
        let Some(before) = before else { return };
        // Made of UTF-8 it is UTF-8, and what is not UTF-8 could not stand in a JSON string.
        let made = !frames.difference.is_empty() || fossil::create(before, self.data, &mut frames.difference);
        if made && (!encoding.is_text() || delta_fits_json(&frames.difference)) {
            frames.encodings += 1;
            self.encode(&mut frames.delta[index], encoding, &frames.difference, quoted, true);
        }
    }

    pub fn deliver(
        &self,
        cx: &mut Context<Mail>,
        frames: &mut Frames,
        interest: InterestedShard,
        seq: u64,
        before: Option<&[u8]>,
    ) {
        let InterestedShard { shard, feed, form, .. } = interest;
        let wire = Wire::unpack(form.wire);
        let at = At { seq, offset: self.offset };
        if form.delta {
            self.with_delta(frames, wire.encoding, before);
            let whole = frames.get(cx, Kind::Whole, wire);
            let whole = cx.mail.put(shard, whole);
            let delta = frames.get(cx, Kind::Delta, wire);
            let delta = cx.mail.put(shard, delta);
            cx.mail.post(shard, Mail::DeliverDelta { feed, at, whole, delta });
            return;
        }
        self.plain(frames, wire.encoding);
        let frame = frames.get(cx, Kind::Plain, wire);
        let frame = cx.mail.put(shard, frame);
        let mail = match form.filtered {
            true => Mail::DeliverTagged { feed, at, frame, tags: cx.mail.put(shard, self.tags.as_bytes()) },
            false => Mail::Deliver { feed, at, frame },
        };
        cx.mail.post(shard, mail);
    }
}
