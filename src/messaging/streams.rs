//! The endpoints over plain HTTP: streams in both forms, uni- and bidirectional, emulation requests, and connection init.
//!
//! A request from a page of a foreign origin is refused with 403 on all of them, also where it would change nothing that the
//! page could read. Others get the header fields that let their page read the response.

use std::fmt::Write;

use super::emulation;
use super::mail::Mail;
use super::pending::HeldHead;
use super::request_checks::{admit, check_origin, decoded, query, route_of};
use super::session::Transport;
use super::settings::Settings;
use super::state::Messaging;
use crate::engine::{Context, Response, Route, Stream, StreamForm, StreamFraming};
use crate::ids::ConnId;
use crate::protocol::Encoding;
use crate::ws::{Method, Refusal, Request};

/// How long browsers may keep the answer to a preflight request.
const PREFLIGHT_AGE_S: u32 = 300;

/// What is served at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Endpoint {
    Stream(Transport),
    Emulation,
    Init,
}

impl Endpoint {
    fn of(settings: &Settings, path: &str) -> Option<Self> {
        let Settings { http_stream, sse, emulation, uni_http_stream, uni_sse, init, .. } = settings;
        let served = [
            (http_stream.enabled, &http_stream.handler_prefix, Self::Stream(Transport::HttpStream)),
            (sse.enabled, &sse.handler_prefix, Self::Stream(Transport::Sse)),
            (sse.enabled || http_stream.enabled, &emulation.handler_prefix, Self::Emulation),
            (uni_http_stream.enabled, &uni_http_stream.handler_prefix, Self::Stream(Transport::UniHttpStream)),
            (uni_sse.enabled, &uni_sse.handler_prefix, Self::Stream(Transport::UniSse)),
            (init.enabled, &init.handler_prefix, Self::Init),
        ];
        served.into_iter().find(|(enabled, at, _)| *enabled && *at == path).map(|(.., endpoint)| endpoint)
    }

    /// For the Allow field.
    fn methods(self) -> &'static str {
        match self {
            Self::Stream(Transport::Sse | Transport::UniSse) => "GET, POST",
            Self::Init => "GET",
            _ => "POST, OPTIONS",
        }
    }

    fn serves(self, method: Method) -> bool {
        match method {
            Method::Get => self.methods().starts_with("GET"),
            Method::Post => self.methods().contains("POST"),
            Method::Options => self.methods().ends_with("OPTIONS"),
            Method::Head | Method::Other => false,
        }
    }

    fn body_bytes_max(self, settings: &Settings) -> usize {
        match self {
            Self::Stream(Transport::HttpStream) => settings.http_stream.max_request_body_size,
            Self::Stream(Transport::Sse) => settings.sse.max_request_body_size,
            Self::Stream(Transport::UniHttpStream) => settings.uni_http_stream.max_request_body_size,
            Self::Stream(_) => settings.uni_sse.max_request_body_size,
            Self::Emulation => settings.emulation.max_request_body_size,
            Self::Init => 0,
        }
    }
}

/// GET and HEAD. `None`: the path is not one of these.
pub(super) fn route(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Option<Route> {
    let endpoint = Endpoint::of(&state.settings, request.path)?;
    if !endpoint.serves(request.method) {
        return Some(Route::Refuse(Refusal::OtherMethods(endpoint.methods())));
    }
    let Endpoint::Stream(transport) = endpoint else {
        let answer = Response { content_type: "application/json", ..Response::text(200, cors(request), "{}") };
        return Some(check_origin(state, request).map_or_else(|refused| refused, |()| Route::Answer(answer)));
    };
    let connect = query(request.query, "cf_connect").filter(|text| !text.is_empty()).map(decoded);
    Some(match (connect, transport) {
        (Some(connect), _) => open(state, cx, request, transport, &connect),
        // A unidirectional client may connect without a connect request.
        (None, Transport::UniSse) => open(state, cx, request, transport, b"null"),
        (None, _) => Route::Refuse(Refusal::BadRequest("cf_connect, the connect command, is missing in the URL")),
    })
}

/// The other methods.
pub(super) fn other_method(state: &Messaging, request: &Request<'_>) -> Option<Route> {
    let endpoint = Endpoint::of(&state.settings, request.path)?;
    if !endpoint.serves(request.method) {
        return Some(Route::Refuse(Refusal::OtherMethods(endpoint.methods())));
    }
    if let Err(refused) = check_origin(state, request) {
        return Some(refused);
    }
    if request.method == Method::Options {
        let mut fields = cors(request);
        _ = write!(
            fields,
            "Access-Control-Max-Age: {PREFLIGHT_AGE_S}\r\nAccess-Control-Allow-Methods: POST, OPTIONS\r\n"
        );
        return Some(Route::Answer(Response::empty(204, fields)));
    }
    Some(Route::ReadBody { bytes_max: endpoint.body_bytes_max(&state.settings) })
}

/// A POST whose body is whole.
pub(super) fn with_body(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    request: &Request<'_>,
    body: &[u8],
) -> Route {
    match Endpoint::of(&state.settings, request.path) {
        Some(Endpoint::Stream(transport)) => open(state, cx, request, transport, body),
        Some(Endpoint::Emulation) => emulation::request(state, cx, conn, (is_protobuf(request), body), cors(request)),
        _ => Route::Refuse(Refusal::NotFound),
    }
}

fn is_protobuf(request: &Request<'_>) -> bool {
    request.values("content-type").any(|value| value.eq_ignore_ascii_case(b"application/octet-stream"))
}

/// The fields that let the page of the request read the response. The origin was checked before.
fn cors(request: &Request<'_>) -> String {
    let mut fields = String::new();
    if let Some(origin) = request.origin {
        _ = write!(
            fields,
            "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
        );
        let asked = request.values("access-control-request-headers").next();
        if let Some(asked) = asked.and_then(|asked| std::str::from_utf8(asked).ok()).filter(|asked| !asked.is_empty()) {
            _ = write!(fields, "Access-Control-Allow-Headers: {asked}\r\n");
        }
    }
    fields
}

/// Opens a stream whose first message is the connect command, or the connect request of a unidirectional client.
fn open(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    request: &Request<'_>,
    transport: Transport,
    connect: &[u8],
) -> Route {
    let is_uni = matches!(transport, Transport::UniHttpStream | Transport::UniSse);
    if is_uni && Encoding::connect_request(connect).is_err() {
        return Route::Refuse(Refusal::BadRequest("it is not a connect request in JSON"));
    }
    if let Err(refused) = admit(state, cx, request) {
        return refused;
    }
    let is_binary = transport == Transport::HttpStream && is_protobuf(request);
    let (encoding, form, content_type) = match transport {
        Transport::Sse => (Encoding::Json, StreamForm::Events, "text/event-stream; charset=utf-8"),
        Transport::UniSse => (Encoding::UniJson, StreamForm::Events, "text/event-stream; charset=utf-8"),
        Transport::UniHttpStream => (Encoding::UniJson, StreamForm::Lines, "text/plain; charset=utf-8"),
        _ if is_binary => (Encoding::Protobuf, StreamForm::Delimited, "application/octet-stream"),
        _ => (Encoding::Json, StreamForm::Lines, "text/plain; charset=utf-8"),
    };
    let framing = StreamFraming { form, chunked: request.is_http_1_1 };
    let mut head = Vec::with_capacity(512);
    framing.write_head(&mut head, content_type, &cors(request));
    if form == StreamForm::Events {
        // The first byte opens an EventSource.
        framing.write_raw(&mut head, b"\r\n");
    }
    let waits = is_uni && state.settings.response_codes(transport).enabled;
    if waits {
        let head = std::mem::take(&mut head);
        state.pending.handshake.held_head = Some(Box::new(HeldHead { head, fields: cors(request) }));
    }
    Route::Stream(Box::new(Stream { framing, route: route_of(encoding, transport), head, message: connect.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_serve_their_methods_alone() {
        let all = [Method::Get, Method::Post, Method::Options, Method::Head, Method::Other];
        let served = |endpoint: Endpoint| all.map(|method| endpoint.serves(method));
        assert_eq!(served(Endpoint::Stream(Transport::HttpStream)), [false, true, true, false, false]);
        assert_eq!(served(Endpoint::Stream(Transport::UniSse)), [true, true, false, false, false]);
        assert_eq!(served(Endpoint::Emulation), [false, true, true, false, false]);
        assert_eq!(served(Endpoint::Init), [true, false, false, false, false]);
    }
}
