//! The page at `/`: four embedded files. Nothing is built, and nothing is loaded from another host.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use super::settings::Settings;

/// A content type and the file's text.
pub(crate) type File = (&'static str, &'static str);

const INDEX: File = ("text/html; charset=utf-8", include_str!("page/index.html"));
const SCRIPT: File = ("text/javascript; charset=utf-8", include_str!("page/app.js"));
const CLIENT: File = ("text/javascript; charset=utf-8", include_str!("page/client.js"));
const STYLE: File = ("text/css; charset=utf-8", include_str!("page/style.css"));

/// The file at a path.
pub(crate) fn file(path: &str) -> Option<File> {
    match path {
        "/" => Some(INDEX),
        "/app.js" => Some(SCRIPT),
        "/client.js" => Some(CLIENT),
        "/style.css" => Some(STYLE),
        _ => None,
    }
}

/// The file, with a policy that lets the browser load only these files and connect only to the clients' address.
pub(crate) fn respond((content_type, text): File, settings: &Settings) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, policy(settings));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A policy cannot name an IPv6 address, nor a host that only the browser knows: in these cases it names the port alone.
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
    fn policy_names_the_address_of_the_clients_or_its_port() {
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
    fn page_loads_nothing_from_other_hosts_and_has_no_inline_code() {
        for (_, text) in [INDEX, SCRIPT, CLIENT, STYLE] {
            assert!(!text.contains("https://") && !text.contains("@import"));
        }
        assert!(!SCRIPT.1.contains("innerHTML") && !SCRIPT.1.contains("eval("));
        assert!(!INDEX.1.contains("style=") && !INDEX.1.contains(" onclick") && !INDEX.1.contains("<script>"));
    }
}
