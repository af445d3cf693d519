//! Every stream is decoded whole, cut at every byte, byte by byte, and followed by another frame.

use super::super::encode::client_frame;
use super::*;

const MAX: usize = 1000;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// A connection as the event loop handles it: received bytes are appended to a buffer, and decoded frames are removed from it,
/// except up to `spent` bytes before the next frame, which the decoder may overwrite.
struct Reader {
    decoder: Decoder,
    buffer: Vec<u8>,
    spent: usize,
    spent_max: usize,
    seen: Vec<Seen>,
    max: usize,
}

impl Reader {
    fn new(max: usize) -> Self {
        Self::behind(0, max)
    }

    fn behind(spent_max: usize, max: usize) -> Self {
        Self { decoder: Decoder::new(), buffer: Vec::new(), spent: 0, spent_max, seen: Vec::new(), max }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.buffer.extend_from_slice(bytes);
        loop {
            let shown = self.buffer.len() - self.spent;
            match self.decoder.decode_behind(self.spent, &mut self.buffer, self.max, false)? {
                Step::Partial { frame_bytes } => {
                    assert!(frame_bytes.is_none_or(|whole| whole > shown));
                    assert_eq!(self.decoder.idle(), shown == 0 && self.decoder.assembly_bytes() == 0);
                    return Ok(());
                }
                Step::Frame { consumed, event } => {
                    self.seen.extend(event.map(|event| note(event, self.spent, consumed)));
                    self.spent += consumed;
                    self.buffer.drain(..self.spent.saturating_sub(self.spent_max));
                    self.spent = self.spent.min(self.spent_max);
                }
            }
        }
    }

    /// Reads `stream` in the given pieces. Returns the violation, and how many bytes were read when it was found.
    fn read_all<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(usize, Violation)> {
        let mut read = 0;
        for piece in pieces {
            read += piece.len();
            if let Err(violation) = self.read(piece) {
                return Some((read, violation));
            }
        }
        None
    }
}

fn note(event: Event<'_>, spent: usize, consumed: usize) -> Seen {
    match event {
        Event::Message { text, payload, offset } => {
            assert!(offset == header_bytes(payload.len()) || offset + payload.len() == spent + consumed);
            message(text, payload.to_vec())
        }
        Event::Assembled { text, payload } => message(text, payload),
        Event::Compressed { .. } => unreachable!("compression was not agreed on"),
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close(close) => Seen::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
    }
}

fn message(text: bool, payload: Vec<u8>) -> Seen {
    if text { Seen::Text(String::from_utf8(payload).expect("text is UTF-8")) } else { Seen::Binary(payload) }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// One client frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client_frame(&mut out, Opcode::Binary, payload, KEY);
    out[0] = first;
    out
}

/// Cuts of `stream`: whole, in two at every byte, byte by byte.
fn cuts(stream: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let halves = (0..=stream.len()).map(|at| vec![&stream[..at], &stream[at..]]);
    halves.chain([vec![stream], stream.chunks(1).collect()])
}

/// However it is cut, `stream` gives `expected` and leaves the decoder idle, and so does the frame after it.
fn gives(stream: &[u8], expected: &[Seen]) {
    let next = frame(0x81, "nächste".as_bytes());
    let followed = [stream, &next].concat();
    for (stream, next) in [(stream, None), (&followed, Some(text("nächste")))] {
        for (pieces, spent) in cuts(stream).flat_map(|pieces| [0, 1, 7, 500].map(|spent| (pieces.clone(), spent))) {
            let mut reader = Reader::behind(spent, MAX);
            assert_eq!(reader.read_all(pieces), None);
            assert!(reader.seen.iter().eq(expected.iter().chain(&next)), "{:?}", reader.seen);
            assert!(reader.decoder.idle() && reader.decoder.assembly_bytes() == 0);
        }
    }
}

/// However it is cut, `stream` fails with `violation` as soon as `bytes` of it have arrived, after `before`.
fn fails(stream: &[u8], bytes: usize, violation: Violation, before: &[Seen]) {
    let followed = [stream, &frame(0x81, b"next")].concat();
    for stream in [stream, &followed] {
        for pieces in cuts(stream) {
            // The end of the first piece with the byte that decides.
            let ends = pieces.iter().scan(0, |end, piece| {
                *end += piece.len();
                Some(*end)
            });
            let seen_at = ends.clone().find(|end| *end >= bytes);
            let mut reader = Reader::new(MAX);
            assert_eq!(reader.read_all(pieces.iter().copied()), seen_at.map(|at| (at, violation)), "{stream:x?}");
            assert_eq!(reader.seen, before);
        }
    }
}

#[test]
fn message_of_one_frame_in_every_length_form() {
    for length in [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 125, 126, 127, 300, MAX] {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        gives(&frame(0x82, &payload), &[Seen::Binary(payload)]);
        let letters = "x".repeat(length);
        gives(&frame(0x81, letters.as_bytes()), &[Seen::Text(letters)]);
    }
}

#[test]
fn length_of_64_bits_is_read() {
    let payload = vec![0xa5; 70_000];
    let stream = frame(0x82, &payload);
    for pieces in [vec![&stream[..]], stream.chunks(999).collect(), vec![&stream[..13], &stream[13..]]] {
        let mut reader = Reader::new(70_000);
        assert_eq!(reader.read_all(pieces), None);
        assert_eq!(reader.seen, [Seen::Binary(payload.clone())]);
    }
}

#[test]
fn mask_of_zero_is_a_mask() {
    gives(b"\x81\x85\0\0\0\0hello", &[text("hello")]);
    gives(b"\x81\x82\0\0\0\0\xc3\xa9", &[text("é")]);
    fails(b"\x81\x82\0\0\0\0\xff\xa9", 7, Violation::InvalidUtf8, &[]);
}

#[test]
fn control_frames_are_read_between_fragments() {
    let stream = [
        frame(0x01, "fr\u{e4}".as_bytes()),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x00, &[b'g', 0xe2]),
        frame(0x8a, b"pong"),
        frame(0x00, &[0x82]),
        frame(0x89, b""),
        frame(0x80, &[0xac, b'.']),
    ];
    let seen = [Seen::Ping(b"ping".to_vec()), Seen::Pong(b"pong".to_vec()), Seen::Ping(vec![]), text("fräg€.")];
    gives(&stream.concat(), &seen);
    let binary = [frame(0x02, &[0xff]), frame(0x8a, b""), frame(0x80, &[0xfe])];
    gives(&binary.concat(), &[Seen::Pong(vec![]), Seen::Binary(vec![0xff, 0xfe])]);
    gives(&[frame(0x01, b""), frame(0x80, b"")].concat(), &[text("")]);
}

#[test]
fn sequence_faults_fail_at_the_first_byte() {
    fails(&frame(0x80, b"x"), 1, Violation::NothingToContinue, &[]);
    fails(&frame(0x00, b"x"), 1, Violation::NothingToContinue, &[]);
    let open = frame(0x01, b"open");
    for first in [0x01, 0x02, 0x81, 0x82] {
        let stream = [&open[..], &frame(first, b"x")].concat();
        fails(&stream, open.len() + 1, Violation::MessageInsideMessage, &[]);
    }
    let after = [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat();
    fails(&after, after.len() - 6, Violation::NothingToContinue, &[text("ab")]);
}

#[test]
fn header_faults_are_reported() {
    fails(&frame(0xc1, b"x"), 1, Violation::ReservedBit, &[]);
    fails(&frame(0x83, b"x"), 1, Violation::ReservedOpcode, &[]);
    fails(&frame(0x09, b"x"), 1, Violation::FragmentedControl, &[]);
    fails(&[0x81, 0x01, b'x'], 2, Violation::Unmasked, &[]);
    fails(&frame(0x89, &[0; 126]), 2, Violation::LongControl, &[]);
    fails(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9], 8, Violation::LengthNotMinimal, &[]);
}

#[test]
fn message_that_is_too_big_fails_at_its_header() {
    let stream = frame(0x82, &[0; MAX + 1]);
    fails(&stream[..8], 8, Violation::MessageTooBig, &[]);
    let huge = [0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4];
    fails(&huge, 14, Violation::MessageTooBig, &[]);
    let open = frame(0x02, &[0; MAX]);
    gives(&[&open[..], &frame(0x80, b"")].concat(), &[Seen::Binary(vec![0; MAX])]);
    fails(&[&open[..], &frame(0x80, b"x")].concat(), open.len() + 6, Violation::MessageTooBig, &[]);
    // The decoder counts in 32 bits, however much the caller allows.
    let mut reader = Reader::new(usize::MAX);
    assert_eq!(reader.read_all([&huge[..]]), Some((14, Violation::MessageTooBig)));
}

#[test]
fn text_fails_at_the_first_byte_that_makes_it_invalid() {
    // Autobahn 6.4: an octet beyond U+10FFFF in the second fragment, and in the middle of a frame.
    let good = "κόσμε".as_bytes();
    let bad = [good, &[0xf4, 0x90, 0x80, 0x80], b"edited"].concat();
    fails(&frame(0x81, &bad), 6 + good.len() + 2, Violation::InvalidUtf8, &[]);
    let (first, second) = (frame(0x01, &bad[..good.len() + 1]), frame(0x80, &bad[good.len() + 1..]));
    fails(&[&first[..], &second].concat(), first.len() + 7, Violation::InvalidUtf8, &[]);
    const SURROGATE: &[u8] = &[0xed, 0xa0, 0x80];
    const OVERLONG: &[u8] = &[0xc0, 0xaf];
    fails(&frame(0x81, SURROGATE), 8, Violation::InvalidUtf8, &[]);
    fails(&frame(0x81, OVERLONG), 7, Violation::InvalidUtf8, &[]);
}

#[test]
fn text_with_an_incomplete_character_fails_at_the_end_of_the_message() {
    let open = frame(0x81, &[b'a', 0xe2, 0x82]);
    fails(&open, open.len(), Violation::InvalidUtf8, &[]);
    let fragments = [frame(0x01, &[0xe2]), frame(0x89, b""), frame(0x80, &[0x82])].concat();
    fails(&fragments, fragments.len(), Violation::InvalidUtf8, &[Seen::Ping(vec![])]);
    let empty_end = [frame(0x01, &[0xe2]), frame(0x80, b"")].concat();
    fails(&empty_end, empty_end.len(), Violation::InvalidUtf8, &[]);
    // Binary messages are not checked as text.
    gives(&frame(0x82, &[0xe2, 0x82]), &[Seen::Binary(vec![0xe2, 0x82])]);
}

#[test]
fn close_frames_are_read_and_checked() {
    let whole = |payload: &[u8]| frame(0x88, payload);
    gives(&whole(b""), &[Seen::Close(None)]);
    gives(&whole(b"\x03\xe8"), &[Seen::Close(Some((1000, String::new())))]);
    gives(&whole(b"\x0f\xa0bye"), &[Seen::Close(Some((4000, "bye".into())))]);
    let ends = |payload: &[u8], violation| fails(&whole(payload), 6 + payload.len(), violation, &[]);
    const ONE_BYTE: &[u8] = b"\x03";
    const CODE_1005: &[u8] = b"\x03\xed";
    const CODE_0: &[u8] = b"\0\0";
    const REASON_NOT_UTF8: &[u8] = b"\x03\xe8\xce";
    ends(ONE_BYTE, Violation::CloseOfOneByte);
    ends(CODE_1005, Violation::CloseCode);
    ends(CODE_0, Violation::CloseCode);
    ends(REASON_NOT_UTF8, Violation::InvalidUtf8);
}

#[test]
fn fragmented_message_is_counted_bounded_and_released() {
    let mut reader = Reader::new(MAX);
    assert_eq!(reader.read_all([&frame(0x02, &[7; 600])[..], &frame(0x00, &[7; 300])]), None);
    let held = reader.decoder.assembly_bytes();
    assert!((900..=MAX + size_of::<Assembly>()).contains(&held), "{held}");
    assert!(!reader.decoder.idle());
    assert_eq!(reader.read_all([&frame(0x80, &[7; 100])[..]]), None);
    assert_eq!(reader.seen, [Seen::Binary(vec![7; MAX])]);
    assert!(reader.decoder.idle() && reader.decoder.assembly_bytes() == 0);
}

#[test]
fn violations_have_the_codes_of_section_7_4() {
    assert_eq!(Violation::InvalidUtf8.close_code(), 1007);
    assert_eq!(Violation::MessageTooBig.close_code(), 1009);
    assert_eq!(Violation::Unmasked.close_code(), 1002);
    assert_eq!(Violation::CloseCode.close_code(), 1002);
}

/// The compressed messages of a stream cut at `cut`: text or binary, in one frame or in several.
fn compressed(stream: &[u8], cut: usize) -> Result<Vec<(bool, Vec<u8>)>, Violation> {
    let (mut decoder, mut buffer, mut seen) = (Decoder::new(), Vec::new(), Vec::new());
    for piece in [&stream[..cut], &stream[cut..]] {
        buffer.extend_from_slice(piece);
        while let Step::Frame { consumed, event } = decoder.decode_behind(0, &mut buffer, 100, true)? {
            if let Some(Event::Compressed { text, payload }) = event {
                seen.push((text, payload.into_owned()));
            }
            buffer.drain(..consumed);
        }
    }
    Ok(seen)
}

#[test]
fn compressed_messages_are_passed_on_wherever_they_are_cut() {
    // They are not UTF-8, which is found only when they are inflated; an uncompressed message is between them.
    let mut stream = vec![0xc1, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    stream.extend([0x81, 0x81, 0, 0, 0, 0, b'x']);
    stream.extend([0x42, 0x81, 0, 0, 0, 0, 0xff]);
    stream.extend([0x00, 0x80, 0, 0, 0, 0]);
    stream.extend([0x80, 0x81, 0, 0, 0, 0, 0xfd]);
    let expected = vec![(true, vec![0xff, 0xfe]), (false, vec![0xff, 0xfd])];
    for cut in 0..=stream.len() {
        assert_eq!(compressed(&stream, cut), Ok(expected.clone()), "cut at {cut}");
    }
}

#[test]
fn reserved_bit_1_is_allowed_only_at_the_beginning_of_a_message() {
    for faulty in [
        &[0x42, 0x80, 0, 0, 0, 0, 0xc0, 0x80, 0, 0, 0, 0][..],
        &[0xc9, 0x80, 0, 0, 0, 0],
        &[0xa1, 0x80, 0, 0, 0, 0],
        &[0xd1, 0x80, 0, 0, 0, 0],
    ] {
        assert_eq!(compressed(faulty, 0), Err(Violation::ReservedBit), "{faulty:02x?}");
    }
    assert_eq!(compressed(&[0xc2, 0xfe, 0, 126, 0, 0, 0, 0], 0), Err(Violation::MessageTooBig));
}
