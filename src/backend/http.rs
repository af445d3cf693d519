//! One HTTP exchange with a backend: what it brings, and where it fails, whether another try is safe.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, redirect};

use super::decode_reply::Malformed;
use super::settings::SetupError;
use super::stats::Reason;

/// Bytes of a reply's body; a longer one is a failure. More would not fit a client's queue anyway.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// A connection unused for this long is given up. Below the five seconds after which many backends close it: a call sent
/// into that close fails, and where it must not be repeated, for good.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// What went wrong with a try, or with the call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub reason: Reason,
    /// For the log, without anything of a payload, a header or the endpoint.
    pub detail: Cow<'static, str>,
    pub again: Again,
    /// Of the reply, where there was one.
    pub status: Option<StatusCode>,
}

/// Whether another try is safe and may help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// No byte of the call was sent.
    Yes,
    /// The backend may have acted on it.
    IfIdempotent,
    No,
}

impl Fault {
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>, again: Again) -> Self {
        Self { reason, detail: detail.into(), again, status: None }
    }

    /// The backend is gone, or so slow that it is as good as gone. A backend that answers, and be it nonsense, is not:
    /// what one client's payload provokes must not cut off the others.
    pub fn is_of_a_dead_backend(&self) -> bool {
        match self.reason {
            Reason::Unreachable | Reason::Broken | Reason::Late => true,
            Reason::Status => self.again == Again::IfIdempotent,
            _ => false,
        }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        let reason = if malformed == Malformed::Unfit { Reason::Unfit } else { Reason::Malformed };
        Self::new(reason, malformed.to_string(), Again::No)
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        let detail = bottom(&error);
        match (error.is_connect(), error.is_builder()) {
            (true, _) => Self::new(Reason::Unreachable, detail, Again::Yes),
            (false, true) => Self::new(Reason::Unsendable, "the request cannot be made", Again::No),
            (false, false) => Self::new(Reason::Broken, detail, Again::IfIdempotent),
        }
    }
}

/// What lies at the bottom of an error: what the kernel said, say. The texts above it may name the URL.
pub fn bottom(error: &dyn Error) -> String {
    let mut bottom = error;
    while let Some(below) = bottom.source() {
        bottom = below;
    }
    bottom.to_string()
}

/// The pool of connections. `https`: without need of it none of the machine's certificates are looked for. Redirects are
/// followed up to `redirects_max`.
pub fn client(https: bool, redirects_max: usize, idle_connections_max: usize) -> Result<Client, SetupError> {
    let policy = if redirects_max == 0 { redirect::Policy::none() } else { redirect::Policy::limited(redirects_max) };
    let builder = Client::builder()
        .redirect(policy)
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(idle_connections_max);
    let builder = if https { builder } else { builder.tls_certs_only([]) };
    builder.build().map_err(|error| {
        let error = error.without_url();
        SetupError::Client(error.source().map_or_else(|| error.to_string(), |source| source.to_string()))
    })
}

/// The body of a 200 reply, up to a bound.
pub async fn take(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let status = response.status();
    if status != StatusCode::OK {
        let gone = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let again = if gone.contains(&status) { Again::IfIdempotent } else { Again::No };
        let fault = Fault::new(Reason::Status, format!("status {}", status.as_u16()), again);
        return Err(Fault { status: Some(status), ..fault });
    }
    let too_long = || Fault::new(Reason::TooLong, format!("the reply is longer than {bytes_max} bytes"), Again::No);
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_long());
    }
    let mut body = Vec::with_capacity(announced as usize);
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
