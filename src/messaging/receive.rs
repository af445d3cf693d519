//! What comes in the mail, and the subscribers' side of it: answers go to who asked, deliveries to their feeds.

use super::arena::Terms;
use super::mail::ReplyTo;
use super::{Mail, Messaging, owner};
use crate::engine::Context;
use crate::engine::log_ring::LogRecord;
use crate::engine::mailbox::Batch;
use crate::ids::{GroupId, ShardId};
use crate::protocol::{Encoding, Reply, Tags};
use crate::pubsub::{ChannelTop, InterestedShard};

impl Messaging {
    /// One message of another shard, or of our own.
    pub(crate) fn receive(&mut self, cx: &mut Context<Mail>, from: ShardId, mail: Mail, batch: &Batch<Mail>) {
        let name = |span| std::str::from_utf8(batch.bytes(span)).expect("a name was text when it was put there");
        match mail {
            Mail::Deliver { feed, at, frame } => _ = self.feeds.deliver(feed, at, batch.bytes(frame)),
            Mail::Subscribe { channel, feed, form } => {
                let options = self.stream_options(name(channel));
                let shard = InterestedShard::new(from, feed, form);
                let top = self.home.subscribe(name(channel), shard, &options, cx.now());
                cx.mail.post(from, Mail::Subscribed { feed, top });
            }
            Mail::Unsubscribe { channel, feed } => self.home.unsubscribe(name(channel), from, feed, cx.now()),
            Mail::Recover { channel, missed } => self.recover(cx, from, name(channel), missed),
            Mail::Enter { channel, who, presence, tell } => {
                self.somebody(cx, name(channel), batch.bytes(who), presence, tell, true);
            }
            Mail::Exit { channel, who, presence, tell } => {
                self.somebody(cx, name(channel), batch.bytes(who), presence, tell, false);
            }
            Mail::Publish { channel, data, who, terms, reply_to, json } => {
                let terms = Terms::unpack(batch.bytes(terms));
                self.publish_at_home(cx, name(channel), batch.bytes(data), Some(batch.bytes(who)), &terms, json);
                cx.mail.post(from, Mail::Published { reply_to });
            }
            Mail::Query { channel, query, reply_to, wire } => {
                let encoding = Encoding::from_index(wire).unwrap_or(Encoding::Json);
                self.answer_query(cx, from, name(channel), query, reply_to, encoding);
            }
            Mail::Subscribed { feed, top } => self.feed_answered(cx, from, feed, top),
            Mail::Recovered { sub, position, recovered, records } => {
                self.requests[from.index()] -= 1;
                self.recovered(cx, sub, position, recovered, batch.bytes(records));
            }
            Mail::Published { reply_to: ReplyTo { conn, id } } => {
                if cx.is_open(conn) {
                    self.reply(cx, conn, id, &Reply::Publish);
                    self.paid(cx, conn);
                }
            }
            Mail::Answer { conn, frame } => {
                self.requests[from.index()] -= 1;
                cx.reply_frame(conn, batch.bytes(frame));
                self.paid(cx, conn);
            }
            Mail::UserEnter { user, conn } => self.user_enters(cx, from, name(user), conn),
            Mail::UserLeave { user, conn } => self.user_leaves(from, name(user), conn),
            Mail::UserAnswer { conn, admitted } => self.user_answered(cx, conn, admitted),
            Mail::Replaced { conn } => self.replaced(cx, conn),
            delivery => self.special_delivery(cx, delivery, batch),
        }
    }

    /// Deliveries that are not the same for all.
    fn special_delivery(&mut self, cx: &mut Context<Mail>, mail: Mail, batch: &Batch<Mail>) {
        match mail {
            Mail::DeliverDelta { feed, at, whole, delta } => {
                let (whole, delta) = (batch.bytes(whole), batch.bytes(delta));
                let owner = owner(feed, self.feeds.slow_policy(feed));
                self.feeds.deliver_delta(feed, at, whole, delta, |conn, frame| {
                    cx.deliver(conn, owner, frame, Some(0));
                });
            }
            Mail::DeliverTagged { feed, at, frame, tags } => {
                let (frame, tags) = (batch.bytes(frame), Tags::from_bytes(batch.bytes(tags)));
                let owner = owner(feed, self.feeds.slow_policy(feed));
                self.feeds.deliver_filtered(feed, at, |conn, detail| {
                    let filter = detail.and_then(|detail| detail.filter.as_ref());
                    if filter.is_none_or(|filter| filter.matches(tags)) {
                        cx.counters.deliveries += 1;
                        cx.deliver(conn, owner, frame, Some(0));
                    }
                });
            }
            Mail::Notice { feed, frame } => {
                let owner = owner(feed, self.feeds.slow_policy(feed));
                self.feeds
                    .deliver_join_leave(feed, batch.bytes(frame), |conn, frame| cx.deliver(conn, owner, frame, None));
            }
            Mail::Lost { feed, lost } => {
                let Some(subscribers) = self.feeds.skip_lost(feed, lost) else { return };
                let count = lost.count();
                // Counted here, where the subscribers are; a positioned one is told to come again.
                cx.counters.publications_lost += count * u64::from(subscribers);
                cx.log(LogRecord::Gap { count, subscribers });
                for sub in if lost.with_offset > 0 { self.feeds.of_group(feed) } else { Vec::new() } {
                    self.insufficient_state(cx, sub);
                }
            }
            _ => {}
        }
    }

    fn feed_answered(&mut self, cx: &mut Context<Mail>, from: ShardId, feed: GroupId, top: ChannelTop) {
        self.requests[from.index()] -= 1;
        for sub in self.feeds.activate_group(feed, top).unwrap_or_default() {
            self.go_live(cx, sub, top.position, None);
        }
    }
}
