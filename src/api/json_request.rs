//! Reads requests from JSON bodies: one request, a batch, or the old style of the API.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::{StringField, or_default};
use super::request::{ApiRequest, BATCH_COMMANDS_MAX, Method, NoFields};
use super::shard_api::{ApiError, ApiResult};
use crate::protocol::ErrorCode;

/// Reads a method's fields from a body. Errors: it is not JSON, or not of this shape.
pub(crate) fn read_request(method: Method, body: &[u8]) -> Result<ApiResult<ApiRequest<'_>>, serde_json::Error> {
    // serde would read an array as the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::custom("an array where an object was expected"));
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let request = method.deserialize(&mut from)?;
    from.end()?;
    Ok(request.ok_or_else(null_request))
}

fn null_request() -> ApiError {
    ApiError::BadRequest("the request is `null`".into())
}

/// A command of the old style, with the id that its reply carries.
pub(crate) type OldCommand<'a> = (u32, ApiResult<ApiRequest<'a>>);

/// Reads the commands of the old style, one after the other: `{"method": …, "params": {…}}`. Errors: a command is not JSON
/// or not of this shape, or the list is empty or too long.
pub(crate) fn read_old_style(body: &[u8]) -> Result<Vec<OldCommand<'_>>, serde_json::Error> {
    let mut commands = Vec::new();
    for command in serde_json::Deserializer::from_slice(body).into_iter::<OldCommandFields>() {
        if commands.len() == BATCH_COMMANDS_MAX {
            return Err(Error::custom(format!("more than {BATCH_COMMANDS_MAX} commands in one body")));
        }
        let OldCommandFields { id, method: OldMethod(method), params } = command?;
        let request = method.ok_or(ErrorCode::MethodNotFound.into()).and_then(|method| read_params(method, params));
        commands.push((id, request));
    }
    if commands.is_empty() { Err(Error::custom("the body holds no command")) } else { Ok(commands) }
}

fn read_params(method: Method, params: Option<&RawValue>) -> ApiResult<ApiRequest<'_>> {
    match params {
        None if method == Method::Info => Ok(ApiRequest::Info(NoFields {})),
        None => Err(ApiError::BadRequest("`params` is missing".into())),
        Some(params) => read_request(method, params.get().as_bytes())
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
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(crate) struct Batch<'a> {
    /// A command that cannot be read has its error in its place.
    #[serde(borrow, deserialize_with = "read_commands")]
    pub commands: Vec<ApiResult<ApiRequest<'a>>>,
    /// The commands need not wait for one another.
    #[serde(deserialize_with = "or_default")]
    pub parallel: bool,
}

impl<'a> Batch<'a> {
    /// Errors: the body is not JSON, not of this shape, or has too many commands.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

fn read_commands<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ApiResult<ApiRequest<'de>>>, D::Error> {
    from.deserialize_any(CommandsVisitor)
}

struct CommandsVisitor;

impl<'de> Visitor<'de> for CommandsVisitor {
    type Value = Vec<ApiResult<ApiRequest<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of commands")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut commands = Vec::new();
        while let Some(Command(command)) = from.next_element()? {
            if commands.len() == BATCH_COMMANDS_MAX {
                return Err(Error::custom(format!("more than {BATCH_COMMANDS_MAX} commands in one batch")));
            }
            commands.push(command);
        }
        Ok(commands)
    }
}

/// An object with one field, which is named for its method.
struct Command<'a>(ApiResult<ApiRequest<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Command<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CommandVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_unit<E: Error>(self) -> Result<Command<'de>, E> {
        Ok(Command(Err(null_request())))
    }

    /// The first field that names a method and is not `null`.
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Command<'de>, A::Error> {
        let mut found = None;
        while let Some(StringField(name)) = from.next_key()? {
            match Method::from_name(&name).filter(|_| found.is_none()) {
                Some(method) => found = from.next_value_seed(method)?,
                None => _ = from.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Command(found.ok_or_else(|| ErrorCode::MethodNotFound.into())))
    }
}
