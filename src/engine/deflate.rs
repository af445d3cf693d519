//! permessage-deflate on a shard: the negotiated parameters of each connection, and the few compressors that serve all
//! connections.
//!
//! Without context takeover, which is the default, a connection costs one byte: one compressor for each window in use and one
//! inflater serve all connections. With it a connection has contexts of its own, bounded in number. Broadcasts are compressed
//! once for all receivers, so they refer to no context: from its first subscription on (`class`) the replies of a connection go
//! through the shared compressor too, and its own is freed. A message compressed without context can be inflated in any context.

use std::collections::HashMap;
use std::mem;

use super::stats::Counters;
use crate::engine::config::CompressionConfig;
use crate::http::StreamFraming;
use crate::ws;
use crate::ws::deflate::{Broken, Deflater, Inflater};
use crate::ws::encode::plain_payload;
use crate::ws::extension::{Allowed, WINDOWS};
use crate::ws::{Agreed, Opcode};

/// Bytes of compressed messages that a shard inflates in a turn, about. A message behind that waits for the next turn.
const INFLATED_BYTES_PER_TURN: usize = 1024 * 1024;
/// Scratch buffers of compression above this are given back to the allocator.
const SCRATCH_KEPT_BYTES_MAX: usize = 256 * 1024;

/// The form in which a connection gets messages, in a byte: 0 is a plain frame. For a compressed one: the index of its window
/// and one in the low bits, and whose contexts it uses. For a stream: the index of its framing and one in the high bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct ConnCompression(u8);

impl ConnCompression {
    const WINDOW: u8 = 0x03;
    const OWN_DEFLATER: u8 = 0x04;
    const OWN_INFLATER: u8 = 0x08;
    const DEFLATES: u8 = Self::WINDOW | Self::OWN_DEFLATER | Self::OWN_INFLATER;
    const FRAMING_SHIFT: u32 = 4;

    pub(crate) fn of_stream(framing: StreamFraming) -> Self {
        Self((framing.index() + 1) << Self::FRAMING_SHIFT)
    }

    /// Messages do not leave as plain frames.
    pub(crate) fn is_on(self) -> bool {
        self.0 != 0
    }

    /// The peer may compress its messages.
    pub(crate) fn inflates(self) -> bool {
        self.0 & Self::DEFLATES != 0
    }

    /// The connection is a stream.
    pub(crate) fn is_stream(self) -> bool {
        self.0 >> Self::FRAMING_SHIFT != 0
    }

    /// `None` for a WebSocket.
    pub(crate) fn framing(self) -> Option<StreamFraming> {
        StreamFraming::from_index((self.0 >> Self::FRAMING_SHIFT).checked_sub(1)?)
    }

    fn class(self) -> u8 {
        match self.framing() {
            None => self.0 & Self::WINDOW,
            Some(framing) => STREAM_CLASSES + framing.index(),
        }
    }
}

/// The class of the first framing of streams; those below are of WebSockets.
const STREAM_CLASSES: u8 = WINDOWS.len() as u8 + 1;

/// The framing of a class, if it is one of streams.
pub(crate) fn framing_of_class(class: u8) -> Option<StreamFraming> {
    StreamFraming::from_index(class.checked_sub(STREAM_CLASSES)?)
}

const _: () = assert!(STREAM_CLASSES + StreamFraming::COUNT <= 16, "a class fits four bits");

/// The contexts of a connection with context takeover.
#[derive(Default)]
struct OwnContexts {
    deflater: Option<Deflater>,
    inflater: Option<Inflater>,
}

pub(crate) struct Compressors {
    settings: CompressionConfig,
    shared: [Option<Deflater>; WINDOWS.len()],
    inflater: Option<Inflater>,
    /// By slot.
    own: HashMap<u32, OwnContexts>,
    /// Bytes that may still be inflated in this turn. A connection that finds none goes on in the next.
    left: usize,
    payload: Vec<u8>,
    deflated: Vec<u8>,
    packed: Vec<u8>,
    inflated: Vec<u8>,
}

impl Compressors {
    pub(crate) fn new(settings: CompressionConfig) -> Self {
        Self {
            settings,
            shared: Default::default(),
            inflater: None,
            own: HashMap::new(),
            left: INFLATED_BYTES_PER_TURN,
            payload: Vec::new(),
            deflated: Vec::new(),
            packed: Vec::new(),
            inflated: Vec::new(),
        }
    }

    /// Answers the offers of an upgrade. `None`: no compression.
    pub(crate) fn agree<'a>(&self, offers: impl Iterator<Item = &'a [u8]>) -> Option<Agreed> {
        let CompressionConfig { server_takeover, client_takeover, window_bits, contexts_max, .. } = self.settings;
        let room = self.own.len() < contexts_max as usize;
        let allowed = Allowed {
            server_takeover: server_takeover && room,
            client_takeover: client_takeover && room,
            window_bits: window_bits as u8,
        };
        if self.settings.enabled { ws::extension::agree(offers, &allowed) } else { None }
    }

    /// A connection is open that agreed to this.
    pub(crate) fn begin(&mut self, slot: u32, agreed: &Agreed) -> ConnCompression {
        let mut compression = ConnCompression(agreed.window + 1);
        let mut own = OwnContexts::default();
        if agreed.server_takeover {
            own.deflater = Some(Deflater::new(self.settings.level, WINDOWS[usize::from(agreed.window)]));
            compression.0 |= ConnCompression::OWN_DEFLATER;
        }
        if agreed.client_takeover {
            own.inflater = Some(Inflater::new(agreed.client_window_bits));
            compression.0 |= ConnCompression::OWN_INFLATER;
        }
        if agreed.server_takeover || agreed.client_takeover {
            self.own.insert(slot, own);
        }
        compression
    }

    /// The connection is closed.
    pub(crate) fn forget(&mut self, slot: u32, compression: ConnCompression) {
        if compression.0 & (ConnCompression::OWN_DEFLATER | ConnCompression::OWN_INFLATER) != 0 {
            self.own.remove(&slot);
        }
    }

    /// Connections with contexts of their own.
    pub(crate) fn contexts(&self) -> u64 {
        self.own.len() as u64
    }

    pub(crate) fn begin_turn(&mut self) {
        self.left = INFLATED_BYTES_PER_TURN;
    }

    /// Nothing more may be inflated in this turn.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The class in which a connection gets broadcasts. From now on nothing that is sent to it refers to a context.
    pub(crate) fn class(&mut self, slot: u32, compression: &mut ConnCompression) -> u8 {
        if compression.0 & ConnCompression::OWN_DEFLATER != 0 {
            compression.0 &= !ConnCompression::OWN_DEFLATER;
            match self.own.get_mut(&slot) {
                Some(own) if own.inflater.is_some() => own.deflater = None,
                _ => _ = self.own.remove(&slot),
            }
        }
        compression.class()
    }

    /// A message of ours as a whole frame, compressed if it is long enough. Give it back by `keep_frame`.
    pub(crate) fn frame(
        &mut self,
        slot: u32,
        compression: ConnCompression,
        opcode: Opcode,
        write: impl FnOnce(&mut Vec<u8>),
        counters: &mut Counters,
    ) -> Vec<u8> {
        let mut payload = mem::take(&mut self.payload);
        payload.clear();
        write(&mut payload);
        let mut packed = mem::take(&mut self.packed);
        packed.clear();
        if let Some(framing) = compression.framing() {
            // Pings of the WebSocket protocol have no place in a stream.
            if !opcode.is_control() {
                framing.write(&mut packed, &payload);
            }
            self.payload = payload;
            shrink(&mut self.payload);
            return packed;
        }
        // A context that has seen a message which is then sent uncompressed would differ from the peer's: with a context, the
        // length of the message alone decides.
        let own = if compression.0 & ConnCompression::OWN_DEFLATER != 0 { self.own.get_mut(&slot) } else { None };
        if opcode.is_control() || payload.len() < self.settings.min_bytes {
            ws::frame(&mut packed, opcode, &payload);
        } else if let Some(deflater) = own.and_then(|own| own.deflater.as_mut()) {
            self.deflated.clear();
            deflater.compress(&payload, false, &mut self.deflated);
            counters.deflated(payload.len(), self.deflated.len());
            ws::compressed_frame(&mut packed, opcode, &self.deflated);
        } else {
            self.pack(compression.class(), opcode, &payload, &mut packed, counters);
        }
        self.payload = payload;
        shrink(&mut self.payload);
        packed
    }

    pub(crate) fn keep_frame(&mut self, frame: Vec<u8>) {
        self.packed = frame;
        shrink(&mut self.packed);
    }

    /// Appends the copy of a whole frame for the peers of a class: framed for streams; else compressed, or the frame itself if
    /// that is not longer.
    pub(crate) fn compressed_copy(&mut self, class: u8, frame: &[u8], out: &mut Vec<u8>, counters: &mut Counters) {
        match (plain_payload(frame), framing_of_class(class)) {
            (Some((_, payload)), Some(framing)) => framing.write(out, payload),
            (Some((opcode, payload)), None) if payload.len() >= self.settings.min_bytes => {
                self.pack(class, opcode, payload, out, counters);
            }
            _ => out.extend_from_slice(frame),
        }
    }

    fn pack(&mut self, class: u8, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>, counters: &mut Counters) {
        let window = usize::from(class.saturating_sub(1)).min(WINDOWS.len() - 1);
        let level = self.settings.level;
        let deflater = self.shared[window].get_or_insert_with(|| Deflater::new(level, WINDOWS[window]));
        self.deflated.clear();
        deflater.compress(payload, true, &mut self.deflated);
        counters.deflated(payload.len(), self.deflated.len());
        match self.deflated.len() < payload.len() {
            true => ws::compressed_frame(out, opcode, &self.deflated),
            false => ws::frame(out, opcode, payload),
        }
        shrink(&mut self.deflated);
    }

    /// Inflates a compressed message of the peer. Give the result back by `keep_inflated`.
    pub(crate) fn inflate(
        &mut self,
        slot: u32,
        compression: ConnCompression,
        message: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<u8>, Broken> {
        let mut out = mem::take(&mut self.inflated);
        let own = compression.0 & ConnCompression::OWN_INFLATER != 0;
        let known = if own { self.own.get_mut(&slot) } else { None };
        let inflater = match known.and_then(|own| own.inflater.as_mut()) {
            Some(inflater) => inflater,
            None => self.inflater.get_or_insert_with(|| Inflater::new(15)),
        };
        let done = inflater.inflate(message, !own, bytes_max, &mut out);
        self.left = self.left.saturating_sub(out.len());
        match done {
            Ok(()) => Ok(out),
            Err(broken) => {
                self.keep_inflated(out);
                Err(broken)
            }
        }
    }

    pub(crate) fn keep_inflated(&mut self, inflated: Vec<u8>) {
        self.inflated = inflated;
        shrink(&mut self.inflated);
    }
}

/// Frees what one large message needed.
fn shrink(bytes: &mut Vec<u8>) {
    if bytes.capacity() > SCRATCH_KEPT_BYTES_MAX {
        *bytes = Vec::new();
    }
}
