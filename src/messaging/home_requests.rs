//! Requests to home shards that are not answered yet: the credit of each home shard, and the waiting subscribes.

use std::collections::HashMap;
use std::rc::Rc;

use super::large_replies::SMALL_REPLY_BYTES_MAX;
use super::session::Session;
use super::subscribe_reply::SubscribeReply;
use crate::ids::{ShardId, SubscriptionKey};
use crate::protocol::Filter;

/// What requested a subscription, which says how its client learns that it is live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Requester {
    /// A command with this id: by a reply.
    Command(u32),
    /// The connect command: in its reply.
    Connect,
    /// The server: by a push.
    Server,
}

/// A subscription whose home shard has not answered.
pub(crate) struct PendingSubscribe {
    pub requester: Requester,
    pub reply: SubscribeReply,
    pub reject_unrecovered: bool,
    /// The offset from which it recovers.
    pub since_offset: u64,
    /// A command of the connection waits behind it, and the connection is not read.
    pub blocks_reading: bool,
    pub channel: Rc<str>,
}

pub(crate) struct HomeRequests {
    /// By home shard.
    unanswered: Vec<u32>,
    subscribes: HashMap<SubscriptionKey, PendingSubscribe>,
}

impl HomeRequests {
    pub(super) fn new(shards: usize) -> Self {
        Self { unanswered: vec![0; shards], subscribes: HashMap::new() }
    }

    /// Requests to one home are bounded, so that it can always queue the answers.
    pub(super) fn has_credit(&self, home: ShardId, max: u32) -> bool {
        self.unanswered[home.index()] < max
    }

    /// Whether a request may be answered at once by a small reply: all such replies fit the mailbox.
    pub(super) fn has_room_for_reply(&self, home: ShardId, mail_bytes_max: usize) -> bool {
        self.has_credit(home, (mail_bytes_max / SMALL_REPLY_BYTES_MAX) as u32)
    }

    pub(super) fn sent(&mut self, home: ShardId) {
        self.unanswered[home.index()] += 1;
    }

    pub(super) fn answered(&mut self, home: ShardId) {
        self.unanswered[home.index()] -= 1;
    }

    pub(super) fn begin_subscribe(&mut self, session: &mut Session, sub: SubscriptionKey, pending: PendingSubscribe) {
        session.pending_subscribes += 1;
        self.subscribes.insert(sub, pending);
    }

    /// Ends the wait, whether by the answer or by the end of the subscription.
    pub(super) fn end_subscribe(&mut self, session: &mut Session, sub: SubscriptionKey) -> Option<PendingSubscribe> {
        let pending = self.subscribes.remove(&sub)?;
        session.pending_subscribes -= 1;
        Some(pending)
    }

    /// What requested a subscription that waits; `None` for one that does not wait.
    pub(super) fn requester(&self, sub: SubscriptionKey) -> Option<Requester> {
        Some(self.subscribes.get(&sub)?.requester)
    }

    /// The tag filter of a subscription that waits.
    pub(super) fn filter(&self, sub: SubscriptionKey) -> Option<&Filter> {
        self.subscribes.get(&sub)?.reply.filter.as_ref()
    }

    /// A subscription that waits goes live also if its position cannot be recovered.
    pub(super) fn accept_unrecovered(&mut self, sub: SubscriptionKey) {
        if let Some(pending) = self.subscribes.get_mut(&sub) {
            pending.reject_unrecovered = false;
        }
    }

    /// The connection is not read until this subscribe is answered.
    pub(super) fn block_reading(&mut self, sub: SubscriptionKey) {
        if let Some(pending) = self.subscribes.get_mut(&sub) {
            pending.blocks_reading = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::session::{Phase, Transport};
    use crate::protocol::Encoding;

    #[test]
    fn home_shard_has_credit_up_to_the_bound_of_unanswered_requests() {
        let mut requests = HomeRequests::new(2);
        requests.sent(ShardId(1));
        assert!(!requests.has_credit(ShardId(1), 1) && requests.has_credit(ShardId(0), 1));
        requests.answered(ShardId(1));
        assert!(requests.has_credit(ShardId(1), 1));
    }

    #[test]
    fn session_counts_its_pending_subscribes() {
        let mut session = Session::new(Encoding::Json, Phase::Connected, Transport::WebSocket);
        let (mut requests, sub) = (HomeRequests::new(1), SubscriptionKey::new(9));
        let pending = PendingSubscribe {
            requester: Requester::Command(1),
            reply: SubscribeReply::default(),
            reject_unrecovered: false,
            since_offset: 0,
            blocks_reading: false,
            channel: "a".into(),
        };
        requests.begin_subscribe(&mut session, sub, pending);
        requests.block_reading(sub);
        assert!(!session.is_settled());
        assert!(requests.end_subscribe(&mut session, sub).expect("it waits").blocks_reading);
        assert!(session.is_settled() && requests.end_subscribe(&mut session, sub).is_none());
    }
}
