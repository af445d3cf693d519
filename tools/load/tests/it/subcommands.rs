//! One small run of each subcommand against the server of this repository.

use crate::server::{Server, faults, open_to_all, secure};
use serde_json::json;
use std::path::Path;
use std::process::Command;

const TOKENS: [&str; 2] = ["--token-secret-env", "SECRET"];

#[test]
fn storm_clients_recover_what_they_missed() {
    let server = Server::start("storm");
    let url = server.url();
    let usual = ["storm", &url, "--total", "300", "--sockets", "100", "--missed", "2", "--subscription-tokens"];
    let others = ["--channels", "7", "--beside-subscribers", "10", "--calm", "0.3"];
    let (_, result) = server.load(&[&usual[..], &others, &TOKENS].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert_eq!((&result["reconnects"], &result["missing"]), (&json!(300), &json!(0)));
    assert_eq!(result["recovered_us"]["count"], 300);
    assert!(result["beside_calm_us"]["count"].as_u64().unwrap() > 0);
    assert!(result["server_us_by_thread"]["shard"].is_number(), "{result}");
    assert!(result["server_metrics"]["corecast_connections_accepted_total"].as_f64().unwrap() >= 400.0);
}

#[test]
fn publish_checks_the_response_and_offset_of_each_publication() {
    let server = Server::start("publish");
    let (api, url) = (format!("http://{}/api", server.admin), server.url());
    let usual = ["publish", &api, "--key-env", "KEY", "-c", "8", "--channels", "20", "--duration", "0.3"];
    let others = ["--beside", &url, "--beside-subscribers", "5", "--calm", "0.3", "--warmup", "0.1"];
    for more in [&[][..], &["--batch", "7"], &["--batch", "5", "--parallel"], &["--rate", "500"]] {
        let (_, result) = server.load(&[&usual[..], &others, &TOKENS, more].concat());
        assert_eq!(faults(&result), [""; 0], "{more:?}: {result}");
        let answered = result["publications"].as_u64().unwrap();
        assert!(answered > 0 && result["unsound"] == 0 && result["unanswered"] == 0, "{more:?}: {result}");
        assert!(result["answer_us"]["p50"].as_f64().unwrap() > 1.0, "{more:?}: {result}");
    }
}

#[test]
fn publish_with_rejected_publications_is_void() {
    let server = Server::start("refused");
    let api = format!("http://{}/api", server.admin);
    let usual = ["publish", &api, "-c", "2", "--channels", "2", "--duration", "0.1", "--warmup", "0", "--calm", "0"];
    for batch in ["1", "3"] {
        let args = [&usual[..], &["--key-env", "KEY", "--channel", "nowhere:x", "--batch", batch]].concat();
        let (code, result) = server.load(&args);
        assert_eq!((code, result["publications"].as_u64()), (1, Some(0)), "{result}");
        assert!(result["answered_by_error"].as_u64().unwrap() > 0, "{result}");
    }
    let (code, result) = server.load(&usual);
    assert_eq!(code, 1, "without the key: {result}");
}

#[test]
fn idle_connections_have_tokens_and_positions() {
    let server = Server::start("idle");
    let url = server.url();
    let usual = ["idle", &url, "-c", "60", "--steps", "20,40", "--settle", "0.1", "--hold", "0.1", "--positioned"];
    for channel in [&["--channel", "one"][..], &["--channel", "own", "--own-channel"]] {
        let (code, result) = server.load(&[&usual[..], channel, &TOKENS].concat());
        assert_eq!((code, &result["open"]), (0, &json!(60)), "{result}");
        assert_eq!(result["memory"].as_array().unwrap().len(), 3);
    }
    let (code, result) = server.load(&usual);
    assert_eq!((code, &result["open"]), (1, &json!(0)), "no connection is accepted without a token: {result}");
}

#[test]
fn fanout_with_tokens_and_positions_loses_nothing() {
    let server = Server::start("fanout");
    let url = server.url();
    let usual = ["fanout", &url, "-n", "20", "--window", "4", "--duration", "0.3", "--warmup", "0.1", "--positioned"];
    let (_, result) = server.load(&[&usual[..], &TOKENS].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert!(result["run_deliveries"].as_u64().unwrap() > 0);
}

#[test]
fn storm_without_history_is_rejected() {
    let server = Server::start("bare");
    let output = Command::new(crate::TOOL)
        .args(["storm", &server.url(), "--total", "1", "--sockets", "1", "--channel", "bare:x", "--quiet"])
        .args(TOKENS)
        .env("SECRET", "the-secret")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bare:x0"), "{output:?}");
}

#[test]
fn certificate_and_key_are_written_to_the_folder() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificate");
    std::fs::create_dir_all(&folder).unwrap();
    let output = Command::new(crate::TOOL).arg("certificate").arg(&folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(["cert.pem", "key.pem"].iter().all(|name| std::fs::read_to_string(folder.join(name)).is_ok()));
}

#[test]
fn tls_works_with_fanout_and_storm() {
    let (server, url, trust) = secure("tls", open_to_all());
    let trust = [trust[0].as_str(), &trust[1]];
    let fanout = ["fanout", &url, "-n", "20", "--window", "4", "--duration", "0.3", "--warmup", "0.1"];
    for words in [&["--size", "64"][..], &["--size", "50000"]] {
        let (_, result) = server.load(&[&fanout[..], &trust, words].concat());
        assert_eq!(faults(&result), [""; 0], "{words:?}: {result}");
        assert!(result["run_deliveries"].as_u64().unwrap() > 0);
    }
    let storm = ["storm", &url, "--total", "60", "--sockets", "20", "--beside-subscribers", "3", "--calm", "0.1"];
    let (_, result) = server.load(&[&storm[..], &trust].concat());
    assert_eq!((faults(&result), &result["reconnects"]), (vec![], &json!(60)), "{result}");
}

#[test]
fn tls_handshakes_are_full_without_resumption() {
    let (server, url, trust) = secure("resume", open_to_all());
    let trust = [trust[0].as_str(), &trust[1]];
    let usual = ["connect", &url, "--protocol", "centrifuge", "--total", "40", "--concurrency", "1", "--close"];
    let (code, result) = server.load(&[&usual[..], &trust].concat());
    assert_eq!(
        (code, &result["handshakes_full"], &result["handshakes_resumed"]),
        (0, &json!(40), &json!(0)),
        "{result}"
    );
    let (code, result) = server.load(&[&usual[..], &trust, &["--tls-resume"]].concat());
    assert_eq!(
        (code, &result["handshakes_full"], &result["handshakes_resumed"]),
        (0, &json!(1), &json!(39)),
        "{result}"
    );
    let (code, result) = server.load(&[&usual[..], &["--tls-insecure"]].concat());
    assert_eq!((code, &result["opened"]), (0, &json!(40)), "{result}");
    let (_stranger, _, other) = secure("stranger", open_to_all());
    let (code, result) = server.load(&[&usual[..], &[&other[0], &other[1]]].concat());
    assert_eq!((code, &result["failed"]), (1, &json!(40)), "a certificate of another authority: {result}");
}

#[test]
fn compressed_deliveries_are_all_checked() {
    let mut more = open_to_all();
    more["websocket"] = json!({
        "compression": true, "compression_min_size": 1,
        "compression_server_takeover": true, "compression_client_takeover": true,
    });
    let server = Server::start_with("deflate", &more, &[]);
    let url = server.url();
    let fanout = ["fanout", &url, "-n", "20", "--window", "4", "--duration", "0.3", "--warmup", "0.1"];
    let payload = ["--payload", "json", "--size", "1024"];
    for deflate in ["fresh", "takeover"] {
        let (_, result) = server.load(&[&fanout[..], &payload, &["--deflate", deflate]].concat());
        assert_eq!(faults(&result), [""; 0], "{result}");
        let (publications, frame) =
            (result["run_publications"].as_u64().unwrap(), result["frame_bytes"].as_u64().unwrap());
        assert!(publications > 0 && frame < 700, "{result}");
        let storm = ["storm", &url, "--total", "60", "--sockets", "20", "--beside-subscribers", "3", "--calm", "0.1"];
        let (_, result) = server.load(&[&storm[..], &["--size", "300", "--deflate", deflate]].concat());
        assert_eq!((faults(&result), &result["reconnects"]), (vec![], &json!(60)), "{result}");
    }
}

#[test]
fn server_without_compression_is_reported() {
    let server = Server::start_with("undeflated", &open_to_all(), &[]);
    let (code, result) = server.load(&["connect", &server.url(), "--total", "3", "--deflate", "fresh"]);
    assert_eq!((code, &result["failed"]), (1, &json!(3)), "{result}");
    assert!(result["errors"].to_string().contains("permessage-deflate"), "{result}");
}
