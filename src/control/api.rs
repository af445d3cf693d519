//! The server API: `POST /api/<method>`, JSON in, `{"result":…}` or `{"error":{…}}` out.
//!
//! The HTTP status is 200 also for errors of a call, as backends written for the dialect expect; with
//! `X-Centrifugo-Error-Mode: transport` it follows the error's code. What never became a call has a status of its own:
//! 401 without the key, 404 for an unknown method, 405, 413, 400 for what is not JSON.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;
use tokio::task::JoinSet;

use super::fleet::{AskError, Fleet, Published};
use super::request::{self, Bounds, Refused};
use super::{Shared, json};

/// Bytes of a call's body; past it 413.
pub const API_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Publications of one broadcast that are under way at a time.
const BROADCAST_OPEN_MAX: usize = 64;

pub fn routes<F: Fleet>(shared: Shared<F>) -> Router<Shared<F>> {
    Router::new()
        .route("/api/publish", post(publish))
        .route("/api/broadcast", post(broadcast))
        .route("/api/{*method}", axum::routing::any(unknown))
        .method_not_allowed_fallback(not_posted)
        .layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared, authorize))
}

#[derive(Deserialize)]
struct KeyInQuery {
    api_key: Option<String>,
}

/// Nobody learns which methods there are without the key.
async fn authorize<F: Fleet>(State(shared): State<Shared<F>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let in_query = Query::<KeyInQuery>::try_from_uri(request.uri()).ok().and_then(|query| query.0.api_key);
    let typed = text("x-api-key")
        .or_else(|| {
            let (scheme, key) = text(header::AUTHORIZATION.as_str())?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("apikey").then_some(key.trim())
        })
        .or(in_query.as_deref());
    let key = shared.settings.api_key.as_deref();
    // In constant time, so that the answer's delay does not tell how much of a guess was right.
    let right = key.zip(typed).is_some_and(|(key, typed)| key.as_bytes().ct_eq(typed.as_bytes()).into());
    if right {
        return next.run(request).await;
    }
    let what = match key {
        None => "unauthorized: http_api.key is not set, so that no call is taken",
        Some(_) => "unauthorized",
    };
    let body = Answer::<()>::Error(ErrorBody { code: 101, message: what.into() });
    (StatusCode::UNAUTHORIZED, json(&body)).into_response()
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Result(T),
    Error(ErrorBody),
}

#[derive(Serialize)]
struct ErrorBody {
    code: u32,
    message: std::borrow::Cow<'static, str>,
}

impl From<AskError> for ErrorBody {
    fn from(error: AskError) -> Self {
        Self { code: error.code(), message: error.message() }
    }
}

#[derive(Serialize)]
struct Responses {
    responses: Vec<Answer<Published>>,
}

impl<T> From<Result<T, AskError>> for Answer<T> {
    fn from(result: Result<T, AskError>) -> Self {
        match result {
            Ok(result) => Self::Result(result),
            Err(error) => Self::Error(error.into()),
        }
    }
}

type Body = Result<Bytes, BytesRejection>;

async fn publish<F: Fleet>(State(shared): State<Shared<F>>, headers: HeaderMap, body: Body) -> Response {
    let result = match unread(body).and_then(|body| request::publish(&body, shared.bounds())) {
        Ok((channel, data)) => shared.fleet.publish(&channel, data).await.map_err(Refused::Error),
        Err(refused) => Err(refused),
    };
    answer(&headers, result)
}

async fn broadcast<F: Fleet>(State(shared): State<Shared<F>>, headers: HeaderMap, body: Body) -> Response {
    let result = match unread(body).and_then(|body| request::broadcast(&body, shared.bounds())) {
        Ok((channels, data)) => {
            let responses = publish_to_each(&shared.fleet, channels, data, shared.bounds()).await;
            Ok(Responses { responses })
        }
        Err(refused) => Err(refused),
    };
    answer(&headers, result)
}

fn unread(body: Body) -> Result<Bytes, Refused> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refused::TooLong,
        _ => Refused::Unread,
    })
}

/// One answer per channel, in the order of the channels. Their publications are under way together, a few at a time.
async fn publish_to_each<F: Fleet>(
    fleet: &F,
    channels: Vec<String>,
    data: Box<RawValue>,
    bounds: Bounds,
) -> Vec<Answer<Published>> {
    let mut results = vec![Err(AskError::OutcomeUnknown); channels.len()];
    let mut open = JoinSet::new();
    for (index, channel) in channels.into_iter().enumerate() {
        if let Err(error) = request::check_channel(&channel, bounds) {
            results[index] = Err(error);
            continue;
        }
        if open.len() == BROADCAST_OPEN_MAX {
            collect(open.join_next().await, &mut results);
        }
        let (fleet, data) = (fleet.clone(), data.clone());
        open.spawn(async move { (index, fleet.publish(&channel, data).await) });
    }
    while let Some(done) = open.join_next().await {
        collect(Some(done), &mut results);
    }
    results.into_iter().map(Answer::from).collect()
}

type Done = Result<(usize, Result<Published, AskError>), tokio::task::JoinError>;

/// A publication that ended without an answer keeps `OutcomeUnknown`.
fn collect(done: Option<Done>, results: &mut [Result<Published, AskError>]) {
    if let Some(Ok((index, result))) = done {
        results[index] = result;
    }
}

async fn unknown() -> Response {
    failed(StatusCode::NOT_FOUND, AskError::MethodNotFound)
}

async fn not_posted() -> Response {
    let error = AskError::BadRequest("calls are made with POST".into());
    ([(header::ALLOW, "POST")], failed(StatusCode::METHOD_NOT_ALLOWED, error)).into_response()
}

fn failed(status: StatusCode, error: AskError) -> Response {
    (status, json(&Answer::<()>::from(Err(error)))).into_response()
}

fn answer<T: Serialize>(headers: &HeaderMap, result: Result<T, Refused>) -> Response {
    let transport = headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
    match result {
        Ok(result) => json(&Answer::Result(result)),
        Err(Refused::Error(error)) => failed(if transport { status(&error) } else { StatusCode::OK }, error),
        Err(Refused::NotJson(what)) => {
            failed(StatusCode::BAD_REQUEST, AskError::BadRequest(format!("not JSON: {what}").into()))
        }
        Err(Refused::TooLong) => {
            let what = format!("the body is longer than {API_BODY_BYTES_MAX} bytes");
            failed(StatusCode::PAYLOAD_TOO_LARGE, AskError::BadRequest(what.into()))
        }
        Err(Refused::Unread) => {
            failed(StatusCode::BAD_REQUEST, AskError::BadRequest("the body did not arrive whole".into()))
        }
    }
}

fn status(error: &AskError) -> StatusCode {
    match error {
        AskError::OutcomeUnknown => StatusCode::INTERNAL_SERVER_ERROR,
        AskError::UnknownChannel | AskError::MethodNotFound => StatusCode::NOT_FOUND,
        AskError::BadRequest(_) | AskError::NotAvailable(_) => StatusCode::BAD_REQUEST,
        AskError::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
    }
}
