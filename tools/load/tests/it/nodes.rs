//! Runs over several nodes: which node lost what, and clients that reconnect and recover.

use crate::server::{Server, faults, open_to_all};
use crate::verdicts::{Fault, Server as Cluster, load};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Subscribers of each run; with two nodes, each has half of them.
const SUBSCRIBERS: usize = 8;

/// A fan-out over a cluster of small nodes, of which the last one fails at the 20th publication.
fn fanout(nodes: usize, fault: Fault, more: &[&str]) -> (i32, Value) {
    let urls = Cluster::start_nodes(nodes, fault, None);
    let urls: Vec<String> = urls.iter().map(|addr| format!("ws://{addr}/connection/websocket")).collect();
    let (urls, count) = (urls.join(","), SUBSCRIBERS.to_string());
    let usual = ["fanout", &urls, "-n", &count, "--rate", "200", "--duration", "0.8", "--warmup", "0.05"];
    load(&[&usual[..], &["--reconnect-delay-max", "0.1"], more].concat())
}

/// A field of each node.
fn of_nodes(result: &Value, key: &str) -> Vec<u64> {
    let nodes = result["nodes"].as_array().unwrap_or_else(|| panic!("no nodes in {result}"));
    nodes.iter().map(|node| node[key].as_u64().unwrap_or_else(|| panic!("{key} in {result}"))).collect()
}

#[test]
fn connections_use_the_nodes_in_turn_and_each_node_is_reported() {
    for reconnect in ["same", "off"] {
        let (code, result) = fanout(3, Fault::None, &["--reconnect", reconnect]);
        assert_eq!(code, 0, "{result}");
        assert_eq!(of_nodes(&result, "subscribers"), [3, 3, 2], "{result}");
        let publications = result["run_publications"].as_u64().unwrap();
        assert_eq!(of_nodes(&result, "deliveries"), [3, 3, 2].map(|n| n * publications), "{result}");
        assert_eq!(result["urls"].as_array().unwrap().len(), 3);
        for node in 1..=3 {
            assert!(result[format!("node{node}_latency_us")]["count"].as_u64() > Some(0), "{result}");
        }
    }
}

#[test]
fn faults_of_deliveries_count_for_their_node() {
    for (fault, key) in [(Fault::Skip, "lost"), (Fault::Twice, "duplicates"), (Fault::Swap, "reordered")] {
        for reconnect in ["same", "off"] {
            let (code, result) = fanout(2, fault, &["--reconnect", reconnect]);
            assert_eq!((code, of_nodes(&result, key), &result[key]), (1, vec![0, 1], &json!(1)), "{key}: {result}");
        }
    }
    let (_, result) = fanout(2, Fault::Skip, &[]);
    let void = result["void"].to_string();
    assert!(void.contains("node 2 (ws://") && void.contains("the first in load number 19"), "{void}");
}

#[test]
fn closed_clients_reconnect_and_recover_everything() {
    for (fault, code) in [(Fault::Cut, "1006"), (Fault::Close(3001), "3001"), (Fault::Refuse, "1006")] {
        let (exit, result) = fanout(2, fault, &[]);
        assert_eq!((exit, &result["lost"], &result["duplicates"]), (0, &json!(0), &json!(0)), "{result}");
        assert_eq!(result["nodes"][1]["closes"], json!({code: SUBSCRIBERS / 2}), "{result}");
        assert_eq!(of_nodes(&result, "recovered"), [0, SUBSCRIBERS as u64 / 2], "{result}");
        assert_eq!(result["away_us"]["count"], SUBSCRIBERS / 2, "{result}");
        assert_eq!(result["run_deliveries"].as_u64(), result["acknowledged"].as_u64().map(|n| n * SUBSCRIBERS as u64));
    }
}

#[test]
fn unsubscribed_clients_subscribe_again_on_their_connection() {
    let (exit, result) = fanout(2, Fault::Unsubscribe, &[]);
    assert_eq!((exit, &result["lost"], &result["closes"]), (0, &json!(0), &json!({})), "{result}");
    assert_eq!(result["nodes"][1]["unsubscribes"], json!({"2500": SUBSCRIBERS / 2}), "{result}");
    assert_eq!(of_nodes(&result, "recovered"), [0, SUBSCRIBERS as u64 / 2], "{result}");
}

#[test]
fn closed_clients_move_to_the_next_node_if_told_to() {
    let (exit, result) = fanout(2, Fault::Cut, &["--reconnect", "next"]);
    assert_eq!((exit, &result["lost"]), (0, &json!(0)), "{result}");
    assert_eq!(of_nodes(&result, "subscribers"), [SUBSCRIBERS as u64, 0], "{result}");
    assert_eq!(of_nodes(&result, "recovered"), [SUBSCRIBERS as u64 / 2, 0], "{result}");
}

#[test]
fn lost_history_and_repeated_recoveries_make_a_run_void() {
    let (exit, result) = fanout(2, Fault::Forget, &[]);
    let lost = of_nodes(&result, "lost");
    assert_eq!((exit, of_nodes(&result, "not_recovered")), (1, vec![0, SUBSCRIBERS as u64 / 2]), "{result}");
    assert!(lost[0] == 0 && lost[1] > 0 && lost[1].is_multiple_of(SUBSCRIBERS as u64 / 2), "{result}");
    let (exit, result) = fanout(2, Fault::Repeat, &[]);
    assert_eq!((exit, of_nodes(&result, "duplicates")), (1, vec![0, SUBSCRIBERS as u64 / 2]), "{result}");
    assert_eq!(result["lost"], 0, "{result}");
}

#[test]
fn final_close_codes_end_a_client_and_make_a_run_void() {
    let (exit, result) = fanout(2, Fault::Close(3500), &[]);
    assert_eq!((exit, &result["ended"]), (1, &json!(SUBSCRIBERS / 2)), "{result}");
    assert!(of_nodes(&result, "lost")[1] > 0, "{result}");
}

#[test]
fn publication_without_an_answer_is_in_doubt_and_not_lost() {
    let (exit, result) = fanout(2, Fault::Doubt, &[]);
    assert_eq!((exit, &result["lost"]), (0, &json!(0)), "{result}");
    let keys = ["run_publications", "acknowledged", "in_doubt", "unsent"];
    let [published, acknowledged, in_doubt, unsent] = keys.map(|key| result[key].as_u64().unwrap());
    assert!(in_doubt > 0 && acknowledged + in_doubt + unsent == published, "{result}");
}

#[test]
fn without_reconnects_the_first_close_ends_a_run() {
    let (exit, result) = fanout(2, Fault::Cut, &["--reconnect", "off"]);
    assert_eq!((exit, &result["closes"]), (1, &json!({"1006": SUBSCRIBERS / 2})), "{result}");
}

#[test]
fn single_url_can_reconnect_too() {
    let (exit, result) = fanout(1, Fault::Cut, &["--reconnect", "same"]);
    assert_eq!((exit, &result["lost"], &result["recovered"]), (0, &json!(0), &json!(SUBSCRIBERS)), "{result}");
}

#[test]
fn options_that_exclude_reconnects_are_named() {
    let tool = |more: &[&str]| -> Output {
        let usual = ["fanout", "ws://127.0.0.1:1/", "--url", "ws://127.0.0.1:2/", "--reconnect", "same", "--quiet"];
        Command::new(crate::TOOL).args(usual).args(more).output().unwrap()
    };
    let forms: [(&[&str], &str); 4] = [
        (&[], "needs a --rate"),
        (&["--rate", "5", "--protocol", "centrifuge-protobuf"], "in JSON"),
        (&["--rate", "5", "--probes", "1"], "omit --probes"),
        (&["--rate", "5", "--processes", "2"], "one process"),
    ];
    for (more, reason) in forms {
        let output = tool(more);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(reason), "{more:?}: {text}");
    }
}

#[test]
fn nodes_that_share_nothing_lose_what_is_published_at_the_other() {
    let (one, two) =
        (Server::start_with("node1", &open_to_all(), &[]), Server::start_with("node2", &open_to_all(), &[]));
    let (first, second) = (one.url(), two.url());
    let usual = ["fanout", &first, "--url", &second, "-n", "6", "--rate", "50", "--duration", "0.4", "--warmup", "0.1"];
    for (more, lost_at) in [(&[][..], 1), (&["--publish-url", &second], 0), (&["--publishers", "3"], 1)] {
        let (code, result) = one.load(&[&usual[..], more].concat());
        let (lost, publications) = (of_nodes(&result, "lost"), result["acknowledged"].as_u64().unwrap());
        assert_eq!((code, lost[lost_at], lost[1 - lost_at]), (1, 3 * publications, 0), "{more:?}: {result}");
    }
}

/// Kills the server once so many connections are open, and starts it again at the same addresses.
fn kill_and_start_again(server: &mut Server, name: &str, connections: usize) {
    let wanted = format!("corecast_connections{{shard=\"0\"}} {connections}\n");
    server.wait_for_metrics(|text| text.contains(&wanted));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let (listen, admin) = (server.client.to_string(), server.admin.to_string());
    let mut more = open_to_all();
    more["listen"] = json!([listen]);
    *server = Server::start_with(name, &more, &["--admin", &admin]);
}

#[test]
fn node_that_is_killed_and_returns_does_not_end_a_run() {
    for by_api in [false, true] {
        let mut server = Server::start_with("killed", &open_to_all(), &[]);
        let (url, api) = (server.url(), format!("http://{}/api", server.admin));
        let usual = ["fanout", &url, "-n", "10", "--reconnect", "same", "--rate", "100", "--duration", "4"];
        let by = if by_api { &["--api", &api, "--key-env", "KEY"][..] } else { &[] };
        let mut tool = Command::new(crate::TOOL);
        tool.args(usual).args(["--reconnect-delay-max", "0.3", "--json", "--quiet"]).args(by).env("KEY", "the-key");
        let running = tool.stdout(Stdio::piped()).spawn().unwrap();
        kill_and_start_again(&mut server, "killed", if by_api { 10 } else { 11 });
        let output = running.wait_with_output().unwrap();
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        // Its history is gone, so nothing is recovered.
        assert_eq!((of_nodes(&result, "not_recovered"), &result["not_back"]), (vec![10], &json!(0)), "{result}");
        assert_eq!(result["nodes"][0]["closes"], json!({"1006": 10}), "{result}");
        let [acknowledged, deliveries] = ["acknowledged", "run_deliveries"].map(|key| result[key].as_u64().unwrap());
        assert!(acknowledged > 100 && deliveries > 10 * 100, "it goes on: {result}");
    }
}

#[test]
fn every_scenario_of_the_fan_out_family_works_over_nodes() {
    let server = Server::start_with("family", &open_to_all(), &[]);
    let api = format!("http://{}/api", server.admin);
    let (url, times) = (format!("{0},{0}", server.url()), ["--duration", "0.5", "--warmup", "0.1"]);
    let forms: [&[&str]; 6] = [
        &["chat", "-c", "40", "--rooms", "8", "--talk-rate", "8"],
        &["notifications", "-c", "40", "--rate", "200"],
        &["notifications", "-c", "40", "--rate", "100", "--api", &api, "--key-env", "KEY"],
        &["slow", "-n", "20", "--rate", "20"],
        &["fanout", "-n", "20", "--channels", "4", "--own-channel", "own", "--threads", "2", "--rate", "100"],
        &["fanout", "-n", "20", "--window", "4", "--protocol", "centrifuge-protobuf"],
    ];
    for form in forms {
        let (_, result) = server.load(&[form, &[&url], &times].concat());
        assert_eq!(faults(&result), [""; 0], "{form:?}: {result}");
        assert!(of_nodes(&result, "deliveries").iter().all(|n| *n > 0), "{form:?}: {result}");
    }
    for form in [&["idle", "-c", "10", "--hold", "0.1"][..], &["connect", "--total", "10"]] {
        let (code, result) = server.load(&[form, &[&url]].concat());
        assert_eq!((code, result["urls"].as_array().unwrap().len()), (0, 2), "{result}");
    }
}

#[test]
fn page_has_a_table_of_the_nodes() {
    let urls = Cluster::start_nodes(2, Fault::Cut, None);
    let urls = urls.iter().map(|addr| format!("ws://{addr}/connection/websocket")).collect::<Vec<_>>().join(",");
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nodes.html");
    let usual = ["fanout", &urls, "-n", "8", "--rate", "200", "--duration", "0.8", "--reconnect-delay-max", "0.1"];
    let output = Command::new(crate::TOOL).args(usual).args(["--quiet", "--html"]).arg(&page).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{table}");
    for part in ["2, which the connections use in turn", "node 2", "4 closed with 1006", "4 recovered: true", "0 lost"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("<h2>Nodes</h2>") && text.contains("4 × 1006") && text.contains("latency at node 2"));
}
