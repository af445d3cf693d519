//! The inputs and bounds of token checks: the key sets that were fetched, and the queue of costly signatures.

use std::sync::Arc;

use super::settings::{Settings, TokenKind};
use super::signature_queue::SignatureQueue;
use crate::auth::KeySet;

#[derive(Default)]
pub(crate) struct TokenChecks {
    connection_keys: Option<Arc<KeySet>>,
    subscription_keys: Option<Arc<KeySet>>,
    /// Of public keys.
    pub(super) signatures: SignatureQueue,
}

impl TokenChecks {
    /// The fetched keys for such tokens. Subscription tokens without keys of their own use those of connections.
    pub(super) fn keys(&self, settings: &Settings, kind: TokenKind) -> Option<&KeySet> {
        let keys = if settings.has_own_keys(kind) { &self.subscription_keys } else { &self.connection_keys };
        keys.as_deref()
    }

    pub(super) fn set_keys(&mut self, kind: TokenKind, keys: Option<Arc<KeySet>>) {
        match kind {
            TokenKind::Connection => self.connection_keys = keys,
            TokenKind::Subscription => self.subscription_keys = keys,
        }
    }

    /// After a reload: keys that were fetched from an endpoint that the settings no longer name go.
    pub(super) fn drop_outdated_keys(&mut self, old: &Settings, new: &Settings) {
        for kind in [TokenKind::Connection, TokenKind::Subscription] {
            if old.key_endpoint(kind) != new.key_endpoint(kind) {
                self.set_keys(kind, None);
            }
        }
    }
}
