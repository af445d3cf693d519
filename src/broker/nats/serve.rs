//! The thread with a connection: requests become operations, and messages become events.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Buf;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::dial::{Dialed, READ_BYTES, Stream};
use super::link::{CONTROL_SID, Group, Link, NODE_SID, Overdue, PROBE, PROBE_SID, TICK, Unanswered};
use super::payload::{self, Content};
use super::subjects::ChannelUse;
use super::subscriptions::Inserted;
use super::url::ServerAddress;
use super::wire::{self, ServerOp};
use super::{Driver, REQUESTS_MAX};
use crate::broker::clock::now_ms;
use crate::broker::control::{ControlMessage, ControlPort};
use crate::broker::message::{
    Answer, BrokerError, Event, PublishRequest, Published, Request, RequestKind, SubscribeSerial,
};
use crate::broker::stats::{LinkState, Refusal, add};
use crate::ids::ShardId;

/// How a connection ends.
pub(super) enum End {
    /// Every sender of requests is gone.
    Finished,
    /// Its cause.
    Lost(String),
}

pub(super) async fn serve(driver: &mut Driver, server: &ServerAddress, dialed: Dialed) -> End {
    let Dialed { stream, received, info } = dialed;
    driver.add_announced(server, &info.connect_urls);
    let mut link = Link::new(received, info.max_payload, driver.subjects.probe(&driver.name));
    resubscribe(driver, &mut link);
    let end = run(driver, &mut link, server, stream).await;
    for Unanswered { shard, ticket, .. } in link.into_unanswered() {
        driver.reject((shard, ticket), Refusal::Unanswered, BrokerError::OutcomeUnknown);
    }
    end
}

/// Subscribes to everything again. The group's PONG brings `Event::Subscribed` for each channel.
fn resubscribe(driver: &mut Driver, link: &mut Link) {
    if let Some(control) = &driver.control {
        wire::subscribe(&mut link.out, &driver.subjects.control(), CONTROL_SID);
        wire::subscribe(&mut link.out, &driver.subjects.node(&control.uid), NODE_SID);
    }
    wire::subscribe(&mut link.out, &link.probe_subject, PROBE_SID);
    wire::publish(&mut link.out, &link.probe_subject, PROBE);
    let mut group = Group { has_probe: true, ..Group::default() };
    for (sid, subscription) in driver.subscriptions.iter_mut() {
        wire::subscribe(&mut link.out, &driver.subjects.of_channel(&subscription.channel), sid);
        group.subscribed.push(sid);
    }
    add(&driver.stats.resubscribes, group.subscribed.len() as u64);
    link.end_group(group);
}

async fn run(driver: &mut Driver, link: &mut Link, server: &ServerAddress, stream: Box<dyn Stream>) -> End {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut batch, mut must_flush) = (Vec::new(), false);
    // What was received with the answer to the login.
    let mut result = handle_received(driver, link, server);
    loop {
        driver.shards.flush(&mut driver.subscriptions);
        driver.stats.in_flight.store(link.unanswered(), Relaxed);
        let queued = link.out.len() + link.unanswered_bytes() + driver.shards.queued_bytes();
        driver.stats.queued_bytes.store(queued, Relaxed);
        if let Err(cause) = result {
            return End::Lost(cause);
        }
        let has_output = !link.out.is_empty();
        result = tokio::select! {
            read = reader.read_buf({ link.received.reserve(READ_BYTES); &mut link.received }) => match read {
                Ok(0) => Err(link.last_error.take().unwrap_or_else(|| "the server closed it".into())),
                Ok(_) => handle_received(driver, link, server),
                Err(error) => Err(error.to_string()),
            },
            wrote = write(&mut writer, &link.out), if has_output || must_flush => match wrote {
                Ok(count) => {
                    link.out.drain(..count);
                    (link.wrote, must_flush) = (Instant::now(), has_output);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            count = driver.requests.receive(&mut batch, REQUESTS_MAX) => {
                if count == 0 {
                    finish(driver, link, &mut writer).await;
                    return End::Finished;
                }
                handle_requests(driver, link, &mut batch);
                Ok(())
            }
            message = next_control(&mut driver.control), if link.out.len() < driver.queue_bytes_max => {
                send_control(driver, link, message);
                Ok(())
            }
            _ = ticks.tick() => link.tick(driver.write_timeout).map_err(|overdue| match overdue {
                Overdue::Answer => "the server does not answer".into(),
                Overdue::Write => "the server does not read".into(),
            }),
            () = driver.shards.wait_for_room() => Ok(()),
        };
    }
}

/// Sends the last control messages, within the time for a write: this server says that it ends.
async fn finish(driver: &mut Driver, link: &mut Link, writer: &mut (impl AsyncWrite + Unpin)) {
    while let Some(message) = driver.control.as_mut().and_then(|control| control.outgoing.try_recv().ok()) {
        send_control(driver, link, Some(message));
    }
    let write = async {
        writer.write_all(&link.out).await?;
        writer.shutdown().await
    };
    let _ = tokio::time::timeout(driver.write_timeout, write).await;
}

/// Writes a part, or without bytes flushes what TLS holds.
async fn write(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        wrote => wrote,
    }
}

async fn next_control(control: &mut Option<ControlPort>) -> Option<ControlMessage> {
    match control {
        Some(control) => control.outgoing.recv().await,
        None => std::future::pending().await,
    }
}

/// `None`: the cluster's end is gone.
fn send_control(driver: &mut Driver, link: &mut Link, message: Option<ControlMessage>) {
    let Some(ControlMessage { to, payload }) = message else {
        driver.control = None;
        return;
    };
    if payload.len() > link.payload_bytes_max {
        add(&driver.stats.dropped, 1);
        return;
    }
    let subject = to.map_or_else(|| driver.subjects.control(), |uid| driver.subjects.node(&uid));
    if super::subjects::is_valid(&subject) {
        wire::publish(&mut link.out, &subject, &payload);
    }
}

fn handle_requests(driver: &mut Driver, link: &mut Link, batch: &mut Vec<Request>) {
    if link.out.is_empty() {
        link.wrote = Instant::now();
    }
    let mut group = Group::default();
    for request in batch.drain(..) {
        let bytes = request.bytes();
        let Request { from, channel, kind } = request;
        match kind {
            RequestKind::Subscribe(serial) => subscribe(driver, link, &mut group, (channel, from, serial)),
            RequestKind::Unsubscribe => {
                if let Some(sid) = driver.subscriptions.remove(&channel) {
                    wire::unsubscribe(&mut link.out, sid);
                }
            }
            RequestKind::Publish { ticket, publish } => {
                let is_full = link.unanswered_bytes() + group.bytes >= driver.queue_bytes_max;
                match publish_one(driver, link, (&channel, &publish), is_full) {
                    Ok(()) => {
                        group.publications.push(Unanswered { shard: from, ticket, channel });
                        group.bytes += bytes;
                    }
                    Err((reason, error)) => driver.reject((from, ticket), reason, error),
                }
            }
            RequestKind::JoinLeave { is_join, client_info } => {
                let payload = payload::join_leave(&channel, is_join, &client_info);
                let is_full = link.unanswered_bytes() + group.bytes >= driver.queue_bytes_max;
                let fits = !is_full && payload.len() <= link.payload_bytes_max;
                if driver.subjects.is_raw || !driver.subjects.accepts(&channel, ChannelUse::Publish) {
                    continue;
                }
                if fits {
                    wire::publish(&mut link.out, &driver.subjects.of_channel(&channel), &payload);
                    group.bytes += bytes;
                } else {
                    driver.stats.refuse(Refusal::Full);
                }
            }
            RequestKind::History { ticket, .. }
            | RequestKind::HistoryRemove { ticket }
            | RequestKind::Query { ticket, .. }
            | RequestKind::Presence { ticket }
            | RequestKind::PresenceStats { ticket } => {
                driver.shards.answer(from, ticket, Err(BrokerError::NotSupported));
            }
            RequestKind::PresenceSet { .. } | RequestKind::PresenceRemove { .. } => {}
        }
    }
    link.end_group(group);
}

type SubscribeParts = (Box<str>, ShardId, SubscribeSerial);

fn subscribe(driver: &mut Driver, link: &mut Link, group: &mut Group, (channel, from, serial): SubscribeParts) {
    if !driver.subjects.accepts(&channel, ChannelUse::Subscribe) {
        // The home shard asks first (`Broker::accepts`): nothing will arrive.
        driver.stats.refuse(Refusal::Rejected);
        driver.shards.push(from, Event::SubscribeDelayed { channel, serial });
        return;
    }
    match driver.subscriptions.insert(channel.clone(), from, serial) {
        Inserted::New(sid) => {
            wire::subscribe(&mut link.out, &driver.subjects.of_channel(&channel), sid);
            group.subscribed.push(sid);
        }
        Inserted::Known(sid) => {
            if driver.subscriptions.get_mut(sid).is_some_and(|known| known.is_live) {
                driver.shards.push(from, Event::Subscribed { channel, serial });
            }
        }
    }
}

type Rejection = (Refusal, BrokerError);

fn publish_one(
    driver: &Driver,
    link: &mut Link,
    (channel, publish): (&str, &PublishRequest),
    is_full: bool,
) -> Result<(), Rejection> {
    if is_full {
        return Err((Refusal::Full, BrokerError::Unavailable));
    }
    if !driver.subjects.accepts(channel, ChannelUse::Publish) {
        return Err((Refusal::Rejected, BrokerError::Refused("the channel has no subject in NATS".into())));
    }
    let encoded;
    let payload = if driver.subjects.is_raw {
        &publish.data[..]
    } else {
        encoded = payload::publication(channel, publish, now_ms());
        &encoded
    };
    if payload.len() > link.payload_bytes_max {
        let bound = link.payload_bytes_max;
        let reason = format!("the publication exceeds max_payload of the NATS server ({bound} bytes)");
        return Err((Refusal::Rejected, BrokerError::Refused(reason.into())));
    }
    wire::publish(&mut link.out, &driver.subjects.of_channel(channel), payload);
    Ok(())
}

fn handle_received(driver: &mut Driver, link: &mut Link, server: &ServerAddress) -> Result<(), String> {
    let mut received = std::mem::take(&mut link.received);
    loop {
        match wire::parse(&received) {
            Ok(None) => break,
            Ok(Some((op, length))) => {
                handle_op(driver, link, server, op);
                received.advance(length);
            }
            Err(wire::Malformed) => {
                add(&driver.stats.malformed, 1);
                return Err("the server sent bytes that are not of the protocol of NATS".into());
            }
        }
    }
    link.received = received;
    if link.probe_failed {
        Err("a probe did not arrive: the server accepts and does not deliver".into())
    } else {
        Ok(())
    }
}

fn handle_op(driver: &mut Driver, link: &mut Link, server: &ServerAddress, op: ServerOp<'_>) {
    match op {
        ServerOp::Message { subject, sid, payload } => handle_message(driver, link, (subject, sid, payload)),
        ServerOp::Ping => wire::pong(&mut link.out),
        ServerOp::Pong => handle_pong(driver, link, server),
        ServerOp::Info(info) => {
            link.payload_bytes_max = info.max_payload;
            driver.add_announced(server, &info.connect_urls);
        }
        ServerOp::Error(error) => handle_error(driver, link, server, error),
        ServerOp::Ok => {}
    }
}

fn handle_message(driver: &mut Driver, link: &mut Link, (subject, sid, payload): (&str, u64, &[u8])) {
    match sid {
        PROBE_SID => {
            link.probe_arrived = true;
            driver.stats.set_probed();
        }
        CONTROL_SID | NODE_SID => {
            let sent = driver.control.as_ref().map(|control| control.incoming.try_send(payload.to_vec()));
            if sent.is_some_and(|sent| sent.is_err()) {
                add(&driver.stats.dropped, 1);
            }
        }
        _ => handle_channel_message(driver, subject, sid, payload),
    }
}

fn handle_channel_message(driver: &mut Driver, subject: &str, sid: u64, payload: &[u8]) {
    let Some(subscription) = driver.subscriptions.get_mut(sid) else { return };
    let shard = subscription.shard;
    if !driver.shards.has_room(shard) {
        add(&driver.stats.dropped, 1);
        if !std::mem::replace(&mut subscription.has_gap, true) {
            driver.shards.add_gap(sid);
        }
        return;
    }
    let channel = subscription.channel.clone();
    if driver.subjects.is_raw {
        let (record, published_to) = (payload::raw_record(payload), driver.subjects.channel_of(subject).into());
        driver.shards.push(shard, Event::PatternPublication { channel, record, published_to });
        return;
    }
    let Some(received) = payload::read(payload) else {
        add(&driver.stats.malformed, 1);
        return;
    };
    let event = match received.content {
        Content::Publication(record) if driver.subjects.allow_wildcards => {
            Event::PatternPublication { channel, record, published_to: received.channel.into() }
        }
        Content::Publication(record) => Event::Publication { channel, record, position: None },
        Content::JoinLeave { is_join, client_info } => Event::JoinLeave { channel, is_join, client_info },
    };
    driver.shards.push(shard, event);
}

fn handle_pong(driver: &mut Driver, link: &mut Link, server: &ServerAddress) {
    let Some((took, group)) = link.pong() else { return };
    driver.stats.round_trips.record(took);
    let Group { publications, subscribed, has_probe, .. } = group;
    let refused = std::mem::take(&mut link.refused);
    let is_refused = |subject: String| !refused.is_empty() && refused.contains(&*subject);
    for Unanswered { shard, ticket, channel } in publications {
        if is_refused(driver.subjects.of_channel(&channel)) {
            let error = BrokerError::Refused("the NATS server does not allow to publish to the subject".into());
            driver.reject((shard, ticket), Refusal::Rejected, error);
        } else {
            driver.shards.answer(shard, ticket, Ok(Answer::Published(Published::default())));
        }
    }
    let count = subscribed.len();
    for sid in subscribed {
        let Some(subscription) = driver.subscriptions.get_mut(sid) else { continue };
        let (channel, serial) = (subscription.channel.clone(), subscription.serial);
        let is_live = !is_refused(driver.subjects.of_channel(&channel));
        (subscription.is_live, subscription.has_gap) = (is_live, false);
        let event =
            if is_live { Event::Subscribed { channel, serial } } else { Event::SubscribeDelayed { channel, serial } };
        driver.shards.push(subscription.shard, event);
    }
    if has_probe && link.may_probe && !link.probe_arrived {
        driver.is_undelivering = true;
        link.probe_failed = true;
        return;
    }
    if has_probe {
        (driver.is_undelivering, driver.losses) = (false, 0);
    }
    if !link.is_up {
        link.is_up = true;
        driver.stats.set_state(LinkState::Up, "");
        log::info!("broker {}: connected; {count} channels subscribed", server.name());
    }
}

/// A refused subject is one of the group that the next PONG answers.
fn handle_error(driver: &mut Driver, link: &mut Link, server: &ServerAddress, error: &str) {
    let is_permission = error.to_ascii_lowercase().starts_with("permissions violation");
    let subject = error.split('"').nth(1).filter(|_| is_permission);
    let Some(subject) = subject else {
        log::warn!("broker {}: the server reports: {error}", server.name());
        link.last_error = Some(format!("the server reports: {error}"));
        return;
    };
    if subject == link.probe_subject {
        if std::mem::take(&mut link.may_probe) {
            log::warn!("broker {}: {error}; this connection is not probed", server.name());
        }
        return;
    }
    if link.refused.is_empty() && driver.may_log_refusal() {
        log::error!("broker {}: {error}; publications to it are rejected, and subscribers get none", server.name());
    }
    link.refused.insert(subject.into());
}
