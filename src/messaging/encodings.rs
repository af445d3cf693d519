//! A publication in the wire formats that are in use: each is encoded once, and compressed once, for all subscribers.

use super::mail::Mail;
use super::session::opcode;
use crate::engine::Context;
use crate::protocol::fossil;
use crate::protocol::{Encoding, JsonForm, Tags, WirePublication};
use crate::protocol::{RawClientInfo, delta_fits_json};
use crate::pubsub::{self, Delivery, InterestedShard};
use crate::ws;

/// What `WireFormat::wire` holds: the encoding and compression of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameEncoding {
    pub encoding: Encoding,
    /// `Context::compression_class`: 0 for none; streams are classes too.
    pub compression_class: u8,
}

impl FrameEncoding {
    const CLASS_SHIFT: u32 = 4;

    pub(super) fn pack(self) -> u8 {
        self.encoding.index() | self.compression_class << Self::CLASS_SHIFT
    }

    pub(super) fn unpack(wire: u8) -> Self {
        let encoding = Encoding::from_index(wire & ((1 << Self::CLASS_SHIFT) - 1)).unwrap_or(Encoding::Json);
        Self { encoding, compression_class: wire >> Self::CLASS_SHIFT }
    }
}

/// A publication's frames: each is encoded when the first shard needs it. The buffers are kept for the next publication.
#[derive(Default)]
pub(crate) struct EncodedFrames {
    /// Subscribers of the channel get the time of publishing.
    pub sends_time: bool,
    pub plain: [Vec<u8>; Encoding::COUNT],
    whole: [Vec<u8>; Encoding::COUNT],
    delta: [Vec<u8>; Encoding::COUNT],
    difference: Vec<u8>,
    /// Copies of those above, compressed or framed for streams: one for each compression class in use.
    compressed: Vec<CompressedFrame>,
    free_buffers: Vec<Vec<u8>>,
    /// Frames that were encoded since `take_encodings`.
    encodings: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// For subscribers without deltas.
    Plain,
    /// For subscribers with deltas: the whole data, or the difference.
    Whole,
    Delta,
}

struct CompressedFrame {
    kind: FrameKind,
    format: FrameEncoding,
    frame: Vec<u8>,
}

impl EncodedFrames {
    pub(super) fn clear(&mut self) {
        for frame in self.plain.iter_mut().chain(&mut self.whole).chain(&mut self.delta) {
            frame.clear();
        }
        self.difference.clear();
        for mut copy in self.compressed.drain(..) {
            copy.frame.clear();
            self.free_buffers.push(copy.frame);
        }
    }

    /// Frames that were encoded since the last call.
    pub(super) fn take_encodings(&mut self) -> u64 {
        std::mem::take(&mut self.encodings)
    }

    /// The plain frame, or its copy for the streams of this format. It is never compressed.
    pub(super) fn plain_or_streamed(&mut self, cx: &mut Context<Mail>, format: FrameEncoding) -> &[u8] {
        let is_stream = Context::<Mail>::is_stream_class(format.compression_class);
        let compression_class = if is_stream { format.compression_class } else { 0 };
        self.get(cx, FrameKind::Plain, FrameEncoding { compression_class, ..format })
    }

    /// An encoded frame in the form of one wire format; compressed at its first use in that compression class.
    fn get(&mut self, cx: &mut Context<Mail>, kind: FrameKind, format: FrameEncoding) -> &[u8] {
        let encoded = match kind {
            FrameKind::Plain => &self.plain,
            FrameKind::Whole => &self.whole,
            FrameKind::Delta => &self.delta,
        };
        let encoded = &encoded[usize::from(format.encoding.index())];
        if format.compression_class == 0 || encoded.is_empty() {
            return encoded;
        }
        let known = self.compressed.iter().position(|copy| copy.kind == kind && copy.format == format);
        let index = known.unwrap_or_else(|| {
            let mut frame = self.free_buffers.pop().unwrap_or_default();
            cx.compress(format.compression_class, encoded, &mut frame);
            self.compressed.push(CompressedFrame { kind, format, frame });
            self.compressed.len() - 1
        });
        &self.compressed[index].frame
    }
}

impl EncodedFrames {
    /// Posts a publication to a shard, in the wire format of one of its subscriber groups.
    pub(super) fn post(&mut self, cx: &mut Context<Mail>, to: InterestedShard, delivery: &Delivery<'_>) {
        let InterestedShard { shard, group, wire_format, .. } = to;
        let format = FrameEncoding::unpack(wire_format.wire);
        let at = delivery.at;
        if wire_format.delta {
            self.encode_delta(format.encoding, delivery);
            let whole = self.get(cx, FrameKind::Whole, format);
            let whole = cx.mail.put(shard, whole);
            let delta = self.get(cx, FrameKind::Delta, format);
            let delta = cx.mail.put(shard, delta);
            cx.mail.post(shard, Mail::DeliverDelta { group, at, whole, delta });
            return;
        }
        self.encode_plain(format.encoding, delivery);
        let frame = self.get(cx, FrameKind::Plain, format);
        let frame = cx.mail.put(shard, frame);
        let mail = match wire_format.filtered {
            true => Mail::DeliverTagged { group, at, frame, tags: cx.mail.put(shard, delivery.publication.tags) },
            false => Mail::Deliver { group, at, frame },
        };
        cx.mail.post(shard, mail);
    }

    fn encode_plain(&mut self, encoding: Encoding, delivery: &Delivery<'_>) {
        let frame = &mut self.plain[usize::from(encoding.index())];
        if frame.is_empty() {
            self.encodings += 1;
            let is_json = delivery.publication.is_json;
            let json_form = if encoding.is_text() && !is_json { JsonForm::Base64 } else { JsonForm::Value };
            let data = delivery.publication.data;
            let payload = Payload { data, json_form, is_delta: false, sends_time: self.sends_time };
            encode(frame, encoding, delivery, payload);
        }
    }

    /// For subscribers with deltas: the whole data and, if that is shorter, the difference to the previous publication.
    fn encode_delta(&mut self, encoding: Encoding, delivery: &Delivery<'_>) {
        let index = usize::from(encoding.index());
        let json_form = if encoding.is_text() { JsonForm::Text } else { JsonForm::Value };
        if !self.whole[index].is_empty() {
            return;
        }
        self.encodings += 1;
        let data = delivery.publication.data;
        let sends_time = self.sends_time;
        let payload = Payload { data, json_form, is_delta: false, sends_time };
        encode(&mut self.whole[index], encoding, delivery, payload);
        let Some(previous) = delivery.previous else { return };
        // `delta_fits_json` rejects a difference that is not UTF-8, which a JSON string cannot hold.
        let is_shorter = !self.difference.is_empty() || fossil::create(&previous.data, data, &mut self.difference);
        if is_shorter && (!encoding.is_text() || delta_fits_json(&self.difference)) {
            self.encodings += 1;
            let payload = Payload { data: &self.difference, json_form, is_delta: true, sends_time };
            encode(&mut self.delta[index], encoding, delivery, payload);
        }
    }
}

/// What a frame carries of the publication's data.
struct Payload<'a> {
    data: &'a [u8],
    json_form: JsonForm,
    is_delta: bool,
    sends_time: bool,
}

/// Writes the whole WebSocket frame of a publication.
fn encode(frame: &mut Vec<u8>, encoding: Encoding, delivery: &Delivery<'_>, payload: Payload<'_>) {
    let Payload { data, json_form, is_delta, sends_time } = payload;
    let pubsub::Publication { channel, client_info, tags, version, published_to, .. } = *delivery.publication;
    let time_ms = if sends_time { delivery.publication.time_ms } else { 0 };
    let mut text = uuid::Uuid::encode_buffer();
    let info = client_info.map(|info| RawClientInfo::unpack(info).text(&mut text));
    let offset = delivery.at.offset;
    let epoch = delivery.epoch.text();
    // Subscribers of an empty channel learn the epoch from its first publication, as with Centrifugo.
    let epoch = if offset == 1 && json_form != JsonForm::Text { epoch.as_str() } else { "" };
    let (tags, delta) = (Tags::from_bytes(tags), is_delta);
    let publication =
        WirePublication { data, json_form, info, offset, tags, delta, epoch, time_ms, version, channel: published_to };
    ws::frame_with(frame, opcode(encoding), |out| encoding.publication(out, channel, &publication));
}
