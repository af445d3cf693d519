//! Network interfaces (NICs) as sysfs and procfs report them: queues, interrupts, masks, memory node. Only facts; `network`
//! checks them.

use super::cpus::Cpus;
use super::host::Host;

/// An interrupt of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Irq {
    pub number: u32,
    pub name: String,
    /// The cores that handle it.
    pub cpus: Cpus,
}

#[derive(Clone, Debug)]
pub(crate) struct Nic {
    pub name: String,
    /// It has a device and is not only software.
    pub is_physical: bool,
    pub rx: usize,
    pub tx: usize,
    pub irqs: Vec<Irq>,
    /// One per receive queue whose mask can be read.
    pub rps: Vec<Cpus>,
    /// One per send queue that has a mask.
    pub xps: Vec<Cpus>,
    pub node: Option<usize>,
}

/// The depth of bonds, bridges and VLANs on each other that is followed.
const STACK_MAX: usize = 4;

/// The interfaces that receive the clients' packets: the named one, or those of the default routes, or every one with a device.
/// For a bond, bridge or VLAN, the interfaces below it.
pub(crate) fn interfaces(host: &Host, named: Option<&str>) -> Vec<String> {
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

/// Destination 0 in `/proc/net/route`, length 0 in `/proc/net/ipv6_route`; routes of `lo` are unreachable ones.
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

impl Nic {
    /// What cannot be read is empty.
    pub(crate) fn read(host: &Host, name: &str) -> Self {
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
            // -1: unknown, or there is only one node.
            node: nodes.iter().find_map(|path| host.text(path).ok()?.parse().ok()),
        }
    }
}

/// Interrupts of the device, without those that carry no packets.
fn irqs(host: &Host, interface: &str) -> Vec<Irq> {
    let base = format!("/sys/class/net/{interface}/device");
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
            let ours = own.contains(&number.to_string()) || mentions(name, interface) || mentions(name, &device);
            (ours && carries_packets(name)).then(|| Irq {
                number,
                name: name.to_owned(),
                cpus: handled_on(host, number),
            })
        })
        .collect();
    // If there are `eth0-0`, `eth0-1` and so on, the interrupt with the bare name reports link changes.
    if found.len() > 1 {
        found.retain(|irq| irq.name != interface);
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

/// Drivers use these words for the other interrupts.
fn carries_packets(name: &str) -> bool {
    const OTHERS: [&str; 12] =
        ["config", "async", "mgm", "ctrl", "control", "aenq", "cmd", "pages", "misc", "oicr", "event", "adminq"];
    let name = name.to_ascii_lowercase();
    !OTHERS.iter().any(|other| name.contains(other))
}

fn handled_on(host: &Host, irq: u32) -> Cpus {
    // The allowed cores are more than the effective ones, which older kernels do not report.
    let files = ["effective_affinity_list", "smp_affinity_list"];
    let mut sets = files.iter().filter_map(|file| Cpus::list(&host.text(&format!("/proc/irq/{irq}/{file}")).ok()?));
    sets.find(|cpus| !cpus.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupt_belongs_to_the_device_in_its_name() {
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
