//! The server API over gRPC: its methods, the key, the error modes and the bounds.

use std::time::Duration;

use crate::common::grpc::{Channel, channel, origin};
use crate::fake::{KEY, Server, connections, publication, settings_with};
use corecast::api::BATCH_COMMANDS_MAX;
use corecast::api::grpc::api;
use corecast::api::grpc::api::centrifugo_api_client::CentrifugoApiClient;
use corecast::api::grpc::status::Details;
use corecast::api::settings::{API_BODY_BYTES_MAX, GrpcSettings};
use corecast::auth::grant::Publish;
use corecast::messaging::api_call::{ApiCall, PastKey};
use prost::Message;
use tonic::{Code, Request};

/// How long one call may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Peer {
    runtime: tokio::runtime::Runtime,
    client: CentrifugoApiClient<Channel>,
    authorization: Option<String>,
    transport_errors: bool,
}

/// Makes one call and waits for its result.
macro_rules! call {
    ($peer:expr, $method:ident, $request:expr) => {{
        let request = $peer.request($request);
        let response = async { tokio::time::timeout(PATIENCE, $peer.client.$method(request)).await };
        $peer.runtime.block_on(response).expect("a response in time").map(tonic::Response::into_inner)
    }};
}

impl Peer {
    fn of(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = CentrifugoApiClient::with_origin(channel(), origin(server.grpc));
        Self { runtime, client, authorization: Some(format!("apikey {KEY}")), transport_errors: false }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        if self.transport_errors {
            request.metadata_mut().insert("x-centrifugo-error-mode", "transport".parse().unwrap());
        }
        request
    }
}

fn publish(channel: &str, data: &'static [u8]) -> api::PublishRequest {
    api::PublishRequest { channel: channel.into(), data: data.into(), ..Default::default() }
}

#[test]
fn publications_reach_the_shards_with_all_fields() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    let request = api::PublishRequest {
        skip_history: true,
        tags: [("k".into(), "v".into())].into(),
        idempotency_key: "i".into(),
        delta: true,
        version: 3,
        version_epoch: "v".into(),
        ..publish("kept", b"\0\xff")
    };
    let answer = call!(peer, publish, request).unwrap();
    assert_eq!(answer.result, Some(api::PublishResult { offset: 7, epoch: "e".into() }));
    let expected = Publish {
        tags: vec![("k".into(), "v".into())],
        skip_history: true,
        idempotency_key: "i".into(),
        delta: true,
        version: 3,
        version_epoch: "v".into(),
        ..publication(b"\0\xff")
    };
    assert_eq!(server.fake.asked(), [ApiCall::Publish { channel: "kept".into(), publish: expected }]);

    let channels = ["kept", "busy", ""].map(String::from).to_vec();
    let request = api::BroadcastRequest { channels, b64data: "MQ==".into(), ..Default::default() };
    let responses = call!(peer, broadcast, request).unwrap().result.unwrap().responses;
    let codes: Vec<_> = responses.iter().map(|one| one.error.as_ref().map(|error| error.code)).collect();
    assert_eq!(codes, [None, Some(111), Some(107)]);
    assert_eq!(server.fake.published(), [("kept".into(), "1".into())]);
}

#[test]
fn methods_return_the_same_results_as_over_http() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    let of = |channel: &str| channel.to_owned();
    let request = api::SubscribeRequest { channel: of("a"), user: of("u"), ..Default::default() };
    assert!(call!(peer, subscribe, request).unwrap().result.is_some());
    let request = api::UnsubscribeRequest { user: of("u"), ..Default::default() };
    assert!(call!(peer, unsubscribe, request).unwrap().result.is_some());
    let request = api::DisconnectRequest { user: of("u"), ..Default::default() };
    assert!(call!(peer, disconnect, request).unwrap().result.is_some());
    let request = api::RefreshRequest { user: of("u"), expire_at: 5, ..Default::default() };
    assert!(call!(peer, refresh, request).unwrap().result.is_some());
    assert!(call!(peer, history_remove, api::HistoryRemoveRequest { channel: of("a") }).unwrap().result.is_some());
    let asked = server.fake.asked();
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[1], ApiCall::Unsubscribe { connections: connections("u", "", ""), channel: "".into() });

    let presence = call!(peer, presence, api::PresenceRequest { channel: of("a") }).unwrap().result.unwrap().presence;
    assert_eq!((presence["c1"].user.as_str(), &*presence["c2"].chan_info), ("u1", &b"[1]"[..]));
    let stats = call!(peer, presence_stats, api::PresenceStatsRequest { channel: of("a") }).unwrap().result;
    assert_eq!(stats, Some(api::PresenceStatsResult { num_clients: 3, num_users: 2 }));
    let request = api::HistoryRequest { channel: of("binary"), limit: 1, ..Default::default() };
    let history = call!(peer, history, request).unwrap().result.unwrap();
    assert_eq!((history.offset, &*history.publications[0].data), (9, &b"\0\xff"[..]), "bytes that JSON cannot carry");
    let channels = call!(peer, channels, api::ChannelsRequest::default()).unwrap().result.unwrap().channels;
    assert_eq!(channels["b"].num_clients, 2);
    let nodes = call!(peer, info, api::InfoRequest {}).unwrap().result.unwrap().nodes;
    assert_eq!((nodes[0].uid.as_str(), nodes[0].num_subs), ("the-uid", 12));
    server.fake.join_cluster();
    let nodes = call!(peer, info, api::InfoRequest {}).unwrap().result.unwrap().nodes;
    let metrics = nodes[1].metrics.as_ref().expect("it announced some");
    assert_eq!((nodes.len(), metrics.interval, metrics.items["a.b"]), (2, 60.0, 2.5));
    let answer = call!(peer, rpc, api::RpcRequest { method: of("x"), ..Default::default() }).unwrap();
    assert_eq!(answer.error, Some(api::Error { code: 104, message: "not found".into() }));
}

#[test]
fn batch_has_a_reply_for_each_command() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    let one = |channel| api::Command { publish: Some(publish(channel, b"1")), ..Default::default() };
    let info = api::Command { info: Some(api::InfoRequest {}), ..Default::default() };
    for parallel in [false, true] {
        let commands = vec![one("kept"), one("busy"), api::Command::default(), info.clone()];
        let replies = call!(peer, batch, api::BatchRequest { commands, parallel }).unwrap().replies;
        let codes: Vec<_> = replies.iter().map(|one| one.error.as_ref().map(|error| error.code)).collect();
        assert_eq!(codes, [None, Some(111), Some(104), None]);
        assert_eq!(replies[0].publish, Some(api::PublishResult { offset: 7, epoch: "e".into() }));
        assert!(replies[3].info.is_some());
    }
    let commands = vec![api::Command::default(); BATCH_COMMANDS_MAX + 1];
    let refused = call!(peer, batch, api::BatchRequest { commands, parallel: true });
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn history_query_has_a_page_and_a_place_in_batches() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    let tag = Some(api::QueryTag { key: "k".into(), value: "v".into() });
    let request = api::HistoryQueryRequest { tag, time_from: 1, limit: 2, cursor: "c".into(), ..Default::default() };
    let page = call!(peer, history_query, request.clone()).unwrap().result.unwrap();
    let found = &page.publications[0];
    assert_eq!((&*found.channel, found.offset, found.time), ("a", 9, 1_700_000_000_123));
    assert_eq!(page.cursor, "next");
    let command = api::Command { history_query: Some(request), ..Default::default() };
    let batch = api::BatchRequest { commands: vec![command], parallel: false };
    let replies = call!(peer, batch, batch).unwrap().replies;
    assert_eq!(replies[0].history_query, Some(page));
    let asked = server.fake.asked();
    let [ApiCall::HistoryQuery { query }, ApiCall::HistoryQuery { .. }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(query.key, PastKey::Tag { key: "k".into(), value: "v".into() });
    assert_eq!((query.time_from, query.limit, &*query.cursor), (1, 2, "c"));
    let wrong = api::HistoryQueryRequest { limit: 5, ..Default::default() };
    assert_eq!(call!(peer, history_query, wrong).unwrap().error.unwrap().code, 107);
}

#[test]
fn calls_without_the_right_key_are_unauthenticated() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    for wrong in [None, Some("apikey wrong"), Some("secret"), Some("Bearer secret"), Some("apikey")] {
        peer.authorization = wrong.map(str::to_owned);
        assert_eq!(call!(peer, publish, publish("a", b"1")).unwrap_err().code(), Code::Unauthenticated, "{wrong:?}");
    }
    assert!(server.fake.asked().is_empty());
    let unset = Server::start(settings_with(|api| api.grpc = GrpcSettings::default()));
    for sent in [None, Some("apikey "), Some("apikey secret")] {
        let mut peer = Peer { authorization: sent.map(str::to_owned), ..Peer::of(&unset) };
        assert_eq!(call!(peer, publish, publish("a", b"1")).unwrap_err().code(), Code::Unauthenticated, "{sent:?}");
    }
    assert!(unset.fake.asked().is_empty(), "no key is set, as in the HTTP API");
}

#[test]
fn errors_are_statuses_if_requested_or_set() {
    let server = Server::with_key();
    let always = Server::start(settings_with(|api| api.grpc.transport_errors = true));
    let asking = Peer { transport_errors: true, ..Peer::of(&server) };
    for mut peer in [asking, Peer::of(&always)] {
        for (channel, code, number) in [
            ("busy", Code::ResourceExhausted, 111),
            ("silent", Code::Internal, 100),
            ("ns:unknown", Code::NotFound, 102),
            ("off", Code::InvalidArgument, 108),
            ("lost", Code::OutOfRange, 112),
            ("", Code::InvalidArgument, 107),
        ] {
            let status = call!(peer, publish, publish(channel, b"1")).unwrap_err();
            assert_eq!(status.code(), code, "{channel}");
            let details = Details::decode(status.details()).unwrap();
            assert_eq!((details.code, details.message.as_str()), (code as i32, status.message()));
            assert!(details.details[0].type_url.ends_with("/centrifugal.centrifugo.api.Error"));
            assert_eq!(api::Error::decode(&*details.details[0].value).unwrap().code, number);
        }
    }
    let mut peer = Peer::of(&server);
    let answer = call!(peer, publish, publish("busy", b"1")).unwrap();
    assert_eq!(answer.error.map(|error| error.code), Some(111), "part of the answer otherwise");
}

#[test]
fn unsupported_selectors_are_rejected_by_name() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    let request = api::DisconnectRequest { label_filter: Some(Default::default()), ..Default::default() };
    let error = call!(peer, disconnect, request).unwrap().error.unwrap();
    assert!(error.code == 108 && error.message.contains("`label_filter`"), "{error:?}");
    let request = api::RefreshRequest { all_users: true, ..Default::default() };
    let error = call!(peer, refresh, request).unwrap().error.unwrap();
    assert!(error.code == 108 && error.message.contains("`all_users`"), "{error:?}");
    assert!(server.fake.asked().is_empty());
}

#[test]
fn message_past_the_bound_is_rejected() {
    let server = Server::with_key();
    let mut peer = Peer::of(&server);
    let data = vec![b'1'; API_BODY_BYTES_MAX];
    let request = api::PublishRequest { data: data.into(), ..publish("a", b"") };
    assert_eq!(call!(peer, publish, request).unwrap_err().code(), Code::OutOfRange);
    assert!(call!(peer, publish, publish("a", b"1")).is_ok(), "the connection goes on");
}
