//! The cores of the host, and the pinning of threads to them.

use core_affinity::CoreId;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The cores that this process may use, in order. Empty if the kernel does not say.
pub fn usable_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Pins the calling thread to one core. False if the kernel refuses.
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: core })
}

/// Restricts the calling thread, and the threads that it starts from now on, to these cores.
pub fn pin_to(cores: &[usize]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    Ok(sched_setaffinity(None, &set)?)
}
