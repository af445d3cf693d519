//! Tokens at connect: a rejected connect drops the rest of its frame, and a storm of tokens that are costly to verify.

use crate::common::{Client, Server};

const EC_P256: &str = include_str!("../../src/auth/tests/fixtures/ec_p256.pem");
/// ES256, for the user "a", with a signature of zeros.
const FORGED: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
);
/// HS256 with the secret below, for the user "a", expired.
const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";

fn expired() -> String {
    let key = corecast::auth::sign::SigningKey::secret(corecast::auth::Hash::S256, SECRET);
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
