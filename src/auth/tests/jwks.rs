//! Key sets: entries that are used or skipped, documents that are refused, and URLs that are filled from claims.

use data_encoding::BASE64URL_NOPAD;

use super::super::jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};
use super::super::sign::SigningKey;
use super::super::{Alg, Hash, InvalidKeySet, InvalidToken, KeySet, TokenError, TokenSettings};
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
fn key_set_without_the_key_asks_for_it() {
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
        format!(r#"{{"kid":7,"use":"sig","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","key_ops":[],"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","key_ops":["sign"],"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","use":"","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","alg":"ES256","kty":"OKP","crv":"Ed448","x":"{x}"}}"#),
        format!(r#"{{"kid":"a","kty":"AKP","alg":"ML-DSA-44","pub":"{x}"}}"#),
        format!(r#"{{"kid":"a","crv":"Ed25519","x":"{x}"}}"#),
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

/// The modulus of the key `rsa2048`.
fn modulus() -> String {
    KEYS.split_once("\"n\": \"").unwrap().1.split_once('"').unwrap().0.to_owned()
}

/// Sets in the forms in which providers publish them, each with the key `rsa2048` as its first key that signs.
fn published(n: &str) -> Vec<(&'static str, String)> {
    let x5c = r#""x5c":["MIIDBTCCAe2gAwIBAgIQ"]"#;
    vec![
        (
            "Auth0",
            format!(
                r#"{{"keys":[{{"kty":"RSA","use":"sig","n":"{n}","e":"AQAB","kid":"rsa2048","x5t":"NjVBRjY5MDk",{x5c},
                "alg":"RS256"}}]}}"#
            ),
        ),
        (
            "Google",
            format!(
                r#"{{"keys":[{{"e":"AQAB","kid":"f0e1","n":"{other}","alg":"RS256","kty":"RSA","use":"sig"}},
                {{"kid":"rsa2048","use":"sig","kty":"RSA","n":"{n}","alg":"RS256","e":"AQAB"}}]}}"#,
                other = n.replacen('n', "m", 1)
            ),
        ),
        (
            "Microsoft Entra",
            format!(
                r#"{{"keys":[{{"kty":"RSA","use":"sig","kid":"rsa2048","x5t":"kWbk","n":"{n}","e":"AQAB",{x5c},
                "cloud_instance_name":"microsoftonline.com","issuer":"https://login.microsoftonline.com/{{tenantid}}/v2.0"}}]}}"#
            ),
        ),
        (
            "Keycloak",
            format!(
                r#"{{"keys":[{{"kid":"rsa2048","kty":"RSA","alg":"RSA-OAEP","use":"enc","n":"{n}","e":"AQAB",{x5c}}},
                {{"kid":"rsa2048","kty":"RSA","alg":"RS256","use":"sig","n":"{n}","e":"AQAB",{x5c},"x5t":"a",
                "x5t#S256":"b"}}]}}"#
            ),
        ),
        (
            "Cognito",
            format!(
                r#"{{"keys":[{{"alg":"RS256","e":"AQAB","kid":"rsa2048","kty":"RSA","n":"{n}","use":"sig"}},
                {{"alg":"RS256","e":"AQAB","kid":"b=","kty":"RSA","n":"{n}","use":"sig"}}]}}"#
            ),
        ),
        (
            "Okta",
            format!(r#"{{"keys":[{{"kty":"RSA","alg":"RS256","kid":"rsa2048","use":"sig","e":"AQAB","n":"{n}"}}]}}"#),
        ),
        ("without use and alg", format!(r#"{{"keys":[{{"kid":"rsa2048","kty":"RSA","n":"{n}","e":"AQAB"}}]}}"#)),
        (
            "null and key_ops",
            format!(
                r#"{{"keys":[{{"kid":"rsa2048","kty":"RSA","use":null,"alg":null,"crv":null,"key_ops":["sign","verify"],
                "ext":true,"n":"{n}","e":"AQAB"}}]}}"#
            ),
        ),
        (
            "padded, with a leading zero, after keys of other kinds",
            format!(
                r#"{{"keys":[{{"kty":"oct","k":"c2VjcmV0","kid":"rsa2048"}},{{"kty":"AKP","kid":"rsa2048","alg":"ML-DSA-44",
                "pub":"AA"}},{{"kty":"EC","crv":"secp256k1","kid":"rsa2048","x":"AA","y":"AA"}},
                {{"kid":"rsa2048","kty":"RSA","n":"{n}=","e":"AAEAAQ=="}}]}}"#
            ),
        ),
    ]
}

#[test]
fn key_sets_in_the_forms_of_providers_verify() {
    let verifier = verifier(&settings());
    for (provider, document) in published(&modulus()) {
        let set = KeySet::parse(document.as_bytes()).unwrap();
        let grant = verifier.connect(fixture("RS256"), Some(&set), NOW_S);
        assert_eq!(grant.map(|grant| grant.user), Ok("42".into()), "{provider}: {set:?}");
    }
}

#[test]
fn keys_of_several_kinds_may_share_an_id() {
    let shared = ["P-256", "P-384", "P-521", "ed"]
        .iter()
        .fold(KEYS.to_owned(), |set, kid| set.replace(&format!(r#""kid": "{kid}""#), r#""kid": "rsa2048""#));
    let (verifier, set) = (verifier(&settings()), KeySet::parse(shared.as_bytes()).unwrap());
    assert_eq!(set.len(), 5);
    assert!(verifier.connect(fixture("RS256"), Some(&set), NOW_S).is_ok());
    let forged = SigningKey::secret(Hash::S256, SECRET).sign_as(r#"{"alg":"ES384","kid":"rsa2048"}"#, "{}").unwrap();
    assert_eq!(verifier.connect(&forged, Some(&set), NOW_S), Err(InvalidToken::Signature.into()));
}

#[test]
fn last_of_two_keys_with_the_same_id_kind_and_algorithm_counts() {
    let n = modulus();
    let twice = |first: &str, second: &str| {
        let key = |n: &str| format!(r#"{{"kid":"rsa2048","kty":"RSA","n":"{n}","e":"AQAB"}}"#);
        KeySet::parse(format!(r#"{{"keys":[{},{}]}}"#, key(first), key(second)).as_bytes()).unwrap()
    };
    let (verifier, other) = (verifier(&settings()), n.replacen('n', "m", 1));
    let of = |set: &KeySet| verifier.connect(fixture("RS256"), Some(set), NOW_S).map(|grant| grant.user);
    assert_eq!((twice(&other, &n).len(), of(&twice(&other, &n))), (1, Ok("42".into())));
    assert_eq!(of(&twice(&n, &other)), Err(InvalidToken::Signature.into()));
}

#[test]
fn token_without_a_key_id_is_verified_if_one_key_fits_its_algorithm() {
    let verifier = verifier(&settings());
    let set = |keys: &str| KeySet::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes()).unwrap();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let public = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let x = BASE64URL_NOPAD.encode(aws_lc_rs::signature::KeyPair::public_key(&public).as_ref());
    let label = "PRIVATE KEY-----";
    let pem = format!("-----BEGIN {label}\n{}\n-----END {label}", data_encoding::BASE64.encode(pair.as_ref()));
    let key = SigningKey::pem(Alg::EdDsa, &pem).unwrap();
    let ed = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
    let named = ed.replacen('{', r#"{"kid":"a","#, 1);
    let rsa = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB","kid":"rsa2048"}}"#, modulus());
    for header in [r#"{"alg":"EdDSA"}"#, r#"{"alg":"Ed25519"}"#] {
        let token = key.sign_as(header, r#"{"sub":"42"}"#).unwrap();
        let user = |set: &KeySet| verifier.connect(&token, Some(set), NOW_S).map(|grant| grant.user);
        assert_eq!(user(&set(&ed)), Ok("42".into()), "neither has an id");
        assert_eq!(user(&set(&format!("{rsa},{named}"))), Ok("42".into()), "the other key is of another kind");
        assert_eq!(user(&set(&format!("{ed},{named}"))), Err(InvalidToken::NoKeyId.into()), "two keys fit");
        assert_eq!(user(&set(&rsa)), Err(TokenError::UnknownKey { kid: String::new() }), "none fits");
    }
    let token = key.sign(r#"{"sub":"42"}"#, Some("b")).unwrap();
    let user = verifier.connect(&token, Some(&set(&ed)), NOW_S).map(|grant| grant.user);
    assert_eq!(user, Err(TokenError::UnknownKey { kid: "b".into() }), "a token that names its key gets no other");
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
