//! A shard's own subscriptions, grouped by channel and wire format, and their deliveries of a turn.
//!
//! The connections of a group's members are in one dense vector of slots. The engine shares the vector while a broadcast
//! is under way; until it ends, nothing enters or leaves the vector: leaving members are marked, and joining subscriptions
//! note from where on the turn buffer is theirs. A subscription is live from the moment the home shard's answer is handled,
//! in the order of the deliveries: it gets no gap and no duplicate. A subscription that recovers waits for an answer of its
//! own, in the same order.
//!
//! ```text
//! Pending ────home's answer────► Joining ──end of turn──► Member
//! Recovering ──its own answer──►    │
//!     └── with deltas, without a base ──► AwaitingBase ──first whole publication──► Joining
//! Joining, Member ── with deltas, a publication was dropped ──► AwaitingBase
//! any ── unsubscribed ──► Left (while a vector or list still names it) ──► freed
//! ```
//!
//! Invariants: `member_slots[i]` is the connection's slot of `members[i]`; a member's `index` is its place there; `count` is
//! the number of subscriptions of the group that did not leave; a group with `count` 0 does not exist; members of a
//! filtered group never get a broadcast.
//!
//! - `types`: subscriptions, groups, and what goes in and out
//! - `table`: all of them, and how they are found; `subscription_ref`: one of them, to read
//! - `join`, `deliver`, `leave`: the life of a subscription

mod deliver;
mod join;
mod leave;
mod subscription_ref;
mod table;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use table::Subscribers;
pub(crate) use types::{
    Activation, AddedSubscription, DeltaBase, NewSubscription, PendingBroadcast, SubscriptionFlags, SubscriptionList,
    TurnOutput,
};
