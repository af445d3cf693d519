//! Whose connections these are. A shard knows its own by user, for whoever speaks of users (the server API). Limits per user
//! are judged at the user's home, by the same hash as channels have, and only where there are any.

use std::collections::HashMap;
use std::rc::Rc;

use super::commands::Done;
use super::control_request::Who;
use super::session::Phase;
use super::{Mail, Messaging};
use crate::engine::Context;
use crate::engine::stats::Bound;
use crate::ids::{ConnId, ShardId};
use crate::protocol::Disconnect;

#[derive(Default)]
pub(crate) struct Users {
    /// The first of the user's connections here; the others are linked behind.
    first: HashMap<Rc<str>, u32>,
    /// Users whose home this is, with all their connections.
    at_home: HashMap<Box<str>, Vec<(ShardId, ConnId)>>,
}

impl Users {
    pub fn len(&self) -> usize {
        self.first.len()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.first.keys().map(|user| &**user)
    }
}

impl Messaging {
    /// The connection's user is known.
    pub(crate) fn enter_user(&mut self, conn: ConnId) {
        let Some(identity) = &self.session(conn).identity else { return };
        if identity.user.is_empty() {
            return;
        }
        let mut user = Rc::clone(&identity.user);
        let after = match self.users.first.get_key_value(&user) {
            Some((shared, &first)) => {
                // One copy of a name for all its connections.
                user = Rc::clone(shared);
                Some(first)
            }
            None => None,
        };
        self.users.first.insert(Rc::clone(&user), conn.slot);
        if let Some(after) = after {
            self.identity_at(after, |identity| identity.before = Some(conn.slot));
        }
        self.identity_at(conn.slot, |identity| {
            identity.user = user;
            identity.after = after;
        });
    }

    fn identity_at<T>(&mut self, slot: u32, f: impl FnOnce(&mut super::session::Identity) -> T) -> Option<T> {
        self.sessions[slot as usize].identity.as_deref_mut().map(f)
    }

    /// The connection is gone.
    pub(crate) fn forget_user(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let Some(identity) = self.session(conn).identity.take() else { return };
        if identity.user.is_empty() {
            return;
        }
        match identity.before {
            Some(before) => _ = self.identity_at(before, |other| other.after = identity.after),
            None => match identity.after {
                Some(after) => _ = self.users.first.insert(Rc::clone(&identity.user), after),
                None => _ = self.users.first.remove(&identity.user),
            },
        }
        if let Some(after) = identity.after {
            self.identity_at(after, |other| other.before = identity.before);
        }
        if identity.counted {
            let home = self.home_of(&identity.user);
            let user = cx.mail.put(home, identity.user.as_bytes());
            cx.mail.post(home, Mail::UserLeave { user, conn });
        }
    }

    /// Connections of this shard that are meant, connected ones alone.
    pub(crate) fn meant(&self, cx: &Context<Mail>, who: &Who) -> Vec<ConnId> {
        let fits = |slot: u32| {
            let session = &self.sessions[slot as usize];
            let mut text = uuid::Uuid::encode_buffer();
            session.phase == Phase::Connected
                && (who.client.is_empty() || *who.client == *super::arena::client_text(session.client, &mut text))
                && (who.session.is_empty() || session.identity.as_ref().is_some_and(|i| i.session == who.session))
        };
        let open = |slot: u32| cx.conn_at(slot).filter(|&conn| cx.is_open(conn));
        if who.user.is_empty() {
            // Nobody is meant by nothing.
            if who.client.is_empty() && who.session.is_empty() {
                return Vec::new();
            }
            let anonymous = |&slot: &u32| self.sessions[slot as usize].user().is_empty();
            let slots = 0..self.sessions.len() as u32;
            return slots.filter(anonymous).filter(|&slot| fits(slot)).filter_map(open).collect();
        }
        let after = |&slot: &u32| self.sessions[slot as usize].identity.as_ref()?.after;
        let first = self.users.first.get(&*who.user).copied();
        std::iter::successors(first, after).filter(|&slot| fits(slot)).filter_map(open).collect()
    }

    /// True where the user's home must let the connection in first.
    pub(crate) fn ask_user_home(&mut self, cx: &mut Context<Mail>, conn: ConnId) -> bool {
        let client = &self.settings.client;
        let personal = &client.subscribe_to_user_personal_channel;
        let judged = client.user_connection_limit > 0 || personal.enabled && personal.single_connection;
        let user: Rc<str> = self.session(conn).user().into();
        if !judged || user.is_empty() {
            return false;
        }
        self.identity_at(conn.slot, |identity| identity.counted = true);
        let home = self.home_of(&user);
        let user = cx.mail.put(home, user.as_bytes());
        cx.mail.post(home, Mail::UserEnter { user, conn });
        true
    }

    /// Home's side.
    pub(crate) fn user_enters(&mut self, cx: &mut Context<Mail>, from: ShardId, user: &str, conn: ConnId) {
        let client = &self.settings.client;
        let personal = &client.subscribe_to_user_personal_channel;
        let here = self.users.at_home.entry(user.into()).or_default();
        if personal.enabled && personal.single_connection {
            for (shard, other) in here.drain(..) {
                cx.mail.post(shard, Mail::Replaced { conn: other });
            }
        }
        let admitted = client.user_connection_limit == 0 || here.len() < client.user_connection_limit as usize;
        // One that is refused leaves like the others.
        here.push((from, conn));
        cx.mail.post(from, Mail::UserAnswer { conn, admitted });
    }

    pub(crate) fn user_leaves(&mut self, from: ShardId, user: &str, conn: ConnId) {
        if let Some(here) = self.users.at_home.get_mut(user) {
            here.retain(|&one| one != (from, conn));
            if here.is_empty() {
                self.users.at_home.remove(user);
            }
        }
    }

    pub(crate) fn user_answered(&mut self, cx: &mut Context<Mail>, conn: ConnId, admitted: bool) {
        if !cx.is_open(conn) || self.session(conn).phase != Phase::Connecting {
            return;
        }
        if !admitted {
            cx.reached(Bound::UserConnections, conn);
            return self.close(cx, conn, Disconnect::ConnectionLimit);
        }
        if self.admitted(cx, conn) != Done::Wait {
            cx.resume(conn);
        }
    }

    pub(crate) fn replaced(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        if cx.is_open(conn) {
            self.close(cx, conn, Disconnect::ConnectionLimit);
        }
    }
}
