//! Settings and tokens: which are accepted, which are refused, and with which error.

use super::super::sign::SigningKey;
use super::super::token::TOKEN_BYTES_MAX;
use super::super::{Alg, Hash, InvalidToken, TokenError, TokenSettings, Verifier};
use super::{NOW_S, SECRET, fixture, hmac_settings, hs256, verifier};
use crate::auth::grant::{ConnectGrant, Overrides, SubscribeGrant};

const RSA: &str = include_str!("fixtures/rsa.pem");
const P256: &str = include_str!("fixtures/ec_p256.pem");

fn connect(claims: &str) -> Result<ConnectGrant, TokenError> {
    verifier(&hmac_settings()).connect(&hs256(claims), None, NOW_S)
}

fn reason<T: std::fmt::Debug>(result: Result<T, TokenError>) -> InvalidToken {
    match result {
        Err(TokenError::Invalid(reason)) => reason,
        other => panic!("{other:?} is not a permanent refusal"),
    }
}

#[test]
fn tokens_of_another_library_verify() {
    let key = |rsa: &str, ec: &str| {
        let settings = TokenSettings { rsa_public_key: rsa.into(), ecdsa_public_key: ec.into(), ..hmac_settings() };
        verifier(&settings)
    };
    let one = key(RSA, P256);
    for alg in ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256"] {
        let grant = one.connect(fixture(alg), None, NOW_S).unwrap();
        let info = br#"{"name":"Ada"}"#.to_vec();
        let expected = ConnectGrant { user: "42".into(), expire_at: Some(4_000_000_000), info, ..Default::default() };
        assert_eq!(grant, expected, "{alg}");
        assert_eq!(one.is_costly(fixture(alg)), !alg.starts_with("HS"), "{alg}");
    }
    assert_eq!(reason(one.connect(fixture("ES384"), None, NOW_S)), InvalidToken::KeyKind);
    assert_eq!(reason(one.connect(fixture("EdDSA"), None, NOW_S)), InvalidToken::NoKey);
    let forms = [
        (include_str!("fixtures/rsa_pkcs1.pem"), "RS256", include_str!("fixtures/ec_p384.pem"), "ES384"),
        (include_str!("fixtures/rsa_certificate.pem"), "RS512", include_str!("fixtures/ec_p521.pem"), "ES512"),
        (RSA, "RS384", include_str!("fixtures/ec_p256_certificate.pem"), "ES256"),
    ];
    for (rsa, rs, ec, es) in forms {
        let verifier = key(rsa, &ec.replace('\n', "\\n"));
        assert!(
            verifier.connect(fixture(rs), None, NOW_S).is_ok() && verifier.connect(fixture(es), None, NOW_S).is_ok()
        );
    }
}

#[test]
fn public_key_is_never_a_shared_secret() {
    // The classic confusion attack: HS256 with the text of the public key, which is public, as the secret.
    let rsa =
        verifier(&TokenSettings { rsa_public_key: RSA.into(), ecdsa_public_key: P256.into(), ..Default::default() });
    for known in [RSA, P256, RSA.trim_end(), ""] {
        let token = SigningKey::secret(Hash::S256, known).sign("{}", None).unwrap();
        assert_eq!(reason(rsa.connect(&token, None, NOW_S)), InvalidToken::NoKey);
        assert!(!rsa.is_costly(&token));
    }
    let hmac = verifier(&hmac_settings());
    for alg in ["RS256", "ES256", "EdDSA"] {
        assert_eq!(reason(hmac.connect(fixture(alg), None, NOW_S)), InvalidToken::NoKey);
        assert!(!hmac.is_costly(fixture(alg)));
    }
    // The header names another algorithm than the signature's.
    for (alg, expected) in
        [("HS384", InvalidToken::Signature), ("HS512", InvalidToken::Signature), ("RS256", InvalidToken::NoKey)]
    {
        let token = SigningKey::secret(Hash::S256, SECRET).sign_as(&format!(r#"{{"alg":"{alg}"}}"#), "{}").unwrap();
        assert_eq!(reason(hmac.connect(&token, None, NOW_S)), expected, "{alg}");
    }
}

#[test]
fn settings_that_are_empty_accept_no_token() {
    let open = verifier(&TokenSettings::default());
    assert!(TokenSettings::default().is_empty());
    for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
        assert_eq!(reason(open.connect(fixture(alg), None, NOW_S)), InvalidToken::NoKey);
    }
}

#[test]
fn token_headers_that_are_not_supported_are_refused() {
    let key = SigningKey::secret(Hash::S256, SECRET);
    let verifier = verifier(&hmac_settings());
    for (header, expected) in [
        (r#"{"alg":"none"}"#, InvalidToken::Algorithm),
        (r#"{"alg":"None"}"#, InvalidToken::Algorithm),
        (r#"{"alg":""}"#, InvalidToken::Algorithm),
        (r#"{"alg":"hs256"}"#, InvalidToken::Algorithm),
        (r#"{"alg":"PS256"}"#, InvalidToken::Algorithm),
        (r#"{"typ":"JWT"}"#, InvalidToken::Header),
        (r#"{"alg":null}"#, InvalidToken::Header),
        (r#"{"alg":["HS256"]}"#, InvalidToken::Header),
        (r#"["HS256"]"#, InvalidToken::Header),
        (r#"{"alg":"HS256","alg":"HS256"}"#, InvalidToken::Header),
        (r#"{"alg":"HS256"}{}"#, InvalidToken::Header),
        ("", InvalidToken::Header),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, InvalidToken::Critical),
    ] {
        let token = key.sign_as(header, "{}").unwrap();
        assert_eq!(reason(verifier.connect(&token, None, NOW_S)), expected, "{header}");
    }
    let long = format!(r#"{{"alg":"HS256","typ":"JWT","cty":"x","kid":"a","x5c":["{}"]}}"#, "x".repeat(3000));
    assert!(verifier.connect(&key.sign_as(&long, "{}").unwrap(), None, NOW_S).is_ok());
    // An unsigned token, as some libraries write it.
    let (signed, _) = fixture("HS256").rsplit_once('.').unwrap();
    for token in [format!("{signed}."), signed.to_owned(), format!("{signed}..")] {
        assert!(verifier.connect(&token, None, NOW_S).is_err(), "{token}");
    }
}

#[test]
fn token_times_are_checked_to_the_second() {
    let at = |claims: &str, now_s| verifier(&hmac_settings()).connect(&hs256(claims), None, now_s).map(|g| g.expire_at);
    assert_eq!(at(r#"{"exp":100}"#, 99), Ok(Some(100)));
    assert_eq!(at(r#"{"exp":100}"#, 100), Err(TokenError::Expired));
    assert_eq!(at(r#"{"exp":100.9}"#, 99), Ok(Some(100)));
    assert_eq!(at(r#"{"exp":"100"}"#, 99), Ok(Some(100)));
    assert_eq!(at(r#"{"exp":1e2}"#, 100), Err(TokenError::Expired));
    assert_eq!(at(r#"{"exp":0}"#, 0), Err(TokenError::Expired));
    assert_eq!(at(r#"{"exp":-5}"#, 0), Err(TokenError::Expired));
    assert_eq!(at(r#"{"exp":1e300}"#, 0), Ok(Some(u64::MAX)));
    assert_eq!(at(r#"{"exp":null}"#, 5), Ok(None));
    assert_eq!(at(r#"{"nbf":100}"#, 99), Err(TokenError::Expired));
    assert_eq!(at(r#"{"nbf":100}"#, 100), Ok(None));
    assert_eq!(at(r#"{"exp":100,"expire_at":0}"#, 99), Ok(None));
    assert_eq!(at(r#"{"exp":100,"expire_at":-1}"#, 99), Ok(None));
    assert_eq!(at(r#"{"exp":100,"expire_at":500}"#, 99), Ok(Some(500)));
    assert_eq!(at(r#"{"exp":100,"expire_at":500}"#, 100), Err(TokenError::Expired));
    assert_eq!(at(r#"{"exp":"soon"}"#, 0), Err(InvalidToken::Claims.into()));
    assert_eq!(at(r#"{"exp":"NaN"}"#, 0), Err(InvalidToken::Claims.into()));
    assert_eq!(at(r#"{"exp":true}"#, 0), Err(InvalidToken::Claims.into()));
}

#[test]
fn token_checks_run_in_order_and_the_first_decides() {
    let settings = TokenSettings { audience: "a".into(), ..hmac_settings() };
    let verifier = verifier(&settings);
    let stranger = SigningKey::secret(Hash::S256, "another").sign(r#"{"exp":1}"#, None).unwrap();
    assert_eq!(reason(verifier.connect(&stranger, None, NOW_S)), InvalidToken::Signature);
    assert_eq!(reason(verifier.connect(&hs256(r#"{"exp":1}"#), None, NOW_S)), InvalidToken::Audience);
    assert_eq!(verifier.connect(&hs256(r#"{"exp":1,"aud":"a"}"#), None, NOW_S), Err(TokenError::Expired));
}

#[test]
fn connection_token_grants_all_its_claims() {
    let claims = r#"{"sub":"a\"b","info":{"n":1.50, "x":[]},"meta":{"m":true},"channels":["one","two","one"],"iat":1,"jti":"x"}"#;
    let grant = connect(claims).unwrap();
    assert_eq!(grant.user, "a\"b");
    assert_eq!(grant.info, br#"{"n":1.50, "x":[]}"#, "JSON as it came");
    assert_eq!(grant.meta, br#"{"m":true}"#);
    let plain = |channel: &str| (channel.to_owned(), SubscribeGrant::default());
    assert_eq!(grant.subs, [plain("one"), plain("two")]);
    let claims = r#"{"b64info":"AP8=","info":1,"channels":["no"],"subs":{
        "b":{"info":{"i":1},"data":{"d":2},"override":{"presence":{"value":true},"join_leave":{"value":false},"force_recovery":{}}},
        "a":{"b64info":"AQ==","b64data":"Ag==","override":null},"n":null}}"#;
    let grant = connect(claims).unwrap();
    assert_eq!(grant.info, [0, 255]);
    let overrides =
        Overrides { presence: Some(true), join_leave: Some(false), force_recovery: Some(false), ..Default::default() };
    let b =
        SubscribeGrant { info: br#"{"i":1}"#.to_vec(), data: br#"{"d":2}"#.to_vec(), overrides, ..Default::default() };
    let a = SubscribeGrant { info: vec![1], data: vec![2], ..Default::default() };
    assert_eq!(grant.subs, [("a".to_owned(), a), ("b".to_owned(), b), plain("n")]);
    assert_eq!(connect("{}").unwrap(), ConnectGrant::default(), "anonymous, without expiry");
    assert_eq!(connect(r#"{"sub":null,"info":null,"meta":null,"subs":null}"#).unwrap(), ConnectGrant::default());
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    for claims in [
        "",
        "null",
        "[]",
        "7",
        "{",
        r#"{"sub":7}"#,
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"exp":1,"exp":9999999999}"#,
        r#"{"channels":"a"}"#,
        r#"{"channels":[1]}"#,
        r#"{"subs":[]}"#,
        r#"{"subs":{"a":7}}"#,
        r#"{"subs":{"a":{"override":{"presence":true}}}}"#,
        r#"{"info":{"a":}}"#,
        r#"{"sub":"\ud800"}"#,
    ] {
        assert_eq!(reason(connect(claims)), InvalidToken::Claims, "{claims}");
    }
    assert_eq!(reason(connect(r#"{"b64info":"!"}"#)), InvalidToken::Base64);
    assert_eq!(reason(connect(r#"{"subs":{"a":{"b64data":"A"}}}"#)), InvalidToken::Base64);
    assert_eq!(reason(connect(r#"{"channel":"a"}"#)), InvalidToken::ChannelInConnectToken);
    assert!(
        connect(r#"{"channel":"","data":1,"client":7,"override":8,"b64data":9}"#).is_ok(),
        "the other kind's claims"
    );
}

#[test]
fn subscription_token_grants_all_its_claims() {
    let subscribe = |claims: &str| verifier(&hmac_settings()).subscribe(&hs256(claims), None, NOW_S);
    let claims = r#"{"sub":"u","channel":"c:1","client":"x","exp":4000000000,"info":{"i":1},"b64data":"AP8=",
        "override":{"force_push_join_leave":{"value":true},"force_positioning":{"value":false}}}"#;
    let token = subscribe(claims).unwrap();
    assert_eq!((token.user.as_str(), token.channel.as_str(), token.client.as_deref()), ("u", "c:1", Some("x")));
    let overrides =
        Overrides { force_push_join_leave: Some(true), force_positioning: Some(false), ..Default::default() };
    let info = br#"{"i":1}"#.to_vec();
    assert_eq!(token.grant, SubscribeGrant { info, data: vec![0, 255], expire_at: Some(4_000_000_000), overrides });
    let token = subscribe(r#"{"channel":"c","client":"","subs":7,"channels":8,"meta":9,"data":{}}"#).unwrap();
    assert_eq!((token.client, token.grant.data, token.grant.expire_at), (None, b"{}".to_vec(), None));
    assert_eq!(reason(subscribe(r#"{"sub":"u"}"#)), InvalidToken::NoChannel);
    assert_eq!(reason(subscribe(r#"{"channel":""}"#)), InvalidToken::NoChannel);
    assert_eq!(reason(subscribe(r#"{"channel":"c","client":7}"#)), InvalidToken::Claims);
    assert_eq!(subscribe(r#"{"channel":"c","exp":5}"#), Err(TokenError::Expired));
}

#[test]
fn audience_and_issuer_are_checked() {
    let with =
        |settings: TokenSettings, claims: &str| verifier(&settings).connect(&hs256(claims), None, NOW_S).map(|_| ());
    let audience = || TokenSettings { audience: "chat".into(), ..hmac_settings() };
    assert_eq!(with(audience(), r#"{"aud":"chat"}"#), Ok(()));
    assert_eq!(with(audience(), r#"{"aud":["x","chat"]}"#), Ok(()));
    for claims in ["{}", r#"{"aud":[]}"#, r#"{"aud":"Chat"}"#, r#"{"aud":["chat2"]}"#, r#"{"aud":null}"#] {
        assert_eq!(with(audience(), claims), Err(InvalidToken::Audience.into()), "{claims}");
    }
    assert_eq!(with(audience(), r#"{"aud":[7]}"#), Err(InvalidToken::Claims.into()));
    let pattern = || TokenSettings { audience_regex: "^chat[0-9]$".into(), ..hmac_settings() };
    assert_eq!(with(pattern(), r#"{"aud":["x","chat7"]}"#), Ok(()));
    assert_eq!(with(pattern(), r#"{"aud":"chat77"}"#), Err(InvalidToken::Audience.into()));
    let issuer = || TokenSettings { issuer: "me".into(), ..hmac_settings() };
    assert_eq!(with(issuer(), r#"{"iss":"me"}"#), Ok(()));
    assert_eq!(with(issuer(), "{}"), Err(InvalidToken::Issuer.into()));
    let pattern = || TokenSettings { issuer_regex: "^(me|you)$".into(), ..hmac_settings() };
    assert_eq!(with(pattern(), r#"{"iss":"you"}"#), Ok(()));
    assert_eq!(with(pattern(), r#"{"iss":"them"}"#), Err(InvalidToken::Issuer.into()));
}

#[test]
fn previous_secret_is_valid_until_its_end() {
    let old = SigningKey::secret(Hash::S512, "old").sign("{}", None).unwrap();
    let at = |until, now_s| {
        let settings = TokenSettings {
            hmac_previous_secret_key: "old".into(),
            hmac_previous_secret_key_valid_until: until,
            ..hmac_settings()
        };
        let verifier = verifier(&settings);
        assert!(verifier.connect(&hs256("{}"), None, now_s).is_ok(), "the current secret is valid too");
        verifier.connect(&old, None, now_s).map(|_| ())
    };
    assert_eq!((at(0, NOW_S), at(100, 100)), (Ok(()), Ok(())));
    assert_eq!(at(100, 101), Err(InvalidToken::Signature.into()));
    let alone = TokenSettings { hmac_previous_secret_key: "old".into(), ..Default::default() };
    assert!(verifier(&alone).connect(&old, None, NOW_S).is_ok());
}

#[test]
fn user_id_can_be_in_another_claim() {
    let user = |claims: &str| {
        let settings = TokenSettings { user_id_claim: "uid".into(), ..hmac_settings() };
        verifier(&settings).connect(&hs256(claims), None, NOW_S).map(|grant| grant.user)
    };
    assert_eq!(user(r#"{"sub":"a","uid":"b\u0041"}"#), Ok("bA".into()));
    assert_eq!(user(r#"{"deep":{"uid":"x"},"uid":1234567890123456789}"#), Ok("1234567890123456789".into()));
    assert_eq!(user(r#"{"uid":true}"#), Ok("true".into()));
    assert_eq!(user(r#"{"sub":"a","uid":null}"#), Ok(String::new()));
    assert_eq!(user(r#"{"sub":"a"}"#), Ok(String::new()));
    assert_eq!(user(r#"{"uid":{}}"#), Err(InvalidToken::UserClaim.into()));
    assert_eq!(user(r#"{"uid":["a"]}"#), Err(InvalidToken::UserClaim.into()));
    assert_eq!(user(r#"{"uid":"a","uid":"b"}"#), Err(InvalidToken::Claims.into()));
}

#[test]
fn settings_that_are_invalid_are_named() {
    let base = TokenSettings::default;
    let private = SETTINGS_PRIVATE.join("\n");
    for (settings, name, word) in [
        (TokenSettings { rsa_public_key: "x".into(), ..base() }, "rsa_public_key", "not PEM"),
        (TokenSettings { rsa_public_key: P256.into(), ..base() }, "rsa_public_key", "not an RSA"),
        (TokenSettings { rsa_public_key: private.clone(), ..base() }, "rsa_public_key", "private"),
        (TokenSettings { ecdsa_public_key: RSA.into(), ..base() }, "ecdsa_public_key", "not a public key on"),
        (TokenSettings { ecdsa_public_key: RSA[..60].into(), ..base() }, "ecdsa_public_key", "not PEM"),
        (
            TokenSettings { rsa_public_key: include_str!("fixtures/rsa_1024_bits.pem").into(), ..base() },
            "rsa_public_key",
            "1024 bits",
        ),
        (
            TokenSettings { audience: "a".into(), audience_regex: "b".into(), ..base() },
            "audience_regex",
            "audience is set too",
        ),
        (TokenSettings { issuer: "a".into(), issuer_regex: "b".into(), ..base() }, "issuer_regex", "issuer is set too"),
        (TokenSettings { issuer_regex: "(".into(), ..base() }, "issuer_regex", "unclosed group"),
        (TokenSettings { audience_regex: r"(\w{1000}){1000}".into(), ..base() }, "audience_regex", "size"),
        (TokenSettings { user_id_claim: "a.b".into(), ..base() }, "user_id_claim", "letters"),
        (TokenSettings { jwks_public_endpoint: "x".into(), ..base() }, "jwks_public_endpoint", "URL"),
    ] {
        let fault = Verifier::new(&settings).unwrap_err();
        assert_eq!(fault.setting, name, "{fault}");
        assert!(fault.what.contains(word) && !fault.fix.is_empty(), "{fault}");
    }
}

/// The header of a private key, without a key.
const SETTINGS_PRIVATE: [&str; 3] =
    [concat!("-----BEGIN PRI", "VATE KEY-----"), "AAAA", concat!("-----END PRI", "VATE KEY-----")];

#[test]
fn debug_output_shows_no_secret() {
    let settings = TokenSettings { hmac_previous_secret_key: "older secret".into(), ..hmac_settings() };
    let printed = format!("{settings:?} {:?}", verifier(&settings));
    assert!(!printed.contains(SECRET) && !printed.contains("older secret"), "{printed}");
    assert!(printed.contains("hidden"));
}

#[test]
fn token_size_is_bounded() {
    let verifier = verifier(&hmac_settings());
    let long = hs256(&format!(r#"{{"sub":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX)));
    assert_eq!(reason(verifier.connect(&long, None, NOW_S)), InvalidToken::TooLong);
    assert!(!verifier.is_costly(&long));
    assert!(verifier.connect(&hs256(&format!(r#"{{"x":"{}"}}"#, "x".repeat(20_000))), None, NOW_S).is_ok());
}

#[test]
fn signed_tokens_verify() {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let block = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der))
    };
    let private = block(concat!("PRI", "VATE KEY"), document.as_ref());
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, document.as_ref()).unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let settings = TokenSettings { ecdsa_public_key: block("PUBLIC KEY", public.as_ref()), ..Default::default() };
    let key = SigningKey::pem(Alg::Es(Hash::S384), &private).unwrap();
    let token = key.sign(r#"{"sub":"me"}"#, Some("k")).unwrap();
    assert_eq!(verifier(&settings).connect(&token, None, NOW_S).unwrap().user, "me");
    assert!(SigningKey::pem(Alg::Es(Hash::S256), &private).is_err(), "the hash fixes the curve");
    assert!(SigningKey::pem(Alg::Rs(Hash::S256), &private).is_err());
    assert!(SigningKey::pem(Alg::Hs(Hash::S256), &private).is_err());
}

#[test]
fn verifier_and_key_set_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Verifier>();
    shared::<super::super::KeySet>();
    shared::<super::super::Origins>();
}
