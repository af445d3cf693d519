//! The server API over HTTP: `POST /api/<method>`, JSON in, `{"result":…}` or `{"error":{…}}` out; `/api/batch` for many
//! calls, and `/api` itself for the old style.
//!
//! The HTTP status is 200 also for errors of a call, as backends written for the dialect expect; in the transport mode
//! (header `X-Centrifugo-Error-Mode: transport`, or the setting) it follows the error's code and the body is the bare
//! error. What never became a call has a status of its own: 401 without the key, 404 for an unknown method and where
//! the API is disabled, 405, 413, 400 for what cannot be read. A router and extractors would cost more than the calls do, so that there are none.

use std::borrow::Cow;
use std::pin::Pin;

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method as Verb, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use super::dispatch::Calls;
use super::methods::{self, Batch, Method};
use super::response;
use super::settings::{API_BODY_BYTES_MAX, Settings};
use super::shard_api::{AskError, ShardApi};
use crate::protocol::ErrorCode;

/// Bytes of a body that is too long which are read and thrown away, so that whoever sends it sees the answer.
const DISCARDED_BYTES_MAX: usize = 4 * API_BODY_BYTES_MAX;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What follows `/api` in the path, or `None` where that is none of ours.
pub fn below(path: &str) -> Option<&str> {
    path.strip_prefix("/api").filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request whose path is `/api` with `below` behind it.
pub async fn respond<F: ShardApi>(
    calls: &Calls<F>,
    settings: &Settings,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if settings.disabled {
        // What backends meet elsewhere when the API is not there, with the reason for whoever reads it.
        return refused(StatusCode::NOT_FOUND, AskError::NotAvailable("http_api.disabled is set".into()));
    }
    let key = settings.key.as_deref();
    // Nobody learns which methods there are without the key.
    if !key.is_some_and(|key| brings_key(key, &head.headers, head.uri.query())) {
        let what = match key {
            None => "unauthorized: http_api.key is not set, so that no call is taken",
            Some(_) => "unauthorized",
        };
        let error = format!("{{\"error\":{{\"code\":101,\"message\":\"{what}\"}}}}");
        return json(StatusCode::UNAUTHORIZED, error.into_bytes());
    }
    let name = below(head.uri.path()).unwrap_or_default();
    if head.method != Verb::POST {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, bad("calls are made with POST"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(wanted) = Wanted::named(name) else {
        return refused(StatusCode::NOT_FOUND, ErrorCode::MethodNotFound.into());
    };
    match timeout(settings.request_timeout, read(body)).await.unwrap_or(Err(Unread::Late)) {
        Ok(body) => perform(calls, wanted, &body, bare_errors(settings, &head.headers)).await,
        Err(Unread::TooLong) => {
            let what = format!("the body is longer than {API_BODY_BYTES_MAX} bytes");
            refused(StatusCode::PAYLOAD_TOO_LARGE, AskError::BadRequest(what.into()))
        }
        Err(Unread::Late) => {
            let what = format!("the body took longer than {:?} (admin.request_timeout)", settings.request_timeout);
            refused(StatusCode::REQUEST_TIMEOUT, AskError::BadRequest(what.into()))
        }
        Err(Unread::Cut) => refused(StatusCode::BAD_REQUEST, bad("the body did not arrive whole")),
    }
}

/// What a path asks for.
enum Wanted {
    One(Method),
    Batch,
    OldStyle,
}

impl Wanted {
    fn named(below: &str) -> Option<Self> {
        match below {
            "" => Some(Self::OldStyle),
            "/batch" => Some(Self::Batch),
            _ => below.strip_prefix('/').and_then(Method::named).map(Self::One),
        }
    }
}

async fn perform<F: ShardApi>(
    calls: &Calls<F>,
    wanted: Wanted,
    body: &[u8],
    bare_errors: bool,
) -> Response<Full<Bytes>> {
    match wanted {
        Wanted::One(method) => {
            let call = match methods::call(method, body) {
                Ok(call) => call,
                Err(error) => return unreadable(&error),
            };
            let outcome = match call {
                Ok(call) => calls.call(&call).await,
                Err(error) => Err(error),
            };
            match &outcome {
                Err(error) if bare_errors => json(status(error), response::bare(error)),
                _ => json(StatusCode::OK, response::alone(&outcome)),
            }
        }
        Wanted::Batch => match Batch::read(body) {
            Ok(Batch { commands, parallel }) => {
                json(StatusCode::OK, response::batch(&Box::pin(calls.batch(&commands, parallel)).await))
            }
            Err(error) => unreadable(&error),
        },
        Wanted::OldStyle => match methods::old_style(body) {
            Ok(commands) => {
                let (ids, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
                let outcomes = Box::pin(calls.batch(&commands, false)).await;
                json(StatusCode::OK, response::lines(ids.into_iter().zip(&outcomes)))
            }
            Err(error) => unreadable(&error),
        },
    }
}

/// In constant time, so that the answer's delay does not tell how much of a guess was right.
fn brings_key(key: &str, headers: &HeaderMap, query: Option<&str>) -> bool {
    let right = |typed: &[u8]| bool::from(key.as_bytes().ct_eq(typed));
    let scheme = |value: &HeaderValue| {
        let (scheme, typed) = value.to_str().ok()?.split_once(' ')?;
        Some(scheme.eq_ignore_ascii_case("apikey") && right(typed.trim().as_bytes()))
    };
    headers.get("x-api-key").is_some_and(|value| right(value.as_bytes()))
        || headers.get(header::AUTHORIZATION).and_then(scheme).unwrap_or(false)
        || query.and_then(key_in).is_some_and(|typed| right(&typed))
}

fn key_in(query: &str) -> Option<Cow<'_, [u8]>> {
    let typed = query.split('&').find_map(|pair| pair.strip_prefix("api_key="))?;
    Some(match typed.contains('+') {
        true => percent_decode_str(&typed.replace('+', " ")).collect::<Vec<_>>().into(),
        false => percent_decode_str(typed).into(),
    })
}

fn bare_errors(settings: &Settings, headers: &HeaderMap) -> bool {
    settings.transport_errors || headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport")
}

enum Unread {
    TooLong,
    Late,
    Cut,
}

/// The body, which in nearly all cases is one piece that lies where it was read.
async fn read(mut body: Incoming) -> Result<Bytes, Unread> {
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    let mut length = 0;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(piece) = frame.map_err(|_| Unread::Cut)?.into_data() else { continue };
        length += piece.len();
        if length > DISCARDED_BYTES_MAX {
            break;
        }
        match length == piece.len() {
            true => first = piece,
            false if length <= API_BODY_BYTES_MAX => {
                if whole.is_empty() {
                    whole.extend_from_slice(&std::mem::take(&mut first));
                }
                whole.extend_from_slice(&piece);
            }
            false => {}
        }
    }
    match length > API_BODY_BYTES_MAX {
        true => Err(Unread::TooLong),
        false if whole.is_empty() => Ok(first),
        false => Ok(whole.into()),
    }
}

fn bad(what: &'static str) -> AskError {
    AskError::BadRequest(what.into())
}

fn unreadable(error: &serde_json::Error) -> Response<Full<Bytes>> {
    let what = if error.is_data() { format!("{error}") } else { format!("not JSON: {error}") };
    refused(StatusCode::BAD_REQUEST, AskError::BadRequest(what.into()))
}

fn refused(status: StatusCode, error: AskError) -> Response<Full<Bytes>> {
    json(status, response::alone(&Err(error)))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn status(error: &AskError) -> StatusCode {
    match error.code() {
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => StatusCode::NOT_FOUND,
        ErrorCode::BadRequest | ErrorCode::NotAvailable => StatusCode::BAD_REQUEST,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::ConcurrentPagination => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
