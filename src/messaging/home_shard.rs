//! A home's side of what shards tell each other: it stamps, has each form that somebody needs encoded (`forms`), and
//! hands it to each shard that has subscribers; it answers subscribers, in the same order.

use super::arena::{Kept, Terms, Who};
use super::encodings::{Content, Wire};
use super::mail::Missed;
use super::publish::{is_json, one_line};
use super::session::opcode;
use super::{Mail, Messaging};
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{Push, Tags};
use crate::pubsub::{Delivery, Draft, Outcome, Record, RecoveryMode, Repair};
use crate::ws;

impl Messaging {
    /// Stamps a publication and queues it for every shard that wants it. `json`: the data is known to be JSON on one line.
    pub(crate) fn publish_at_home(
        &mut self,
        cx: &mut Context<Mail>,
        channel: &str,
        data: &[u8],
        who: Option<&[u8]>,
        terms: &Terms<'_>,
        json: bool,
    ) -> Outcome {
        cx.counters.publications += 1;
        let json = json || is_json(data);
        let data = if json { one_line(data) } else { data.into() };
        let options = self.stream_options(channel);
        let draft = Draft {
            data: &data,
            json,
            who,
            tags: &terms.tags,
            skip_history: terms.skip_history,
            idempotency_key: terms.idempotency_key,
            version: terms.version,
            version_epoch: terms.version_epoch,
            use_delta: terms.delta,
        };
        let frames = &mut self.scratch;
        frames.clear();
        let tags = Tags::from_bytes(&terms.tags);
        let now = cx.now();
        let outcome = self.home.publish(channel, draft, &options, now, |interest, step: &Delivery<'_>| {
            // What one turn gathered says nothing about the receiver: slow is who has no room for it when it is sent.
            if !has_room(cx, interest.shard) {
                cx.dispatch_mail();
                if !has_room(cx, interest.shard) {
                    return false;
                }
            }
            let content = Content {
                channel,
                offset: step.offset,
                epoch: step.epoch,
                version: terms.version,
                data: &data,
                json,
                who,
                tags,
            };
            content.deliver(cx, frames, interest, step.seq, step.previous.map(|record| &*record.data));
            true
        });
        cx.counters.encodings += frames.take_encodings();
        self.tell_twin(outcome, channel, &data, who, terms, json);
        outcome
    }

    /// Sends shards that were skipped what they missed, while there is room for it: half the bound, so that a repair is not
    /// the next skip.
    pub(crate) fn repair(&mut self, cx: &mut Context<Mail>) {
        let frames = &mut self.scratch;
        self.home.repair(|step| {
            let (Repair::Send { interest, .. } | Repair::Lost { interest, .. }) = step;
            if cx.mail.waiting_bytes(interest.shard) >= cx.config.mail_bytes_max.div_ceil(2) {
                return false;
            }
            match step {
                Repair::Send { channel, record, seq, epoch, .. } => {
                    frames.clear();
                    let Kept { offset, version, json, who, tags, data } = Kept::of(record);
                    let content = Content { channel, offset, epoch, version, data, json, who, tags };
                    content.deliver(cx, frames, interest, seq, None);
                    cx.counters.publications_repaired += 1;
                }
                Repair::Lost { first, last, stamped, offset, .. } => {
                    let (feed, count) = (interest.feed, last - first + 1);
                    cx.mail.post(interest.shard, Mail::Lost { feed, last, count, stamped, offset });
                }
            }
            true
        });
    }

    /// A client has come or gone: presence, and the word of it to those who want it.
    pub(crate) fn somebody(
        &mut self,
        cx: &mut Context<Mail>,
        channel: &str,
        who: &[u8],
        presence: bool,
        tell: bool,
        comes: bool,
    ) {
        let seen = Who::unpack(who);
        if presence && comes {
            self.home.presence_add(channel, seen.client, seen.user, who);
        } else if presence {
            self.home.presence_remove(channel, seen.client, cx.now());
        }
        if !tell {
            return;
        }
        let mut text = uuid::Uuid::encode_buffer();
        let info = seen.info(&mut text);
        let push = if comes { Push::Join(info) } else { Push::Leave(info) };
        let frames = &mut self.scratch;
        frames.clear();
        for interest in self.home.interests(channel).iter().filter(|interest| interest.form.join_leave) {
            // A join is no publication: where there is no room it is left out.
            if !has_room(cx, interest.shard) {
                continue;
            }
            // Too short to be worth compressing: plain for every class.
            let encoding = Wire::unpack(interest.form.wire).encoding;
            let frame = &mut frames.plain[usize::from(encoding.index())];
            if frame.is_empty() {
                ws::frame_with(frame, opcode(encoding), |out| encoding.push(out, channel, &push));
            }
            let frame = cx.mail.put(interest.shard, frame);
            cx.mail.post(interest.shard, Mail::Notice { feed: interest.feed, frame });
        }
    }

    /// What a subscription missed, up to this place in the order. Where its feed was skipped the answer waits until that is
    /// repaired: what the repair brings must not come twice.
    pub(crate) fn recover(&mut self, cx: &mut Context<Mail>, to: ShardId, channel: &str, missed: Missed) {
        if self.home.lags(channel, to, missed.feed) {
            return self.held_back.push_back((to, channel.into(), missed));
        }
        let Missed { sub, since, cache, filter, .. } = missed;
        let options = self.stream_options(channel);
        let limit = self.settings.client.recovery_max_publication_limit as usize;
        let passes = |record: &Record| filter.as_ref().is_none_or(|filter| filter.matches(Kept::of(record).tags));
        let wanted: Option<&dyn Fn(&Record) -> bool> = if filter.is_some() { Some(&passes) } else { None };
        let mode = if cache { RecoveryMode::Cache { wanted } } else { RecoveryMode::Stream };
        let recovery = self.home.recover(channel, since, limit, mode, &options, cx.now());
        let (position, recovered) = (recovery.top, recovery.recovered);
        let records = cx.mail.put_with(to, |out| {
            for record in recovery.publications {
                Kept::of(record).pack(out);
            }
        });
        cx.mail.post(to, Mail::Recovered { sub, position, recovered, records });
    }

    /// Those whose recovery waited for a repair.
    pub(crate) fn recover_held_back(&mut self, cx: &mut Context<Mail>) {
        for (to, channel, missed) in std::mem::take(&mut self.held_back) {
            self.recover(cx, to, &channel, missed);
        }
    }
}

/// Publications, unlike obligations, are taken only while there is room for them.
pub(crate) fn has_room(cx: &Context<Mail>, shard: ShardId) -> bool {
    cx.mail.waiting_bytes(shard) < cx.config.mail_bytes_max
}
