//! What connections do: one file per scenario, and the parts of the fan-out family.

pub mod api_publisher;
pub mod background_fanout;
pub mod delivery_check;
pub mod delivery_times;
pub mod echo;
pub mod fanout;
pub mod fanout_plan;
pub mod idle;
pub mod in_flight;
pub mod node_figures;
pub mod payload;
pub mod publisher;
pub mod reconnect;
pub mod slow_readers;
pub mod storm;
pub mod storm_setup;
pub mod subscriptions;
