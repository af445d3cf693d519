//! Which methods there are, and how a body of JSON becomes calls of them: alone, in a batch, or in the old style.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::call::{Call, Nothing, Text, or_default};
use super::shard_api::{AskError, Asked};
use crate::protocol::ErrorCode;

/// Commands of one batch; past it the whole is refused.
pub const BATCH_COMMANDS_MAX: usize = 10_000;

/// The methods, by the names they have in paths, in batches and in answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Publish,
    Broadcast,
    Unsubscribe,
    Disconnect,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Channels,
    Info,
    Rpc,
    Subscribe,
    Refresh,
}

impl Method {
    /// In the order of the numbers that the old style of the API knows them by.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Publish, "publish"),
        (Self::Broadcast, "broadcast"),
        (Self::Unsubscribe, "unsubscribe"),
        (Self::Disconnect, "disconnect"),
        (Self::Presence, "presence"),
        (Self::PresenceStats, "presence_stats"),
        (Self::History, "history"),
        (Self::HistoryRemove, "history_remove"),
        (Self::Channels, "channels"),
        (Self::Info, "info"),
        (Self::Rpc, "rpc"),
        (Self::Subscribe, "subscribe"),
        (Self::Refresh, "refresh"),
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
    }
}

/// Reads the method's fields. `None` for `null`.
impl<'de> DeserializeSeed<'de> for Method {
    type Value = Option<Call<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Call<'de>>, D::Error> {
        fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
            from: D,
            call: fn(T) -> Call<'de>,
        ) -> Result<Option<Call<'de>>, D::Error> {
            Ok(Option::<T>::deserialize(from)?.map(call))
        }
        match self {
            Self::Publish => read(from, Call::Publish),
            Self::Broadcast => read(from, Call::Broadcast),
            Self::Unsubscribe => read(from, Call::Unsubscribe),
            Self::Disconnect => read(from, Call::Disconnect),
            Self::Presence => read(from, Call::Presence),
            Self::PresenceStats => read(from, Call::PresenceStats),
            Self::History => read(from, Call::History),
            Self::HistoryRemove => read(from, Call::HistoryRemove),
            Self::Channels => read(from, Call::Channels),
            Self::Info => read(from, |Nothing {}| Call::Info),
            Self::Rpc => read(from, Call::Rpc),
            Self::Subscribe => read(from, Call::Subscribe),
            Self::Refresh => read(from, Call::Refresh),
        }
    }
}

/// A method's fields as the body of a request has them. Errors: it is no JSON, or not of this shape.
pub fn call(method: Method, body: &[u8]) -> Result<Asked<Call<'_>>, serde_json::Error> {
    // Fields without their names, in some order, are not what anybody means.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::custom("an array where an object was expected"));
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let call = method.deserialize(&mut from)?;
    from.end()?;
    Ok(call.ok_or_else(null))
}

fn null() -> AskError {
    AskError::BadRequest("the request is `null`".into())
}

/// The old style's calls of one body, one after the other: `{"method": …, "params": {…}}`, with the ids that their replies
/// shall have. Errors: one is no JSON, or not of this shape, or there are none, or too many.
pub fn old_style(body: &[u8]) -> Result<Vec<(u32, Asked<Call<'_>>)>, serde_json::Error> {
    let mut calls = Vec::new();
    for command in serde_json::Deserializer::from_slice(body).into_iter::<OldCommand>() {
        if calls.len() == BATCH_COMMANDS_MAX {
            return Err(Error::custom(format!("more than {BATCH_COMMANDS_MAX} commands in one body")));
        }
        let OldCommand { id, method: OldMethod(method), params } = command?;
        calls.push((id, method.ok_or(ErrorCode::MethodNotFound.into()).and_then(|method| with(method, params))));
    }
    if calls.is_empty() { Err(Error::custom("there is no command")) } else { Ok(calls) }
}

fn with(method: Method, params: Option<&RawValue>) -> Asked<Call<'_>> {
    match params {
        None if method == Method::Info => Ok(Call::Info),
        None => Err(AskError::BadRequest("`params` is missing".into())),
        Some(params) => call(method, params.get().as_bytes()).unwrap_or_else(|error| Err(bad(error.to_string()))),
    }
}

fn bad(what: String) -> AskError {
    AskError::BadRequest(what.into())
}

#[derive(Deserialize)]
struct OldCommand<'a> {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    method: OldMethod,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// A name in any letters, or a number. `None`: a number that no method has.
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
        let method = Method::named(&name.to_ascii_lowercase());
        method.map(|method| OldMethod(Some(method))).ok_or_else(|| E::custom(format!("there is no method {name:?}")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<OldMethod, E> {
        let known = usize::try_from(number).ok().and_then(|number| Method::ALL.get(number));
        Ok(OldMethod(known.map(|(method, _)| *method)))
    }
}

/// Many calls in one.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Batch<'a> {
    /// A command that is none has its refusal in its place.
    #[serde(borrow, deserialize_with = "commands")]
    pub commands: Vec<Asked<Call<'a>>>,
    /// The calls need not wait for one another.
    #[serde(deserialize_with = "or_default")]
    pub parallel: bool,
}

impl<'a> Batch<'a> {
    /// Errors: it is no JSON, or not of this shape, or too long.
    pub fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

fn commands<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Asked<Call<'de>>>, D::Error> {
    from.deserialize_any(CommandsVisitor)
}

struct CommandsVisitor;

impl<'de> Visitor<'de> for CommandsVisitor {
    type Value = Vec<Asked<Call<'de>>>;

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

/// An object with one field, named for its method.
struct Command<'a>(Asked<Call<'a>>);

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
        Ok(Command(Err(null())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Command<'de>, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = from.next_key()? {
            match Method::named(&name).filter(|_| found.is_none()) {
                Some(method) => found = from.next_value_seed(method)?,
                None => _ = from.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Command(found.ok_or_else(|| ErrorCode::MethodNotFound.into())))
    }
}
