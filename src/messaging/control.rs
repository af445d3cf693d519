//! What the control thread asks, and what becomes of it here.

use super::access::Options;
use super::api_call::{ApiCall, ApiReply, PresenceStats};
use super::arena::{self, Terms};
use super::control_request::{Answer, Ask, History, HistoryQuery, Kept, Member, Place, Who};
use super::queries::ROLL_SLICE;
use super::subscription::{Purpose, Request};
use super::{Mail, Messaging};
use crate::auth::grant::{Publish, SubscribeGrant};
use crate::engine::Context;
use crate::engine::stats::Bound;
use crate::ids::SubscriptionKey;
use crate::protocol::{Disconnect, ErrorCode, Unsubscribed};
use crate::pubsub::{EpochText, HistoryFilter, HistorySlice, Position, Since, SubscriptionFlags};

/// A presence that the control thread asked for, as far as it is copied.
pub(crate) struct AskedRoll {
    channel: Box<str>,
    /// Where the next slice begins.
    at: u32,
    members: Vec<Member>,
    answer: Answer<Result<Vec<Member>, ErrorCode>>,
}

impl Messaging {
    pub(crate) fn asked(&mut self, cx: &mut Context<Mail>, ask: Ask) {
        match ask {
            Ask::Api { call, answer } => self.api_call(cx, call, answer),
            Ask::Publish { channel, publish, answer } => answer(self.publish_asked(cx, &channel, &publish)),
            Ask::History { channel, query, answer } => answer(self.history_asked(cx, &channel, &query)),
            Ask::HistoryRemove { channel, answer } => {
                answer(self.with_history(&channel).map(|()| self.home.history_remove(&channel)));
            }
            Ask::Presence { channel, answer } => match self.with_presence(&channel) {
                Ok(()) => self.asked_rolls.push_back(AskedRoll { channel, at: 0, members: Vec::new(), answer }),
                Err(error) => answer(Err(error)),
            },
            Ask::PresenceStats { channel, answer } => {
                answer(self.with_presence(&channel).map(|()| self.home.presence_stats(&channel)));
            }
            Ask::Channels { pattern, answer } => answer(self.channels_asked(&pattern)),
            Ask::Users { answer } => answer(self.users.names().map(Box::from).collect()),
            Ask::Subscribe { who, channel, grant, since, answer } => {
                answer(self.subscribe_asked(cx, &who, &channel, &grant, since.as_ref()));
            }
            Ask::Unsubscribe { who, channel, answer } => answer(self.unsubscribe_asked(cx, &who, &channel)),
            Ask::Disconnect { who, spared, code, reason, answer } => {
                answer(self.disconnect_asked(cx, &who, &spared, code, &reason));
            }
            Ask::Refresh { who, renewal, answer } => {
                let meant = self.meant(cx, &who);
                for &conn in &meant {
                    self.renewed_by_server(cx, conn, renewal.clone());
                }
                answer(meant.len() as u32);
            }
            Ask::Backend { conn, serial, answer } => self.backend_answered(cx, conn, serial, answer),
            Ask::Settings { settings } => self.decided_anew(settings),
            Ask::Clock { began_unix_ms } => self.began_unix_ms = began_unix_ms,
            Ask::HandoverPeer { twin, answer } => {
                self.twin = twin;
                answer(());
            }
            Ask::Forwarded { publication } => self.publish_forwarded(cx, &publication),
            Ask::Health { ready } => self.ready = ready,
            Ask::Keys { subscription, endpoint, keys } => {
                if *self.settings.key_endpoint(subscription) == *endpoint {
                    *(if subscription { &mut self.keys.subscription } else { &mut self.keys.connection }) = Some(keys);
                }
            }
        }
    }

    fn api_call(&mut self, cx: &mut Context<Mail>, call: ApiCall, answer: Answer<Result<ApiReply, ErrorCode>>) {
        let reply = match call {
            ApiCall::Publish { channel, publish } => self.publish_asked(cx, &channel, &publish).map(ApiReply::Publish),
            ApiCall::History { channel, query } => self.history_asked(cx, &channel, &query).map(ApiReply::History),
            ApiCall::HistoryRemove { channel } => self.with_history(&channel).map(|()| {
                self.home.history_remove(&channel);
                ApiReply::Done
            }),
            ApiCall::Presence { channel } => match self.with_presence(&channel) {
                Ok(()) => {
                    let answer = Box::new(move |members: Result<_, _>| answer(members.map(ApiReply::Presence)));
                    self.asked_rolls.push_back(AskedRoll { channel, at: 0, members: Vec::new(), answer });
                    return;
                }
                Err(error) => Err(error),
            },
            ApiCall::PresenceStats { channel } => self.with_presence(&channel).map(|()| {
                let (clients, users) = self.home.presence_stats(&channel);
                ApiReply::PresenceStats(PresenceStats { clients, users })
            }),
            ApiCall::Channels { pattern } => {
                Ok(ApiReply::Channels(self.channels_asked(&pattern).into_iter().collect()))
            }
            ApiCall::Info => Ok(ApiReply::Info { users: self.users.names().map(Box::from).collect() }),
            ApiCall::Subscribe { connections, channel, grant, since } => {
                let selected = self.subscribe_asked(cx, &connections, &channel, &grant, since.as_ref());
                selected.map(ApiReply::Connections)
            }
            ApiCall::Unsubscribe { connections, channel } => {
                self.unsubscribe_asked(cx, &connections, &channel).map(ApiReply::Connections)
            }
            ApiCall::Disconnect { connections, except_clients, code, reason } => {
                Ok(ApiReply::Connections(self.disconnect_asked(cx, &connections, &except_clients, code, &reason)))
            }
            ApiCall::Refresh { connections, renewal } => {
                let selected = self.meant(cx, &connections);
                for &conn in &selected {
                    self.renewed_by_server(cx, conn, renewal.clone());
                }
                Ok(ApiReply::Connections(selected.len() as u32))
            }
            // A shard gets the single publications of it (`CallScope::Split`).
            ApiCall::Broadcast { .. } => Err(ErrorCode::BadRequest),
        };
        answer(reply);
    }

    fn publish_asked(
        &mut self,
        cx: &mut Context<Mail>,
        channel: &str,
        publish: &Publish,
    ) -> Result<Option<Place>, ErrorCode> {
        let namespace = self.namespace_of(channel)?;
        if !super::publish::fits(&publish.data, namespace.publication_data_format, false) {
            return Err(ErrorCode::BadRequest);
        }
        if self.twin_is_full() {
            return Err(ErrorCode::TooManyRequests);
        }
        let mut terms = Terms::of(publish);
        terms.delta |= namespace.delta_publish;
        Ok(self.publish_at_home(cx, channel, &publish.data, None, &terms, false).position().map(place))
    }

    fn history_asked(
        &mut self,
        cx: &mut Context<Mail>,
        channel: &str,
        query: &HistoryQuery,
    ) -> Result<History, ErrorCode> {
        self.with_history(channel)?;
        if query.reverse && query.since.as_ref().is_some_and(|since| since.offset == 0) {
            return Err(ErrorCode::BadRequest);
        }
        let options = self.stream_options(channel);
        let since = query.since.as_ref().map(|place| Since::new(&place.epoch, place.offset));
        let asked = HistoryFilter { since, limit: query.limit, reverse: query.reverse };
        let found = self.home.history(channel, asked, &options, cx.now());
        let HistorySlice { publications: records, top } = found.map_err(|_| ErrorCode::UnrecoverablePosition)?;
        let publications = records.map(|record| Kept {
            offset: record.offset,
            data: record.data.clone(),
            info: record.client_info.as_deref().map(member),
            tags: arena::Kept::of(record).tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        let publications = publications.collect();
        Ok(History { publications, top: place(top) })
    }

    fn with_history(&self, channel: &str) -> Result<(), ErrorCode> {
        if self.namespace_of(channel)?.has_history() { Ok(()) } else { Err(ErrorCode::NotAvailable) }
    }

    fn with_presence(&self, channel: &str) -> Result<(), ErrorCode> {
        if self.namespace_of(channel)?.presence { Ok(()) } else { Err(ErrorCode::NotAvailable) }
    }

    /// A slice of each presence that the control thread asked for.
    pub(crate) fn call_asked_rolls(&mut self) {
        for _ in 0..self.asked_rolls.len() {
            let Some(AskedRoll { channel, at, mut members, answer }) = self.asked_rolls.pop_front() else { return };
            let (slice, next) = self.home.presence_slice(&channel, at, ROLL_SLICE);
            members.extend(slice.map(|one| member(&one.client_info)));
            match next {
                Some(at) => self.asked_rolls.push_back(AskedRoll { channel, at, members, answer }),
                None => answer(Ok(members)),
            }
        }
    }

    fn channels_asked(&self, pattern: &str) -> Vec<(Box<str>, u32)> {
        let glob = crate::auth::glob(pattern);
        let fits = |name: &str| pattern.is_empty() || glob.as_ref().is_some_and(|glob| glob.is_match(name));
        self.feeds.channels().filter(|(name, _)| fits(name)).map(|(name, count)| (name.into(), count)).collect()
    }

    fn subscribe_asked(
        &mut self,
        cx: &mut Context<Mail>,
        who: &Who,
        channel: &str,
        grant: &SubscribeGrant,
        since: Option<&Place>,
    ) -> Result<u32, ErrorCode> {
        self.namespace_of(channel)?;
        let meant = self.meant(cx, who);
        for &conn in &meant {
            if self.subscription(conn, channel).is_some() {
                continue;
            }
            if usize::from(self.session(conn).channels) >= self.settings.client.channel_limit {
                cx.reached(Bound::Channels, conn);
                self.close(cx, conn, Disconnect::ChannelLimit);
                continue;
            }
            let mut options = Options::granted(self.namespace_of(channel)?, grant.clone());
            options.flags |= SubscriptionFlags::SERVER_SIDE;
            let since = since.map(|place| Since::new(&place.epoch, place.offset));
            let request = Request { since, ..Request::new(Purpose::Push) };
            if let Some(outcome) = self.join(cx, conn, channel, options, request)? {
                self.push_subscribed(cx, conn, channel, &outcome);
            }
        }
        Ok(meant.len() as u32)
    }

    fn unsubscribe_asked(&mut self, cx: &mut Context<Mail>, who: &Who, channel: &str) -> Result<u32, ErrorCode> {
        if !channel.is_empty() {
            self.namespace_of(channel)?;
        }
        let meant = self.meant(cx, who);
        for &conn in &meant {
            let first = self.session(conn).first_sub;
            let subs: Vec<SubscriptionKey> = match channel {
                "" => self.feeds.of_connection(first).collect(),
                _ => self.feeds.find(first, channel).into_iter().collect(),
            };
            // One that is not there yet is not ended: its command will be answered.
            for sub in subs.into_iter().filter(|&sub| !self.feeds.get(sub).is_pending()).collect::<Vec<_>>() {
                self.unsubscribe_by_server(cx, conn, sub, Unsubscribed::Server);
            }
        }
        Ok(meant.len() as u32)
    }

    fn disconnect_asked(
        &mut self,
        cx: &mut Context<Mail>,
        who: &Who,
        spared: &[Box<str>],
        code: u16,
        reason: &str,
    ) -> u32 {
        let mut meant = self.meant(cx, who);
        meant.retain(|&conn| {
            let mut text = uuid::Uuid::encode_buffer();
            let client = arena::client_text(self.session(conn).client, &mut text);
            !spared.iter().any(|one| **one == *client)
        });
        for &conn in &meant {
            self.close_with(cx, conn, code, reason.to_owned().into());
        }
        meant.len() as u32
    }
}

fn place(at: Position) -> Place {
    Place { offset: at.offset, epoch: EpochText::of(at.epoch).as_str().into() }
}

fn member(who: &[u8]) -> Member {
    let who = arena::Who::unpack(who);
    let mut text = uuid::Uuid::encode_buffer();
    Member {
        client: arena::client_text(who.client, &mut text).to_owned(),
        user: who.user.to_owned(),
        conn_info: who.conn_info.to_vec().into(),
        chan_info: who.chan_info.to_vec().into(),
    }
}
