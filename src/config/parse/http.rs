//! URLs, and names and values of HTTP headers.

use super::lists::structured;
use super::scalar::hidden_text;
use super::value::{Invalid, Raw, Row, Unit, list, quoted};

/// `http://` or `https://`.
pub(crate) enum Url {}

impl Unit<String> for Url {
    const FORM: &'static str = "http:// or https://";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        let text = hidden_text(raw)?.trim();
        check_url(text, Schemes::Http).map(|()| text.to_owned())
    }

    fn show(text: &String) -> Option<String> {
        (!text.is_empty()).then(|| quoted(text))
    }
}

/// A URL, or a gRPC server.
pub(crate) enum Endpoint {}

impl Unit<String> for Endpoint {
    const FORM: &'static str = "http://, https:// or grpc://";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<String, Invalid> {
        let text = hidden_text(raw)?.trim();
        check_url(text, Schemes::HttpAndGrpc).map(|()| text.to_owned())
    }

    fn show(text: &String) -> Option<String> {
        (!text.is_empty()).then(|| quoted(text))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Schemes {
    Http,
    /// Also grpc://host:port, and host:port alone.
    HttpAndGrpc,
}

/// Scheme, host and port fit, and there are no blanks. Messages do not repeat the text: it may carry a password.
fn check_url(text: &str, schemes: Schemes) -> Result<(), Invalid> {
    let invalid = |what: &str| Err(Invalid::new(what, "write a URL such as \"http://127.0.0.1:3000/path\""));
    if text.is_empty() {
        return Ok(());
    }
    let http = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let grpc = text.strip_prefix("grpc://").or_else(|| (!text.contains("://")).then_some(text));
    let rest = match (http, grpc) {
        (Some(rest), _) => rest,
        (None, Some(rest)) if schemes == Schemes::HttpAndGrpc => {
            if !rest.contains(':') {
                return invalid("it does not begin with http:// and has no port, which a gRPC server needs");
            }
            rest
        }
        _ => return invalid("it does not begin with http:// or https://"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(_, rest)| rest.strip_prefix(':')),
        None => Some(host.split_once(':').map(|(_, port)| port)),
    };
    let port_fits = match port {
        Some(None) => true,
        Some(Some(port)) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => false,
    };
    // A name in braces is filled in from a token: such a URL is the address of a key set.
    if host.is_empty() || host.starts_with(':') || !(port_fits || host.contains("{{")) {
        return invalid("its host or port cannot be read");
    }
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => invalid("it contains a blank or a character outside ASCII"),
    }
}

/// Names of headers, kept in lower case.
pub(crate) enum HeaderNames {}

impl Unit<Vec<String>> for HeaderNames {
    const FORM: &'static str = "list of names";

    fn read(raw: &Raw) -> Result<Vec<String>, Invalid> {
        raw.items("write a list, such as [\"Cookie\"]")?.iter().map(|item| header_name(item)).collect()
    }

    fn show(names: &Vec<String>) -> Option<String> {
        Some(list(names.iter().cloned()))
    }
}

/// A header name (RFC 9110, section 5.6.2) in lower case.
fn header_name(name: &str) -> Result<String, Invalid> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !name.is_empty() && name.bytes().all(fits) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(Invalid::new(format!("\"{name}\" is not a header name"), "write a name such as \"Cookie\"")),
    }
}

/// Headers with their values, which may be secrets: a list of tables with `key` and `value`, or one table.
pub(crate) enum HeaderValues {}

const HEADERS_FIX: &str = "write [{ key = \"X-Name\", value = \"...\" }]";

impl Unit<Vec<(String, String)>> for HeaderValues {
    const FORM: &'static str = "list of tables";
    const SECRET: bool = true;

    fn read(raw: &Raw) -> Result<Vec<(String, String)>, Invalid> {
        let headers = match raw {
            Raw::Table(row) => from_table(row)?,
            Raw::Text(text) => match structured(text) {
                Some(Raw::Table(row)) => from_table(&row)?,
                _ => from_rows(&raw.rows(HEADERS_FIX)?)?,
            },
            _ => from_rows(&raw.rows(HEADERS_FIX)?)?,
        };
        for (index, (key, value)) in headers.iter().enumerate() {
            header_name(key)?;
            if headers[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
                return Err(Invalid::new(format!("{key} is set twice"), "remove one"));
            }
            if value.contains("${CENTRIFUGO_VAR_") {
                let what = format!("the value of {key} names an environment variable, which is not replaced");
                return Err(Invalid::new(what, "write the value itself, in a file that only the server can read"));
            }
            if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
                return Err(Invalid::new(format!("the value of {key} is not a header value"), "write printable ASCII"));
            }
        }
        Ok(headers)
    }

    fn show(headers: &Vec<(String, String)>) -> Option<String> {
        let rows = headers.iter().map(|(key, _)| format!("{{ key = {}, value = \"hidden\" }}", quoted(key)));
        Some(format!("[{}]", rows.collect::<Vec<_>>().join(", ")))
    }
}

fn from_table(row: &Row) -> Result<Vec<(String, String)>, Invalid> {
    let header = |(key, value): &(String, Raw)| match value {
        Raw::Text(value) => Ok((key.clone(), value.clone())),
        _ => Err(Invalid::new(format!("{key} is not a text"), HEADERS_FIX)),
    };
    row.iter().map(header).collect()
}

fn from_rows(rows: &[Row]) -> Result<Vec<(String, String)>, Invalid> {
    let mut headers = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (mut key, mut value) = (String::new(), String::new());
        for (name, raw) in row {
            let field = match name.as_str() {
                "key" => &mut key,
                "value" => &mut value,
                _ => return Err(Invalid::new(format!("[{number}].{name} is unknown"), "remove it")),
            };
            let text = hidden_text(raw);
            *field =
                text.map_err(|wrong| Invalid::new(format!("[{number}].{name}: {}", wrong.what), wrong.fix))?.clone();
        }
        headers.push((key, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    #[test]
    fn endpoint_is_http_with_a_host() {
        for good in
            ["", "http://a", "https://user:pass@a.example/x?y", "http://[::1]:80/", "https://{{tenant}}.a:8080/"]
        {
            check_url(good, Schemes::Http).unwrap_or_else(|wrong| panic!("{good}: {wrong:?}"));
        }
        for bad in ["a", "ftp://a", "http://", "http://:80", "http://a:b", "http://a:0", "http://a b", "grpc://a:1"] {
            assert!(check_url(bad, Schemes::Http).is_err(), "{bad}");
        }
        for (text, fits) in
            [("grpc://a:1", true), ("a.example:1", true), ("grpc://a", false), ("a", false), ("ftp://a:1", false)]
        {
            assert_eq!(check_url(text, Schemes::HttpAndGrpc).is_ok(), fits, "{text}");
        }
        assert!(!check_url("ftp://secret@a", Schemes::HttpAndGrpc).unwrap_err().what.contains("secret"));
    }

    #[test]
    fn headers_come_as_a_table_or_as_a_list() {
        let row = |pairs: &[(&str, &str)]| -> Row {
            pairs.iter().map(|(key, value)| (key.to_string(), text(value))).collect()
        };
        let headers = HeaderValues::read(&Raw::Table(row(&[("X-Key", "1")]))).unwrap();
        assert_eq!(headers, [("X-Key".to_owned(), "1".to_owned())]);
        let headers = HeaderValues::read(&Raw::Rows(vec![row(&[("key", "X-Key"), ("value", "2")])])).unwrap();
        assert_eq!(headers, [("X-Key".to_owned(), "2".to_owned())]);
        assert!(!HeaderValues::show(&headers).unwrap().contains('2'));
        for json in ["{\"X-Key\": \"2\"}", "[{\"key\": \"X-Key\", \"value\": \"2\"}]"] {
            assert_eq!(HeaderValues::read(&text(json)).unwrap(), headers, "{json}");
        }
        for bad in [
            Raw::Table(row(&[("X Key", "1")])),
            Raw::Table(row(&[("X-Key", "a\nb")])),
            Raw::Table(row(&[("X-Key", "1"), ("x-key", "2")])),
            Raw::Table(row(&[("X-Key", "${CENTRIFUGO_VAR_KEY}")])),
            Raw::Rows(vec![row(&[("name", "X-Key")])]),
            text("X-Key: 1"),
        ] {
            assert!(HeaderValues::read(&bad).is_err(), "{bad:?}");
        }
    }
}
