//! The two processes of a handover with one order of publications.
//!
//! ```text
//!  process before:   orders, copies ──► FollowPeer ──► follows ──► ends
//!  process after:    takes channels over ──────────► orders, serves requests
//! ```
//!
//! - The process that follows has the process that orders as its broker: it sends publications there, and what is published
//!   there arrives here in order and whole, so that its channels are a copy at each moment. Recoveries are answered from the
//!   copy, or by the process that orders if a client has seen more.
//! - If the process that orders dies, the other one orders. If publications may have been lost with it, every channel begins
//!   another epoch, and positioned subscribers load their state anew: a recovery never claims what is not known.

use std::sync::Arc;

use bytes::Bytes;

use super::broker_calls;
use super::broker_channels;
use super::handover_message::{PeerMessage, pack_epochs, unpack};
use super::handover_peer::{Forwarded, HandoverPeer, HomeProgress, PeerState};
use super::handover_request::{Asked, pack_answer};
use super::home_broker::{BrokerLinks, HomeBroker};
use super::home_shard;
use super::mail::Mail;
use super::state::Messaging;
use crate::broker::Broker;
use crate::broker::message::{
    self, Answer, BrokerError, HistoryRead, Published, Request, RequestKind, SubscribeSerial,
};
use crate::engine::log_ring::RestartCause;
use crate::engine::{Context, Millis};
use crate::ids::ShardId;
use crate::protocol::RawClientInfo;
use crate::pubsub::{HistoryFilter, HistorySlice, Position, Publication, PublicationRecord, PublishOutcome, TimeRange};

/// The process that orders forgets no client of this one before the link ends.
const NO_RENEWAL: Millis = Millis::MAX / 2;

/// Another process takes over from this one, or this one from it; or, with `None`, it is gone.
pub(super) fn set_peer(state: &mut Messaging, cx: &mut Context<Mail>, link: Option<Arc<dyn HandoverPeer>>) {
    let before = std::mem::replace(&mut state.handover_peer, link.map(|link| Box::new(PeerState::new(link))));
    let Some(before) = before else { return };
    if state.follows_peer() {
        stop_following(state, cx);
    }
    if before.link.may_be_ahead() && !state.has_broker() {
        let settings = &state.settings;
        for (to, top) in state.home_channels.renew_epochs(|channel| !settings.is_durable(channel)) {
            cx.mail.post(to.shard, Mail::Restart { group: to.group, top, cause: RestartCause::NewEpoch });
        }
    }
    if !before.members.is_empty() {
        state.handover_rest.get_or_insert_default().departed.extend(before.members);
    }
}

/// The process that takes over has all channels: it orders them from here on. What this shard has ordered was sent before.
pub(super) fn follow(state: &mut Messaging, cx: &mut Context<Mail>, peer_broker: Broker) {
    if !state
        .handover_peer
        .as_ref()
        .is_some_and(|peer| peer.copying.as_ref().is_some_and(|copying| copying.is_complete))
    {
        return;
    }
    if !state.has_broker() {
        let me = cx.me();
        let numbers = state.home_channels.epoch_numbers().iter().copied().zip(0u16..);
        let is_own = |slot: u16| state.placement.shard_of_slot(usize::from(slot)) == me;
        let epochs: Vec<_> = numbers.filter(|&(_, slot)| is_own(slot)).map(|(number, slot)| (slot, number)).collect();
        if let Some(peer) = &state.handover_peer {
            peer.link.send_message(pack_epochs(&epochs));
        }
        let no_brokers = || BrokerLinks { presence_interval: NO_RENEWAL, ..BrokerLinks::default() };
        let broker = state.broker.get_or_insert_with(|| Box::new(HomeBroker::new(no_brokers(), me)));
        let links = std::mem::take(&mut broker.links);
        broker.links = BrokerLinks {
            publications: Some(peer_broker.clone()),
            publish_locally: false,
            follows_peer: true,
            // Another broker may have the presence.
            follows_presence: links.presence.is_none(),
            presence: links.presence.or(Some(peer_broker)),
            ..links
        };
    }
    // The log gets nothing from here on: it goes to the other process.
    if let Some(log) = state.broker.as_ref().and_then(|broker| broker.links.log.as_ref()) {
        log.flush();
    }
    subscribe_again(state);
    if let Some(peer) = &mut state.handover_peer {
        peer.copying = None;
        peer.link.report(HomeProgress::Switched);
    }
}

/// What was published meanwhile is read then (`broker_channels::subscribed`).
fn subscribe_again(state: &mut Messaging) {
    let Some(broker) = state.broker.as_ref().filter(|broker| !broker.channels.is_empty()) else { return };
    let channels = broker.channels.keys().cloned().collect();
    state.handover_rest.get_or_insert_default().resubscribed = channels;
}

/// The process that orders is gone, and what was asked of it has no answer. Other brokers answer later.
fn stop_following(state: &mut Messaging, cx: &mut Context<Mail>) {
    let Some(broker) = &mut state.broker else { return };
    for ticket in broker.tickets_of_peer() {
        broker_calls::answered(state, cx, ticket, Err(BrokerError::OutcomeUnknown));
    }
    let Some(broker) = &mut state.broker else { return };
    let links = std::mem::take(&mut broker.links);
    broker.links = BrokerLinks {
        publications: None,
        follows_peer: false,
        follows_presence: false,
        presence: links.presence.filter(|_| !links.follows_presence),
        ..links
    };
    if broker.links.presence.is_none() && broker.links.log.is_none() {
        state.broker = None;
    }
    subscribe_again(state);
}

/// A message of the peer process.
pub(super) fn received(state: &mut Messaging, cx: &mut Context<Mail>, message: &[u8]) {
    match unpack(message) {
        Some(PeerMessage::Stamped { position, forwarded }) => match state.is_logged(forwarded.channel) {
            true => log_published(state, cx, position, &forwarded),
            false => apply_stamped(state, cx, position, &forwarded),
        },
        Some(PeerMessage::Subscribed { channel, serial }) => broker_channels::subscribed(state, cx, channel, serial),
        Some(PeerMessage::Removed { channel }) => state.home_channels.history_remove(channel),
        Some(PeerMessage::Copy(copy)) => {
            if state.is_logged(copy.channel) {
                return;
            }
            let options = state.settings.history_options(copy.channel);
            state.home_channels.take_over_channel(copy, &options, cx.now());
        }
        Some(PeerMessage::Presence { channel, is_in, client_info }) => {
            set_presence(state, cx, channel, is_in, &client_info);
        }
        Some(PeerMessage::JoinLeave { channel, is_join, client_info }) => match state.follows_peer() {
            true => home_shard::push_join_or_leave(state, cx, channel, &client_info, is_join),
            false => home_shard::push_join_or_leave_everywhere(state, cx, channel, &client_info, is_join),
        },
        Some(PeerMessage::Keys(keys)) => {
            keys.into_iter().for_each(|key| state.home_channels.take_over_key(key, cx.now()));
        }
        Some(PeerMessage::Epochs(epochs)) => {
            for (slot, number) in epochs {
                state.home_channels.take_over_epoch(usize::from(slot), number);
            }
        }
        Some(PeerMessage::Answer { ticket, answer })
            if state.broker.as_ref().is_some_and(|broker| broker.asks_peer(ticket)) =>
        {
            broker_calls::answered(state, cx, ticket, answer);
        }
        Some(PeerMessage::Answer { .. }) => {}
        Some(request) => serve(state, cx, request),
        None => {}
    }
}

/// A client of the peer process is in a presence, or left it. Those are known apart from the own ones: they leave with it.
fn set_presence(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, is_in: bool, client_info: &[u8]) {
    let info = RawClientInfo::unpack(client_info);
    let Some(peer) = &mut state.handover_peer else { return };
    let member = (channel.into(), info.client);
    if is_in {
        peer.members.insert(member);
        state.home_channels.presence_add(channel, info.client, info.user, client_info);
    } else if peer.members.remove(&member) {
        state.home_channels.presence_remove(channel, info.client, cx.now());
    }
}

/// Publishes what the peer process has stamped, at the same position.
fn apply_stamped(state: &mut Messaging, cx: &mut Context<Mail>, position: Option<Position>, forwarded: &Forwarded<'_>) {
    let now = cx.now();
    let mut client_info = Vec::new();
    let publication = forwarded.with_client(&mut client_info);
    let (data, is_json) = home_shard::normalized(&publication);
    let publication = Publication { data: &data, is_json, ..publication };
    let channel = publication.channel;
    let key = publication.options.idempotency_key;
    if !key.is_empty() {
        state.home_channels.remember_key(channel, key, position, now);
    }
    let (options, sends_time) = state.settings.channel_options(channel);
    let position = position.filter(|_| options.has_history());
    if let Some(position) = position {
        let before = Position { offset: position.offset.saturating_sub(1), ..position };
        let top = state.home_channels.find_or_begin_at(channel, before);
        if top.epoch == position.epoch && top.offset >= position.offset {
            return;
        }
        if top != before {
            let (shards, at) = state.home_channels.restart_at(channel, before);
            for to in shards {
                cx.mail.post(to.shard, Mail::Restart { group: to.group, top: at, cause: RestartCause::NewEpoch });
            }
        }
    }
    home_shard::deliver_copy(state, cx, &publication, position.is_some(), (&options, sends_time));
}

/// The log of the process that has it has published.
fn log_published(state: &mut Messaging, cx: &mut Context<Mail>, position: Option<Position>, forwarded: &Forwarded<'_>) {
    let mut client_info = Vec::new();
    let Publication { channel, data, client_info, tags, version, time_ms, .. } =
        forwarded.with_client(&mut client_info);
    let owned = Bytes::copy_from_slice;
    let offset = position.map_or(0, |position| position.offset);
    let mut record = PublicationRecord::of_broker(offset, owned(data), client_info.map(owned), owned(tags), version)
        .published_at(time_ms);
    message::check(&mut record);
    broker_channels::arrived(state, cx, channel, record, position);
}

/// Carries out a request of the process that follows, and answers it.
fn serve(state: &mut Messaging, cx: &mut Context<Mail>, request: PeerMessage<'_>) {
    let Some(link) = state.handover_peer.as_ref().map(|peer| Arc::clone(&peer.link)) else { return };
    let request = match ask_log(state, &link, request) {
        Some(request) => request,
        None => return,
    };
    let (asked, answer) = match request {
        PeerMessage::Publish { asked, forwarded } => {
            let mut client_info = Vec::new();
            let publication = forwarded.with_client(&mut client_info);
            let outcome = home_shard::publish(state, cx, &publication);
            let is_suppressed = matches!(outcome, PublishOutcome::Duplicate(_) | PublishOutcome::StaleVersion(_));
            (asked, Answer::Published(Published { position: outcome.position(), is_suppressed }))
        }
        PeerMessage::History { asked, filter, range } => {
            (asked, Answer::History(read(state, cx, asked.channel, (filter, range))))
        }
        PeerMessage::HistoryRemove(asked) => {
            home_shard::remove_history(state, asked.channel);
            (asked, Answer::HistoryRemoved)
        }
        PeerMessage::PresenceOf(asked) => return send_presence(state, link, asked),
        PeerMessage::PresenceStats(asked) => {
            let (clients, users) = state.home_channels.presence_stats(asked.channel);
            (asked, Answer::PresenceStats { clients, users })
        }
        _ => return,
    };
    link.send_message(pack_answer(asked.from, asked.ticket, &Ok(answer)));
}

/// A request about a channel of the log goes there, and the log answers. Returns every other one.
fn ask_log<'a>(
    state: &mut Messaging,
    link: &Arc<dyn HandoverPeer>,
    request: PeerMessage<'a>,
) -> Option<PeerMessage<'a>> {
    let asked = match &request {
        PeerMessage::Publish { asked, .. } | PeerMessage::History { asked, .. } => *asked,
        PeerMessage::HistoryRemove(asked) | PeerMessage::Subscribe(asked) | PeerMessage::Unsubscribe(asked) => *asked,
        _ => return Some(request),
    };
    let Asked { channel, from, ticket } = asked;
    if !state.is_logged(channel) {
        return Some(request);
    }
    let kind = match request {
        PeerMessage::Publish { forwarded, .. } => {
            let mut client_info = Vec::new();
            let publish = broker_calls::publish_request(state, &forwarded.with_client(&mut client_info));
            RequestKind::Publish { ticket, publish: Box::new(publish) }
        }
        PeerMessage::History { filter, range, .. } => {
            let options = state.settings.history_options(channel);
            RequestKind::History { ticket, filter, range, options }
        }
        PeerMessage::HistoryRemove(_) => RequestKind::HistoryRemove { ticket },
        PeerMessage::Subscribe(_) => RequestKind::Subscribe(SubscribeSerial(ticket.0)),
        PeerMessage::Unsubscribe(_) => RequestKind::Unsubscribe,
        other => return Some(other),
    };
    // The shards of the other process come behind those of this one.
    let from_here = ShardId(from.0.saturating_add(state.placement.shard_count() as u16));
    let log = state.broker.as_ref().and_then(|broker| broker.links.log.as_ref())?;
    if let Err(rejected) = log.send(Request { from: from_here, channel: channel.into(), kind })
        && rejected.ticket().is_some()
    {
        link.send_message(pack_answer(from, ticket, &Err(BrokerError::Unavailable)));
    }
    None
}

fn read(
    state: &mut Messaging,
    cx: &Context<Mail>,
    channel: &str,
    (filter, range): (HistoryFilter, TimeRange),
) -> HistoryRead {
    let options = state.settings.history_options(channel);
    let (records, top) = match state.home_channels.history_within(channel, filter, range, &options, cx.now()) {
        Ok(HistorySlice { publications, top }) => (publications.cloned().collect(), top),
        Err(unrecoverable) => (Vec::new(), unrecoverable.top),
    };
    HistoryRead { records, top, since_is_kept: false }
}

/// A large presence is copied over many turns.
fn send_presence(state: &mut Messaging, link: Arc<dyn HandoverPeer>, asked: Asked<'_>) {
    let Asked { channel, from, ticket } = asked;
    let send =
        move |members: Vec<_>| link.send_message(pack_answer(from, ticket, &Ok(Answer::Presence(members.into()))));
    state.presence_snapshots.begin_for_peer(channel, Box::new(send));
}
