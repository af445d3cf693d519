//! Chats, notifications, slow readers, sinks and files of runs.

use crate::server::{Server, faults, open_to_all};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output};

const SHORT: [&str; 4] = ["--duration", "0.5", "--warmup", "0.1"];

fn number(result: &Value, key: &str) -> u64 {
    result[key].as_u64().unwrap_or_else(|| panic!("{key} in {result}"))
}

#[test]
fn chat_messages_reach_every_member_of_the_room() {
    let server = Server::start_with("chat", &open_to_all(), &[]);
    let url = server.url();
    let usual = ["chat", &url, "-c", "120", "--rooms", "20", "--talk-rate", "8", "--talkers", "0.2"];
    let forms: [&[&str]; 6] = [
        &[],
        &["--threads", "3"],
        &["--protocol", "centrifuge-protobuf"],
        &["--payload", "json", "--size", "300"],
        &["--probes", "40", "--threads", "2"],
        &["--arrivals", "poisson"],
    ];
    for more in forms {
        let (code, result) = server.load(&[&usual[..], &SHORT, more].concat());
        assert_eq!((code, faults(&result)), (0, vec![]), "{more:?}: {result}");
        let (rooms, publications) = (&result["rooms"], number(&result, "run_publications"));
        assert!(rooms["largest"].as_u64() > rooms["median"].as_u64(), "{result}");
        assert!(publications > 50 && number(&result, "run_deliveries") > 5 * publications, "{result}");
        assert_eq!(result["talkers"], 24);
    }
}

#[test]
fn chat_of_users_with_tokens_can_be_published_over_the_api() {
    let server = Server::start("chat-api");
    let (url, api) = (server.url(), format!("http://{}/api", server.admin));
    let usual = ["chat", &url, "-c", "60", "--rooms", "10", "--talk-rate", "10", "--token-secret-env", "SECRET"];
    let backend = ["--api", &api, "--key-env", "KEY", "--publishers", "3"];
    let (code, result) = server.load(&[&usual[..], &SHORT, &backend].concat());
    assert_eq!((code, faults(&result)), (0, vec![]), "{result}");
    assert!(number(&result, "run_publications") > 10, "{result}");
}

#[test]
fn notifications_reach_only_their_user() {
    let server = Server::start_with("notifications", &open_to_all(), &[]);
    let (url, api) = (server.url(), format!("http://{}/api", server.admin));
    // More users than a stamp can number channels.
    let usual = ["notifications", &url, "-c", "400", "--rate", "400"];
    let by_api = ["--api", &api, "--key-env", "KEY", "--publishers", "4"];
    for more in [&[][..], &by_api, &["--protocol", "centrifuge-protobuf", "--threads", "2"]] {
        let (code, result) = server.load(&[&usual[..], &SHORT, more].concat());
        assert_eq!((code, faults(&result)), (0, vec![]), "{more:?}: {result}");
        let publications = number(&result, "run_publications");
        assert!(publications > 100 && number(&result, "run_deliveries") == publications, "{result}");
        if more.contains(&"--api") {
            // A response takes at least one round trip.
            assert!(result["answer_us"]["p50"].as_f64().unwrap() > 1.0, "{result}");
        }
    }
}

#[test]
fn api_rejections_make_a_run_void() {
    let server = Server::start_with("notifications-refused", &open_to_all(), &[]);
    let (url, api) = (server.url(), format!("http://{}/api", server.admin));
    let usual = ["notifications", &url, "-c", "10", "--rate", "50", "--api", &api];
    let (code, result) = server.load(&[&usual[..], &SHORT].concat());
    assert_eq!(code, 1, "without the key: {result}");
    assert!(number(&result, "refused") > 0, "{result}");
}

#[test]
fn sinks_count_the_deliveries_that_probes_check() {
    let server = Server::start_with("sinks", &open_to_all(), &[]);
    let url = server.url();
    let usual = ["fanout", &url, "-n", "40", "--channels", "3", "--probes", "6"];
    let cores = ["--window", "2", "--threads", "2", "--cores", "0", "--probe-cores", "0,0"];
    let forms: [&[&str]; 4] = [
        &["--rate", "200"],
        &["--window", "4"],
        &["--window", "4", "--protocol", "centrifuge-protobuf", "--publishers", "2"],
        &cores,
    ];
    for more in forms {
        let (_, result) = server.load(&[&usual[..], &SHORT, more].concat());
        assert_eq!(faults(&result), [""; 0], "{more:?}: {result}");
        assert_eq!((number(&result, "sinks"), number(&result, "sinks_missing")), (34, 0), "{more:?}: {result}");
        assert!(number(&result, "run_deliveries") > 40 * 3, "{result}");
    }
}

#[test]
fn slow_readers_are_closed_with_their_code_and_other_subscribers_get_everything() {
    let server = Server::start_with("slow", &open_to_all(), &[]);
    let url = server.url();
    let usual = ["slow", &url, "-n", "20", "--slow", "0.2", "--slow-rate", "500", "--rate", "200"];
    let (code, result) = server.load(&[&usual[..], &["--size", "20000", "--duration", "2", "--warmup", "0"]].concat());
    assert_eq!((code, faults(&result)), (0, vec![]), "{result}");
    assert_eq!((&result["slow"]["count"], &result["subscribers"]), (&json!(4), &json!(16)), "{result}");
    assert_eq!(result["slow"]["closes"], json!({"3008": 4}), "{result}");
    // A reader that keeps up is not slow.
    let (code, result) = server.load(&["slow", &url, "-n", "20", "--rate", "5", "--duration", "1", "--warmup", "0"]);
    assert_eq!((code, &result["slow"]["open"]), (0, &json!(2)), "{result}");
    assert_eq!(number(&result, "slow_deliveries"), 2 * number(&result, "run_publications"), "{result}");
}

#[test]
fn protobuf_works_with_every_scenario_that_has_channels() {
    let server = Server::start("protobuf");
    let url = server.url();
    let tokens = ["--token-secret-env", "SECRET", "--protocol", "centrifuge-protobuf"];
    let fanout = ["fanout", &url, "-n", "20", "--window", "4", "--positioned", "--subscription-tokens"];
    let (_, result) = server.load(&[&fanout[..], &SHORT, &tokens].concat());
    assert_eq!(faults(&result), [""; 0], "{result}");
    assert!(number(&result, "run_deliveries") > 20, "{result}");
    let idle = ["idle", &url, "-c", "30", "--settle", "0.1", "--hold", "0.1", "--positioned", "--own-channel"];
    let (code, result) = server.load(&[&idle[..], &tokens].concat());
    assert_eq!((code, &result["open"]), (0, &json!(30)), "{result}");
    let (code, result) = server.load(&["connect", &url, "--total", "3", "--protocol", "centrifuge-protobuf"]);
    assert_eq!((code, &result["failed"]), (1, &json!(3)), "no connection is accepted without a token: {result}");
}

#[test]
fn mixed_run_starts_its_parts_together_and_reports_each() {
    let server = Server::start_with("mixed", &open_to_all(), &[]);
    let url = server.url();
    let parts = "chat=0.4,notifications=0.2,fanout=0.1,slow=0.1,idle=0.1,connect=0.1";
    let usual = ["mixed", &url, "-c", "100", "--rate", "5", "--parts", parts];
    let (code, result) = server.load(&[&usual[..], &["--duration", "1", "--warmup", "0.3"]].concat());
    assert_eq!((code, faults(&result)), (0, vec![]), "{result}");
    let kinds: Vec<&str> =
        result["parts"].as_array().unwrap().iter().map(|part| part["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["chat", "notifications", "fanout", "slow", "idle", "connect"]);
    assert!(
        result["server_busy"].is_number() && result["parts"][0]["run_deliveries"].as_u64().unwrap() > 0,
        "{result}"
    );
}

/// Runs the tool on a file of runs with this text.
fn run_file(name: &str, text: &str, more: &[&str]) -> Output {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).unwrap();
    Command::new(crate::TOOL).arg("run").arg(file).args(more).env("KEY", "the-key").output().unwrap()
}

#[test]
fn run_file_runs_one_after_another_and_at_once() {
    let server = Server::start_with("file", &open_to_all(), &[]);
    let text = format!(
        "[defaults]\nurl = \"{}\"\nduration = 0.4\nwarmup = 0.1\nhold = 0.5\n\
         [[run]]\nname = \"first\"\nscenario = \"fanout\"\nsubscribers = 10\nrate = 100\n\
         [[run]]\nname = \"talk\"\nscenario = \"chat\"\nconnections = 30\nrooms = 5\ntalk_rate = 5\n\
         [[run]]\nname = \"connected\"\nscenario = \"idle\"\nalongside = true\nconnections = 10\n",
        server.url()
    );
    let output = run_file("runs.toml", &text, &["--json", "--quiet"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!((output.status.code(), &result["void"]), (Some(0), &json!([])), "{result}");
    let names: Vec<&str> = result["runs"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "talk", "connected"]);
    let output = run_file("runs.toml", &text, &["--quiet", "--only", "connected"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.starts_with("opened"), "a single run is printed without a heading: {text}");
}

#[test]
fn run_file_with_a_void_run_is_void_and_reports_the_others() {
    let server = Server::start_with("void", &open_to_all(), &[]);
    let text = format!(
        "[defaults]\nurl = \"{}\"\n[[run]]\nscenario = \"idle\"\nconnections = 5\nhold = 0.2\n\
         [[run]]\nname = \"nowhere\"\nscenario = \"fanout\"\nalongside = true\nchannel = \"unknown:x\"\nsubscribers = 3\n",
        server.url()
    );
    let output = run_file("void.toml", &text, &["--json", "--quiet"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!((output.status.code(), &result["void"]), (Some(1), &json!(["nowhere: VOID"])), "{result}");
    assert_eq!(result["runs"][0]["exit_code"], 0);
}

#[test]
fn run_file_error_is_reported_before_anything_runs() {
    let output = run_file("fault.toml", "[[run]]\nscenario = \"chat\"\nurl = \"ws://x/\"\ntalk_rte = 3\n", &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("fault.toml:4: chat has no `talk_rte`; did you mean `talk-rate`?"), "{text}");
}

#[test]
fn samples_are_printed_and_accepted_by_a_dry_run() {
    let samples = Command::new(crate::TOOL).args(["scenarios", "mixed"]).output().unwrap();
    let output = run_file("sample.toml", &String::from_utf8_lossy(&samples.stdout), &["--dry-run"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("  and churn: corecast-load connect --close"), "{text}");
}
