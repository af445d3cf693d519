//! Tokens that are cut, changed, random or deeply nested: they are refused, and nothing panics.

use super::super::keys::PublicKey;
use super::super::{KeySet, TokenSettings, Verifier};
use super::{NOW_S, fixture, hmac_settings, hs256, verifier};

fn verifiers() -> (Verifier, Verifier, KeySet) {
    let rsa = include_str!("fixtures/rsa.pem").into();
    let ec = include_str!("fixtures/ec_p256.pem").into();
    let fixed = TokenSettings { rsa_public_key: rsa, ecdsa_public_key: ec, ..hmac_settings() };
    let fetched = TokenSettings {
        jwks_public_endpoint: "https://{{t}}.example".into(),
        issuer_regex: "(?P<t>a|b)?".into(),
        ..Default::default()
    };
    (verifier(&fixed), verifier(&fetched), KeySet::parse(include_bytes!("fixtures/jwks.json")).unwrap())
}

#[test]
fn token_cut_at_any_byte_is_refused() {
    let (fixed, fetched, set) = verifiers();
    for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
        let token = fixture(alg);
        for end in 0..token.len() {
            assert!(fixed.connect(&token[..end], None, NOW_S).is_err(), "{alg} {end}");
            assert!(fetched.connect(&token[..end], Some(&set), NOW_S).is_err(), "{alg} {end}");
        }
        for start in 1..token.len() {
            assert!(fixed.connect(&token[start..], None, NOW_S).is_err(), "{alg} {start}");
        }
    }
}

#[test]
fn token_with_any_byte_changed_is_refused() {
    let (fixed, _, _) = verifiers();
    let token = fixture("HS256");
    for at in 0..token.len() {
        for byte in [b'A', b'_', b'.', b'=', b' ', b'\n', 0] {
            let mut bytes = token.as_bytes().to_vec();
            if std::mem::replace(&mut bytes[at], byte) == byte {
                continue;
            }
            let changed = String::from_utf8(bytes).unwrap();
            assert!(fixed.connect(&changed, None, NOW_S).is_err(), "{at} {byte}");
        }
    }
    for changed in [format!("{token} "), format!(" {token}"), format!("{token}="), format!("{token}.{token}")] {
        assert!(fixed.connect(&changed, None, NOW_S).is_err());
    }
}

#[test]
fn token_of_random_text_is_refused_without_a_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (fixed, fetched, set) = verifiers();
    let pieces =
        ["eyJ", ".", "..", "é", "\u{0}", "{", "}", "\"alg\":\"HS256\"", "eyJhbGciOiJIUzI1NiJ9", "e30", "A", "==", "-_"];
    for _ in 0..5_000 {
        let token: String = (0..random.usize(..12)).map(|_| pieces[random.usize(..pieces.len())]).collect();
        for verifier in [&fixed, &fetched] {
            assert!(verifier.connect(&token, Some(&set), NOW_S).is_err(), "{token:?}");
            assert!(verifier.subscribe(&token, None, NOW_S).is_err(), "{token:?}");
            verifier.is_costly(&token);
            let _ = verifier.endpoint(&token);
        }
    }
    // Signed, so that the claims are read.
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"sub\"",
        "\"exp\"",
        "\"subs\"",
        "\"aud\"",
        "null",
        "1",
        "-1e999",
        "\\u",
        "\\ud83d",
        "{}",
        "\"override\"",
        "\"b64info\"",
        "é",
    ];
    for _ in 0..20_000 {
        let claims: String = (0..random.usize(..10)).map(|_| pieces[random.usize(..pieces.len())]).collect();
        let _ = fixed.connect(&hs256(&claims), None, NOW_S);
        let _ = fixed.subscribe(&hs256(&claims), None, NOW_S);
    }
}

#[test]
fn token_with_deep_json_never_overflows_the_stack() {
    let (fixed, _, _) = verifiers();
    for depth in [100, 10_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for name in ["info", "meta", "subs", "channels", "aud", "x", "override", "sub"] {
            let _ = fixed.connect(&hs256(&format!(r#"{{"{name}":{deep}}}"#)), None, NOW_S);
            let _ = fixed.subscribe(&hs256(&format!(r#"{{"channel":"c","{name}":{deep}}}"#)), None, NOW_S);
        }
        let _ = fixed.connect(&hs256(&"[".repeat(depth)), None, NOW_S);
        let _ = KeySet::parse(format!(r#"{{"keys":[{deep}]}}"#).as_bytes());
    }
}

#[test]
fn keys_cut_or_changed_anywhere_never_panic() {
    let rsa = include_str!("fixtures/rsa_certificate.pem");
    let ec = include_str!("fixtures/ec_p256_certificate.pem");
    for pem in [rsa, ec] {
        for end in (0..pem.len()).filter(|end| pem.is_char_boundary(*end)) {
            let cut = format!("{}\n-----END CERTIFICATE-----", &pem[..end]);
            let _ = (PublicKey::rsa_pem(&cut), PublicKey::ec_pem(&cut));
            let changed = format!("{}/{}", &pem[..end], &pem[(end + 1).min(pem.len())..]);
            let _ = (PublicKey::rsa_pem(&changed), PublicKey::ec_pem(&changed));
        }
    }
    for length in 0..70 {
        for byte in [0, 1, 0x30, 0x80, 0x83, 0x84, 0xff] {
            let bytes = vec![byte; length];
            assert!(PublicKey::ed25519(&bytes).is_err() || length == 32);
            assert!(PublicKey::rsa_numbers(&bytes, &bytes).is_err());
            let block = format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
                data_encoding::BASE64.encode(&bytes)
            );
            assert!(PublicKey::ec_pem(&block).is_err());
        }
    }
}
