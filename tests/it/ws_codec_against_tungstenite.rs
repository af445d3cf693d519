//! Random client streams, valid and damaged, decoded by Corecast's codec (whole, in random pieces, byte by byte) and by
//! tungstenite as a server: both give the same messages, and both fail or neither.
//!
//! Known differences, and what is checked instead:
//!
//! | stream | corecast | tungstenite 0.30 | checked |
//! |---|---|---|---|
//! | a length that is not in its shortest form | fails (section 5.2) | accepts it | corecast's messages are a prefix |
//! | close code 1014 | accepts it (registered) | rejects it | the same up to the close |
//! | an error inside an unfinished frame | fails at once | waits for the frame's end | tungstenite fails at that end |
//! | an invalid close code | fails | reports a close of its own | counted as a failure |
//!
//! The test prints its seed; `CORECAST_SEED=n` repeats a run.

use crate::fuzz::readers::{self, Decoded, End, Seen};
use corecast::ws::Violation;

const MESSAGE_BYTES_MAX: usize = 70_000;
const STREAMS: usize = 3_000;

fn read_with_corecast<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Decoded {
    readers::read_with_corecast(pieces, MESSAGE_BYTES_MAX, false)
}

fn read_with_tungstenite(stream: &[u8]) -> (Vec<Seen>, End) {
    readers::read_with_tungstenite(stream, MESSAGE_BYTES_MAX)
}

// ---- the streams

struct Frame {
    first: u8,
    masked: bool,
    payload: Vec<u8>,
    /// Bytes of the length field, 0, 2 or 8; `None`: the shortest.
    form: Option<usize>,
    /// The length to claim; `None`: the true one.
    claim: Option<u64>,
}

impl Frame {
    fn new(first: u8, payload: Vec<u8>) -> Self {
        Self { first, masked: true, payload, form: None, claim: None }
    }

    fn write(&self, rng: &mut fastrand::Rng, out: &mut Vec<u8>) {
        let length = self.claim.unwrap_or(self.payload.len() as u64);
        let form = self.form.unwrap_or(match length {
            0..=125 => 0,
            126..=65_535 => 2,
            _ => 8,
        });
        let second = [length as u8, 0, 126, 0, 0, 0, 0, 0, 127][form];
        out.extend([self.first, second | u8::from(self.masked) << 7]);
        out.extend_from_slice(&length.to_be_bytes()[8 - form..]);
        let mask = if rng.u8(..8) == 0 { [0; 4] } else { rng.u32(..).to_ne_bytes() };
        if self.masked {
            out.extend(mask);
            out.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            out.extend_from_slice(&self.payload);
        }
    }
}

fn length(rng: &mut fastrand::Rng) -> usize {
    match rng.u8(..100) {
        0..40 => rng.usize(..20),
        40..80 => rng.usize(..300),
        80..98 => rng.usize(124..=128),
        _ => rng.usize(65_530..=65_540),
    }
}

fn text(rng: &mut fastrand::Rng) -> Vec<u8> {
    let ascii = rng.bool();
    let characters = length(rng) / 2;
    let character = |_| match rng.u8(..if ascii { 1 } else { 5 }) {
        0 => char::from(rng.u8(b' '..=b'~')),
        1 => rng.char('\u{80}'..='\u{7ff}'),
        2 => rng.char('\u{800}'..='\u{ffff}'),
        3 => rng.char('\u{10000}'..='\u{10ffff}'),
        _ => rng.choice(['\0', '\u{7f}', '\u{80}', '\u{d7ff}', '\u{e000}', '\u{10ffff}']).expect("not empty"),
    };
    (0..characters).map(character).collect::<String>().into_bytes()
}

fn bytes(rng: &mut fastrand::Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.u8(..)).collect()
}

fn control(rng: &mut fastrand::Rng) -> Frame {
    let length = rng.usize(..=125);
    Frame::new(if rng.bool() { 0x89 } else { 0x8a }, bytes(rng, length))
}

/// One message in one to five frames, with control frames between them.
fn add_message(rng: &mut fastrand::Rng, frames: &mut Vec<Frame>) {
    let (mut first, payload) = if rng.bool() {
        (0x01, text(rng))
    } else {
        let length = length(rng);
        (0x02, bytes(rng, length))
    };
    let count = if rng.bool() { 1 } else { rng.usize(1..=5) };
    let mut cuts: Vec<usize> = (1..count).map(|_| rng.usize(..=payload.len())).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    let mut start = 0;
    for (at, cut) in cuts.into_iter().enumerate() {
        let fin = if at + 1 == count { 0x80 } else { 0 };
        frames.push(Frame::new(first | fin, payload[start..cut].to_vec()));
        (first, start) = (0, cut);
        while rng.u8(..4) == 0 {
            frames.push(control(rng));
        }
    }
}

fn close(rng: &mut fastrand::Rng) -> Frame {
    let code = match rng.u8(..3) {
        0 => rng.u16(995..1020),
        1 => rng.u16(2995..5005),
        _ => rng.choice([0, 1000, 1001, 2999, 3000, 4999, 5000, 65_535]).expect("not empty"),
    };
    let mut payload = code.to_be_bytes().to_vec();
    match rng.u8(..4) {
        0 => payload.extend("geschlossen — 閉".bytes()),
        1 => payload.extend([b'a', 0xc3]),
        2 => payload.truncate(rng.usize(..2)),
        _ => {}
    }
    Frame::new(0x88, payload)
}

/// Applies damage of kind `kind` to one frame or, for kinds past those of frames, to the bytes. The first kinds change
/// nothing.
const DAMAGES: usize = 16;

fn damage_frame(rng: &mut fastrand::Rng, kind: usize, frames: &mut Vec<Frame>) {
    let at = rng.usize(..frames.len());
    let frame = &mut frames[at];
    match kind {
        3 => frame.first ^= 0x10 << rng.u8(..3),
        4 => frame.first = frame.first & 0xf0 | rng.u8(..16),
        5 => frame.first ^= 0x80,
        6 => frame.masked = false,
        7 => frame.form = Some(if rng.bool() && frame.payload.len() < 65_536 { 2 } else { 8 }),
        8 => frame.claim = Some(rng.u64(..) | if rng.bool() { 1 << 63 } else { 1 << 40 }),
        9 => frames.insert(at, Frame::new(0x89, bytes(rng, 126))),
        10 if frame.payload.is_empty() => frame.payload.push(0xff),
        10 => {
            let at = rng.usize(..frame.payload.len());
            frame.payload[at] = rng.u8(0x80..);
        }
        11 => frame.payload.truncate(frame.payload.len().saturating_sub(1)),
        12 => drop(frames.remove(at)),
        13 => frame.payload.resize(rng.usize(MESSAGE_BYTES_MAX - 3..MESSAGE_BYTES_MAX + 3), b'a'),
        _ => {}
    }
}

fn stream(rng: &mut fastrand::Rng, damage: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for _ in 0..rng.usize(1..6) {
        add_message(rng, &mut frames);
    }
    if rng.bool() {
        frames.push(close(rng));
    }
    damage_frame(rng, damage, &mut frames);
    let mut stream = Vec::new();
    frames.iter().for_each(|frame| frame.write(rng, &mut stream));
    if !stream.is_empty() {
        let at = rng.usize(..stream.len());
        match damage {
            14 => stream[at] ^= 1 << rng.u8(..8),
            15 => stream.truncate(at),
            _ => {}
        }
    }
    stream
}

// ---- the comparison

/// The header of a frame that may be incomplete: bytes of its length field, bytes of its mask, and its length.
fn claim(frame: &[u8]) -> (usize, usize, u64) {
    let field = match frame[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let length = (0..field).fold(0, |length, at| length << 8 | u64::from(frame.get(2 + at).copied().unwrap_or(0)));
    let length = if field == 0 { u64::from(frame[1] & 0x7f) } else { length };
    (field, usize::from(frame[1] >> 7) * 4, length)
}

fn is_minimal(frame: &[u8]) -> bool {
    match claim(frame) {
        (2, _, length) => length > 125,
        (8, _, length) => length > 65_535,
        _ => true,
    }
}

/// Adds zeros to the frame at the start of `frame` until it is complete (or its claimed length is too large).
fn finish(frame: &[u8]) -> Vec<u8> {
    let mut whole = frame.to_vec();
    if whole.len() < 2 {
        whole.resize(2, 0);
    }
    let (field, mask, length) = claim(&whole);
    whole.resize(whole.len().max(2 + field + mask), 0);
    if length <= MESSAGE_BYTES_MAX as u64 {
        whole.resize(whole.len().max(2 + field + mask + length as usize), 0);
    }
    whole
}

fn compare(stream: &[u8], decoded: &Decoded, what: &str) {
    let (seen, end) = read_with_tungstenite(stream);
    match (decoded.end, end) {
        // A control frame in a long form is either too long or not minimal: both are errors.
        (End::Failed(Some(Violation::LengthNotMinimal | Violation::LongControl)), _)
            if !is_minimal(&stream[decoded.frame_start..]) =>
        {
            assert!(seen.starts_with(&decoded.seen), "{what}");
        }
        (End::Closed, End::Failed(_)) => {
            assert!(
                matches!(decoded.seen.last(), Some(Seen::Close(Some((1014, _))))),
                "{what}: only corecast accepts the close"
            );
            assert_eq!(decoded.seen[..decoded.seen.len() - 1], seen, "{what}");
        }
        (End::Failed(violation), End::Open) => {
            let finished = [&stream[..decoded.frame_start], &finish(&stream[decoded.frame_start..])].concat();
            assert_eq!(
                read_with_tungstenite(&finished),
                (seen, End::Failed(None)),
                "{what}: only corecast fails, {violation:?}"
            );
        }
        (own_end, end) => {
            assert_eq!(decoded.seen, seen, "{what}");
            let both = own_end.is_failed() && end.is_failed() || own_end == end;
            assert!(both, "{what}: {own_end:?}, tungstenite {end:?}");
        }
    }
}

/// Random splits, small and large.
fn pieces<'a>(rng: &mut fastrand::Rng, stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let largest = if rng.bool() { 8 } else { 2000 };
        let (piece, tail) = rest.split_at(rng.usize(1..=largest).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[test]
fn random_streams_give_the_same_messages_and_both_fail_or_neither() {
    let seed =
        std::env::var("CORECAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("CORECAST_SEED={seed}");
    let mut violations = Vec::new();
    let (mut open, mut closed) = (0, 0);
    for number in 0..STREAMS {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
        let stream = stream(&mut rng, number % DAMAGES);
        let what = format!("stream {number} of seed {seed}, damage {}", number % DAMAGES);
        let whole = read_with_corecast(std::iter::once(&stream[..]));
        compare(&stream, &whole, &what);
        for cut in [read_with_corecast(pieces(&mut rng, &stream).into_iter()), read_with_corecast(stream.chunks(1))] {
            assert_eq!(cut.seen, whole.seen, "{what}, in pieces");
            assert_eq!(cut.frame_start, whole.frame_start, "{what}, in pieces");
            match (cut.end, whole.end) {
                // A frame with two errors may show either first, but both have the same close code.
                (End::Failed(Some(cut)), End::Failed(Some(whole))) => assert_eq!(cut.close_code(), whole.close_code()),
                (cut, whole) => assert_eq!(cut, whole, "{what}, in pieces"),
            }
        }
        match whole.end {
            End::Open => open += 1,
            End::Closed => closed += 1,
            End::Failed(violation) => violations.extend(violation),
        }
    }
    // The streams are only useful if they cover every outcome.
    use Violation as V;
    for violation in [
        V::Unmasked,
        V::ReservedBit,
        V::ReservedOpcode,
        V::FragmentedControl,
        V::LongControl,
        V::LengthNotMinimal,
        V::LengthTopBit,
        V::NothingToContinue,
        V::MessageInsideMessage,
        V::CloseOfOneByte,
        V::CloseCode,
        V::InvalidUtf8,
        V::MessageTooBig,
    ] {
        assert!(violations.contains(&violation), "{violation:?} never happened, seed {seed}");
    }
    assert!(open > STREAMS / 10 && closed > STREAMS / 20, "{open} open, {closed} closed, seed {seed}");
}
