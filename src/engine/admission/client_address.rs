//! The client's address as proxies name it in `X-Forwarded-For`.

use std::net::IpAddr;

/// The client that a chain of proxies names. Each proxy appends the address that it was connected from, so the right-most
/// address that is not trusted is the client, and what is left of it is only the client's claim. None if the chain is empty
/// or its right end is no address.
pub fn client_of<'a>(fields: impl Iterator<Item = &'a [u8]>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let fields: Vec<&[u8]> = fields.collect();
    let mut farthest = None;
    for element in fields.iter().rev().flat_map(|field| field.rsplit(|byte| *byte == b',')) {
        let Some(address) = std::str::from_utf8(element).ok().and_then(|text| address(text.trim())) else { break };
        farthest = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    farthest
}

/// An address as proxies write it, some with a port or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    Some(bare.parse().ok().or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(fields: &[&str]) -> Option<String> {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client_of(fields.iter().map(|field| field.as_bytes()), trusted).map(|address| address.to_string())
    }

    #[test]
    fn right_most_address_that_is_not_trusted_is_the_client() {
        for (fields, expected) in [
            (&["203.0.113.9"][..], Some("203.0.113.9")),
            (&["6.6.6.6, 203.0.113.9"], Some("203.0.113.9")),
            (&["6.6.6.6, 203.0.113.9, 10.0.0.1,10.0.0.2"], Some("203.0.113.9")),
            (&["6.6.6.6", "203.0.113.9, 10.0.0.1"], Some("203.0.113.9")),
            (&["10.0.0.3, 10.0.0.1"], Some("10.0.0.3")),
            (&["nonsense, 10.0.0.1"], Some("10.0.0.1")),
            (&["203.0.113.9, unknown"], None),
            (&["203.0.113.9:4711"], Some("203.0.113.9")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:203.0.113.9"], Some("203.0.113.9")),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(client(fields).as_deref(), expected, "{fields:?}");
        }
    }
}
