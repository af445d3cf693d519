//! What the kernel reports about this process, from `/proc` (proc(5)). `None` if it cannot be read.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::engine::net::cpu_quota::group_folders;

pub fn resident_bytes() -> Option<u64> {
    // Called several times a second. `statm` is one line; `status` has the same number in about sixty lines.
    let mut text = [0; 128];
    let read = std::fs::File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text)).ok()?;
    let pages = std::str::from_utf8(&text[..read]).ok()?.split(' ').nth(1)?;
    pages.parse::<u64>().ok().map(|pages| pages * rustix::param::page_size() as u64)
}

/// The smallest memory limit of the control groups of this process (`memory.max` of version 2, or `limit_in_bytes` of
/// version 1). `None` if there is no limit.
pub fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let version_2 = group_folders(&groups, "").into_iter().map(|folder| folder + "/memory.max");
    let files = version_2.chain(["/sys/fs/cgroup/memory/memory.limit_in_bytes".into()]);
    let limits = files.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    // Version 1 reports "no limit" as a number larger than any memory.
    limits.filter(|&bytes| bytes < 1 << 50).min()
}

/// User and system CPU time of all threads.
pub fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Since Linux 6.2 the size of the directory is the count. Older kernels need a listing.
pub fn open_descriptors() -> Option<u64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The listing itself has one descriptor open.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// `None` if there is no limit.
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The host name.
pub fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The current time in seconds since 1970.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_process_can_be_read() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(cpu_seconds() >= 0.0);
        let open = open_descriptors().unwrap();
        assert!(open >= 3 && descriptors_max().is_none_or(|max| open <= max), "{open}");
    }
}
