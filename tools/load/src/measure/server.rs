//! The server seen from outside: processor time and memory from /proc, counters from /metrics.
//!
//! A `Sample` is taken before and after; `Spent` is the difference. Threads pinned to the same single core share one figure,
//! because what counts is how busy the core was.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::{fs, time::Duration};

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Nanoseconds on a processor, from a schedstat file; 0 if it cannot be read.
pub fn run_time(path: &str) -> u64 {
    read(path).split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Rejects a process that does not exist: all its figures would be 0.
pub fn check_pid(pid: Option<u32>) -> Result<(), String> {
    match pid {
        Some(pid) if !fs::exists(format!("/proc/{pid}/task")).unwrap_or(false) => {
            Err(format!("--server-pid {pid}: there is no such process"))
        }
        _ => Ok(()),
    }
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub rss: u64,
    pub pss: u64,
    pub private_dirty: u64,
    /// Heap and stacks: memory without a file.
    pub anonymous: u64,
}

/// Reads /proc/PID/smaps_rollup.
pub fn memory(pid: u32) -> Memory {
    parse_rollup(&read(&format!("/proc/{pid}/smaps_rollup")))
}

/// Resident bytes of a process; `None` if it is gone. Cheap: the kernel keeps the number.
pub fn resident(pid: u32) -> Option<u64> {
    let pages = read(&format!("/proc/{pid}/statm")).split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The peak of the resident bytes of a process.
pub fn peak(pid: u32) -> u64 {
    kilobytes(&read(&format!("/proc/{pid}/status")), "VmHWM:")
}

/// The bytes of a line `name: N kB`.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn parse_rollup(text: &str) -> Memory {
    let [rss, pss, private_dirty, anonymous] =
        ["Rss:", "Pss:", "Private_Dirty:", "Anonymous:"].map(|name| kilobytes(text, name));
    Memory { rss, pss, private_dirty, anonymous }
}

#[derive(Clone, Debug, Default)]
struct Thread {
    /// The name without a number at its end, which threads of one kind share.
    name: String,
    run: u64,
    user_ticks: u64,
    system_ticks: u64,
    /// The core, if the thread is pinned to a single one.
    core: Option<u32>,
}

/// The state of a server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    threads: HashMap<u32, Thread>,
    /// Counters (`corecast_…_total`), summed over their labels.
    pub metrics: BTreeMap<String, f64>,
    /// The highest event-loop lag of all shards, and the version of the server.
    pub loop_lag_us: Option<f64>,
    pub version: Option<String>,
}

/// Which server is sampled.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub pid: Option<u32>,
    pub metrics: Option<String>,
}

impl Watch {
    /// Takes a sample and prints an error if the counters cannot be read.
    pub fn sample(&self) -> Sample {
        let (sample, error) = self.sample_quietly();
        error.into_iter().for_each(|error| eprintln!("corecast-load: {error}"));
        sample
    }

    /// Takes a sample; the error says why the counters cannot be read.
    pub fn sample_quietly(&self) -> (Sample, Option<String>) {
        let mut sample = Sample { threads: self.pid.map(threads).unwrap_or_default(), ..Sample::default() };
        let Some(url) = &self.metrics else { return (sample, None) };
        match fetch(url) {
            Ok(text) => {
                sample.metrics = sums(&text);
                sample.loop_lag_us = loop_lag(&text);
                sample.version = version(&text);
                (sample, None)
            }
            Err(error) => (sample, Some(format!("no metrics from {url}: {error}"))),
        }
    }
}

fn threads(pid: u32) -> HashMap<u32, Thread> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let file = |name: &str| format!("/proc/{pid}/task/{tid}/{name}");
        let (user_ticks, system_ticks) = parse_stat(&read(&file("stat")));
        let status = read(&file("status"));
        let core = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let core = core.and_then(|list| list.trim().parse().ok());
        let (name, run) = (base_name(&read(&file("comm"))), run_time(&file("schedstat")));
        found.insert(tid, Thread { name, run, user_ticks, system_ticks, core });
    }
    found
}

/// `shard-12` becomes `shard`.
fn base_name(name: &str) -> String {
    name.trim().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['-', '_', ':']).to_string()
}

/// utime and stime. The thread name in brackets before them may contain any character.
fn parse_stat(text: &str) -> (u64, u64) {
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace().skip(11).map(|n| n.parse().unwrap_or(0));
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// What a server spent between two samples.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// Nanoseconds on processors, all threads.
    pub nanos: u64,
    /// The share of it outside the kernel.
    pub user_share: f64,
    /// Nanoseconds of the busiest core (all threads pinned to it alone) or unpinned thread.
    pub busiest: u64,
    /// Nanoseconds by thread name, without the number at its end.
    pub by_name: BTreeMap<String, u64>,
    /// Nanoseconds by core, of threads that are pinned to a single core.
    pub by_core: BTreeMap<u32, u64>,
    pub metrics: BTreeMap<String, f64>,
}

pub fn spent(before: &Sample, after: &Sample) -> Spent {
    let (mut spent, mut user, mut system) = (Spent::default(), 0, 0);
    for (tid, now) in &after.threads {
        let then = before.threads.get(tid).cloned().unwrap_or_default();
        let run = now.run.saturating_sub(then.run);
        spent.nanos += run;
        user += now.user_ticks - then.user_ticks;
        system += now.system_ticks - then.system_ticks;
        *spent.by_name.entry(now.name.clone()).or_default() += run;
        match now.core {
            Some(core) => *spent.by_core.entry(core).or_default() += run,
            None => spent.busiest = spent.busiest.max(run),
        }
    }
    spent.user_share = user as f64 / ((user + system) as f64).max(1.0);
    spent.busiest = spent.by_core.values().copied().fold(spent.busiest, u64::max);
    for (name, value) in &after.metrics {
        spent.metrics.insert(name.clone(), value - before.metrics.get(name).copied().unwrap_or(0.0));
    }
    spent
}

fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        if name.starts_with("corecast_") && name.ends_with("_total") {
            let value = line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
            *sums.entry(name.to_string()).or_default() += value;
        }
    }
    sums
}

fn loop_lag(text: &str) -> Option<f64> {
    // Older servers know only microseconds.
    let names = [("corecast_loop_lag_seconds{", 1e6), ("corecast_loop_lag_microseconds{", 1.0)];
    names.into_iter().find_map(|(name, scale)| {
        let gauges = text.lines().filter(|line| line.starts_with(name));
        gauges.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(f64::max).map(|lag| lag * scale)
    })
}

fn version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("corecast_build_info{version=\"")?;
    Some(format!("corecast {}", rest.split('"').next()?))
}

/// One GET request, read to its end.
fn fetch(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or("the URL must begin with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let get = || {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = get().map_err(|e: std::io::Error| e.to_string())?;
    match text.starts_with("HTTP/1.") && text.get(8..12) == Some(" 200") {
        true => Ok(text),
        false => Err(text.lines().next().unwrap_or("no response").to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# HELP corecast_deliveries_total x\ncorecast_deliveries_total{shard=\"0\"} 3\n\
            corecast_deliveries_total{shard=\"1\"} 4.5\nother_total 9\ncorecast_epoll_ctl_total 2\n";
        let sums = sums(text);
        assert_eq!(sums["corecast_deliveries_total"], 7.5);
        assert_eq!(sums["corecast_epoll_ctl_total"], 2.0);
        assert_eq!(sums.len(), 2);
    }

    #[test]
    fn highest_loop_lag_and_the_version_are_read() {
        let text = "corecast_build_info{version=\"0.1.0\"} 1\ncorecast_loop_lag_microseconds{shard=\"0\"} 3\n\
            corecast_loop_lag_microseconds{shard=\"1\"} 12\n";
        assert_eq!((loop_lag(text), version(text).as_deref()), (Some(12.0), Some("corecast 0.1.0")));
        assert_eq!(loop_lag(&format!("corecast_loop_lag_seconds{{shard=\"0\"}} 0.5\n{text}")), Some(500_000.0));
        assert_eq!((loop_lag("x 1\n"), version("x 1\n")), (None, None));
    }

    #[test]
    fn thread_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        assert_eq!(parse_stat("7 (a ) b) R 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20"), (70, 30));
        assert_eq!(parse_stat(""), (0, 0));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let memory = parse_rollup(
            "5581-7ffe [rollup]\nRss:      4228 kB\nPss:    1187 kB\nPrivate_Dirty: 92 kB\nAnonymous: 8 kB\n",
        );
        let expected = Memory { rss: 4228 * 1024, pss: 1187 * 1024, private_dirty: 92 * 1024, anonymous: 8 * 1024 };
        assert_eq!(memory, expected);
    }

    #[test]
    fn threads_on_one_core_count_together() {
        let thread = |run, core| Thread { run, core, ..Thread::default() };
        let after = Sample {
            threads: HashMap::from([(1, thread(50, Some(0))), (2, thread(20, Some(0))), (3, thread(60, None))]),
            ..Sample::default()
        };
        let spent = spent(&Sample::default(), &after);
        assert_eq!((spent.nanos, spent.busiest), (130, 70));
    }

    #[test]
    fn threads_with_the_same_base_name_count_together() {
        assert_eq!(
            ["shard-12\n", "corecast", "tokio-rt-worker"].map(base_name),
            ["shard", "corecast", "tokio-rt-worker"]
        );
        let thread = |name: &str, run| Thread { name: base_name(name), run, ..Thread::default() };
        let threads = HashMap::from([(1, thread("shard-0", 5)), (2, thread("shard-1", 7)), (3, thread("x", 1))]);
        let spent = spent(&Sample::default(), &Sample { threads, ..Sample::default() });
        assert_eq!(spent.by_name, BTreeMap::from([("shard".into(), 12), ("x".into(), 1)]));
    }

    #[test]
    fn threads_and_memory_of_this_process_are_read() {
        let watch = Watch { pid: Some(std::process::id()), metrics: None };
        assert!(!watch.sample().threads.is_empty());
        assert!(memory(std::process::id()).rss > 0);
    }
}
