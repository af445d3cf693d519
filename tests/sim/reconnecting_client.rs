//! A client over many connections: it is cut, reconnects and recovers from its last position. It checks all it receives.

use std::collections::{BTreeSet, HashMap};

use corecast::ids::ConnId;
use corecast::protocol::fossil;
use corecast::ws::Opcode;

use super::client_socket::ClientSocket;
use super::counts::Counts;
use super::model::{CHANNELS, Model, name, number};
use super::{pb, protocol};

/// Bytes of a payload, at most.
const PAYLOAD_BYTES_MAX: usize = 1 << 10;
/// Reject a subscribe whose position cannot be recovered.
const REJECT_UNRECOVERED: i64 = 2;

/// The form in which a client wants a channel's publications.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Whole,
    Delta,
    /// Only those with this tag.
    Tag(char),
    /// With deltas the filter has no effect.
    DeltaAndTag(char),
}

impl Format {
    fn is_delta(self) -> bool {
        matches!(self, Self::Delta | Self::DeltaAndTag(_))
    }

    fn accepts(self, tag: Option<char>) -> bool {
        if let Self::Tag(wanted) = self { tag == Some(wanted) } else { true }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscriptionState {
    Unsubscribed,
    Pending,
    Live,
}

/// A subscribe that was sent.
#[derive(Clone)]
struct SentSubscribe {
    since: Option<(String, u64)>,
    reject: bool,
    turn: u64,
}

/// A client's subscription to one channel, over all its connections.
pub struct Subscription {
    pub format: Format,
    /// Gets join and leave pushes.
    pub gets_joins: bool,
    pub is_wanted: bool,
    pub state: SubscriptionState,
    /// Only the server can end it, and closes the connection if something is lost.
    pub by_server: bool,
    pub unsubscribing: bool,
    /// The epoch, and the last offset that it received.
    pub position: Option<(String, u64)>,
    /// The last payload, to which a delta applies.
    base: Option<Vec<u8>>,
    sent: Option<SentSubscribe>,
    /// Clients that joined (true) or left since it is live.
    pub others: HashMap<String, bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SentCommand {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish,
    Presence(usize),
    History(usize),
}

pub struct Connection {
    pub socket: ClientSocket,
    pub text: bool,
    /// Its id, once it is connected.
    pub client: String,
    pub open: HashMap<u32, SentCommand>,
    unsent: Vec<pb::Command>,
    next_id: u32,
}

/// What clients are made for.
#[derive(Clone, Copy)]
pub struct ClientOptions {
    pub gets_joins: bool,
    /// Each join and leave is pushed exactly once.
    pub exact_joins: bool,
    /// A policy may drop its frames; then it must subscribe again.
    pub may_lag: bool,
}

pub struct ReconnectingClient {
    pub connection: Option<Connection>,
    pub subscriptions: Vec<Subscription>,
    pub presence: HashMap<usize, BTreeSet<String>>,
    pub options: ClientOptions,
}

impl ReconnectingClient {
    pub fn new(formats: [Format; CHANNELS], options: ClientOptions) -> Self {
        let subscription = |format| Subscription {
            format,
            gets_joins: options.gets_joins,
            is_wanted: false,
            state: SubscriptionState::Unsubscribed,
            by_server: false,
            unsubscribing: false,
            position: None,
            base: None,
            sent: None,
            others: HashMap::new(),
        };
        let subscriptions = formats.map(subscription).into();
        Self { connection: None, subscriptions, presence: HashMap::new(), options }
    }

    /// A connection begins. Its commands are queued, and `flush` sends them.
    pub fn open(&mut self, socket: ClientSocket, text: bool) {
        let (client, open, unsent) = (String::new(), HashMap::new(), Vec::new());
        self.connection = Some(Connection { socket, text, client, open, unsent, next_id: 0 });
    }

    pub fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.socket.is_gone())
    }

    /// Its client id, if it is connected.
    pub fn client(&self) -> Option<&str> {
        let open = self.connection.as_ref().filter(|connection| !connection.socket.is_gone());
        open.map(|connection| connection.client.as_str()).filter(|client| !client.is_empty())
    }

    /// The connection has ended; its socket may not be closed yet. Positions stay for the next connection.
    pub fn disconnect(&mut self) -> Option<ClientSocket> {
        for subscription in &mut self.subscriptions {
            subscription.state = SubscriptionState::Unsubscribed;
            (subscription.by_server, subscription.unsubscribing, subscription.sent) = (false, false, None);
            subscription.others.clear();
        }
        self.connection.take().map(|connection| connection.socket)
    }

    fn send(&mut self, sent: SentCommand, fill: impl FnOnce(&mut pb::Command)) {
        let Some(connection) = &mut self.connection else { return };
        connection.next_id += 1;
        let mut command = pb::Command { id: connection.next_id, ..Default::default() };
        fill(&mut command);
        connection.open.insert(connection.next_id, sent);
        connection.unsent.push(command);
    }

    /// Sends a connect with these subscriptions.
    pub fn connect(&mut self, channels: &[usize], turn: u64) {
        let subs = channels.iter().map(|&channel| (name(channel), self.subscribe_request(channel, false, turn)));
        let subs: std::collections::BTreeMap<_, _> = subs.collect();
        self.send(SentCommand::Connect, |command| {
            command.connect = Some(pb::ConnectRequest { subs, ..Default::default() });
        });
    }

    fn subscribe_request(&mut self, channel: usize, reject: bool, turn: u64) -> pb::SubscribeRequest {
        let subscription = &mut self.subscriptions[channel];
        (subscription.is_wanted, subscription.state) = (true, SubscriptionState::Pending);
        subscription.sent = Some(SentSubscribe { since: subscription.position.clone(), reject, turn });
        let (epoch, offset) = subscription.position.clone().unwrap_or_default();
        let tf = match subscription.format {
            Format::Tag(tag) | Format::DeltaAndTag(tag) => {
                let (key, cmp, val) = ("k".into(), "eq".into(), tag.into());
                Some(pb::FilterNode { key, cmp, val, ..Default::default() })
            }
            _ => None,
        };
        pb::SubscribeRequest {
            channel: name(channel),
            recover: subscription.position.is_some(),
            epoch,
            offset,
            positioned: true,
            recoverable: true,
            join_leave: subscription.gets_joins,
            delta: if subscription.format.is_delta() { "fossil".into() } else { String::new() },
            tf,
            flag: if reject { REJECT_UNRECOVERED } else { 0 },
            ..Default::default()
        }
    }

    pub fn subscribe(&mut self, channel: usize, reject: bool, turn: u64) {
        let request = self.subscribe_request(channel, reject, turn);
        self.send(SentCommand::Subscribe(channel), |command| command.subscribe = Some(request));
    }

    pub fn unsubscribe(&mut self, channel: usize) {
        let subscription = &mut self.subscriptions[channel];
        (subscription.is_wanted, subscription.unsubscribing) = (false, true);
        let named = pb::Named { name: name(channel) };
        self.send(SentCommand::Unsubscribe(channel), |command| command.unsubscribe = Some(named));
    }

    pub fn publish(&mut self, channel: usize, data: Vec<u8>) {
        let publish = pb::PublishRequest { channel: name(channel), data, ..Default::default() };
        self.send(SentCommand::Publish, |command| command.publish = Some(publish));
    }

    pub fn query_presence(&mut self, channel: usize) {
        let named = pb::Named { name: name(channel) };
        self.send(SentCommand::Presence(channel), |command| command.presence = Some(named));
    }

    pub fn query_history(&mut self, channel: usize) {
        let history = pb::HistoryRequest { channel: name(channel), limit: 10, ..Default::default() };
        self.send(SentCommand::History(channel), |command| command.history = Some(history));
    }

    /// Sends all queued commands in one frame. Returns the connection that has something to read.
    pub fn flush(&mut self) -> Option<(usize, ConnId)> {
        let connection = self.connection.as_mut().filter(|connection| !connection.unsent.is_empty())?;
        let payload = protocol::encode(&std::mem::take(&mut connection.unsent), connection.text);
        connection.socket.send(if connection.text { Opcode::Text } else { Opcode::Binary }, &payload);
        Some((connection.socket.shard, connection.socket.conn))
    }

    /// Reads what was sent and gives the server room for more. True if that is a writable edge for it.
    pub fn read(&mut self, room: usize, turn: u64, model: &mut Model, counts: &mut Counts) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let edge = connection.socket.read(room);
        while let Some(connection) = &mut self.connection
            && let Some(payload) = connection.socket.message()
        {
            *(if connection.text { &mut counts.texts } else { &mut counts.binaries }) += 1;
            for reply in protocol::decode(&payload, connection.text) {
                self.check(reply, turn, model, counts);
            }
        }
        edge
    }

    fn check(&mut self, reply: pb::Reply, turn: u64, model: &mut Model, counts: &mut Counts) {
        if let Some(push) = reply.push {
            let channel = push.channel[1..].parse().expect("the simulation names its channels c0 to c3");
            return self.pushed(channel, push, model, counts);
        }
        let connection = self.connection.as_mut().expect("a reply has a connection");
        let sent = connection.open.remove(&reply.id).expect("every command is answered once");
        let error = reply.error.map(|error| error.code);
        match sent {
            SentCommand::Connect => {
                let connect = reply.connect.expect("no connect is rejected");
                connection.client = connect.client;
                for (channel, result) in connect.subs {
                    let channel: usize = channel[1..].parse().expect("the simulation names its channels c0 to c3");
                    counts.with_connect += 1;
                    self.subscriptions[channel].by_server = true;
                    self.subscribed(channel, result, turn, model, counts);
                }
            }
            SentCommand::Subscribe(channel) => match (reply.subscribe, error) {
                (Some(result), None) => self.subscribed(channel, result, turn, model, counts),
                (None, Some(code)) => self.rejected(channel, code, turn, model, counts),
                other => panic!("{other:?}"),
            },
            SentCommand::Unsubscribe(channel) => {
                assert!(reply.unsubscribe.is_some(), "{error:?}");
                self.ended(channel);
                self.subscriptions[channel].unsubscribing = false;
            }
            SentCommand::Publish => assert!(reply.publish.is_some(), "{error:?}"),
            SentCommand::Presence(channel) => {
                let presence = reply.presence.expect("it is permitted").presence;
                assert!(presence.iter().all(|(client, info)| *client == info.client));
                self.presence.insert(channel, presence.into_keys().collect());
            }
            SentCommand::History(channel) => {
                let history = reply.history.expect("it is permitted");
                for (i, publication) in history.publications.iter().enumerate() {
                    assert_eq!(publication.offset, history.publications[0].offset + i as u64);
                    model.record(channel, &history.epoch, publication.offset, number(&publication.data));
                }
                let last = history.publications.last().map_or(0, |publication| publication.offset);
                assert!(last <= history.offset);
            }
        }
    }

    fn ended(&mut self, channel: usize) {
        let subscription = &mut self.subscriptions[channel];
        // The server may have subscribed and unsubscribed the client while its subscribe was on the way.
        subscription.state = match subscription.sent {
            Some(_) => SubscriptionState::Pending,
            None => SubscriptionState::Unsubscribed,
        };
        subscription.by_server = false;
        subscription.others.clear();
    }

    fn rejected(&mut self, channel: usize, code: u32, turn: u64, model: &Model, counts: &mut Counts) {
        let subscription = &mut self.subscriptions[channel];
        let sent = subscription.sent.take();
        match code {
            // The server has subscribed the client first: its push has come or will.
            105 => counts.already += 1,
            112 => {
                let sent = sent.expect("a subscribe");
                let (epoch, offset) = sent.since.expect("a position");
                assert!(sent.reject);
                let (_, cannot) = model.possible_recoveries(channel, (&epoch, offset), 0..=u64::MAX, sent.turn, turn);
                assert!(cannot || !model.limits.exact, "c{channel}: the history has all behind {offset}");
                subscription.position = None;
                counts.rejected += 1;
            }
            // The server API has unsubscribed the client while the subscribe waited.
            103 => {
                subscription.is_wanted = false;
                counts.unsubscribed_pending += 1;
            }
            code => panic!("c{channel}: rejected with {code}"),
        }
        if self.subscriptions[channel].state == SubscriptionState::Pending {
            self.subscriptions[channel].state = SubscriptionState::Unsubscribed;
        }
    }

    /// The subscription is live: from now on nothing may be missing.
    fn subscribed(
        &mut self,
        channel: usize,
        result: pb::SubscribeResult,
        turn: u64,
        model: &mut Model,
        counts: &mut Counts,
    ) {
        let subscription = &mut self.subscriptions[channel];
        let sent = subscription.sent.take().expect("a subscribe was sent");
        assert_eq!(subscription.state, SubscriptionState::Pending, "c{channel}: {result:?}");
        assert!(result.positioned && result.recoverable && !result.epoch.is_empty(), "c{channel}: {result:?}");
        assert_eq!((result.delta, result.was_recovering), (subscription.format.is_delta(), sent.since.is_some()));
        subscription.state = SubscriptionState::Live;
        let top = (result.epoch.clone(), result.offset);
        let Some((epoch, offset)) = sent.since else {
            assert!(!result.recovered && result.publications.is_empty());
            return subscription.starts_at(top);
        };
        let exact = model.limits.exact;
        if !result.recovered {
            assert!(result.publications.is_empty());
            let tops = result.offset..=result.offset;
            let (_, cannot) = model.possible_recoveries(channel, (&epoch, offset), tops, sent.turn, turn);
            assert!(
                cannot || !exact || epoch != result.epoch,
                "c{channel}: the history has all behind {offset} up to {top:?}"
            );
            assert!(epoch != result.epoch || offset != result.offset, "c{channel}: nothing was missed");
            counts.unrecovered += 1;
            counts.other_epochs += u64::from(epoch != result.epoch);
            return subscription.starts_at(top);
        }
        assert_eq!((&result.epoch, result.offset), (&epoch, offset), "the client's own position");
        let count = result.publications.len();
        *(if count > 0 { &mut counts.recovered } else { &mut counts.nothing_missed }) += 1;
        counts.recovered_publications += count as u64;
        // The server may have subscribed the client in the meantime: the publications of that subscription arrive
        // again.
        subscription.position = Some(top);
        for publication in result.publications {
            self.published(channel, publication, model, counts);
        }
        let subscription = &mut self.subscriptions[channel];
        let last = subscription.position.as_ref().map_or(0, |position| position.1);
        let tops = if subscription.format.accepts(None) { last..=last } else { last..=u64::MAX };
        let (can, _) = model.possible_recoveries(channel, (&epoch, offset), tops.clone(), sent.turn, turn);
        assert!(can || !exact, "c{channel}: the history had not all behind {offset} up to {tops:?}");
    }

    fn pushed(&mut self, channel: usize, push: pb::Push, model: &mut Model, counts: &mut Counts) {
        let subscription = &mut self.subscriptions[channel];
        if let Some(pb::Subscribe { recoverable, epoch, offset, positioned, .. }) = push.subscribe {
            assert!(subscription.state != SubscriptionState::Live, "c{channel}: subscribed twice");
            assert!(positioned && recoverable, "the namespace says so");
            (subscription.is_wanted, subscription.state, subscription.by_server) =
                (true, SubscriptionState::Live, true);
            counts.by_server += 1;
            return subscription.starts_at((epoch, offset));
        }
        assert_eq!(subscription.state, SubscriptionState::Live, "c{channel}: not subscribed: {push:?}");
        if let Some(end) = push.unsubscribe {
            match end.code {
                2500 => {
                    assert!(!subscription.by_server, "the connection closes instead");
                    if !self.options.may_lag {
                        subscription.assert_lost(channel, model);
                    }
                    counts.insufficient += 1;
                }
                2000 => {
                    subscription.is_wanted = false;
                    counts.unsubscribed += 1;
                }
                code => panic!("c{channel}: unsubscribed with {code}"),
            }
            return self.ended(channel);
        }
        if let Some(publication) = push.publication {
            counts.live += 1;
            return self.published(channel, publication, model, counts);
        }
        let (client, joins) = match (push.join, push.leave) {
            (Some(client), None) => (client, true),
            (None, Some(client)) => (client, false),
            other => panic!("{other:?}"),
        };
        assert!(subscription.gets_joins && !subscription.by_server, "c{channel}: it was not requested");
        *(if joins { &mut counts.joins } else { &mut counts.leaves }) += 1;
        let client = client.info.expect("a client").client;
        let before = subscription.others.insert(client, joins);
        assert!(!self.options.exact_joins || before != Some(joins), "c{channel}: pushed twice, joins: {joins}");
    }

    /// A publication, live or recovered: the next one, and the bytes that were published.
    fn published(&mut self, channel: usize, publication: pb::Publication, model: &mut Model, counts: &mut Counts) {
        let subscription = &mut self.subscriptions[channel];
        let pb::Publication { data, info, offset, tags, delta, epoch, .. } = publication;
        let data = match delta {
            false => data,
            true => {
                assert!(subscription.format.is_delta());
                counts.deltas += 1;
                let base = subscription.base.as_deref().expect("a payload that a delta applies to");
                fossil::apply(base, &data, PAYLOAD_BYTES_MAX).expect("a delta to the payload before")
            }
        };
        let n = number(&data);
        subscription.base = Some(data);
        let (own_epoch, last) = subscription.position.as_mut().expect("a position");
        let published = &model.published[n as usize];
        assert_eq!(tags.get("k").map(String::as_str), published.tag.map(String::from).as_deref());
        assert_eq!((info.is_some(), published.channel), (published.by_client, channel));
        assert!(subscription.format.accepts(published.tag), "c{channel}: {n} is of another tag");
        if offset == 0 {
            counts.not_stored += 1;
            return assert!(!published.is_stored, "c{channel}: {n} has an offset");
        }
        assert!(epoch.is_empty() || epoch == *own_epoch, "c{channel}: {epoch} in {own_epoch}");
        match subscription.format {
            Format::Tag(tag) if offset > *last => {
                model.record_filtered_out(channel, own_epoch, *last + 1, offset - 1, tag)
            }
            _ => assert_eq!(offset, *last + 1, "c{channel}: after {last} in {:?}", subscription.format),
        }
        *last = offset;
        let own_epoch = own_epoch.clone();
        model.record(channel, &own_epoch, offset, n);
    }
}

impl Subscription {
    fn starts_at(&mut self, position: (String, u64)) {
        self.position = Some(position);
        self.base = None;
    }

    /// The server reports missed publications, which must be true.
    pub fn assert_lost(&self, channel: usize, model: &Model) {
        let (epoch, offset) = self.position.as_ref().expect("a position");
        assert!(model.is_lost(channel, epoch, *offset), "c{channel}: the history has all behind {offset}");
    }

    pub fn is_lost(&self, channel: usize, model: &Model) -> bool {
        self.position.as_ref().is_some_and(|(epoch, offset)| model.is_lost(channel, epoch, *offset))
    }
}
