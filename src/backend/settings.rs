//! What the operator says about one backend: where it is, how long it may take, what it is told and how it is spared.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::call::Answer;

/// One proxy. Plain data: whoever reads the configuration fills it field by field over the default.
#[derive(Clone, PartialEq, Debug)]
pub struct ProxySettings {
    /// In log lines and metrics. The endpoint is in neither: it may carry a secret.
    pub name: String,
    /// `http://…` or `https://…`; or `grpc://host:port`, also without the scheme.
    pub endpoint: String,
    /// For one call in all: waiting for a place, every try, the whole reply.
    pub timeout: Duration,
    /// Headers of the client's upgrade request that travel on, in any case.
    pub http_headers: Vec<String>,
    /// On every request; a header of the client's that may travel on replaces its namesake.
    pub static_http_headers: Vec<(String, String)>,
    /// Calls carry what the connect grant kept for the backend.
    pub include_connection_meta: bool,
    /// Payloads travel as base64 (`b64data`), whatever they are, and not as JSON (`data`).
    pub binary_encoding: bool,
    /// What a status stands for. The first entry with the status counts; without one it is a failure.
    pub status_answers: Vec<StatusAnswer>,
    /// What a connect reply without a result means: the anonymous user, or no user and a close with 3501.
    pub anonymous_without_result: bool,
    /// Further tries of one call, where a try is known to be safe.
    pub retries_max: u32,
    pub retry_backoff: Backoff,
    /// Calls on their way at once.
    pub concurrency_max: usize,
    /// Calls that wait for one of those to end; past it a call fails at once.
    pub queue_max: usize,
    pub breaker: BreakerSettings,
}

/// Between two tries: doubled from `min` up to `max`, and of that a random part, so that tries do not march in step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
    /// How much of the wait is left to chance, 0 to 1.
    pub jitter: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// Failures in a row that open the circuit; 0 for never.
    pub failures_to_open: u32,
    /// How long an open circuit answers for the backend before it lets a call through to see.
    pub open_for: Duration,
}

/// An HTTP status that stands for an answer.
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
            anonymous_without_result: false,
            retries_max: 2,
            retry_backoff: Backoff::default(),
            concurrency_max: 256,
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
    /// Three tries and both waits fit well into a second.
    fn default() -> Self {
        Self { min: Duration::from_millis(20), max: Duration::from_millis(200), jitter: 0.5 }
    }
}

impl Backoff {
    /// The wait before try number `tries + 1`; `chance` in 0..1.
    pub fn wait(self, tries: u32, chance: f64) -> Duration {
        let doubled = self.min.saturating_mul(1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.max);
        whole.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0))
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures_to_open: 10, open_for: Duration::from_secs(2) }
    }
}

/// Why settings cannot be served. Names the proxy and the mend, not the values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetupError {
    Endpoint {
        name: String,
    },
    Scheme {
        name: String,
    },
    /// `{{…}}`, which the original fills from a token.
    Template {
        name: String,
    },
    Header {
        name: String,
        header: String,
    },
    /// The TLS library: no roots to trust on this machine, say.
    Client(String),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { name } => write!(f, "{name}: `endpoint` is neither a URL nor host:port"),
            Self::Scheme { name } => {
                write!(f, "{name}: `endpoint` must begin with http://, https:// or, for proxies, grpc://")
            }
            Self::Template { name } => {
                write!(f, "{name}: `{{{{…}}}}` in an endpoint is not supported, give a plain URL")
            }
            Self::Header { name, header } => write!(f, "{name}: `{header}` is no HTTP header that can be sent"),
            Self::Client(what) => write!(f, "HTTPS cannot be used: {what}"),
        }
    }
}

impl std::error::Error for SetupError {}

/// Checks an HTTP endpoint. `name` is for the error.
pub fn endpoint(name: &str, text: &str) -> Result<Url, SetupError> {
    let url = Url::parse(text).map_err(|_| SetupError::Endpoint { name: name.into() })?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(SetupError::Scheme { name: name.into() }),
    }
}

/// Those say how a message travels this one hop, and never travel on. `accept-encoding` because nothing here inflates.
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

/// The headers of a proxy's requests: what is always there, and what a client's request may add.
#[derive(Clone, Debug)]
pub struct Headers {
    always: HeaderMap,
    allowed: Vec<HeaderName>,
}

impl Headers {
    pub fn new(settings: &ProxySettings) -> Result<Self, SetupError> {
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

    /// The headers of one request, without its content type. Where a client sent one twice, both travel.
    pub fn of(&self, client: &[(String, String)]) -> HeaderMap {
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
    fn a_wait_doubles_up_to_its_bound_and_chance_only_shortens_it() {
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(65), jitter: 0.5 };
        let whole: Vec<_> = (1..6).map(|tries| backoff.wait(tries, 0.0).as_millis()).collect();
        assert_eq!(whole, [10, 20, 40, 65, 65]);
        assert_eq!(backoff.wait(2, 1.0), Duration::from_millis(10));
        assert_eq!(backoff.wait(u32::MAX, 0.0), Duration::from_millis(65));
    }

    #[test]
    fn only_allowed_headers_travel_and_the_clients_replace_the_static() {
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
    fn settings_that_cannot_be_served_are_named() {
        assert!(matches!(endpoint("a", "http//x"), Err(SetupError::Endpoint { .. })));
        assert!(matches!(endpoint("a", "ftp://x/"), Err(SetupError::Scheme { .. })));
        assert!(endpoint("a", "https://x:8443/centrifugo/connect?key=1").is_ok());
        let bad = ProxySettings { http_headers: vec!["a b".into()], ..ProxySettings::default() };
        assert!(matches!(Headers::new(&bad), Err(SetupError::Header { .. })));
    }
}
