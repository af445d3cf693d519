//! What connections do: one file per scenario, and the parts that several of them share.

pub mod abuse;
pub mod api_publisher;
pub mod background_fanout;
pub mod delivery_check;
pub mod echo;
pub mod fanout;
pub mod idle;
pub mod in_flight;
pub mod members;
pub mod payload;
pub mod publisher;
pub mod reconnecting_subscriber;
pub mod restart_publisher;
pub mod sink_check;
pub mod slow_readers;
pub mod storm;
pub mod storm_setup;
