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
use tokio::time::Instant;

use super::answers;
use super::commands::{Commands, Sending, unix_time};
use super::connection::Connection;
use super::dial::error_text;
use super::events::EventSink;
use super::job::{Attempt, Job, ProbeOutcome};
use super::random;
use super::scripts::ScriptId;
use crate::broker::message::BrokerError;
use crate::broker::stats::{ConnectionStats, Refusal, add};

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
    pub(super) fn new(commands: Rc<Commands>, events: EventSink, stats: Arc<ConnectionStats>, load: Rc<Load>) -> Self {
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
        let stamp = job.stamp(unix_time().as_millis() as i64, random::number);
        let sending = Sending { stamp, attempt: Attempt::First, with_text: false };
        let now = Instant::now();
        self.write(Command { job, sending, sent: now, first_sent: now }, connection);
    }

    fn write(&mut self, mut command: Command, connection: &mut Connection) {
        // The first call of a script on a connection brings its text. Otherwise that call would have to wait behind others.
        let script = self.commands.script_of(&command.job, command.sending.attempt);
        let is_known = script.is_none_or(|script| std::mem::replace(&mut self.known_scripts[script as usize], true));
        command.sending.with_text = !is_known;
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
        match &command.job {
            Job::Probe { outcome, .. } => outcome.set(ProbeOutcome::Accepted),
            Job::Request(request) => {
                if let Some(ticket) = request.ticket() {
                    let (answer, malformed) = answers::read(request, value, self.commands.has_user_mapping);
                    add(&self.stats.malformed, malformed);
                    self.events.answer(request.from, ticket, answer);
                }
            }
            Job::Control { .. } | Job::Ping => (),
        }
    }

    fn fail_unanswered(&mut self, command: Command) {
        // What only reads has no outcome to know.
        let is_open = command.job.has_effect();
        self.fail(command, if is_open { BrokerError::OutcomeUnknown } else { BrokerError::Unavailable });
    }

    fn fail(&mut self, command: Command, error: BrokerError) {
        self.release(&command.job);
        match command.job {
            Job::Probe { outcome, .. } => outcome.set(ProbeOutcome::Failed),
            Job::Control { .. } | Job::Ping => {}
            Job::Request(request) => {
                self.stats.refuse(match error {
                    BrokerError::Unavailable => Refusal::Away,
                    BrokerError::OutcomeUnknown => Refusal::Unanswered,
                    _ => Refusal::Rejected,
                });
                if let Some(ticket) = request.ticket() {
                    self.events.answer(request.from, ticket, Err(error));
                }
            }
        }
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
    match job {
        Job::Request(request) => {
            stats.refuse(reason);
            if let Some(ticket) = request.ticket() {
                events.answer(request.from, ticket, Err(BrokerError::Unavailable));
            }
        }
        Job::Probe { outcome, .. } => outcome.set(ProbeOutcome::Failed),
        Job::Control { .. } | Job::Ping => (),
    }
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
