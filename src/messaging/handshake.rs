//! The upgrade request of a client: which endpoint and encoding it gets, or why it is rejected.

use super::mail::Mail;
use super::pending::HandshakeData;
use super::session::Phase;
use super::state::Messaging;
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

/// `Route::Upgrade::route` is the index of an encoding, with these bits.
const FRAME_PINGS: u8 = 0x10;
const ECHO: u8 = 0x20;

pub(crate) fn route(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    match request.path {
        PATH => route_client(state, cx, request),
        UNI_PATH if state.settings.uni_websocket.enabled => route_uni_client(state, cx, request),
        ECHO_PATH if state.settings.echo => Route::Upgrade { protocol: None, route: ECHO },
        "/health" => {
            let status = if state.is_ready { 200 } else { 503 };
            Route::Respond { status, content_type: "application/json", body: b"{}" }
        }
        path => not_found(path),
    }
}

/// A method other than GET and HEAD.
pub(crate) fn other_method(request: &Request<'_>) -> Route {
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

/// What a route means: the encoding, the first phase, and whether pings are frames.
pub(crate) fn session_of(route: u8) -> (Encoding, Phase, bool) {
    let encoding = Encoding::from_index(route & !(FRAME_PINGS | ECHO)).unwrap_or(Encoding::Json);
    let phase = if route & ECHO == 0 { Phase::New } else { Phase::Echo };
    (encoding, phase, route & FRAME_PINGS != 0)
}

/// Checks the origin and the connection limits. Keeps what the connect command needs of the request.
fn admit(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Result<(), Route> {
    let settings = &state.settings;
    if !settings.origins.allows(request.origin) {
        let words = "this origin is not among client.allowed_origins";
        return Err(Route::Refuse(Refusal::ForeignOrigin(words)));
    }
    if let Err(bound) = settings.connection_counts.admit(&settings.client) {
        cx.reached_now(bound);
        return Err(Route::Refuse(match bound {
            Bound::ConnectionRate => Refusal::TooManyNow { retry_after_s: 1 },
            _ => Refusal::Unavailable { retry_after_s: 1 },
        }));
    }
    state.pending.handshake = HandshakeData { headers: settings.keep_headers(request), connect: None };
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
    Route::Upgrade { protocol: None, route: Encoding::UniJson.index() }
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
    let route = encoding.index() | if frame_pings { FRAME_PINGS } else { 0 };
    Route::Upgrade { protocol: chosen, route }
}

/// The value of a query parameter, still encoded.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Decodes percent-encoding (RFC 3986, section 2.1), and `+` as in HTML forms.
fn decoded(value: &str) -> Box<[u8]> {
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
        let pings = Encoding::Protobuf.index() | FRAME_PINGS;
        assert_eq!(session_of(pings), (Encoding::Protobuf, Phase::New, true));
        assert_eq!(session_of(ECHO), (Encoding::Json, Phase::Echo, false));
    }
}
