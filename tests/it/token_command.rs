//! `corecast token` on the command line.

use std::process::{Command, Output};

const SECRET: &str = "a shared secret of more than thirty-two bytes";

fn corecast(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["token"]).args(args).env_clear().env("SECRET", SECRET).env("OTHER", "another");
    command.output().expect("the program runs")
}

/// stdout of a call that must succeed.
fn done(args: &[&str]) -> String {
    let output = corecast(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// stderr of a call that must fail with this code.
fn fails(code: i32, args: &[&str]) -> String {
    let output = corecast(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn check(token: &str) -> String {
    done(&["check", token.trim(), "--secret-env", "SECRET"])
}

#[test]
fn connection_token_is_made_and_accepted() {
    let more = ["--channels", "news,chat:1", "--info", r#"{"name":"Ada"}"#, "--meta", "[1]", "--ttl", "30d"];
    let token = done(&[&["connect", "--user", "42", "--secret-env", "SECRET"][..], &more].concat());
    assert_eq!(token.trim().split('.').count(), 3);
    assert_eq!(token.lines().count(), 1, "stdout contains only the token");
    let report = check(&token);
    assert!(report.starts_with("accepted for the user \"42\"\n"), "{report}");
    for part in ["connection", "HS256", "expires:", " days", "\"news\"", "\"chat:1\"", "Ada", "\"meta\""] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let anonymous = done(&["connect", "--user", "", "--no-expiry", "--alg", "HS512", "--secret-env", "SECRET"]);
    let report = check(&anonymous);
    assert!(report.contains("the anonymous user") && report.contains("never") && report.contains("HS512"), "{report}");
}

#[test]
fn subscription_token_is_made_and_accepted() {
    let token =
        done(&["subscribe", "--user", "42", "--channel", "$private", "--client", "c1", "--secret-env", "SECRET"]);
    let report = check(&token);
    assert!(report.contains("subscription to \"$private\"") && report.contains("\"c1\""), "{report}");
}

#[test]
fn rejected_token_is_explained() {
    let token = done(&["connect", "--user", "42", "--secret-env", "SECRET"]);
    let token = token.trim();
    let why = |token: &str, secret: &str| fails(1, &["check", token, "--secret-env", secret]);
    assert!(why(token, "OTHER").contains("signature was not made with the configured key"));
    assert!(why(&token[..token.len() - 5], "SECRET").starts_with("rejected: "));
    assert!(why("nonsense", "SECRET").contains("header.claims.signature"));
    // {"alg":"none"}.{"sub":"42"}.
    assert!(why("eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.", "SECRET").contains("algorithm is not HS256"));
    // {"alg":"RS256"}
    assert!(why("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "SECRET").contains("client.token.rsa_public_key"));
    let output = corecast(&["check", token, "--secret-env", "OTHER"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"sub\": \"42\""), "its content is shown anyway");
}

#[test]
fn secrets_are_not_taken_as_arguments() {
    let stderr = fails(2, &["connect", "--user", "42", "--secret", SECRET]);
    assert!(stderr.contains("--secret-env") && !stderr.contains(SECRET), "{stderr}");
    let stderr = fails(2, &["connect", "--user", "42", "--secret-env", "MISSING"]);
    assert!(stderr.contains("MISSING is not set"), "{stderr}");
    assert!(fails(2, &["connect", "--user", "42"]).contains("--secret-env"));
    assert!(fails(2, &["check", "a.b.c"]).contains("no key to check with"));
    assert!(fails(2, &["connect", "--user", "42", "--ttl", "1", "--secret-env", "SECRET"]).contains("15m"));
    assert!(fails(2, &["connect", "--user", "42", "--info", "{", "--secret-env", "SECRET"]).contains("not JSON"));
    assert!(
        fails(2, &["connect", "--user", "42", "--alg", "RS256", "--secret-env", "SECRET"]).contains("--private-key")
    );
}

#[test]
fn generated_secrets_differ_and_are_valid_toml() {
    let (one, two) = (done(&["secret"]), done(&["secret"]));
    assert_ne!(one, two);
    let table: toml::Table = one.parse().expect("TOML");
    let secret = table["client"]["token"]["hmac_secret_key"].as_str().expect("a text");
    assert_eq!(secret.len(), 43);
    assert_ne!(Some(secret), table["http_api"]["key"].as_str());
    let json = done(&["secret", "--format", "json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["http_api"]["key"].is_string());
    assert!(done(&["secret", "--format", "env"]).starts_with("CORECAST_CLIENT_TOKEN_HMAC_SECRET_KEY="));
}
