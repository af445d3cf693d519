//! Compatibility with the original's configuration: what happens to its keys that are not settings here.
//!
//! A key about permissions is an error: ignoring it would silently open or close access. Any other key gives a warning, unless
//! its value is what applies here anyway: its default there, nothing, or a section that is off.

pub(crate) mod keys;

use super::error::ConfigError;
use super::parse::scalar::{Bool, duration};
use super::parse::value::{Invalid, Raw, Unit};
use super::schema::registry::{LISTS, split_list_name};
use super::sources::raw_setting::RawSetting;
use keys::{FOREIGN, ForeignKey, SAME_KEYS, SWITCHED, Verdict};

/// Parts of unknown keys that are probably about permissions.
const ACCESS_WORDS: &[&str] =
    &["allow", "insecure", "token", "tls", "auth", "secret", "password", "proxy_enabled", "permission"];

/// What to report about a value that is not a setting.
pub(crate) enum Judgment {
    Ignored,
    Warning(String),
    Error(ConfigError),
}

/// `all` are the values of every source, since another key may switch the section of `value` off.
pub(crate) fn judge(value: &RawSetting, all: &[RawSetting]) -> Judgment {
    let path = canonical(&without_numbers(&value.name));
    let matches = |foreign: &&ForeignKey| match foreign.path.ends_with('.') {
        true => path.starts_with(foreign.path) || path == foreign.path.trim_end_matches('.'),
        false => path == foreign.path,
    };
    let Some(foreign) = FOREIGN.iter().filter(matches).max_by_key(|foreign| foreign.path.len()) else {
        return unknown(value, &path);
    };
    if is_nothing(&value.raw) || equals(&value.raw, foreign.default) || is_switched_off(&path, all) {
        return Judgment::Ignored;
    }
    match foreign.verdict {
        // An unknown permission in a section that has no effect otherwise.
        Verdict::Idle(_) if path.rsplit('.').next().is_some_and(|key| key.starts_with("allow_")) => {
            let what = "it would allow something that cannot be allowed here";
            Judgment::Error(value.error(Invalid::new(what, "set it to false, or remove it")))
        }
        Verdict::Idle(why) => Judgment::Warning(format!("{}: {} has no effect: {why}", value.origin, value.name)),
        Verdict::Refused(what, fix) => Judgment::Error(value.error(Invalid::new(what, fix))),
    }
}

fn unknown(value: &RawSetting, path: &str) -> Judgment {
    let mut error = value.unknown();
    // The name as written: sections with the same keys are not lists.
    let written = without_numbers(&value.name);
    let list = LISTS
        .iter()
        .find(|list| written.strip_prefix(**list).is_some_and(|rest| matches!(rest.get(..1), None | Some("[" | "."))));
    if let Some(list) = list.filter(|_| split_list_name(&value.name).is_none()) {
        // Ignoring the list would change permissions.
        let what = format!("{list} is a list of tables");
        return Judgment::Error(value.error(Invalid::new(what, format!("write [[{list}]] or, in JSON, [{{...}}]"))));
    }
    if !value.is_foreign() {
        return Judgment::Error(error);
    }
    if ACCESS_WORDS.iter().any(|word| path.contains(word)) {
        error.what.push_str(", and it may change permissions");
        return Judgment::Error(error);
    }
    let hint = if error.fix.starts_with("did you mean") { format!("; {}", error.fix) } else { String::new() };
    let (origin, setting) = (&error.origin, &error.setting);
    Judgment::Warning(format!("{origin}: {setting} has no effect: there is no setting with this name{hint}"))
}

/// The key of the original that the rest of an environment variable names, after `section`. Its name may contain dots where the
/// original has `_`.
pub(crate) fn key_of_variable(section: &str, rest: &str) -> Option<String> {
    let own = |foreign: &ForeignKey| {
        let same = SAME_KEYS.iter().filter_map(|(one, all)| Some(format!("{one}{}", foreign.path.strip_prefix(all)?)));
        same.chain([foreign.path.to_owned()]).collect::<Vec<_>>()
    };
    let key = |path: String| {
        let key = path.strip_prefix(section).filter(|key| !key.is_empty() && !key.contains('['))?;
        let variable = key.replace('.', "_").to_uppercase();
        match key.ends_with('.') {
            true => Some((key.len(), with_dots(key, &rest.strip_prefix(&variable)?.to_lowercase()))),
            false => (rest == variable).then(|| (key.len(), key.to_owned())),
        }
    };
    FOREIGN.iter().flat_map(own).filter_map(key).max().map(|(_, key)| key)
}

/// The name of `rest` in a section; a section within it that can be switched off gets its dot.
fn with_dots(section: &str, rest: &str) -> String {
    let inner = SWITCHED.iter().filter_map(|(switched, ..)| switched.strip_prefix(section));
    let found = inner.max_by_key(|inner| if rest.starts_with(&format!("{inner}_")) { inner.len() } else { 0 });
    match found.and_then(|inner| Some((inner, rest.strip_prefix(inner)?.strip_prefix('_')?))) {
        Some((inner, key)) => format!("{section}{inner}.{key}"),
        None => format!("{section}{rest}"),
    }
}

/// Unset in the original.
fn is_nothing(raw: &Raw) -> bool {
    match raw {
        Raw::Text(_) if Bool::read(raw) == Ok(false) => true,
        Raw::Bool(on) => !on,
        Raw::Integer(number) => *number == 0,
        Raw::Text(text) => matches!(text.as_str(), "" | "0s" | "[]" | "{}"),
        Raw::List(items) => items.is_empty(),
        Raw::Table(row) => row.is_empty(),
        // Lists such as `consumers`, whose elements can be off.
        Raw::Rows(rows) => rows.iter().all(|row| row.contains(&("enabled".to_owned(), Raw::Bool(false)))),
        Raw::Other(_) => false,
    }
}

fn equals(raw: &Raw, default: &str) -> bool {
    !default.is_empty()
        && match raw {
            Raw::Text(_) if default == "true" => Bool::read(raw) == Ok(true),
            Raw::Text(text) => text == default || duration(text).is_some_and(|span| duration(default) == Some(span)),
            Raw::Integer(number) => number.to_string() == default,
            Raw::Bool(on) => on.to_string() == default,
            _ => false,
        }
}

fn is_switched_off(path: &str, all: &[RawSetting]) -> bool {
    let inside = |section: &str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    SWITCHED.iter().filter(|(section, switch, _)| inside(section) && path != *switch).any(|(_, switch, on)| {
        let last = all.iter().rfind(|value| value.name == *switch);
        last.is_none_or(|value| !equals(&value.raw, on))
    })
}

/// The path with the section that the table contains.
fn canonical(path: &str) -> String {
    let found = SAME_KEYS.iter().find_map(|(one, all)| path.strip_prefix(one).map(|rest| format!("{all}{rest}")));
    found.unwrap_or_else(|| path.to_owned())
}

/// `proxies[3].x` becomes `proxies[].x`.
fn without_numbers(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut inside = false;
    for c in name.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_names_a_key_of_the_original() {
        for (section, rest, key) in [
            ("", "LOG_LEVEL", Some("log.level")),
            ("", "BROKER_POSTGRES_DSN", Some("broker.postgres.dsn")),
            ("", "ENGINE_REDIS_TLS_CLIENT_CA_PEM", Some("engine.redis.tls.client_ca_pem")),
            ("", "CLIENT_PROXY_CONNECT_HTTP_TLS_ENABLED", Some("client.proxy.connect.http.tls.enabled")),
            ("", "CHANNEL_WITHOUT_NAMESPACE_SUBSCRIPTION_TYPE", Some("channel.without_namespace.subscription_type")),
            ("channel.namespaces[].", "MAP_MODE", Some("map.mode")),
            ("proxies[].", "HTTP_TLS_ENABLED", Some("http.tls.enabled")),
            ("", "CLIENT_PING_INTERVALL", None),
            ("", "MAP_BROKER_POSTGRES_POOL_SIZE", Some("map_broker.postgres.pool_size")),
            ("", "MAP_BROKER_TYPE", Some("map_broker.type")),
            ("", "HTTP_SERVER_TLS_AUTOCERT_EMAIL", Some("http_server.tls_autocert.email")),
            ("proxies[].", "SUBSCRIPTION_TYPE", None),
        ] {
            assert_eq!(key_of_variable(section, rest).as_deref(), key, "{rest}");
        }
    }

    #[test]
    fn numbers_of_list_elements_are_removed() {
        assert_eq!(without_numbers("channel.namespaces[12].map.mode"), "channel.namespaces[].map.mode");
        assert_eq!(without_numbers("pid_file"), "pid_file");
    }
}
