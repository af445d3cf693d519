//! What a home shard keeps of the channels that a broker orders (`broker_channels`), and of its requests to the broker.
//!
//! Bounds: what is held for a channel in repair (`HELD_MAX`); requests by the queue of the broker thread; events by the queue of
//! the shard.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use bytes::Bytes;
use slab::Slab;

use super::api_call::ApiReply;
use super::control_request::Answer;
use super::large_replies::PaidRecovery;
use super::mail::{Inquiry, ReplyTo, Reserved};
use super::shared_reads::{Begun, Read, SharedReads};
use crate::broker::message::{Request, RequestKind, SubscribeSerial, Ticket};
use crate::broker::port::EventBatch;
use crate::broker::{Broker, ChannelUse};
use crate::config::Config;
use crate::engine::Millis;
use crate::ids::{GroupId, ShardId};
use crate::protocol::ErrorCode;
use crate::pubsub::{HistoryFilter, HistoryOptions, Position, PublicationRecord, TimeRange};

/// Publications that are held while a hole is repaired, and their bytes. Past it they are read again.
pub(super) const HELD_MAX: usize = 1024;
const HELD_BYTES_MAX: usize = 512 << 10;

/// What a home shard needs to know of the brokers. The default has none.
#[derive(Clone, Default)]
pub struct BrokerLinks {
    pub publications: Option<Broker>,
    /// The log, which has the channels of durable namespaces unless `publications` has all of them.
    pub log: Option<Broker>,
    pub presence: Option<Broker>,
    pub subscribe_timeout: Millis,
    pub publish_locally: bool,
    /// The broker is the process that takes over: all that it publishes arrives here in its order, also without `Subscribe`.
    pub follows_peer: bool,
    /// It has the presence too.
    pub follows_presence: bool,
    /// The presence of each client is renewed once in this time.
    pub presence_interval: Millis,
}

impl BrokerLinks {
    /// No brokers, with the times of the settings.
    pub(crate) fn without_brokers(config: &Config) -> Self {
        Self {
            subscribe_timeout: config.brokers.subscribe_timeout.as_millis() as Millis,
            presence_interval: config.client.presence_update_interval.as_millis() as Millis,
            ..Self::default()
        }
    }

    /// The broker threads get the requests of this turn.
    pub(super) fn flush(&self) {
        for broker in [&self.publications, &self.log, &self.presence].into_iter().flatten() {
            broker.flush();
        }
    }

    /// Whether there can be such a channel.
    pub(crate) fn accepts(&self, channel: &str, channel_use: ChannelUse) -> bool {
        self.publications.as_ref().is_none_or(|broker| broker.accepts(channel, channel_use))
    }

    /// What has the publications of a channel that this shard does not order itself.
    pub(super) fn of_publications(&self) -> Option<&Broker> {
        self.publications.as_ref().or(self.log.as_ref())
    }
}

/// The broker's side of a home shard's state.
pub(crate) struct HomeBroker {
    pub(super) links: BrokerLinks,
    me: ShardId,
    pub(super) channels: HashMap<Box<str>, SharedChannel>,
    pub(super) calls: Slab<SentCall>,
    pub(super) reads: SharedReads<Call>,
    pub(super) events: VecDeque<EventBatch>,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    pub(super) last_serial: u32,
    pub(super) renewal: PresenceRenewal,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChannelState {
    /// The broker has not acknowledged the subscription.
    Subscribing,
    /// The broker is away. A channel without a history is served all the same.
    Delayed,
    /// The position is being read.
    Positioning,
    Live,
    /// What is missing is being read.
    Repairing,
}

/// A channel with subscribers on this server.
pub(super) struct SharedChannel {
    pub(super) serial: SubscribeSerial,
    pub(super) state: ChannelState,
    pub(super) has_history: bool,
    /// When something of the channel was heard last, or compared.
    pub(super) heard: Millis,
    /// The last offset that the broker delivered, which differs from the top if the top was read.
    pub(super) last_arrived: u64,
    pub(super) busy: Option<Box<Busy>>,
}

/// What waits for a channel.
#[derive(Default)]
pub(super) struct Busy {
    pub(super) waiting: Vec<Waiting>,
    pub(super) held: VecDeque<(PublicationRecord, Position)>,
    pub(super) held_bytes: usize,
    /// Something came that could not be held.
    pub(super) is_behind: bool,
}

pub(super) enum Waiting {
    Group { to: ShardId, group: GroupId },
    Recovery { to: ShardId, recovery: PaidRecovery },
    JoinLeave { is_join: bool, client_info: Bytes },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Timer {
    pub(super) at: Millis,
    pub(super) what: TimerKind,
    pub(super) serial: u32,
    pub(super) channel: Box<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TimerKind {
    /// Waiting subscribes fail.
    SubscribeTimeout,
    /// A read is tried again.
    Retry,
    /// The position is compared with the broker's.
    Check,
    /// The position was behind the broker's.
    Repair,
}

impl SharedChannel {
    /// Whether subscribers are served.
    pub(super) fn is_open(&self) -> bool {
        match self.state {
            ChannelState::Live | ChannelState::Repairing => true,
            ChannelState::Delayed => !self.has_history,
            ChannelState::Subscribing | ChannelState::Positioning => false,
        }
    }

    pub(super) fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Keeps a publication until the channel is live.
    pub(super) fn hold(&mut self, record: PublicationRecord, position: Position) {
        let busy = self.busy();
        if busy.held.len() >= HELD_MAX || busy.held_bytes >= HELD_BYTES_MAX {
            busy.is_behind = true;
            return;
        }
        busy.held_bytes += record.bytes();
        busy.held.push_back((record, position));
    }
}

impl HomeBroker {
    pub(super) fn new(links: BrokerLinks, me: ShardId) -> Self {
        Self {
            links,
            me,
            channels: HashMap::new(),
            calls: Slab::new(),
            reads: SharedReads::default(),
            events: VecDeque::new(),
            timers: BinaryHeap::new(),
            last_serial: 0,
            renewal: Default::default(),
        }
    }

    pub(super) fn push(&mut self, batch: EventBatch) {
        self.events.push_back(batch);
    }

    /// When an event, a timer or the presence needs a turn.
    pub(super) fn next_sweep(&self) -> Option<Millis> {
        if !self.events.is_empty() {
            return Some(0);
        }
        let timer = self.timers.peek().map(|Reverse(timer)| timer.at);
        timer.into_iter().chain(self.links.presence.as_ref().map(|_| self.renewal.at)).min()
    }

    /// Sends a request for a call, or lets it wait for the same read of another one. The call is given back if there is no room.
    pub(super) fn ask(&mut self, channel: &str, call: Call, kind: impl Fn(Ticket) -> RequestKind) -> Result<(), Call> {
        let Some(read) = Read::of(channel, &kind(Ticket(0))) else { return self.ask_alone(channel, call, kind) };
        match self.reads.begin(&read, call) {
            Begun::Waits => Ok(()),
            Begun::Full(call) => self.ask_alone(channel, call, kind),
            Begun::First => {
                if let Err(Call::Shared(read)) = self.ask_alone(channel, Call::Shared(Box::new(read)), kind)
                    && let Some(call) = self.reads.end(&read).and_then(|mut ended| ended.askers.pop())
                {
                    return Err(call);
                }
                Ok(())
            }
        }
    }

    /// Sends a request for a call. The call is given back if there is no room.
    pub(super) fn ask_alone(
        &mut self,
        channel: &str,
        call: Call,
        kind: impl FnOnce(Ticket) -> RequestKind,
    ) -> Result<(), Call> {
        let entry = self.calls.vacant_entry();
        let kind = kind(Ticket(entry.key() as u32));
        let links = &self.links;
        let (broker, asks_peer) = match kind {
            RequestKind::Presence { .. } | RequestKind::PresenceStats { .. } => {
                (links.presence.as_ref(), links.follows_presence)
            }
            _ => (links.of_publications(), links.follows_peer),
        };
        let request = Request { from: self.me, channel: channel.into(), kind };
        match broker.map(|broker| broker.send(request)) {
            Some(Ok(())) => {
                entry.insert(SentCall { call, asks_peer });
                Ok(())
            }
            Some(Err(_)) | None => Err(call),
        }
    }

    /// Whether a request with this ticket has no answer of the other process of a handover yet.
    pub(super) fn asks_peer(&self, ticket: Ticket) -> bool {
        self.calls.get(ticket.0 as usize).is_some_and(|sent| sent.asks_peer)
    }

    /// The requests that have no answer of that process yet.
    pub(super) fn tickets_of_peer(&self) -> Vec<Ticket> {
        let of_peer = self.calls.iter().filter(|(_, sent)| sent.asks_peer);
        of_peer.map(|(ticket, _)| Ticket(ticket as u32)).collect()
    }

    pub(super) fn tell(&self, channel: &str, kind: RequestKind) {
        if let Some(broker) = self.links.of_publications() {
            _ = broker.send(Request { from: self.me, channel: channel.into(), kind });
        }
    }

    /// Tells the broker of a member of the channel's presence.
    pub(super) fn tell_presence(&self, channel: &str, kind: RequestKind) {
        if let Some(broker) = &self.links.presence {
            _ = broker.send(Request { from: self.me, channel: channel.into(), kind });
        }
    }

    pub(super) fn set_timer(&mut self, at: Millis, what: TimerKind, channel: &str, serial: SubscribeSerial) {
        self.timers.push(Reverse(Timer { at, what, serial: serial.0, channel: channel.into() }));
    }

    pub(super) fn channel(&mut self, channel: &str, serial: SubscribeSerial) -> Option<&mut SharedChannel> {
        self.channels.get_mut(channel).filter(|shared| shared.serial == serial)
    }

    /// Reads a part of the history. False if there is no room for the request.
    pub(super) fn read(&mut self, channel: &str, call: Call, filter: HistoryFilter, options: HistoryOptions) -> bool {
        self.ask(channel, call, |ticket| RequestKind::History { ticket, filter, range: TimeRange::ALL, options })
            .is_ok()
    }

    /// A client has joined or left: the subscribers of every server learn of it from the broker, its own client as well once
    /// the channel is open.
    pub(super) fn tell_join_or_leave(&mut self, channel: &str, client_info: &[u8], is_join: bool) {
        let client_info = Bytes::copy_from_slice(client_info);
        if let Some(shared) = self.channels.get_mut(channel).filter(|shared| !shared.is_open()) {
            return shared.busy().waiting.push(Waiting::JoinLeave { is_join, client_info });
        }
        self.tell(channel, RequestKind::JoinLeave { is_join, client_info });
    }

    /// Whether a recovery may be answered now; otherwise it waits for the channel.
    pub(super) fn may_recover(&mut self, to: ShardId, channel: &str, recovery: PaidRecovery) -> Option<PaidRecovery> {
        match self.channels.get_mut(channel) {
            Some(shared) if !shared.is_open() => {
                shared.busy().waiting.push(Waiting::Recovery { to, recovery });
                None
            }
            _ => Some(recovery),
        }
    }

    pub(super) fn is_open(&self, channel: &str) -> bool {
        self.links.follows_peer || self.channels.get(channel).is_some_and(SharedChannel::is_open)
    }
}

/// Where the renewal of the presence goes on.
#[derive(Default)]
pub(crate) struct PresenceRenewal {
    /// The place of a channel, and a slot of its presence.
    pub channel: usize,
    pub slot: u32,
    /// When the next portion is due; 0 before the first.
    pub at: Millis,
}

type ApiResult = Result<ApiReply, ErrorCode>;
/// The key and the value of the tag of a query.
pub(super) type QueriedTag = Box<(Box<str>, Box<str>)>;

/// A call whose request is sent.
pub(super) struct SentCall {
    pub(super) call: Call,
    /// The other process of a handover answers, which may end before it has.
    pub(super) asks_peer: bool,
}

/// A request to the broker that is not answered.
pub(crate) enum Call {
    Publish {
        by: Publisher,
        local: Option<Box<LocalCopy>>,
    },
    Position {
        channel: Box<str>,
        serial: SubscribeSerial,
    },
    Repair {
        channel: Box<str>,
        serial: SubscribeSerial,
    },
    Compare {
        channel: Box<str>,
        serial: SubscribeSerial,
        from: Position,
    },
    Recover {
        channel: Box<str>,
        to: ShardId,
        recovery: PaidRecovery,
        tries: u8,
    },
    History {
        channel: Box<str>,
        inquiry: Inquiry,
        filter: HistoryFilter,
    },
    Presence {
        channel: Box<str>,
        inquiry: Inquiry,
    },
    /// `with_time`: publications of a history come with their times.
    Api {
        answer: Answer<ApiResult>,
        filter: HistoryFilter,
        with_time: bool,
        channel: Box<str>,
    },
    /// A query over the past, with the key and the value of its tag.
    Past {
        asker: PastAsker,
        tag: Option<QueriedTag>,
        /// Which of how many logs, if several are asked one after the other.
        log: Option<(usize, usize)>,
    },
    PastHistory {
        asker: HistoryAsker,
        filter: HistoryFilter,
    },
    /// A read for all that ask for it.
    Shared(Box<Read>),
}

/// The receiver of the answer to a publication.
pub(crate) enum Publisher {
    Client { shard: ShardId, reply_to: ReplyTo },
    Api(Answer<ApiResult>),
}

/// The receiver of the answer of the log.
pub(crate) enum PastAsker {
    Client(PastClient),
    Api(Answer<ApiResult>),
}

/// The receiver of a part of a history.
pub(crate) enum HistoryAsker {
    Client(PastClient),
    /// As a page of so many publications.
    Api {
        channel: Box<str>,
        limit: u32,
        answer: Answer<ApiResult>,
    },
}

/// A client that waits for its answer.
#[derive(Clone, Copy)]
pub(crate) struct PastClient {
    pub shard: ShardId,
    pub reply_to: ReplyTo,
    pub reserved: Reserved,
}

/// A publication for the subscribers of this server, should the broker be away.
pub(crate) struct LocalCopy {
    pub channel: Box<str>,
    pub record: PublicationRecord,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::port::request_queue;

    #[test]
    fn call_keeps_where_its_request_went() {
        let (peer, other) = (request_queue(1 << 20), request_queue(1 << 20));
        let [peer, other] = [peer, other].map(|(port, _queue)| (Broker::new(vec![port]), _queue));
        let links = BrokerLinks { presence: Some(other.0), ..BrokerLinks::default() };
        let mut broker = HomeBroker::new(links, ShardId(0));
        let call = |channel: &str| Call::Position { channel: channel.into(), serial: SubscribeSerial(1) };
        let presence = |ticket| RequestKind::Presence { ticket };
        assert!(broker.ask_alone("a", call("a"), presence).is_ok());
        assert!(broker.ask_alone("a", call("a"), |ticket| RequestKind::HistoryRemove { ticket }).is_err());
        broker.links = BrokerLinks { publications: Some(peer.0), follows_peer: true, ..broker.links };
        assert!(broker.ask_alone("a", call("a"), |ticket| RequestKind::HistoryRemove { ticket }).is_ok());
        assert!(broker.ask_alone("a", call("a"), presence).is_ok());
        assert_eq!(broker.tickets_of_peer(), [Ticket(1)]);
        assert_eq!([0, 1, 2, 3].map(|ticket| broker.asks_peer(Ticket(ticket))), [false, true, false, false]);
    }
}
