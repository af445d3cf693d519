//! Ctrl-C, files that are replaced as a whole, the time of a search, and the hints of errors.

use crate::server::{Server, faults, open_to_all};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Starts the tool in a process group of its own, as a shell does.
fn begin(args: &[&str]) -> Child {
    let mut tool = Command::new(crate::TOOL);
    tool.args(args).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).unwrap()
}

/// What a terminal does at Ctrl-C.
fn ctrl_c(child: &Child) {
    kill_process_group(pid(child), Signal::INT).unwrap();
}

fn rejected(args: &[&str]) -> String {
    let Output { status, stderr, .. } = Command::new(crate::TOOL).args(args).output().unwrap();
    assert_eq!(status.code(), Some(2), "{args:?}");
    String::from_utf8(stderr).unwrap()
}

fn file(name: &str) -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_string()
}

/// Sends one Ctrl-C after another.
fn wait_for_exit_under_signals(tool: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = tool.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the tool still runs");
        ctrl_c(tool);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the server has received publications.
fn wait_for_load(server: &Server) {
    server.wait_for_metrics(|text| {
        let line = text.lines().find(|line| line.starts_with("corecast_publications_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).is_some_and(|count| count > 20.0)
    });
}

#[test]
fn first_ctrl_c_ends_the_load_with_a_report_of_what_was_measured() {
    for (name, more) in [("interrupt", &[][..]), ("interrupt-processes", &["--processes", "2"][..])] {
        let server = Server::start_with(name, &open_to_all(), &[]);
        let (url, out) = (server.url(), file(&format!("{name}.out.json")));
        std::fs::write(&out, "old").unwrap();
        let usual = ["fanout", &url, "-n", "10", "--rate", "200", "--warmup", "0", "--duration", "1h"];
        let tool = begin(&[&usual[..], &["--json", "--quiet", "--out", &out], more].concat());
        wait_for_load(&server);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "old", "the file is replaced at the end");
        ctrl_c(&tool);
        let output = tool.wait_with_output().unwrap();
        let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        assert_eq!(output.status.code(), Some(1), "{result}");
        let reasons = faults(&result);
        assert!(reasons.len() == 1 && reasons[0].starts_with("interrupted"), "nothing is missing: {reasons:?}");
        assert!(result["run_deliveries"].as_u64().unwrap() > 0, "{result}");
        let saved: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
        assert_eq!(saved["result"], result);
    }
}

#[test]
fn second_ctrl_c_ends_the_tool_at_once_and_leaves_its_file_unchanged() {
    let server = Server::start_with("abort", &open_to_all(), &[]);
    let (url, out) = (server.url(), file("abort.out.json"));
    std::fs::write(&out, "old").unwrap();
    let mut tool = begin(&["fanout", &url, "-n", "5", "--rate", "200", "--duration", "1h", "--quiet", "--out", &out]);
    wait_for_load(&server);
    // Its deliveries do not come any more, so that it waits for them after the first signal.
    kill_process(pid(&server.child), Signal::STOP).unwrap();
    let status = wait_for_exit_under_signals(&mut tool);
    kill_process(pid(&server.child), Signal::CONT).unwrap();
    assert_eq!((status.code(), std::fs::read_to_string(&out).unwrap().as_str()), (Some(130), "old"));
}

#[test]
fn ctrl_c_ends_all_runs_of_a_file() {
    let server = Server::start_with("interrupt-runs", &open_to_all(), &[]);
    let (runs, url) = (file("interrupt-runs.toml"), server.url());
    let run = |more: &str| {
        format!("[[run]]\nscenario = \"fanout\"\nurl = \"{url}\"\nrate = 200\nduration = \"1h\"\nwarmup = 0\n{more}")
    };
    let more = "channel = \"other\"\nalongside = true\n";
    std::fs::write(&runs, [run(""), run(more), run("")].concat()).unwrap();
    let tool = begin(&["run", &runs, "--json", "--quiet"]);
    wait_for_load(&server);
    ctrl_c(&tool);
    let output = tool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(|one| one.expect("complete JSON")).collect();
    let last = values.last().unwrap();
    assert!(last["runs"].as_array().unwrap().len() == 2, "the third run does not begin: {last}");
    assert!(last["void"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains("interrupted")), "{last}");
}

#[test]
fn search_prints_each_verdict_and_is_void_when_its_time_is_over() {
    let server = Server::start_with("search-time", &open_to_all(), &[]);
    let url = server.url();
    let limits = ["--p50-max", "20s", "--from", "100", "--time-max", "2500ms"];
    let times = ["--warmup", "0.1", "--duration", "1s"];
    let output = Command::new(crate::TOOL)
        .args([&["search", "fanout", &url, "-n", "5", "--json"][..], &limits, &times].concat())
        .output()
        .unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(shown.contains("for at most 2.5 s (--time-max)"), "{shown}");
    let probes = result["probes"].as_array().unwrap();
    assert!(!probes.is_empty(), "{result}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("at ") && line.contains("/s: ")).count(), probes.len());
    assert_eq!(output.status.code(), Some(1), "{result}");
    assert!(faults(&result).iter().any(|reason| reason.contains("--time-max")), "{result}");
}

#[test]
fn errors_name_the_option_that_helps() {
    let server = Server::start("hints");
    let (code, result) = server.load(&["fanout", &server.url(), "-n", "2", "--duration", "100ms", "--warmup", "0s"]);
    assert_eq!(code, 1, "{result}");
    assert!(faults(&result).iter().any(|reason| reason.contains("--token-secret-env")), "{result}");
    let api = format!("http://{}/api", server.admin);
    let publish = ["publish", &api, "-c", "1", "--duration", "100ms", "--warmup", "0", "--calm", "0", "--quiet"];
    let output = Command::new(crate::TOOL).args(publish).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("--key-env"), "{output:?}");
    let url = server.url();
    assert!(rejected(&["echo", &url, "--connections", "50000000"]).contains("--processes"));
    let gone = "4194305"; // above the highest process number of Linux
    for args in [&["echo", &url][..], &["mixed", &url], &["search", "echo", &url, "--p99-max", "1ms"]] {
        let text = rejected(&[args, &["--server-pid", gone]].concat());
        assert!(text.contains("--server-pid 4194305: there is no such process"), "{text}");
    }
    assert!(rejected(&["echo", &url, "--duration", "5 parsecs"]).contains("try 500ms, 10s, 2m or 1h"));
}
