//! Frame boundaries in bytes that are whole frames of the server: those of a WebSocket, or the framed messages of a stream.

use crate::http::StreamFraming;

/// Bytes of the frame that the bytes begin with.
pub(super) fn frame_length(framing: Option<StreamFraming>, bytes: &[u8]) -> usize {
    match framing {
        None => websocket_frame_length(bytes),
        Some(framing) => framing.message_bytes(bytes),
    }
}

/// Server frames have no masking key.
fn websocket_frame_length(bytes: &[u8]) -> usize {
    let length = |n: usize| bytes[2..2 + n].iter().fold(0usize, |sum, &b| sum << 8 | usize::from(b));
    match bytes[1] & 0x7f {
        126 => 4 + length(2),
        127 => 10 + length(8),
        short => 2 + usize::from(short),
    }
}

/// The first frame boundary at or behind `at`, in bytes that begin at a boundary.
pub(super) fn frame_end_after(framing: Option<StreamFraming>, bytes: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end < at {
        end += frame_length(framing, &bytes[end..]);
    }
    end
}

/// How many frames there are. The bytes are whole frames.
pub(crate) fn frames_in(framing: Option<StreamFraming>, bytes: &[u8]) -> u64 {
    let (mut at, mut frames) = (0, 0);
    while at < bytes.len() {
        at += frame_length(framing, &bytes[at..]);
        frames += 1;
    }
    frames
}
