//! The output of runs: files, pages, comparisons and the live view.

use crate::server::{Server, open_to_all};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn start(name: &str) -> Server {
    Server::start_with(name, &open_to_all(), &[])
}

/// A fan-out of a second and a half at a rate, with more words.
fn fanout(server: &Server, more: &[&str]) -> Output {
    let (pid, metrics, url) = (server.child.id().to_string(), server.metrics_url(), server.url());
    let usual = ["fanout", &url, "--subscribers", "20", "--rate", "200", "--duration", "1.5", "--warmup", "0.5"];
    tool(&[&usual[..], &["--server-pid", &pid, "--server-metrics", &metrics], more].concat())
}

fn tool(args: &[&str]) -> Output {
    Command::new(crate::TOOL).args(args).output().unwrap()
}

fn file(name: &str) -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_string()
}

fn read(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn saved_run_has_figures_time_series_curves_and_host_and_its_page_shows_them() {
    let server = start("whole");
    let (out, html, again) = (file("whole.json"), file("whole.html"), file("again.html"));
    let done = fanout(&server, &["--json", "--quiet", "--out", &out, "--html", &html]);
    assert!(done.status.success(), "{done:?}");
    let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
    let whole = read(&out);
    assert_eq!((&whole["schema"], &whole["kind"], &whole["result"]), (&json!(1), &json!("fanout"), &printed));

    let series = &whole["series"];
    let length = series["at"].as_array().unwrap().len();
    assert!(length >= 2, "{series}");
    let columns = ["received_per_second", "own_busy", "server_busy", "server_rss_bytes", "server_writes_per_message"];
    for column in
        columns.map(|name| &series[name]).into_iter().chain([&series["latency_us"]["p99"], &series["lag_us"]["p50"]])
    {
        assert_eq!(column.as_array().unwrap().len(), length, "{series}");
        assert!(column.as_array().unwrap().iter().any(|value| value.as_f64().is_some_and(|n| n > 0.0)), "{column}");
    }
    assert!(series["measured"][1].as_f64().unwrap() > series["measured"][0].as_f64().unwrap());
    // The seconds together are all deliveries of the run, including the warm-up.
    let counts = series["latency_us"]["count"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap());
    assert!(counts.sum::<u64>() <= whole["result"]["run_deliveries"].as_u64().unwrap());

    let keys: Vec<_> = whole["curves"].as_array().unwrap().iter().map(|curve| curve["key"].as_str().unwrap()).collect();
    for key in ["latency_us", "last_us", "upgraded_us", "connected_us", "subscribed_us", "ready_us", "own_lag_us"] {
        assert!(keys.contains(&key) && whole["result"][key]["count"].as_u64().unwrap() > 0, "{key}: {keys:?}");
    }
    assert_eq!(whole["result"]["subscribed_us"]["count"], 20);
    assert_eq!((&whole["host"]["loopback"], whole["host"]["cores"].is_number()), (&json!(true), true));
    assert!(whole["host"]["server"].as_str().unwrap().starts_with("corecast "));
    assert!(whole["command"].as_array().unwrap().contains(&json!("--subscribers")));

    let page = std::fs::read_to_string(&html).unwrap();
    for part in
        ["Valid: every", "Latency over time", "Percentiles", "Throughput", "Processor time", "Server memory", "Lag"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("<svg") && page.contains("net.core.somaxconn") && page.contains("--subscribers 20"));
    for part in ["<script", "src=", "<link", "@import", "NaN"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(tool(&["report", &out, "--html", &again]).status.success());
    assert_eq!(std::fs::read_to_string(&again).unwrap(), page);
    let table = String::from_utf8(tool(&["report", &out]).stdout).unwrap();
    assert!(table.contains("time to last subscriber") && table.contains("deliveries per second"), "{table}");
}

#[test]
fn comparison_of_two_runs_begins_with_their_differences() {
    let server = start("beside");
    let [a, b, html] = ["a.json", "b.json", "both.html"].map(file);
    for (path, size) in [(&a, "64"), (&b, "128")] {
        assert!(fanout(&server, &["--quiet", "--size", size, "--out", path]).status.success());
    }
    let done = tool(&["compare", &a, &b, "--html", &html]);
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    let (differs, figures) = (text.find("--size").unwrap(), text.find("latency of deliveries, p99").unwrap());
    assert!(differs < figures && text.contains("A 64   B 128"), "{text}");
    assert!(std::fs::read_to_string(&html).unwrap().contains("Both sides in one plot"));
    let several = tool(&["compare", &format!("{a},{a},{a}"), &format!("{a},{a},{a}"), "--json"]);
    let found: Value = serde_json::from_slice(&several.stdout).unwrap();
    assert_eq!((&found["figures"]["latency_us.p50"]["verdict"], &found["void"]), (&json!("same"), &json!(false)));
    assert_eq!(found["cautions"], json!([]));

    let mut void = read(&b);
    void["void"] = json!(["3 deliveries never came"]);
    std::fs::write(&b, void.to_string()).unwrap();
    let done = tool(&["compare", &a, &b]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text.contains("b.json is VOID: 3 deliveries never came"), "{text}");
}

#[test]
fn unreadable_or_unwritable_files_are_rejected_before_the_measurement() {
    let nowhere = file("no/such/folder/x.json");
    let done = tool(&["echo", "ws://127.0.0.1:0/", "--quiet", "--out", &nowhere]);
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("cannot be written"), "{done:?}");
    let manifest = format!("{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    for args in [vec!["report", &manifest], vec!["compare", &manifest, &manifest]] {
        assert_eq!(tool(&args).status.code(), Some(2));
    }
}

#[test]
fn live_view_redraws_in_place_and_leaves_the_terminal_unchanged() {
    let server = start("live");
    let done = fanout(&server, &["--live"]);
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(text.contains("measured") && text.contains("/s in") && text.contains('█'), "{text}");
    // Only cursor movement and erasing: nothing that would have to be restored.
    let codes: std::collections::BTreeSet<_> =
        text.split("\x1b[").skip(1).filter_map(|rest| rest.chars().find(char::is_ascii_alphabetic)).collect();
    assert!(codes.iter().all(|code| "AJK".contains(*code)), "{codes:?}");
    let plain = fanout(&server, &[]);
    let text = String::from_utf8(plain.stderr).unwrap();
    assert!(!text.contains('\x1b') && text.contains("measured"), "{text}");
}
