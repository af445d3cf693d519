//! `corecast doctor` on simulated hosts: a tuned one, a small virtual machine, a container, and one with every problem.

use std::process::{Command, Output};

use crate::tree::{Tree, bare_metal, container, small_vm};
use serde_json::Value;

fn doctor(tree: &Tree, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["doctor", "--root", tree.root()]).args(args).env_clear();
    command.output().expect("the program runs")
}

struct Report {
    code: i32,
    json: Value,
}

fn examine(tree: &Tree, args: &[&str]) -> Report {
    let output = doctor(tree, &[&["--json"], args].concat());
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Report { code: output.status.code().expect("it ends by itself"), json }
}

impl Report {
    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().expect("a list")
    }

    /// Severity and actual value of the only finding with this name.
    fn finding(&self, name: &str) -> (&str, &str) {
        let found: Vec<&Value> = self.findings().iter().filter(|finding| finding["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}: {:#}", self.json);
        (found[0]["severity"].as_str().expect("a severity"), found[0]["actual"].as_str().expect("a text"))
    }

    fn severity(&self, name: &str) -> &str {
        self.finding(name).0
    }

    fn with(&self, severity: &str) -> Vec<&str> {
        let these = self.findings().iter().filter(|finding| finding["severity"] == severity);
        these.map(|finding| finding["name"].as_str().expect("a name")).collect()
    }
}

#[test]
fn tuned_host_has_no_findings() {
    let report = examine(&bare_metal(), &[]);
    assert_eq!((report.with("fail"), report.with("warn"), report.with("unknown")), (vec![], vec![], vec![]));
    assert_eq!((report.code, &report.json["verdict"]), (0, &Value::from("fine")));
    assert_eq!(report.json["interfaces"], serde_json::json!(["ens1"]));
    assert_eq!(
        report.finding("ens1: interrupts").1,
        "16 of 16 on shards' cores, 1 of them on core 0 (0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)"
    );
    assert_eq!(report.severity("physical cores (SMT)"), "note");
    assert_eq!(report.finding("machine.incoming_cpu").0, "note", "there are enough queues");
    assert_eq!(report.finding("ens1: memory node").1, "0; the shards on cores 4-7,12-15 are on another node");
}

#[test]
fn finding_has_a_reason_and_a_fix() {
    let tree = bare_metal();
    tree.sysctl("net.core.somaxconn", "128");
    for report in [examine(&tree, &[]), examine(&container(), &[]), examine(&untuned_tree(), &[])] {
        let all =
            report.findings().iter().filter(|finding| finding["severity"] == "fail" || finding["severity"] == "warn");
        for finding in all {
            for part in ["area", "actual", "expected", "fix"] {
                assert!(!finding[part].as_str().expect("a text").is_empty(), "{part} is missing: {finding:#}");
            }
        }
        assert_eq!((report.code, &report.json["verdict"]), (1, &Value::from("problems")));
    }
}

#[test]
fn profile_selects_its_checks() {
    let tree = bare_metal();
    let latency = examine(&tree, &["--profile", "latency"]);
    assert_eq!(latency.code, 1);
    for name in ["idle states", "isolated cores", "physical cores (SMT)", "net.core.busy_poll"] {
        assert_eq!(latency.severity(name), "warn", "{name}");
    }
    let million = examine(&tree, &["--profile", "million-connections"]);
    assert_eq!(million.severity("net.core.somaxconn"), "warn", "a million reconnecting clients need a longer queue");
    assert_eq!(million.severity("net.ipv4.tcp_mem"), "warn");
    assert_eq!(million.json["connections"], 1_000_000);
    let more = examine(&tree, &["--connections", "2000000"]);
    assert_eq!(more.severity("descriptors of the process, hard limit"), "fail");
}

#[test]
fn small_vm_profile_requires_only_what_the_machine_has() {
    let report = examine(&small_vm(), &["--profile", "small-vm"]);
    assert_eq!((report.with("fail"), report.with("warn")), (vec![], vec![]), "{:#}", report.json);
    assert_eq!(report.code, 0, "{:?}", report.with("unknown"));
    assert_eq!(report.severity("eth0: queues"), "note");
    let tree = small_vm();
    tree.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "0").sysctl("net.core.somaxconn", "128");
    let report = examine(&tree, &["--profile", "small-vm"]);
    assert_eq!(report.severity("eth0: receive packet steering (RPS)"), "warn");
    assert_eq!(report.severity("net.core.somaxconn"), "note", "few connections do not need a longer queue");
}

#[test]
fn container_reports_unreadable_values_and_cgroup_limits() {
    let tree = container();
    let report = examine(&tree, &["--connections", "100000"]);
    assert_eq!(report.code, 1);
    assert_eq!(report.finding("CPU time"), ("ok", "2.00 cores for 2 shards"), "the shards follow the limit");
    tree.put("corecast.toml", "shards = 4\n");
    let four = examine(&tree, &["--config", &format!("{}/corecast.toml", tree.root())]);
    assert_eq!(four.finding("CPU time"), ("fail", "2.00 cores for 4 shards"));
    assert_eq!(report.severity("CPU throttling"), "warn");
    assert_eq!(report.severity("fs.nr_open"), "unknown");
    assert_eq!(report.severity("clock source"), "unknown");
    assert_eq!(report.severity("limits.memory_bytes_max"), "ok");
    // 924 MiB are available; the clients need 592 besides the shards' 128.
    assert_eq!(report.severity("eth0"), "note");
    let count = report.findings().iter().filter(|finding| finding["name"] == "memory" && finding["severity"] == "warn");
    assert_eq!(count.count(), 1, "histories and slow readers may not fit: {:#}", report.json);
    tree.put("sys/fs/cgroup/cpu.max", "max 100000")
        .put("sys/fs/cgroup/cpu.stat", "nr_throttled 0")
        .put("sys/fs/cgroup/memory.max", "max")
        .sysctl("net.core.somaxconn", "32768");
    let report = examine(&tree, &[]);
    assert_eq!((report.with("fail"), report.with("warn")), (vec![], vec![]));
    assert_eq!((report.code, &report.json["verdict"]), (2, &Value::from("unknown")));
}

/// A host on which every check fails.
fn untuned_tree() -> Tree {
    let tree = bare_metal();
    tree.card("ens1", "mlx5", &[0; 16]);
    tree.put("proc/self/limits", "Max open files            1024                 4096                 files")
        .put("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 8000000 0 -2")
        .put("proc/4711/comm", "irqbalance")
        .put("proc/net/netstat", "TcpExt: ListenOverflows TCPMemoryPressures TCPAbortOnMemory\nTcpExt: 35 1 2")
        .put("proc/meminfo", "MemTotal: 500000 kB\nMemAvailable: 300000 kB")
        .put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")
        .put("sys/devices/system/cpu/nohz_full", "2-15")
        .put("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave")
        .put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
        .sysctl("net.netfilter.nf_conntrack_max", "65536")
        .sysctl("net.netfilter.nf_conntrack_count", "65000")
        .sysctl("net.ipv4.ip_local_port_range", "1024 60999")
        .sysctl("net.ipv4.tcp_mem", "1000 2000 3000")
        .sysctl("fs.nr_open", "65536")
        .sysctl("kernel.osrelease", "5.4.0")
        .sysctl("fs.file-nr", "99000 0 100000");
    for queue in 0..16 {
        tree.put(&format!("sys/class/net/ens1/queues/tx-{queue}/xps_cpus"), "1");
    }
    tree
}

#[test]
fn untuned_host_gets_every_finding() {
    let report = examine(&untuned_tree(), &[]);
    for name in [
        "descriptors of the process, hard limit",
        "open files of the whole host",
        "fs.nr_open",
        "net.netfilter.nf_conntrack_max",
        "tracked connections",
        "memory",
    ] {
        let judged = report.findings().iter().any(|finding| finding["name"] == name && finding["severity"] == "fail");
        assert!(judged, "{name}: {:#}", report.json);
    }
    for name in [
        "net.ipv4.tcp_mem",
        "ports that the server listens on",
        "ens1: interrupts",
        "ens1: transmit packet steering (XPS)",
        "ens1: irqbalance",
        "tickless cores (nohz_full)",
        "frequency governor",
        "clock source",
        "transparent huge pages",
    ] {
        assert_eq!(report.severity(name), "warn", "{name}");
    }
    for name in ["swap", "busy polling per epoll (EPIOCSPARAMS)", "listen queue overflows"] {
        assert_eq!(report.severity(name), "note", "{name}");
    }
}

#[test]
fn shards_are_placed_as_configured() {
    let tree = bare_metal();
    let file = tree.path("corecast.toml");
    let config = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        examine(&tree, &["--config", file.to_str().expect("text")])
    };
    let report = config("cores = \"0-3\"\n");
    assert_eq!((&report.json["shards"], &report.json["cores"]), (&Value::from(4), &Value::from("0-3")));
    assert_eq!(report.severity("ens1: interrupts"), "warn", "most queues are on other cores");
    assert_eq!(report.severity("physical cores (SMT)"), "ok");
    let report = config("cores = \"0,99\"\n");
    assert_eq!(report.severity("shards"), "fail");
    let report = config("listen = [\"127.0.0.1:0\"]\n");
    assert_eq!(report.severity("interface"), "note");
    let report = config("[client]\nconnection_limit = 500\n");
    assert_eq!(report.json["connections"], 500);
    let report = config(
        "shards = 2\ncores = \"0,1\"\n[machine]\nincoming_cpu = true\nbusy_poll = \"50us\"\nhuge_pages = true\n",
    );
    assert_eq!(report.severity("machine.incoming_cpu"), "warn");
    assert_eq!(report.severity("machine.busy_poll"), "ok");
    std::fs::write(&file, "nonsense = 1\n").expect("a file");
    let output = doctor(&tree, &["--config", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonsense"));
}

#[test]
fn text_output_lists_findings_and_quiet_hides_passed_checks() {
    let tree = untuned_tree();
    let text = |args: &[&str]| String::from_utf8(doctor(&tree, args).stdout).expect("UTF-8");
    let whole = text(&[]);
    assert!(whole.starts_with("profile throughput: 100000 connections on 16 shards, cores 0-15, ens1\n"), "{whole}");
    for part in [
        "  FAIL    descriptors",
        "  ok      net.core.somaxconn: 32768",
        "            expected  ",
        "fix  ",
        "Nothing was changed.",
    ] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    let quiet = text(&["--quiet"]);
    assert!(quiet.contains("FAIL") && !quiet.contains("  ok ") && !quiet.contains("  note "), "{quiet}");
    let other = doctor(&tree, &["--interface", "eth9"]);
    assert!(String::from_utf8_lossy(&other.stdout).contains("name one of: ens1"));
}

#[test]
fn empty_tree_and_garbage_do_not_panic() {
    let empty = Tree::new();
    assert_eq!(examine(&empty, &[]).code, 2);
    let tree = untuned_tree();
    let garbage = "99999999999999999999999999 [ : \u{fffd} ffffffff,,-,zz";
    for path in [
        "proc/interrupts",
        "proc/irq/100/effective_affinity_list",
        "proc/meminfo",
        "proc/net/netstat",
        "proc/net/route",
        "proc/net/softnet_stat",
        "proc/self/cgroup",
        "proc/self/limits",
        "proc/self/status",
        "proc/sys/fs/file-nr",
        "proc/sys/kernel/osrelease",
        "proc/sys/net/ipv4/tcp_mem",
        "sys/devices/system/cpu/online",
        "sys/devices/system/node/node0/cpulist",
        "sys/class/net/ens1/queues/rx-0/rps_cpus",
        "sys/fs/cgroup/cpu.max",
    ] {
        tree.put(path, garbage);
        let report = examine(&tree, &[]);
        assert!(report.code == 1 && report.findings().len() > 20, "{path}");
    }
}

#[test]
fn host_of_the_test_can_be_checked() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    let output = command.args(["doctor", "--json"]).env_clear().output().expect("the program runs");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.code().is_some_and(|code| (0..=2).contains(&code)));
    assert!(json["findings"].as_array().is_some_and(|findings| findings.len() > 20));
}
