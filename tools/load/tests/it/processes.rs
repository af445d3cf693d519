//! Runs that several processes or hosts carry together.

use crate::server::{Server, faults, open_to_all};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a run of the tool.
fn begin(args: &[&str]) -> Child {
    let mut tool = Command::new(crate::TOOL);
    tool.args(args).args(["--json", "--quiet"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(child: Child) -> (i32, Value) {
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

fn end_of(mut child: Child) {
    child.wait().unwrap();
}

/// Waits until a process that is not a child of this one is gone.
fn wait_for_end(pid: i32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(Instant::now() < deadline, "{pid} still runs without its coordinator");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the server has so many connections.
fn wait_for_connections(server: &Server, count: usize) {
    server.wait_for_metrics(|text| text.contains(&format!("corecast_connections{{shard=\"0\"}} {count}\n")));
}

/// Waits until a process has so many children, and returns them.
fn wait_for_children(pid: u32, count: usize) -> Vec<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children: Vec<i32> = text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if children.len() == count {
            return children;
        }
        assert!(Instant::now() < deadline, "{children:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn processes_share_a_run_and_every_delivery_is_checked() {
    let server = Server::start_with("processes", &open_to_all(), &[]);
    let usual = ["--processes", "3", "--duration", "0.5", "--warmup", "0.1"];
    let fanout =
        ["fanout", &server.url(), "-n", "50", "--channels", "4", "--publishers", "2", "--rate", "200:0.2s,400:0.3s"];
    let (code, result) = server.load(&[&fanout[..], &usual[..]].concat());
    assert_eq!((code, faults(&result)), (0, vec![]), "{result}");
    let [steps, parts] = ["steps", "parts"].map(|key| result[key].as_array().unwrap());
    let opened: u64 = parts.iter().map(|part| part["opened"].as_u64().unwrap()).sum();
    assert_eq!((steps.len(), parts.len(), opened), (2, 3, 52), "{result}");
    let sent: u64 = steps.iter().map(|step| step["sent"].as_u64().unwrap()).sum();
    assert_eq!((sent, &result["last_us"]["count"]), (160, &json!(160)), "{result}");
    assert_eq!((&result["missing"], &result["lost"]), (&json!(0), &json!(0)));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parts.json");
    let (code, _) = server.load(&[&fanout[..], &usual[..], &["--out", file.to_str().unwrap()]].concat());
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let counts = whole["series"]["latency_us"]["count"].as_array().unwrap();
    let timed: u64 = counts.iter().map(|n| n.as_u64().unwrap()).sum();
    assert!(code == 0 && timed >= 2000, "the processes report their seconds: {}", whole["series"]);
    let own = ["fanout", &server.url(), "-n", "40", "--own-channel", "own", "--rate", "50"];
    let (code, result) = server.load(&[&own[..], &usual[..]].concat());
    assert_eq!((code, faults(&result)), (0, vec![]), "{result}");
    assert_eq!(result["subscribed_us"]["count"], 40, "{result}");

    let (code, result) =
        server.load(&["idle", &server.url(), "-c", "40", "--hold", "0.2", "--settle", "0.1", "--processes", "4"]);
    assert_eq!((code, &result["open"]), (0, &json!(40)), "{result}");
    assert_eq!(result["memory"][0]["connections"], 40, "{result}");
    let storm = ["connect", &server.url(), "--rate", "200", "--total", "40", "--protocol", "centrifuge"];
    let (code, result) = server.load(&[&storm[..], &["--processes", "2"]].concat());
    assert_eq!((code, &result["opened"], &result["ready_us"]["count"]), (0, &json!(40), &json!(40)), "{result}");
    let refused = begin(&["fanout", &server.url(), "--processes", "2"]);
    assert_eq!(end(refused).0, 2, "a window needs one process");
}

#[test]
fn process_that_is_lost_makes_the_run_void_and_one_without_a_coordinator_ends() {
    let server = Server::start_with("lost-process", &open_to_all(), &[]);
    let url = server.url();
    let idle = ["idle", &url, "-c", "30", "--processes", "3", "--hold"];
    let run = begin(&[&idle[..], &["60"]].concat());
    let children = wait_for_children(run.id(), 3);
    let kill = |pid: i32| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    wait_for_connections(&server, 30);
    kill(children[1]).unwrap();
    let (code, result) = end(run);
    assert_eq!(code, 1, "{result}");
    assert!(result["void"].to_string().contains("process 1 was lost"), "{result}");

    let run = begin(&[&idle[..], &["60"]].concat());
    let children = wait_for_children(run.id(), 3);
    kill(run.id() as i32).unwrap();
    end_of(run);
    children.into_iter().for_each(wait_for_end);
}

#[test]
fn search_finds_a_rate_that_holds_and_keeps_its_connections() {
    let server = Server::start_with("search", &open_to_all(), &[]);
    let bounds = ["--p50-max", "5s", "--from", "100", "--to", "400", "--duration", "0.2", "--warmup", "0.05"];
    for more in [&[][..], &["--processes", "2"]] {
        let search = ["search", "fanout", &server.url(), "-n", "20", "--publishers", "2"];
        let (code, result) = server.load(&[&search[..], &bounds, more].concat());
        let rates: Vec<f64> =
            result["probes"].as_array().unwrap().iter().map(|probe| probe["rate"].as_f64().unwrap()).collect();
        assert_eq!((code, &result["knee"], rates), (0, &json!(400.0), vec![100.0, 200.0, 400.0]), "{result}");
        assert_eq!((&result["closes"], &result["connections"]), (&json!({}), &json!(22)), "{result}");
    }
    let url = server.url();
    let never = ["search", "fanout", &url, "-n", "5", "--p99-max", "1us", "--duration", "0.05", "--warmup", "0"];
    let (code, result) = server.load(&[&never[..], &["--from", "1000", "--probe-max", "0.05"]].concat());
    assert_eq!((code, &result["knee"]), (1, &Value::Null), "{result}");
    assert!(result["probes"][0]["why"].as_str().unwrap().contains("p99 above"), "{result}");
}

/// An agent on this host.
struct Agent {
    child: Child,
    addr: String,
}

impl Agent {
    fn start(key: &str) -> Self {
        let mut tool = Command::new(crate::TOOL);
        tool.args(["agent", "--listen", "127.0.0.1:0", "--key-env", "HOSTS_KEY"]).env("HOSTS_KEY", key);
        let mut child = tool.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().expect("the agent starts").unwrap();
        // Its output is read to the end, so that it never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, addr: line.rsplit(' ').next().unwrap().to_string() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const KEY: &str = "a key of some length";

fn over_hosts(args: &[&str], hosts: &str, key: &str) -> (i32, Value, String) {
    let mut tool = Command::new(crate::TOOL);
    tool.args(args).args(["--json", "--quiet", "--hosts", hosts, "--hosts-key-env", "HOSTS_KEY"]).env("HOSTS_KEY", key);
    let output = tool.output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), value, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn hosts_share_a_run_of_a_coordinator_with_the_key() {
    let server = Server::start_with("hosts", &open_to_all(), &[]);
    let agents = [Agent::start(KEY), Agent::start(KEY)];
    let (url, hosts) = (server.url(), format!("{},{}", agents[0].addr, agents[1].addr));
    let fanout =
        ["fanout", &url, "-n", "30", "--channels", "3", "--rate", "200", "--duration", "0.5", "--warmup", "0.1"];
    let (_, result, errors) = over_hosts(&[&fanout[..], &["--processes", "2"]].concat(), &hosts, KEY);
    // On one machine a delivery may be faster than two clocks can be compared; any other reason is an error.
    let void: Vec<_> = faults(&result).into_iter().filter(|reason| !reason.starts_with("as latency")).collect();
    assert_eq!(void, Vec::<&str>::new(), "{errors} {result}");
    assert_eq!((result["parts"].as_array().unwrap().len(), &result["missing"]), (4, &json!(0)), "{result}");
    assert!(result["run_publications"].as_u64() > Some(50) && result["clock_uncertain_us"].is_number(), "{result}");

    let (code, _, errors) = over_hosts(&fanout, &hosts, "another key, and as long");
    assert!(code == 2 && errors.contains("the key is another one"), "{code} {errors}");
    let (code, _, errors) = over_hosts(&fanout[..4], &hosts, KEY);
    assert!(code == 2 && errors.contains("give a --rate"), "{code} {errors}");
    let strange = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = strange.local_addr().unwrap().to_string();
    std::thread::spawn(move || strange.accept().unwrap().0.write_all(b"HTTP/1.1 400 no\r\n\r\n"));
    let (code, _, errors) = over_hosts(&fanout, &addr, KEY);
    assert!(code == 2 && errors.contains("no agent answers there"), "{code} {errors}");
}
