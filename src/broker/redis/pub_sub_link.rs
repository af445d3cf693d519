//! The link for PUB/SUB: one connection, made again when it is lost, with all its subscriptions.
//!
//! It never stops reading, since Redis ends the connection of a reader that is too slow. A message for which a shard has no room
//! is dropped, and the shard is told.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::backoff::Backoff;
use super::command_link::LinkContext;
use super::connection::Connection;
use super::events::EventSink;
use super::job::Job;
use super::names::Names;
use super::probe::{Probe, ProbeStep};
use super::publisher::Publisher;
use super::pushes::{Push, push_of};
use super::receiver::Receiver;
use super::service::ServiceChannels;
use super::subscriptions::{Batch, Subscriber, Subscriptions};
use super::target::Target;
use crate::broker::message::Event;
use crate::broker::stats::{BrokerStats, ConnectionStats, LinkState, Purpose, add};
use crate::config::Endpoint;

/// Names in one command, as many as the original sends.
const BATCH_NAMES: usize = 512;
/// Commands that may be without an acknowledgement.
const COMMANDS_MAX: usize = 8;
/// Orders taken from the queue at once.
const ORDERS: usize = 512;
const TICK: Duration = Duration::from_millis(50);
/// How often shards with gaps are looked at.
const LAGGING_TICK: Duration = Duration::from_millis(5);
/// Silence before the server is asked whether it is there.
const PING_AFTER: Duration = Duration::from_millis(400);
/// Pause before subscriptions that Redis refused are sent again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What a home shard wants of a channel.
pub(super) enum Order {
    Subscribe { channel: Box<str>, subscriber: Subscriber },
    Unsubscribe { channel: Box<str> },
}

/// The other end of a PUB/SUB link. The link ends with it.
pub(super) type Orders = UnboundedSender<Order>;

pub(super) struct PubSubLink {
    target: Target,
    names: Names,
    orders: UnboundedReceiver<Order>,
    batch: Vec<Order>,
    subscriptions: Subscriptions,
    receiver: Receiver,
    service: ServiceChannels,
    publisher: Publisher,
    probe: Option<Probe>,
    events: EventSink,
    stats: Arc<ConnectionStats>,
    all_stats: Arc<BrokerStats>,
}

/// What the parts of a link are made of.
pub(super) struct PubSubParts {
    pub(super) target: Target,
    pub(super) names: Names,
    pub(super) service: ServiceChannels,
    pub(super) publisher: Publisher,
    pub(super) probe_interval: Option<Duration>,
    pub(super) control: Option<tokio::sync::mpsc::Sender<Vec<u8>>>,
}

/// A connection with what was sent on it and is not acknowledged.
struct Session {
    connection: Connection,
    endpoint: Endpoint,
    sent: VecDeque<Sent>,
    last_read: Instant,
    /// When subscriptions may be sent again that Redis refused.
    not_before: Instant,
    started: Instant,
    /// Channels when the connection was made, until all are subscribed to again.
    resubscribing: Option<usize>,
}

enum Sent {
    Subscribe(Batch),
    /// Names of service channels.
    Service(usize),
    Unsubscribe(VecDeque<Rc<str>>),
    Ping,
}

impl PubSubLink {
    pub(super) fn new(parts: PubSubParts, context: &LinkContext) -> (Orders, Self) {
        let (sender, orders) = unbounded_channel();
        let stats = context.stats.register(&parts.target.name(), Purpose::PubSub);
        let events = context.events.clone();
        let receiver = Receiver::new(
            parts.names.clone(),
            parts.service.clone(),
            parts.control,
            events.clone(),
            Arc::clone(&stats),
        );
        let link = Self {
            target: parts.target,
            names: parts.names,
            orders,
            batch: Vec::new(),
            subscriptions: Subscriptions::default(),
            receiver,
            service: parts.service,
            publisher: parts.publisher,
            probe: parts.probe_interval.map(|interval| Probe::new(interval, Instant::now())),
            events,
            stats,
            all_stats: Arc::clone(&context.stats),
        };
        (sender, link)
    }

    /// Serves until the sender of orders is gone.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let Some((connection, endpoint)) = self.connect(&mut backoff).await {
            let since = Instant::now();
            let mut session = Session::new(connection, endpoint, self.subscriptions.len());
            let Err(error) = self.serve(&mut session).await else { return };
            self.target.doubt();
            self.lose_connection(&error);
            if since.elapsed() >= Duration::from_secs(5) {
                backoff.reset();
            }
            if self.while_away(sleep(backoff.next())).await.is_none() {
                return;
            }
        }
    }

    fn lose_connection(&mut self, error: &io::Error) {
        let names = &self.names;
        let active = self.subscriptions.lose_connection(|channel| names.partition_of(channel));
        log::warn!(
            "{}: the connection for PUB/SUB is lost ({error}); {active} channels get nothing until it is back, and are \
             then checked for gaps",
            self.stats.name
        );
        add(&self.stats.reconnects, 1);
        if self.stats.state() != LinkState::Undelivering {
            self.stats.set_state(LinkState::Down, &error.to_string());
        }
        self.tell_untold();
    }

    async fn connect(&mut self, backoff: &mut Backoff) -> Option<(Connection, Endpoint)> {
        loop {
            let target = self.target.clone();
            match self.while_away(target.dial()).await? {
                Ok((dialed, endpoint)) => return Some((dialed.connection, endpoint)),
                Err(error) => {
                    if backoff.deserves_a_line() {
                        log::warn!("{}: no connection for PUB/SUB: {error}", self.stats.name);
                    }
                    self.stats.set_state(LinkState::Down, &error.to_string());
                }
            }
            self.while_away(sleep(backoff.next())).await?;
        }
    }

    /// Waits without a connection, and takes orders meanwhile. `None`: nothing is to be served any more.
    async fn while_away<F: Future>(&mut self, wait: F) -> Option<F::Output> {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                output = &mut wait => return Some(output),
                count = self.orders.recv_many(&mut self.batch, ORDERS) => {
                    if count == 0 {
                        return None;
                    }
                    self.take_orders();
                    self.tell_untold();
                }
            }
        }
    }

    fn take_orders(&mut self) {
        for order in std::mem::take(&mut self.batch) {
            match order {
                Order::Unsubscribe { channel } => self.subscriptions.unsubscribe(&channel, Instant::now()),
                Order::Subscribe { channel, subscriber } => {
                    let partition = self.names.partition_of(&channel);
                    if self.subscriptions.subscribe(&channel, partition, subscriber) {
                        let event = Event::Subscribed { channel, serial: subscriber.serial };
                        self.events.push(subscriber.from, event);
                    }
                }
            }
        }
    }

    /// Tells the home shards that wait for a subscription that it comes later.
    fn tell_untold(&mut self) {
        for (channel, Subscriber { from, serial }) in self.subscriptions.untold() {
            self.events.push(from, Event::SubscribeDelayed { channel: (*channel).into(), serial });
        }
        self.events.flush();
    }

    /// Serves on a connection until it is lost. `Ok`: nothing is to be served any more.
    async fn serve(&mut self, session: &mut Session) -> io::Result<()> {
        session.subscribe_service(&self.service, self.names.is_sharded());
        if let Some(probe) = &mut self.probe {
            probe.reconnected(Instant::now());
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.send_batches(session);
            tokio::select! {
                value = session.connection.next() => self.take(value?, session)?,
                count = self.orders.recv_many(&mut self.batch, ORDERS) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.take_orders();
                    self.events.flush();
                }
                () = sleep(LAGGING_TICK), if self.subscriptions.has_lagging() => self.tell_lagging(),
                _ = ticks.tick() => self.check(session)?,
            }
        }
    }

    fn send_batches(&mut self, session: &mut Session) {
        while session.sent.len() < COMMANDS_MAX && Instant::now() >= session.not_before {
            let Some(batch) = self.subscriptions.next_batch(BATCH_NAMES) else { return };
            let verb = if self.names.is_sharded() { "SSUBSCRIBE" } else { "SUBSCRIBE" };
            let mut command = cmd(verb);
            for (channel, _) in &batch.channels {
                command.arg(self.names.message(channel));
            }
            session.connection.push(&command);
            session.sent.push_back(Sent::Subscribe(batch));
        }
    }

    /// Takes a value and what has arrived behind it.
    fn take(&mut self, value: Value, session: &mut Session) -> io::Result<()> {
        session.last_read = Instant::now();
        let mut next = Some(value);
        while let Some(value) = next {
            match push_of(value) {
                Some(Push::Message { name, payload }) => {
                    if let Some(probe) = &mut self.probe {
                        probe.arrived(session.last_read);
                    }
                    if self.stats.state() == LinkState::Undelivering {
                        self.stats.set_state(LinkState::Up, "");
                    }
                    self.receiver.take(&name, payload, &mut self.subscriptions);
                }
                Some(Push::Subscribed { name }) => self.acknowledge(&name, session)?,
                Some(Push::Unsubscribed { name }) => self.unsubscribed(&name, session)?,
                Some(Push::Pong) => session.pop_ping(),
                Some(Push::Refused(reason)) => self.refused(&reason, session)?,
                None => add(&self.stats.malformed, 1),
            }
            next = session.connection.next_arrived()?;
        }
        self.events.flush();
        Ok(())
    }

    /// Redis acknowledges one name of the oldest command.
    fn acknowledge(&mut self, name: &[u8], session: &mut Session) -> io::Result<()> {
        let out_of_order = || io::Error::other("an acknowledgement is out of order");
        match session.sent.front_mut().ok_or_else(out_of_order)? {
            Sent::Subscribe(batch) => {
                let (channel, life) = batch.channels.pop_front().ok_or_else(out_of_order)?;
                if self.names.channel_of(name) != Some(&*channel) {
                    return Err(out_of_order());
                }
                if batch.channels.is_empty() {
                    session.sent.pop_front();
                }
                if let Some(Subscriber { from, serial }) = self.subscriptions.acknowledge(&channel, life) {
                    self.events.push(from, Event::Subscribed { channel: (*channel).into(), serial });
                }
            }
            Sent::Service(count) => {
                *count -= 1;
                if *count == 0 {
                    session.sent.pop_front();
                }
            }
            Sent::Unsubscribe(_) | Sent::Ping => return Err(out_of_order()),
        }
        self.note_resubscribed(session);
        Ok(())
    }

    /// Everything that was subscribed to before is so again.
    fn note_resubscribed(&mut self, session: &mut Session) {
        if !session.sent.is_empty() || self.subscriptions.has_wanted() {
            return;
        }
        let Some(channels) = session.resubscribing.take() else { return };
        let took = session.started.elapsed();
        log::info!("{}: connected for PUB/SUB, {channels} channels in {} ms", self.stats.name, took.as_millis());
        add(&self.stats.resubscribes, channels as u64);
        if self.stats.state() != LinkState::Undelivering {
            self.stats.set_state(LinkState::Up, "");
        }
    }

    fn unsubscribed(&mut self, name: &[u8], session: &mut Session) -> io::Result<()> {
        let Some(channel) = self.names.channel_of(name) else {
            // A service channel is never left, so its slot has moved.
            return Err(io::Error::other("its slot is on another server now"));
        };
        if let Some(Sent::Unsubscribe(channels)) = session.sent.front_mut()
            && channels.front().is_some_and(|expected| **expected == *channel)
        {
            channels.pop_front();
            if channels.is_empty() {
                session.sent.pop_front();
            }
            return Ok(());
        }
        // Unasked for: the slot of the channel has moved to another server.
        self.subscriptions.end(channel, self.names.partition_of(channel));
        Ok(())
    }

    /// Redis answers the oldest command with an error.
    fn refused(&mut self, reason: &str, session: &mut Session) -> io::Result<()> {
        if reason.starts_with("MOVED ") {
            return Err(io::Error::other(reason.to_owned()));
        }
        match session.sent.pop_front() {
            Some(Sent::Subscribe(batch)) => {
                log::warn!(
                    "{}: Redis refuses to subscribe to {} channels: {reason}; they are tried again",
                    self.stats.name,
                    batch.channels.len()
                );
                self.subscriptions.want_again(batch);
                session.not_before = Instant::now() + REFUSED_PAUSE;
                self.tell_untold();
                Ok(())
            }
            Some(Sent::Service(_)) | None => Err(io::Error::other(reason.to_owned())),
            Some(Sent::Unsubscribe(_) | Sent::Ping) => Ok(()),
        }
    }

    /// Tells home shards about gaps, now that they have room.
    fn tell_lagging(&mut self) {
        let events = &self.events;
        for (channel, Subscriber { from, serial }) in self.subscriptions.take_lagging(|shard| events.has_room(shard)) {
            events.push(from, Event::Subscribed { channel: (*channel).into(), serial });
        }
        events.flush();
    }

    fn check(&mut self, session: &mut Session) -> io::Result<()> {
        let now = Instant::now();
        let left = self.subscriptions.take_left(now);
        for names in left.chunks(BATCH_NAMES) {
            self.unsubscribe(names, session);
        }
        if self.target.has_moved_from(&session.endpoint) {
            return Err(io::Error::other("another server is the master now"));
        }
        let silence = now.duration_since(session.last_read);
        if silence > self.target.dialer().io_timeout {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("silent for {} ms", silence.as_millis())));
        }
        if silence > PING_AFTER && !session.sent.iter().any(|sent| matches!(sent, Sent::Ping)) {
            session.connection.push(&cmd("PING"));
            session.sent.push_back(Sent::Ping);
        }
        let Some(probe) = &mut self.probe else { return Ok(()) };
        // The way of a probe is the connection for commands. Without it, nothing is learned about delivery.
        if session.resubscribing.is_some() || !self.publisher.is_up() {
            return Ok(());
        }
        match probe.step(now) {
            ProbeStep::Nothing => Ok(()),
            ProbeStep::Send(outcome) => {
                let channel = self.service.probes[0].clone();
                self.publisher.send(Job::Probe { channel, outcome });
                Ok(())
            }
            ProbeStep::Undelivered => {
                let cause = "Redis accepted a probe and did not deliver it";
                self.stats.set_state(LinkState::Undelivering, cause);
                Err(io::Error::other(cause))
            }
        }
    }

    fn unsubscribe(&self, channels: &[Rc<str>], session: &mut Session) {
        // Channels of one partition at a time: a cluster takes names of one slot only.
        let by_partition = channels.chunk_by(|a, b| self.names.partition_of(a) == self.names.partition_of(b));
        for channels in by_partition {
            let mut command = cmd(if self.names.is_sharded() { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" });
            for channel in channels {
                command.arg(self.names.message(channel));
            }
            session.connection.push(&command);
            session.sent.push_back(Sent::Unsubscribe(channels.iter().cloned().collect()));
        }
    }
}

impl Drop for PubSubLink {
    fn drop(&mut self) {
        self.all_stats.remove(&self.stats);
    }
}

impl Session {
    fn new(connection: Connection, endpoint: Endpoint, channels: usize) -> Self {
        let now = Instant::now();
        Self {
            connection,
            endpoint,
            sent: VecDeque::new(),
            last_read: now,
            not_before: now,
            started: now,
            resubscribing: Some(channels),
        }
    }

    fn subscribe_service(&mut self, service: &ServiceChannels, is_sharded: bool) {
        let mut plain = service.control.clone();
        if is_sharded {
            for probe in &service.probes {
                self.connection.push(cmd("SSUBSCRIBE").arg(probe));
                self.sent.push_back(Sent::Service(1));
            }
        } else {
            plain.extend(service.probes.iter().cloned());
        }
        if !plain.is_empty() {
            self.connection.push(cmd("SUBSCRIBE").arg(&plain));
            self.sent.push_back(Sent::Service(plain.len()));
        }
    }

    fn pop_ping(&mut self) {
        if matches!(self.sent.front(), Some(Sent::Ping)) {
            self.sent.pop_front();
        }
    }
}
