//! The payload of a publication, which identifies it at every delivery.
//!
//! Layout, 36 characters without escapes in JSON: `~cl~`, sequence number (8 hex digits), tag (2 channel, 2 publisher, 4 slot),
//! intended send time in nanoseconds of CLOCK_MONOTONIC (16). Letters fill it up to its size.
//! Digits are decoded eight at a time without a branch; a character that is not a hex digit yields a number that the checks
//! reject.

pub const MAGIC: [u8; 4] = *b"~cl~";
/// Bytes of the smallest payload.
pub const BYTES_MIN: usize = 36;
/// Bytes of the smallest JSON object with a payload.
pub const JSON_BYTES_MIN: usize = 72;

/// The identity of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Counted per channel and publisher, from 0.
    pub seq: u32,
    /// The number of the channel modulo 256.
    pub channel: u8,
    pub publisher: u8,
    pub slot: u16,
}

impl Stamp {
    /// Reads the stamp of a payload whose magic was checked.
    #[inline]
    pub fn read(bytes: &[u8; 20]) -> Self {
        let mut digits = [0; 8];
        digits.copy_from_slice(&bytes[4..12]);
        let seq = hex8(digits);
        digits.copy_from_slice(&bytes[12..20]);
        let tag = hex8(digits);
        Self { seq, channel: (tag >> 24) as u8, publisher: (tag >> 16) as u8, slot: tag as u16 }
    }
}

/// Appends a payload of exactly `size` bytes.
pub fn write(out: &mut Vec<u8>, stamp: Stamp, time: u64, size: usize) {
    debug_assert!(size >= BYTES_MIN);
    let tag = u32::from(stamp.channel) << 24 | u32::from(stamp.publisher) << 16 | u32::from(stamp.slot);
    out.extend_from_slice(&MAGIC);
    for number in [stamp.seq, tag, (time >> 32) as u32, time as u32] {
        out.extend_from_slice(&put_hex8(number));
    }
    out.extend((BYTES_MIN..size).map(|i| b'a' + (i % 26) as u8));
}

/// The intended send time of a payload.
pub fn time(bytes: &[u8]) -> u64 {
    let half = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, hex8);
    u64::from(half(20)) << 32 | u64::from(half(28))
}

/// An object of exactly `size` bytes with `stamp` (which becomes `BYTES_MIN` characters) as a field. It contains as many orders of
/// a web shop as fit, and words up to the size, so that it compresses about as well as real messages.
pub fn json(stamp: &str, size: usize) -> String {
    let (before, after) = (format!(r#"{{"stamp":"{stamp}","note":""#), r#"","orders":["#);
    let frame = before.len() - stamp.len() + BYTES_MIN + after.len() + 2;
    let mut rng = fastrand::Rng::with_seed(0x10ad);
    let mut orders = String::new();
    loop {
        let order = order(&mut rng);
        if frame + orders.len() + order.len() + 1 > size {
            break;
        }
        orders = if orders.is_empty() { order } else { orders + "," + &order };
    }
    let mut note = String::new();
    while frame + orders.len() + note.len() < size {
        note += word(&mut rng);
        note.push(' ');
    }
    note.truncate(size.saturating_sub(frame + orders.len()));
    format!("{before}{note}{after}{orders}]}}")
}

fn order(rng: &mut fastrand::Rng) -> String {
    let (id, sku, price, quantity) = (rng.u32(10_000_000..), rng.u32(1000..9999), rng.u32(100..99_999), rng.u8(1..9));
    let (status, name, place, second) = (word(rng), word(rng), word(rng), rng.u8(10..60));
    let (euros, cents) = (price / 100, price % 100);
    format!(
        r#"{{"id":{id},"sku":"{sku}-{name}","status":"{status}","quantity":{quantity},"price":{euros}.{cents:02},"currency":"EUR","warehouse":"{place}","updated_at":"2026-11-25T12:13:{second}Z"}}"#
    )
}

fn word(rng: &mut fastrand::Rng) -> &'static str {
    const WORDS: [&str; 10] =
        ["shipped", "pending", "returned", "paid", "amber", "harbour", "linen", "copper", "maple", "north"];
    WORDS[rng.usize(..WORDS.len())]
}

/// The value of eight lower-case hex digits.
#[inline]
pub fn hex8(digits: [u8; 8]) -> u32 {
    let x = u64::from_be_bytes(digits);
    // A letter has bit 6 set, and its low four bits are its value minus nine.
    let nibbles = (x & 0x0f0f_0f0f_0f0f_0f0f) + 9 * ((x >> 6) & 0x0101_0101_0101_0101);
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    (quads | quads >> 16) as u32
}

/// The inverse of [`hex8`].
#[inline]
pub fn put_hex8(n: u32) -> [u8; 8] {
    std::array::from_fn(|i| b"0123456789abcdef"[(n >> (28 - 4 * i)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits_are_read_back() {
        for n in [0, 1, 9, 10, 0x1234_5678, 0x89ab_cdef, u32::MAX] {
            assert_eq!(put_hex8(n), format!("{n:08x}").as_bytes());
            assert_eq!(hex8(put_hex8(n)), n);
        }
        let mut rng = fastrand::Rng::with_seed(7);
        (0..10_000).map(|_| rng.u32(..)).for_each(|n| assert_eq!(hex8(put_hex8(n)), n));
    }

    #[test]
    fn payload_has_its_stamp_its_time_and_its_size() {
        let stamp = Stamp { seq: 0xdead_beef, channel: 3, publisher: 200, slot: 65_535 };
        for size in [BYTES_MIN, 64, 1000] {
            let mut out = b"before".to_vec();
            write(&mut out, stamp, 0x0123_4567_89ab_cdef, size);
            let payload = &out[6..];
            assert_eq!(payload.len(), size);
            assert_eq!(Stamp::read(payload[..20].try_into().unwrap()), stamp);
            assert_eq!(time(payload), 0x0123_4567_89ab_cdef);
            assert!(payload.iter().all(|b| b.is_ascii_graphic() && *b != b'"' && *b != b'\\'));
        }
    }

    #[test]
    fn json_object_has_its_size_and_room_for_the_stamp() {
        let stamp = "s".repeat(BYTES_MIN);
        for size in [JSON_BYTES_MIN, 73, 100, 500, 1024, 10_000] {
            let text = json(&stamp, size);
            assert_eq!(text.len(), size);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["stamp"], stamp.as_str());
            assert!(value["orders"].is_array());
        }
        assert_eq!(json("{payload}", 500).replace("{payload}", &stamp).len(), 500);
    }
}
