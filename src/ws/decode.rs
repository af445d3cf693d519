//! Decodes frames into events, in the receive buffer itself: payloads are unmasked there and returned as slices of it.
//!
//! The caller keeps the bytes; the decoder keeps only how far it has read. `decode` reads the header (again, if the frame
//! came in parts: it has 6 to 14 bytes), unmasks and checks the new part of the payload, and returns either the event and the
//! end of its frame, or a request for more bytes. So each byte is unmasked once, text fails at the first byte after which it
//! cannot be valid, and a message that is too big fails at its header. A whole frame is moved while it is unmasked, over
//! bytes that are spent, and leaves room for the header of an echo: a reply with the same payload then directly follows the
//! reply before it, and both leave in one write without a copy.
//!
//! | state           | text, binary, FIN   | text, binary        | continuation        | continuation, FIN      | control |
//! |-----------------|---------------------|---------------------|---------------------|------------------------|---------|
//! | no message open | Message             | opens one           | violation           | violation              | event   |
//! | message open    | violation           | violation           | appended            | Assembled, none open   | event   |
//!
//! Invariants: the decoder holds memory only while a fragmented message is open, at most `message_bytes_max`; a text message
//! is valid UTF-8. After a violation the decoder must not be used again.

use super::close;
use super::encode::header_bytes;
use super::frame::{CLIENT_HEADER_BYTES_MAX, FIN, Header, LENGTH_16, MASKED, Opcode, first_byte, parse_extended};
use super::mask::unmask_to;
use super::utf8::{self, Utf8};
use super::violation::Violation;
use std::borrow::Cow;

/// The content of a frame.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message of one frame. `payload` begins at `offset` of the `bytes` given to `decode`, after room for the header of an
    /// echo: exactly so much, unless the frame came in parts.
    Message {
        text: bool,
        payload: &'a mut [u8],
        offset: usize,
    },
    /// A message of several frames, now complete. The decoder holds no part of it any more.
    Assembled {
        text: bool,
        payload: Vec<u8>,
    },
    /// A compressed message (RFC 7692) in one frame or several. The caller inflates it and, if it is text, checks it.
    Compressed {
        text: bool,
        payload: Cow<'a, [u8]>,
    },
    /// The caller answers it with the same payload, which ends where its frame ends.
    Ping(&'a mut [u8]),
    Pong(&'a [u8]),
    /// The code and reason, if any. The caller discards all bytes after it.
    Close(Option<(u16, &'a str)>),
}

#[derive(Debug)]
pub enum Step<'a> {
    /// One frame ended `consumed` bytes from the start of `bytes`. No event: a fragment that is not the last.
    Frame { consumed: usize, event: Option<Event<'a>> },
    /// The bytes are not a whole frame. They are unmasked and checked as far as possible: the caller keeps them as they are
    /// now and calls again with more bytes after them. `frame_bytes` is the size of the frame, once the header is whole.
    Partial { frame_bytes: Option<usize> },
}

/// The state of one connection.
#[derive(Default)]
pub struct Decoder {
    /// The open message of several frames.
    assembly: Option<Box<Assembly>>,
    /// Bytes of the current frame that are done: the header, and the payload that is unmasked and checked. 0: no frame begun.
    seen: u32,
    /// The incomplete character at the end of the current text message.
    utf8: Utf8,
}

struct Assembly {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
}

const _: () = assert!(size_of::<Decoder>() <= 16);

/// A larger payload is too big whatever the caller allows: `seen` counts in 32 bits.
const PAYLOAD_BYTES_MAX: usize = u32::MAX as usize - CLIENT_HEADER_BYTES_MAX;

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// True between two messages: no frame is begun and no message is open. The decoder then holds no memory.
    #[inline]
    pub fn idle(&self) -> bool {
        self.seen == 0 && self.assembly.is_none()
    }

    /// The memory of an open message of several frames.
    pub fn assembly_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| size_of::<Assembly>() + assembly.bytes.capacity())
    }

    /// Decodes at most one frame. `bytes` begin where the last frame ended; after a partial frame they begin with the bytes of
    /// the last call, unchanged. `message_bytes_max` bounds a message with all its fragments.
    #[inline]
    pub fn decode<'a>(&mut self, bytes: &'a mut [u8], message_bytes_max: usize) -> Result<Step<'a>, Violation> {
        self.decode_behind(0, bytes, message_bytes_max, false)
    }

    /// Like `decode`, with `spent` bytes before the frame that may be overwritten. `deflate`: permessage-deflate was
    /// negotiated; `message_bytes_max` then bounds the compressed size of a compressed message.
    #[inline]
    pub fn decode_behind<'a>(
        &mut self,
        spent: usize,
        bytes: &'a mut [u8],
        message_bytes_max: usize,
        deflate: bool,
    ) -> Result<Step<'a>, Violation> {
        if self.idle()
            && let Some((text, offset, end)) = short_message(&bytes[spent..], message_bytes_max)
        {
            return whole_message(text, spent, offset, &mut bytes[..spent + end]);
        }
        self.decode_any(spent, bytes, message_bytes_max, deflate)
    }

    /// `decode_behind` for any frame.
    fn decode_any<'a>(
        &mut self,
        spent: usize,
        bytes: &'a mut [u8],
        message_bytes_max: usize,
        deflate: bool,
    ) -> Result<Step<'a>, Violation> {
        let frame = &bytes[spent..];
        let Some(header) = parse_extended(frame, deflate)? else { return self.header_begun(frame, deflate) };
        // A compressed text is checked when it is inflated.
        let text = self.in_sequence(header.opcode)? && !self.is_compressed(&header);
        if !header.opcode.is_control() {
            self.fits(&header, message_bytes_max)?;
        }
        let offset = usize::from(header.header_bytes);
        let payload_bytes = header.payload_bytes as usize;
        let frame_bytes = offset + payload_bytes;
        let end = frame_bytes.min(frame.len());
        let from = offset.max(self.seen as usize);
        debug_assert!(from <= end, "the caller dropped bytes of an unfinished frame");
        let whole_at_once = end == frame_bytes && from == offset;
        let place = if whole_at_once { header_bytes(payload_bytes) } else { spent + offset };
        let fresh = place + from - offset..place + end - offset;
        let ascii = unmask_to(bytes, spent + from..spent + end, fresh.start, header.mask, from - offset);
        if text {
            self.utf8.feed(&bytes[fresh], ascii)?;
        }
        if end < frame_bytes {
            self.seen = end as u32;
            return Ok(Step::Partial { frame_bytes: Some(frame_bytes) });
        }
        self.seen = 0;
        if text && header.fin && !self.utf8.is_whole() {
            return Err(Violation::InvalidUtf8);
        }
        let event = self.event(&header, &mut bytes[place..place + payload_bytes], place, message_bytes_max)?;
        Ok(Step::Frame { consumed: frame_bytes, event })
    }

    /// The header is not whole. Its first byte is enough to detect a frame that is not allowed now.
    #[cold]
    fn header_begun(&mut self, bytes: &[u8], deflate: bool) -> Result<Step<'static>, Violation> {
        if let Some(first) = bytes.first() {
            let (_, opcode) = first_byte(*first, deflate)?;
            self.in_sequence(opcode)?;
        }
        self.seen = bytes.len() as u32;
        Ok(Step::Partial { frame_bytes: None })
    }

    /// Section 5.4: checks that the frame is allowed now. Returns true if its payload is text.
    #[inline]
    fn in_sequence(&self, opcode: Opcode) -> Result<bool, Violation> {
        match (opcode, &self.assembly) {
            (Opcode::Text, None) => Ok(true),
            (Opcode::Continuation, Some(assembly)) => Ok(assembly.text),
            (Opcode::Continuation, None) => Err(Violation::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::MessageInsideMessage),
            _ => Ok(false),
        }
    }

    #[inline]
    fn is_compressed(&self, header: &Header) -> bool {
        let goes_on = header.opcode == Opcode::Continuation;
        header.rsv1 || goes_on && self.assembly.as_ref().is_some_and(|assembly| assembly.compressed)
    }

    #[inline]
    fn fits(&self, header: &Header, message_bytes_max: usize) -> Result<(), Violation> {
        let assembled = self.assembly.as_ref().map_or(0, |assembly| assembly.bytes.len());
        let room = message_bytes_max.min(PAYLOAD_BYTES_MAX).saturating_sub(assembled);
        if header.payload_bytes > room as u64 { Err(Violation::MessageTooBig) } else { Ok(()) }
    }

    /// The event of a whole frame whose payload is unmasked and checked.
    #[inline]
    fn event<'a>(
        &mut self,
        header: &Header,
        payload: &'a mut [u8],
        offset: usize,
        message_bytes_max: usize,
    ) -> Result<Option<Event<'a>>, Violation> {
        Ok(match header.opcode {
            Opcode::Text | Opcode::Binary if header.fin && header.rsv1 => {
                Some(Event::Compressed { text: header.opcode == Opcode::Text, payload: Cow::Borrowed(payload) })
            }
            Opcode::Text | Opcode::Binary if header.fin => {
                Some(Event::Message { text: header.opcode == Opcode::Text, payload, offset })
            }
            Opcode::Ping => Some(Event::Ping(payload)),
            Opcode::Pong => Some(Event::Pong(payload)),
            Opcode::Close => Some(Event::Close(close_payload(payload)?)),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.fragment(header, payload, message_bytes_max),
        })
    }

    #[cold]
    fn fragment(&mut self, header: &Header, payload: &[u8], message_bytes_max: usize) -> Option<Event<'static>> {
        let text = header.opcode == Opcode::Text;
        let begun = || Box::new(Assembly { text, compressed: header.rsv1, bytes: Vec::new() });
        let mut assembly = self.assembly.take().unwrap_or_else(begun);
        assembly.append(payload, message_bytes_max);
        if header.fin && assembly.compressed {
            return Some(Event::Compressed { text: assembly.text, payload: Cow::Owned(assembly.bytes) });
        }
        if header.fin {
            return Some(Event::Assembled { text: assembly.text, payload: assembly.bytes });
        }
        self.assembly = Some(assembly);
        None
    }
}

impl Assembly {
    /// Grows by doubling, up to `message_bytes_max`. The caller has checked that the fragment fits.
    fn append(&mut self, fragment: &[u8], message_bytes_max: usize) {
        let needed = self.bytes.len() + fragment.len();
        if needed > self.bytes.capacity() {
            let wanted = needed.max((2 * self.bytes.capacity()).min(message_bytes_max));
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(fragment);
    }
}

/// Recognizes the most common frames with few tests: a whole text or binary message in one frame of less than 64 KiB with a
/// valid header. Returns whether it is text, and where its payload begins and ends.
#[inline]
fn short_message(bytes: &[u8], message_bytes_max: usize) -> Option<(bool, usize, usize)> {
    let [first @ (TEXT | BINARY), length, ..] = bytes else { return None };
    let (offset, payload_bytes) = match length ^ MASKED {
        length if length < LENGTH_16 => (6, usize::from(length)),
        LENGTH_16 => match usize::from(u16::from_be_bytes(*bytes[2..].first_chunk::<2>()?)) {
            length if length < usize::from(LENGTH_16) => return None,
            length => (8, length),
        },
        _ => return None,
    };
    let end = offset + payload_bytes;
    (end <= bytes.len() && payload_bytes <= message_bytes_max).then_some((*first == TEXT, offset, end))
}

const TEXT: u8 = FIN | Opcode::Text as u8;
const BINARY: u8 = FIN | Opcode::Binary as u8;

/// Unmasks and checks the frame after the `spent` bytes, which ends with `bytes`.
#[inline]
fn whole_message(text: bool, spent: usize, offset: usize, bytes: &mut [u8]) -> Result<Step<'_>, Violation> {
    let (consumed, from) = (bytes.len() - spent, spent + offset);
    let mask = *bytes[..from].last_chunk::<4>().expect("the caller has found a header of 6 or 8 bytes");
    let payload_bytes = consumed - offset;
    let offset = header_bytes(payload_bytes);
    let ascii = unmask_to(bytes, from..from + payload_bytes, offset, mask, 0);
    let payload = &mut bytes[offset..offset + payload_bytes];
    if text && !ascii && !utf8::is_valid(payload) {
        return Err(Violation::InvalidUtf8);
    }
    Ok(Step::Frame { consumed, event: Some(Event::Message { text, payload, offset }) })
}

/// Section 5.5.1: empty, or a code of two bytes and a reason in UTF-8.
fn close_payload(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::CloseOfOneByte),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !close::valid_from_peer(code) {
        return Err(Violation::CloseCode);
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason))),
        Err(_) => Err(Violation::InvalidUtf8),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
