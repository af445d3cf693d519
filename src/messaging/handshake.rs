//! The upgrade request of a client: which endpoint and encoding it gets, or why it is rejected.

use super::mail::Mail;
use super::pending::HandshakeData;
use super::session::{Phase, Transport};
use super::state::Messaging;
use super::streams;
use crate::engine::stats::Bound;
use crate::engine::{Context, Route};
use crate::protocol::Encoding;
use crate::ws::{Refusal, Request};

/// The endpoint of the bidirectional protocol.
pub const PATH: &str = "/connection/websocket";
/// The endpoint of the unidirectional protocol.
pub const UNI_PATH: &str = "/connection/uni_websocket";
/// The endpoint that sends messages back, for measuring networks and hosts.
pub const ECHO_PATH: &str = "/echo";

/// A route is the index of an encoding in the low bits, that of a transport above them, or this.
const ECHO: u8 = 0x80;
const TRANSPORT_SHIFT: u32 = 4;

pub(crate) fn route(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    match request.path {
        PATH => route_client(state, cx, request),
        UNI_PATH if state.settings.uni_websocket.enabled => route_uni_client(state, cx, request),
        ECHO_PATH if state.settings.echo => Route::Upgrade { protocol: None, route: ECHO },
        "/health" => {
            let status = if state.is_ready { 200 } else { 503 };
            Route::Respond { status, content_type: "application/json", body: b"{}" }
        }
        path => streams::route(state, cx, request).unwrap_or_else(|| not_found(path)),
    }
}

/// A method other than GET and HEAD.
pub(crate) fn other_method(state: &Messaging, request: &Request<'_>) -> Route {
    if let Some(route) = streams::other_method(state, request) {
        return route;
    }
    if is_admin_path(request.path) { not_found(request.path) } else { Route::Refuse(Refusal::MethodNotAllowed) }
}

fn not_found(path: &str) -> Route {
    if is_admin_path(path) {
        let words = "this is the address of clients; the server API and the metrics are served at admin.address";
        return Route::Refuse(Refusal::WrongAddress(words));
    }
    Route::Refuse(Refusal::NotFound)
}

/// A path that Centrifugo serves at the same address.
fn is_admin_path(path: &str) -> bool {
    path == "/metrics" || path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

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

fn route_uni_client(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    if let Err(rejected) = admit(state, cx, request) {
        return rejected;
    }
    let connect = query(request.query, "cf_connect").map(decoded);
    if connect.as_deref().is_some_and(|bytes| Encoding::connect_request(bytes).is_err()) {
        return Route::Refuse(Refusal::BadRequest("cf_connect is no connect request"));
    }
    state.pending.handshake.connect = connect;
    Route::Upgrade { protocol: None, route: route_of(Encoding::UniJson, Transport::UniWebSocket) }
}

fn route_client(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    if let Err(rejected) = admit(state, cx, request) {
        return rejected;
    }
    // As with Centrifugo, the subprotocol or the URL may ask for Protobuf. Other subprotocols are left out of the response
    // (RFC 6455, section 4.2.2); the client decides what that means to it.
    const PROTOBUF: &str = "centrifuge-protobuf";
    let mut offered = request.upgrade.iter().flat_map(|upgrade| upgrade.protocols());
    let chosen = offered.find_map(|name| ["centrifuge-json", PROTOBUF].into_iter().find(|known| *known == name));
    let in_url = |name| query(request.query, name).is_some_and(|value| *decoded(value) == *b"protobuf");
    let is_protobuf = chosen == Some(PROTOBUF) || in_url("cf_protocol") || in_url("format");
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    let frame_pings = query(request.query, "cf_ws_frame_ping_pong") == Some("true");
    let transport = if frame_pings { Transport::WebSocketFramePings } else { Transport::WebSocket };
    Route::Upgrade { protocol: chosen, route: route_of(encoding, transport) }
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
