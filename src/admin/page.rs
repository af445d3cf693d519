//! The page at `/`: a few files, embedded, nothing built and nothing loaded from elsewhere.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::Settings;

pub const INDEX: (&str, &str) = ("text/html; charset=utf-8", include_str!("page/index.html"));
pub const SCRIPT: (&str, &str) = ("text/javascript; charset=utf-8", include_str!("page/app.js"));
pub const CLIENT: (&str, &str) = ("text/javascript; charset=utf-8", include_str!("page/client.js"));
pub const STYLE: (&str, &str) = ("text/css; charset=utf-8", include_str!("page/style.css"));

/// A file with the policy under which a browser runs it: nothing but our own files and the clients' address.
pub fn respond((kind, text): (&'static str, &'static str), settings: &Settings) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, policy(settings)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

/// A policy cannot name a v6 address, nor a host that only the browser knows: there the port alone is held.
fn policy(settings: &Settings) -> HeaderValue {
    let scheme = settings.client_scheme();
    let client = match settings.client {
        Some(address) if address.is_ipv4() && !address.ip().is_unspecified() => format!(" {scheme}://{address}"),
        Some(address) => format!(" {scheme}://*:{}", address.port()),
        None => String::new(),
    };
    let policy = format!(
        "default-src 'self'; connect-src 'self'{client}; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("an address is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_clients_address_as_far_as_it_can() {
        let policy = |client: Option<&str>| {
            let client = client.map(|text| text.parse().unwrap());
            policy(&Settings { client, ..Settings::default() }).to_str().unwrap().to_owned()
        };
        assert!(policy(Some("127.0.0.1:8000")).contains("connect-src 'self' ws://127.0.0.1:8000;"));
        assert!(policy(Some("0.0.0.0:8000")).contains("connect-src 'self' ws://*:8000;"));
        assert!(policy(Some("[::1]:8000")).contains("connect-src 'self' ws://*:8000;"));
        assert!(policy(None).contains("connect-src 'self';"));
        let client = Some("192.0.2.1:8443".parse().unwrap());
        let encrypted = super::policy(&Settings { client, client_tls: true, ..Settings::default() });
        assert!(encrypted.to_str().unwrap().contains("connect-src 'self' wss://192.0.2.1:8443;"));
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
        for (_, text) in [INDEX, SCRIPT, CLIENT, STYLE] {
            assert!(!text.contains("https://") && !text.contains("@import"));
        }
        assert!(!SCRIPT.1.contains("innerHTML") && !SCRIPT.1.contains("eval("));
        assert!(!INDEX.1.contains("style=") && !INDEX.1.contains(" onclick") && !INDEX.1.contains("<script>"));
    }
}
