//! The URL of a backend or key set, checked and split into what a request needs.

use std::borrow::Cow;

use data_encoding::BASE64;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::settings::SetupError;

/// Characters that people write in a path or query and that a request line carries percent-encoded, with all that is not
/// ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// Where requests go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    uri: Uri,
    /// User and password of the URL, as basic authentication.
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// Checks an `http://` or `https://` URL. `setting` names it in the error.
    pub(crate) fn parse(setting: &str, url: &str) -> Result<Self, SetupError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| SetupError::endpoint(setting))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Err(SetupError::Scheme { name: setting.into() }),
        };
        Self::of(scheme, rest).ok_or_else(|| SetupError::endpoint(setting))
    }

    /// `rest` is what follows `scheme://`. `None` if it is malformed.
    fn of(scheme: Scheme, rest: &str) -> Option<Self> {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let host: Authority = host.to_ascii_lowercase().parse().ok()?;
        let has_bad_port = host.as_str().len() > host.host().len() && host.port_u16().is_none();
        if host.host().is_empty() || has_bad_port {
            return None;
        }
        let authorization = match user {
            Some(user) => Some(basic_authentication(user)?),
            None => None,
        };
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path_and_query(path)?);
        Some(Self { uri: uri.build().ok()?, authorization })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

/// The part of a URL behind its authority, without the fragment.
fn path_and_query(text: &str) -> Option<PathAndQuery> {
    let text: Cow<'_, str> = utf8_percent_encode(text.split('#').next().unwrap_or_default(), ENCODED).into();
    if text.starts_with('/') { text.parse().ok() } else { format!("/{text}").parse().ok() }
}

/// The header for `user:password`, both percent-encoded (RFC 7617).
fn basic_authentication(userinfo: &str) -> Option<HeaderValue> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let decoded = |text| percent_decode_str(text).decode_utf8().ok();
    let pair = format!("{}:{}", decoded(user)?, decoded(password)?);
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(pair.as_bytes()))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> String {
        Endpoint::parse("a", url).unwrap().uri.to_string()
    }

    #[test]
    fn urls_become_what_a_request_carries() {
        for (url, uri) in [
            ("https://x:8443/centrifugo/connect?key=1", "https://x:8443/centrifugo/connect?key=1"),
            ("HTTP://Example.COM", "http://example.com/"),
            ("http://h?q=1#part", "http://h/?q=1"),
            ("http://[::1]:80/a b/\u{fc}", "http://[::1]:80/a%20b/%C3%BC"),
            ("http://h/%20", "http://h/%20"),
        ] {
            assert_eq!(parsed(url), uri, "{url}");
        }
        assert!(Endpoint::parse("a", "https://x/").unwrap().is_https());
    }

    #[test]
    fn malformed_urls_are_rejected() {
        for url in
            ["", "x", "http//x", "http://", "http:///a", "http://:80/", "http://h:port/", "http://a b/", "http://h:"]
        {
            assert!(matches!(Endpoint::parse("a", url), Err(SetupError::Endpoint { .. })), "{url}");
        }
        assert!(matches!(Endpoint::parse("a", "ftp://x/"), Err(SetupError::Scheme { .. })));
    }

    #[test]
    fn user_and_password_become_basic_authentication() {
        let endpoint = Endpoint::parse("a", "http://Aladdin:open%20sesame@h/x").unwrap();
        assert_eq!(endpoint.uri.to_string(), "http://h/x");
        assert_eq!(endpoint.authorization.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
