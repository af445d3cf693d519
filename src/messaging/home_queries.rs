//! The home shard's replies to the queries of clients: each is a whole frame in the client's encoding.

use super::arena::HistoryEntry;
use super::mail::{Mail, Query, ReplyTo};
use super::session::opcode;
use super::state::Messaging;
use super::subscribe_reply::PublicationParts;
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{Encoding, ErrorCode, HistoryResult, Reply};
use crate::pubsub::{EpochText, HistoryFilter, HistorySlice};
use crate::ws;

/// The client that gets a reply.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub shard: ShardId,
    pub reply_to: ReplyTo,
    pub encoding: Encoding,
}

pub(crate) fn answer(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, query: Query, asker: Asker) {
    let Asker { shard, reply_to, encoding } = asker;
    match query {
        Query::Presence => state.presence_snapshots.begin_for_client(shard, channel, reply_to, encoding),
        Query::PresenceStats => {
            let (num_clients, num_users) = state.home_channels.presence_stats(channel);
            let reply = Reply::PresenceStats { num_clients, num_users };
            send(cx, asker, |out| encoding.reply(out, reply_to.id, &reply));
        }
        Query::History { limit, reverse, since } => {
            answer_history(state, cx, channel, HistoryFilter { since, limit, reverse }, asker);
        }
    }
}

fn answer_history(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, filter: HistoryFilter, asker: Asker) {
    let Asker { reply_to, encoding, .. } = asker;
    let options = state.settings.history_options(channel);
    let found = state.home_channels.history(channel, filter, &options, cx.now());
    send(cx, asker, |out| {
        let Ok(HistorySlice { publications: records, top }) = found else {
            return encoding.reply(out, reply_to.id, &ErrorCode::UnrecoverablePosition.into());
        };
        let parts =
            records.map(|record| PublicationParts::plain(HistoryEntry::of(record, channel), top.epoch, encoding));
        let parts: Vec<_> = parts.collect();
        let publications: Vec<_> = parts.iter().map(PublicationParts::publication).collect();
        let epoch = EpochText::of(top.epoch);
        let result = HistoryResult { publications: &publications, epoch: epoch.as_str(), offset: top.offset };
        encoding.reply(out, reply_to.id, &Reply::History(result));
    });
}

/// Continues the presence replies, a slice of each in one turn.
pub(crate) fn copy_presence_slices(state: &mut Messaging, cx: &mut Context<Mail>) {
    state.presence_snapshots.copy_slices(&state.home_channels, |reply| {
        let (reply_to, encoding) = (reply.reply_to, reply.encoding);
        send(cx, Asker { shard: reply.shard, reply_to, encoding }, |out| {
            encoding.presence_head(out, reply_to.id, reply.entries.len());
            out.extend_from_slice(reply.entries);
            out.extend_from_slice(encoding.presence_tail());
        });
    });
}

/// Posts a whole frame for one client.
fn send(cx: &mut Context<Mail>, asker: Asker, write: impl FnOnce(&mut Vec<u8>)) {
    let Asker { shard, reply_to, encoding } = asker;
    let frame = cx.mail.put_with(shard, |out| ws::frame_with(out, opcode(encoding), write));
    cx.mail.post(shard, Mail::Reply { conn: reply_to.conn, frame });
}
