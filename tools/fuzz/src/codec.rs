//! RFC 6455 and 7692: the request head, extensions, frames whole and split, and against another reader of them.

use corecast::engine::admission::proxy_protocol as proxy;
use corecast::engine::client_of as named_by;
use corecast::ws::deflate::{Broken, Deflater, Inflater};
use corecast::ws::extension::{Allowed, agree};
use corecast::ws::parse_request;

use super::readers::{End, Ours, Seen, ours, theirs};

const MESSAGE_BYTES_MAX: usize = 4096;

/// A verdict on a part is the verdict on the whole; what is taken stays within the bytes.
pub fn upgrade(data: &[u8]) {
    let whole = parse_request(data);
    if let Ok(Some(request)) = &whole {
        assert!(request.head_bytes <= data.len() && request.path.starts_with('/'));
        let _ = request.upgrade.as_ref().map(|upgrade| upgrade.protocols().count());
        assert!(request.values("host").count() <= 1);
    }
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        match parse_request(&data[..cut]) {
            Ok(None) => {}
            Ok(Some(part)) => {
                assert_eq!(Ok(part.head_bytes), whole.as_ref().map(|w| w.as_ref().expect("whole").head_bytes))
            }
            // For the same reason or another that more bytes show first.
            Err(_) => assert!(whole.is_err()),
        }
    }
}

/// The header of a proxy: a verdict does not depend on what follows, the header stays within its bound, and the client's bytes
/// behind it are left alone.
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
        // Once said it is said for good.
        assert!(seen == Ok(None) || part == seen);
        seen = part;
    }
    assert_eq!(seen, whole);
}

/// The client that a chain of proxies names: one of its addresses, and none to the left of one that is not trusted.
pub fn client_of(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let fields: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let trusted = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets()[0] == 10 || first & 1 != 0,
        std::net::IpAddr::V6(_) => first & 2 != 0,
    };
    let named = named_by(fields.iter().copied(), trusted);
    // In one field or in several it is the same chain.
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
        // An answer is an offer that asks for just that.
        let again = agree([&answer[..]].into_iter(), &allowed).expect("what we say we understand");
        assert_eq!((again.window, again.server_takeover), (agreed.window, agreed.server_takeover));
    }
}

/// Whole, in two pieces and byte by byte a stream means the same.
pub fn frames(data: &[u8]) {
    let [flags, cut, stream @ ..] = data else { return };
    let deflate = flags & 1 != 0;
    let cut = usize::from(*cut) * stream.len() / 255;
    let whole = ours([stream].into_iter(), MESSAGE_BYTES_MAX, deflate);
    let two = ours([&stream[..cut], &stream[cut..]].into_iter(), MESSAGE_BYTES_MAX, deflate);
    // A fault may have more than one name, by how much of it is seen.
    for part in [two, ours(stream.chunks(1), MESSAGE_BYTES_MAX, deflate)] {
        assert_eq!((part.seen, part.end.is_failed()), (whole.seen.clone(), whole.end.is_failed()));
    }
}

/// The same messages as tungstenite, where that is not known to be more lenient or later.
pub fn differential(stream: &[u8]) {
    let Ours { seen, end, .. } = ours([stream].into_iter(), MESSAGE_BYTES_MAX, false);
    let (other, other_end) = theirs(stream, MESSAGE_BYTES_MAX);
    // Registered since, and refused there.
    if seen.iter().any(|seen| matches!(seen, Seen::Close(Some((1014, _))))) {
        return assert_eq!(seen[..seen.len() - 1], other[..]);
    }
    match end {
        // It reads lengths that are not in their shortest form, and sees faults inside a frame at its end.
        End::Failed(_) => assert!(other.starts_with(&seen), "{seen:?} {end:?} {other:?}"),
        _ => assert!(seen == other && !other_end.is_failed(), "{seen:?} {other:?} {other_end:?}"),
    }
}

/// Bounded whatever comes, and the same again for what we compress ourselves.
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
