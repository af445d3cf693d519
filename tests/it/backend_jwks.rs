//! Key sets over a real socket: told at the start, told anew when a token names an unknown key, kept when the endpoint fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::backend::{Server, backend, call, nobody, until};
use corecast::backend::call::{Answer, Question};
use corecast::backend::jwks::{KEY_SET_BYTES_MAX, KeySetFetcher, KeySettings, key_set};
use corecast::backend::{ProxySettings, SetupError};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

type Told = Arc<Mutex<Vec<Value>>>;

/// A desk for the endpoint, and what its shards were told so far.
fn start(url: &str) -> (KeySetFetcher, Told) {
    let settings = KeySettings {
        endpoint: url.into(),
        fetch_interval_min: Duration::from_millis(5),
        timeout: crate::common::PATIENCE,
        ..KeySettings::default()
    };
    let told = Told::default();
    let parse = |bytes: &[u8]| match serde_json::from_slice::<Value>(bytes) {
        Ok(set) if set["keys"].is_array() => Ok(set),
        Ok(_) => Err("no `keys`".to_string()),
        Err(error) => Err(error.to_string()),
    };
    let tell = Arc::clone(&told);
    let (desk, keeper) = key_set(settings, parse, move |set| tell.lock().unwrap().push(set)).expect("a good endpoint");
    tokio::spawn(keeper);
    (desk, told)
}

fn told(told: &Told) -> Vec<Value> {
    std::mem::take(&mut told.lock().unwrap())
}

fn set(kid: &str) -> Value {
    json!({"keys": [{"kid": kid, "kty": "OKP"}]})
}

#[tokio::test]
async fn rotated_key_reaches_the_shards_before_the_caller() {
    let said = Arc::new(Mutex::new((StatusCode::OK, set("old").to_string())));
    let says = Arc::clone(&said);
    let server = Server::start(move |_, _| {
        let said = says.lock().unwrap().clone();
        async move { said }
    })
    .await;
    let (desk, shards) = start(&format!("{}/keys", server.url));
    until("the first set", || !shards.lock().unwrap().is_empty()).await;
    assert_eq!(told(&shards), [set("old")]);
    let seen = server.seen().remove(0);
    assert_eq!((seen.method, seen.path.as_str()), (Method::GET, "/keys"));

    let backend = backend(&server.url, ProxySettings::default()).with_keys(Some(desk), None);
    let ask = |subscription| backend.ask(call(Question::Keys { subscription, kid: "new".into() }));
    *said.lock().unwrap() = (StatusCode::OK, set("new").to_string());
    assert_eq!(ask(false).await, Answer::Keys);
    assert_eq!(told(&shards), [set("new")]);
    assert_eq!(ask(true).await, Answer::Failed, "there is no key set for subscriptions");

    assert_eq!(ask(false).await, Answer::Keys, "whether or not the key is there now");
    assert_eq!(told(&shards), [] as [Value; 0], "nothing is new");

    for bad in [
        (StatusCode::INTERNAL_SERVER_ERROR, set("evil").to_string()),
        (StatusCode::OK, "{}".into()),
        (StatusCode::OK, "<html>".into()),
        (StatusCode::OK, " ".repeat(KEY_SET_BYTES_MAX + 1)),
    ] {
        *said.lock().unwrap() = bad;
        assert_eq!(ask(false).await, Answer::Failed);
        assert_eq!(told(&shards), [] as [Value; 0], "the keys stay");
    }
    *said.lock().unwrap() = (StatusCode::OK, set("third").to_string());
    assert_eq!(ask(false).await, Answer::Keys);
    assert_eq!(told(&shards), [set("third")]);
}

#[tokio::test]
async fn unreachable_endpoint_is_a_failure_and_is_retried() {
    let (desk, shards) = start(&nobody().await);
    assert!(!desk.refetch().await);
    assert!(!desk.refetch().await);
    assert_eq!(told(&shards), [] as [Value; 0]);
}

#[tokio::test]
async fn endpoint_templates_are_rejected() {
    let settings = |endpoint: &str| KeySettings { endpoint: endpoint.into(), ..KeySettings::default() };
    let parse = |_: &[u8]| Ok::<_, String>(());
    let refused = |endpoint| key_set(settings(endpoint), parse, |()| {}).err();
    assert_eq!(refused("keys.json"), Some(SetupError::Endpoint { name: "jwks".into() }));
    assert_eq!(refused("file:///keys.json"), Some(SetupError::Scheme { name: "jwks".into() }));
    let template = refused("https://keys.example/{{tenant}}").unwrap();
    assert_eq!(template.to_string(), "jwks: `{{…}}` in an endpoint is not supported, give a plain URL");
}
