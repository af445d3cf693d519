//! Channels and subscribers, without sockets, clocks or threads: the caller passes the time and sends the results.
//!
//! A channel has one home shard, which orders its publications and keeps its history and its presence. Every shard keeps
//! its own subscribers.
//!
//! The home shard's side:
//! - `placement`: which shard is a channel's home
//! - `home_channels`: the channels of a home shard, with `channel`, `publish`, `resend` and `lifecycle`
//! - `history`, `presence`, `idempotency`: what a channel keeps
//! - `epoch`, `epochs`: an epoch's text; the epoch of a name, also while no channel has it
//! - `shared`: channels that a broker orders
//! - `copy`: what the process that takes over gets
//! - `retention`, `shares`, `name_index`: which channel expires next, which gives way, and channels by name
//!
//! The subscribers' side:
//! - `subscribers`: the subscriptions of a shard, grouped by channel and wire format
//!
//! Both sides: `publication`, `position`, `time`, `wire_format`.

mod channel;
mod copy;
mod epoch;
mod epochs;
mod history;
mod home_channels;
#[cfg(test)]
mod home_channels_tests;
mod idempotency;
mod lifecycle;
#[cfg(test)]
mod model_tests;
mod name_index;
mod placement;
mod position;
mod presence;
mod publication;
mod publish;
mod resend;
mod retention;
mod shared;
mod shares;
mod subscribers;
mod time;
mod wire_format;

pub use epoch::Epoch;
pub use history::{HistoryFilter, HistoryOptions, Since};
pub use placement::Placement;
pub use position::{ChannelTop, DeliveryPosition, LostDeliveries, Position};
pub use publication::PublicationRecord;
pub use time::{RecordTime, TimeRange};
pub use wire_format::WireFormat;

pub(crate) use channel::InterestedShard;
pub(crate) use copy::ChannelCopy;
pub(crate) use epoch::EpochText;
pub(crate) use history::{HistorySlice, Recovery, RecoveryMode, RecoveryRequest};
pub(crate) use home_channels::HomeChannels;
pub(crate) use idempotency::KnownKey;
pub(crate) use publication::{Delivery, Publication, PublishOptions, count_within};
pub(crate) use publish::PublishOutcome;
pub(crate) use resend::ResendStep;
pub(crate) use shared::BrokerHistory;
pub(crate) use subscribers::{
    Activation, AddedSubscription, DeltaBase, NewSubscription, PendingBroadcast, Subscribers, SubscriptionFlags,
    SubscriptionList, TurnOutput,
};
