//! The link for commands: one connection to one server, made again when it is lost.
//!
//! Commands are pipelined: they are sent as they come, and answers are matched by their order. Nothing waits while the server is
//! away, except publications that can be sent again.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::backoff::Backoff;
use super::commands::Commands;
use super::connection::Connection;
use super::events::EventSink;
use super::in_flight::{InFlight, Load, Redirects, Verdict, refuse};
use super::job::Job;
use super::target::Target;
use crate::broker::stats::{BrokerStats, ConnectionStats, LinkState, Purpose, Refusal, add};
use crate::config::Endpoint;

/// Jobs taken from the queue at once.
const BATCH: usize = 512;
/// No further commands are written while so many bytes wait for the socket.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// An answer that takes longer makes the connection a slow one.
const SLOW: Duration = Duration::from_secs(1);
/// A connection that lived this long is made again without a pause.
const STABLE: Duration = Duration::from_secs(1);

/// The other end of a command link. The link ends when all of them are gone.
#[derive(Clone)]
pub(super) struct Commander {
    jobs: UnboundedSender<Job>,
    load: Rc<Load>,
    events: EventSink,
    stats: Arc<ConnectionStats>,
    bytes_max: usize,
}

impl Commander {
    /// Queues a job, or refuses it if too much waits already.
    pub(super) fn send(&self, job: Job) {
        let bytes = self.load.bytes.get();
        self.load.bytes.set(bytes + job.bytes());
        if bytes >= self.bytes_max {
            return refuse(job, Refusal::Full, &self.events, &self.stats, &self.load);
        }
        if let Err(rejected) = self.jobs.send(job) {
            refuse(rejected.0, Refusal::Away, &self.events, &self.stats, &self.load);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.load.is_up.get()
    }
}

/// What a link for commands is made of.
pub(super) struct CommandLink {
    target: Target,
    jobs: UnboundedReceiver<Job>,
    batch: Vec<Job>,
    in_flight: InFlight,
    events: EventSink,
    stats: Arc<ConnectionStats>,
    load: Rc<Load>,
    all_stats: Arc<BrokerStats>,
}

/// What a thread gives to each of its links.
#[derive(Clone)]
pub(super) struct LinkContext {
    pub(super) events: EventSink,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) bytes_max: usize,
    pub(super) tasks: Rc<RefCell<Tasks>>,
}

/// The tasks of a thread.
#[derive(Default)]
pub(super) struct Tasks {
    /// They end when nothing can reach them any more.
    pub(super) ending: Vec<JoinHandle<()>>,
    /// They are ended with the thread.
    pub(super) endless: Vec<JoinHandle<()>>,
}

impl LinkContext {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.ending.retain(|task| !task.is_finished());
        tasks.ending.push(spawn_local(task));
    }

    pub(super) fn spawn_endless(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().endless.push(spawn_local(task));
    }
}

impl CommandLink {
    pub(super) fn new(
        target: Target,
        commands: Rc<Commands>,
        context: &LinkContext,
        redirects: Option<Redirects>,
    ) -> (Commander, Self) {
        let (sender, jobs) = unbounded_channel();
        let stats = context.stats.register(&target.name(), Purpose::Commands);
        let (load, events) = (Rc::new(Load::default()), context.events.clone());
        let in_flight = InFlight::new(commands, events.clone(), Arc::clone(&stats), Rc::clone(&load), redirects);
        let commander = Commander {
            jobs: sender,
            load: Rc::clone(&load),
            events: events.clone(),
            stats: Arc::clone(&stats),
            bytes_max: context.bytes_max,
        };
        let (all_stats, batch) = (Arc::clone(&context.stats), Vec::new());
        (commander, Self { target, jobs, batch, in_flight, events, stats, load, all_stats })
    }

    /// Serves until every `Commander` is gone.
    pub(super) async fn run(mut self) {
        self.serve_always().await;
        self.in_flight.hand_over();
        self.events.flush();
    }

    async fn serve_always(&mut self) {
        let mut backoff = Backoff::default();
        while let Some((mut connection, endpoint)) = self.connect(&mut backoff).await {
            let since = Instant::now();
            let Err(error) = self.serve(&mut connection, &endpoint).await else { return };
            self.target.doubt();
            self.load.is_up.set(false);
            self.in_flight.lose_connection(self.target.dialer().io_timeout);
            self.events.flush();
            add(&self.stats.reconnects, 1);
            log::warn!(
                "{}: the connection for commands is lost ({error}); publications are refused until it is back",
                self.stats.name
            );
            self.stats.set_state(LinkState::Down, &error.to_string());
            if since.elapsed() >= STABLE {
                backoff.reset();
            } else if self.while_away(sleep(backoff.next())).await.is_none() {
                return;
            }
        }
    }

    /// Connects, however often it takes. `None`: nothing is to be served any more.
    async fn connect(&mut self, backoff: &mut Backoff) -> Option<(Connection, Endpoint)> {
        loop {
            let target = self.target.clone();
            match self.while_away(target.dial()).await? {
                Ok((dialed, endpoint)) => {
                    log::info!("{}: connected for commands", self.stats.name);
                    self.stats.set_state(LinkState::Up, "");
                    self.load.is_up.set(true);
                    return Some((dialed.connection, endpoint));
                }
                Err(error) => {
                    if backoff.deserves_a_line() {
                        log::warn!("{}: no connection for commands: {error}", self.stats.name);
                    }
                    self.stats.set_state(LinkState::Down, &error.to_string());
                }
            }
            self.while_away(sleep(backoff.next())).await?;
        }
    }

    /// Waits without a connection. Refuses jobs meanwhile. `None`: every sender is gone.
    async fn while_away<F: Future>(&mut self, wait: F) -> Option<F::Output> {
        tokio::pin!(wait);
        loop {
            let rest = self.in_flight.expire(self.target.dialer().io_timeout);
            self.events.flush();
            tokio::select! {
                output = &mut wait => return Some(output),
                () = sleep(rest) => (),
                count = self.jobs.recv_many(&mut self.batch, BATCH) => {
                    if count == 0 {
                        return None;
                    }
                    for job in self.batch.drain(..) {
                        self.in_flight.refuse(job, Refusal::Away);
                    }
                }
            }
        }
    }

    /// Serves on a connection until it is lost. `Ok`: nothing is to be served any more.
    async fn serve(&mut self, connection: &mut Connection, endpoint: &Endpoint) -> io::Result<()> {
        let io_timeout = self.target.dialer().io_timeout;
        let mut ticks = interval((io_timeout / 10).clamp(Duration::from_millis(20), Duration::from_millis(400)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_closed = false;
        self.in_flight.send_again(connection);
        while !(has_closed && self.in_flight.is_empty()) {
            let may_send = !has_closed && self.in_flight.is_open() && connection.unsent_bytes() < UNSENT_BYTES_MAX;
            tokio::select! {
                value = connection.next() => self.take(value?, connection)?,
                count = self.jobs.recv_many(&mut self.batch, BATCH), if may_send => {
                    has_closed = count == 0;
                    for job in self.batch.drain(..) {
                        self.in_flight.send(job, connection);
                    }
                }
                _ = ticks.tick() => {
                    if self.target.has_moved_from(endpoint) {
                        return Err(io::Error::other("another server is the master now"));
                    }
                    self.check(connection, io_timeout)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a value and what has arrived behind it.
    fn take(&mut self, value: Value, connection: &mut Connection) -> io::Result<()> {
        let mut next = Some(value);
        while let Some(value) = next {
            if !matches!(value, Value::Push { .. }) && self.in_flight.answer(value) == Verdict::ReadOnly {
                self.events.flush();
                return Err(io::Error::other("the server is a replica now"));
            }
            next = connection.next_arrived()?;
        }
        if !self.in_flight.is_open() {
            self.in_flight.send_again(connection);
        }
        self.events.flush();
        Ok(())
    }

    /// Notices a server that does not answer.
    fn check(&mut self, connection: &mut Connection, io_timeout: Duration) -> io::Result<()> {
        let age = self.in_flight.oldest_age();
        if age > io_timeout {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {} ms", age.as_millis())));
        }
        match (age > SLOW, self.stats.state()) {
            (true, LinkState::Up) => self.stats.set_state(LinkState::Slow, "answers take longer than one second"),
            (false, LinkState::Slow) => self.stats.set_state(LinkState::Up, ""),
            _ => (),
        }
        if self.in_flight.is_empty() && self.in_flight.is_open() {
            self.in_flight.send(Job::Ping, connection);
        }
        Ok(())
    }
}

impl Drop for CommandLink {
    fn drop(&mut self) {
        self.load.is_up.set(false);
        self.all_stats.remove(&self.stats);
    }
}
