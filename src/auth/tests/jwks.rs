//! Key sets: entries that are used or skipped, documents that are refused, and URLs that are filled from claims.

use super::super::jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};
use super::super::sign::SigningKey;
use super::super::{Hash, InvalidKeySet, InvalidToken, KeySet, TokenError, TokenSettings};
use super::{NOW_S, SECRET, fixture, verifier};

const ED25519_KID: &str = "ed";
const ED25519_SET: &str = r#"{"keys":[{"kid":"ed","use":"sig","kty":"OKP","crv":"Ed25519",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const KEYS: &str = include_str!("fixtures/jwks.json");

fn settings() -> TokenSettings {
    TokenSettings { jwks_public_endpoint: "https://keys.example/jwks.json".into(), ..Default::default() }
}

#[test]
fn key_set_verifies_tokens_of_every_public_algorithm() {
    let (verifier, set) = (verifier(&settings()), KeySet::parse(KEYS.as_bytes()).unwrap());
    assert_eq!(set.len(), 5);
    for alg in ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"] {
        let grant = verifier.connect(fixture(alg), Some(&set), NOW_S).unwrap();
        assert_eq!((grant.user.as_str(), grant.info.as_slice()), ("42", br#"{"name":"Ada"}"#.as_slice()), "{alg}");
        assert!(verifier.is_costly(fixture(alg)), "{alg}");
    }
    let refused = verifier.connect(fixture("PS256"), Some(&set), NOW_S);
    assert_eq!(refused, Err(TokenError::Invalid(InvalidToken::Algorithm)));
    assert!(!verifier.is_costly(fixture("PS256")));
}

#[test]
fn key_set_without_the_key_asks_for_it_and_a_token_without_a_key_id_is_refused() {
    let (verifier, set) = (verifier(&settings()), KeySet::parse(ED25519_SET.as_bytes()).unwrap());
    let unknown = Err(TokenError::UnknownKey { kid: "rsa2048".into() });
    assert_eq!(verifier.connect(fixture("RS256"), None, NOW_S), unknown);
    assert_eq!(verifier.connect(fixture("RS256"), Some(&set), NOW_S), unknown);
    let shared = SigningKey::secret(Hash::S256, SECRET);
    let hmac = shared.sign("{}", Some("ed")).unwrap();
    assert_eq!(
        verifier.connect(&hmac, Some(&set), NOW_S),
        Err(InvalidToken::NoKey.into()),
        "a JWKS has no shared secrets"
    );
    let nameless = shared.sign_as(r#"{"alg":"RS256"}"#, "{}").unwrap();
    assert_eq!(verifier.connect(&nameless, Some(&set), NOW_S), Err(InvalidToken::NoKeyId.into()));
    let wrong = shared.sign_as(r#"{"alg":"RS256","kid":"ed"}"#, "{}").unwrap();
    assert_eq!(verifier.connect(&wrong, Some(&set), NOW_S), Err(InvalidToken::KeyKind.into()));
    let forged = shared.sign_as(r#"{"alg":"EdDSA","kid":"ed"}"#, "{}").unwrap();
    assert_eq!(verifier.connect(&forged, Some(&set), NOW_S), Err(InvalidToken::Signature.into()));
}

#[test]
fn keys_in_the_settings_are_ignored_with_a_key_set() {
    let verifier = verifier(&TokenSettings { hmac_secret_key: SECRET.into(), ..settings() });
    assert_eq!(verifier.connect(&super::hs256("{}"), None, NOW_S), Err(InvalidToken::NoKey.into()));
}

#[test]
fn key_set_entry_that_names_its_algorithm_verifies_no_other() {
    let other = KEYS.replacen(r#""kid": "rsa2048""#, r#""alg": "RS512", "kid": "rsa2048""#, 1);
    let (verifier, set) = (verifier(&settings()), KeySet::parse(other.as_bytes()).unwrap());
    assert_eq!(verifier.connect(fixture("RS256"), Some(&set), NOW_S), Err(InvalidToken::KeyKind.into()));
    assert!(verifier.connect(fixture("RS512"), Some(&set), NOW_S).is_ok());
}

#[test]
fn key_set_entries_that_cannot_verify_are_skipped() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    for skipped in [
        "null".to_owned(),
        "7".to_owned(),
        "{}".to_owned(),
        r#"{"kid":"a","use":"sig","kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
        format!(r#"{{"use":"sig","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"","use":"sig","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","use":"enc","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","use":"sig","kty":"OKP","crv":"X25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","use":"sig","kty":"OKP","crv":"Ed25519","x":"{}"}}"#, &x[..10]),
        format!(r#"{{"kid":"a","use":"sig","kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#),
        format!(r#"{{"kid":"a","use":"sig","kty":"EC","crv":"secp256k1","x":"{x}","y":"{x}"}}"#),
        format!(r#"{{"kid":"a","use":"sig","kty":"RSA","n":"{x}","e":"AQAB"}}"#),
        r#"{"kid":"a","use":"sig","kty":"RSA","n":"","e":""}"#.to_owned(),
        format!(r#"{{"kid":"a","use":"sig","kty":"RSA","alg":"PS256","n":"{}","e":"AQAB"}}"#, "x".repeat(344)),
    ] {
        let document = ED25519_SET.replacen('[', &format!("[{skipped},"), 1);
        let set = KeySet::parse(document.as_bytes()).unwrap();
        assert!(set.len() == 1 && set.has(ED25519_KID), "{skipped}");
    }
}

#[test]
fn key_set_documents_are_bounded_and_must_have_a_list_of_keys() {
    for document in ["", "{}", "[]", "null", r#"{"keys":{}}"#, r#"{"keys":[}"#, r#"{"keys":null}"#] {
        assert_eq!(KeySet::parse(document.as_bytes()).unwrap_err(), InvalidKeySet::NotJwks, "{document}");
    }
    let many = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(JWKS_KEYS_MAX));
    assert_eq!(KeySet::parse(many.as_bytes()).unwrap_err(), InvalidKeySet::TooManyKeys);
    assert_eq!(KeySet::parse(&vec![b' '; JWKS_BYTES_MAX + 1]).unwrap_err(), InvalidKeySet::TooLong);
    assert!(KeySet::parse(br#"{"keys":[],"more":1}"#).unwrap().is_empty());
    for end in 0..KEYS.trim_end().len() {
        assert!(KeySet::parse(&KEYS.as_bytes()[..end]).is_err());
    }
}

#[test]
fn key_set_url_is_filled_from_matching_claims() {
    let settings = TokenSettings {
        jwks_public_endpoint: "https://keys.example/{{tenant}}/{{realm}}.json".into(),
        issuer_regex: r"^https://(?P<tenant>one|two\.three)\.example$".into(),
        audience_regex: r"^(?<realm>chat|game_1)-app$".into(),
        ..Default::default()
    };
    let verifier = verifier(&settings);
    let token = |claims: &str| super::hs256(claims);
    let endpoint = |claims: &str| verifier.endpoint(&token(claims)).map(|url| url.unwrap().into_owned());
    assert_eq!(
        endpoint(r#"{"iss":"https://two.three.example","aud":["x","game_1-app","chat-app"]}"#).unwrap(),
        "https://keys.example/two.three/game_1.json"
    );
    assert_eq!(endpoint(r#"{"iss":"https://evil.example","aud":"chat-app"}"#), Err(InvalidToken::Issuer.into()));
    assert_eq!(endpoint(r#"{"iss":"https://one.example"}"#), Err(InvalidToken::Audience.into()));
    assert_eq!(endpoint(r#"{"iss":"https://one.example","aud":7}"#), Err(InvalidToken::Claims.into()));
    assert_eq!(verifier.endpoint("x"), Err(InvalidToken::Form.into()));
}

#[test]
fn key_set_url_takes_only_groups_of_fixed_values() {
    let fault = |url: &str, issuer: &str, audience: &str| {
        let settings = TokenSettings {
            jwks_public_endpoint: url.into(),
            issuer_regex: issuer.into(),
            audience_regex: audience.into(),
            ..Default::default()
        };
        super::super::Verifier::new(&settings).err().map(|fault| fault.setting)
    };
    let url = "https://{{t}}.example";
    assert_eq!(fault(url, "(?P<t>a|b)", ""), None);
    assert_eq!(fault(url, "", "(?<t>a|b-c_D9|)"), None);
    assert_eq!(fault(url, "", ""), Some("jwks_public_endpoint"));
    assert_eq!(fault(url, "(?P<u>a|b)", ""), Some("jwks_public_endpoint"));
    for pattern in ["(?P<t>.*)", "(?P<t>a.c)", "(?P<t>[ab])", r"(?P<t>\w)", "(?P<t>a+)", "(?P<t>a/..)", "(?P<t>(a|b))"]
    {
        assert_eq!(fault(url, pattern, ""), Some("issuer_regex"), "{pattern}");
        assert_eq!(fault(url, "(?P<t>a|b)?", pattern), Some("audience_regex"), "{pattern}");
    }
    assert_eq!(fault("ftp://keys.example", "", ""), Some("jwks_public_endpoint"));
    assert_eq!(fault("https://keys.example/{{t", "", ""), None);
}
