//! Calls into the program that embeds the server: its rules for subscriptions and publications of clients.
//!
//! The order of the checks: the channel's name, the token, the backend or the namespace decides first, as without hooks. What
//! passes goes to the hook, which can deny it. A hook never permits what the settings deny.

#![warn(missing_docs)]

use crate::protocol::{IdText, Info, RawClientInfo, client_text};

/// The rules of the program that embeds the server. A method that is not implemented allows everything.
///
/// The methods are called on the threads of the shards, for several clients at once. They must not block: no lock that is held
/// for long, no file, no socket. While one runs, its shard serves no client. A panic ends the process.
pub trait Hooks: Send + Sync {
    /// Whether a client may subscribe to a channel. The settings have permitted it.
    ///
    /// Called for each subscribe command, and for each channel that a client names in its connect command. Not called for
    /// subscriptions that a connection token, the backend or the server API makes.
    ///
    /// # Errors
    ///
    /// `Denied`: a subscribe command gets error 103 (permission denied). A channel of a connect command is left out.
    fn authorize_subscribe(&self, client: &HookClient<'_>, channel: &str) -> Result<(), Denied> {
        let _ = (client, channel);
        Ok(())
    }

    /// What becomes of a publication of a client. The settings have permitted it.
    ///
    /// `data` is JSON if the client uses the JSON protocol. If a backend is asked about publications, it is the data that the
    /// backend returned. Publications of the server API do not come here.
    fn on_publish(&self, client: &HookClient<'_>, channel: &str, data: &[u8]) -> PublishDecision {
        let _ = (client, channel, data);
        PublishDecision::Accept
    }
}

/// The client that a hook decides about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HookClient<'a> {
    /// The client's id, which it got in its connect reply. Each connection has another one.
    pub id: &'a str,
    /// The user, as the token or the backend named it. Empty for an anonymous client.
    pub user: &'a str,
    /// The info of the connection, as the token or the backend gave it. Empty if neither gave any.
    pub info: &'a [u8],
}

impl<'a> HookClient<'a> {
    pub(crate) fn new(client: &RawClientInfo<'a>, text: &'a mut IdText) -> Self {
        Self { id: client_text(client.client, text), user: client.user, info: Info::of(client.conn_info).bytes() }
    }
}

/// A hook denies what a client requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied;

/// What becomes of a publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishDecision {
    /// It is published as it is.
    Accept,
    /// These bytes are published instead of its data.
    ///
    /// They must be what the client could have published: JSON if it uses the JSON protocol, in the
    /// `publication_data_format` of the namespace, and at most `websocket.message_size_limit` bytes. Otherwise nothing is
    /// published and the client gets error 100 (internal server error).
    Replace(Vec<u8>),
    /// The client gets error 103 (permission denied).
    Deny,
}
