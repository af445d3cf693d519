//! What the parts of the cluster share: the table of servers, the queue to the broker, the counters.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::commands;
use super::nodes::{Change, LOST_AFTER, NodeTable, What};
use super::proto;
use super::stats::{Counters, DropLog, Dropped, add};
use super::surveys::Surveys;
use super::view::{ClusterView, NodeInfo};
use super::wire;
use crate::api::settings::{Current, VERSION};
use crate::broker::control::ControlMessage;
use crate::messaging::ApiCall;

/// Bytes of messages that may wait for the broker.
const OUTGOING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages that may wait when an announcement is to be sent. It would be out of date when the broker takes it.
const WAITING_BEFORE_ANNOUNCEMENT_MAX: usize = 64;

pub(crate) struct Shared {
    pub(crate) settings: Current,
    pub(crate) surveys: Surveys,
    pub(crate) counters: Counters,
    outgoing: mpsc::Sender<ControlMessage>,
    /// Bytes queued since the queue was seen empty: at least those that wait.
    outgoing_bytes: AtomicUsize,
    nodes: Mutex<NodeTable>,
    /// What this server announced last. Its uid never changes.
    own: Mutex<NodeInfo>,
    /// When a message arrived, also one of this server.
    heard: Mutex<Instant>,
    /// The log says that nothing arrives.
    is_silent: AtomicBool,
    has_left: AtomicBool,
    drop_log: Mutex<DropLog>,
    began: Instant,
}

impl Shared {
    pub(crate) fn new(outgoing: mpsc::Sender<ControlMessage>, settings: Current) -> Arc<Self> {
        let now = Instant::now();
        let (uid, name) = (settings.get().uid.clone(), settings.get().name.clone());
        let own = NodeInfo { uid, name, version: VERSION.into(), ..NodeInfo::default() };
        Arc::new(Self {
            settings,
            surveys: Surveys::default(),
            counters: Counters::default(),
            outgoing,
            outgoing_bytes: AtomicUsize::new(0),
            nodes: Mutex::new(NodeTable::new(now)),
            own: Mutex::new(own),
            heard: Mutex::new(now),
            is_silent: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            drop_log: Mutex::default(),
            began: now,
        })
    }

    pub(crate) fn nodes(&self) -> MutexGuard<'_, NodeTable> {
        lock(&self.nodes)
    }

    pub(crate) fn uid(&self) -> String {
        lock(&self.own).uid.clone()
    }

    /// Queues a message to one server, or to all.
    pub(crate) fn send(&self, to: Option<&str>, command: proto::Command) -> Result<(), Dropped> {
        let payload = proto::Command { uid: self.uid(), ..command }.encode_to_vec();
        let bytes = payload.len();
        let bytes_max = if to.is_some() { wire::ANSWER_BYTES_MAX } else { wire::MESSAGE_BYTES_MAX };
        if bytes > bytes_max {
            return Err(self.drop_message(Dropped::TooLarge, "a message of this server"));
        }
        if self.waiting() == 0 {
            self.outgoing_bytes.store(0, Ordering::Relaxed);
        }
        let waiting = self.outgoing_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + bytes <= OUTGOING_BYTES_MAX;
        let message = ControlMessage { to: to.map(Box::from), payload };
        if !fits || self.outgoing.try_send(message).is_err() {
            self.outgoing_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.drop_message(Dropped::OutgoingFull, "a message of this server"));
        }
        add(&self.counters.sent);
        Ok(())
    }

    /// Messages that the broker has not taken yet.
    fn waiting(&self) -> usize {
        self.outgoing.max_capacity() - self.outgoing.capacity()
    }

    /// Makes the other servers carry out a call of this server's API, if it concerns them.
    pub(crate) fn share(&self, call: &ApiCall) -> Result<(), Dropped> {
        match commands::message(call, &self.settings.get().channel) {
            Some(command) => self.send(None, command),
            None => Ok(()),
        }
    }

    /// Announces this server to all, or to one that it has just heard of.
    pub(crate) fn announce(&self, to: Option<&str>, with_metrics: bool) {
        if self.has_left() || self.waiting() > WAITING_BEFORE_ANNOUNCEMENT_MAX {
            return;
        }
        let mut info = lock(&self.own).clone();
        info.uptime_s = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
        if !with_metrics {
            info.metrics = None;
        }
        // A lost announcement is followed by the next.
        let _ = self.send(to, proto::Command { node: Some(wire::node(info)), ..proto::Command::default() });
    }

    pub(crate) fn update_own(&self, update: impl FnOnce(&mut NodeInfo)) {
        update(&mut lock(&self.own));
    }

    /// Tells the other servers that this one leaves; it announces itself no more. It still carries out what they send.
    pub(crate) fn leave(&self) {
        if !self.has_left.swap(true, Ordering::Relaxed) {
            // If it is lost, the others miss this server's announcements instead.
            let _ = self.send(None, proto::Command { shutdown: Some(proto::Shutdown {}), ..proto::Command::default() });
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// A message has arrived, if only one of this server.
    pub(crate) fn hear(&self) {
        *lock(&self.heard) = Instant::now();
    }

    /// No message arrives, not even one of this server: the broker, or the connection to it, is down.
    pub(crate) fn is_silent(&self) -> bool {
        self.silence() >= LOST_AFTER
    }

    pub(crate) fn silence(&self) -> Duration {
        lock(&self.heard).elapsed()
    }

    /// Looks for servers that are not heard any more.
    pub(crate) fn check(&self) {
        let now = Instant::now();
        let (changes, pause) = self.nodes().check(now);
        if let Some(pause) = pause {
            log::warn!("cluster: this server did nothing for {pause:.1?}; the others may have removed it meanwhile");
            let mut heard = lock(&self.heard);
            *heard = now.min(*heard + pause);
        }
        changes.iter().for_each(|change| self.note(change));
        self.check_silence();
    }

    fn check_silence(&self) {
        let (silence, others) = (self.silence(), self.nodes().len());
        let is_silent = silence >= LOST_AFTER;
        if is_silent == self.is_silent.swap(is_silent, Ordering::Relaxed) {
            return;
        }
        match is_silent {
            true => log::error!(
                "cluster: no control message has arrived for {silence:.1?}, not even one of this server: the broker \
                 delivers none; other servers are removed, calls of the server API reach only this one's clients until \
                 the broker is back, and `channels` fails"
            ),
            false => log::info!("cluster: control messages arrive again; {others} other servers"),
        }
    }

    /// Counts and logs what has become of a server.
    pub(crate) fn note(&self, change: &Change) {
        match change.what {
            What::Lost(_) => add(&self.counters.nodes_lost),
            What::Returned(_) => add(&self.counters.nodes_returned),
            _ => {}
        }
        change.log(self.nodes().len());
    }

    /// Counts a message that is dropped. The log has a line a minute for each reason.
    pub(crate) fn drop_message(&self, why: Dropped, what: &str) -> Dropped {
        let count = self.counters.drop_message(why);
        if lock(&self.drop_log).may_log(why, Instant::now()) {
            let (_, name) = Dropped::ALL[why as usize];
            log::warn!("cluster: {what} is dropped ({name}, {count} since the start): {}", why.consequence());
        }
        why
    }

    pub(crate) fn view(&self) -> ClusterView {
        ClusterView {
            metrics: lock(&self.own).metrics.clone(),
            others: self.nodes().view(Instant::now()),
            counts: self.counters.read(),
            silent_ms: self.silence().as_millis() as u64,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("never poisoned: no code panics while holding the lock")
}
