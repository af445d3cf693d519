//! One subscription with its group, to read.

use std::rc::Rc;

use super::types::{State, SubscriberGroup, Subscription, SubscriptionFlags, TurnShare};
use crate::ids::{ConnId, GroupId};
use crate::slow_policy::SlowConsumerPolicy;

/// One subscription with its group, to read.
pub(crate) struct SubscriptionRef<'a, D> {
    pub(super) subscription: &'a Subscription<D>,
    pub(super) group: &'a SubscriberGroup,
}

impl<'a, D> SubscriptionRef<'a, D> {
    pub(crate) fn conn(&self) -> ConnId {
        self.subscription.conn
    }

    pub(crate) fn channel(&self) -> &'a Rc<str> {
        &self.group.channel
    }

    pub(crate) fn flags(&self) -> SubscriptionFlags {
        self.subscription.flags
    }

    pub(crate) fn detail(&self) -> Option<&'a D> {
        self.subscription.detail.as_deref()
    }

    pub(crate) fn group_id(&self) -> GroupId {
        self.subscription.group.with(self.group.generation)
    }

    pub(crate) fn slow_policy(&self) -> SlowConsumerPolicy {
        self.group.slow_policy
    }

    /// True while it waits for the home shard's answer.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.subscription.state, State::Pending | State::Recovering)
    }

    /// True while it waits for what it missed.
    pub(crate) fn is_recovering(&self) -> bool {
        self.subscription.state == State::Recovering
    }

    /// True if its publications come as deltas.
    pub(crate) fn is_delta(&self) -> bool {
        self.group.wire_format.delta
    }

    /// What the turn has for the subscription. A caller that ends a subscription sends this first.
    pub(crate) fn turn_share(&self) -> TurnShare<'a> {
        let (turn, latest) = (&self.group.turn, self.group.latest());
        match self.subscription.state {
            State::Member => TurnShare { frames: turn, latest },
            State::Joining => {
                let from = self.subscription.index as usize;
                TurnShare { frames: &turn[from..], latest: latest.and_then(|at| at.checked_sub(from)) }
            }
            State::Pending | State::Recovering | State::AwaitingBase | State::Left => TurnShare::default(),
        }
    }
}
