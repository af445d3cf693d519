//! The connections of each user: on this shard, for the server API, and at the user's home shard, which enforces limits
//! per user. Users have a home shard by the same hash as channels.

use std::collections::HashMap;
use std::rc::Rc;

use super::api_call::ConnectionSelector;
use super::session::{Identity, Phase, Sessions};
use crate::engine::Context;
use crate::ids::{ConnId, ShardId};
use crate::protocol::client_text;

#[derive(Default)]
pub(crate) struct Users {
    /// The first of the user's connections on this shard; the others are linked behind it.
    first: HashMap<Rc<str>, u32>,
    /// Users whose home shard this is, with all their connections.
    at_home: HashMap<Box<str>, Vec<(ShardId, ConnId)>>,
}

impl Users {
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.first.keys().map(|user| &**user)
    }

    /// Links a connection whose user is known.
    pub(super) fn insert(&mut self, sessions: &mut Sessions, conn: ConnId) {
        let Some(identity) = sessions.identity_at(conn.slot).filter(|identity| !identity.user.is_empty()) else {
            return;
        };
        let known = self.first.get_key_value(&identity.user).map(|(user, &first)| (Rc::clone(user), first));
        let after = known.as_ref().map(|&(_, first)| first);
        // One copy of a name for all its connections.
        let user = known.map_or_else(|| Rc::clone(&identity.user), |(user, _)| user);
        identity.user = Rc::clone(&user);
        identity.after = after;
        self.first.insert(user, conn.slot);
        if let Some(next) = after.and_then(|after| sessions.identity_at(after)) {
            next.before = Some(conn.slot);
        }
    }

    /// Unlinks a connection. Returns its identity, which goes with it.
    pub(super) fn remove(&mut self, sessions: &mut Sessions, conn: ConnId) -> Option<Box<Identity>> {
        let identity = sessions[conn].identity.take()?;
        if identity.user.is_empty() {
            return Some(identity);
        }
        match (identity.before, identity.after) {
            (None, None) => _ = self.first.remove(&identity.user),
            (None, Some(after)) => _ = self.first.insert(Rc::clone(&identity.user), after),
            (Some(before), _) => {
                if let Some(previous) = sessions.identity_at(before) {
                    previous.after = identity.after;
                }
            }
        }
        if let Some(next) = identity.after.and_then(|after| sessions.identity_at(after)) {
            next.before = identity.before;
        }
        Some(identity)
    }

    /// The connections of this shard that a selector means: connected ones, and those whose connect is not answered yet, by
    /// their user as soon as it is known and by their client id before.
    pub(super) fn select<M: Send>(
        &self,
        sessions: &Sessions,
        cx: &Context<M>,
        selector: &ConnectionSelector,
    ) -> Vec<ConnId> {
        let ConnectionSelector { user, client, session } = selector;
        let matches = |&slot: &u32| {
            let candidate = sessions.at(slot);
            let mut text = uuid::Uuid::encode_buffer();
            matches!(candidate.phase, Phase::Connecting | Phase::Connected)
                && (client.is_empty() || **client == *client_text(candidate.client, &mut text))
                && (session.is_empty() || candidate.identity.as_ref().is_some_and(|known| known.session == *session))
        };
        let open = |slot: u32| cx.conn_at(slot).filter(|&conn| cx.is_open(conn));
        if !user.is_empty() {
            let after = |&slot: &u32| sessions.at(slot).identity.as_ref()?.after;
            let first = self.first.get(&**user).copied();
            return std::iter::successors(first, after).filter(matches).filter_map(open).collect();
        }
        if client.is_empty() && session.is_empty() {
            return Vec::new();
        }
        let is_anonymous = |&slot: &u32| sessions.at(slot).user().is_empty();
        (0..sessions.slots()).filter(is_anonymous).filter(matches).filter_map(open).collect()
    }

    /// At the user's home shard: the connections of the user, to which one is to be added.
    pub(super) fn at_home(&mut self, user: &str) -> &mut Vec<(ShardId, ConnId)> {
        self.at_home.entry(user.into()).or_default()
    }

    /// At the user's home shard: a connection has ended, or was not admitted.
    pub(super) fn remove_at_home(&mut self, user: &str, shard: ShardId, conn: ConnId) {
        let Some(connections) = self.at_home.get_mut(user) else { return };
        connections.retain(|&one| one != (shard, conn));
        if connections.is_empty() {
            self.at_home.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::session::{Session, Transport};
    use crate::protocol::Encoding;

    fn linked(users: &Users, sessions: &Sessions, user: &str) -> Vec<u32> {
        let after = |&slot: &u32| sessions.at(slot).identity.as_ref()?.after;
        std::iter::successors(users.first.get(user).copied(), after).collect()
    }

    #[test]
    fn connections_of_a_user_are_linked_and_any_may_go() {
        let (mut users, mut sessions) = (Users::default(), Sessions::default());
        let conns: Vec<_> = (0..3).map(|slot| ConnId::new(slot, 0)).collect();
        for &conn in &conns {
            sessions.insert(conn, Session::new(Encoding::Json, Phase::Connected, Transport::WebSocket));
            sessions[conn].identity = Some(Box::new(Identity { user: "ann".into(), ..Identity::default() }));
            users.insert(&mut sessions, conn);
        }
        assert_eq!(linked(&users, &sessions, "ann"), [2, 1, 0]);
        users.remove(&mut sessions, conns[1]);
        assert_eq!(linked(&users, &sessions, "ann"), [2, 0]);
        users.remove(&mut sessions, conns[2]);
        assert_eq!(linked(&users, &sessions, "ann"), [0]);
        users.remove(&mut sessions, conns[0]);
        assert_eq!((users.len(), users.names().count()), (0, 0));
    }

    #[test]
    fn home_shard_removes_a_user_with_its_last_connection() {
        let (mut users, conn) = (Users::default(), ConnId::new(1, 1));
        users.at_home("ann").push((ShardId(0), conn));
        users.remove_at_home("ann", ShardId(1), conn);
        assert_eq!(users.at_home.len(), 1);
        users.remove_at_home("ann", ShardId(0), conn);
        assert!(users.at_home.is_empty());
    }
}
