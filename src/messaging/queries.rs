//! What clients ask about a channel: its history, who is there, how many. Its home answers, in the client's encoding, so
//! that the answer is a frame when it comes back. A big room is called roll over many turns.

use super::arena::{Kept, Who};
use super::commands::Done;
use super::mail::{Query, ReplyTo};
use super::session::opcode;
use super::subscribe_reply::KeptText;
use super::{Mail, Messaging};
use crate::config::Namespace;
use crate::engine::Context;
use crate::ids::{ConnId, ShardId};
use crate::protocol::{Encoding, ErrorCode, HistoryRequest, HistoryResult, Reply};
use crate::pubsub::{EpochText, HistoryFilter, HistorySlice, Since};
use crate::ws::{self, Opcode};

/// Clients of one presence answer that are looked at in one turn.
pub(crate) const ROLL_SLICE: u32 = 1024;

/// A presence reply that is being made, for all who asked before it was begun.
pub(crate) struct Roster {
    askers: Vec<(ShardId, ReplyTo)>,
    encoding: Encoding,
    channel: Box<str>,
    /// Where the next slice begins; `None` behind the last.
    at: Option<u32>,
    entries: Vec<u8>,
}

impl Messaging {
    pub(crate) fn presence(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, channel: &str) -> Done {
        self.ask_presence(cx, conn, id, channel, Query::Presence)
    }

    pub(crate) fn presence_stats(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, channel: &str) -> Done {
        self.ask_presence(cx, conn, id, channel, Query::PresenceStats)
    }

    fn ask_presence(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, channel: &str, query: Query) -> Done {
        let allowed = self.checked(channel).and_then(|namespace| {
            let session = &self.sessions[conn.index()];
            let subscribed = self.is_subscribed(conn, channel);
            match (namespace.presence, self.may_see_presence(session, namespace, subscribed)) {
                (false, _) => Err(ErrorCode::NotAvailable),
                (_, false) => Err(ErrorCode::PermissionDenied),
                _ => Ok(()),
            }
        });
        match allowed {
            Ok(()) => self.ask(cx, conn, id, channel, query),
            Err(error) => self.refuse(cx, conn, id, error),
        }
    }

    pub(crate) fn history(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &HistoryRequest<'_>,
    ) -> Done {
        let channel = &*request.channel;
        let allowed = self.checked(channel).and_then(|namespace| self.may_ask_history(conn, channel, namespace));
        // Backwards from the beginning there is nothing.
        let nowhere = request.reverse && request.since.as_ref().is_some_and(|since| since.offset == 0);
        if let Err(error) = allowed.and(if nowhere { Err(ErrorCode::BadRequest) } else { Ok(()) }) {
            return self.refuse(cx, conn, id, error);
        }
        let max = self.settings.client.history_max_publication_limit as i32;
        let limit = match request.limit {
            limit if max > 0 && (limit < 0 || limit > max) => max,
            limit => limit,
        };
        let since = request.since.as_ref().map(|since| Since::new(&since.epoch, since.offset));
        let query = Query::History { limit, reverse: request.reverse, since };
        self.ask(cx, conn, id, channel, query)
    }

    fn may_ask_history(&self, conn: ConnId, channel: &str, namespace: &Namespace) -> Result<(), ErrorCode> {
        if !namespace.has_history() {
            return Err(ErrorCode::NotAvailable);
        }
        let session = &self.sessions[conn.index()];
        match self.may_see_history(session, namespace, self.is_subscribed(conn, channel)) {
            true => Ok(()),
            false => Err(ErrorCode::PermissionDenied),
        }
    }

    fn is_subscribed(&self, conn: ConnId, channel: &str) -> bool {
        self.subscription(conn, channel).is_some()
    }

    fn ask(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, channel: &str, query: Query) -> Done {
        if !self.has_credit(cx, channel) {
            return Done::NoRoom;
        }
        let home = self.home_of(channel);
        self.requests[home.index()] += 1;
        let wire = self.session(conn).encoding.index();
        let channel = cx.mail.put(home, channel.as_bytes());
        self.session(conn).owed += 1;
        cx.mail.post(home, Mail::Query { channel, query, reply_to: ReplyTo { conn, id }, wire });
        Done::Yes
    }

    /// Home's side.
    pub(crate) fn answer_query(
        &mut self,
        cx: &mut Context<Mail>,
        to: ShardId,
        channel: &str,
        query: Query,
        reply_to: ReplyTo,
        encoding: Encoding,
    ) {
        match query {
            Query::Presence => self.call_roll(to, channel, reply_to, encoding),
            Query::PresenceStats => {
                let (num_clients, num_users) = self.home.presence_stats(channel);
                let reply = Reply::PresenceStats { num_clients, num_users };
                send(cx, to, reply_to, encoding, |out| encoding.reply(out, reply_to.id, &reply));
            }
            Query::History { limit, reverse, since } => {
                let query = HistoryFilter { since, limit, reverse };
                self.answer_history(cx, to, channel, query, reply_to, encoding);
            }
        }
    }

    fn call_roll(&mut self, to: ShardId, channel: &str, reply_to: ReplyTo, encoding: Encoding) {
        let same =
            |roster: &&mut Roster| roster.at == Some(0) && roster.encoding == encoding && *roster.channel == *channel;
        match self.rosters.iter_mut().find(same) {
            Some(roster) => roster.askers.push((to, reply_to)),
            None => {
                let askers = vec![(to, reply_to)];
                self.rosters.push_back(Roster {
                    askers,
                    encoding,
                    channel: channel.into(),
                    at: Some(0),
                    entries: Vec::new(),
                });
            }
        }
    }

    fn answer_history(
        &mut self,
        cx: &mut Context<Mail>,
        to: ShardId,
        channel: &str,
        query: HistoryFilter,
        reply_to: ReplyTo,
        encoding: Encoding,
    ) {
        let options = self.stream_options(channel);
        let found = self.home.history(channel, query, &options, cx.now());
        let reply = |out: &mut Vec<u8>| {
            let Ok(HistorySlice { publications: records, top }) = found else {
                return encoding.reply(out, reply_to.id, &ErrorCode::UnrecoverablePosition.into());
            };
            let kept: Vec<_> = records.map(|record| KeptText::plain(Kept::of(record), top.epoch, encoding)).collect();
            let publications: Vec<_> = kept.iter().map(KeptText::publication).collect();
            let epoch = EpochText::of(top.epoch);
            let result = HistoryResult { publications: &publications, epoch: epoch.as_str(), offset: top.offset };
            encoding.reply(out, reply_to.id, &Reply::History(result));
        };
        send(cx, to, reply_to, encoding, reply);
    }

    /// A slice of each presence reply that is being made; one that is complete leaves for one asker a turn, since it may be long.
    pub(crate) fn call_rolls(&mut self, cx: &mut Context<Mail>) {
        for _ in 0..self.rosters.len() {
            let Some(mut roster) = self.rosters.pop_front() else { return };
            if let Some(at) = roster.at {
                let (members, next) = self.home.presence_slice(&roster.channel, at, ROLL_SLICE);
                for member in members {
                    let mut text = uuid::Uuid::encode_buffer();
                    roster
                        .encoding
                        .presence_entry(&mut roster.entries, &Who::unpack(&member.client_info).info(&mut text));
                }
                roster.at = next;
            }
            if roster.at.is_none()
                && let Some((to, reply_to)) = roster.askers.pop()
            {
                let Roster { encoding, entries, .. } = &roster;
                send(cx, to, reply_to, *encoding, |out| {
                    encoding.presence_head(out, reply_to.id, entries.len());
                    out.extend_from_slice(entries);
                    out.extend_from_slice(encoding.presence_tail());
                });
            }
            if !roster.askers.is_empty() {
                self.rosters.push_back(roster);
            }
        }
    }
}

/// A whole frame for one client of a shard.
fn send(cx: &mut Context<Mail>, to: ShardId, reply_to: ReplyTo, encoding: Encoding, write: impl FnOnce(&mut Vec<u8>)) {
    let opcode: Opcode = opcode(encoding);
    let frame = cx.mail.put_with(to, |out| ws::frame_with(out, opcode, write));
    cx.mail.post(to, Mail::Answer { conn: reply_to.conn, frame });
}
