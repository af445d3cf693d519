//! Messages, client and server of `src/backend/proxy.proto`. @generated: do not edit, run
//! `cargo run --manifest-path tools/proto/Cargo.toml`.

#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Error {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub message: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub temporary: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Disconnect {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BoolValue {
    #[prost(bool, tag = "1")]
    pub value: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ConnectRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "10")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "11")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(string, tag = "12")]
    pub name: ::prost::alloc::string::String,
    #[prost(string, tag = "13")]
    pub version: ::prost::alloc::string::String,
    #[prost(string, repeated, tag = "14")]
    pub channels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectResult {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "4")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "5")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "6")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(string, repeated, tag = "7")]
    pub channels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(btree_map = "string, message", tag = "8")]
    pub subs: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        SubscribeOptions,
    >,
    #[prost(bytes = "vec", tag = "9")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeOptions {
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "3")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "4")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "5")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "6")]
    pub r#override: ::core::option::Option<SubscribeOptionOverride>,
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
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<ConnectResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "11")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshResult {
    #[prost(bool, tag = "1")]
    pub expired: bool,
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "4")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "5")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<RefreshResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "12")]
    pub token: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "13")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
    #[prost(bytes = "vec", tag = "14")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "15")]
    pub b64data: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeResult {
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "3")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "4")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "5")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "6")]
    pub r#override: ::core::option::Option<SubscribeOptionOverride>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<SubscribeResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "12")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "13")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "14")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishResult {
    #[prost(bytes = "vec", tag = "1")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "2")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub skip_history: bool,
    #[prost(btree_map = "string, string", tag = "4")]
    pub tags: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    #[prost(string, tag = "5")]
    pub idempotency_key: ::prost::alloc::string::String,
    #[prost(bool, tag = "6")]
    pub delta: bool,
    #[prost(uint64, tag = "7")]
    pub version: u64,
    #[prost(string, tag = "8")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<PublishResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub method: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "12")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "13")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "14")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcResult {
    #[prost(bytes = "vec", tag = "1")]
    pub data: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "2")]
    pub b64data: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<RpcResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubRefreshRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "vec", tag = "12")]
    pub meta: ::prost::alloc::vec::Vec<u8>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubRefreshResult {
    #[prost(bool, tag = "1")]
    pub expired: bool,
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub info: ::prost::alloc::vec::Vec<u8>,
    #[prost(string, tag = "4")]
    pub b64info: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubRefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<SubRefreshResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
/// Generated client implementations.
pub mod centrifugo_proxy_client {
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
    pub struct CentrifugoProxyClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl<T> CentrifugoProxyClient<T>
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
        ) -> CentrifugoProxyClient<InterceptedService<T, F>>
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
            CentrifugoProxyClient::new(InterceptedService::new(inner, interceptor))
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
        /// Who is the client, and what is it subscribed to?
        pub async fn connect(
            &mut self,
            request: impl tonic::IntoRequest<super::ConnectRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ConnectResponse>,
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.proxy.CentrifugoProxy",
                        "Connect",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// May a connection continue after its expiration?
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Refresh",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.proxy.CentrifugoProxy",
                        "Refresh",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// May the client subscribe to this channel?
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Subscribe",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.proxy.CentrifugoProxy",
                        "Subscribe",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// May the client publish this?
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Publish",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.proxy.CentrifugoProxy",
                        "Publish",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// A call that the application defines.
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.proxy.CentrifugoProxy",
                        "RPC",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// May a subscription continue after its expiration?
        pub async fn sub_refresh(
            &mut self,
            request: impl tonic::IntoRequest<super::SubRefreshRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SubRefreshResponse>,
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubRefresh",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "centrifugal.centrifugo.proxy.CentrifugoProxy",
                        "SubRefresh",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
    }
}
/// Generated server implementations.
pub mod centrifugo_proxy_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with CentrifugoProxyServer.
    #[async_trait]
    pub trait CentrifugoProxy: std::marker::Send + std::marker::Sync + 'static {
        /// Who is the client, and what is it subscribed to?
        async fn connect(
            &self,
            request: tonic::Request<super::ConnectRequest>,
        ) -> std::result::Result<tonic::Response<super::ConnectResponse>, tonic::Status>;
        /// May a connection continue after its expiration?
        async fn refresh(
            &self,
            request: tonic::Request<super::RefreshRequest>,
        ) -> std::result::Result<tonic::Response<super::RefreshResponse>, tonic::Status>;
        /// May the client subscribe to this channel?
        async fn subscribe(
            &self,
            request: tonic::Request<super::SubscribeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SubscribeResponse>,
            tonic::Status,
        >;
        /// May the client publish this?
        async fn publish(
            &self,
            request: tonic::Request<super::PublishRequest>,
        ) -> std::result::Result<tonic::Response<super::PublishResponse>, tonic::Status>;
        /// A call that the application defines.
        async fn rpc(
            &self,
            request: tonic::Request<super::RpcRequest>,
        ) -> std::result::Result<tonic::Response<super::RpcResponse>, tonic::Status>;
        /// May a subscription continue after its expiration?
        async fn sub_refresh(
            &self,
            request: tonic::Request<super::SubRefreshRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SubRefreshResponse>,
            tonic::Status,
        >;
    }
    #[derive(Debug)]
    pub struct CentrifugoProxyServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> CentrifugoProxyServer<T> {
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
    impl<T, B> tonic::codegen::Service<http::Request<B>> for CentrifugoProxyServer<T>
    where
        T: CentrifugoProxy,
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect" => {
                    #[allow(non_camel_case_types)]
                    struct ConnectSvc<T: CentrifugoProxy>(pub Arc<T>);
                    impl<
                        T: CentrifugoProxy,
                    > tonic::server::UnaryService<super::ConnectRequest>
                    for ConnectSvc<T> {
                        type Response = super::ConnectResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ConnectRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoProxy>::connect(&inner, request).await
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
                        let method = ConnectSvc(inner);
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Refresh" => {
                    #[allow(non_camel_case_types)]
                    struct RefreshSvc<T: CentrifugoProxy>(pub Arc<T>);
                    impl<
                        T: CentrifugoProxy,
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
                                <T as CentrifugoProxy>::refresh(&inner, request).await
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Subscribe" => {
                    #[allow(non_camel_case_types)]
                    struct SubscribeSvc<T: CentrifugoProxy>(pub Arc<T>);
                    impl<
                        T: CentrifugoProxy,
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
                                <T as CentrifugoProxy>::subscribe(&inner, request).await
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/Publish" => {
                    #[allow(non_camel_case_types)]
                    struct PublishSvc<T: CentrifugoProxy>(pub Arc<T>);
                    impl<
                        T: CentrifugoProxy,
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
                                <T as CentrifugoProxy>::publish(&inner, request).await
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC" => {
                    #[allow(non_camel_case_types)]
                    struct RPCSvc<T: CentrifugoProxy>(pub Arc<T>);
                    impl<
                        T: CentrifugoProxy,
                    > tonic::server::UnaryService<super::RpcRequest> for RPCSvc<T> {
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
                                <T as CentrifugoProxy>::rpc(&inner, request).await
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
                "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubRefresh" => {
                    #[allow(non_camel_case_types)]
                    struct SubRefreshSvc<T: CentrifugoProxy>(pub Arc<T>);
                    impl<
                        T: CentrifugoProxy,
                    > tonic::server::UnaryService<super::SubRefreshRequest>
                    for SubRefreshSvc<T> {
                        type Response = super::SubRefreshResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::SubRefreshRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as CentrifugoProxy>::sub_refresh(&inner, request).await
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
                        let method = SubRefreshSvc(inner);
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
    impl<T> Clone for CentrifugoProxyServer<T> {
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
    pub const SERVICE_NAME: &str = "centrifugal.centrifugo.proxy.CentrifugoProxy";
    impl<T> tonic::server::NamedService for CentrifugoProxyServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
