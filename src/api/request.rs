//! The requests of the server API as both front-ends read them, and the names of their methods. `check` makes an `ApiCall`
//! of a request.
//!
//! In JSON, an unknown field fails no call unless the operator wants that (`unknown_fields`), since client libraries send
//! fields of other versions of the protocol.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;

use super::fields::{PayloadField, StringField, UnsupportedField, or_default};
use super::unknown_fields::noticing;

/// Commands in one batch; a longer batch is rejected as a whole.
pub const BATCH_COMMANDS_MAX: usize = 10_000;

macro_rules! methods {
    ($($method:ident($fields:ty) = $name:literal,)*) => {
        /// A request, unchecked.
        #[derive(Debug)]
        pub enum ApiRequest<'a> {
            $($method($fields),)*
        }

        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Method {
            $($method,)*
        }

        impl Method {
            /// With their names in paths, batches and replies.
            pub const ALL: &[(Self, &str)] = &[$((Self::$method, $name),)*];
        }

        impl ApiRequest<'_> {
            pub fn method(&self) -> Method {
                match self {
                    $(Self::$method(_) => Method::$method,)*
                }
            }
        }

        impl Method {
            /// Reads the method's fields, and the path of the first field that it does not have. `None` for `null`.
            pub(crate) fn read<'a, D: Deserializer<'a>>(
                self,
                from: D,
            ) -> Result<(Option<ApiRequest<'a>>, Option<String>), D::Error> {
                match self {
                    $(Self::$method => {
                        let (fields, unknown) = noticing::<Option<$fields>, D>(from)?;
                        Ok((fields.map(ApiRequest::$method), unknown))
                    })*
                }
            }
        }
    };
}

// In the order of the numbers that the old style of the API uses.
methods! {
    Publish(Publish<'a>) = "publish",
    Broadcast(Publish<'a>) = "broadcast",
    Unsubscribe(Unsubscribe<'a>) = "unsubscribe",
    Disconnect(Disconnect<'a>) = "disconnect",
    Presence(OneChannel<'a>) = "presence",
    PresenceStats(OneChannel<'a>) = "presence_stats",
    History(History<'a>) = "history",
    HistoryRemove(OneChannel<'a>) = "history_remove",
    Channels(Channels<'a>) = "channels",
    Info(NoFields) = "info",
    Rpc(Rpc<'a>) = "rpc",
    Subscribe(Subscribe<'a>) = "subscribe",
    Refresh(Refresh<'a>) = "refresh",
    HistoryQuery(HistoryQuery<'a>) = "history_query",
}

impl Method {
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The fields of `publish`, which uses `channel`, and of `broadcast`, which uses `channels`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Publish<'a> {
    #[serde(borrow)]
    pub channel: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub channels: Vec<StringField<'a>>,
    pub data: PayloadField<'a>,
    pub b64data: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<Cow<'a, str>, StringField<'a>>,
    pub idempotency_key: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub delta: bool,
    #[serde(deserialize_with = "or_default")]
    pub version: u64,
    pub version_epoch: StringField<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Subscribe<'a> {
    #[serde(borrow)]
    pub channel: StringField<'a>,
    pub user: StringField<'a>,
    pub client: StringField<'a>,
    pub session: StringField<'a>,
    pub info: PayloadField<'a>,
    pub b64info: StringField<'a>,
    pub data: PayloadField<'a>,
    pub b64data: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub expire_at: i64,
    pub recover_since: Option<Since<'a>>,
    #[serde(rename = "override", deserialize_with = "or_default")]
    pub overrides: Overrides,
    pub label_filter: Option<UnsupportedField>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

/// An empty channel means every channel.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Unsubscribe<'a> {
    #[serde(borrow)]
    pub channel: StringField<'a>,
    pub user: StringField<'a>,
    pub client: StringField<'a>,
    pub session: StringField<'a>,
    pub label_filter: Option<UnsupportedField>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Disconnect<'a> {
    #[serde(borrow)]
    pub user: StringField<'a>,
    pub client: StringField<'a>,
    pub session: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub whitelist: Vec<StringField<'a>>,
    pub disconnect: Option<CloseFrame<'a>>,
    pub label_filter: Option<UnsupportedField>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

/// The content of the close frame.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct CloseFrame<'a> {
    #[serde(deserialize_with = "or_default")]
    pub code: u32,
    #[serde(borrow)]
    pub reason: StringField<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Refresh<'a> {
    #[serde(borrow)]
    pub user: StringField<'a>,
    pub client: StringField<'a>,
    pub session: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub expired: bool,
    #[serde(deserialize_with = "or_default")]
    pub expire_at: i64,
    pub info: PayloadField<'a>,
    pub label_filter: Option<UnsupportedField>,
    #[serde(deserialize_with = "or_default")]
    pub all_users: bool,
}

/// The fields of a method that takes a channel name alone.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct OneChannel<'a> {
    #[serde(borrow)]
    pub channel: StringField<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct History<'a> {
    #[serde(borrow)]
    pub channel: StringField<'a>,
    #[serde(deserialize_with = "or_default")]
    pub limit: i32,
    pub since: Option<Since<'a>>,
    #[serde(deserialize_with = "or_default")]
    pub reverse: bool,
    #[serde(deserialize_with = "or_default")]
    pub time_from: u64,
    #[serde(deserialize_with = "or_default")]
    pub time_to: u64,
}

/// Times are milliseconds since 1970; 0 is no bound.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct HistoryQuery<'a> {
    #[serde(borrow)]
    pub channel: StringField<'a>,
    pub namespace: StringField<'a>,
    pub user: StringField<'a>,
    pub tag: Option<QueryTag<'a>>,
    #[serde(deserialize_with = "or_default")]
    pub time_from: u64,
    #[serde(deserialize_with = "or_default")]
    pub time_to: u64,
    #[serde(deserialize_with = "or_default")]
    pub limit: i32,
    #[serde(deserialize_with = "or_default")]
    pub reverse: bool,
    pub cursor: StringField<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct QueryTag<'a> {
    #[serde(borrow)]
    pub key: StringField<'a>,
    pub value: StringField<'a>,
}

/// A stream position.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Since<'a> {
    #[serde(deserialize_with = "or_default")]
    pub offset: u64,
    #[serde(borrow)]
    pub epoch: StringField<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Channels<'a> {
    #[serde(borrow)]
    pub pattern: StringField<'a>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Rpc<'a> {
    #[serde(borrow)]
    pub method: StringField<'a>,
    /// For the method, which this server does not have.
    pub params: Option<UnsupportedField>,
}

/// The fields of a method without fields.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct NoFields {}

#[derive(Deserialize, Clone, Copy, Default, Debug)]
#[serde(default)]
pub struct Overrides {
    pub presence: Option<BoolValue>,
    pub join_leave: Option<BoolValue>,
    pub force_recovery: Option<BoolValue>,
    pub force_positioning: Option<BoolValue>,
    pub force_push_join_leave: Option<BoolValue>,
}

/// Wrapped, so that `false` differs from a missing field.
#[derive(Deserialize, Clone, Copy, Default, Debug)]
#[serde(default)]
pub struct BoolValue {
    #[serde(deserialize_with = "or_default")]
    pub value: bool,
}
