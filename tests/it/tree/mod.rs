//! Simulated hosts: trees of `proc` and `sys` below a folder, as the doctor and `tuning/tune` read them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Tree(pub PathBuf);

impl Tree {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("corecast-host-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).expect("a folder of its own");
        Self(root)
    }

    pub fn root(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    pub fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("folders");
        fs::write(path, format!("{text}\n")).expect("a file");
        self
    }

    pub fn folder(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).expect("a folder");
        self
    }

    pub fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("folders");
        let _ = fs::remove_file(&path);
        symlink(target, path).expect("a link");
        self
    }

    pub fn remove(&self, path: &str) -> &Self {
        fs::remove_file(self.path(path)).expect("it is there");
        self
    }

    pub fn text(&self, path: &str) -> String {
        let text = fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.trim().to_owned()
    }

    /// The kernel settings of `sysctl.d`.
    fn sysctls(&self) -> &Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/sysctl.d/90-corecast.conf");
        for line in fs::read_to_string(file).expect("checked in").lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once(" = ") {
                self.sysctl(key.trim_start_matches('-'), value);
            }
        }
        self.sysctl("net.netfilter.nf_conntrack_count", "0")
            .sysctl("net.ipv4.tcp_mem", "3000000 4000000 6000000")
            .sysctl("net.ipv4.ip_local_port_range", "32768 60999")
            .sysctl("fs.file-nr", "2000 0 9223372036854775807")
            .sysctl("kernel.osrelease", "6.12.1-generic")
            .sysctl("kernel.random.boot_id", "0d9f")
            .sysctl("net.core.busy_poll", "0")
            .sysctl("net.ipv4.tcp_available_ulp", "mptcp tls")
            .sysctl("vm.swappiness", "60")
    }

    pub fn sysctl(&self, key: &str, value: &str) -> &Self {
        self.put(&format!("proc/sys/{}", key.replace('.', "/")), value)
    }

    /// The files that every host has, with cores `0..cores`.
    fn host(&self, cores: usize) -> &Self {
        let online = format!("0-{}", cores - 1);
        self.sysctls()
            .put("proc/self/limits", "Max open files            1048576              1048576              files")
            .put("proc/self/status", &format!("Name:\tcorecast\nCpus_allowed_list:\t{online}"))
            .put("proc/self/cgroup", "0::/system.slice/corecast.service")
            .put(
                "proc/meminfo",
                "MemTotal:       131072000 kB\nMemFree:        120000000 kB\nMemAvailable:   120000000 kB",
            )
            .put("proc/swaps", "Filename Type Size Used Priority")
            .put("proc/net/softnet_stat", "0000ffff 00000000 00000000\n0000ffff 00000000 00000000")
            .put(
                "proc/net/netstat",
                "TcpExt: ListenOverflows TCPMemoryPressures TCPAbortOnMemory\nTcpExt: 0 0 0\nIpExt: InOctets\nIpExt: 1",
            )
            .put("sys/devices/system/cpu/online", &online)
            .put("sys/devices/system/cpu/isolated", "")
            .put("sys/devices/system/cpu/vulnerabilities/spectre_v1", "Mitigation: usercopy/swapgs barriers")
            .put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc")
            .put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
            .put("sys/kernel/mm/transparent_hugepage/defrag", "always defer [madvise] never")
    }

    /// A network device with one queue per entry of `taken_on`, which is the core of the queue's interrupt.
    pub fn card(&self, name: &str, device: &str, taken_on: &[usize]) -> &Self {
        self.put("proc/net/route", &format!("Iface\tDestination\tGateway\n{name}\t00000000\t010200C0"));
        let mut table = String::from("            CPU0\n  9:  0  IO-APIC  9-fasteoi  acpi\n");
        for (queue, core) in taken_on.iter().enumerate() {
            let irq = 100 + queue;
            table.push_str(&format!("{irq}:  5  PCI-MSIX  {queue}-edge  {device}_comp{queue}@pci:0000:3b:00.0\n"));
            self.put(&format!("proc/irq/{irq}/smp_affinity_list"), &core.to_string())
                .put(&format!("proc/irq/{irq}/effective_affinity_list"), &core.to_string())
                .folder(&format!("sys/devices/{device}/msi_irqs/{irq}"))
                .put(&format!("sys/class/net/{name}/queues/rx-{queue}/rps_cpus"), "0")
                .put(&format!("sys/class/net/{name}/queues/tx-{queue}/xps_cpus"), &format!("{:x}", 1u32 << core));
        }
        table.push_str(&format!("99:  1  PCI-MSIX  99-edge  {device}_async0@pci:0000:3b:00.0\n"));
        self.put("proc/irq/99/smp_affinity_list", "0").folder(&format!("sys/devices/{device}/msi_irqs/99"));
        self.put("proc/interrupts", &table).put(&format!("sys/devices/{device}/numa_node"), "0");
        self.link(&format!("sys/class/net/{name}/device"), &format!("../../../devices/{device}"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two memory nodes, eight cores with two threads each: CPUs 0-7, siblings 8 apart. A network device with sixteen
/// queues. Everything is tuned.
pub fn bare_metal() -> Tree {
    let tree = Tree::new();
    tree.host(16).card("ens1", "mlx5", &(0..16).collect::<Vec<_>>());
    tree.put("sys/devices/system/node/node0/cpulist", "0-3,8-11")
        .put("sys/devices/system/node/node1/cpulist", "4-7,12-15");
    for core in 0..16 {
        let folder = format!("sys/devices/system/cpu/cpu{core}");
        let pair = format!("{},{}", core % 8, core % 8 + 8);
        tree.put(&format!("{folder}/topology/thread_siblings_list"), &pair)
            .put(&format!("{folder}/cpufreq/scaling_governor"), "performance");
        for (state, name, latency) in [("state0", "POLL", "0"), ("state1", "C1", "2"), ("state2", "C6", "133")] {
            tree.put(&format!("{folder}/cpuidle/{state}/name"), name)
                .put(&format!("{folder}/cpuidle/{state}/latency"), latency)
                .put(&format!("{folder}/cpuidle/{state}/disable"), "0");
        }
    }
    tree
}

/// Two cores under a hypervisor, one queue.
pub fn small_vm() -> Tree {
    let tree = Tree::new();
    tree.host(2).card("eth0", "virtio2", &[0]);
    tree.remove("sys/class/net/eth0/queues/tx-0/xps_cpus")
        .put("sys/class/net/eth0/queues/rx-0/rps_cpus", "3")
        .put("proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable: 3500000 kB")
        .put("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock");
    for core in 0..2 {
        tree.put(&format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"), &core.to_string());
    }
    tree
}

/// A process with restricted access: no devices, and no kernel settings except those of its network namespace.
pub fn container() -> Tree {
    let tree = Tree::new();
    tree.put("proc/self/limits", "Max open files            1048576              1048576              files")
        .put("proc/self/status", "Cpus_allowed_list:\t0-3")
        .put("proc/self/cgroup", "0::/")
        .put("proc/meminfo", "MemTotal: 131072000 kB\nMemAvailable: 120000000 kB")
        .put("proc/net/route", "Iface\tDestination\neth0\t00000000")
        .folder("sys/class/net/eth0/queues/rx-0")
        .folder("sys/class/net/eth0/queues/tx-0")
        .sysctl("net.core.somaxconn", "4096")
        .put("sys/fs/cgroup/cpu.max", "200000 100000")
        .put("sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_throttled 17\nthrottled_usec 9")
        .put("sys/fs/cgroup/memory.max", "1073741824")
        .put("sys/fs/cgroup/memory.current", "104857600");
    tree
}
