//! The control thread's interface to the shards: calls with a bound and a deadline, and commands to every shard. Calls that
//! concern the clients of other servers go to the cluster too.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{ApiError, ApiResult, OpenCall, OpenCalls, ShardApi};
use crate::auth::KeySet;
use crate::backend::call;
use crate::broker::Broker;
use crate::broker::durable::LogHandle;
use crate::cluster::channels::{Survey, SurveyError};
use crate::cluster::view::ClusterView;
use crate::cluster::{Cluster, OwnShards};
use crate::engine::Upgrades;
use crate::engine::config::EngineConfig;
use crate::engine::control_port::{ControlCommand, ControlPort};
use crate::engine::stats::Snapshot;
use crate::handover::link::{Link, LocalShards};
use crate::handover::wire::Welcome;
use crate::ids::{ConnId, ShardId};
use crate::messaging::api_call::{ApiCall, ApiReply, CallScope};
use crate::messaging::control_request::Answer;
use crate::messaging::handover_message::{self, MessageRoute};
use crate::messaging::{ControlRequest, HandoverPeer, Settings, TokenKind};
use crate::protocol::ErrorCode;
use crate::pubsub::Placement;

/// How long a shard may take to answer: many turns, even under load.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a blocking send tries a full mailbox, once a millisecond.
const SEND_TRIES_MAX: u32 = 1_000;

/// Pause between two tries of a full mailbox that a task waits for.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

#[derive(Clone)]
pub struct ShardClient {
    ports: Arc<[ControlPort<ControlRequest>]>,
    placement: Placement,
    is_draining: Arc<AtomicBool>,
    /// Calls of the server API that are not answered.
    pub open_calls: OpenCalls,
    /// The link to the peer process of a handover. Locked for the length of a clone.
    peer: Arc<Mutex<Option<Arc<Link>>>>,
    /// Set once, if this server is in a cluster.
    cluster: Arc<OnceLock<Cluster>>,
    /// Set once, if there is a durable log.
    log: Arc<OnceLock<LogHandle>>,
}

impl ShardClient {
    /// `peer`: the process that this one takes over from, which the shards know already.
    pub fn new(ports: Vec<ControlPort<ControlRequest>>, placement: Placement, peer: Option<Arc<Link>>) -> Self {
        Self {
            ports: ports.into(),
            placement,
            is_draining: Arc::default(),
            open_calls: OpenCalls::default(),
            peer: Arc::new(Mutex::new(peer)),
            cluster: Arc::default(),
            log: Arc::default(),
        }
    }

    /// From here on calls reach the clients of the other servers too.
    pub(crate) fn set_cluster(&self, cluster: Cluster) {
        let is_first = self.cluster.set(cluster).is_ok();
        debug_assert!(is_first, "a server joins one cluster");
    }

    /// The durable log, which goes to the process that takes over.
    pub(crate) fn set_log(&self, log: LogHandle) {
        _ = self.log.set(log);
    }

    /// Turns readiness red. Every connection is served as before, and new ones are accepted.
    pub fn report_not_ready(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.send_to_all(|| ControlCommand::App(ControlRequest::Health { is_ready: false }));
    }

    /// Turns readiness red, stops accepting, and closes the connections evenly over `window`.
    pub fn drain(&self, window: Duration, upgrades: Upgrades) {
        self.is_draining.store(true, Ordering::Relaxed);
        if let Some(cluster) = self.cluster.get() {
            cluster.leave();
        }
        self.send_to_all(|| ControlCommand::Drain { window: window.as_millis() as u64, upgrades });
    }

    /// Ends the threads.
    pub fn stop(&self) {
        if let Some(cluster) = self.cluster.get() {
            cluster.leave();
        }
        self.send_to_all(|| ControlCommand::Stop);
    }

    /// Sends an order to every shard, and blocks up to a second for each full mailbox.
    fn send_to_all(&self, order: impl Fn() -> ControlCommand<ControlRequest>) {
        for (index, port) in self.ports.iter().enumerate() {
            let is_sent = (0..SEND_TRIES_MAX).any(|try_| {
                if try_ > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                port.send(order()).is_ok()
            });
            if !is_sent {
                log::error!("shard {index}: takes no orders (mailbox full for 1 s); it ends with the process");
            }
        }
    }

    /// A backend's answer, for the shard that asked. It must arrive: a full mailbox is retried until it has room.
    pub fn send_backend_answer(&self, shard: ShardId, conn: ConnId, serial: u32, answer: call::Answer) {
        self.send_or_retry(shard.index(), ControlCommand::App(ControlRequest::BackendAnswer { conn, serial, answer }));
    }

    /// Sends a key set to every shard. `None` ends the keys that are in use.
    pub fn send_keys(&self, kind: TokenKind, endpoint: &Arc<str>, keys: &Option<Arc<KeySet>>) {
        self.send_to_all_or_retry(|| {
            ControlCommand::App(ControlRequest::Keys { kind, endpoint: Arc::clone(endpoint), keys: keys.clone() })
        });
    }

    /// The start of the shards' clock by the wall clock, for every shard.
    pub fn send_clock(&self, clock_zero_unix_ms: u64) {
        self.send_to_all_or_retry(|| ControlCommand::App(ControlRequest::Clock { clock_zero_unix_ms }));
    }

    /// Reloaded settings, for every shard. Returns when each has them in its mailbox.
    pub async fn send_settings(&self, settings: &Arc<Settings>, limits: &Arc<EngineConfig>) {
        for port in self.ports.iter() {
            let settings = Arc::clone(settings);
            send_when_there_is_room(port.clone(), ControlCommand::Config(Arc::clone(limits))).await;
            send_when_there_is_room(port.clone(), ControlCommand::App(ControlRequest::Settings { settings })).await;
        }
    }

    /// Reloaded certificates, for every shard.
    pub fn send_tls(&self, tls: &Arc<rustls::ServerConfig>) {
        self.send_to_all_or_retry(|| ControlCommand::Tls(Arc::clone(tls)));
    }

    fn send_to_all_or_retry(&self, order: impl Fn() -> ControlCommand<ControlRequest>) {
        (0..self.ports.len()).for_each(|index| self.send_or_retry(index, order()));
    }

    fn send_or_retry(&self, index: usize, order: ControlCommand<ControlRequest>) {
        if let Err(order) = self.ports[index].send(order) {
            tokio::spawn(send_when_there_is_room(self.ports[index].clone(), order));
        }
    }

    pub fn shard_count(&self) -> usize {
        self.ports.len()
    }

    fn peer(&self) -> Option<Arc<Link>> {
        self.peer.lock().expect("never poisoned: no code panics while holding the lock").clone()
    }

    /// Makes the other servers carry out a call that concerns their clients, or the peer process of a handover if this server
    /// is in no cluster: a process of a cluster gets it from there. Returns the survey that the call needs.
    fn share(&self, call: &ApiCall) -> ApiResult<Option<Survey>> {
        match (self.cluster.get(), call) {
            (Some(cluster), ApiCall::Channels { pattern }) => cluster.ask_channels(pattern).map_err(survey_error),
            (Some(cluster), call) => match cluster.share(call) {
                true => Ok(None),
                false => Err(ApiError::TooManyRequests),
            },
            (None, call) => {
                if let Some(peer) = self.peer()
                    && call.is_forwarded(peer.order())
                {
                    peer.send_call(call);
                }
                Ok(None)
            }
        }
    }

    /// Sends a request to one shard after the other. When this returns, each has carried it out, or has stopped.
    async fn tell_each(&self, request: impl Fn(Answer<()>) -> ControlRequest) {
        for port in self.ports.iter() {
            let (confirm, confirmed) = oneshot::channel();
            let request = request(Box::new(move |()| _ = confirm.send(())));
            send_when_there_is_room(port.clone(), ControlCommand::App(request)).await;
            // Fails if the shard has stopped.
            let _ = confirmed.await;
        }
    }

    /// Queues a call for the shards of its scope. A shard with a full mailbox rejects it; the others may carry it out.
    fn queue(&self, call: ApiCall) -> Replies {
        match call.scope() {
            CallScope::HomeOf(channel) => {
                let home = &self.ports[self.placement.shard_of(channel).index()];
                Replies { first: PendingReply::ask(home, call), others: Vec::new() }
            }
            CallScope::EveryShard => {
                let others = self.ports[1..].iter().map(|port| PendingReply::ask(port, call.clone())).collect();
                Replies { first: PendingReply::ask(&self.ports[0], call), others }
            }
            CallScope::Split => {
                debug_assert!(false, "the dispatcher splits a broadcast");
                Replies { first: PendingReply::rejected(), others: Vec::new() }
            }
        }
    }
}

impl ShardApi for ShardClient {
    fn call(&self, call: ApiCall) -> impl Future<Output = ApiResult<ApiReply>> + Send {
        let started = self.share(&call).map(|survey| (survey.map(Box::new), self.queue(call)));
        // Boxed, since a batch moves the futures of its calls several times, and this one is large.
        Box::pin(async {
            let (survey, replies) = started?;
            let mut reply = replies.join().await?;
            if let Some(survey) = survey {
                reply.merge(ApiReply::Channels(survey.channels().await.map_err(survey_error)?));
            }
            Ok(reply)
        })
    }

    fn cluster(&self) -> Option<ClusterView> {
        self.cluster.get().map(Cluster::view)
    }

    fn begin_call(&self) -> Option<OpenCall> {
        self.open_calls.begin()
    }

    fn snapshots(&self) -> impl Future<Output = Vec<Snapshot>> + Send {
        let pending: Vec<_> = self.ports.iter().map(|port| PendingReply::new(port, ControlCommand::Snapshot)).collect();
        async {
            let mut snapshots = Vec::with_capacity(pending.len());
            for reply in pending {
                snapshots.extend(reply.wait().await);
            }
            snapshots
        }
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

impl LocalShards for ShardClient {
    async fn are_serving(&self) -> bool {
        self.snapshots().await.len() == self.shard_count()
    }

    fn welcome(&self) -> Welcome {
        Welcome { shards: self.shard_count() as u16, placement_key: self.placement.key() }
    }

    async fn pass_messages(&self, messages: Vec<Vec<u8>>) -> bool {
        let mut by_shard: Vec<Vec<Vec<u8>>> = vec![Vec::new(); self.shard_count()];
        for message in messages {
            let shard = match handover_message::route(&message) {
                Some(MessageRoute::HomeOf(channel)) => self.placement.shard_of(channel),
                Some(MessageRoute::Slot(slot)) => self.placement.shard_of_slot(slot),
                Some(MessageRoute::Shard(shard)) => shard,
                Some(MessageRoute::EveryShard) => {
                    by_shard.iter_mut().for_each(|waiting| waiting.push(message.clone()));
                    continue;
                }
                None => return false,
            };
            match by_shard.get_mut(shard.index()) {
                Some(waiting) => waiting.push(message),
                None => return false,
            }
        }
        for (port, messages) in self.ports.iter().zip(by_shard) {
            if !messages.is_empty() {
                let request = ControlRequest::PeerMessages(messages);
                send_when_there_is_room(port.clone(), ControlCommand::App(request)).await;
            }
        }
        true
    }

    async fn sort_copies(&self) {
        self.tell_each(|answer| ControlRequest::SortCopies { answer }).await;
    }

    async fn follow_peer(&self, broker: Broker) {
        self.tell_each(move |answer| ControlRequest::FollowPeer { broker: broker.clone(), answer }).await;
    }

    fn close_log(&self) -> impl Future<Output = ()> + Send + 'static {
        let log = Arc::clone(&self.log);
        async move {
            if let Some(log) = log.get()
                && let Err(error) = log.close().await
            {
                log::error!("handover: the durable log is not closed in order: {error}; the new process reads it anew");
            }
        }
    }

    async fn open_log(&self) {
        if let Some(log) = self.log.get() {
            log.open().await;
        }
    }

    async fn accept(&self) {
        for port in self.ports.iter() {
            send_when_there_is_room(port.clone(), ControlCommand::Accept).await;
        }
    }

    async fn set_peer(&self, peer: Option<Arc<Link>>) {
        *self.peer.lock().expect("never poisoned: no code panics while holding the lock") = peer.clone();
        let peer = peer.map(|link| link as Arc<dyn HandoverPeer>);
        self.tell_each(move |answer| ControlRequest::HandoverPeer { peer: peer.clone(), answer }).await;
    }

    async fn publish_forwarded(&self, channel: &str, publication: Vec<u8>) {
        let home = self.ports[self.placement.shard_of(channel).index()].clone();
        send_when_there_is_room(home, ControlCommand::App(ControlRequest::Forwarded { publication })).await;
    }

    fn call_forwarded(&self, call: ApiCall) {
        drop(self.queue(call));
    }
}

impl OwnShards for ShardClient {
    async fn ask(&self, call: ApiCall) -> Option<ApiReply> {
        self.queue(call).join().await.ok()
    }

    async fn carry_out(&self, call: ApiCall) -> bool {
        let mut is_queued = true;
        for port in self.ports.iter() {
            let order = ControlRequest::Api { call: call.clone(), answer: Box::new(drop) };
            let sent = send_when_there_is_room(port.clone(), ControlCommand::App(order));
            is_queued &= timeout(REPLY_TIMEOUT, sent).await.is_ok();
        }
        is_queued
    }

    async fn numbers(&self) -> Vec<Snapshot> {
        self.snapshots().await
    }
}

/// The log has the details.
fn survey_error(error: SurveyError) -> ApiError {
    match error {
        SurveyError::Busy => ApiError::TooManyRequests,
        SurveyError::NoAnswer(_) => ApiError::OutcomeUnknown,
        SurveyError::Silent | SurveyError::Refused(..) | SurveyError::Malformed(_) => ErrorCode::Internal.into(),
    }
}

async fn send_when_there_is_room(port: ControlPort<ControlRequest>, mut order: ControlCommand<ControlRequest>) {
    while let Err(rejected) = port.send(order) {
        order = rejected;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The replies of all shards that one call was queued for.
struct Replies {
    first: PendingReply<Result<ApiReply, ErrorCode>>,
    others: Vec<PendingReply<Result<ApiReply, ErrorCode>>>,
}

impl Replies {
    /// The joined reply, or the first error.
    async fn join(self) -> ApiResult<ApiReply> {
        let mut joined = self.first.wait().await??;
        for other in self.others {
            joined.merge(other.wait().await??);
        }
        Ok(joined)
    }
}

/// A reply that was asked for, or the rejection of the question.
struct PendingReply<T> {
    /// `None`: the shard's mailbox was full.
    reply: Option<oneshot::Receiver<T>>,
    deadline: Instant,
}

impl<T: Send + 'static> PendingReply<T> {
    /// Queues the order that `order` makes of the closure that takes the reply.
    fn new(
        port: &ControlPort<ControlRequest>,
        order: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> ControlCommand<ControlRequest>,
    ) -> Self {
        let (sender, receiver) = oneshot::channel();
        let sent = port.send_soon(order(Box::new(move |reply| drop(sender.send(reply)))));
        Self { reply: sent.is_ok().then_some(receiver), deadline: Instant::now() + REPLY_TIMEOUT }
    }

    fn rejected() -> Self {
        Self { reply: None, deadline: Instant::now() }
    }

    async fn wait(self) -> ApiResult<T> {
        let reply = self.reply.ok_or(ApiError::TooManyRequests)?;
        timeout_at(self.deadline, reply).await.ok().and_then(Result::ok).ok_or(ApiError::OutcomeUnknown)
    }
}

impl PendingReply<Result<ApiReply, ErrorCode>> {
    fn ask(port: &ControlPort<ControlRequest>, call: ApiCall) -> Self {
        Self::new(port, |answer| ControlCommand::App(ControlRequest::Api { call, answer }))
    }
}
