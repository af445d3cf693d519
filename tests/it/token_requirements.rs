//! Tokens at connect: a rejected connect drops the rest of its frame, and a storm of tokens that are costly to verify.

use corecast::auth::sign::SigningKey;
use corecast::auth::{Alg, Hash};
use rustix::process::Signal;

use crate::common::raw::upgrade_request;
use crate::common::{Client, Raw, Server, TEXT, frame};

const EC_P256: &str = include_str!("../../src/auth/tests/fixtures/ec_p256.pem");
/// ES256, for the user "a", with a signature of zeros.
const FORGED: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
);
/// HS256 with the secret below, for the user "a", expired.
const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";

fn expired() -> String {
    let key = SigningKey::secret(Hash::S256, SECRET);
    key.sign(r#"{"sub":"a","exp":1000}"#, None).expect("an HMAC key signs")
}

#[test]
fn commands_after_a_connect_with_an_expired_token_are_dropped_and_the_connection_stays_open() {
    let server = Server::with(&[("client.insecure", "false"), ("client.token.hmac_secret_key", SECRET)]);
    let mut client = Client::fresh(&server);
    let token = expired();
    client.send_text(format!(
        "{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"x\"}}}}"
    ));
    let reply = client.next();
    assert_eq!((reply["id"].as_u64(), reply["error"]["code"].as_u64()), (Some(1), Some(109)), "{reply}");
    // A code from 3500 would stop the SDK from reconnecting with a fresh token.
    let (code, _) = client.closed();
    assert_eq!(code, 3000);
}

#[test]
fn all_tokens_of_a_connect_storm_are_verified() {
    let server = Server::with(&[("client.insecure", "false"), ("client.token.ecdsa_public_key", EC_P256)]);
    let mut clients: Vec<_> = (0..100).map(|_| Client::fresh(&server)).collect();
    for client in &mut clients {
        client.send_text(format!("{{\"id\":1,\"connect\":{{\"token\":\"{FORGED}\"}}}}"));
    }
    for mut client in clients {
        assert_eq!(client.closed(), (3500, "invalid token".into()));
    }
}

#[test]
fn unidirectional_connects_of_a_storm_wait_for_their_signatures() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a pair");
    let settings = [
        ("client.insecure", "false"),
        ("client.token.ecdsa_public_key", &pair.public_key_pem()),
        ("uni_websocket.enabled", "true"),
    ];
    let server = Server::with(&settings);
    let alg = Alg::Es(Hash::S256);
    let key = SigningKey::pem(alg, &pair.serialize_pem()).expect("a private key on P-256");
    let connects = (0..300).map(|user| {
        format!("{{\"token\":\"{}\"}}", key.sign(&format!("{{\"sub\":\"{user}\"}}"), None).expect("it signs"))
    });
    let connects: Vec<_> = connects.collect();
    let (by_url, by_message) = connects.split_at(connects.len() / 2);
    const PATH: &str = "/connection/uni_websocket";
    let mut clients: Vec<_> = by_message.iter().map(|_| Raw::open(&server, PATH)).collect();
    // All of them reach the server at once, when it runs again.
    server.signal(Signal::STOP);
    for (client, connect) in clients.iter_mut().zip(by_message) {
        client.send(&frame(TEXT, connect.as_bytes()));
    }
    for connect in by_url {
        let mut client = Raw::connect(&server);
        let connect = connect.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        client.send(upgrade_request(&format!("{PATH}?cf_connect={connect}")).as_bytes());
        clients.push(client);
    }
    server.signal(Signal::CONT);
    clients[by_message.len()..].iter_mut().for_each(Raw::take_upgrade);
    for client in &mut clients {
        let push = client.frame();
        let text = String::from_utf8_lossy(&push.payload);
        assert!(push.opcode == TEXT && text.contains("\"connect\""), "{}: {text}", push.opcode);
    }
}
