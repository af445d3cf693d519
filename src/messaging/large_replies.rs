//! Large replies: what they cost, and those that wait until they are paid for (`reply_payment`).
//!
//! Invariants: `asked` is the sum of what was reserved for replies that are not encoded yet; no shard has produced the reply of a
//! request in `waiting`.

use std::collections::VecDeque;

use super::mail::{HistoryAnswer, LargeRequest, Mail, RecoverRequest, Reserved};
use crate::engine::Millis;
use crate::protocol::Encoding;
use crate::pubsub::PublicationRecord;

/// Bytes of a reply that needs no payment.
pub(crate) const SMALL_REPLY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the publications that one connect may recover; past it the other subscriptions are not recovered.
pub(crate) const CONNECT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of replies to encode in one turn. The one that passes it is the last of the turn; the next one waits, with the mail
/// behind it.
const TURN_BYTES_MAX: usize = 512 * 1024;
/// Bytes that a publication or a client takes in a reply besides what it consists of.
const ENTRY_BYTES: usize = 160;

#[derive(Default)]
pub(crate) struct LargeReplies {
    /// Oldest first.
    pub(super) waiting: VecDeque<Box<LargeRequest>>,
    /// Histories that have arrived and are not encoded. Nothing in the mail depends on their order.
    pub(super) histories: VecDeque<HistoryAnswer>,
    pub(super) asked: usize,
    /// The reply that the next turn handles, since this one has encoded its bytes.
    pub(super) put_off: Option<Mail>,
    /// There was no memory: when to try again.
    pub(super) retry_at: Option<Millis>,
    /// The turn of `turn_bytes`.
    turn: u64,
    turn_bytes: usize,
}

/// At home: a request to recover, and how large its answer may be.
pub(crate) struct PaidRecovery {
    pub request: RecoverRequest,
    pub bytes_max: usize,
    pub reserved: Reserved,
    /// It is answered without publications.
    pub is_refused: bool,
}

impl LargeReplies {
    /// Counts bytes that were encoded in this turn.
    pub(super) fn encoded(&mut self, turn: u64, bytes: usize) {
        let before = if self.turn == turn { self.turn_bytes } else { 0 };
        (self.turn, self.turn_bytes) = (turn, before + bytes);
    }

    /// No further reply is encoded in this turn.
    pub(super) fn is_turn_spent(&self, turn: u64) -> bool {
        self.turn == turn && self.turn_bytes >= TURN_BYTES_MAX
    }

    /// When there is work, if nothing else happens before: encoding, or reserving memory again.
    pub(super) fn next_sweep(&self) -> Option<Millis> {
        if self.histories.is_empty() { self.retry_at.filter(|_| !self.waiting.is_empty()) } else { Some(0) }
    }

    /// Replies that were paid for and are not encoded take a quarter of a mailbox, so that other mail is not long behind them. One
    /// is always allowed.
    pub(super) fn may_ask(&self, bytes: usize, mail_bytes_max: usize) -> bool {
        self.asked == 0 || self.asked + bytes <= mail_bytes_max / 4
    }
}

/// What a reply with these publications takes, at most about.
pub(crate) fn records_bytes<'a>(records: impl Iterator<Item = &'a PublicationRecord>, encoding: Encoding) -> usize {
    let bytes = |record: &PublicationRecord| {
        let base64 = if record.is_json || encoding == Encoding::Protobuf { 0 } else { record.data.len().div_ceil(2) };
        let info = record.client_info.as_ref().map_or(0, bytes::Bytes::len);
        ENTRY_BYTES + record.data.len() + base64 + info + record.tags.len()
    };
    records.map(bytes).sum()
}

/// What a presence reply takes, at most about.
pub(crate) fn presence_bytes(clients: u32, info_bytes: usize) -> usize {
    info_bytes + clients as usize * ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_under_way_take_a_quarter_of_a_mailbox_and_one_is_always_allowed() {
        let mut replies = LargeReplies::default();
        assert!(replies.may_ask(5_000, 1_000));
        replies.asked = 600;
        assert!(replies.may_ask(400, 4_000) && !replies.may_ask(401, 4_000));
    }

    #[test]
    fn turn_is_spent_by_the_reply_that_passes_its_bytes_and_the_next_turn_is_not() {
        let mut replies = LargeReplies::default();
        replies.encoded(7, TURN_BYTES_MAX - 1);
        assert!(!replies.is_turn_spent(7));
        replies.encoded(7, 1);
        assert!(replies.is_turn_spent(7) && !replies.is_turn_spent(8));
        replies.encoded(8, 1);
        assert!(!replies.is_turn_spent(8));
    }
}
