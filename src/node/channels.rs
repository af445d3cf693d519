//! What shards tell each other: the home's side (order, stamps, deliveries) and the subscribers' side (answers, deliveries).

use uuid::Uuid;

use super::{Mail, Node};
use crate::bus::Batch;
use crate::hub::{Interest, Left, Position, Repair};
use crate::ids::{FeedId, ShardId};
use crate::protocol::{ClientInfo, Encoding, Publication, Reply};
use crate::shard::Cx;
use crate::shard::journal::Note;
use crate::ws::{self, Opcode};

impl Node {
    /// One message of another shard, or of our own.
    pub(super) fn receive(&mut self, cx: &mut Cx<Mail>, from: ShardId, mail: Mail, batch: &Batch<Mail>) {
        let name = |span| std::str::from_utf8(batch.bytes(span)).expect("a name was text when it was put there");
        match mail {
            Mail::Subscribe { channel, feed, form } => {
                let position = self.home.subscribe(name(channel), from, feed, form);
                cx.mail.post(from, Mail::Subscribed { feed, position });
            }
            Mail::Unsubscribe { channel, feed } => self.home.unsubscribe(name(channel), from, feed),
            Mail::Publish { channel, data, conn, client, id } => {
                self.publish_at_home(cx, name(channel), batch.bytes(data), Some(client));
                cx.mail.post(from, Mail::Published { conn, id });
            }
            Mail::Subscribed { feed, position } => {
                self.requests[from.index()] -= 1;
                for sub in self.feeds.answer(feed, position).unwrap_or_default() {
                    self.subscribed(cx, sub);
                }
            }
            Mail::Published { conn, id } => self.reply(cx, conn, id, &Reply::Publish),
            Mail::Deliver { feed, offset, frame } => {
                self.feeds.deliver(feed, offset, batch.bytes(frame));
            }
            Mail::Lost { feed, first, last } => self.lost(cx, feed, first, last),
        }
    }

    /// Counted here, where the subscribers are; a positioned one would be told to recover.
    fn lost(&mut self, cx: &mut Cx<Mail>, feed: FeedId, first: u64, last: u64) {
        if let Some(subscribers) = self.feeds.lost(feed, last) {
            cx.counters.publications_lost += (last - first + 1) * u64::from(subscribers);
            cx.note(Note::Gap { first, last, subscribers });
        }
    }

    pub(super) fn tell_home_left(&mut self, cx: &mut Cx<Mail>, left: &Left) {
        let home = self.home_of(&left.name);
        let channel = cx.mail.put(home, left.name.as_bytes());
        cx.mail.post(home, Mail::Unsubscribe { channel, feed: left.feed });
    }

    /// Stamps a publication, encodes it once per form in use, and queues it for every shard that wants it.
    pub(super) fn publish_at_home(
        &mut self,
        cx: &mut Cx<Mail>,
        channel: &str,
        data: &[u8],
        client: Option<[u8; 16]>,
    ) -> Option<Position> {
        cx.counters.publications += 1;
        self.frame.clear();
        let (frame, with_offset) = (&mut self.frame, self.settings.history_max > 0);
        self.home.publish(channel, data, client, |interest, offset| {
            // What one turn gathered says nothing about the receiver: slow is who has no room for it when it is sent.
            if !has_room(cx, interest.shard) {
                cx.hand_out();
                if !has_room(cx, interest.shard) {
                    return false;
                }
            }
            if frame.is_empty() {
                encode(frame, channel, data, client, if with_offset { offset } else { 0 });
            }
            deliver(cx, interest, offset, frame);
            true
        })
    }

    /// Sends shards that were skipped what they missed, while there is room for it: half the bound, so that a repair is not
    /// the next skip.
    pub(super) fn repair(&mut self, cx: &mut Cx<Mail>) {
        let frame = &mut self.frame;
        self.home.repair(|step| {
            let (Repair::Send { interest, .. } | Repair::Lost { interest, .. }) = step;
            if cx.mail.waiting_bytes(interest.shard) >= cx.limits.mail_bytes_max.div_ceil(2) {
                return false;
            }
            match step {
                Repair::Send { channel, record, .. } => {
                    frame.clear();
                    encode(frame, channel, &record.data, record.client, record.offset);
                    deliver(cx, interest, record.offset, frame);
                    cx.counters.publications_repaired += 1;
                }
                Repair::Lost { first, last, .. } => {
                    cx.mail.post(interest.shard, Mail::Lost { feed: interest.feed, first, last });
                }
            }
            true
        });
    }
}

/// Publications, unlike obligations, are taken only while there is room for them.
pub(super) fn has_room(cx: &Cx<Mail>, shard: ShardId) -> bool {
    cx.mail.waiting_bytes(shard) < cx.limits.mail_bytes_max
}

fn deliver(cx: &mut Cx<Mail>, interest: Interest, offset: u64, frame: &[u8]) {
    let frame = cx.mail.put(interest.shard, frame);
    cx.mail.post(interest.shard, Mail::Deliver { feed: interest.feed, offset, frame });
}

/// The whole WebSocket frame of a publication.
fn encode(frame: &mut Vec<u8>, channel: &str, data: &[u8], client: Option<[u8; 16]>, offset: u64) {
    let mut text = Uuid::encode_buffer();
    let client = client.map(|id| &*Uuid::from_bytes(id).hyphenated().encode_lower(&mut text));
    let info = client.map(|client| ClientInfo { client, ..ClientInfo::default() });
    let publication = Publication { data, info, offset };
    ws::frame_with(frame, Opcode::Text, |out| Encoding::Json.publication(out, channel, &publication));
}
