//! The home shard's side of channels: it stamps publications, has each wire format in use encoded once (`encodings`), and
//! posts a frame to each shard that has subscribers. It answers subscribers in the same order.

use std::borrow::Cow;

use bytes::Bytes;

use super::encodings::{EncodedFrames, FrameEncoding};
use super::handover_message::pack_removed;
use super::handover_peer::Forwarded;
use super::handover_request::{pack_join_leave, pack_presence};
use super::home_broker::Call;
use super::home_queries::{self, post_too_large};
use super::large_replies::{PaidRecovery, records_bytes};
use super::mail::{Inquiry, JoinOptions, LargeRequest, Mail, Question, has_room};
use super::session::opcode;
use super::state::Messaging;
use crate::broker::message::RequestKind;
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{Encoding, Push, RawClientInfo, is_json, one_line};
use crate::pubsub::{
    Delivery, HistoryFilter, HistoryOptions, InterestedShard, Publication, PublicationRecord, PublishOutcome, Recovery,
    ResendStep, Since, TimeRange,
};
use crate::ws;

/// Stamps a publication and posts it to every shard that has subscribers, and to the peer process of a handover.
#[inline]
pub(crate) fn publish(state: &mut Messaging, cx: &mut Context<Mail>, publication: &Publication<'_>) -> PublishOutcome {
    let (data, is_json) = normalized(publication);
    let time_ms = state.clock_zero_unix_ms + cx.now();
    let publication = &Publication { data: &data, is_json, time_ms, ..*publication };
    let outcome = stamp(state, cx, publication);
    if let Some(peer) = &state.handover_peer {
        peer.forward(publication, outcome);
    }
    outcome
}

/// Drops the publications of a channel, here and in the peer process of a handover.
pub(crate) fn remove_history(state: &mut Messaging, channel: &str) {
    state.home_channels.history_remove(channel);
    if let Some(peer) = &state.handover_peer {
        peer.tell(|| pack_removed(channel));
    }
}

/// Delivers what a broker has stamped. `stored`: it has the next offset of its channel.
pub(crate) fn deliver_stamped(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    mut publication: Publication<'_>,
    stored: bool,
) {
    publication.options.use_delta = true;
    let (options, sends_time) = state.settings.channel_options(publication.channel);
    if publication.time_ms == 0 {
        publication.time_ms = state.clock_zero_unix_ms + cx.now();
    }
    deliver_copy(state, cx, &publication, stored, (&options.cached(), sends_time));
}

/// Delivers what the process that orders has stamped in a handover, and keeps it as it does.
pub(super) fn deliver_copy(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    publication: &Publication<'_>,
    stored: bool,
    (options, sends_time): (&HistoryOptions, bool),
) {
    let frames = &mut state.frames;
    frames.clear();
    frames.sends_time = sends_time;
    state
        .home_channels
        .publish_stamped(publication, stored, options, cx.now(), |to, delivery| post_or_skip(frames, cx, to, delivery));
    cx.counters.encodings += frames.take_encodings();
}

/// Publishes what the peer process has stamped. It does not go back to the peer.
pub(crate) fn publish_forwarded(state: &mut Messaging, cx: &mut Context<Mail>, packed: &[u8]) {
    let Some(forwarded) = Forwarded::unpack(packed) else { return };
    let mut client_info = Vec::new();
    let publication = forwarded.with_client(&mut client_info);
    let (data, is_json) = normalized(&publication);
    let time_ms = state.clock_zero_unix_ms + cx.now();
    stamp(state, cx, &Publication { data: &data, is_json, time_ms, ..publication });
}

/// Whether the data is JSON, and on one line if it is.
pub(super) fn normalized<'a>(publication: &Publication<'a>) -> (Cow<'a, [u8]>, bool) {
    let is_json = publication.is_json || is_json(publication.data);
    (if is_json { one_line(publication.data) } else { publication.data.into() }, is_json)
}

fn stamp(state: &mut Messaging, cx: &mut Context<Mail>, publication: &Publication<'_>) -> PublishOutcome {
    cx.counters.publications += 1;
    let (options, sends_time) = state.settings.channel_options(publication.channel);
    let frames = &mut state.frames;
    frames.clear();
    frames.sends_time = sends_time;
    let outcome = state
        .home_channels
        .publish(publication, &options, cx.now(), |to, delivery| post_or_skip(frames, cx, to, delivery));
    cx.counters.encodings += frames.take_encodings();
    outcome
}

/// False if the shard has no room.
#[inline]
fn post_or_skip(
    frames: &mut EncodedFrames,
    cx: &mut Context<Mail>,
    to: InterestedShard,
    delivery: &Delivery<'_>,
) -> bool {
    // A full turn does not make a shard slow: it is skipped if there is no room after what was gathered has left.
    if !has_room(cx, to.shard) {
        cx.dispatch_mail();
        if !has_room(cx, to.shard) {
            return false;
        }
    }
    frames.post(cx, to, delivery);
    true
}

/// Sends shards that were skipped what they missed while there is room: half the bound, so that what is sent again does not
/// make the shard skip the next publication.
pub(crate) fn resend(state: &mut Messaging, cx: &mut Context<Mail>) {
    let (frames, settings) = (&mut state.frames, &state.settings);
    state.home_channels.resend(|step| {
        let (ResendStep::Publication { to, .. } | ResendStep::Lost { to, .. }) = step;
        if cx.mail.waiting_bytes(to.shard) >= cx.config.mail_bytes_max.div_ceil(2) {
            return false;
        }
        match step {
            ResendStep::Publication { to, delivery } => {
                frames.clear();
                frames.sends_time = settings.sends_time_in(delivery.publication.channel);
                frames.post(cx, to, &delivery);
                cx.counters.publications_repaired += 1;
            }
            ResendStep::Lost { to, lost } => {
                cx.mail.post(to.shard, Mail::Lost { group: to.group, lost });
            }
        }
        true
    });
}

/// A client has subscribed.
pub(crate) fn client_joined(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    client_info: &[u8],
    options: JoinOptions,
) {
    let info = RawClientInfo::unpack(client_info);
    if options.presence {
        state.home_channels.presence_add(channel, info.client, info.user, client_info);
        if let Some(broker) = &state.broker {
            let client_info = Bytes::copy_from_slice(client_info);
            broker.tell_presence(channel, RequestKind::PresenceSet { client: info.client, client_info });
        }
        tell_presence(state, channel, true, client_info);
    }
    if options.push {
        join_or_leave(state, cx, channel, client_info, true);
    }
}

/// The process that takes over learns of the presence while it gets the channels. Later it is the broker of the presence.
fn tell_presence(state: &Messaging, channel: &str, is_in: bool, client_info: &[u8]) {
    if let Some(peer) = state.handover_peer.as_ref().filter(|peer| peer.copying.is_some()) {
        peer.tell(|| pack_presence(channel, is_in, client_info));
    }
}

/// To the subscribers of every server, or of this one.
fn join_or_leave(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, client_info: &[u8], is_join: bool) {
    match state.broker.as_mut().filter(|broker| broker.links.publications.is_some()) {
        Some(broker) => broker.tell_join_or_leave(channel, client_info, is_join),
        None => push_join_or_leave_everywhere(state, cx, channel, client_info, is_join),
    }
}

/// To the subscribers of this server, and of the process that follows it in a handover.
pub(crate) fn push_join_or_leave_everywhere(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    client_info: &[u8],
    is_join: bool,
) {
    if let Some(peer) = state.handover_peer.as_ref().filter(|peer| peer.copying.is_none()) {
        peer.tell(|| pack_join_leave(channel, is_join, client_info));
    }
    push_join_or_leave(state, cx, channel, client_info, is_join);
}

/// To the subscribers of this server.
pub(crate) fn push_join_or_leave(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    client_info: &[u8],
    is_join: bool,
) {
    let mut text = uuid::Uuid::encode_buffer();
    let info = RawClientInfo::unpack(client_info).text(&mut text);
    post_push(state, cx, channel, &if is_join { Push::Join(info) } else { Push::Leave(info) });
}

/// A client has unsubscribed, or its connection is closed.
pub(crate) fn client_left(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    client_info: &[u8],
    options: JoinOptions,
) {
    let info = RawClientInfo::unpack(client_info);
    if options.presence {
        state.home_channels.presence_remove(channel, info.client, cx.now());
        if let Some(broker) = &state.broker {
            let (client, user) = (info.client, info.user.into());
            broker.tell_presence(channel, RequestKind::PresenceRemove { client, user });
        }
        tell_presence(state, channel, false, client_info);
    }
    if options.push {
        join_or_leave(state, cx, channel, client_info, false);
    }
}

/// Posts a join or leave push to the shards whose subscribers want them.
fn post_push(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, push: &Push<'_>) {
    let frames = &mut state.frames;
    frames.clear();
    for to in state.home_channels.interested_shards(channel).iter().filter(|to| to.wire_format.join_leave) {
        // Unlike a reply, a join or leave push is left out if there is no room.
        if !has_room(cx, to.shard) {
            continue;
        }
        let format = FrameEncoding::unpack(to.wire_format.wire);
        let encoding = format.encoding;
        let frame = &mut frames.plain[usize::from(encoding.index())];
        if frame.is_empty() {
            ws::frame_with(frame, opcode(encoding), |out| encoding.push(out, channel, push));
        }
        // Too short to be worth compressing: plain for every compression class.
        let frame = frames.plain_or_streamed(cx, format);
        let frame = cx.mail.put(to.shard, frame);
        cx.mail.post(to.shard, Mail::JoinLeavePush { group: to.group, frame });
    }
}

/// Answers what a subscription missed up to this place in the order. If its group was skipped, the answer waits until the
/// skipped publications are sent again, so that none of them comes twice. A large answer has to be paid for first.
pub(crate) fn recover(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    to: ShardId,
    channel: &str,
    recovery: PaidRecovery,
) {
    let has_broker = state.is_brokered(channel);
    let recovery = match &mut state.broker {
        None => recovery,
        Some(_) if !has_broker => recovery,
        // Its group has failed while the request was on its way.
        Some(_) if !state.home_channels.is_interested(channel, to, recovery.request.group) => {
            return fail_recovery(cx, to, &recovery);
        }
        Some(broker) => match broker.may_recover(to, channel, recovery) {
            Some(recovery) => recovery,
            None => return,
        },
    };
    if state.home_channels.is_lagging(channel, to, recovery.request.group) {
        return state.delayed_recoveries.push_back((to, channel.into(), recovery));
    }
    let (options, sends_time) = state.settings.channel_options(channel);
    let limit = state.settings.client.recovery_max_publication_limit as usize;
    let accepts = |record: &PublicationRecord| recovery.request.accepts(record);
    let asked = recovery.request.asked(limit, &accepts);
    let found = state.home_channels.recover(channel, asked, &options, cx.now());
    if recovery.is_refused {
        let (sub, position, records, reserved) = (recovery.request.sub, found.top, Box::default(), recovery.reserved);
        cx.mail.post(to, Mail::Recovered { sub, position, recovered: false, records, reserved });
        return;
    }
    if has_broker && !found.recovered && options.has_history() {
        // The broker may have more than what is kept here.
        return ask_recovery(state, cx, channel, to, recovery, 0);
    }
    post_recovered(cx, (channel, to), recovery, found, sends_time);
}

/// Posts what was found for a recovery, if it is paid for.
pub(super) fn post_recovered(
    cx: &mut Context<Mail>,
    (channel, to): (&str, ShardId),
    recovery: PaidRecovery,
    found: Recovery<'_>,
    sends_time: bool,
) {
    let PaidRecovery { request, bytes_max, reserved, is_refused } = recovery;
    let bytes = records_bytes(found.publications.clone(), Encoding::Json);
    if bytes > bytes_max {
        let question = Question::Recovery { request, is_refused };
        return post_too_large(cx, to, LargeRequest::new(channel, question, bytes, reserved));
    }
    let Recovery { recovered, top: position, publications } = found;
    let (sub, records) = (request.sub, publications.map(|record| record.for_reply(sends_time)).collect());
    cx.mail.post(to, Mail::Recovered { sub, position, recovered, records, reserved });
}

/// Asks the broker for what a subscription missed.
pub(super) fn ask_recovery(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    to: ShardId,
    recovery: PaidRecovery,
    tries: u8,
) {
    let options = state.settings.history_options(channel);
    let limit = state.settings.client.recovery_max_publication_limit as i32;
    let is_logged = state.is_logged(channel);
    let request = &recovery.request;
    let filter = match request.cache {
        false => {
            // The log knows earlier generations of a stream by their epochs.
            let epoch = request.since.epoch.filter(|_| is_logged);
            HistoryFilter { since: Some(Since { epoch, ..request.since }), limit, reverse: false }
        }
        true => HistoryFilter { since: None, limit: if request.filter.is_some() { limit } else { 1 }, reverse: true },
    };
    let Some(broker) = &mut state.broker else { return };
    let call = Call::Recover { channel: channel.into(), to, recovery, tries };
    let sent =
        broker.ask(channel, call, |ticket| RequestKind::History { ticket, filter, range: TimeRange::ALL, options });
    if let Err(Call::Recover { recovery, .. }) = sent {
        fail_recovery(cx, to, &recovery);
    }
}

/// The broker is away: the subscribe fails, and its client tries again. Never `recovered: false` for that.
pub(super) fn fail_recovery(cx: &mut Context<Mail>, to: ShardId, recovery: &PaidRecovery) {
    let PaidRecovery { request, reserved, .. } = recovery;
    cx.mail.post(to, Mail::RecoveryFailed { sub: request.sub, reserved: *reserved });
}

/// Answers the recoveries that waited for skipped publications to be sent again.
pub(crate) fn recover_delayed(state: &mut Messaging, cx: &mut Context<Mail>) {
    for (to, channel, recovery) in std::mem::take(&mut state.delayed_recoveries) {
        recover(state, cx, to, &channel, recovery);
    }
}

/// A request whose reply is paid for.
pub(crate) fn paid_request(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, request: LargeRequest) {
    let LargeRequest { channel, question, reserved, .. } = request;
    let bytes_max = reserved.0 as usize;
    match question {
        Question::Query { query, reply_to, encoding } => {
            let inquiry = Inquiry { shard: from, query, reply_to, encoding, bytes_max, reserved };
            home_queries::answer(state, cx, &channel, inquiry);
        }
        Question::Recovery { request, is_refused } => {
            recover(state, cx, from, &channel, PaidRecovery { request, bytes_max, reserved, is_refused });
        }
    }
}
