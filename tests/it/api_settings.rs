//! Settings of the APIs: their addresses, the name of the node, the keys, the error mode, and the metrics of backend
//! calls.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use crate::common::grpc::{channel, origin};
use crate::common::{Client, KEY, PATIENCE, Server, command, wait_for_exit};
use corecast::api::grpc::api;
use corecast::api::grpc::api::centrifugo_api_client::CentrifugoApiClient;
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

/// Calls `info` over gRPC with this key and returns the result.
fn info(at: SocketAddr, key: Option<&str>) -> Result<api::InfoResult, Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = CentrifugoApiClient::with_origin(channel(), origin(at));
        let mut request = Request::new(api::InfoRequest {});
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("apikey {key}").parse().unwrap());
        }
        let response = tokio::time::timeout(PATIENCE, client.info(request)).await.expect("a response in time");
        Ok(response?.into_inner().result.expect("a result"))
    })
}

fn grpc(server: &Server) -> SocketAddr {
    server.wait_for_log("gRPC API: ").parse().expect("an address")
}

#[test]
fn grpc_api_has_its_own_address_and_key() {
    let server = Server::with(&[
        ("grpc_api.enabled", "true"),
        ("grpc_api.address", "127.0.0.1"),
        ("grpc_api.port", "0"),
        ("grpc_api.key", "of-grpc"),
        ("node.name", "one"),
    ]);
    let _client = Client::connect(&server);
    let at = grpc(&server);
    for wrong in [None, Some(KEY)] {
        assert_eq!(info(at, wrong).unwrap_err().code(), Code::Unauthenticated);
    }
    let node = &info(at, Some("of-grpc")).unwrap().nodes[0];
    assert_eq!((node.name.as_str(), node.num_clients), ("one", 1));
    // Both APIs belong to one process and report the same node.
    let over_http = server.api("info", &json!({}));
    assert_eq!(over_http["result"]["nodes"][0]["name"], "one");
    assert_eq!(over_http["result"]["nodes"][0]["uid"], Value::from(node.uid.as_str()));
}

#[test]
fn grpc_api_without_a_key_rejects_every_call_and_says_so() {
    let mut command = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    command.env("CORECAST_GRPC_API_ENABLED", "true");
    let server = Server::spawn(command, &[("grpc_api.address", "127.0.0.1"), ("grpc_api.port", "0")]);
    let at = grpc(&server);
    for key in [None, Some(""), Some(KEY)] {
        assert_eq!(info(at, key).unwrap_err().code(), Code::Unauthenticated);
    }
    server.wait_for_log("grpc_api.key is not set: the gRPC API will reject every call");
}

#[test]
fn grpc_api_is_served_without_the_http_api() {
    let mut command = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    command.env("CORECAST_GRPC_API_ENABLED", "true").env("CORECAST_HTTP_API_DISABLED", "true");
    command.env("CORECAST_GRPC_API_KEY", "of-grpc");
    let server = Server::spawn(command, &[("grpc_api.address", "127.0.0.1"), ("grpc_api.port", "0")]);
    assert_eq!(info(grpc(&server), Some("of-grpc")).unwrap().nodes.len(), 1);
    // The server does not serve the other API, whatever the key.
    let (status, body) = server.http("POST", "/api/info", &[("X-API-Key", KEY)], "{}");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("http_api.disabled"), "{body}");
    assert_eq!(server.http("GET", "/health", &[], "").0, 200);
}

#[test]
fn error_names_a_used_port_of_the_grpc_api() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.env("CORECAST_GRPC_API_ENABLED", "true").env("CORECAST_GRPC_API_ADDRESS", "127.0.0.1");
    command.env("CORECAST_GRPC_API_PORT", &port).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(wait_for_exit(&mut child).code(), Some(1), "{stderr}");
    assert!(stderr.contains(&port) && stderr.contains("grpc_api.port"), "{stderr}");
}

#[test]
fn errors_are_statuses_if_set() {
    let server = Server::with(&[("http_api.error_mode", "transport")]);
    let (status, body) = server.http("POST", "/api/publish", &[("X-API-Key", KEY)], "{\"channel\":\"\",\"data\":{}}");
    assert_eq!(status, 400, "{body}");
    assert!(body.starts_with("{\"code\":107,"), "{body}");
}

#[test]
fn backend_metrics_are_labelled_with_its_name() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::with(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &format!("http://{unused}/connect")),
    ]);
    let proxy = "proxy=\"client.proxy.connect\"";
    assert_eq!(server.metric("corecast_backend_calls_total", proxy), 0);
    let mut raw = crate::common::Raw::open(&server, "/connection/websocket");
    raw.send(&crate::common::frame(crate::common::TEXT, b"{\"id\":1,\"connect\":{}}"));
    server.wait_for_metric("corecast_backend_failures_total", "reason=\"unreachable\"", |n| n == 1);
    assert_eq!(server.metric("corecast_backend_calls_total", proxy), 1);
    server.wait_for_metric("corecast_backend_questions_failed_total", "", |n| n == 1);
    assert_eq!(server.metric("corecast_backend_in_flight", proxy), 0);
}
