//! Presence replies that a home shard is collecting. A large channel is copied in slices over many turns, so that no
//! turn is long; a client that joins or leaves in the meantime may or may not be in the copy.

use std::collections::VecDeque;

use super::api_call::MemberInfo;
use super::arena::{RawClientInfo, client_text};
use super::mail::ReplyTo;
use crate::ids::ShardId;
use crate::protocol::{Encoding, ErrorCode, Info};
use crate::pubsub::HomeChannels;

/// Clients of one reply that are copied in one turn.
const SLICE_CLIENTS: u32 = 1024;

pub(crate) type PresenceAnswer = Box<dyn FnOnce(Result<Vec<MemberInfo>, ErrorCode>) + Send>;

/// The reply for all commands that asked before the copy began.
struct ClientSnapshot {
    askers: Vec<(ShardId, ReplyTo)>,
    encoding: Encoding,
    channel: Box<str>,
    /// Where the next slice begins; `None` behind the last.
    next: Option<u32>,
    entries: Vec<u8>,
}

struct ApiSnapshot {
    channel: Box<str>,
    next: u32,
    members: Vec<MemberInfo>,
    answer: PresenceAnswer,
}

/// A complete reply for one client.
pub(crate) struct PresenceReply<'a> {
    pub shard: ShardId,
    pub reply_to: ReplyTo,
    pub encoding: Encoding,
    pub entries: &'a [u8],
}

#[derive(Default)]
pub(crate) struct PresenceSnapshots {
    for_clients: VecDeque<ClientSnapshot>,
    for_api: VecDeque<ApiSnapshot>,
}

impl PresenceSnapshots {
    pub(super) fn is_empty(&self) -> bool {
        self.for_clients.is_empty() && self.for_api.is_empty()
    }

    pub(super) fn begin_for_client(&mut self, shard: ShardId, channel: &str, reply_to: ReplyTo, encoding: Encoding) {
        let same = |snapshot: &&mut ClientSnapshot| {
            snapshot.next == Some(0) && snapshot.encoding == encoding && *snapshot.channel == *channel
        };
        match self.for_clients.iter_mut().find(same) {
            Some(snapshot) => snapshot.askers.push((shard, reply_to)),
            None => self.for_clients.push_back(ClientSnapshot {
                askers: vec![(shard, reply_to)],
                encoding,
                channel: channel.into(),
                next: Some(0),
                entries: Vec::new(),
            }),
        }
    }

    pub(super) fn begin_for_api(&mut self, channel: Box<str>, answer: PresenceAnswer) {
        self.for_api.push_back(ApiSnapshot { channel, next: 0, members: Vec::new(), answer });
    }

    /// Copies one slice of each reply. A complete one is sent to one asker a turn, since it may be long.
    pub(super) fn copy_slices(&mut self, channels: &HomeChannels, mut send: impl FnMut(PresenceReply<'_>)) {
        for _ in 0..self.for_clients.len() {
            let Some(mut snapshot) = self.for_clients.pop_front() else { return };
            if let Some(from) = snapshot.next {
                let (members, next) = channels.presence_slice(&snapshot.channel, from, SLICE_CLIENTS);
                for member in members {
                    let mut text = uuid::Uuid::encode_buffer();
                    let info = RawClientInfo::unpack(&member.client_info).text(&mut text);
                    snapshot.encoding.presence_entry(&mut snapshot.entries, &info);
                }
                snapshot.next = next;
            }
            if snapshot.next.is_none()
                && let Some((shard, reply_to)) = snapshot.askers.pop()
            {
                send(PresenceReply { shard, reply_to, encoding: snapshot.encoding, entries: &snapshot.entries });
            }
            if !snapshot.askers.is_empty() {
                self.for_clients.push_back(snapshot);
            }
        }
        for _ in 0..self.for_api.len() {
            let Some(ApiSnapshot { channel, next, mut members, answer }) = self.for_api.pop_front() else { return };
            let (slice, next) = channels.presence_slice(&channel, next, SLICE_CLIENTS);
            members.extend(slice.map(|member| member_info(&member.client_info)));
            match next {
                Some(next) => self.for_api.push_back(ApiSnapshot { channel, next, members, answer }),
                None => answer(Ok(members)),
            }
        }
    }
}

/// Packed client info in the form of the server API.
pub(crate) fn member_info(packed: &[u8]) -> MemberInfo {
    let info = RawClientInfo::unpack(packed);
    let mut text = uuid::Uuid::encode_buffer();
    MemberInfo {
        client: client_text(info.client, &mut text).to_owned(),
        user: info.user.to_owned(),
        conn_info: Info::of(info.conn_info).bytes().to_vec().into(),
        chan_info: Info::of(info.chan_info).bytes().to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;

    #[test]
    fn large_presence_is_copied_in_slices_and_each_reply_has_its_own_turn() {
        let mut channels = HomeChannels::new(1, 1 << 20);
        for client in 0..SLICE_CLIENTS + 1 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&client.to_le_bytes());
            let mut packed = Vec::new();
            RawClientInfo { client: id, user: "", conn_info: b"", chan_info: b"" }.pack(&mut packed);
            channels.presence_add("a", id, "", &packed);
        }
        let mut snapshots = PresenceSnapshots::default();
        for id in 1..3 {
            let reply_to = ReplyTo { conn: ConnId::new(0, 0), id };
            snapshots.begin_for_client(ShardId(0), "a", reply_to, Encoding::Json);
        }
        let turns: Vec<_> = (0..3)
            .map(|_| {
                let mut sent = Vec::new();
                snapshots.copy_slices(&channels, |reply| sent.push((reply.reply_to.id, reply.entries.len())));
                sent
            })
            .collect();
        assert!(turns[0].is_empty());
        assert_eq!((turns[1].len(), turns[2].len()), (1, 1));
        assert_eq!((turns[1][0].0, turns[2][0].0), (2, 1));
        assert_eq!(turns[1][0].1, turns[2][0].1);
        assert!(snapshots.is_empty());
    }
}
