//! Commands of the client protocol, configurations, tokens and deltas.

use std::sync::LazyLock;

use corecast::auth::{KeySet, TokenSettings, Verifier};
use corecast::config;
use corecast::protocol::Encoding;
use corecast::protocol::fossil;

/// Commands end one after the other within the frame, and the rest of a frame parses as it did in the whole.
fn commands(encoding: Encoding, frame: &[u8]) {
    let all: Vec<_> = encoding.commands(frame, 0).collect();
    let mut end = 0;
    for item in &all {
        let Ok((command, at)) = item else { break };
        assert!(*at > end && *at <= frame.len(), "{command:?} ends at {at} of {}", frame.len());
        end = *at;
        let rest: Vec<_> = encoding.commands(frame, end).collect();
        assert!(all.ends_with(&rest));
    }
}

pub fn json_commands(data: &[u8]) {
    // A text message was checked as UTF-8 before anything else.
    if std::str::from_utf8(data).is_ok() {
        commands(Encoding::Json, data);
        let _ = Encoding::connect_request(data);
    }
}

pub fn protobuf_commands(data: &[u8]) {
    commands(Encoding::Protobuf, data);
}

/// Any valid configuration can be printed, and parses to the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let name = if text.trim_start().starts_with('{') { "a.json" } else { "a.toml" };
    let Ok(given) = config::file(name, text) else { return };
    match config::assemble(&given) {
        Ok(config) => _ = config.warnings(),
        Err(faults) => assert!(!faults.0.is_empty() && !faults.to_string().is_empty()),
    }
}

/// Any variables: each is a setting, is reported, or describes a service; a configuration of them is checked.
pub fn environment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let variables = text.split('\0').filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (format!("CORECAST_{name}"), value.to_owned()));
    let mut values = Vec::new();
    let found = config::environment(variables, &mut values);
    for value in &values {
        assert!(matches!(value.origin, config::Origin::Environment { .. }), "{value:?}");
    }
    match config::assemble(&values) {
        Ok(config) => _ = config.warnings(),
        Err(faults) => assert!(!faults.0.is_empty() && found.errors.iter().all(|error| !error.to_string().is_empty())),
    }
}

struct Verifiers {
    fixed: Verifier,
    fetched: Verifier,
    keys: KeySet,
}

static VERIFIERS: LazyLock<Verifiers> = LazyLock::new(|| {
    let fixed = TokenSettings { hmac_secret_key: "a secret of the fuzzer, long enough".into(), ..Default::default() };
    let fetched = TokenSettings { jwks_public_endpoint: "https://keys.example".into(), ..Default::default() };
    Verifiers {
        fixed: Verifier::new(&fixed).expect("a key"),
        fetched: Verifier::new(&fetched).expect("an endpoint"),
        keys: KeySet::parse(br#"{"keys":[]}"#).expect("a set"),
    }
});

/// A valid token cannot be made without the secret.
pub fn token(data: &[u8]) {
    let _ = KeySet::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Verifiers { fixed, fetched, keys } = &*VERIFIERS;
    assert!(fixed.connect(text, None, 1).is_err() && fixed.subscribe(text, None, 1).is_err());
    assert!(fetched.connect(text, Some(keys), 1).is_err());
    let _ = (fixed.is_costly(text), fetched.endpoint(text));
}

/// A delta is applied within its bound or rejected; a delta that Corecast made restores its target.
pub fn delta(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let (source, other) = rest.split_at(usize::from(*cut) * rest.len() / 255);
    if let Ok(made) = fossil::apply(source, other, 4096) {
        assert!(made.len() <= 4096);
    }
    let mut difference = Vec::new();
    if fossil::create(source, other, &mut difference) {
        assert_eq!(fossil::apply(source, &difference, other.len()).expect("a delta of Corecast"), other);
    }
}
