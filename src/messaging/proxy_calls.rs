//! Commands that wait for the operator's backend, by the serial number of the call. `backend_calls` makes the calls.

use std::collections::{HashMap, HashSet};

use crate::ids::ConnId;

/// What waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// A command of the client.
    Command,
    /// The server itself asks whether a connection goes on after its expiry.
    ConnectionRefresh,
    /// The same for a subscription.
    SubscriptionRefresh,
}

/// A command that waits for an answer. `F` is what to do with the answer.
pub(crate) struct PendingCommand<F> {
    pub conn: ConnId,
    pub id: u32,
    pub waiting: Waiting,
    /// The command as it was received, or what a question of the server is about.
    pub raw: Box<[u8]>,
    /// The answer is the key sets: the command runs again.
    pub retry: bool,
    pub on_answer: F,
    /// The connection is not read until the answer.
    pub blocks_reading: bool,
}

pub(crate) struct ProxyCalls<F> {
    pending: HashMap<u32, PendingCommand<F>>,
    /// Connections whose command waits: a connection is not read before the answer, so that it has one.
    commands: HashSet<ConnId>,
    last_serial: u32,
}

impl<F> Default for ProxyCalls<F> {
    fn default() -> Self {
        Self { pending: HashMap::new(), commands: HashSet::new(), last_serial: 0 }
    }
}

impl<F> ProxyCalls<F> {
    /// The number of the next call, which distinguishes the calls of one connection.
    pub(super) fn next_serial(&mut self) -> u32 {
        self.last_serial = self.last_serial.wrapping_add(1);
        self.last_serial
    }

    /// Keeps the command of the call that was made last.
    pub(super) fn insert(&mut self, command: PendingCommand<F>) {
        if command.waiting == Waiting::Command {
            self.commands.insert(command.conn);
        }
        self.pending.insert(self.last_serial, command);
    }

    pub(super) fn remove(&mut self, serial: u32) -> Option<PendingCommand<F>> {
        let command = self.pending.remove(&serial)?;
        if command.waiting == Waiting::Command {
            self.commands.remove(&command.conn);
        }
        Some(command)
    }

    /// A command of the connection waits.
    pub(super) fn has_command_of(&self, conn: ConnId) -> bool {
        self.commands.contains(&conn)
    }

    /// Takes out the commands that `matches` selects. Their answers, when they come, find none and are ignored. Costs a pass
    /// over all waiting commands.
    pub(super) fn cancel(&mut self, matches: impl Fn(&PendingCommand<F>) -> bool) -> Vec<PendingCommand<F>> {
        let cancelled: Vec<_> =
            self.pending.extract_if(|_, command| matches(command)).map(|(_, command)| command).collect();
        for command in cancelled.iter().filter(|command| command.waiting == Waiting::Command) {
            self.commands.remove(&command.conn);
        }
        cancelled
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The connection is not read until the call that was made last is answered, if that is one of its calls.
    pub(super) fn block_reading(&mut self, conn: ConnId) {
        if let Some(last) = self.pending.get_mut(&self.last_serial).filter(|last| last.conn == conn) {
            last.blocks_reading = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(conn: ConnId) -> PendingCommand<()> {
        let (waiting, raw) = (Waiting::Command, Box::default());
        PendingCommand { conn, id: 7, waiting, raw, retry: false, on_answer: (), blocks_reading: false }
    }

    #[test]
    fn cancelled_command_is_not_found_by_its_answer() {
        let (conn, other) = (ConnId::new(1, 0), ConnId::new(2, 0));
        let mut calls = ProxyCalls::default();
        for conn in [conn, other] {
            calls.next_serial();
            calls.insert(command(conn));
        }
        assert!(calls.has_command_of(conn));
        assert_eq!(calls.cancel(|command| command.conn == conn).len(), 1);
        assert!(!calls.has_command_of(conn) && calls.has_command_of(other));
        assert!(calls.remove(1).is_none() && calls.remove(2).is_some() && calls.is_empty());
    }

    #[test]
    fn only_the_last_call_of_the_same_connection_blocks_reading() {
        let (conn, other) = (ConnId::new(1, 0), ConnId::new(2, 0));
        let mut calls = ProxyCalls::default();
        for _ in 0..2 {
            calls.next_serial();
            calls.insert(command(conn));
        }
        calls.block_reading(other);
        calls.block_reading(conn);
        assert!(!calls.remove(1).expect("a call").blocks_reading);
        assert!(calls.remove(2).expect("a call").blocks_reading);
        assert!(calls.remove(2).is_none());
    }
}
