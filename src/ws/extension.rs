//! Negotiates permessage-deflate (RFC 7692, section 7.1): takes the first of the client's offers that the operator's settings
//! allow. An offer with a malformed, repeated or unknown parameter is declined, as section 5.1 requires.

/// Base-2 logarithms of the windows that the server compresses with. They are few, so that a publication is compressed few
/// times: a client that asks for another window gets the next smaller one, which it can always read.
pub const WINDOWS: [u8; 3] = [15, 12, 9];
/// The range of both `max_window_bits` parameters (section 7.1.2).
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;
const NAME: &str = "permessage-deflate";

/// What the operator allows.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The server's messages may refer to those before them, unless the client declines it.
    pub server_takeover: bool,
    /// The client's messages may.
    pub client_takeover: bool,
    /// `9..=15`: the largest window, in each direction in which the server chooses.
    pub window_bits: u8,
}

/// The negotiated parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// Index into `WINDOWS`: the server's window.
    pub window: u8,
    pub server_takeover: bool,
    pub client_takeover: bool,
    /// The window of the client's compressor, which the server needs for inflating.
    pub client_window_bits: u8,
    tell_server_bits: bool,
    tell_client_bits: bool,
}

/// The parameters of one offer.
#[derive(Default)]
struct Offer {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    /// The outer option: the parameter is present. The inner: it has a value.
    client_bits: Option<Option<u8>>,
}

/// Takes the first acceptable offer of all `Sec-WebSocket-Extensions` fields, in their order.
pub fn agree<'a>(values: impl Iterator<Item = &'a [u8]>, allowed: &Allowed) -> Option<Agreed> {
    values
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| split(value, b','))
        .find_map(|offer| accept(&Offer::parse(offer)?, allowed))
}

fn accept(offer: &Offer, allowed: &Allowed) -> Option<Agreed> {
    let bits = offer.server_bits.unwrap_or(15).min(allowed.window_bits);
    // None for 8: the compressor has no window of 256 bytes.
    let window = WINDOWS.iter().position(|&window| window <= bits)?;
    let client_bits = offer.client_bits.map(|bits| bits.unwrap_or(15).min(allowed.window_bits));
    Some(Agreed {
        window: window as u8,
        server_takeover: allowed.server_takeover && !offer.server_no_takeover,
        client_takeover: allowed.client_takeover && !offer.client_no_takeover,
        client_window_bits: client_bits.unwrap_or(15),
        tell_server_bits: offer.server_bits.is_some() || WINDOWS[window] < 15,
        tell_client_bits: client_bits.is_some_and(|bits| bits < 15),
    })
}

impl Offer {
    fn parse(offer: &str) -> Option<Self> {
        let mut parts = split(offer, b';');
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut parsed = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_ascii(), Some(unquoted(value.trim_ascii())?)),
                None => (part, None),
            };
            parsed.take(&name.to_ascii_lowercase(), value)?;
        }
        Some(parsed)
    }

    fn take(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        let once = |seen: bool| (!seen).then_some(());
        match (name, value) {
            ("server_no_context_takeover", None) => once(std::mem::replace(&mut self.server_no_takeover, true)),
            ("client_no_context_takeover", None) => once(std::mem::replace(&mut self.client_no_takeover, true)),
            ("server_max_window_bits", Some(value)) => once(self.server_bits.replace(window_bits(value)?).is_some()),
            ("client_max_window_bits", value) => {
                let bits = value.map_or(Some(None), |value| window_bits(value).map(Some))?;
                once(self.client_bits.replace(bits).is_some())
            }
            _ => None,
        }
    }
}

/// Section 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15".
fn window_bits(value: &str) -> Option<u8> {
    let plain = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|bits| plain && WINDOW_BITS.contains(bits))
}

/// A token, or the content of a quoted string. No parameter of this extension needs an escape.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// The elements between separators outside of quotes.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut rest, mut done) = (text, false);
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.bytes().position(|byte| {
            let ends = byte == separator && !quoted;
            quoted ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && quoted && !escaped;
            ends
        });
        let (element, left) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 1..]));
        (rest, done) = (left, end.is_none());
        Some(element.trim_ascii())
    })
}

impl Agreed {
    /// Appends the value of the server's `Sec-WebSocket-Extensions`. A missing parameter means context takeover, so declining
    /// it is written out.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME.as_bytes());
        if !self.server_takeover {
            out.extend_from_slice(b"; server_no_context_takeover");
        }
        // Section 7.1.1.2: a server may require this without an offer, and the client must comply.
        if !self.client_takeover {
            out.extend_from_slice(b"; client_no_context_takeover");
        }
        if self.tell_server_bits {
            let bits = WINDOWS[usize::from(self.window)];
            out.extend_from_slice(format!("; server_max_window_bits={bits}").as_bytes());
        }
        if self.tell_client_bits {
            out.extend_from_slice(format!("; client_max_window_bits={}", self.client_window_bits).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Allowed = Allowed { server_takeover: false, client_takeover: false, window_bits: 15 };
    const ALL: Allowed = Allowed { server_takeover: true, client_takeover: true, window_bits: 15 };

    fn answer(offers: &[&str], allowed: &Allowed) -> Option<String> {
        let agreed = agree(offers.iter().map(|offer| offer.as_bytes()), allowed)?;
        let mut out = Vec::new();
        agreed.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn extension_offers_are_answered_as_the_rfc_says() {
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (offer, without, with) in [
            ("permessage-deflate", both.to_owned(), "permessage-deflate".to_owned()),
            ("Permessage-Deflate ; client_max_window_bits", both.into(), "permessage-deflate".into()),
            // Section 7.1.2.1 and 7.1.3, the examples.
            (
                "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
                format!("{both}; server_max_window_bits=9"),
                "permessage-deflate; server_max_window_bits=9".into(),
            ),
            (
                "permessage-deflate; server_max_window_bits=\"12\"",
                format!("{both}; server_max_window_bits=12"),
                "permessage-deflate; server_max_window_bits=12".into(),
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                both.into(),
                "permessage-deflate; server_no_context_takeover".into(),
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                both.into(),
                "permessage-deflate; client_no_context_takeover".into(),
            ),
            // In order of preference: offers that cannot be accepted are skipped.
            (
                "permessage-bzip2, permessage-deflate; server_max_window_bits=8, permessage-deflate",
                both.into(),
                "permessage-deflate".into(),
            ),
        ] {
            assert_eq!(answer(&[offer], &NONE), Some(without), "{offer}");
            assert_eq!(answer(&[offer], &ALL), Some(with), "{offer}");
        }
        assert_eq!(answer(&["x-other", "permessage-deflate"], &ALL).as_deref(), Some("permessage-deflate"));
        let small = Allowed { window_bits: 10, ..ALL };
        let offer = "permessage-deflate; client_max_window_bits=9";
        let expected = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9";
        assert_eq!(answer(&[offer], &small).as_deref(), Some(expected));
    }

    #[test]
    fn extension_offers_that_are_malformed_repeated_or_unknown_are_declined() {
        for offer in [
            "",
            ",;=",
            "permessage-deflate; x",
            "permessage-deflate;",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=\"9, permessage-deflate\"",
            "permessage-deflate; server_max_window_bits=8",
        ] {
            assert_eq!(answer(&[offer], &ALL), None, "{offer}");
        }
    }

    #[test]
    fn extension_negotiation_never_panics() {
        let mut random = fastrand::Rng::with_seed(7);
        let alphabet: Vec<char> = "permsag-dflt;=,\"\\ 0189client_max_window_bits".chars().collect();
        for _ in 0..2_000 {
            let text: String = (0..random.usize(..80)).map(|_| *random.choice(&alphabet).unwrap()).collect();
            let _ = agree([text.as_bytes()].into_iter(), &ALL);
        }
    }
}
