//! The PROXY protocol's header, versions 1 and 2 (HAProxy's specification of 2020-03-05): the client of a connection
//! through a proxy.
//!
//! A pure function of the first bytes. Only listeners with this option expect a header, and they require it: the
//! specification forbids guessing. Only addresses are read; TLVs are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest line of version 1, its CRLF included (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2 that are taken: addresses, and ample room for TLVs.
pub const HEADER_BYTES_MAX: usize = 2048;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its length in bytes; the client's bytes follow.
    pub bytes: usize,
    /// None: the proxy itself is the client (LOCAL), or does not know it, or the client came over a unix socket.
    pub client: Option<IpAddr>,
}

/// The bytes are not a header, whatever follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The header at the start of `bytes`. `Ok(None)`: valid so far, and not whole.
pub fn decode(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => line(bytes),
        Some(_) => binary(bytes),
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`.
fn line(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    const START: &[u8] = b"PROXY ";
    let seen = bytes.len().min(START.len());
    if bytes[..seen] != START[..seen] {
        return Err(Malformed);
    }
    let bounded = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', bounded) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Malformed) };
    };
    let text = bounded[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok()).ok_or(Malformed)?;
    let mut words = text.split(' ').skip(1);
    let mut next = || words.next().ok_or(Malformed);
    let client = match next()? {
        // Section 2.1: "the receiver must ignore anything presented before the CRLF".
        "UNKNOWN" => return Ok(Some(Header { bytes: end + 1, client: None })),
        "TCP4" => {
            let [client, _] = [next()?, next()?].map(|word| word.parse::<Ipv4Addr>().map_err(|_| Malformed));
            IpAddr::V4(client?)
        }
        "TCP6" => {
            let [client, _] = [next()?, next()?].map(|word| word.parse::<Ipv6Addr>().map_err(|_| Malformed));
            IpAddr::V6(client?)
        }
        _ => return Err(Malformed),
    };
    for _ in 0..2 {
        port(next()?)?;
    }
    if words.next().is_some() {
        return Err(Malformed);
    }
    Ok(Some(Header { bytes: end + 1, client: Some(client) }))
}

/// Section 2.1: a decimal number "in the range of [0..65535]", without a sign and without leading zeroes.
fn port(word: &str) -> Result<(), Malformed> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
    if plain && word.parse::<u16>().is_ok() { Ok(()) } else { Err(Malformed) }
}

/// Version 2: the signature, then what is in it by its length.
fn binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Malformed);
    }
    // Each byte is judged when it is there: there is no wait for the rest of an invalid header.
    let command = match bytes.get(12) {
        Some(0x20) => Some(false),
        Some(0x21) => Some(true),
        Some(_) => return Err(Malformed),
        None => None,
    };
    let Some((&[.., family, high, low], rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let bytes = FIXED_BYTES + length;
    // Section 2.2: of LOCAL, "the receiver must accept this connection as valid and must use the real connection endpoints
    // and discard the protocol block including the family which is ignored".
    if command == Some(false) {
        return Ok(Some(Header { bytes, client: None }));
    }
    let client = match (family >> 4, family & 0xf) {
        // AF_INET and AF_INET6 over a stream: both addresses, both ports.
        (1, 1) => Some(IpAddr::from(*body.get(..12).and_then(|a| a.first_chunk::<4>()).ok_or(Malformed)?)),
        (2, 1) => Some(IpAddr::from(*body.get(..36).and_then(|a| a.first_chunk::<16>()).ok_or(Malformed)?)),
        // AF_UNIX: two paths of 108 bytes.
        (3, 1) if length >= 216 => None,
        // AF_UNSPEC: the proxy does not know the client.
        (0, 0) => None,
        _ => return Err(Malformed),
    };
    Ok(Some(Header { bytes, client }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    /// A body of v4 or v6 addresses, with `tail` behind them.
    fn body(addresses: &[&str], tail: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for text in addresses {
            match text.parse().expect("an address") {
                IpAddr::V4(v4) => body.extend(v4.octets()),
                IpAddr::V6(v6) => body.extend(v6.octets()),
            }
        }
        body.extend([0xdc, 0x04, 0x01, 0xbb]);
        body.extend(tail);
        body
    }

    fn good() -> Vec<(Vec<u8>, Option<IpAddr>)> {
        let long = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
        assert!(long.len() <= LINE_BYTES_MAX);
        let tlv = [0x04, 0x00, 0x02, 0xaa, 0xbb];
        vec![
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec(), address("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n".to_vec(), address("2001:db8::1")),
            (long.into_bytes(), address(&["ffff"; 8].join(":"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), None),
            (v2(1, 0x11, &body(&["198.51.100.7", "192.0.2.2"], &[])), address("198.51.100.7")),
            (v2(1, 0x11, &body(&["198.51.100.7", "192.0.2.2"], &tlv)), address("198.51.100.7")),
            (v2(1, 0x21, &body(&["2001:db8::7", "::1"], &tlv)), address("2001:db8::7")),
            (v2(1, 0x31, &[b'/'; 216]), None),
            (v2(1, 0x00, &[]), None),
            (v2(0, 0x11, &body(&["198.51.100.7", "192.0.2.2"], &[])), None),
            (v2(0, 0xff, &[1, 2, 3]), None),
            (v2(1, 0x11, &vec![9; HEADER_BYTES_MAX - FIXED_BYTES]), address("9.9.9.9")),
        ]
    }

    #[test]
    fn headers_are_read_whole_and_followed_by_the_clients_bytes() {
        for (bytes, client) in good() {
            let whole = Ok(Some(Header { bytes: bytes.len(), client }));
            assert_eq!(decode(&bytes), whole, "{bytes:?}");
            for tail in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"PROXY ", &SIGNATURE] {
                assert_eq!(decode(&[&bytes, tail].concat()), whole, "{bytes:?}");
            }
        }
    }

    #[test]
    fn header_in_pieces_is_complete_with_its_last_byte() {
        for (bytes, _) in good() {
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
            }
        }
    }

    #[test]
    fn invalid_header_is_refused_at_its_first_wrong_byte() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PUT",
            b"\x16\x03\x01",
            b"\r\n\r\n\0\r\nQUIX",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4\xff\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY\r\n",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
            &[SIGNATURE.as_slice(), &[0x11]].concat(),
            &[SIGNATURE.as_slice(), &[0x22]].concat(),
            &[SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat(),
            &v2(1, 0x11, &[1; 11]),
            &v2(1, 0x21, &[1; 35]),
            &v2(1, 0x31, &[1; 215]),
            &v2(1, 0x12, &[1; 12]),
            &v2(1, 0x41, &[1; 12]),
        ] {
            assert_eq!(decode(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
