//! Presence replies that a home shard is collecting. A large channel is copied in slices over many turns, so that no
//! turn is long; a client that joins or leaves in the meantime may or may not be in the copy.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::api_call::MemberInfo;
use super::mail::{ReplyTo, Reserved};
use crate::ids::ShardId;
use crate::protocol::{Encoding, ErrorCode, Info, RawClientInfo, client_text};
use crate::pubsub::HomeChannels;

/// Clients that are copied in one turn.
const SLICE_CLIENTS: u32 = 1024;

/// What takes packed client infos.
pub(crate) type PackedPresenceAnswer = Box<dyn FnOnce(Vec<Bytes>) + Send>;

pub(crate) type PresenceAnswer = Box<dyn FnOnce(Result<Vec<MemberInfo>, ErrorCode>) + Send>;

/// A client that gets a reply, and what was paid for it.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub shard: ShardId,
    pub reply_to: ReplyTo,
    pub reserved: Reserved,
}

/// Where the clients come from.
enum Source {
    /// The presence of a channel that is kept here.
    Channel(Box<str>),
    /// What a broker has answered: packed client infos.
    Members(Arc<[Bytes]>),
}

impl Source {
    fn new(channel: &str, members: Option<Arc<[Bytes]>>) -> Self {
        members.map_or_else(|| Self::Channel(channel.into()), Self::Members)
    }

    /// Up to `max` packed client infos from `from` on, and where the next slice begins.
    fn slice(&self, channels: &HomeChannels, from: u32, max: u32, mut each: impl FnMut(&[u8])) -> Option<u32> {
        match self {
            Self::Channel(channel) => {
                let (members, next) = channels.presence_slice(channel, from, max);
                members.for_each(|member| each(&member.client_info));
                next
            }
            Self::Members(members) => {
                let from = (from as usize).min(members.len());
                let to = from.saturating_add(max.max(1) as usize).min(members.len());
                members[from..to].iter().for_each(|member| each(member));
                (to < members.len()).then_some(to as u32)
            }
        }
    }
}

/// The reply for all commands that asked before the copy began.
struct ClientSnapshot {
    askers: Vec<Asker>,
    encoding: Encoding,
    source: Source,
    /// Where the next slice begins.
    next: u32,
    entries: Vec<u8>,
}

/// The members for one asker, each as a `T`.
struct Collected<T> {
    source: Source,
    next: u32,
    members: Vec<T>,
    answer: Box<dyn FnOnce(Vec<T>) + Send>,
}

impl<T> Collected<T> {
    fn new(source: Source, answer: Box<dyn FnOnce(Vec<T>) + Send>) -> Self {
        Self { source, next: 0, members: Vec::new(), answer }
    }

    /// Copies a slice of each.
    fn copy_slices(all: &mut VecDeque<Self>, channels: &HomeChannels, member: impl Fn(&[u8]) -> T) {
        for _ in 0..all.len() {
            let Some(Self { source, next, mut members, answer }) = all.pop_front() else { return };
            match source.slice(channels, next, SLICE_CLIENTS, |packed| members.push(member(packed))) {
                Some(next) => all.push_back(Self { source, next, members, answer }),
                None => answer(members),
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct PresenceSnapshots {
    for_clients: VecDeque<ClientSnapshot>,
    for_api: VecDeque<Collected<MemberInfo>>,
    /// For the peer process of a handover.
    for_peer: VecDeque<Collected<Bytes>>,
}

impl PresenceSnapshots {
    pub(super) fn is_empty(&self) -> bool {
        self.for_clients.is_empty() && self.for_api.is_empty() && self.for_peer.is_empty()
    }

    /// `members`: the presence, if a broker keeps it.
    pub(super) fn begin_for_client(
        &mut self,
        channel: &str,
        encoding: Encoding,
        asker: Asker,
        members: Option<Arc<[Bytes]>>,
    ) {
        let source = Source::new(channel, members);
        let same = |snapshot: &&mut ClientSnapshot| {
            let is_same = match (&snapshot.source, &source) {
                (Source::Channel(one), Source::Channel(other)) => one == other,
                (Source::Members(one), Source::Members(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            is_same && snapshot.next == 0 && snapshot.encoding == encoding
        };
        match self.for_clients.iter_mut().find(same) {
            Some(snapshot) => snapshot.askers.push(asker),
            None => self.for_clients.push_back(ClientSnapshot {
                askers: vec![asker],
                encoding,
                source,
                next: 0,
                entries: Vec::new(),
            }),
        }
    }

    pub(super) fn begin_for_api(&mut self, channel: &str, members: Option<Arc<[Bytes]>>, answer: PresenceAnswer) {
        let answer = Box::new(|members| answer(Ok(members)));
        self.for_api.push_back(Collected::new(Source::new(channel, members), answer));
    }

    pub(super) fn begin_for_peer(&mut self, channel: &str, answer: PackedPresenceAnswer) {
        self.for_peer.push_back(Collected::new(Source::new(channel, None), answer));
    }

    /// Copies slices of the replies in turn, in all so many clients. All commands that wait for a complete one share its entries.
    pub(super) fn copy_slices(&mut self, channels: &HomeChannels, mut send: impl FnMut(Asker, Bytes)) {
        let mut clients = SLICE_CLIENTS;
        while clients > 0
            && let Some(mut snapshot) = self.for_clients.pop_front()
        {
            let ClientSnapshot { source, encoding, entries, next, .. } = &mut snapshot;
            let next = source.slice(channels, *next, clients, |member| {
                let mut text = uuid::Uuid::encode_buffer();
                let info = RawClientInfo::unpack(member).text(&mut text);
                encoding.presence_entry(entries, &info);
                clients = clients.saturating_sub(1);
            });
            // A slice of empty slots is work too.
            clients = clients.saturating_sub(1);
            if let Some(next) = next {
                snapshot.next = next;
                self.for_clients.push_back(snapshot);
                continue;
            }
            let entries = Bytes::from(snapshot.entries.into_boxed_slice());
            snapshot.askers.into_iter().for_each(|asker| send(asker, entries.clone()));
        }
        Collected::copy_slices(&mut self.for_api, channels, member_info);
        Collected::copy_slices(&mut self.for_peer, channels, Bytes::copy_from_slice);
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

    fn channels(clients: u32) -> HomeChannels {
        let mut channels = HomeChannels::new(1, 1 << 20);
        for client in 0..clients {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&client.to_le_bytes());
            let info = RawClientInfo { client: id, user: "", conn_info: b"", chan_info: b"" };
            let mut packed = Vec::new();
            info.pack(&mut packed);
            channels.presence_add("a", id, "", &packed);
        }
        channels
    }

    fn asker(id: u32) -> Asker {
        let reply_to = ReplyTo { conn: ConnId::new(0, 0), id };
        Asker { shard: ShardId(0), reply_to, reserved: Reserved(id) }
    }

    #[test]
    fn large_presence_is_copied_in_slices_and_its_entries_are_shared() {
        let channels = channels(SLICE_CLIENTS + 1);
        let mut snapshots = PresenceSnapshots::default();
        (1..3).for_each(|id| snapshots.begin_for_client("a", Encoding::Json, asker(id), None));
        let mut sent = Vec::new();
        snapshots.copy_slices(&channels, |asker, entries| sent.push((asker.reserved, entries)));
        assert!(sent.is_empty());
        snapshots.copy_slices(&channels, |asker, entries| sent.push((asker.reserved, entries)));
        assert!(snapshots.is_empty());
        let [(Reserved(1), first), (Reserved(2), second)] = &*sent else { panic!("{} replies", sent.len()) };
        assert_eq!(first.as_ptr(), second.as_ptr(), "no asker has a copy of its own");
    }

    #[test]
    fn clients_copied_in_one_turn_are_bounded_over_all_replies() {
        let channels = channels(SLICE_CLIENTS / 2);
        let mut snapshots = PresenceSnapshots::default();
        for id in 0..10 {
            // The copy of the one before has begun, so that the next cannot share it.
            snapshots.begin_for_client("a", Encoding::Json, asker(id), None);
            snapshots.for_clients.iter_mut().for_each(|snapshot| snapshot.next = 1);
        }
        let mut sent = 0;
        snapshots.copy_slices(&channels, |_, _| sent += 1);
        assert_eq!(sent, 2);
    }
}
