//! The server API over HTTP: `POST /api/<method>` takes JSON and returns `{"result":…}` or `{"error":{…}}`; `/api/batch`
//! takes many calls, and `/api` itself the old style.
//!
//! The HTTP status is 200 for errors of a call too, as clients written for the protocol expect. In transport mode (header
//! `X-Centrifugo-Error-Mode: transport`, or the setting) it follows the error's code, and the body is the error without a
//! wrapper. A request that never became a call has a status of its own: 401 without the key, 404 for an unknown method or
//! when the API is disabled, 405, 413, and 400 for a body that cannot be read. There is no router and no extractor: they
//! would cost more than a call.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::Pin;

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use super::dispatch::{BatchOrder, Dispatcher};
use super::json_request::{self, Batch};
use super::request::{ApiRequest, Method};
use super::response;
use super::settings::{API_BODY_BYTES_MAX, Settings};
use super::shard_api::{ApiError, ApiResult, ShardApi};
use super::unauthorized::Api;
use super::unknown_fields::UnknownFields;
use crate::protocol::ErrorCode;

/// Bytes of a body past `API_BODY_BYTES_MAX` that are read and dropped, so that the sender gets to read the response.
const DISCARDED_BYTES_MAX: usize = 4 * API_BODY_BYTES_MAX;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The part of a path behind `/api`; `None` if the path is not one of the API.
pub(crate) fn api_path(path: &str) -> Option<&str> {
    path.strip_prefix("/api").filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request whose path `api_path` accepts.
pub(crate) async fn respond<S: ShardApi>(
    dispatcher: &Dispatcher<S>,
    settings: &Settings,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if settings.disabled {
        // The status that clients get from a server without the API, with the reason for the reader.
        return reject(StatusCode::NOT_FOUND, ApiError::NotAvailable("http_api.disabled is set".into()));
    }
    // Before the method is looked at: without the key, a client does not learn which methods exist.
    if let Err(message) = check_key(settings.key.as_deref(), &head.headers, head.uri.query()) {
        settings.unauthorized.record(Api::Http, peer);
        let error = format!("{{\"error\":{{\"code\":101,\"message\":\"{message}\"}}}}");
        return json(StatusCode::UNAUTHORIZED, error.into_bytes());
    }
    if head.method != hyper::Method::POST {
        let mut response = reject(StatusCode::METHOD_NOT_ALLOWED, bad_request("use POST for calls"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(endpoint) = Endpoint::from_path(api_path(head.uri.path()).unwrap_or_default()) else {
        return reject(StatusCode::NOT_FOUND, ErrorCode::MethodNotFound.into());
    };
    match timeout(settings.request_timeout, read_body(body)).await.unwrap_or(Err(BodyError::Late)) {
        Ok(body) => {
            let asked = head.headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
            let error_form = if settings.transport_errors || asked { ErrorForm::Status } else { ErrorForm::Reply };
            let unknown_fields = match settings.rejects_unknown_fields {
                true => UnknownFields::Reject,
                false => UnknownFields::Log(&dispatcher.unknown_fields),
            };
            execute(dispatcher, endpoint, Content { body: &body, unknown_fields }, error_form).await
        }
        Err(BodyError::TooLong) => {
            let what = format!("the body is longer than {API_BODY_BYTES_MAX} bytes");
            reject(StatusCode::PAYLOAD_TOO_LARGE, ApiError::BadRequest(what.into()))
        }
        Err(BodyError::Late) => {
            let what = format!("the body took longer than {:?} (admin.request_timeout)", settings.request_timeout);
            reject(StatusCode::REQUEST_TIMEOUT, ApiError::BadRequest(what.into()))
        }
        Err(BodyError::Cut) => reject(StatusCode::BAD_REQUEST, bad_request("the connection ended within the body")),
    }
}

/// What a path asks for.
enum Endpoint {
    One(Method),
    Batch,
    OldStyle,
}

impl Endpoint {
    fn from_path(below_api: &str) -> Option<Self> {
        match below_api {
            "" => Some(Self::OldStyle),
            "/batch" => Some(Self::Batch),
            _ => below_api.strip_prefix('/').and_then(Method::from_name).map(Self::One),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ErrorForm {
    Reply,
    Status,
}

/// A body, and how it is read.
struct Content<'a> {
    body: &'a [u8],
    unknown_fields: UnknownFields<'a>,
}

async fn execute<S: ShardApi>(
    dispatcher: &Dispatcher<S>,
    endpoint: Endpoint,
    Content { body, unknown_fields }: Content<'_>,
    error_form: ErrorForm,
) -> Response<Full<Bytes>> {
    match endpoint {
        Endpoint::One(method) => {
            let result = match json_request::read_request(method, body, unknown_fields) {
                Ok(Ok(request)) => dispatcher.call(&request).await,
                Ok(Err(error)) => Err(error),
                Err(error) => return reject_json(&error),
            };
            match &result {
                Err(error) if error_form == ErrorForm::Status => json(status(error), response::encode_bare(error)),
                _ => json(StatusCode::OK, response::encode(&result)),
            }
        }
        Endpoint::Batch => match Batch::read(body, unknown_fields) {
            Ok(Ok(Batch { commands, parallel })) => {
                let order = BatchOrder::from_parallel(parallel);
                let results = Box::pin(dispatcher.batch(&commands, order)).await;
                json(StatusCode::OK, response::encode_batch(commands.iter().map(method_name).zip(&results)))
            }
            Ok(Err(error)) => reject(StatusCode::BAD_REQUEST, error),
            Err(error) => reject_json(&error),
        },
        Endpoint::OldStyle => match json_request::read_old_style(body, unknown_fields) {
            Ok(commands) => {
                let (ids, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
                let results = Box::pin(dispatcher.batch(&commands, BatchOrder::Sequential)).await;
                json(StatusCode::OK, response::encode_lines(ids.into_iter().zip(&results)))
            }
            Err(error) => reject_json(&error),
        },
    }
}

/// The name of a command's reply. A command that could not be read has an error for its reply, which needs no name.
fn method_name(command: &ApiResult<ApiRequest<'_>>) -> &'static str {
    command.as_ref().map_or("error", |request| request.method().name())
}

/// Errors: the message for the client.
fn check_key(key: Option<&str>, headers: &HeaderMap, query: Option<&str>) -> Result<(), &'static str> {
    let Some(key) = key else { return Err("unauthorized: http_api.key is not set, so that every call is rejected") };
    // In constant time, so that the delay of the response does not tell how much of a guess was right.
    let is_key = |sent: &[u8]| bool::from(key.as_bytes().ct_eq(sent));
    let authorization = |value: &HeaderValue| {
        let (scheme, sent) = value.to_str().ok()?.split_once(' ')?;
        Some(scheme.eq_ignore_ascii_case("apikey") && is_key(sent.trim().as_bytes()))
    };
    let is_authorized = headers.get("x-api-key").is_some_and(|value| is_key(value.as_bytes()))
        || headers.get(header::AUTHORIZATION).and_then(authorization).unwrap_or(false)
        || query.and_then(key_in_query).is_some_and(|sent| is_key(&sent));
    if is_authorized { Ok(()) } else { Err("unauthorized") }
}

fn key_in_query(query: &str) -> Option<Cow<'_, [u8]>> {
    let encoded = query.split('&').find_map(|pair| pair.strip_prefix("api_key="))?;
    Some(match encoded.contains('+') {
        true => percent_decode_str(&encoded.replace('+', " ")).collect::<Vec<_>>().into(),
        false => percent_decode_str(encoded).into(),
    })
}

enum BodyError {
    TooLong,
    Late,
    Cut,
}

/// Reads the body. Nearly every body is one piece, which is not copied.
async fn read_body(mut body: Incoming) -> Result<Bytes, BodyError> {
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    let mut length = 0;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(piece) = frame.map_err(|_| BodyError::Cut)?.into_data() else { continue };
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
        true => Err(BodyError::TooLong),
        false if whole.is_empty() => Ok(first),
        false => Ok(whole.into()),
    }
}

fn bad_request(what: &'static str) -> ApiError {
    ApiError::BadRequest(what.into())
}

fn reject_json(error: &serde_json::Error) -> Response<Full<Bytes>> {
    let what = if error.is_data() { format!("{error}") } else { format!("the body is not JSON: {error}") };
    reject(StatusCode::BAD_REQUEST, ApiError::BadRequest(what.into()))
}

fn reject(status: StatusCode, error: ApiError) -> Response<Full<Bytes>> {
    json(status, response::encode(&Err(error)))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn status(error: &ApiError) -> StatusCode {
    match error.code() {
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => StatusCode::NOT_FOUND,
        ErrorCode::BadRequest | ErrorCode::NotAvailable => StatusCode::BAD_REQUEST,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::ConcurrentPagination => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
