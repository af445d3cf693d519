//! A key set that cannot be fetched is no reason to refuse a token for good: SDKs must come back. Made-up key ids do not
//! keep out the clients of a key that was published a moment ago.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};

use crate::common::web::{Answer, Web, now_s};
use crate::common::{Client, PATIENCE, Server, until, ws};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use corecast::auth::Alg;
use corecast::auth::sign::SigningKey;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

const INVALID_TOKEN: u16 = 3500;
const INTERNAL_ERROR: u16 = 3004;

/// An Ed25519 key with its id.
struct Key {
    kid: &'static str,
    signing: SigningKey,
    jwk: Value,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("its own form");
        let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let label = "PRIVATE KEY-----";
        let pem = format!("-----BEGIN {label}\n{}\n-----END {label}\n", BASE64.encode(der.as_ref()));
        let signing = SigningKey::pem(Alg::EdDsa, &pem).expect("PKCS#8");
        Self { kid, signing, jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "use": "sig"}) }
    }

    fn token(&self, claims: &Value) -> String {
        self.signing.sign(&claims.to_string(), Some(self.kid)).expect("the key signs")
    }

    fn of_user(&self) -> String {
        self.token(&json!({"sub": "ann"}))
    }

    fn of_channel(&self, exp: u64) -> String {
        self.token(&json!({"sub": "ann", "channel": "room", "exp": exp}))
    }
}

/// An endpoint that publishes these keys, or is away.
#[derive(Clone, Default)]
struct Keys(Arc<Mutex<Option<Vec<Value>>>>);

/// The key set of a moment, as a response.
fn response(keys: Option<Vec<Value>>) -> Answer {
    keys.map(|keys| (200, json!({ "keys": keys }).to_string()))
}

impl Keys {
    fn publish(&self, keys: &[&Key]) {
        *self.lock() = Some(keys.iter().map(|key| key.jwk.clone()).collect());
    }

    fn take_away(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Value>>> {
        self.0.lock().expect("never poisoned: no code panics while holding the lock")
    }

    fn serve(&self) -> Web {
        let keys = self.clone();
        Web::start(move |_, _| response(keys.lock().clone()))
    }
}

fn server(endpoint: &Web) -> Server {
    Server::with(&[
        ("client.insecure", "false"),
        ("client.allow_anonymous_connect_without_token", "false"),
        ("uni_websocket.enabled", "true"),
        ("client.token.jwks_public_endpoint", &endpoint.url),
    ])
}

fn connect(server: &Server, token: &str) -> Client {
    let mut client = Client::fresh(server);
    client.send(json!({"connect": {"token": token}}));
    client
}

fn connected(server: &Server, token: &str) -> Client {
    let mut client = connect(server, token);
    let reply = client.next();
    assert!(reply["connect"].is_object(), "{reply}");
    client
}

#[track_caller]
fn is_temporary(client: &mut Client) {
    let reply = client.next();
    assert_eq!((&reply["error"]["code"], &reply["error"]["temporary"]), (&json!(100), &json!(true)), "{reply}");
}

#[test]
fn good_tokens_get_a_temporary_error_while_the_key_set_is_away() {
    let (old, new, keys) = (Key::new("old"), Key::new("new"), Keys::default());
    keys.publish(&[&old]);
    let endpoint = keys.serve();
    let server = server(&endpoint);
    let later = now_s() + 1000;
    let mut refreshing = connected(&server, &old.of_user());
    let mut subscribing = connected(&server, &old.of_user());
    let mut sub_refreshing = connected(&server, &old.of_user());
    let subscribe = |key: &Key| json!({"subscribe": {"channel": "room", "token": key.of_channel(later)}});
    assert_eq!(sub_refreshing.ask(subscribe(&old))["subscribe"]["expires"], true);
    keys.take_away();

    let refresh = json!({"refresh": {"token": new.of_user()}});
    let sub_refresh = json!({"sub_refresh": {"channel": "room", "token": new.of_channel(later + 1000)}});
    refreshing.send(refresh.clone());
    subscribing.send(subscribe(&new));
    sub_refreshing.send(sub_refresh.clone());
    let mut connecting = connect(&server, &new.of_user());
    let query = format!("/connection/uni_websocket?cf_connect=%7B%22token%22:%22{}%22%7D", new.of_user());
    let mut uni = Client::over(ws(&server, &query));
    for client in [&mut refreshing, &mut subscribing, &mut sub_refreshing, &mut connecting] {
        is_temporary(client);
    }
    assert_eq!(uni.closed().0, INTERNAL_ERROR, "SDKs reconnect");
    connected(&server, &old.of_user());

    keys.publish(&[&old, &new]);
    refreshing.send(refresh);
    subscribing.send(subscribe(&new));
    sub_refreshing.send(sub_refresh);
    connected(&server, &new.of_user());
    for (client, command) in
        [(&mut refreshing, "refresh"), (&mut subscribing, "subscribe"), (&mut sub_refreshing, "sub_refresh")]
    {
        let reply = client.next();
        assert!(reply[command].is_object(), "{command}: {reply}");
    }
}

#[test]
fn connect_before_the_first_key_set_is_told_to_try_again() {
    let (key, keys) = (Key::new("only"), Keys::default());
    let server = server(&keys.serve());
    is_temporary(&mut connect(&server, &key.of_user()));
    keys.publish(&[&key]);
    let connects = || connect(&server, &key.of_user()).next()["connect"].is_object().then_some(());
    until(|| "the token is not accepted".into(), connects);
}

#[test]
fn key_that_is_published_during_a_fetch_is_accepted() {
    let (old, new, keys) = (Key::new("old"), Key::new("new"), Keys::default());
    keys.publish(&[&old]);
    // Every fetch answers with the keys of its beginning; the second one takes until the test goes on.
    let (begun, second_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (published, may_go_on, fetches) = (keys.clone(), Mutex::new(may_go_on), AtomicUsize::new(0));
    let endpoint = Web::start(move |_, _| {
        let snapshot = published.lock().clone();
        if fetches.fetch_add(1, Relaxed) == 1 {
            let _ = begun.send(());
            let _ = may_go_on.lock().expect("one fetch waits").recv_timeout(PATIENCE);
        }
        response(snapshot)
    });
    let server = server(&endpoint);
    connected(&server, &old.of_user());
    let questions = server.metric("corecast_backend_questions_total", "");
    let _made_up = connect(&server, &old.signing.sign(r#"{"sub":"ann"}"#, Some("made-up")).expect("it signs"));
    second_begun.recv_timeout(PATIENCE).expect("the set is fetched again");
    keys.publish(&[&old, &new]);
    let mut waiting = connect(&server, &new.of_user());
    server.wait_for_metric("corecast_backend_questions_total", "", |n| n == questions + 2);
    go_on.send(()).expect("the fetch waits");
    let reply = waiting.next();
    // On a slow machine the fetch may have run into its timeout.
    assert!(reply["connect"].is_object() || reply["error"]["temporary"] == true, "{reply}");
    connected(&server, &new.of_user());
}

#[test]
fn sighup_fetches_the_key_set_so_that_a_withdrawn_key_ends() {
    let (old, new, keys) = (Key::new("old"), Key::new("new"), Keys::default());
    keys.publish(&[&old, &new]);
    let endpoint = keys.serve();
    let server = server(&endpoint);
    connected(&server, &old.of_user());
    keys.publish(&[&new]);
    server.signal(rustix::process::Signal::HUP);
    until(
        || "the old key stays".into(),
        || {
            let mut client = connect(&server, &old.of_user());
            match client.ws.read() {
                Ok(tungstenite::Message::Close(Some(close))) => Some(u16::from(close.code)),
                _ => None,
            }
        },
    );
    connected(&server, &new.of_user());
}

#[test]
fn made_up_key_ids_are_refused_and_do_not_keep_out_a_new_key() {
    let (old, new, keys) = (Key::new("old"), Key::new("new"), Keys::default());
    keys.publish(&[&old]);
    let endpoint = keys.serve();
    let server = server(&endpoint);
    connected(&server, &old.of_user());
    keys.publish(&[&new]);
    let made_up = |n: usize| old.signing.sign(r#"{"sub":"ann"}"#, Some(&format!("made-up-{n}"))).expect("it signs");
    let mut flood: Vec<_> = (0..300).map(|n| connect(&server, &made_up(n))).collect();
    connected(&server, &new.of_user());
    for client in &mut flood {
        assert_eq!(client.closed().0, INVALID_TOKEN, "the set was fetched after the token had arrived");
    }
    assert_eq!(connect(&server, &old.of_user()).closed().0, INVALID_TOKEN, "its key was withdrawn");
    assert!(endpoint.count("/") < 10, "{} fetches", endpoint.count("/"));
}

#[test]
fn key_set_without_keys_ends_its_keys_and_refuses_no_token_for_good() {
    let (key, keys) = (Key::new("one"), Keys::default());
    keys.publish(&[]);
    let endpoint = keys.serve();
    let server = server(&endpoint);
    is_temporary(&mut connect(&server, &key.of_user()));
    keys.publish(&[&key]);
    connected(&server, &key.of_user());
}
