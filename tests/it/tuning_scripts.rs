//! `tuning/tune` on simulated hosts, and on the real kernel's settings in a network namespace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::tree::{Tree, bare_metal};

const TUNE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/tune");

struct Run {
    code: i32,
    text: String,
}

fn run_of(output: &Output) -> Run {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    Run { code: output.status.code().expect("it ends by itself"), text: String::from_utf8(text).expect("UTF-8") }
}

impl Run {
    fn lines(&self, word: &str) -> Vec<&str> {
        self.text.lines().filter(|line| line.split_whitespace().next() == Some(word)).collect()
    }
}

fn tune(tree: &Tree, args: &[&str]) -> Run {
    let mut command = Command::new("sh");
    let output =
        command.arg(TUNE).args(args).args(["--root", tree.root()]).env_remove("CORECAST_TUNING_STATE").output();
    run_of(&output.expect("a shell"))
}

/// A tuned host that was reset to kernel defaults.
fn untuned() -> Tree {
    let tree = bare_metal();
    tree.sysctl("net.core.somaxconn", "4096")
        .sysctl("net.ipv4.tcp_rmem", "4096 131072 6291456")
        .sysctl("net.ipv4.tcp_slow_start_after_idle", "1")
        .sysctl("fs.file-max", "99999999999999")
        .put("sys/kernel/mm/transparent_hugepage/enabled", "always")
        .put("sys/devices/virtual/workqueue/cpumask", "ffff")
        .put("proc/irq/default_smp_affinity", "ffff")
        .put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu")
        .put("sys/fs/cgroup/cgroup.subtree_control", "cpuset cpu")
        .put("sys/fs/cgroup/system.slice/cgroup.subtree_control", "cpuset cpu")
        .put("sys/fs/cgroup/user.slice/cpuset.cpus", "")
        .put("sys/fs/cgroup/system.slice/cron.service/cpuset.cpus", "")
        .put("sys/fs/cgroup/system.slice/corecast.service/cpuset.cpus", "")
        .folder("etc/security");
    for core in 0..16 {
        tree.put(&format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"), "powersave");
    }
    for queue in 0..16 {
        tree.put(&format!("proc/irq/{}/smp_affinity_list", 100 + queue), "0-15");
        tree.put(&format!("sys/class/net/ens1/queues/rx-{queue}/rps_cpus"), "0000,0000ffff");
    }
    tree
}

/// Every file below the root with its text, except the state of the script.
fn snapshot(tree: &Tree) -> BTreeMap<String, String> {
    fn collect(folder: &Path, root: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                collect(&path, root, into);
            } else if kind.is_file() {
                let name = path.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
                into.insert(name, fs::read_to_string(&path).expect("text"));
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(&tree.0, &tree.0, &mut files);
    files
}

const LATENCY: [&str; 4] = ["--profile", "latency", "--cores", "2-15"];

fn with<'a>(mode: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [mode, more].concat()
}

#[test]
fn apply_without_yes_changes_nothing() {
    let tree = untuned();
    let before = snapshot(&tree);
    let checked = tune(&tree, &with(&["check"], &LATENCY));
    let shown = tune(&tree, &with(&["apply"], &LATENCY));
    assert_eq!((checked.code, shown.code), (1, 0));
    assert_eq!(checked.lines("DIFFERS").len(), shown.lines("would").len());
    assert!(shown.text.contains("would    /proc/sys/net/core/somaxconn: 4096 -> 32768"), "{}", shown.text);
    assert!(
        shown.text.contains("isolcpus=managed_irq,domain,2-15"),
        "the output lists the settings that need a reboot"
    );
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn apply_is_idempotent_and_undo_restores() {
    let tree = untuned();
    let before = snapshot(&tree);
    let applied = tune(&tree, &with(&["apply", "--yes"], &LATENCY));
    assert_eq!(applied.code, 0, "{}", applied.text);
    for (path, value) in [
        ("proc/sys/net/core/somaxconn", "32768"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096 131072 1048576"),
        ("proc/sys/fs/file-max", "99999999999999"),
        ("proc/sys/net/core/busy_poll", "50"),
        ("proc/irq/100/smp_affinity_list", "2"),
        ("proc/irq/113/smp_affinity_list", "15"),
        ("proc/irq/114/smp_affinity_list", "2"),
        ("proc/irq/99/smp_affinity_list", "0-1"),
        ("sys/class/net/ens1/queues/rx-3/rps_cpus", "0"),
        ("sys/class/net/ens1/queues/tx-3/xps_cpus", "00000020"),
        ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
        ("sys/devices/system/cpu/cpu2/cpuidle/state2/disable", "1"),
        ("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "0"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "madvise"),
        ("sys/devices/virtual/workqueue/cpumask", "00000003"),
        ("sys/fs/cgroup/user.slice/cpuset.cpus", "0-1"),
        ("sys/fs/cgroup/system.slice/cron.service/cpuset.cpus", "0-1"),
        ("sys/fs/cgroup/system.slice/corecast.service/cpuset.cpus", ""),
    ] {
        assert_eq!(tree.text(path), value, "{path}");
    }
    assert!(tree.text("etc/sysctl.d/90-corecast.conf").contains("net.core.somaxconn = 32768"));
    assert!(tree.text("etc/security/limits.d/corecast.conf").contains("nofile"));
    let done = snapshot(&tree);
    assert_eq!(tune(&tree, &with(&["check"], &LATENCY)).code, 0);
    let again = tune(&tree, &with(&["apply", "--yes"], &LATENCY));
    assert_eq!((again.code, again.lines("set").len()), (0, 0), "{}", again.text);
    assert_eq!(snapshot(&tree), done);
    assert!(tune(&tree, &["undo"]).text.contains("Nothing was changed"));
    assert_eq!(snapshot(&tree), done);
    let undone = tune(&tree, &["undo", "--yes"]);
    assert_eq!(undone.code, 0, "{}", undone.text);
    assert_eq!(snapshot(&tree), before);
    assert!(tune(&tree, &["undo", "--yes"]).text.contains("Nothing to undo"));
}

#[test]
fn parts_and_profiles_are_undone_separately() {
    let tree = untuned();
    let before = snapshot(&tree);
    assert_eq!(tune(&tree, &["apply", "sysctl", "--yes"]).code, 0);
    assert_eq!(tune(&tree, &["apply", "cpu", "--yes"]).code, 0);
    // Another profile on top: undo restores the value from before the first one.
    assert_eq!(tune(&tree, &["apply", "sysctl", "--profile", "million-connections", "--yes"]).code, 0);
    assert_eq!(tree.text("proc/sys/net/core/somaxconn"), "65535");
    assert!(tree.text("etc/sysctl.d/92-corecast-profile.conf").contains("net.ipv4.tcp_mem"));
    assert_eq!(tune(&tree, &["undo", "sysctl", "--yes"]).code, 0);
    assert_eq!(tree.text("proc/sys/net/core/somaxconn"), "4096");
    assert_eq!(tree.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "performance");
    assert_eq!(tune(&tree, &["undo", "--yes"]).code, 0);
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn undo_keeps_values_that_were_changed_since() {
    let tree = untuned();
    tune(&tree, &["apply", "sysctl", "--yes"]);
    tree.sysctl("net.core.somaxconn", "50000");
    let undone = tune(&tree, &["undo", "--yes"]);
    assert_eq!(undone.code, 0);
    assert!(undone.text.contains("somaxconn: was changed since; it stays 50000"), "{}", undone.text);
    assert_eq!(tree.text("proc/sys/net/core/somaxconn"), "50000");
    assert_eq!(tree.text("proc/sys/net/ipv4/tcp_slow_start_after_idle"), "1");
}

#[test]
fn undo_restores_an_existing_file() {
    let tree = untuned();
    tree.put("etc/sysctl.d/90-corecast.conf", "# mine");
    tune(&tree, &["apply", "sysctl", "--yes"]);
    assert!(tree.text("etc/sysctl.d/90-corecast.conf").contains("somaxconn"));
    tune(&tree, &["undo", "--yes"]);
    assert_eq!(tree.text("etc/sysctl.d/90-corecast.conf"), "# mine");
}

#[test]
fn failed_change_rolls_back_the_whole_run() {
    let tree = untuned();
    // Any folder can be read and written by root; this link can be read but not written.
    let path = "proc/sys/net/ipv4/tcp_slow_start_after_idle";
    tree.remove(path).link(path, "/proc/version");
    let before = snapshot(&tree);
    let failed = tune(&tree, &["apply", "sysctl", "--yes"]);
    assert_eq!(failed.code, 1, "{}", failed.text);
    assert!(failed.lines("FAILED")[0].contains("tcp_slow_start_after_idle"), "{}", failed.text);
    assert!(failed.text.contains("Every change of this run was undone."), "{}", failed.text);
    assert_eq!(snapshot(&tree), before);
    assert!(tune(&tree, &["undo"]).text.contains("Nothing to undo"));
}

#[test]
fn reboot_forgets_runtime_values_and_keeps_files() {
    let tree = untuned();
    tune(&tree, &["apply", "sysctl", "irq", "--yes"]);
    tree.sysctl("kernel.random.boot_id", "another").put("proc/irq/100/smp_affinity_list", "0");
    tree.sysctl("net.core.somaxconn", "32768");
    let undone = tune(&tree, &["undo", "--yes"]);
    assert_eq!(undone.lines("undone").len(), 1, "{}", undone.text);
    assert!(!tree.path("etc/sysctl.d/90-corecast.conf").exists());
    assert_eq!(tree.text("proc/irq/100/smp_affinity_list"), "0", "the number may belong to another device now");
}

#[test]
fn queue_count_is_set_if_ethtool_exists() {
    let tree = untuned();
    // Keeps its number in a file, and prints like ethtool.
    let tool = "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\ncase $1 in\n-L) echo \"$4\" >queues ;;\n-l) printf 'Pre-set maximums:\\nCombined:\\t16\\nCurrent \
                hardware settings:\\nCombined:\\t%s\\n' \"$(cat queues)\" ;;\nesac\n";
    tree.put("usr/sbin/ethtool", tool).put("usr/sbin/queues", "4");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(tree.path("usr/sbin/ethtool"), mode).expect("a mode");
    assert_eq!(tune(&tree, &["apply", "irq", "--cores", "0-7", "--yes"]).code, 0);
    assert_eq!(tree.text("usr/sbin/queues"), "8");
    assert_eq!(tune(&tree, &["undo", "--yes"]).code, 0);
    assert_eq!(tree.text("usr/sbin/queues"), "4");
}

#[test]
fn unknown_arguments_print_the_usage() {
    let tree = untuned();
    for args in [&["apply", "everything"][..], &["check", "--profile", "none"], &["check", "--cores", "99"], &[]] {
        let answer = tune(&tree, args);
        assert_eq!(answer.code, 64, "{args:?}");
        assert!(answer.text.contains("Usage: tune check|apply|undo"), "{}", answer.text);
    }
}

#[test]
fn help_is_the_comment_and_not_the_program() {
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/check");
    for (script, first) in [(TUNE, "Compares this host with a profile"), (check, "Compares this host with the files")] {
        for flag in ["--help", "-h"] {
            let output = Command::new("sh").args([script, flag]).output().expect("a shell");
            assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{script}");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            assert!(text.starts_with(first) && text.contains("Usage: ") && text.contains("Exit: "), "{text}");
            for code in ["set -u", "LC_ALL", "sed ", "$0"] {
                assert!(!text.contains(code), "{script} prints its program: {text}");
            }
        }
    }
}

/// The real kernel's settings below `net.`, in a namespace of this test; everything else is simulated.
#[test]
fn network_settings_are_accepted_by_the_kernel_in_a_namespace() {
    let tree = untuned();
    fs::remove_dir_all(tree.path("proc/sys/net")).expect("it was made");
    tree.link("proc/sys/net", "/proc/sys/net");
    let script = "
        [ \"$(readlink /proc/self/ns/net)\" != \"$1\" ] || exit 3
        root=$2; tune=$3; key=/proc/sys/net/ipv4/tcp_slow_start_after_idle
        before=$(cat $key /proc/sys/net/ipv4/tcp_rmem /proc/sys/net/core/somaxconn)
        sh \"$tune\" apply sysctl --yes --root \"$root\" || exit 4
        [ \"$(cat $key)\" = 0 ] && [ \"$(cat /proc/sys/net/core/somaxconn)\" -ge 16384 ] || exit 5
        sh \"$tune\" apply sysctl --yes --root \"$root\" | grep '^set' && exit 6
        sh \"$tune\" undo --yes --root \"$root\" || exit 7
        [ \"$(cat $key /proc/sys/net/ipv4/tcp_rmem /proc/sys/net/core/somaxconn)\" = \"$before\" ] || exit 8";
    let namespace = fs::read_link("/proc/self/ns/net").expect("Linux has namespaces");
    let root = ["--net"].as_slice();
    let user = ["--net", "--map-root-user"].as_slice();
    let can =
        |flags: &&[&str]| Command::new("unshare").args(*flags).arg("true").output().is_ok_and(|o| o.status.success());
    let Some(flags) = [root, user].into_iter().find(can) else {
        println!("skipped: this machine does not allow network namespaces");
        return;
    };
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", script, "sh"]).arg(namespace).args([tree.root(), TUNE]);
    let answer = run_of(&command.output().expect("it ran a moment ago"));
    assert_eq!(answer.code, 0, "{}", answer.text);
    assert!(answer.text.contains("set      /proc/sys/net/ipv4/tcp_slow_start_after_idle: 1 -> 0"), "{}", answer.text);
}
