//! The server as seen from outside: its processor time and memory from /proc, its counters from /metrics.
//!
//! Plan: take a `Sample` before and after; `Spent` is the difference. A thread pinned alone to a core shares that core's
//! figure with others pinned there, since what counts is how busy the core was.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::{fs, time::Duration};

/// Nanoseconds on a processor, from a schedstat file; 0 if it cannot be read.
pub fn run_time(path: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub rss: u64,
    pub pss: u64,
    pub private_dirty: u64,
    /// What no file stands behind: heap and stacks.
    pub anonymous: u64,
}

/// Reads /proc/PID/smaps_rollup.
pub fn memory(pid: u32) -> Memory {
    parse_rollup(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default())
}

/// Bytes that a process has resident, none if it is gone. Cheap: the kernel keeps the number.
pub fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages = text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The most memory that a process ever had resident, in bytes.
pub fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn parse_rollup(text: &str) -> Memory {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Memory {
        rss: field("Rss:"),
        pss: field("Pss:"),
        private_dirty: field("Private_Dirty:"),
        anonymous: field("Anonymous:"),
    }
}

#[derive(Clone, Debug, Default)]
struct Thread {
    /// Its name without the number at the end: threads of one sort have one.
    name: String,
    run: u64,
    user_ticks: u64,
    system_ticks: u64,
    /// The only core it may use, if there is only one.
    core: Option<u32>,
}

/// One look at a server.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    threads: HashMap<u32, Thread>,
    /// Counters (`corecast_…_total`), summed over their labels.
    pub metrics: BTreeMap<String, f64>,
    /// How long ready sockets waited for their turn, on the shard where it was longest; and what the server says it is.
    pub loop_lag_us: Option<f64>,
    pub version: Option<String>,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub pid: Option<u32>,
    pub metrics: Option<String>,
}

impl Watch {
    pub fn sample(&self) -> Sample {
        let (sample, fault) = self.look();
        fault.into_iter().for_each(|fault| eprintln!("corecast-load: {fault}"));
        sample
    }

    /// The same without a word of what could not be had.
    pub fn sample_quietly(&self) -> Sample {
        self.look().0
    }

    fn look(&self) -> (Sample, Option<String>) {
        let (mut sample, mut fault) = (Sample::default(), None);
        if let Some(url) = &self.metrics {
            match scrape(url) {
                Ok(text) => {
                    sample.metrics = sums(&text);
                    sample.loop_lag_us = loop_lag(&text);
                    sample.version = version(&text);
                }
                Err(e) => fault = Some(format!("no metrics from {url}: {e}")),
            }
        }
        if let Some(pid) = self.pid {
            sample.threads = threads(pid);
        }
        (sample, fault)
    }
}

fn threads(pid: u32) -> HashMap<u32, Thread> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let file = |name: &str| format!("/proc/{pid}/task/{tid}/{name}");
        let (user_ticks, system_ticks) = parse_stat(&fs::read_to_string(file("stat")).unwrap_or_default());
        let status = fs::read_to_string(file("status")).unwrap_or_default();
        let core = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let core = core.and_then(|list| list.trim().parse().ok());
        let name = sort(&fs::read_to_string(file("comm")).unwrap_or_default());
        found.insert(tid, Thread { name, run: run_time(&file("schedstat")), user_ticks, system_ticks, core });
    }
    found
}

/// `shard-12` is a `shard`.
fn sort(name: &str) -> String {
    name.trim().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['-', '_', ':']).to_string()
}

/// utime and stime; the name in brackets before them may contain anything.
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
    /// Nanoseconds of the busiest core (threads pinned alone to the same core together) or thread.
    pub busiest: u64,
    /// Nanoseconds by the threads' names, numbers at their end left out.
    pub by_name: BTreeMap<String, u64>,
    /// Nanoseconds of each core that threads are pinned alone to.
    pub by_core: BTreeMap<u32, u64>,
    pub metrics: BTreeMap<String, f64>,
}

pub fn spent(before: &Sample, after: &Sample) -> Spent {
    let (mut spent, mut user, mut system) = (Spent::default(), 0, 0);
    let mut places: HashMap<(bool, u32), u64> = HashMap::new();
    for (tid, now) in &after.threads {
        let then = before.threads.get(tid).cloned().unwrap_or_default();
        let run = now.run.saturating_sub(then.run);
        spent.nanos += run;
        user += now.user_ticks - then.user_ticks;
        system += now.system_ticks - then.system_ticks;
        *places.entry(now.core.map_or((false, *tid), |core| (true, core))).or_default() += run;
        *spent.by_name.entry(now.name.clone()).or_default() += run;
        if let Some(core) = now.core {
            *spent.by_core.entry(core).or_default() += run;
        }
    }
    spent.user_share = user as f64 / ((user + system) as f64).max(1.0);
    spent.busiest = places.into_values().max().unwrap_or(0);
    for (name, value) in &after.metrics {
        spent.metrics.insert(name.clone(), value - before.metrics.get(name).copied().unwrap_or(0.0));
    }
    spent
}

fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        let name = &line[..end];
        if !name.starts_with("corecast_") || !name.ends_with("_total") {
            continue;
        }
        let value = line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
        *sums.entry(name.to_string()).or_default() += value;
    }
    sums
}

fn loop_lag(text: &str) -> Option<f64> {
    let gauges = text.lines().filter(|line| line.starts_with("corecast_loop_lag_microseconds"));
    gauges.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).reduce(f64::max)
}

fn version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("corecast_build_info{version=\"")?;
    Some(format!("corecast {}", rest.split('"').next()?))
}

/// One GET, read to its end.
fn scrape(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or("the URL must begin with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let mut stream = TcpStream::connect(host).map_err(|e| e.to_string())?;
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).map_err(|e| e.to_string())?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.starts_with("HTTP/1.") || text.get(8..12) != Some(" 200") {
        return Err(text.lines().next().unwrap_or("no answer").to_string());
    }
    Ok(text.into_owned())
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
    fn the_longest_lag_and_the_version_are_found() {
        let text = "corecast_build_info{version=\"0.1.0\"} 1\ncorecast_loop_lag_microseconds{shard=\"0\"} 3\n\
            corecast_loop_lag_microseconds{shard=\"1\"} 12\n";
        assert_eq!((loop_lag(text), version(text).as_deref()), (Some(12.0), Some("corecast 0.1.0")));
        assert_eq!((loop_lag("x 1\n"), version("x 1\n")), (None, None));
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
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
    fn threads_of_one_sort_count_together() {
        assert_eq!(["shard-12\n", "corecast", "tokio-rt-worker"].map(sort), ["shard", "corecast", "tokio-rt-worker"]);
        let thread = |name: &str, run| Thread { name: sort(name), run, ..Thread::default() };
        let threads = HashMap::from([(1, thread("shard-0", 5)), (2, thread("shard-1", 7)), (3, thread("x", 1))]);
        let spent = spent(&Sample::default(), &Sample { threads, ..Sample::default() });
        assert_eq!(spent.by_name, BTreeMap::from([("shard".into(), 12), ("x".into(), 1)]));
    }

    #[test]
    fn this_process_is_seen() {
        let watch = Watch { pid: Some(std::process::id()), metrics: None };
        assert!(!watch.sample().threads.is_empty());
        assert!(memory(std::process::id()).rss > 0);
    }
}
