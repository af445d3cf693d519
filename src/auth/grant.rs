//! What somebody who may decide has granted: the bearer of a token, a backend, or the server API. Whatever its source, the
//! session acts on the grant alone.
//!
//! Payloads (`info`, `data`, `meta`) are as they shall reach clients: JSON, or bytes where the source said base64. Empty
//! means none. Times are seconds since 1970.

/// Who a connection is and what comes with it.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct ConnectGrant {
    /// Empty for the anonymous user.
    pub user: String,
    /// When the connection must have been renewed; `None` for never.
    pub expire_at: Option<u64>,
    /// Shown to other clients in presence, joins and publications.
    pub info: Vec<u8>,
    /// For the client, in its connect reply.
    pub data: Vec<u8>,
    /// For the backend alone: travels with later calls to it. JSON.
    pub meta: Vec<u8>,
    /// Server-side subscriptions, each channel once.
    pub subs: Vec<(String, SubscribeGrant)>,
}

/// What a subscription may be and what comes with it.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SubscribeGrant {
    /// Shown to other clients of this channel.
    pub info: Vec<u8>,
    /// For the client, in its subscribe reply.
    pub data: Vec<u8>,
    /// When the subscription must have been renewed; `None` for never.
    pub expire_at: Option<u64>,
    pub overrides: Overrides,
}

/// Options of the namespace that hold otherwise for one subscription.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
    pub force_push_join_leave: Option<bool>,
}

/// What became of a connection or subscription that asked for renewal.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Renewal {
    /// It ends now.
    pub expired: bool,
    pub expire_at: Option<u64>,
    /// Replaces what was shown before; empty leaves it.
    pub info: Vec<u8>,
    /// Replaces what was kept before; empty leaves it.
    pub meta: Vec<u8>,
}

/// A publication and how it is to be made.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Publish {
    pub data: Vec<u8>,
    /// Sorted by key, each key once.
    pub tags: Vec<(String, String)>,
    pub skip_history: bool,
    /// A second publication with the same key to the same channel within five minutes is none. Empty: no key.
    pub idempotency_key: String,
    /// Delta subscribers get the difference to the publication before.
    pub delta: bool,
    /// Where not 0: a publication whose version is not above the last one of its `version_epoch` is dropped.
    pub version: u64,
    pub version_epoch: String,
}
