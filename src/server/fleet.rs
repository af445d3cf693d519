//! The shards as the control thread sees them: questions with a bound and a deadline.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::auth::KeySet;
use crate::backend;
use crate::control::{AskError, Asked, Fleet, Stats};
use crate::counters::Snapshot;
use crate::grant::{Publish, Renewal, SubscribeGrant};
use crate::hub::Homes;
use crate::ids::{ConnId, ShardId};
use crate::node::Ask;
use crate::node::ask::{Answer, History, HistoryQuery, Member, Place, Who};
use crate::protocol::ErrorCode;
use crate::shard::port::{Order, Port};

/// How long a shard may take to answer: many turns, even under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Milliseconds in which a full mailbox must have room for an order.
const ORDER_TRIES: u32 = 1_000;

/// How often a full mailbox is tried again for what is owed.
const OWED_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Clone)]
pub struct Shards {
    ports: Arc<[Port<Ask>]>,
    homes: Homes,
    draining: Arc<AtomicBool>,
}

impl Shards {
    pub fn new(ports: Vec<Port<Ask>>, homes: Homes) -> Self {
        Self { ports: ports.into(), homes, draining: Arc::default() }
    }

    /// Readiness red; everybody is served as before.
    pub fn turn_red(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell(|| Order::App(Ask::Health { ready: false }));
    }

    /// Readiness red, nobody new, and those who are here closed in waves within `window`.
    pub fn drain(&self, window: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell(|| Order::Drain(window.as_millis() as u64));
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
    pub fn tell_answer(&self, shard: ShardId, conn: ConnId, serial: u32, answer: backend::Answer) {
        self.owe(shard.index(), Ask::Backend { conn, serial, answer });
    }

    /// A key set, to every shard.
    pub fn tell_keys(&self, subscription: bool, keys: &Arc<KeySet>) {
        for index in 0..self.ports.len() {
            self.owe(index, Ask::Keys { subscription, keys: Arc::clone(keys) });
        }
    }

    /// Where the zero of the shards' clock is, to every shard.
    pub fn tell_clock(&self, began_unix_ms: u64) {
        for index in 0..self.ports.len() {
            self.owe(index, Ask::Clock { began_unix_ms });
        }
    }

    fn owe(&self, index: usize, ask: Ask) {
        let Err(mut order) = self.ports[index].send(Order::App(ask)) else { return };
        let port = self.ports[index].clone();
        tokio::spawn(async move {
            while let Err(again) = port.send(order) {
                order = again;
                tokio::time::sleep(OWED_INTERVAL).await;
            }
        });
    }

    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// Asks a channel's home.
    fn at_home<T: Send + 'static>(&self, channel: &str, ask: impl FnOnce(Box<str>, Answer<T>) -> Ask) -> Awaited<T> {
        let home = &self.ports[self.homes.of(channel).index()];
        Awaited::asked(home, |answer| Order::App(ask(channel.into(), answer)))
    }

    /// Asks every shard. Where one does not take the question, the others may act on it all the same.
    fn everywhere<T: Send + 'static>(&self, mut ask: impl FnMut(Answer<T>) -> Ask) -> Vec<Awaited<T>> {
        self.ports.iter().map(|port| Awaited::asked(port, |answer| Order::App(ask(answer)))).collect()
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

impl Fleet for Shards {
    fn publish(&self, channel: &str, publish: Publish) -> impl Future<Output = Asked<Option<Place>>> + Send {
        judged(self.at_home(channel, |channel, answer| Ask::Publish { channel, publish, answer }))
    }

    fn history(&self, channel: &str, query: HistoryQuery) -> impl Future<Output = Asked<History>> + Send {
        judged(self.at_home(channel, |channel, answer| Ask::History { channel, query, answer }))
    }

    fn history_remove(&self, channel: &str) -> impl Future<Output = Asked<()>> + Send {
        judged(self.at_home(channel, |channel, answer| Ask::HistoryRemove { channel, answer }))
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
        let answers = self.everywhere(|answer| Ask::Subscribe {
            who: who.clone(),
            channel: channel.into(),
            grant: grant.clone(),
            since: since.clone(),
            answer,
        });
        sum_judged(answers)
    }

    fn unsubscribe(&self, who: Who, channel: &str) -> impl Future<Output = Asked<u32>> + Send {
        let ask = |answer| Ask::Unsubscribe { who: who.clone(), channel: channel.into(), answer };
        sum_judged(self.everywhere(ask))
    }

    fn disconnect(
        &self,
        who: Who,
        spared: Vec<Box<str>>,
        code: u16,
        reason: &str,
    ) -> impl Future<Output = Asked<u32>> + Send {
        sum(self.everywhere(|answer| Ask::Disconnect {
            who: who.clone(),
            spared: spared.clone(),
            code,
            reason: reason.into(),
            answer,
        }))
    }

    fn refresh(&self, who: Who, renewal: Renewal) -> impl Future<Output = Asked<u32>> + Send {
        sum(self.everywhere(|answer| Ask::Refresh { who: who.clone(), renewal: renewal.clone(), answer }))
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
