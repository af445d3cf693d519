//! Reads requests from JSON bodies: one request, a batch, or the old style of the API.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::StringField;
use super::request::{ApiRequest, BATCH_COMMANDS_MAX, Method, NoFields};
use super::shard_api::{ApiError, ApiResult};
use super::unknown_fields::UnknownFields;
use crate::protocol::ErrorCode;

/// Reads a method's fields from a body. Errors: it is not JSON, or not of this shape.
pub(crate) fn read_request<'a>(
    method: Method,
    body: &'a [u8],
    unknown_fields: UnknownFields<'_>,
) -> Result<ApiResult<ApiRequest<'a>>, serde_json::Error> {
    // serde would read an array as the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::custom("an array where an object was expected"));
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let (request, unknown) = method.read(&mut from)?;
    from.end()?;
    let request = request.ok_or_else(null_request);
    Ok(request.and_then(|request| unknown_fields.judge(method.name(), unknown, request)))
}

fn null_request() -> ApiError {
    ApiError::BadRequest("the request is `null`".into())
}

/// A command of the old style, with the id that its reply carries.
pub(crate) type OldCommand<'a> = (u32, ApiResult<ApiRequest<'a>>);

/// Reads the commands of the old style, one after the other: `{"method": …, "params": {…}}`. Errors: a command is not JSON
/// or not of this shape, or the list is empty or too long.
pub(crate) fn read_old_style<'a>(
    body: &'a [u8],
    unknown_fields: UnknownFields<'_>,
) -> Result<Vec<OldCommand<'a>>, serde_json::Error> {
    let mut commands = Vec::new();
    for command in serde_json::Deserializer::from_slice(body).into_iter::<OldCommandFields>() {
        if commands.len() == BATCH_COMMANDS_MAX {
            return Err(Error::custom(format!("more than {BATCH_COMMANDS_MAX} commands in one body")));
        }
        let OldCommandFields { id, method: OldMethod(method), params } = command?;
        let method = method.ok_or(ErrorCode::MethodNotFound.into());
        commands.push((id, method.and_then(|method| read_params(method, params, unknown_fields))));
    }
    if commands.is_empty() { Err(Error::custom("the body holds no command")) } else { Ok(commands) }
}

fn read_params<'a>(
    method: Method,
    params: Option<&'a RawValue>,
    unknown_fields: UnknownFields<'_>,
) -> ApiResult<ApiRequest<'a>> {
    match params {
        None if method == Method::Info => Ok(ApiRequest::Info(NoFields {})),
        None => Err(ApiError::BadRequest("`params` is missing".into())),
        Some(params) => read_request(method, params.get().as_bytes(), unknown_fields)
            .unwrap_or_else(|error| Err(ApiError::BadRequest(error.to_string().into()))),
    }
}

#[derive(Deserialize)]
struct OldCommandFields<'a> {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    method: OldMethod,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// A name in upper or lower case, or a number. `None`: a number without a method.
struct OldMethod(Option<Method>);

impl Default for OldMethod {
    fn default() -> Self {
        Self(Some(Method::Publish))
    }
}

impl<'de> Deserialize<'de> for OldMethod {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OldMethodVisitor)
    }
}

struct OldMethodVisitor;

impl Visitor<'_> for OldMethodVisitor {
    type Value = OldMethod;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a method")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<OldMethod, E> {
        let method = Method::from_name(&name.to_ascii_lowercase());
        method.map(|method| OldMethod(Some(method))).ok_or_else(|| E::custom(format!("there is no method {name:?}")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<OldMethod, E> {
        let known = usize::try_from(number).ok().and_then(|number| Method::ALL.get(number));
        Ok(OldMethod(known.map(|(method, _)| *method)))
    }
}

/// The body of a batch.
#[derive(Default, Debug)]
pub(crate) struct Batch<'a> {
    /// A command that cannot be read has its error in its place.
    pub commands: Vec<ApiResult<ApiRequest<'a>>>,
    /// The commands need not wait for one another.
    pub parallel: bool,
}

impl<'a> Batch<'a> {
    /// The outer error: the body is not JSON, not of this shape, or has too many commands. The inner error: it has a field
    /// that a batch does not have.
    pub(crate) fn read(
        body: &'a [u8],
        unknown_fields: UnknownFields<'_>,
    ) -> Result<ApiResult<Self>, serde_json::Error> {
        let mut from = serde_json::Deserializer::from_slice(body);
        let batch = from.deserialize_map(BatchVisitor(unknown_fields))?;
        from.end()?;
        Ok(batch)
    }
}

struct BatchVisitor<'u>(UnknownFields<'u>);

impl<'de> Visitor<'de> for BatchVisitor<'_> {
    type Value = ApiResult<Batch<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field `commands`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let (mut batch, mut unknown) = (Batch::default(), None);
        let (mut has_commands, mut has_parallel) = (false, false);
        while let Some(StringField(name)) = from.next_key()? {
            match &*name {
                "commands" if std::mem::replace(&mut has_commands, true) => {
                    return Err(Error::duplicate_field("commands"));
                }
                "commands" => batch.commands = from.next_value_seed(Commands(self.0))?,
                "parallel" if std::mem::replace(&mut has_parallel, true) => {
                    return Err(Error::duplicate_field("parallel"));
                }
                "parallel" => batch.parallel = from.next_value::<Option<bool>>()?.unwrap_or_default(),
                _ => {
                    from.next_value::<IgnoredAny>()?;
                    unknown.get_or_insert_with(|| name.into_owned());
                }
            }
        }
        Ok(self.0.judge("batch", unknown, batch))
    }
}

/// The list of commands; `null` is empty.
struct Commands<'u>(UnknownFields<'u>);

impl<'de> DeserializeSeed<'de> for Commands<'_> {
    type Value = Vec<ApiResult<ApiRequest<'de>>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Commands<'_> {
    type Value = Vec<ApiResult<ApiRequest<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of commands")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut commands = Vec::new();
        while let Some(command) = from.next_element_seed(Command(self.0))? {
            if commands.len() == BATCH_COMMANDS_MAX {
                return Err(Error::custom(format!("more than {BATCH_COMMANDS_MAX} commands in one batch")));
            }
            commands.push(command);
        }
        Ok(commands)
    }
}

/// An object with one field, which is named for its method.
struct Command<'u>(UnknownFields<'u>);

impl<'de> DeserializeSeed<'de> for Command<'_> {
    type Value = ApiResult<ApiRequest<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Command<'_> {
    type Value = ApiResult<ApiRequest<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Err(null_request()))
    }

    /// The first field that names a method and is not `null`.
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut other) = (None, None);
        while let Some(StringField(name)) = from.next_key()? {
            let method = Method::from_name(&name);
            match method.filter(|_| found.is_none()) {
                Some(method) => {
                    let (request, unknown) = from.next_value_seed(Fields(method))?;
                    found = request.map(|request| self.0.judge(method.name(), unknown, request));
                }
                None => {
                    let is_null = from.next_value::<Option<IgnoredAny>>()?.is_none();
                    if method.is_none() || !is_null {
                        other.get_or_insert_with(|| name.into_owned());
                    }
                }
            }
        }
        Ok(match found {
            Some(Ok(request)) => self.0.judge("a command of a batch", other, request),
            Some(Err(error)) => Err(error),
            None => Err(ErrorCode::MethodNotFound.into()),
        })
    }
}

/// The fields of a method, with the first one that it does not have. `None` for `null`.
struct Fields(Method);

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = (Option<ApiRequest<'de>>, Option<String>);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.read(from)
    }
}
