//! Key sets over a real socket: delivered at startup, fetched again when a token names an unknown key, kept when the
//! endpoint fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::backend::{Reply, Server, backend, call, until, unused_address};
use corecast::backend::call::{Answer, Fetched, Question};
use corecast::backend::jwks::{KEY_SET_BYTES_MAX, KeySetFetcher, KeySettings, key_set};
use corecast::backend::{ProxySettings, SetupError};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

type Delivered = Arc<Mutex<Vec<Value>>>;

/// Starts the fetches of the endpoint; returns their handle and the key sets that the shards have got.
fn start(url: &str) -> (KeySetFetcher, Delivered) {
    let settings = KeySettings {
        endpoint: url.into(),
        fetch_interval_min: Duration::from_millis(5),
        timeout: crate::common::PATIENCE,
        ..KeySettings::default()
    };
    let delivered = Delivered::default();
    let parse = |bytes: &[u8]| match serde_json::from_slice::<Value>(bytes) {
        Ok(set) if set["keys"].is_array() => Ok(set),
        Ok(_) => Err("no `keys`".to_string()),
        Err(error) => Err(error.to_string()),
    };
    let sink = Arc::clone(&delivered);
    let (fetcher, fetches) =
        key_set(settings, parse, move |set| sink.lock().unwrap().extend(set)).expect("a good endpoint");
    tokio::spawn(fetches);
    (fetcher, delivered)
}

fn take_delivered(delivered: &Delivered) -> Vec<Value> {
    std::mem::take(&mut delivered.lock().unwrap())
}

fn set(kid: &str) -> Value {
    json!({"keys": [{"kid": kid, "kty": "OKP"}]})
}

#[tokio::test]
async fn rotated_key_reaches_the_shards_before_the_caller() {
    let response = Arc::new(Mutex::new((StatusCode::OK, set("old").to_string())));
    let current = Arc::clone(&response);
    let server = Server::start(move |_, _| {
        let response = current.lock().unwrap().clone();
        async move { response }
    })
    .await;
    let (fetcher, shards) = start(&format!("{}/keys", server.url));
    until("the first set", || !shards.lock().unwrap().is_empty()).await;
    assert_eq!(take_delivered(&shards), [set("old")]);
    let seen = server.seen().remove(0);
    assert_eq!((seen.method, seen.path.as_str()), (Method::GET, "/keys"));

    let backend = backend(&server.url, ProxySettings::default()).with_keys(Some(fetcher), None);
    let ask = |subscription| backend.ask(call(Question::Keys { subscription }));
    *response.lock().unwrap() = (StatusCode::OK, set("new").to_string());
    assert_eq!(ask(false).await, Answer::Keys(Fetched::AfterCall));
    assert_eq!(take_delivered(&shards), [set("new")]);
    assert_eq!(ask(true).await, Answer::Failed, "there is no key set for subscriptions");

    assert_eq!(ask(false).await, Answer::Keys(Fetched::AfterCall), "the fetch is over, with or without the key");
    assert_eq!(take_delivered(&shards), [] as [Value; 0], "the key set did not change");

    for bad in [
        (StatusCode::INTERNAL_SERVER_ERROR, set("evil").to_string()),
        (StatusCode::OK, "{}".into()),
        (StatusCode::OK, "<html>".into()),
        (StatusCode::OK, " ".repeat(KEY_SET_BYTES_MAX + 1)),
    ] {
        *response.lock().unwrap() = bad;
        assert_eq!(ask(false).await, Answer::Failed);
        assert_eq!(take_delivered(&shards), [] as [Value; 0], "the keys are kept");
    }
    *response.lock().unwrap() = (StatusCode::OK, set("third").to_string());
    assert_eq!(ask(false).await, Answer::Keys(Fetched::AfterCall));
    assert_eq!(take_delivered(&shards), [set("third")]);
}

#[tokio::test]
async fn unreachable_endpoint_is_a_failure_and_is_retried() {
    let (fetcher, shards) = start(&unused_address().await);
    assert_eq!(fetcher.refetch().await, None);
    assert_eq!(fetcher.refetch().await, None);
    assert_eq!(take_delivered(&shards), [] as [Value; 0]);
}

#[tokio::test]
async fn redirect_of_a_key_set_is_a_failure_and_its_target_gets_no_request() {
    let target = Server::responding(&set("of-another-address").to_string()).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/keys", target.url);
        let redirecting = Server::start(move |_, _| {
            let reply = Reply::redirect(StatusCode::from_u16(status).unwrap(), location.clone());
            async move { reply }
        })
        .await;
        let (fetcher, shards) = start(&redirecting.url);
        assert_eq!(fetcher.refetch().await, None, "{status}");
        assert_eq!((take_delivered(&shards), target.seen().len()), (vec![], 0), "{status}");
    }
}

#[tokio::test]
async fn endpoint_templates_are_rejected() {
    let settings = |endpoint: &str| KeySettings { endpoint: endpoint.into(), ..KeySettings::default() };
    let parse = |_: &[u8]| Ok::<_, String>(());
    let refused = |endpoint| key_set(settings(endpoint), parse, |_| {}).err();
    assert_eq!(refused("keys.json"), Some(SetupError::Endpoint { name: "jwks".into() }));
    assert_eq!(refused("file:///keys.json"), Some(SetupError::Scheme { name: "jwks".into() }));
    let template = refused("https://keys.example/{{tenant}}").unwrap();
    assert_eq!(template.to_string(), "jwks: `{{…}}` in an endpoint is not supported, give a plain URL");
}
