//! A publication in the forms that subscribers want it in: each encoded, and each compressed, once for all of them.

use super::Mail;
use super::arena::Who;
use super::session::opcode;
use crate::engine::Context;
use crate::protocol::delta_fits_json;
use crate::protocol::fossil;
use crate::protocol::{Encoding, JsonForm, Tags, WirePublication};
use crate::pubsub::{Delivery, EpochText, InterestedShard};
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

/// Appends the whole WebSocket frame.
fn encode(
    delivery: &Delivery<'_>,
    frame: &mut Vec<u8>,
    encoding: Encoding,
    data: &[u8],
    json_form: JsonForm,
    delta: bool,
) {
    let mut text = uuid::Uuid::encode_buffer();
    let info = delivery.publication.client_info.map(|who| Who::unpack(who).info(&mut text));
    let (offset, version) = (delivery.at.offset, delivery.publication.version);
    let tags = Tags::from_bytes(delivery.publication.tags);
    let epoch = EpochText::of(delivery.epoch);
    // Who was subscribed to an empty channel learns the epoch from what comes first, as from the original.
    let epoch = if offset == 1 && json_form != JsonForm::Text { epoch.as_str() } else { "" };
    let publication =
        WirePublication { data, json_form, info, offset, tags, delta, epoch, version, ..WirePublication::default() };
    ws::frame_with(frame, opcode(encoding), |out| {
        encoding.publication(out, delivery.publication.channel, &publication)
    });
}

fn encode_plain(delivery: &Delivery<'_>, frames: &mut Frames, encoding: Encoding) {
    let frame = &mut frames.plain[usize::from(encoding.index())];
    if frame.is_empty() {
        frames.encodings += 1;
        let json_form =
            if encoding.is_text() && !delivery.publication.is_json { JsonForm::Base64 } else { JsonForm::Value };
        encode(delivery, frame, encoding, delivery.publication.data, json_form, false);
    }
}

/// For subscribers with deltas: whole, and, where it is shorter, the difference to the publication before.
fn encode_delta(delivery: &Delivery<'_>, frames: &mut Frames, encoding: Encoding) {
    let data = delivery.publication.data;
    let index = usize::from(encoding.index());
    let json_form = if encoding.is_text() { JsonForm::Text } else { JsonForm::Value };
    if !frames.whole[index].is_empty() {
        return;
    }
    frames.encodings += 1;
    encode(delivery, &mut frames.whole[index], encoding, data, json_form, false);
    let Some(before) = delivery.previous.map(|record| &*record.data) else { return };
    // Made of UTF-8 it is UTF-8, and what is not UTF-8 could not stand in a JSON string.
    let made = !frames.difference.is_empty() || fossil::create(before, data, &mut frames.difference);
    if made && (!encoding.is_text() || delta_fits_json(&frames.difference)) {
        frames.encodings += 1;
        encode(delivery, &mut frames.delta[index], encoding, &frames.difference, json_form, true);
    }
}

/// Posts a delivery to a shard, in the format that it wants. `frames` holds the encodings of this publication so far.
pub(crate) fn deliver(cx: &mut Context<Mail>, frames: &mut Frames, to: InterestedShard, delivery: &Delivery<'_>) {
    let InterestedShard { shard, group: feed, wire_format: form, .. } = to;
    let wire = Wire::unpack(form.wire);
    let at = delivery.at;
    if form.delta {
        encode_delta(delivery, frames, wire.encoding);
        let whole = frames.get(cx, Kind::Whole, wire);
        let whole = cx.mail.put(shard, whole);
        let delta = frames.get(cx, Kind::Delta, wire);
        let delta = cx.mail.put(shard, delta);
        cx.mail.post(shard, Mail::DeliverDelta { feed, at, whole, delta });
        return;
    }
    encode_plain(delivery, frames, wire.encoding);
    let frame = frames.get(cx, Kind::Plain, wire);
    let frame = cx.mail.put(shard, frame);
    let mail = match form.filtered {
        true => Mail::DeliverTagged { feed, at, frame, tags: cx.mail.put(shard, delivery.publication.tags) },
        false => Mail::Deliver { feed, at, frame },
    };
    cx.mail.post(shard, mail);
}
