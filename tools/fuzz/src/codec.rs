//! RFC 6455 and 7692: the request head, extensions, and frames, whole and split, compared with tungstenite.

use corecast::engine::admission::proxy_protocol as proxy;
use corecast::engine::client_of as named_by;
use corecast::ws::deflate::{Broken, Deflater, Inflater};
use corecast::ws::extension::{Allowed, agree};
use corecast::ws::{Method, RequestBounds, parse_request};

use super::readers::{Decoded, End, Seen, read_with_corecast, read_with_tungstenite};

const MESSAGE_BYTES_MAX: usize = 4096;

/// The result for a prefix is the result for the whole; the consumed bytes are within the input.
pub fn upgrade(data: &[u8]) {
    let bounds = RequestBounds::DEFAULT;
    let whole = parse_request(data, &bounds);
    if let Ok(Some(request)) = &whole {
        let has_no_path = request.method == Method::Other && request.path.is_empty();
        assert!(request.head_bytes <= data.len() && (request.path.starts_with('/') || has_no_path));
        assert!(request.upgrade.is_none() || request.method == Method::Get);
        assert_eq!(Method::of(data), request.method);
        let _ = request.upgrade.as_ref().map(|upgrade| upgrade.protocols().count());
        assert!(request.values("host").count() <= 1);
    }
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        match parse_request(&data[..cut], &bounds) {
            Ok(None) => {}
            Ok(Some(part)) => {
                assert_eq!(Ok(part.head_bytes), whole.as_ref().map(|w| w.as_ref().expect("whole").head_bytes))
            }
            // The error may differ if more bytes show another one first.
            Err(_) => assert!(whole.is_err()),
        }
    }
}

/// The header of a proxy: the result does not depend on the bytes after it, the header is within its bound, and the
/// client's bytes after it are not consumed.
pub fn proxied(data: &[u8]) {
    let whole = proxy::decode(data);
    if let Ok(Some(header)) = whole {
        assert!(header.bytes <= data.len() && header.bytes <= proxy::HEADER_BYTES_MAX);
        assert_eq!(proxy::decode(&data[..header.bytes]), whole);
        assert_eq!(proxy::decode(&data[..header.bytes - 1]), Ok(None));
    }
    assert!(whole != Ok(None) || data.len() < proxy::HEADER_BYTES_MAX, "what is not whole has an end");
    let mut seen = Ok(None);
    for cut in 0..=data.len().min(2 * proxy::HEADER_BYTES_MAX) {
        let part = proxy::decode(&data[..cut]);
        // A result is final: more bytes do not change it.
        assert!(seen == Ok(None) || part == seen);
        seen = part;
    }
    assert_eq!(seen, whole);
}

/// The client that a chain of proxies names: one of its addresses, and none to the left of an untrusted one.
pub fn client_of(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let fields: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let trusted = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets()[0] == 10 || first & 1 != 0,
        std::net::IpAddr::V6(_) => first & 2 != 0,
    };
    let named = named_by(fields.iter().copied(), trusted);
    // The chain is the same in one header field or in several.
    let joined = fields.join(&b","[..]);
    assert_eq!(named, named_by([&joined[..]].into_iter(), trusted));
    // Text of a client before the last address does not change the result, if that address is not trusted.
    if let Some(named) = named.filter(|&address| !trusted(address)) {
        let forged = [b"192.0.2.66, ", &joined[..]].concat();
        assert_eq!(named_by([&forged[..]].into_iter(), trusted), Some(named));
    }
}

pub fn extension(data: &[u8]) {
    let Some((first, offers)) = data.split_first() else { return };
    let allowed =
        Allowed { server_takeover: first & 1 != 0, client_takeover: first & 2 != 0, window_bits: 9 + (first >> 2) % 7 };
    if let Some(agreed) = agree(offers.split(|byte| *byte == b'\n'), &allowed) {
        let mut answer = Vec::new();
        agreed.write(&mut answer);
        // A response is an offer with exactly these parameters.
        let again = agree([&answer[..]].into_iter(), &allowed).expect("what we say we understand");
        assert_eq!((again.window, again.server_takeover), (agreed.window, agreed.server_takeover));
    }
}

/// A stream has the same result whole, in two pieces and byte by byte.
pub fn frames(data: &[u8]) {
    let [flags, cut, stream @ ..] = data else { return };
    let deflate = flags & 1 != 0;
    let cut = usize::from(*cut) * stream.len() / 255;
    let whole = read_with_corecast([stream].into_iter(), MESSAGE_BYTES_MAX, deflate);
    let two = read_with_corecast([&stream[..cut], &stream[cut..]].into_iter(), MESSAGE_BYTES_MAX, deflate);
    // An error may have several names, depending on how many bytes are visible.
    for part in [two, read_with_corecast(stream.chunks(1), MESSAGE_BYTES_MAX, deflate)] {
        assert_eq!((part.seen, part.end.is_failed()), (whole.seen.clone(), whole.end.is_failed()));
    }
}

/// The same messages as tungstenite, except where tungstenite is known to be more lenient or to fail later.
pub fn differential(stream: &[u8]) {
    let Decoded { seen, end, .. } = read_with_corecast([stream].into_iter(), MESSAGE_BYTES_MAX, false);
    let (other, other_end) = read_with_tungstenite(stream, MESSAGE_BYTES_MAX);
    // This code was registered later, and tungstenite rejects it.
    if seen.iter().any(|seen| matches!(seen, Seen::Close(Some((1014, _))))) {
        return assert_eq!(seen[..seen.len() - 1], other[..]);
    }
    match end {
        // Tungstenite accepts lengths that are not in their shortest form, and reports errors inside a frame at its
        // end.
        End::Failed(_) => assert!(other.starts_with(&seen), "{seen:?} {end:?} {other:?}"),
        _ => assert!(seen == other && !other_end.is_failed(), "{seen:?} {other:?} {other_end:?}"),
    }
}

/// Inflating any bytes is bounded, and inflating compressed text returns the text.
pub fn inflate(data: &[u8]) {
    let [flags, bound, message @ ..] = data else { return };
    let (bits, bytes_max) = (9 + flags % 7, 16 * usize::from(*bound));
    let (mut inflater, mut out) = (Inflater::new(bits), Vec::new());
    for fresh in [true, flags & 0x80 != 0] {
        match inflater.inflate(message, fresh, bytes_max, &mut out) {
            Ok(()) => assert!(out.len() <= bytes_max),
            Err(Broken::TooBig) => assert!(out.len() == bytes_max + 1),
            Err(Broken::Invalid) => break,
        }
        assert!(out.capacity() <= bytes_max.max(1024) + 1);
    }
    let (mut deflater, mut inflater, mut packed) =
        (Deflater::new(u32::from(1 + flags % 9), bits), Inflater::new(bits), Vec::new());
    for fresh in [true, false] {
        packed.clear();
        deflater.compress(message, fresh, &mut packed);
        assert_eq!(inflater.inflate(&packed, fresh, message.len(), &mut out), Ok(()));
        assert_eq!(out, message);
    }
}
