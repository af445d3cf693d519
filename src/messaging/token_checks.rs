//! The inputs and bounds of token checks: the key sets that were fetched, and a budget of costly signatures per turn.

use std::sync::Arc;

use super::settings::{Settings, TokenKind};
use crate::auth::{KeySet, Verifier};

/// Signatures of public keys that a shard checks in one turn, some 100 µs each. Tokens past it wait for the next turn.
const COSTLY_TOKENS_PER_TURN: u32 = 16;

pub(crate) struct TokenChecks {
    connection_keys: Option<Arc<KeySet>>,
    subscription_keys: Option<Arc<KeySet>>,
    /// Costly signatures that may still be checked in this turn.
    costly_left: u32,
    /// A command of this turn found none left.
    is_exhausted: bool,
    /// The turn before found none left, so that this one is to be followed at once.
    was_exhausted: bool,
}

impl Default for TokenChecks {
    fn default() -> Self {
        Self {
            connection_keys: None,
            subscription_keys: None,
            costly_left: COSTLY_TOKENS_PER_TURN,
            is_exhausted: false,
            was_exhausted: false,
        }
    }
}

impl TokenChecks {
    pub(super) fn begin_turn(&mut self) {
        self.costly_left = COSTLY_TOKENS_PER_TURN;
        self.was_exhausted = std::mem::take(&mut self.is_exhausted);
    }

    /// Commands wait for the budget of the next turn.
    pub(super) fn wants_next_turn(&self) -> bool {
        self.was_exhausted
    }

    /// Whether a token may be checked in this turn: signatures of public keys cost many times as much as the others.
    pub(super) fn admit(&mut self, verifier: &Verifier, token: &str) -> bool {
        if !verifier.is_costly(token) {
            return true;
        }
        let has_budget = self.costly_left > 0;
        self.is_exhausted |= !has_budget;
        self.costly_left = self.costly_left.saturating_sub(1);
        has_budget
    }

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
