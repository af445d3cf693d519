//! The configuration of one proxy, and the checks of what a request is made from.

use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::call::Answer;

/// Longest body of a response, in bytes; a longer one is a failure. More would not fit the queue of a client.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// One proxy. Plain data, made from the configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct ProxySettings {
    /// Name in log lines and metrics. The endpoint appears in neither because it may contain a secret.
    pub name: String,
    /// `http://…`, `https://…`, `grpc://host:port` or `host:port` (gRPC).
    pub endpoint: String,
    /// Limit of one call: waiting for a permit, all attempts, the whole response.
    pub timeout: Duration,
    /// Headers of the client's upgrade request that are sent to the backend; letter case does not matter.
    pub http_headers: Vec<String>,
    /// Headers of every request. A header of the client with the same name replaces it, if that is in `http_headers`.
    pub static_http_headers: Vec<(String, String)>,
    /// Requests contain the connection's `meta`, which the connect response set.
    pub include_connection_meta: bool,
    /// Payloads are sent as base64 (`b64data`) and not as JSON (`data`).
    pub binary_encoding: bool,
    /// HTTP statuses that have a meaning; the first entry with the status counts. Any other status than 200 is a failure.
    pub status_answers: Vec<StatusAnswer>,
    /// What a connect response without a result means.
    pub empty_connect: EmptyConnect,
    /// Attempts after the first one of a call, if they are safe.
    pub retries_max: u32,
    pub retry_backoff: Backoff,
    /// Calls in progress at a time.
    pub concurrency_max: usize,
    /// Of them, those of one user. Three times as many may wait.
    pub user_concurrency_max: usize,
    /// Calls waiting for one of those to end; a further call fails at once.
    pub queue_max: usize,
    pub breaker: BreakerSettings,
}

/// What a connect response without a result means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmptyConnect {
    /// The client is the anonymous user.
    Anonymous,
    /// The client is rejected with code 3501.
    Reject,
}

/// Wait before a retry: doubled from `min` up to `max`, less a random share, so that retries spread out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
    /// The largest share of the wait that is taken off at random, 0 to 1.
    pub jitter: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// Consecutive failures that open the circuit; 0 for never.
    pub failures_to_open: u32,
    /// How long the circuit stays open before one call is admitted as a probe.
    pub open_for: Duration,
}

/// An HTTP status and the answer that it means.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusAnswer {
    pub status: u16,
    /// `Answer::Error` or `Answer::Disconnect`.
    pub answer: Answer,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            name: "default".into(),
            endpoint: String::new(),
            timeout: Duration::from_secs(1),
            http_headers: Vec::new(),
            static_http_headers: Vec::new(),
            include_connection_meta: false,
            binary_encoding: false,
            status_answers: Vec::new(),
            empty_connect: EmptyConnect::Reject,
            retries_max: 2,
            retry_backoff: Backoff::default(),
            concurrency_max: 256,
            user_concurrency_max: 64,
            queue_max: 1024,
            breaker: BreakerSettings::default(),
        }
    }
}

impl ProxySettings {
    /// Host and port of a gRPC endpoint.
    pub(crate) fn grpc_authority(&self) -> Option<&str> {
        let endpoint = self.endpoint.as_str();
        endpoint.strip_prefix("grpc://").or_else(|| (!endpoint.contains("://")).then_some(endpoint))
    }
}

impl Default for Backoff {
    /// Three attempts and both waits fit into a second.
    fn default() -> Self {
        Self { min: Duration::from_millis(20), max: Duration::from_millis(200), jitter: 0.5 }
    }
}

impl Backoff {
    /// The wait after attempt number `attempts`; `random` is in 0..1.
    pub fn wait(self, attempts: u32, random: f64) -> Duration {
        let doubled = self.min.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.max);
        whole.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0))
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures_to_open: 10, open_for: Duration::from_secs(2) }
    }
}

/// Why a proxy or key set cannot be used. Names the setting and the fix, not the values, which may be secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetupError {
    Endpoint {
        name: String,
    },
    Scheme {
        name: String,
    },
    /// `{{…}}`, which Centrifugo fills from a token.
    Template {
        name: String,
    },
    Header {
        name: String,
        header: String,
    },
    /// This build has no gRPC.
    NoGrpc {
        name: String,
    },
    /// TLS cannot be used: there are no root certificates.
    Client(String),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { name } => write!(
                f,
                "{name}: `endpoint` is neither a URL nor host:port; write a host name outside ASCII in Punycode"
            ),
            Self::Scheme { name } => {
                write!(f, "{name}: `endpoint` must begin with http://, https:// or, for proxies, grpc://")
            }
            Self::Template { name } => {
                write!(f, "{name}: `{{{{…}}}}` in an endpoint is not supported, give a plain URL")
            }
            Self::Header { name, header } => write!(f, "{name}: `{header}` is not a valid HTTP header"),
            Self::NoGrpc { name } => write!(
                f,
                "{name}: this build of the server has no gRPC; use an http:// or https:// endpoint, or build with the \
                 feature `grpc`"
            ),
            Self::Client(what) => write!(f, "HTTPS cannot be used: {what}"),
        }
    }
}

impl std::error::Error for SetupError {}

impl SetupError {
    pub fn endpoint(name: &str) -> Self {
        Self::Endpoint { name: name.into() }
    }
}

/// Headers of a single connection, which are never sent on. `accept-encoding` because responses are not decompressed.
const HOP_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers of a proxy's requests: those of every request, and the names of those taken from the client.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    always: HeaderMap,
    allowed: Vec<HeaderName>,
}

impl Headers {
    pub(crate) fn new(settings: &ProxySettings) -> Result<Self, SetupError> {
        let fault = |header: &str| SetupError::Header { name: settings.name.clone(), header: header.into() };
        let mut always = HeaderMap::new();
        for (name, value) in &settings.static_http_headers {
            let parsed = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()));
            let (Ok(key), Ok(mut value)) = parsed else { return Err(fault(name)) };
            value.set_sensitive(true);
            always.insert(key, value);
        }
        let allowed =
            settings.http_headers.iter().map(|name| HeaderName::try_from(name.as_str()).map_err(|_| fault(name)));
        let mut allowed = allowed.collect::<Result<Vec<_>, _>>()?;
        allowed.retain(|name| !HOP_HEADERS.contains(&name.as_str()));
        Ok(Self { always, allowed })
    }

    /// The headers of one request, without its content type. A header that the client sent twice is sent twice.
    pub(crate) fn of(&self, client: &[(String, String)]) -> HeaderMap {
        let mut headers = self.always.clone();
        for name in &self.allowed {
            let values = client.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name.as_str()));
            let values = values.filter_map(|(_, value)| HeaderValue::from_bytes(value.as_bytes()).ok());
            for (index, value) in values.enumerate() {
                match index {
                    0 => drop(headers.insert(name, value)),
                    _ => drop(headers.append(name, value)),
                }
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit_and_jitter_only_shortens_it() {
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(65), jitter: 0.5 };
        let whole: Vec<_> = (1..6).map(|attempts| backoff.wait(attempts, 0.0).as_millis()).collect();
        assert_eq!(whole, [10, 20, 40, 65, 65]);
        assert_eq!(backoff.wait(2, 1.0), Duration::from_millis(10));
        assert_eq!(backoff.wait(u32::MAX, 0.0), Duration::from_millis(65));
    }

    #[test]
    fn headers_of_the_client_are_filtered_and_replace_the_static_ones() {
        let headers = Headers::new(&ProxySettings {
            http_headers: vec!["Cookie".into(), "X-Trace".into(), "Host".into(), "content-type".into()],
            static_http_headers: vec![("X-Trace".into(), "none".into()), ("Authorization".into(), "key".into())],
            ..ProxySettings::default()
        })
        .unwrap();
        let sent =
            [("cookie", "a=1"), ("cookie", "b=2"), ("x-trace", "7"), ("host", "evil"), ("content-type", "text/html")];
        let client: Vec<_> = sent.map(|(name, value)| (name.to_string(), value.to_string())).into();
        let made = headers.of(&client);
        assert_eq!(made.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(made["x-trace"], "7");
        assert_eq!(made["authorization"], "key");
        assert!(!made.contains_key("content-type") && !made.contains_key("host"));
        assert_eq!(headers.of(&[])["x-trace"], "none");
    }

    #[test]
    fn headers_that_are_invalid_are_rejected() {
        let bad = ProxySettings { http_headers: vec!["a b".into()], ..ProxySettings::default() };
        assert!(matches!(Headers::new(&bad), Err(SetupError::Header { .. })));
    }
}
