//! The commands of a connection that have no answer yet, in their order, and what becomes of them.
//!
//! A command ends in one of four ways: its answer comes; the server does not know its script, and it is sent again with the
//! script's text; the connection is lost, and it is sent again because Redis can tell that it is done; or it ends unanswered.
//! The commands about one channel never leave their order.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Cmd, ServerErrorKind, Value};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;
use tokio::time::Instant;

use super::answers;
use super::commands::Commands;
use super::connection::Connection;
use super::dial::error_text;
use super::events::EventSink;
use super::job::{Attempt, Job, ProbeOutcome, Redirected, Sending};
use super::random;
use super::scripts::ScriptId;
use super::topology::redirection;
use crate::broker::clock::now_ms;
use crate::broker::message::BrokerError;
use crate::broker::stats::{ConnectionStats, Refusal, add};
use crate::config::Endpoint;

/// A request that was passed on so often is refused. `TRYAGAIN` is answered while a slot moves.
const HOPS_MAX: u8 = 50;

/// What a link and those that use it share.
#[derive(Default)]
pub(super) struct Load {
    /// Of jobs that are not done.
    pub(super) bytes: Cell<usize>,
    pub(super) is_up: Cell<bool>,
}

pub(super) struct InFlight {
    sent: VecDeque<Command>,
    /// To be sent again before anything new, in order.
    again: VecDeque<Command>,
    /// The server has forgotten its scripts: nothing is sent until all answers are in, or the order would change.
    is_script_missing: bool,
    /// By `ScriptId as usize`: the server has got the text on this connection.
    known_scripts: [bool; ScriptId::COUNT],
    commands: Rc<Commands>,
    events: EventSink,
    stats: Arc<ConnectionStats>,
    load: Rc<Load>,
    encoded: Cmd,
    /// Set in a cluster.
    redirects: Option<Redirects>,
}

/// Where requests go that a server of a cluster does not take.
#[derive(Clone)]
pub(super) struct Redirects {
    pub(super) sender: UnboundedSender<Redirect>,
    /// The server of this link.
    pub(super) from: Endpoint,
}

pub(super) enum Redirect {
    /// A request for another server.
    Request { redirected: Box<Redirected>, from: Endpoint, to: RedirectTo },
    /// The server that had this slot has answered everything that was sent to it.
    Passed(u16),
}

#[derive(PartialEq, Eq, Debug)]
pub(super) enum RedirectTo {
    /// The slot is there from now on.
    Moved(u16, Endpoint),
    /// The slot is on its way there.
    Asked(Endpoint),
    /// The server that has the slot, a moment later.
    Owner,
}

struct Command {
    job: Job,
    sending: Sending,
    sent: Instant,
    first_sent: Instant,
}

/// What the connection is worth after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Serves,
    /// The server may not write: another one is the master.
    ReadOnly,
}

impl InFlight {
    pub(super) fn new(
        commands: Rc<Commands>,
        events: EventSink,
        stats: Arc<ConnectionStats>,
        load: Rc<Load>,
        redirects: Option<Redirects>,
    ) -> Self {
        let (sent, again) = (VecDeque::new(), VecDeque::new());
        let known_scripts = [false; ScriptId::COUNT];
        Self {
            sent,
            again,
            is_script_missing: false,
            known_scripts,
            commands,
            events,
            stats,
            load,
            encoded: Cmd::new(),
            redirects,
        }
    }

    /// Whether new jobs may be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.is_script_missing && self.again.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// How long the oldest command waits for its answer.
    pub(super) fn oldest_age(&self) -> Duration {
        self.sent.front().map_or(Duration::ZERO, |command| command.sent.elapsed())
    }

    pub(super) fn send(&mut self, job: Job, connection: &mut Connection) {
        let now = Instant::now();
        let (sending, first_sent) = match &job {
            Job::Redirected(redirected) => {
                if redirected.asks {
                    self.send(Job::Asking, connection);
                }
                (redirected.sending, redirected.first_sent)
            }
            _ => {
                let stamp = job.stamp(now_ms() as i64, random::number);
                (Sending { stamp, attempt: Attempt::First, with_text: false }, now)
            }
        };
        self.write(Command { job, sending, sent: now, first_sent }, connection);
    }

    fn write(&mut self, mut command: Command, connection: &mut Connection) {
        // The first call of a script on a connection brings its text. Otherwise that call would have to wait behind others. So does
        // a call that another server has sent on: a server that refused it has not learned the script.
        let script = self.commands.script_of(&command.job, command.sending.attempt);
        let is_known = script.is_none_or(|script| std::mem::replace(&mut self.known_scripts[script as usize], true));
        command.sending.with_text = !is_known || script.is_some() && matches!(command.job, Job::Redirected(_));
        self.encoded.clear();
        self.commands.write(&command.job, command.sending, &mut self.encoded);
        connection.push(&self.encoded);
        self.sent.push_back(command);
        self.count();
    }

    /// Sends again what has to be, if the answers to everything else are in.
    pub(super) fn send_again(&mut self, connection: &mut Connection) {
        if !self.sent.is_empty() {
            return;
        }
        self.is_script_missing = false;
        for mut command in std::mem::take(&mut self.again) {
            command.sent = Instant::now();
            self.write(command, connection);
        }
    }

    /// An answer to the oldest command.
    pub(super) fn answer(&mut self, value: Value) -> Verdict {
        let Some(command) = self.sent.pop_front() else {
            // More answers than commands: the peer is no Redis server.
            add(&self.stats.malformed, 1);
            return Verdict::Serves;
        };
        self.stats.round_trips.record(command.sent.elapsed());
        let verdict = match value {
            Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript) => {
                (self.is_script_missing, self.known_scripts) = (true, Default::default());
                self.again.push_back(command);
                Verdict::Serves
            }
            Value::ServerError(error) => {
                let Some(command) = self.redirect(command, &error) else {
                    self.count();
                    return Verdict::Serves;
                };
                let verdict = match error.kind() {
                    Some(ServerErrorKind::ReadOnly) => Verdict::ReadOnly,
                    _ => Verdict::Serves,
                };
                self.fail(command, refusal_of(&error));
                verdict
            }
            value => {
                self.succeed(command, value);
                Verdict::Serves
            }
        };
        self.count();
        verdict
    }

    /// In a cluster: passes a request on that belongs to another server. Gives back what does not.
    fn redirect(&mut self, command: Command, error: &redis::ServerError) -> Option<Command> {
        let Some(redirects) = &self.redirects else { return Some(command) };
        let target = || redirection(error.details().unwrap_or_default(), &redirects.from);
        let to = match error.kind() {
            Some(ServerErrorKind::Moved) => target().map(|(slot, endpoint)| RedirectTo::Moved(slot, endpoint)),
            Some(ServerErrorKind::Ask) => target().map(|(_, endpoint)| RedirectTo::Asked(endpoint)),
            Some(ServerErrorKind::TryAgain) => Some(RedirectTo::Owner),
            _ => None,
        };
        match to {
            Some(to) => self.pass_on(command, to),
            None => Some(command),
        }
    }

    /// Gives back what cannot be passed on.
    fn pass_on(&mut self, command: Command, to: RedirectTo) -> Option<Command> {
        let Some(redirects) = &self.redirects else { return Some(command) };
        let Command { job, sending, sent, first_sent } = command;
        let (request, hops) = match job {
            Job::Request(request) => (request, 0),
            Job::Redirected(redirected) if redirected.hops < HOPS_MAX => {
                let Redirected { request, hops, .. } = *redirected;
                (request, hops + 1)
            }
            job => return Some(Command { job, sending, sent, first_sent }),
        };
        let bytes = request.bytes();
        let asks = matches!(to, RedirectTo::Asked(_));
        let redirected = Box::new(Redirected { request, sending, first_sent, asks, hops });
        let redirect = Redirect::Request { redirected, from: redirects.from.clone(), to };
        match redirects.sender.send(redirect) {
            Ok(()) => {
                self.load.bytes.set(self.load.bytes.get().saturating_sub(bytes));
                None
            }
            Err(SendError(Redirect::Request { redirected, .. })) => {
                let job = Job::Redirected(redirected);
                Some(Command { job, sending, sent, first_sent })
            }
            Err(SendError(Redirect::Passed(_))) => None,
        }
    }

    /// The link ends: another server may have the slots now.
    pub(super) fn hand_over(&mut self) {
        for command in std::mem::take(&mut self.again) {
            if let Some(command) = self.pass_on(command, RedirectTo::Owner) {
                self.fail_unanswered(command);
            }
        }
        self.count();
    }

    /// The connection is lost. What Redis can recognize is kept, to be sent again.
    pub(super) fn lose_connection(&mut self, io_timeout: Duration) {
        for mut command in std::mem::take(&mut self.sent) {
            let is_young = command.first_sent.elapsed() < io_timeout;
            if is_young && command.job.can_repeat() && command.sending.attempt == Attempt::First {
                command.sending.attempt = Attempt::Second;
                self.again.push_back(command);
            } else {
                self.fail_unanswered(command);
            }
        }
        (self.is_script_missing, self.known_scripts) = (false, Default::default());
        self.count();
    }

    /// While there is no connection: ends what has waited for the I/O timeout. Returns how long the next one may wait.
    pub(super) fn expire(&mut self, io_timeout: Duration) -> Duration {
        while let Some(command) = self.again.front() {
            if let Some(rest) = io_timeout.checked_sub(command.first_sent.elapsed()).filter(|rest| !rest.is_zero()) {
                return rest;
            }
            match self.again.pop_front() {
                Some(command) if command.sending.attempt == Attempt::First => {
                    // The server did not know its script.
                    self.fail(command, BrokerError::Unavailable);
                }
                Some(command) => self.fail_unanswered(command),
                None => break,
            }
        }
        io_timeout
    }

    /// Refuses a job that was not sent.
    pub(super) fn refuse(&mut self, job: Job, reason: Refusal) {
        refuse(job, reason, &self.events, &self.stats, &self.load);
    }

    fn succeed(&mut self, command: Command, value: Value) {
        self.release(&command.job);
        if let Some(request) = command.job.request() {
            if let Some(ticket) = request.ticket() {
                let (answer, malformed) = answers::read(request, value, self.commands.has_user_mapping);
                add(&self.stats.malformed, malformed);
                self.events.answer(request.from, ticket, answer);
            }
            return;
        }
        match command.job {
            Job::Probe { outcome, .. } => outcome.set(ProbeOutcome::Accepted),
            Job::Fence(passed) => passed(),
            _ => (),
        }
    }

    fn fail_unanswered(&mut self, command: Command) {
        // What only reads has no outcome to know.
        let is_open = command.job.has_effect();
        self.fail(command, if is_open { BrokerError::OutcomeUnknown } else { BrokerError::Unavailable });
    }

    fn fail(&mut self, command: Command, error: BrokerError) {
        self.release(&command.job);
        let error = known_outcome(error, command.sending.attempt);
        if let Some(request) = command.job.request() {
            self.stats.refuse(match error {
                BrokerError::Unavailable => Refusal::Away,
                BrokerError::OutcomeUnknown => Refusal::Unanswered,
                _ => Refusal::Rejected,
            });
            if let Some(ticket) = request.ticket() {
                self.events.answer(request.from, ticket, Err(error));
            }
        }
        give_up(command.job);
    }

    fn release(&self, job: &Job) {
        self.load.bytes.set(self.load.bytes.get().saturating_sub(job.bytes()));
    }

    fn count(&self) {
        self.stats.in_flight.store(self.sent.len() + self.again.len(), Ordering::Relaxed);
        self.stats.queued_bytes.store(self.load.bytes.get(), Ordering::Relaxed);
    }
}

/// Ends a job that was not sent, and takes it off the load.
pub(super) fn refuse(job: Job, reason: Refusal, events: &EventSink, stats: &ConnectionStats, load: &Load) {
    load.bytes.set(load.bytes.get().saturating_sub(job.bytes()));
    if let Some(request) = job.request() {
        stats.refuse(reason);
        if let Some(ticket) = request.ticket() {
            let attempt =
                if let Job::Redirected(redirected) = &job { redirected.sending.attempt } else { Attempt::First };
            let error = known_outcome(BrokerError::Unavailable, attempt);
            events.answer(request.from, ticket, Err(error));
        }
    }
    give_up(job);
}

/// Tells those that wait for a job's end that it is not done.
fn give_up(job: Job) {
    match job {
        Job::Probe { outcome, .. } => outcome.set(ProbeOutcome::Failed),
        Job::Fence(passed) => passed(),
        _ => (),
    }
}

/// The first attempt of a repeated command may have been carried out, whatever became of the second.
fn known_outcome(error: BrokerError, attempt: Attempt) -> BrokerError {
    if attempt == Attempt::Second && error == BrokerError::Unavailable { BrokerError::OutcomeUnknown } else { error }
}

/// The server did nothing, and may do it later; or it refuses.
fn refusal_of(error: &redis::ServerError) -> BrokerError {
    match error.kind() {
        Some(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => BrokerError::Unavailable,
        _ => BrokerError::Refused(error_text(error).into()),
    }
}
