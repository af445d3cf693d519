//! Grants: what a token, a backend or a server API call allows. The session acts on the grant alone, whatever its source.
//!
//! Payloads (`info`, `data`, `meta`) are what clients get: JSON, or bytes if the source sent base64. Empty means none. Times
//! are in seconds since 1970.

/// The user of a connection, and what the connection may have.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct ConnectGrant {
    /// Empty for the anonymous user.
    pub user: String,
    /// The connection must be refreshed before this time; `None` for never.
    pub expire_at: Option<u64>,
    /// Shown to other clients in presence, joins and publications.
    pub info: Vec<u8>,
    /// For the client, in its connect reply.
    pub data: Vec<u8>,
    /// Sent only to the backend, with later calls. JSON.
    pub meta: Vec<u8>,
    /// Server-side subscriptions; each channel occurs once.
    pub subs: Vec<(String, SubscribeGrant)>,
}

/// What a subscription may have.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SubscribeGrant {
    /// Shown to other clients of this channel.
    pub info: Vec<u8>,
    /// For the client, in its subscribe reply.
    pub data: Vec<u8>,
    /// The subscription must be refreshed before this time; `None` for never.
    pub expire_at: Option<u64>,
    pub overrides: Overrides,
}

/// Options that replace those of the namespace for one subscription; `None` keeps the namespace's.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
    pub force_push_join_leave: Option<bool>,
}

/// The answer to a refresh of a connection or subscription.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct RefreshGrant {
    /// The connection or subscription ends now.
    pub expired: bool,
    pub expire_at: Option<u64>,
    /// Replaces the info shown to other clients; empty keeps it.
    pub info: Vec<u8>,
    /// Replaces the meta sent to the backend; empty keeps it.
    pub meta: Vec<u8>,
}

/// A publication, with the options of the publish call.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Publish {
    pub data: Vec<u8>,
    /// Sorted by key, each key once.
    pub tags: Vec<(String, String)>,
    pub skip_history: bool,
    /// A second publication with the same key to the same channel within five minutes is not made. Empty: no key.
    pub idempotency_key: String,
    /// Subscribers with deltas get the difference to the publication before.
    pub delta: bool,
    /// If not 0, the publication is dropped unless its version is above the last one of its `version_epoch`.
    pub version: u64,
    pub version_epoch: String,
}
