//! `drain`: a server is told to end while it holds connections; when and how each is closed, second by second.
//!
//! Plan: all connect, the server gets SIGTERM, every end is noted with its moment and code. A second is counted from the first
//! close; the last one, which is not whole, says nothing of evenness.

use crate::args;
use crate::distributed::start_barrier;
use crate::engine::Ending;
use crate::engine::clock::{SECOND, now};
use crate::measure::rate::Arrivals;
use crate::report::Report;
use crate::runs::idle_runs;
use crate::runs::{Refusal, check_files, endings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::collections::BTreeMap;

/// Closes with a frame and without, in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    told: u64,
    cut: u64,
}

/// Seconds from the first end on; the last one may not be whole.
fn by_second(endings: &[Ending]) -> Vec<Second> {
    let Some(first) = endings.iter().map(|ending| ending.at).min() else { return Vec::new() };
    let mut seconds = Vec::new();
    for ending in endings {
        let n = ((ending.at - first) / SECOND) as usize;
        seconds.resize(seconds.len().max(n + 1), Second::default());
        let second: &mut Second = &mut seconds[n];
        *(if ending.code == 1006 { &mut second.cut } else { &mut second.told }) += 1;
    }
    seconds
}

/// The largest deviation of a whole second from their mean, as a share of it; none where there are not two.
fn unevenness(seconds: &[Second]) -> Option<f64> {
    let whole = seconds.split_last()?.1;
    if whole.len() < 2 {
        return None;
    }
    let count = |second: &Second| (second.told + second.cut) as f64;
    let mean = whole.iter().map(count).sum::<f64>() / whole.len() as f64;
    Some(whole.iter().map(|second| (count(second) / mean - 1.0).abs()).fold(0.0, f64::max))
}

pub fn run(args: &args::Drain) -> Result<u8, Refusal> {
    args.common.parts.refuse("drain runs in one process")?;
    check_files(args.connections)?;
    let pid = args.common.server_pid.and_then(|pid| Pid::from_raw(pid as i32));
    let pid = pid.ok_or("drain needs --server-pid: the process that is told to end")?;
    let channel = Some(args.channel.clone()).filter(|name| !name.is_empty());
    let plan = idle_runs::plan(&args.url, args.protocol, channel, &args.common)?;
    let mut crew = idle_runs::start(&plan, &args.common, args.connections, Arrivals::Even)?;
    idle_runs::allow(&crew, args.connections);
    crew.wait(args.common.open_timeout, "opening", |t| (t.ready + t.failed) as usize >= args.connections);
    let opened = crew.tally().ready;
    start_barrier::pass(args.common.gate.as_deref())?;
    let told = now();
    kill_process(pid, Signal::TERM)
        .map_err(|e| Refusal(format!("process {} cannot be told to end: {e}", pid.as_raw_nonzero())))?;
    let all_gone = crew.wait(args.within, "draining", |t| t.closed >= opened);
    let ended = crew.finish()?;

    let mut report = Report::new("drain");
    report.set("connections", args.connections.into());
    report.count("open", opened, "held when it was told to end");
    endings(&mut report, &ended, false);
    tell(&mut report, &ended.endings, told);
    if (opened as usize) < args.connections {
        report.void(format!("{opened} of {} connections were opened", args.connections));
    }
    if !all_gone {
        report.void(format!("{} connections were not closed in time", opened - ended.endings.len() as u64));
    }
    Ok(report.finish(&args.common))
}

fn tell(report: &mut Report, endings: &[Ending], told: u64) {
    let first = endings.iter().map(|ending| ending.at).min().unwrap_or(told);
    let last = endings.iter().map(|ending| ending.at).max().unwrap_or(told);
    report.number("first_close_seconds", (first - told) as f64 / 1e9, "first close after", "s");
    report.number("span_seconds", (last - first) as f64 / 1e9, "from the first to the last", "s");
    let mut codes: BTreeMap<u16, u64> = BTreeMap::new();
    endings.iter().for_each(|ending| *codes.entry(ending.code).or_default() += 1);
    for (code, n) in codes.iter().filter(|(code, _)| **code != 1006) {
        report.row(&format!("closed with {code}"), format!("{n} connections"));
    }
    let cut = codes.get(&1006).copied().unwrap_or(0);
    report.count("without_frame", cut, "ended without a close frame");
    if cut > 0 {
        report.void(format!("{cut} connections were ended without a close frame"));
    }
    let seconds = by_second(endings);
    let told: Vec<u64> = seconds.iter().map(|second| second.told).collect();
    report.set("closes_by_second", json!(told));
    report.set("cuts_by_second", json!(seconds.iter().map(|second| second.cut).collect::<Vec<_>>()));
    report.row("closes, second by second", format!("{told:?}"));
    if let Some(share) = unevenness(&seconds) {
        report.set("unevenness", json!(share));
        report.row("evenness", format!("no whole second deviates from their mean by more than {:.1} %", share * 100.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_from_the_first_close_and_the_last_is_not_judged() {
        let at = |tenths: u64, code| Ending { at: 77 * SECOND + tenths * SECOND / 10, code };
        let endings = [at(15, 3001), at(0, 3001), at(9, 1006), at(10, 3001), at(12, 3001), at(29, 3001)];
        let seconds = by_second(&endings);
        assert_eq!(seconds, [Second { told: 1, cut: 1 }, Second { told: 3, cut: 0 }, Second { told: 1, cut: 0 }]);
        assert!((unevenness(&seconds).unwrap() - 0.2).abs() < 1e-9, "2 and 3, of which the mean is 2.5");
        assert_eq!(unevenness(&by_second(&endings[1..3])), None);
        assert_eq!(by_second(&[]), []);
    }
}
