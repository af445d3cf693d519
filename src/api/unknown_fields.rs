//! Fields of a request that its method does not have, such as a misspelled one: noticed while the request is read, then
//! logged or rejected (`http_api.unknown_fields`).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::Deserializer;
use serde_ignored::Path;

use super::shard_api::{ApiError, ApiResult};

/// At most one line is logged in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Characters of a field's name in a line or an error.
const NAME_CHARS_MAX: usize = 64;

/// What happens to unknown fields.
#[derive(Clone, Copy)]
pub(crate) enum UnknownFields<'a> {
    /// They are ignored, and the log names them.
    Log(&'a UnknownFieldLog),
    /// The call is rejected with error 107.
    Reject,
}

impl UnknownFields<'_> {
    /// Judges a request by the first unknown field of it.
    pub(crate) fn judge<T>(self, method: &str, unknown: Option<String>, request: T) -> ApiResult<T> {
        match (self, unknown) {
            (_, None) => Ok(request),
            (Self::Log(log), Some(field)) => {
                log.note(method, &field);
                Ok(request)
            }
            (Self::Reject, Some(field)) => Err(ApiError::BadRequest(format!("{method} has no field `{field}`").into())),
        }
    }
}

/// Reads a value, and the path of the first field of it that is unknown.
pub(crate) fn noticing<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<(T, Option<String>), D::Error> {
    let mut unknown = None;
    let mut notice = |path: Path<'_>| _ = unknown.get_or_insert_with(|| name(&path));
    let value = T::deserialize(serde_ignored::Deserializer::new(from, &mut notice))?;
    Ok((value, unknown))
}

/// `since.ofset`, without what no reader of the request sees.
pub(crate) fn name(path: &Path<'_>) -> String {
    let (parent, last) = match path {
        Path::Root => return String::new(),
        Path::Map { parent, key } => (parent, key.chars().take(NAME_CHARS_MAX).collect()),
        Path::Seq { parent, index } => (parent, index.to_string()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            return name(parent);
        }
    };
    let before = name(parent);
    if before.is_empty() { last } else { format!("{before}.{last}") }
}

/// Logs unknown fields, with the number of those that were not logged since the last line.
#[derive(Default, Debug)]
pub(crate) struct UnknownFieldLog(Mutex<Suppressed>);

#[derive(Default, Debug)]
struct Suppressed {
    last_line: Option<Instant>,
    count: u64,
}

impl UnknownFieldLog {
    fn note(&self, method: &str, field: &str) {
        let mut suppressed = self.0.lock().expect("never poisoned: no code panics while holding the lock");
        if suppressed.last_line.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            suppressed.count += 1;
            return;
        }
        let more = match std::mem::take(&mut suppressed.count) {
            0 => String::new(),
            count => format!(", and {count} more calls with unknown fields since the last such line"),
        };
        suppressed.last_line = Some(Instant::now());
        log::warn!(
            "server API: {method} has no field {field:?}; the field is ignored{more} (http_api.unknown_fields = \"reject\" rejects such calls)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::History;

    fn unknown(json: &str) -> Option<String> {
        let mut from = serde_json::Deserializer::from_str(json);
        noticing::<Option<History<'_>>, _>(&mut from).expect("JSON").1
    }

    #[test]
    fn first_unknown_field_is_named_by_its_path() {
        assert_eq!(unknown(r#"{"channel":"a","limit":1,"since":{"offset":1,"epoch":""},"reverse":null}"#), None);
        assert_eq!(unknown(r#"{"user":"u","channel":"a","from":1}"#).as_deref(), Some("user"));
        assert_eq!(unknown(r#"{"channel":"a","since":{"ofset":1}}"#).as_deref(), Some("since.ofset"));
        let long = format!("{{\"{}\":1}}", "ü".repeat(1000));
        assert_eq!(unknown(&long), Some("ü".repeat(NAME_CHARS_MAX)));
        assert_eq!(unknown("null"), None);
    }
}
