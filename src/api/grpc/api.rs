//! Messages, client and server of `src/api/grpc/api.proto`. @generated: do not edit, run
//! `cargo run --manifest-path tools/proto/Cargo.toml`.

/// One call of a batch: the first field that is set.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Command {
    #[prost(message, optional, tag = "4")]
    pub publish: ::core::option::Option<PublishRequest>,
    #[prost(message, optional, tag = "5")]
    pub broadcast: ::core::option::Option<BroadcastRequest>,
    #[prost(message, optional, tag = "6")]
    pub subscribe: ::core::option::Option<SubscribeRequest>,
    #[prost(message, optional, tag = "7")]
    pub unsubscribe: ::core::option::Option<UnsubscribeRequest>,
    #[prost(message, optional, tag = "8")]
    pub disconnect: ::core::option::Option<DisconnectRequest>,
    #[prost(message, optional, tag = "9")]
    pub presence: ::core::option::Option<PresenceRequest>,
    #[prost(message, optional, tag = "10")]
    pub presence_stats: ::core::option::Option<PresenceStatsRequest>,
    #[prost(message, optional, tag = "11")]
    pub history: ::core::option::Option<HistoryRequest>,
    #[prost(message, optional, tag = "12")]
    pub history_remove: ::core::option::Option<HistoryRemoveRequest>,
    #[prost(message, optional, tag = "13")]
    pub info: ::core::option::Option<InfoRequest>,
    #[prost(message, optional, tag = "14")]
    pub rpc: ::core::option::Option<RpcRequest>,
    #[prost(message, optional, tag = "15")]
    pub refresh: ::core::option::Option<RefreshRequest>,
    #[prost(message, optional, tag = "16")]
    pub channels: ::core::option::Option<ChannelsRequest>,
    #[prost(message, optional, tag = "1901")]
    pub history_query: ::core::option::Option<HistoryQueryRequest>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Error {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub message: ::prost::alloc::string::String,
}
/// The result of a command: an error, or the field of its method.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Reply {
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "4")]
    pub publish: ::core::option::Option<PublishResult>,
    #[prost(message, optional, tag = "5")]
    pub broadcast: ::core::option::Option<BroadcastResult>,
    #[prost(message, optional, tag = "6")]
    pub subscribe: ::core::option::Option<SubscribeResult>,
    #[prost(message, optional, tag = "7")]
    pub unsubscribe: ::core::option::Option<UnsubscribeResult>,
    #[prost(message, optional, tag = "8")]
    pub disconnect: ::core::option::Option<DisconnectResult>,
    #[prost(message, optional, tag = "9")]
    pub presence: ::core::option::Option<PresenceResult>,
    #[prost(message, optional, tag = "10")]
    pub presence_stats: ::core::option::Option<PresenceStatsResult>,
    #[prost(message, optional, tag = "11")]
    pub history: ::core::option::Option<HistoryResult>,
    #[prost(message, optional, tag = "12")]
    pub history_remove: ::core::option::Option<HistoryRemoveResult>,
    #[prost(message, optional, tag = "13")]
    pub info: ::core::option::Option<InfoResult>,
    #[prost(message, optional, tag = "14")]
    pub rpc: ::core::option::Option<RpcResult>,
    #[prost(message, optional, tag = "15")]
    pub refresh: ::core::option::Option<RefreshResult>,
    #[prost(message, optional, tag = "16")]
    pub channels: ::core::option::Option<ChannelsResult>,
    #[prost(message, optional, tag = "1901")]
    pub history_query: ::core::option::Option<HistoryQueryResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchRequest {
    #[prost(message, repeated, tag = "1")]
    pub commands: ::prost::alloc::vec::Vec<Command>,
    /// The commands need not wait for one another.
    #[prost(bool, tag = "2")]
    pub parallel: bool,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchResponse {
    #[prost(message, repeated, tag = "1")]
    pub replies: ::prost::alloc::vec::Vec<Reply>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "3")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bool, tag = "4")]
    pub skip_history: bool,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    #[prost(string, tag = "6")]
    pub idempotency_key: ::prost::alloc::string::String,
    #[prost(bool, tag = "7")]
    pub delta: bool,
    #[prost(uint64, tag = "8")]
    pub version: u64,
    #[prost(string, tag = "9")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PublishResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<PublishResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PublishResult {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BroadcastRequest {
    #[prost(string, repeated, tag = "1")]
    pub channels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "3")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bool, tag = "4")]
    pub skip_history: bool,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    #[prost(string, tag = "6")]
    pub idempotency_key: ::prost::alloc::string::String,
    #[prost(bool, tag = "7")]
    pub delta: bool,
    #[prost(uint64, tag = "8")]
    pub version: u64,
    #[prost(string, tag = "9")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BroadcastResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<BroadcastResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BroadcastResult {
    #[prost(message, repeated, tag = "1")]
    pub responses: ::prost::alloc::vec::Vec<PublishResponse>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
    #[prost(int64, tag = "3")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "5")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(string, tag = "6")]
    pub client: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "7")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "8")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "9")]
    pub recover_since: ::core::option::Option<StreamPosition>,
    #[prost(message, optional, tag = "10")]
    pub r#override: ::core::option::Option<SubscribeOptionOverride>,
    #[prost(string, tag = "11")]
    pub session: ::prost::alloc::string::String,
    /// Here and below: a message in other servers. This server rejects a call that sets it.
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub label_filter: ::core::option::Option<::prost::bytes::Bytes>,
    /// Here and below: this server rejects a call that sets it.
    #[prost(bool, tag = "13")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<SubscribeResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeResult {}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BoolValue {
    #[prost(bool, tag = "1")]
    pub value: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeOptionOverride {
    #[prost(message, optional, tag = "1")]
    pub presence: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "2")]
    pub join_leave: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "3")]
    pub force_recovery: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "4")]
    pub force_positioning: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "5")]
    pub force_push_join_leave: ::core::option::Option<BoolValue>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnsubscribeRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub session: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub label_filter: ::core::option::Option<::prost::bytes::Bytes>,
    #[prost(bool, tag = "6")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnsubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<UnsubscribeResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnsubscribeResult {}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Disconnect {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisconnectRequest {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "2")]
    pub disconnect: ::core::option::Option<Disconnect>,
    #[prost(string, tag = "3")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, repeated, tag = "4")]
    pub whitelist: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(string, tag = "5")]
    pub session: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub label_filter: ::core::option::Option<::prost::bytes::Bytes>,
    #[prost(bool, tag = "7")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisconnectResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<DisconnectResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisconnectResult {}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshRequest {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub client: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub expired: bool,
    #[prost(int64, tag = "4")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "6")]
    pub session: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub label_filter: ::core::option::Option<::prost::bytes::Bytes>,
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<RefreshResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshResult {}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ClientInfo {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub client: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "3")]
    pub conn_info: ::prost::bytes::Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub chan_info: ::prost::bytes::Bytes,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<PresenceResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ClientInfo,
    >,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceStatsRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceStatsResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<PresenceStatsResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceStatsResult {
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StreamPosition {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(int32, tag = "2")]
    pub limit: i32,
    #[prost(message, optional, tag = "3")]
    pub since: ::core::option::Option<StreamPosition>,
    #[prost(bool, tag = "4")]
    pub reverse: bool,
    /// Publications from the first time on and before the second, in milliseconds since 1970; 0 is no bound. Only this server
    /// has these fields.
    #[prost(uint64, tag = "1901")]
    pub time_from: u64,
    #[prost(uint64, tag = "1902")]
    pub time_to: u64,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<HistoryResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryResult {
    #[prost(message, repeated, tag = "1")]
    pub publications: ::prost::alloc::vec::Vec<Publication>,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Publication {
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(message, optional, tag = "3")]
    pub info: ::core::option::Option<ClientInfo>,
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// Milliseconds since 1970: if the namespace sends it (`publication_time`), or the request names a time. Only this server
    /// has it.
    #[prost(uint64, tag = "1901")]
    pub time: u64,
}
/// Publications of the past across channels: of a user, with a tag, or of one channel.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryQueryRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    /// Channels of this namespace; without it, of every namespace that has the index.
    #[prost(string, tag = "2")]
    pub namespace: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub user: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "4")]
    pub tag: ::core::option::Option<QueryTag>,
    #[prost(uint64, tag = "5")]
    pub time_from: u64,
    #[prost(uint64, tag = "6")]
    pub time_to: u64,
    /// 0 is 100; at most 1000.
    #[prost(int32, tag = "7")]
    pub limit: i32,
    #[prost(bool, tag = "8")]
    pub reverse: bool,
    /// From the page before.
    #[prost(string, tag = "9")]
    pub cursor: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct QueryTag {
    #[prost(string, tag = "1")]
    pub key: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub value: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryQueryResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<HistoryQueryResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryQueryResult {
    #[prost(message, repeated, tag = "1")]
    pub publications: ::prost::alloc::vec::Vec<ChannelPublication>,
    /// Where the next page begins; empty after the last one.
    #[prost(string, tag = "2")]
    pub cursor: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ChannelPublication {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(message, optional, tag = "3")]
    pub info: ::core::option::Option<ClientInfo>,
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    #[prost(uint64, tag = "6")]
    pub time: u64,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRemoveRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRemoveResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<HistoryRemoveResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRemoveResult {}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ChannelsRequest {
    #[prost(string, tag = "1")]
    pub pattern: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ChannelsResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<ChannelsResult>,
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct InfoRequest {}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<InfoResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InfoResult {
    #[prost(message, repeated, tag = "1")]
    pub nodes: ::prost::alloc::vec::Vec<NodeResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NodeResult {
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
    #[prost(uint32, tag = "7")]
    pub uptime: u32,
    #[prost(message, optional, tag = "8")]
    pub metrics: ::core::option::Option<Metrics>,
    #[prost(uint32, tag = "10")]
    pub num_subs: u32,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Metrics {
    #[prost(double, tag = "1")]
    pub interval: f64,
    #[prost(btree_map = "string, double", tag = "2")]
    pub items: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        f64,
    >,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcRequest {
    #[prost(string, tag = "1")]
    pub method: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "2")]
    pub params: ::prost::bytes::Bytes,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<RpcResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: ::prost::bytes::Bytes,
}
/// Generated client implementations.
pub mod centrifugo_api_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    #[derive(Debug, Clone)]
    pub struct CentrifugoApiClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl<T> CentrifugoApiClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> CentrifugoApiClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            CentrifugoApiClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        pub async fn batch(
            &mut self,
            request: impl tonic::IntoRequest<super::BatchRequest>,
        ) -> std::result::Result<tonic::Response<super::BatchResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Batch",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("centrifugal.centrifugo.api.CentrifugoApi", "Batch"),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn publish(
            &mut self,
            request: impl tonic::IntoRequest<super::PublishRequest>,
        ) -> std::result::Result<
            tonic::Response<super::PublishResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Publish",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Publish",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn broadcast(
            &mut self,
            request: impl tonic::IntoRequest<super::BroadcastRequest>,
        ) -> std::result::Result<
            tonic::Response<super::BroadcastResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Broadcast",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Broadcast",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn subscribe(
            &mut self,
            request: impl tonic::IntoRequest<super::SubscribeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SubscribeResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Subscribe",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Subscribe",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn unsubscribe(
            &mut self,
            request: impl tonic::IntoRequest<super::UnsubscribeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UnsubscribeResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Unsubscribe",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Unsubscribe",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn disconnect(
            &mut self,
            request: impl tonic::IntoRequest<super::DisconnectRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DisconnectResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Disconnect",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Disconnect",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn presence(
            &mut self,
            request: impl tonic::IntoRequest<super::PresenceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::PresenceResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Presence",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Presence",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn presence_stats(
            &mut self,
            request: impl tonic::IntoRequest<super::PresenceStatsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::PresenceStatsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/PresenceStats",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "PresenceStats",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn history(
            &mut self,
            request: impl tonic::IntoRequest<super::HistoryRequest>,
        ) -> std::result::Result<
            tonic::Response<super::HistoryResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/History",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "History",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn history_remove(
            &mut self,
            request: impl tonic::IntoRequest<super::HistoryRemoveRequest>,
        ) -> std::result::Result<
            tonic::Response<super::HistoryRemoveResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/HistoryRemove",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "HistoryRemove",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn info(
            &mut self,
            request: impl tonic::IntoRequest<super::InfoRequest>,
        ) -> std::result::Result<tonic::Response<super::InfoResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Info",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("centrifugal.centrifugo.api.CentrifugoApi", "Info"),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn rpc(
            &mut self,
            request: impl tonic::IntoRequest<super::RpcRequest>,
        ) -> std::result::Result<tonic::Response<super::RpcResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/RPC",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("centrifugal.centrifugo.api.CentrifugoApi", "RPC"),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn refresh(
            &mut self,
            request: impl tonic::IntoRequest<super::RefreshRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RefreshResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Refresh",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Refresh",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn channels(
            &mut self,
            request: impl tonic::IntoRequest<super::ChannelsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ChannelsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/Channels",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "Channels",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Only this server has it.
        pub async fn history_query(
            &mut self,
            request: impl tonic::IntoRequest<super::HistoryQueryRequest>,
        ) -> std::result::Result<
            tonic::Response<super::HistoryQueryResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/centrifugal.centrifugo.api.CentrifugoApi/HistoryQuery",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.api.CentrifugoApi",
                        "HistoryQuery",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
    }
}
/// Generated server implementations.
pub mod centrifugo_api_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with CentrifugoApiServer.
    #[async_trait]
    pub trait CentrifugoApi: std::marker::Send + std::marker::Sync + 'static {
        async fn batch(
            &self,
            request: tonic::Request<super::BatchRequest>,
        ) -> std::result::Result<tonic::Response<super::BatchResponse>, tonic::Status>;
        async fn publish(
            &self,
            request: tonic::Request<super::PublishRequest>,
        ) -> std::result::Result<tonic::Response<super::PublishResponse>, tonic::Status>;
        async fn broadcast(
            &self,
            request: tonic::Request<super::BroadcastRequest>,
        ) -> std::result::Result<
            tonic::Response<super::BroadcastResponse>,
            tonic::Status,
        >;
        async fn subscribe(
            &self,
            request: tonic::Request<super::SubscribeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SubscribeResponse>,
            tonic::Status,
        >;
        async fn unsubscribe(
            &self,
            request: tonic::Request<super::UnsubscribeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UnsubscribeResponse>,
            tonic::Status,
        >;
        async fn disconnect(
            &self,
            request: tonic::Request<super::DisconnectRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DisconnectResponse>,
            tonic::Status,
        >;
        async fn presence(
            &self,
            request: tonic::Request<super::PresenceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::PresenceResponse>,
            tonic::Status,
        >;
        async fn presence_stats(
            &self,
            request: tonic::Request<super::PresenceStatsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::PresenceStatsResponse>,
            tonic::Status,
        >;
        async fn history(
            &self,
            request: tonic::Request<super::HistoryRequest>,
        ) -> std::result::Result<tonic::Response<super::HistoryResponse>, tonic::Status>;
        async fn history_remove(
            &self,
            request: tonic::Request<super::HistoryRemoveRequest>,
        ) -> std::result::Result<
            tonic::Response<super::HistoryRemoveResponse>,
            tonic::Status,
        >;
        async fn info(
            &self,
            request: tonic::Request<super::InfoRequest>,
        ) -> std::result::Result<tonic::Response<super::InfoResponse>, tonic::Status>;
        async fn rpc(
            &self,
            request: tonic::Request<super::RpcRequest>,
        ) -> std::result::Result<tonic::Response<super::RpcResponse>, tonic::Status>;
        async fn refresh(
            &self,
            request: tonic::Request<super::RefreshRequest>,
        ) -> std::result::Result<tonic::Response<super::RefreshResponse>, tonic::Status>;
        async fn channels(
            &self,
            request: tonic::Request<super::ChannelsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ChannelsResponse>,
            tonic::Status,
        >;
        /// Only this server has it.
        async fn history_query(
            &self,
            request: tonic::Request<super::HistoryQueryRequest>,
        ) -> std::result::Result<
            tonic::Response<super::HistoryQueryResponse>,
            tonic::Status,
        >;
    }
    #[derive(Debug)]
    pub struct CentrifugoApiServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> CentrifugoApiServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for CentrifugoApiServer<T>
    where
        T: CentrifugoApi,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/centrifugal.centrifugo.api.CentrifugoApi/Batch" => {
                    #[allow(non_camel_case_types)]
                    struct BatchSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::BatchRequest> for BatchSvc<T> {
                        type Response = super::BatchResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::BatchRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::batch(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = BatchSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Publish" => {
                    #[allow(non_camel_case_types)]
                    struct PublishSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::PublishRequest>
                    for PublishSvc<T> {
                        type Response = super::PublishResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::PublishRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::publish(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = PublishSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Broadcast" => {
                    #[allow(non_camel_case_types)]
                    struct BroadcastSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::BroadcastRequest>
                    for BroadcastSvc<T> {
                        type Response = super::BroadcastResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::BroadcastRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::broadcast(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = BroadcastSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Subscribe" => {
                    #[allow(non_camel_case_types)]
                    struct SubscribeSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::SubscribeRequest>
                    for SubscribeSvc<T> {
                        type Response = super::SubscribeResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::SubscribeRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::subscribe(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = SubscribeSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Unsubscribe" => {
                    #[allow(non_camel_case_types)]
                    struct UnsubscribeSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::UnsubscribeRequest>
                    for UnsubscribeSvc<T> {
                        type Response = super::UnsubscribeResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::UnsubscribeRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::unsubscribe(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = UnsubscribeSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Disconnect" => {
                    #[allow(non_camel_case_types)]
                    struct DisconnectSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::DisconnectRequest>
                    for DisconnectSvc<T> {
                        type Response = super::DisconnectResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::DisconnectRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::disconnect(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = DisconnectSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Presence" => {
                    #[allow(non_camel_case_types)]
                    struct PresenceSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::PresenceRequest>
                    for PresenceSvc<T> {
                        type Response = super::PresenceResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::PresenceRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::presence(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = PresenceSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/PresenceStats" => {
                    #[allow(non_camel_case_types)]
                    struct PresenceStatsSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::PresenceStatsRequest>
                    for PresenceStatsSvc<T> {
                        type Response = super::PresenceStatsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::PresenceStatsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::presence_stats(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = PresenceStatsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/History" => {
                    #[allow(non_camel_case_types)]
                    struct HistorySvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::HistoryRequest>
                    for HistorySvc<T> {
                        type Response = super::HistoryResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::HistoryRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::history(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = HistorySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/HistoryRemove" => {
                    #[allow(non_camel_case_types)]
                    struct HistoryRemoveSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::HistoryRemoveRequest>
                    for HistoryRemoveSvc<T> {
                        type Response = super::HistoryRemoveResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::HistoryRemoveRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::history_remove(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = HistoryRemoveSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Info" => {
                    #[allow(non_camel_case_types)]
                    struct InfoSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::InfoRequest> for InfoSvc<T> {
                        type Response = super::InfoResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::InfoRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::info(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = InfoSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/RPC" => {
                    #[allow(non_camel_case_types)]
                    struct RPCSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<T: CentrifugoApi> tonic::server::UnaryService<super::RpcRequest>
                    for RPCSvc<T> {
                        type Response = super::RpcResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::RpcRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::rpc(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = RPCSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Refresh" => {
                    #[allow(non_camel_case_types)]
                    struct RefreshSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::RefreshRequest>
                    for RefreshSvc<T> {
                        type Response = super::RefreshResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::RefreshRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::refresh(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = RefreshSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/Channels" => {
                    #[allow(non_camel_case_types)]
                    struct ChannelsSvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::ChannelsRequest>
                    for ChannelsSvc<T> {
                        type Response = super::ChannelsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ChannelsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::channels(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ChannelsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/centrifugal.centrifugo.api.CentrifugoApi/HistoryQuery" => {
                    #[allow(non_camel_case_types)]
                    struct HistoryQuerySvc<T: CentrifugoApi>(pub Arc<T>);
                    impl<
                        T: CentrifugoApi,
                    > tonic::server::UnaryService<super::HistoryQueryRequest>
                    for HistoryQuerySvc<T> {
                        type Response = super::HistoryQueryResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::HistoryQueryRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoApi>::history_query(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = HistoryQuerySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for CentrifugoApiServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "centrifugal.centrifugo.api.CentrifugoApi";
    impl<T> tonic::server::NamedService for CentrifugoApiServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
