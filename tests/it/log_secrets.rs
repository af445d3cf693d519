//! Keys, tokens, passwords and secrets that clients send do not appear in the log (even at level trace), in metrics, in
//! statistics, on the page or in errors.

use std::process::Command;

use crate::common::tls::Authority;
use crate::common::{Client, Raw, Server, raw, until};
use corecast::auth::Hash;
use corecast::auth::sign::SigningKey;
use rustix::process::Signal;
use serde_json::json;

/// Part of every secret of this test, and of nothing else.
const MARK: &str = "hush";

fn settings(more: &str) -> String {
    format!(
        "[http_api]\nkey = \"hush-api-key\"\n[grpc_api]\nkey = \"hush-grpc-key\"\n\
         [client.token]\nhmac_secret_key = \"hush-hmac-that-is-long-enough-for-it\"\n\
         hmac_previous_secret_key = \"hush-previous-that-is-long-enough\"\n\
         [client.subscription_token]\nenabled = true\njwks_public_endpoint = \"http://u:hush-jwks@127.0.0.1:1/keys?hush=1\"\n\
         [rpc.proxy]\nendpoint = \"http://u:hush-password@127.0.0.1:1/rpc?key=hush-query\"\nretries_max = 0\n\
         http_headers = [\"Authorization\", \"Cookie\"]\n\
         http.static_headers = [{{ key = \"Authorization\", value = \"hush-static\" }}]\n\
         [rpc.without_namespace]\nproxy_enabled = true\n{more}"
    )
}

#[test]
fn secrets_are_not_logged_at_trace_level() {
    let path = std::env::temp_dir().join(format!("corecast-{}-secrets.toml", std::process::id()));
    let authority = Authority::new("secrets");
    let (certificate, key) = authority.pair(&["localhost"]);
    let tls = |name: &str, key: &str| {
        let (certificate, key) = (authority.file("certificate.pem", &certificate), authority.file(name, key));
        format!("[tls]\ncert_pem_file = \"{certificate}\"\nkey_pem_file = \"{key}\"\n")
    };
    let good = tls("key.pem", &key);
    std::fs::write(&path, settings(&good)).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["serve", "--config", path.to_str().expect("text"), "--listen", "127.0.0.1:0"]);
    command
        .args(["--listen", "tls:127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"])
        .env_clear()
        .env("CORECAST_LOG", "trace");
    let server = Server::spawn(command, &[]);
    let mut output = Vec::new();

    // Valid and invalid tokens with secrets in their claims; a call to a backend that does not exist.
    let signer = SigningKey::secret(Hash::S256, "hush-hmac-that-is-long-enough-for-it");
    let token = signer.sign(&json!({"sub": "u", "info": {"k": "hush-info"}}).to_string(), None).expect("it signs");
    let signature = token.rsplit('.').next().expect("three parts").to_owned();
    let mut client = Client::fresh(&server);
    assert!(client.ask(json!({"connect": {"token": token, "data": "hush-data"}}))["connect"].is_object());
    output.push(client.ask(json!({"rpc": {"method": "hush-method", "data": "hush-call"}})).to_string());
    let subscribe = json!({"subscribe": {"channel": "c", "token": format!("{token}x")}});
    output.push(client.ask(subscribe).to_string());
    for bad in [format!("{token}x"), "hush-no-token".into(), "a.hush.c".into()] {
        let mut client = Client::fresh(&server);
        client.send(json!({"connect": {"token": bad}}));
        output.push(client.closed().1);
    }
    let mut client = Client::fresh(&server);
    client.send_text("{\"id\":1,\"connect\":{\"token\":\"hush");
    output.push(client.closed().1);

    // Upgrade requests with secrets in the target and in header fields, accepted and rejected.
    let fields = [("Authorization", "Bearer hush-bearer"), ("Cookie", "session=hush-cookie")];
    for target in
        ["/connection/websocket?token=hush-1", "/none?token=hush-2", "/connection/uni_websocket?cf_connect=hush"]
    {
        let mut socket = Raw::connect(&server);
        socket.send(raw::upgrade_with(target, &fields).as_bytes());
        output.push(socket.head());
    }
    let mut socket = Raw::connect(&server);
    socket.send(b"GET /hush HTTP/1.1\r\nHost: a\r\nHost: hush\r\n\r\n");
    output.push(socket.head());

    // The API, with right and wrong keys in every place.
    let body = json!({"channel": "c", "data": {}}).to_string();
    for (path, field, value) in [
        ("/api/publish", "X-API-Key", "hush-api-key"),
        ("/api/publish", "X-API-Key", "hush-wrong"),
        ("/api/publish", "Authorization", "apikey hush-wrong"),
        ("/api/publish?api_key=hush-api-key", "X", "x"),
        ("/api/publish?api_key=hush-wrong", "X", "x"),
        ("/api/hush", "X-API-Key", "hush-api-key"),
        ("/hush", "X-API-Key", "hush-api-key"),
    ] {
        output.push(server.http("POST", path, &[(field, value)], &body).1);
    }
    for path in ["/metrics", "/stats", "/health", "/", "/app.js", "/debug", "/debug/vars"] {
        output.push(server.http("GET", path, &[], "").1);
    }

    // Settings with errors next to the secrets, then valid settings with other secrets.
    let half = tls("half.pem", &key[..key.len() / 2]);
    let bad = [
        half.as_str(),
        "[http_api]\nkey = \"hush-open",
        "[http_api]\nkey = [\"hush-list\"]\n",
        "[client.token]\nhmac_secret_key = { x = \"hush\" }\n",
        "[client.token]\nrsa_public_key = \"hush-no-pem\"\n",
        "[client.token]\njwks_public_endpoint = \"hush-no-url\"\n",
        "[rpc.proxy]\nendpoint = \"ftp://u:hush@x/\"\n",
        "[rpc.proxy]\nhttp.static_headers = [{ key = \"A\", value = \"hush\\n\" }]\n",
    ];
    for (n, text) in bad.iter().enumerate() {
        std::fs::write(&path, text).expect("a file");
        server.signal(Signal::HUP);
        server.wait_for_metric("corecast_config_reloads_total", "result=\"refused\"", |count| count > n as u64);
    }
    let other = settings(&good).replace("hush-", "hush-other-");
    std::fs::write(&path, other).expect("a file");
    server.signal(Signal::HUP);
    server.wait_for_log("SIGHUP: applied ");
    until(
        || "the keys are not asked for".into(),
        || server.log().iter().any(|line| line.contains("could not be fetched")).then_some(()),
    );
    std::fs::remove_file(&path).expect("the file exists");

    let log = server.log();
    assert!(
        log.iter().any(|line| line.contains("DEBUG") || line.contains("TRACE")),
        "the log has lines of debug or trace"
    );
    output.extend(log);
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let has_secret = |text: &&String| {
        text.contains(MARK) || text.contains(&signature) || lines.iter().any(|line| text.contains(line))
    };
    let leaks: Vec<&String> = output.iter().filter(has_secret).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
