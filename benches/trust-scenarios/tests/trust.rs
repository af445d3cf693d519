//! One small run of each subcommand against the server of this repository.

#[path = "../../../tools/load/tests/it/server.rs"]
mod server;

use serde_json::json;
use server::{Server, faults, open_to_all, secure};
use std::net::TcpListener;

/// The program under test.
const TOOL: &str = env!("CARGO_BIN_EXE_corecast-trust");

#[test]
fn abusive_clients_are_renewed_and_other_subscribers_get_everything() {
    let server = Server::start_with(
        "abuse",
        &json!({
            "client": {"allow_anonymous_connect_without_token": true}, "engine": {"upgrade_timeout": "300ms"},
        }),
        &[],
    );
    let url = server.url();
    let usual = ["abuse", &url, "-n", "20", "--window", "4", "--duration", "2", "--warmup", "0.1"];
    let (_, result) = server.load(&[&usual[..], &["--half-open", "50", "--never-read", "5"]].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert!(result["half_open_renewed"].as_u64().unwrap() >= 50, "each was closed and opened again: {result}");
    assert_eq!(result["half_open_refused"], 0);
    assert!(result["server_rss_peak"].as_u64().unwrap() > 0);
}

#[test]
fn attack_by_large_replies_is_run_and_judged() {
    let server = Server::start_with("replies", &open_to_all(), &[]);
    let program = std::path::Path::new(TOOL).with_file_name("corecast");
    drop(server);
    let output = std::process::Command::new(TOOL)
        .args([
            "replies",
            "--only",
            "history, 3 × not reading, one frame, Json",
            "--connections",
            "3",
            "--seconds",
            "0.5",
        ])
        .args(["--publications", "10", "--backlog-mib", "64", "--server"])
        .arg(program)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("history, 3")).collect();
    assert_eq!(rows.len(), 1, "{text}");
    assert!(rows[0].ends_with("holds |") || rows[0].ends_with("FAILED |"), "{text}");
}

#[test]
fn drain_reports_closes_by_second_and_code() {
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

/// Waits until the server has a publication.
fn wait_for_publications(server: &Server) {
    server.wait_for_metrics(|text| {
        let mut lines = text.lines().filter(|line| line.starts_with("corecast_publications_total"));
        lines.any(|line| !line.ends_with(" 0"))
    });
}

#[test]
fn restart_under_load_loses_no_acknowledged_publication() {
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
        wait_for_publications(&first);
        let next = Server::start_with("restart", &more, &["--takeover", "--admin", &admin.to_string()]);
        let found = load.join().unwrap();
        drop(next);
        found
    });
    assert_eq!(code, 0, "{result}");
    assert_eq!((&result["came_back"], &result["newcomers_failed"]), (&json!(10), &json!(0)), "{result}");
    assert!(result["publications_2"]["acknowledged"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn scenarios_work_over_tls() {
    let (server, url, trust) = secure("trust-tls", open_to_all());
    let trust = [trust[0].as_str(), &trust[1]];
    let usual = ["abuse", &url, "-n", "20", "--window", "4", "--duration", "0.3", "--warmup", "0.1"];
    let abusers = ["--half-open", "10", "--never-read", "2"];
    let (_, result) = server.load(&[&usual[..], &trust, &abusers].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert!(result["run_deliveries"].as_u64().unwrap() > 0);
    let (code, result) = server.load(&[&["drain", &url, "-c", "20"][..], &trust].concat());
    assert_eq!((code, &result["without_frame"]), (0, &json!(0)), "{result}");
}
