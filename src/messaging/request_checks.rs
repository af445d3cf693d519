//! What the requests of all client endpoints have in common: the origin, the connection limits, the query, and the route that
//! the engine hands back when the connection opens.

use super::mail::Mail;
use super::pending::HandshakeData;
use super::session::{Phase, Transport};
use super::state::Messaging;
use crate::engine::stats::Bound;
use crate::engine::{Context, Route};
use crate::protocol::Encoding;
use crate::ws::{Refusal, Request};

/// A route is the index of an encoding in the low bits, that of a transport above them, or this.
pub(super) const ECHO: u8 = 0x80;
const TRANSPORT_SHIFT: u32 = 4;

/// The route of an encoding and a transport.
pub(super) fn route_of(encoding: Encoding, transport: Transport) -> u8 {
    encoding.index() | (transport as u8) << TRANSPORT_SHIFT
}

/// What a route means: the encoding, the first phase, and the transport.
pub(crate) fn session_of(route: u8) -> (Encoding, Phase, Transport) {
    if route == ECHO {
        return (Encoding::Json, Phase::Echo, Transport::WebSocket);
    }
    let encoding = Encoding::from_index(route & ((1 << TRANSPORT_SHIFT) - 1)).unwrap_or(Encoding::Json);
    (encoding, Phase::New, Transport::from_index(route >> TRANSPORT_SHIFT))
}

pub(super) fn check_origin(state: &Messaging, request: &Request<'_>) -> Result<(), Route> {
    match state.settings.origins.allows(request.origin) {
        true => Ok(()),
        false => Err(Route::Refuse(Refusal::ForeignOrigin("this origin is not among client.allowed_origins"))),
    }
}

/// Checks the origin and the connection limits. Keeps what the connect command needs of the request.
pub(super) fn admit(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Result<(), Route> {
    check_origin(state, request)?;
    let settings = &state.settings;
    if let Err(bound) = settings.connection_counts.admit(&settings.client) {
        cx.reached_now(bound);
        return Err(Route::Refuse(match bound {
            Bound::ConnectionRate => Refusal::TooManyNow { retry_after_s: 1 },
            _ => Refusal::Unavailable { retry_after_s: 1 },
        }));
    }
    state.pending.handshake = HandshakeData { headers: settings.keep_headers(request), connect: None, held_head: None };
    Ok(())
}

/// The value of a query parameter, still encoded.
pub(super) fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Decodes percent-encoding (RFC 3986, section 2.1), and `+` as in HTML forms.
pub(super) fn decoded(value: &str) -> Box<[u8]> {
    let value: Vec<u8> = value.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_encoding::percent_decode(&value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameter_is_found_by_its_whole_name() {
        assert_eq!(query("a=1&cf_protocol=protobuf", "cf_protocol"), Some("protobuf"));
        assert_eq!(query("xcf_protocol=protobuf", "cf_protocol"), None);
        assert_eq!(query("", "a"), None);
    }

    #[test]
    fn connect_request_in_the_url_is_decoded() {
        assert_eq!(&*decoded("%7B%22token%22:+%22a%22%7D"), br#"{"token": "a"}"#);
    }

    #[test]
    fn route_carries_encoding_pings_and_endpoint() {
        for transport in (0..7).map(Transport::from_index) {
            let route = route_of(Encoding::Protobuf, transport);
            assert_eq!(session_of(route), (Encoding::Protobuf, Phase::New, transport));
        }
        assert_eq!(session_of(ECHO).1, Phase::Echo);
    }
}
