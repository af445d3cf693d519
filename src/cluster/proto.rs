//! Messages, client and server of `src/cluster/control.proto`. @generated: do not edit, run
//! `cargo run --manifest-path tools/proto/Cargo.toml`.

/// One message: the sender, and the first of the other fields that is set.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Command {
    #[prost(string, tag = "1")]
    pub uid: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "4")]
    pub node: ::core::option::Option<Node>,
    #[prost(message, optional, tag = "5")]
    pub unsubscribe: ::core::option::Option<Unsubscribe>,
    #[prost(message, optional, tag = "6")]
    pub disconnect: ::core::option::Option<Disconnect>,
    #[prost(message, optional, tag = "7")]
    pub shutdown: ::core::option::Option<Shutdown>,
    #[prost(message, optional, tag = "8")]
    pub survey_request: ::core::option::Option<SurveyRequest>,
    #[prost(message, optional, tag = "9")]
    pub survey_response: ::core::option::Option<SurveyResponse>,
    #[prost(message, optional, tag = "10")]
    pub subscribe: ::core::option::Option<Subscribe>,
    #[prost(message, optional, tag = "11")]
    pub notification: ::core::option::Option<Notification>,
    #[prost(message, optional, tag = "12")]
    pub refresh: ::core::option::Option<Refresh>,
}
/// A server announces itself.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub uid: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub name: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub version: ::prost::alloc::string::String,
    #[prost(uint32, tag = "4")]
    pub num_clients: u32,
    #[prost(uint32, tag = "5")]
    pub num_users: u32,
    #[prost(uint32, tag = "6")]
    pub num_channels: u32,
    /// Seconds.
    #[prost(uint32, tag = "7")]
    pub uptime: u32,
    /// Not in every announcement; receivers keep the last ones.
    #[prost(message, optional, tag = "8")]
    pub metrics: ::core::option::Option<Metrics>,
    #[prost(bytes = "vec", tag = "9")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(uint32, tag = "10")]
    pub num_subs: u32,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Metrics {
    /// Seconds.
    #[prost(double, tag = "1")]
    pub interval: f64,
    #[prost(btree_map = "string, double", tag = "2")]
    pub items: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        f64,
    >,
}
/// The sender leaves the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Shutdown {}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Subscribe {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub emit_presence: bool,
    #[prost(bool, tag = "4")]
    pub emit_join_leave: bool,
    #[prost(int64, tag = "5")]
    pub expire_at: i64,
    #[prost(bool, tag = "6")]
    pub position: bool,
    #[prost(bool, tag = "7")]
    pub recover: bool,
    #[prost(bytes = "vec", tag = "8")]
    pub channel_info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "9")]
    pub client: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "10")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(message, optional, tag = "11")]
    pub recover_since: ::core::option::Option<StreamPosition>,
    #[prost(string, tag = "12")]
    pub session: ::prost::alloc::string::String,
    #[prost(bool, tag = "13")]
    pub push_join_leave: bool,
    #[prost(uint32, tag = "14")]
    pub source: u32,
    /// Read only to find out whether there is one.
    #[prost(bytes = "vec", optional, tag = "15")]
    pub label_filter: ::core::option::Option<::prost::alloc::vec::Vec<u8>>,
    #[prost(bool, tag = "16")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StreamPosition {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Unsubscribe {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub session: ::prost::alloc::string::String,
    #[prost(uint32, tag = "5")]
    pub code: u32,
    #[prost(string, tag = "6")]
    pub reason: ::prost::alloc::string::String,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub label_filter: ::core::option::Option<::prost::alloc::vec::Vec<u8>>,
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Disconnect {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, repeated, tag = "2")]
    pub whitelist: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(uint32, tag = "3")]
    pub code: u32,
    #[prost(string, tag = "4")]
    pub reason: ::prost::alloc::string::String,
    #[prost(bool, tag = "5")]
    pub reconnect: bool,
    #[prost(string, tag = "6")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "7")]
    pub session: ::prost::alloc::string::String,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub label_filter: ::core::option::Option<::prost::alloc::vec::Vec<u8>>,
    #[prost(bool, tag = "9")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Refresh {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub client: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub expired: bool,
    #[prost(int64, tag = "4")]
    pub expire_at: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "6")]
    pub session: ::prost::alloc::string::String,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub label_filter: ::core::option::Option<::prost::alloc::vec::Vec<u8>>,
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}
/// A question to one server or all; each answers with its id.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SurveyRequest {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub op: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "3")]
    pub data: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SurveyResponse {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// 0, or why there is no answer.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub data: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Notification {
    #[prost(string, tag = "1")]
    pub op: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "2")]
    pub data: ::prost::alloc::vec::Vec<u8>,
}
/// The question and the answer of the survey `channels`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ChannelsRequest {
    #[prost(string, tag = "1")]
    pub pattern: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ChannelsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub channels: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ChannelInfo,
    >,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ChannelInfo {
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
}
