//! A home's side of what shards tell each other: it stamps, has each form that somebody needs encoded (`forms`), and
//! hands it to each shard that has subscribers; it answers subscribers, in the same order.

use super::arena::{Kept, Terms, Who};
use super::encodings::{Wire, deliver};
use super::mail::Missed;
use super::publish::{is_json, one_line};
use super::session::opcode;
use super::{Mail, Messaging};
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::Push;
use crate::pubsub::{
    Delivery, Publication, PublicationRecord, PublishOptions, PublishOutcome, RecoveryMode, RecoveryRequest, ResendStep,
};
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
    ) -> PublishOutcome {
        cx.counters.publications += 1;
        let json = json || is_json(data);
        let data = if json { one_line(data) } else { data.into() };
        let options = self.stream_options(channel);
        let publication = Publication {
            channel,
            data: &data,
            is_json: json,
            client_info: who,
            tags: &terms.tags,
            version: terms.version,
            options: PublishOptions {
                skip_history: terms.skip_history,
                use_delta: terms.delta,
                idempotency_key: terms.idempotency_key,
                version_epoch: terms.version_epoch,
            },
        };
        let frames = &mut self.scratch;
        frames.clear();
        let now = cx.now();
        let outcome = self.home.publish(&publication, &options, now, |interest, delivery: &Delivery<'_>| {
            // What one turn gathered says nothing about the receiver: slow is who has no room for it when it is sent.
            if !has_room(cx, interest.shard) {
                cx.dispatch_mail();
                if !has_room(cx, interest.shard) {
                    return false;
                }
            }
            deliver(cx, frames, interest, delivery);
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
        self.home.resend(|step| {
            let (ResendStep::Publication { to, .. } | ResendStep::Lost { to, .. }) = step;
            if cx.mail.waiting_bytes(to.shard) >= cx.config.mail_bytes_max.div_ceil(2) {
                return false;
            }
            match step {
                ResendStep::Publication { delivery, .. } => {
                    frames.clear();
                    deliver(cx, frames, to, &delivery);
                    cx.counters.publications_repaired += 1;
                }
                ResendStep::Lost { lost, .. } => _ = cx.mail.post(to.shard, Mail::Lost { feed: to.group, lost }),
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
        for interest in self.home.interested_shards(channel).iter().filter(|interest| interest.wire_format.join_leave) {
            // A join is no publication: where there is no room it is left out.
            if !has_room(cx, interest.shard) {
                continue;
            }
            // Too short to be worth compressing: plain for every class.
            let encoding = Wire::unpack(interest.wire_format.wire).encoding;
            let frame = &mut frames.plain[usize::from(encoding.index())];
            if frame.is_empty() {
                ws::frame_with(frame, opcode(encoding), |out| encoding.push(out, channel, &push));
            }
            let frame = cx.mail.put(interest.shard, frame);
            cx.mail.post(interest.shard, Mail::Notice { feed: interest.group, frame });
        }
    }

    /// What a subscription missed, up to this place in the order. Where its feed was skipped the answer waits until that is
    /// repaired: what the repair brings must not come twice.
    pub(crate) fn recover(&mut self, cx: &mut Context<Mail>, to: ShardId, channel: &str, missed: Missed) {
        if self.home.is_lagging(channel, to, missed.feed) {
            return self.held_back.push_back((to, channel.into(), missed));
        }
        let Missed { sub, since, cache, filter, .. } = missed;
        let options = self.stream_options(channel);
        let limit = self.settings.client.recovery_max_publication_limit as usize;
        let passes =
            |record: &PublicationRecord| filter.as_ref().is_none_or(|filter| filter.matches(Kept::of(record).tags));
        let wanted: Option<&dyn Fn(&PublicationRecord) -> bool> = if filter.is_some() { Some(&passes) } else { None };
        let mode = if cache { RecoveryMode::Cache { filter: wanted } } else { RecoveryMode::Stream };
        let request = RecoveryRequest { since, limit, mode };
        let recovery = self.home.recover(channel, request, &options, cx.now());
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
