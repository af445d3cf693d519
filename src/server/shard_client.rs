//! The shards as the control thread sees them: questions with a bound and a deadline.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::admin::{AskError, Asked, ShardApi, Stats};
use crate::auth::KeySet;
use crate::auth::grant::{Publish, RefreshGrant, SubscribeGrant};
use crate::backend::call;
use crate::engine::config::EngineConfig;
use crate::engine::control_port::{Order, Port};
use crate::engine::stats::Snapshot;
use crate::handover::link::{self, Link};
use crate::ids::{ConnId, ShardId};
use crate::messaging::control_request::{Answer, History, HistoryQuery, Member, Place, Who};
use crate::messaging::{Ask, HandoverPeer, Settings};
use crate::protocol::ErrorCode;
use crate::pubsub::Placement;

/// How long a shard may take to answer: many turns, even under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Milliseconds in which a full mailbox must have room for an order.
const ORDER_TRIES: u32 = 1_000;

/// How often a full mailbox is tried again for what is owed.
const OWED_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Clone)]
pub struct ShardClient {
    ports: Arc<[Port<Ask>]>,
    homes: Placement,
    draining: Arc<AtomicBool>,
    /// The other process, while there is one. Locked for the length of a clone.
    twin: Arc<Mutex<Option<Arc<Link>>>>,
}

impl ShardClient {
    /// `twin`: the process that this one takes over from, which the shards know already.
    pub fn new(ports: Vec<Port<Ask>>, homes: Placement, twin: Option<Arc<Link>>) -> Self {
        Self { ports: ports.into(), homes, draining: Arc::default(), twin: Arc::new(Mutex::new(twin)) }
    }

    /// From when this returns, what homes stamp goes to this process; with none, there is no other.
    pub async fn set_twin(&self, twin: Option<Arc<Link>>) {
        *self.twin.lock().expect("nobody panics with it") = twin.clone();
        for index in 0..self.ports.len() {
            let (told, heard) = oneshot::channel();
            let twin = twin.clone().map(|link| link as Arc<dyn HandoverPeer>);
            self.hand(index, Ask::HandoverPeer { twin, answer: Box::new(move |()| _ = told.send(())) }).await;
            // A shard that ends hears nothing more, and forwards nothing.
            let _ = heard.await;
        }
    }

    /// A publication of the other process, to the channel's home: in this order, so that this waits for room.
    pub async fn publish_forwarded(&self, channel: &str, publication: Vec<u8>) {
        self.hand(self.homes.shard_of(channel).index(), Ask::Forwarded { publication }).await;
    }

    /// A call of the other process, which told its own shards. Nobody waits for what comes of it.
    pub fn carry_out(&self, call: link::Call) {
        match call {
            link::Call::Subscribe { who, channel, grant, since } => {
                drop(self.subscribe_here(who, &channel, grant, since))
            }
            link::Call::Unsubscribe { who, channel } => drop(self.unsubscribe_here(who, &channel)),
            link::Call::Disconnect { who, spared, code, reason } => {
                drop(self.disconnect_here(who, spared, code, &reason));
            }
            link::Call::Refresh { who, renewal } => drop(self.refresh_here(who, renewal)),
            link::Call::HistoryRemove { channel } => drop(self.history_remove_here(&channel)),
        }
    }

    fn tell_twin(&self, call: impl FnOnce() -> link::Call) {
        let twin = self.twin.lock().expect("nobody panics with it").clone();
        if let Some(twin) = twin {
            twin.call(&call());
        }
    }

    /// Waits for room in a shard's mailbox.
    async fn hand(&self, index: usize, ask: Ask) {
        send_when_there_is_room(self.ports[index].clone(), Order::App(ask)).await;
    }

    fn subscribe_here(
        &self,
        who: Who,
        channel: &str,
        grant: SubscribeGrant,
        since: Option<Place>,
    ) -> Vec<Awaited<Result<u32, ErrorCode>>> {
        self.everywhere(|answer| Ask::Subscribe {
            who: who.clone(),
            channel: channel.into(),
            grant: grant.clone(),
            since: since.clone(),
            answer,
        })
    }

    fn unsubscribe_here(&self, who: Who, channel: &str) -> Vec<Awaited<Result<u32, ErrorCode>>> {
        self.everywhere(|answer| Ask::Unsubscribe { who: who.clone(), channel: channel.into(), answer })
    }

    fn disconnect_here(&self, who: Who, spared: Vec<Box<str>>, code: u16, reason: &str) -> Vec<Awaited<u32>> {
        self.everywhere(|answer| Ask::Disconnect {
            who: who.clone(),
            spared: spared.clone(),
            code,
            reason: reason.into(),
            answer,
        })
    }

    fn refresh_here(&self, who: Who, renewal: RefreshGrant) -> Vec<Awaited<u32>> {
        self.everywhere(|answer| Ask::Refresh { who: who.clone(), renewal: renewal.clone(), answer })
    }

    fn history_remove_here(&self, channel: &str) -> Awaited<Result<(), ErrorCode>> {
        self.at_home(channel, |channel, answer| Ask::HistoryRemove { channel, answer })
    }

    /// Readiness red; everybody is served as before.
    pub fn turn_red(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell(|| Order::App(Ask::Health { ready: false }));
    }

    /// Readiness red, nobody new, and those who are here closed in waves within `window`. `admits`: upgrades under way are
    /// completed.
    pub fn drain(&self, window: Duration, admits: bool) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell(|| Order::Drain { window: window.as_millis() as u64, admits });
    }

    /// Ends the threads.
    pub fn stop(&self) {
        self.tell(|| Order::Stop);
    }

    /// An order that every shard must get. One whose mailbox stays full is beyond words, and ends with the process.
    fn tell(&self, order: impl Fn() -> Order<Ask>) {
        for port in self.ports.iter() {
            let told = (0..ORDER_TRIES).any(|try_| {
                if try_ > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                port.send(order()).is_ok()
            });
            if !told {
                log::error!("a shard does not take orders any more");
            }
        }
    }

    /// A backend's answer, to the shard that asked. An answer is owed: where the mailbox is full it waits for room.
    pub fn tell_answer(&self, shard: ShardId, conn: ConnId, serial: u32, answer: call::Answer) {
        self.owe(shard.index(), Ask::Backend { conn, serial, answer });
    }

    /// A key set, to every shard.
    pub fn tell_keys(&self, subscription: bool, endpoint: &Arc<str>, keys: &Arc<KeySet>) {
        self.owe_all(|| Ask::Keys { subscription, endpoint: Arc::clone(endpoint), keys: Arc::clone(keys) });
    }

    /// Where the zero of the shards' clock is, to every shard.
    pub fn tell_clock(&self, began_unix_ms: u64) {
        self.owe_all(|| Ask::Clock { began_unix_ms });
    }

    /// What the operator decided anew, to every shard; waits until each has it in its mailbox.
    pub async fn tell_settings(&self, settings: &Arc<Settings>, limits: &Arc<EngineConfig>) {
        for port in self.ports.iter() {
            let settings = Arc::clone(settings);
            send_when_there_is_room(port.clone(), Order::Limits(Arc::clone(limits))).await;
            send_when_there_is_room(port.clone(), Order::App(Ask::Settings { settings })).await;
        }
    }

    /// What listeners speak TLS with, to every shard.
    pub fn tell_tls(&self, tls: &Arc<rustls::ServerConfig>) {
        (0..self.ports.len()).for_each(|index| self.owe_order(index, Order::Tls(Arc::clone(tls))));
    }

    fn owe_all(&self, ask: impl Fn() -> Ask) {
        (0..self.ports.len()).for_each(|index| self.owe(index, ask()));
    }

    fn owe(&self, index: usize, ask: Ask) {
        self.owe_order(index, Order::App(ask));
    }

    fn owe_order(&self, index: usize, order: Order<Ask>) {
        if let Err(order) = self.ports[index].send(order) {
            tokio::spawn(send_when_there_is_room(self.ports[index].clone(), order));
        }
    }

    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// Asks a channel's home.
    fn at_home<T: Send + 'static>(&self, channel: &str, ask: impl FnOnce(Box<str>, Answer<T>) -> Ask) -> Awaited<T> {
        let home = &self.ports[self.homes.shard_of(channel).index()];
        Awaited::asked(home, |answer| Order::App(ask(channel.into(), answer)))
    }

    /// Asks every shard. Where one does not take the question, the others may act on it all the same.
    fn everywhere<T: Send + 'static>(&self, mut ask: impl FnMut(Answer<T>) -> Ask) -> Vec<Awaited<T>> {
        self.ports.iter().map(|port| Awaited::asked(port, |answer| Order::App(ask(answer)))).collect()
    }
}

async fn send_when_there_is_room(port: Port<Ask>, mut order: Order<Ask>) {
    while let Err(again) = port.send(order) {
        order = again;
        tokio::time::sleep(OWED_INTERVAL).await;
    }
}

/// An answer on its way, or the refusal of its question.
struct Awaited<T> {
    /// `None`: the shard did not take the question.
    answer: Option<oneshot::Receiver<T>>,
    deadline: Instant,
}

impl<T: Send + 'static> Awaited<T> {
    fn asked(port: &Port<Ask>, order: impl FnOnce(Answer<T>) -> Order<Ask>) -> Self {
        let (sender, receiver) = oneshot::channel();
        let sent = port.send(order(Box::new(move |answer| drop(sender.send(answer)))));
        Self { answer: sent.is_ok().then_some(receiver), deadline: Instant::now() + ANSWER_TIMEOUT }
    }

    async fn get(self) -> Asked<T> {
        let answer = self.answer.ok_or(AskError::TooManyRequests)?;
        timeout_at(self.deadline, answer).await.ok().and_then(Result::ok).ok_or(AskError::OutcomeUnknown)
    }
}

/// The answer of one that may itself refuse.
async fn judged<T: Send + 'static>(awaited: Awaited<Result<T, ErrorCode>>) -> Asked<T> {
    Ok(awaited.get().await??)
}

/// All answers, or the first reason why there is one less.
async fn all<T: Send + 'static>(awaited: Vec<Awaited<T>>) -> Asked<Vec<T>> {
    let mut answers = Vec::with_capacity(awaited.len());
    for one in awaited {
        answers.push(one.get().await?);
    }
    Ok(answers)
}

async fn sum(awaited: Vec<Awaited<u32>>) -> Asked<u32> {
    Ok(all(awaited).await?.into_iter().fold(0, u32::saturating_add))
}

/// The same of those who may themselves refuse.
async fn sum_judged(awaited: Vec<Awaited<Result<u32, ErrorCode>>>) -> Asked<u32> {
    let meant = all(awaited).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(meant.into_iter().fold(0, u32::saturating_add))
}

impl ShardApi for ShardClient {
    fn publish(&self, channel: &str, publish: Publish) -> impl Future<Output = Asked<Option<Place>>> + Send {
        judged(self.at_home(channel, |channel, answer| Ask::Publish { channel, publish, answer }))
    }

    fn history(&self, channel: &str, query: HistoryQuery) -> impl Future<Output = Asked<History>> + Send {
        judged(self.at_home(channel, |channel, answer| Ask::History { channel, query, answer }))
    }

    fn history_remove(&self, channel: &str) -> impl Future<Output = Asked<()>> + Send {
        self.tell_twin(|| link::Call::HistoryRemove { channel: channel.into() });
        judged(self.history_remove_here(channel))
    }

    fn presence(&self, channel: &str) -> impl Future<Output = Asked<Vec<Member>>> + Send {
        judged(self.at_home(channel, |channel, answer| Ask::Presence { channel, answer }))
    }

    fn presence_stats(&self, channel: &str) -> impl Future<Output = Asked<Stats>> + Send {
        let answer = judged(self.at_home(channel, |channel, answer| Ask::PresenceStats { channel, answer }));
        async { answer.await.map(|(clients, users)| Stats { clients, users }) }
    }

    fn subscribe(
        &self,
        who: Who,
        channel: &str,
        grant: SubscribeGrant,
        since: Option<Place>,
    ) -> impl Future<Output = Asked<u32>> + Send {
        self.tell_twin(|| link::Call::Subscribe {
            who: who.clone(),
            channel: channel.into(),
            grant: grant.clone(),
            since: since.clone(),
        });
        sum_judged(self.subscribe_here(who, channel, grant, since))
    }

    fn unsubscribe(&self, who: Who, channel: &str) -> impl Future<Output = Asked<u32>> + Send {
        self.tell_twin(|| link::Call::Unsubscribe { who: who.clone(), channel: channel.into() });
        sum_judged(self.unsubscribe_here(who, channel))
    }

    fn disconnect(
        &self,
        who: Who,
        spared: Vec<Box<str>>,
        code: u16,
        reason: &str,
    ) -> impl Future<Output = Asked<u32>> + Send {
        self.tell_twin(|| link::Call::Disconnect {
            who: who.clone(),
            spared: spared.clone(),
            code,
            reason: reason.into(),
        });
        sum(self.disconnect_here(who, spared, code, reason))
    }

    fn refresh(&self, who: Who, renewal: RefreshGrant) -> impl Future<Output = Asked<u32>> + Send {
        self.tell_twin(|| link::Call::Refresh { who: who.clone(), renewal: renewal.clone() });
        sum(self.refresh_here(who, renewal))
    }

    fn channels(&self, pattern: &str) -> impl Future<Output = Asked<BTreeMap<Box<str>, u32>>> + Send {
        let answers = self.everywhere(|answer| Ask::Channels { pattern: pattern.into(), answer });
        async {
            let mut merged = BTreeMap::new();
            for (name, subscribers) in all(answers).await?.into_iter().flatten() {
                *merged.entry(name).or_default() += subscribers;
            }
            Ok(merged)
        }
    }

    fn users(&self) -> impl Future<Output = Asked<usize>> + Send {
        let answers = self.everywhere(|answer| Ask::Users { answer });
        async { Ok(all(answers).await?.into_iter().flatten().collect::<HashSet<_>>().len()) }
    }

    fn snapshots(&self) -> impl Future<Output = Vec<Snapshot>> + Send {
        let asked: Vec<_> = self.ports.iter().map(|port| Awaited::asked(port, Order::Snapshot)).collect();
        async {
            let mut snapshots = Vec::with_capacity(asked.len());
            for awaited in asked {
                snapshots.extend(awaited.get().await);
            }
            snapshots
        }
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
