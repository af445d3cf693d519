//! Network cards as sysfs and procfs tell of them: queues, interrupts, masks, memory node. Facts only; `network` judges.

use super::cpus::Cpus;
use super::host::Host;

/// An interrupt of one of its queues.
#[derive(Clone, Debug)]
pub struct Irq {
    pub number: u32,
    pub name: String,
    /// Where it is taken.
    pub cpus: Cpus,
}

#[derive(Clone, Debug)]
pub struct Card {
    pub name: String,
    /// There is a device behind it, and not only software.
    pub is_physical: bool,
    pub rx: usize,
    pub tx: usize,
    pub irqs: Vec<Irq>,
    /// One for each receive queue whose mask can be read.
    pub rps: Vec<Cpus>,
    /// One for each send queue that has a mask.
    pub xps: Vec<Cpus>,
    pub node: Option<usize>,
}

/// Bonds over bridges over VLANs: nobody stacks deeper.
const STACK_MAX: usize = 4;

/// What the clients' packets come through: the named interface, or those of the default routes, or every one with a device
/// behind it; of a bond, bridge or VLAN the cards below.
pub fn interfaces(host: &Host, named: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = match named {
        Some(name) => vec![name.to_owned()],
        None => default_routes(host),
    };
    names.retain(|name| host.exists(&format!("/sys/class/net/{name}")));
    if names.is_empty() && named.is_none() {
        names = host.names("/sys/class/net").unwrap_or_default();
        names.retain(|name| host.exists(&format!("/sys/class/net/{name}/device")));
    }
    for _ in 0..STACK_MAX {
        names = names.iter().flat_map(|name| below(host, name)).collect();
    }
    names.sort();
    names.dedup();
    names
}

fn below(host: &Host, name: &str) -> Vec<String> {
    let entries = host.names(&format!("/sys/class/net/{name}")).unwrap_or_default();
    let lower: Vec<String> =
        entries.iter().filter_map(|entry| Some(entry.strip_prefix("lower_")?.to_owned())).collect();
    if lower.is_empty() { vec![name.to_owned()] } else { lower }
}

/// Destination 0 in `/proc/net/route`, length 0 in `/proc/net/ipv6_route`; `lo` holds the unreachable ones.
fn default_routes(host: &Host) -> Vec<String> {
    let mut names = Vec::new();
    for line in host.text("/proc/net/route").unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [name, "00000000", ..] = fields[..] {
            names.push(name.to_owned());
        }
    }
    for line in host.text("/proc/net/ipv6_route").unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let (Some(&"00"), Some(&name)) = (fields.get(1), fields.last()) {
            names.extend(Some(name.to_owned()).filter(|name| name != "lo"));
        }
    }
    names
}

impl Card {
    /// Reads what can be read; what cannot is empty.
    pub fn read(host: &Host, name: &str) -> Self {
        let base = format!("/sys/class/net/{name}");
        let queues = host.names(&format!("{base}/queues")).unwrap_or_default();
        let masks = |kind: &str, file: &str| -> Vec<Cpus> {
            let files = queues.iter().filter(|queue| queue.starts_with(kind));
            files.filter_map(|queue| Cpus::mask(&host.text(&format!("{base}/queues/{queue}/{file}")).ok()?)).collect()
        };
        // A virtio device is a child of the PCI function that has the node.
        let nodes = [format!("{base}/device/numa_node"), format!("{base}/device/../numa_node")];
        Self {
            name: name.to_owned(),
            is_physical: host.exists(&format!("{base}/device")),
            rx: queues.iter().filter(|queue| queue.starts_with("rx-")).count(),
            tx: queues.iter().filter(|queue| queue.starts_with("tx-")).count(),
            irqs: irqs(host, name),
            rps: masks("rx-", "rps_cpus"),
            xps: masks("tx-", "xps_cpus"),
            // -1: the host does not say, or has one node only.
            node: nodes.iter().find_map(|path| host.text(path).ok()?.parse().ok()),
        }
    }
}

/// Interrupts of the card's device, less those that carry no packets.
fn irqs(host: &Host, card: &str) -> Vec<Irq> {
    let base = format!("/sys/class/net/{card}/device");
    let own = [format!("{base}/msi_irqs"), format!("{base}/../msi_irqs")];
    let own: Vec<String> = own.iter().find_map(|folder| host.names(folder).ok()).unwrap_or_default();
    let device = host.link_name(&base).unwrap_or_default();
    let table = host.text("/proc/interrupts").unwrap_or_default();
    let mut found: Vec<Irq> = table
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let number: u32 = number.trim().parse().ok()?;
            let name = rest.split_whitespace().last()?;
            let ours = own.contains(&number.to_string()) || mentions(name, card) || mentions(name, &device);
            (ours && carries_packets(name)).then(|| Irq { number, name: name.to_owned(), cpus: taken_on(host, number) })
        })
        .collect();
    // Beside `eth0-0`, `eth0-1` … the bare name is that of link changes.
    if found.len() > 1 {
        found.retain(|irq| irq.name != card);
    }
    found
}

/// `eth0-TxRx-1` mentions `eth0` and not `eth01`.
fn mentions(name: &str, device: &str) -> bool {
    !device.is_empty()
        && name.match_indices(device).any(|(at, _)| {
            let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
            edge(name[..at].chars().next_back()) && edge(name[at + device.len()..].chars().next())
        })
}

/// By the words that drivers use for the others.
fn carries_packets(name: &str) -> bool {
    const OTHERS: [&str; 12] =
        ["config", "async", "mgm", "ctrl", "control", "aenq", "cmd", "pages", "misc", "oicr", "event", "adminq"];
    let name = name.to_ascii_lowercase();
    !OTHERS.iter().any(|other| name.contains(other))
}

fn taken_on(host: &Host, irq: u32) -> Cpus {
    // Where it may be taken is more than where it is; older kernels do not tell the latter.
    let files = ["effective_affinity_list", "smp_affinity_list"];
    let mut sets = files.iter().filter_map(|file| Cpus::list(&host.text(&format!("/proc/irq/{irq}/{file}")).ok()?));
    sets.find(|cpus| !cpus.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_belongs_to_whom_its_name_says() {
        for (name, device, ours) in [
            ("eth0-TxRx-1", "eth0", true),
            ("i40e-eth0-TxRx-1", "eth0", true),
            ("eth01-TxRx-1", "eth0", false),
            ("virtio2-input.0", "virtio2", true),
            ("virtio21-input.0", "virtio2", false),
            ("anything", "", false),
        ] {
            assert_eq!(mentions(name, device), ours, "{name} {device}");
        }
        for (name, carries) in [
            ("mlx5_comp0@pci:0000:3b:00.0", true),
            ("mlx5_async0@pci:0000:3b:00.0", false),
            ("ena-mgmnt@pci:0000:00:05.0", false),
            ("virtio2-config", false),
            ("virtio2-output.3", true),
        ] {
            assert_eq!(carries_packets(name), carries, "{name}");
        }
    }
}
