//! One small run of each subcommand against the server of this repository: what is measured elsewhere works at all, and what
//! must not count does not.

mod real;

use real::{Server, faults, open_to_all};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const TOKENS: [&str; 2] = ["--token-secret-env", "SECRET"];

#[test]
fn a_storm_brings_everyone_back_with_what_they_missed() {
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
fn publications_over_the_api_are_answered_and_numbered_each_once() {
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
fn publications_that_were_refused_make_a_run_void() {
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
fn idle_connections_bring_tokens_and_hold_positions() {
    let server = Server::start("idle");
    let url = server.url();
    let usual = ["idle", &url, "-c", "60", "--steps", "20,40", "--settle", "0.1", "--hold", "0.1", "--positioned"];
    for channel in [&["--channel", "one"][..], &["--channel", "own", "--own-channel"]] {
        let (code, result) = server.load(&[&usual[..], channel, &TOKENS].concat());
        assert_eq!((code, &result["open"]), (0, &json!(60)), "{result}");
        assert_eq!(result["memory"].as_array().unwrap().len(), 3);
    }
    let (code, result) = server.load(&usual);
    assert_eq!((code, &result["open"]), (1, &json!(0)), "nobody enters without a token: {result}");
}

#[test]
fn a_fanout_with_tokens_and_positions_loses_nothing() {
    let server = Server::start("fanout");
    let url = server.url();
    let usual = ["fanout", &url, "-n", "20", "--window", "4", "--duration", "0.3", "--warmup", "0.1", "--positioned"];
    let (_, result) = server.load(&[&usual[..], &TOKENS].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert!(result["run_deliveries"].as_u64().unwrap() > 0);
}

#[test]
fn a_storm_into_channels_without_history_is_refused() {
    let server = Server::start("bare");
    let output = Command::new(env!("CARGO_BIN_EXE_corecast-load"))
        .args(["storm", &server.url(), "--total", "1", "--sockets", "1", "--channel", "bare:x", "--quiet"])
        .args(TOKENS)
        .env("SECRET", "the-secret")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bare:x0"), "{output:?}");
}

#[test]
fn abusers_beside_a_fanout_are_kept_at_their_number_and_honest_subscribers_get_everything() {
    let server = Server::start_with(
        "abuse",
        &json!({
            "client": {"allow_anonymous_connect_without_token": true}, "engine": {"upgrade_timeout": "300ms"},
        }),
        &[],
    );
    let url = server.url();
    let usual = ["fanout", &url, "-n", "20", "--window", "4", "--duration", "2", "--warmup", "0.1"];
    let (_, result) = server.load(&[&usual[..], &["--half-open", "50", "--never-read", "5"]].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert!(result["half_open_renewed"].as_u64().unwrap() >= 50, "each was cut and came again: {result}");
    assert_eq!(result["half_open_refused"], 0);
    assert!(result["server_rss_peak"].as_u64().unwrap() > 0);
}

#[test]
fn a_drain_is_told_second_by_second_with_its_codes() {
    let server = Server::start_with(
        "drain",
        &json!({
            "client": {"allow_anonymous_connect_without_token": true}, "shutdown": {"window": "3s", "timeout": "20s"},
        }),
        &[],
    );
    let (code, result) = server.load(&["drain", &server.url(), "-c", "90"]);
    assert_eq!((code, &result["without_frame"]), (0, &json!(0)), "{result}");
    let closes = result["closes_by_second"].as_array().unwrap();
    assert_eq!(closes.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), 90, "{result}");
    assert!(result["unevenness"].is_number(), "{result}");
}

#[test]
fn a_restart_under_load_is_followed_to_the_last_number() {
    let socket = std::env::temp_dir().join(format!("load-{}.sock", std::process::id()));
    let mut more = open_to_all();
    more["handover"] = json!({"socket": socket});
    more["shutdown"] = json!({"window": "1s"});
    let first = Server::start_with("restart", &more, &[]);
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, apis) = (first.url(), [first.admin, admin].map(|admin| format!("http://{admin}/api")));
    let args = ["restart", &url, "-n", "10", "--newcomers", "50", "--rate", "50", "--duration", "6"];
    let args = [&args[..], &["--key-env", "KEY", "--api", &apis[0], "--api", &apis[1]]].concat();
    let (code, result) = std::thread::scope(|scope| {
        let load = scope.spawn(|| first.load(&args));
        first.wait_for_publications();
        let next = Server::start_with("restart", &more, &["--takeover", "--admin", &admin.to_string()]);
        let found = load.join().unwrap();
        drop(next);
        found
    });
    assert_eq!(code, 0, "{result}");
    assert_eq!((&result["came_back"], &result["newcomers_failed"]), (&json!(10), &json!(0)), "{result}");
    assert!(result["publications_2"]["acknowledged"].as_u64().unwrap() > 0, "{result}");
}

/// A server that speaks TLS, and the arguments by which the tool believes it.
fn secure(name: &str, more: Value) -> (Server, String, [String; 2]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_corecast-load")).arg("certificate").arg(&folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let mut more = more;
    more["tls"] = json!({"cert_pem_file": file("cert.pem"), "key_pem_file": file("key.pem")});
    more["listen"] = json!(["tls:127.0.0.1:0"]);
    let server = Server::start_with(name, &more, &[]);
    let url = format!("wss://{}/connection/websocket", server.client);
    (server, url, ["--tls-ca".into(), file("cert.pem")])
}

#[test]
fn every_load_goes_over_tls_too() {
    let (server, url, trust) = secure("tls", open_to_all());
    let trust = [trust[0].as_str(), &trust[1]];
    let fanout = ["fanout", &url, "-n", "20", "--window", "4", "--duration", "0.3", "--warmup", "0.1"];
    for words in [&["--size", "64"][..], &["--size", "50000"], &["--half-open", "10", "--never-read", "2"]] {
        let (_, result) = server.load(&[&fanout[..], &trust, words].concat());
        assert_eq!(faults(&result), [""; 0], "{words:?}: {result}");
        assert!(result["run_deliveries"].as_u64().unwrap() > 0);
    }
    let storm = ["storm", &url, "--total", "60", "--sockets", "20", "--beside-subscribers", "3", "--calm", "0.1"];
    let (_, result) = server.load(&[&storm[..], &trust].concat());
    assert_eq!((faults(&result), &result["reconnects"]), (vec![], &json!(60)), "{result}");
    let drain = ["drain", &url, "-c", "20"];
    let (code, result) = server.load(&[&drain[..], &trust].concat());
    assert_eq!((code, &result["without_frame"]), (0, &json!(0)), "{result}");
}

#[test]
fn hand_shakes_are_full_unless_sessions_are_taken_up_again() {
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
    assert_eq!((code, &result["failed"]), (1, &json!(40)), "a certificate of someone else: {result}");
}

#[test]
fn compressed_publications_are_deflated_once_and_every_delivery_is_followed() {
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
fn a_server_that_does_not_compress_is_named_as_such() {
    let server = Server::start_with("undeflated", &open_to_all(), &[]);
    let (code, result) = server.load(&["connect", &server.url(), "--total", "3", "--deflate", "fresh"]);
    assert_eq!((code, &result["failed"]), (1, &json!(3)), "{result}");
    assert!(result["errors"].to_string().contains("permessage-deflate"), "{result}");
}
