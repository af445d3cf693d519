//! Settings that are texts, or one of a few words, or a list of tables.

use regex::Regex;

use super::channel::{DataFormat, RecoveryMode, SlowConsumer};
use super::client::ConnectCode;
use super::places::header;
use super::proxy::StatusToCode;
use super::tls::MinVersion;
use super::value::{Field, Raw, Row, Unit, Wrong, quoted};

impl Field for String {
    fn read(&mut self, raw: &Raw, unit: Unit) -> Result<(), Wrong> {
        let Raw::Text(text) = raw else {
            // A secret is not repeated in a message.
            return Err(match unit {
                Unit::Secret | Unit::Url | Unit::Endpoint => Wrong::new("it is not a text", "put it in quotes"),
                _ => raw.not("a text", "put it in quotes"),
            });
        };
        match unit {
            Unit::Url => url(text, false)?,
            Unit::Endpoint => url(text, true)?,
            Unit::Pattern => drop(pattern(text)?),
            _ => {}
        }
        self.clone_from(text);
        Ok(())
    }

    fn show(&self, unit: Unit) -> Option<String> {
        let optional = matches!(unit, Unit::Secret | Unit::Url | Unit::Endpoint);
        (!optional || !self.is_empty()).then(|| quoted(self))
    }
}

/// http or https, or a host and a port for gRPC; no blanks. The text is not repeated: it may carry a password.
fn url(text: &str, grpc: bool) -> Result<(), Wrong> {
    let wrong = |what: &str| Err(Wrong::new(what, "write one such as \"http://127.0.0.1:3000/path\""));
    if text.is_empty() {
        return Ok(());
    }
    let http = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let server = text.strip_prefix("grpc://").or_else(|| (!text.contains("://")).then_some(text));
    let is_server = http.is_none() && grpc;
    let Some(rest) = http.or(server.filter(|_| grpc)) else {
        return wrong("it begins neither with http:// nor with https://");
    };
    if is_server && !rest.contains(':') {
        return wrong("it names no port, which a gRPC server has, and does not begin with http://");
    }
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
    // A name in braces is filled in from a token, for the keys of which this is the address.
    if host.is_empty() || host.starts_with(':') || !(port_fits || host.contains("{{")) {
        return wrong("its host or port cannot be read");
    }
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => wrong("it holds a blank or what is not ASCII"),
    }
}

fn pattern(text: &str) -> Result<Regex, Wrong> {
    Regex::new(text).map_err(|error| {
        let lines = error.to_string();
        let reason = lines.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Wrong::new(format!("\"{text}\" is not a regular expression: {reason}"), "mend it, such as \"^[a-z0-9]+$\"")
    })
}

impl Field for Option<Regex> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let Raw::Text(text) = raw else { return Err(raw.not("a regular expression", "put it in quotes")) };
        *self = if text.is_empty() { None } else { Some(pattern(text)?) };
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        Some(quoted(self.as_ref().map_or("", Regex::as_str)))
    }
}

/// One of `words`, which say the values in order.
fn word<T: Copy>(raw: &Raw, words: &[(&str, T)]) -> Result<T, Wrong> {
    let typed = match raw {
        Raw::Text(text) => words.iter().find(|(word, _)| word == text),
        _ => None,
    };
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    typed.map(|(_, value)| *value).ok_or_else(|| raw.not("known", &format!("write one of {}", all.join(", "))))
}

fn said<T: PartialEq>(value: &T, words: &[(&str, T)]) -> Option<String> {
    words.iter().find(|(_, other)| other == value).map(|(word, _)| quoted(word))
}

const FORMATS: [(&str, DataFormat); 4] = [
    ("", DataFormat::Any),
    ("json", DataFormat::Json),
    ("json_object", DataFormat::JsonObject),
    ("binary", DataFormat::Binary),
];

impl Field for DataFormat {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        *self = word(raw, &FORMATS)?;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        said(self, &FORMATS)
    }
}

const MODES: [(&str, RecoveryMode); 3] =
    [("", RecoveryMode::Stream), ("stream", RecoveryMode::Stream), ("cache", RecoveryMode::Cache)];

impl Field for RecoveryMode {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        *self = word(raw, &MODES)?;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        said(self, &MODES)
    }
}

const VERSIONS: [(&str, MinVersion); 2] = [("1.2", MinVersion::V12), ("1.3", MinVersion::V13)];

impl Field for MinVersion {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        *self = word(raw, &VERSIONS)?;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        said(self, &VERSIONS)
    }
}

const SLOW: [(&str, SlowConsumer); 3] = [
    ("close", SlowConsumer::Close),
    ("drop_oldest", SlowConsumer::DropOldest),
    ("keep_latest", SlowConsumer::KeepLatest),
];

impl Field for SlowConsumer {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        *self = word(raw, &SLOW)?;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        said(self, &SLOW)
    }
}

pub(super) fn error_mode(transport: &mut bool, raw: &Raw) -> Result<(), Wrong> {
    *transport = word(raw, &[("", false), ("transport", true)])?;
    Ok(())
}

pub(super) fn deltas(fossil: &mut bool, raw: &Raw) -> Result<(), Wrong> {
    let mend = "write [\"fossil\"] or []";
    let types = raw.items(mend)?;
    if let Some(other) = types.iter().find(|kind| *kind != "fossil") {
        return Err(Wrong::new(format!("\"{other}\" is no kind of difference that there is here"), mend));
    }
    *fossil = !types.is_empty();
    Ok(())
}

/// The tables of a list; an empty list of anything has none.
fn rows<'a>(raw: &'a Raw, mend: &str) -> Result<&'a [Row], Wrong> {
    match raw {
        Raw::Rows(rows) => Ok(rows),
        Raw::List(items) if items.is_empty() => Ok(&[]),
        _ => Err(raw.not("a list of tables", mend)),
    }
}

/// Reads a row's values into `fields` by their keys. Errors name the place in the list.
fn fill(row: &Row, number: usize, fields: &mut [(&str, &mut dyn Field, Unit)]) -> Result<(), Wrong> {
    for (key, raw) in row {
        let Some((_, field, unit)) = fields.iter_mut().find(|(name, ..)| name == key) else {
            return Err(Wrong::new(format!("[{number}].{key} is not known"), "remove it"));
        };
        field.read(raw, *unit).map_err(|wrong| Wrong::new(format!("[{number}].{key}: {}", wrong.what), wrong.mend))?;
    }
    Ok(())
}

/// Bytes of a close reason (RFC 6455, section 5.5); a message of an error is held to the same.
const REASON_BYTES_MAX: usize = 123;

fn reason_fits(text: &str, number: usize) -> Result<(), Wrong> {
    match text.is_ascii() && text.len() <= REASON_BYTES_MAX {
        true => Ok(()),
        false => {
            let what = format!("the text of [{number}] is not ASCII of at most {REASON_BYTES_MAX} bytes");
            Err(Wrong::new(what, "shorten it"))
        }
    }
}

/// An element as TOML; keys and values in turn.
fn inline(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

impl Field for Vec<(String, String)> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let mend = "write [{ key = \"X-Name\", value = \"...\" }]";
        let mut pairs = Vec::new();
        if let Raw::Table(row) = raw {
            for (key, value) in row {
                let Raw::Text(value) = value else { return Err(Wrong::new(format!("{key} is not a text"), mend)) };
                pairs.push((key.clone(), value.clone()));
            }
        } else {
            for (number, row) in rows(raw, mend)?.iter().enumerate() {
                let (mut key, mut value) = (String::new(), String::new());
                fill(row, number, &mut [("key", &mut key, Unit::Text), ("value", &mut value, Unit::Secret)])?;
                pairs.push((key, value));
            }
        }
        for (index, (key, value)) in pairs.iter().enumerate() {
            header(key)?;
            if pairs[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
                return Err(Wrong::new(format!("{key} is there twice"), "remove one"));
            }
            if value.contains("${CENTRIFUGO_VAR_") {
                let what = format!("the value of {key} names a variable of the environment, which is not filled in");
                return Err(Wrong::new(what, "write the value itself, in a file that only the server may read"));
            }
            if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
                return Err(Wrong::new(format!("the value of {key} is no header's value"), "write printable ASCII"));
            }
        }
        *self = pairs;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        let rows = self.iter().map(|(key, _)| inline(&[("key", quoted(key)), ("value", quoted("hidden"))]));
        Some(format!("[{}]", rows.collect::<Vec<_>>().join(", ")))
    }
}

impl Field for Vec<StatusToCode> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let mend = "write [{ status_code = 404, to_error = { code = 404, message = \"none\" } }]";
        let mut all = Vec::new();
        for (number, row) in rows(raw, mend)?.iter().enumerate() {
            let mut one = StatusToCode::default();
            fill(
                row,
                number,
                &mut [
                    ("status_code", &mut one.status, Unit::Count),
                    ("to_error.code", &mut one.error_code, Unit::Count),
                    ("to_error.message", &mut one.error_message, Unit::Text),
                    ("to_error.temporary", &mut one.error_temporary, Unit::Switch),
                    ("to_disconnect.code", &mut one.disconnect_code, Unit::Count),
                    ("to_disconnect.reason", &mut one.disconnect_reason, Unit::Text),
                ],
            )?;
            let wrong = |what: &str| Err(Wrong::new(format!("[{number}] {what}"), mend));
            if one.status == 0 {
                return wrong("names no status_code");
            }
            match (one.error_code, one.disconnect_code) {
                (0, 0) => return wrong("has neither to_error.code nor to_disconnect.code"),
                (0, _) | (_, 0) => {}
                _ => return wrong("has both to_error.code and to_disconnect.code"),
            }
            reason_fits(&one.error_message, number)?;
            reason_fits(&one.disconnect_reason, number)?;
            all.push(one);
        }
        *self = all;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        let rows = self.iter().map(|one| {
            let status = ("status_code", one.status.to_string());
            let error = inline(&[
                ("code", one.error_code.to_string()),
                ("message", quoted(&one.error_message)),
                ("temporary", one.error_temporary.to_string()),
            ]);
            let end = inline(&[("code", one.disconnect_code.to_string()), ("reason", quoted(&one.disconnect_reason))]);
            if one.error_code > 0 {
                inline(&[status, ("to_error", error)])
            } else {
                inline(&[status, ("to_disconnect", end)])
            }
        });
        Some(format!("[{}]", rows.collect::<Vec<_>>().join(", ")))
    }
}

impl Field for Vec<ConnectCode> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let mend = "write [{ code = 401, to = { code = 4401, reason = \"unauthorized\" } }]";
        let mut all = Vec::new();
        for (number, row) in rows(raw, mend)?.iter().enumerate() {
            let mut one = ConnectCode::default();
            fill(
                row,
                number,
                &mut [
                    ("code", &mut one.code, Unit::Count),
                    ("to.code", &mut one.to_code, Unit::Count),
                    ("to.reason", &mut one.to_reason, Unit::Text),
                ],
            )?;
            if one.code == 0 || one.to_code == 0 {
                return Err(Wrong::new(format!("[{number}] lacks code or to.code"), mend));
            }
            reason_fits(&one.to_reason, number)?;
            all.push(one);
        }
        *self = all;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        let rows = self.iter().map(|one| {
            let to = inline(&[("code", one.to_code.to_string()), ("reason", quoted(&one.to_reason))]);
            inline(&[("code", one.code.to_string()), ("to", to)])
        });
        Some(format!("[{}]", rows.collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    #[test]
    fn an_endpoint_is_http_with_a_host() {
        for good in
            ["", "http://a", "https://user:pass@a.example/x?y", "http://[::1]:80/", "https://{{tenant}}.a:8080/"]
        {
            url(good, false).unwrap_or_else(|wrong| panic!("{good}: {wrong:?}"));
        }
        for bad in ["a", "ftp://a", "http://", "http://:80", "http://a:b", "http://a:0", "http://a b", "grpc://a:1"] {
            assert!(url(bad, false).is_err(), "{bad}");
        }
        for (text, fits) in
            [("grpc://a:1", true), ("a.example:1", true), ("grpc://a", false), ("a", false), ("ftp://a:1", false)]
        {
            assert_eq!(url(text, true).is_ok(), fits, "{text}");
        }
        assert!(!url("ftp://secret@a", true).unwrap_err().what.contains("secret"));
    }

    #[test]
    fn words_are_read_and_said_again() {
        for (word, format) in FORMATS {
            let mut read = DataFormat::Any;
            read.read(&text(word), Unit::Choice).unwrap();
            assert_eq!((read, read.show(Unit::Choice)), (format, Some(quoted(word))));
        }
        let wrong = RecoveryMode::Stream.read(&text("both"), Unit::Choice).unwrap_err();
        assert!(wrong.mend.contains("\"cache\""), "{wrong:?}");
    }

    #[test]
    fn headers_come_as_a_table_or_as_a_list() {
        let row = |pairs: &[(&str, &str)]| -> Row {
            pairs.iter().map(|(key, value)| (key.to_string(), text(value))).collect()
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        headers.read(&Raw::Table(row(&[("X-Key", "1")])), Unit::HeaderValues).unwrap();
        assert_eq!(headers, [("X-Key".to_owned(), "1".to_owned())]);
        headers.read(&Raw::Rows(vec![row(&[("key", "X-Key"), ("value", "2")])]), Unit::HeaderValues).unwrap();
        assert_eq!(headers, [("X-Key".to_owned(), "2".to_owned())]);
        assert!(!headers.show(Unit::HeaderValues).unwrap().contains('2'));
        for bad in [
            Raw::Table(row(&[("X Key", "1")])),
            Raw::Table(row(&[("X-Key", "a\nb")])),
            Raw::Table(row(&[("X-Key", "1"), ("x-key", "2")])),
            Raw::Table(row(&[("X-Key", "${CENTRIFUGO_VAR_KEY}")])),
            Raw::Rows(vec![row(&[("name", "X-Key")])]),
            text("X-Key: 1"),
        ] {
            assert!(headers.read(&bad, Unit::HeaderValues).is_err(), "{bad:?}");
        }
    }
}
