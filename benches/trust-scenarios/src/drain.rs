//! `drain`: a server with open connections gets SIGTERM; when and how each connection is closed, second by second.
//!
//! All connections open, the server gets SIGTERM, and every end is recorded with its time and code. Seconds are counted from the
//! first close; the last one, which is not whole, does not count for the evenness.

use clap::Args as ClapArgs;
use corecast_load::RunError;
use corecast_load::args::options::Common;
use corecast_load::engine::clock::{SECOND, now};
use corecast_load::engine::connection::{Ending, NO_CLOSE_FRAME};
use corecast_load::measure::rate::Arrivals;
use corecast_load::protocols::Protocol;
use corecast_load::report::{Failures, Report};
use corecast_load::runs::{check_open_files, idle_runs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// ws://HOST:PORT/PATH
    url: String,
    #[arg(long, short, default_value_t = 1000)]
    connections: usize,
    #[arg(long, value_enum, default_value_t = Protocol::Centrifuge)]
    protocol: Protocol,
    /// The channel of all connections, if the protocol has channels; an empty name: no subscription
    #[arg(long, default_value = "load")]
    channel: String,
    /// Seconds that the server may take; --server-pid gets SIGTERM once all connections are open
    #[arg(long, default_value_t = 60.0)]
    within: f64,
    #[command(flatten)]
    common: Common,
}

/// Closes in one second, with a close frame and without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    with_frame: u64,
    without_frame: u64,
}

/// The seconds from the first close on.
fn by_second(endings: &[Ending]) -> Vec<Second> {
    let Some(first) = endings.iter().map(|ending| ending.at).min() else { return Vec::new() };
    let mut seconds = Vec::new();
    for ending in endings {
        let n = ((ending.at - first) / SECOND) as usize;
        seconds.resize(seconds.len().max(n + 1), Second::default());
        let second: &mut Second = &mut seconds[n];
        *(if ending.code == NO_CLOSE_FRAME { &mut second.without_frame } else { &mut second.with_frame }) += 1;
    }
    seconds
}

/// The largest deviation of a whole second from their mean, as a share of it; `None` if there are fewer than two.
fn unevenness(seconds: &[Second]) -> Option<f64> {
    let whole = seconds.split_last()?.1;
    if whole.len() < 2 {
        return None;
    }
    let count = |second: &Second| (second.with_frame + second.without_frame) as f64;
    let mean = whole.iter().map(count).sum::<f64>() / whole.len() as f64;
    Some(whole.iter().map(|second| (count(second) / mean - 1.0).abs()).fold(0.0, f64::max))
}

pub fn run(args: &Args) -> Result<u8, RunError> {
    args.common.processes.reject("drain runs in one process")?;
    check_open_files(args.connections)?;
    let pid = args.common.server_pid.and_then(|pid| Pid::from_raw(pid as i32));
    let pid = pid.ok_or("drain needs --server-pid: the process that gets SIGTERM")?;
    let plan =
        idle_runs::plan(std::slice::from_ref(&args.url), args.protocol, Some(args.channel.clone()), &args.common)?;
    let (mut workers, totals) = idle_runs::start(&plan, &args.common, args.connections, Arrivals::Even)?;
    workers.open(&totals, args.common.open_timeout, "opening");
    let opened = workers.counters().ready;
    let signaled = now();
    kill_process(pid, Signal::TERM)
        .map_err(|e| RunError(format!("process {} did not get SIGTERM: {e}", pid.as_raw_nonzero())))?;
    let all_closed = workers.wait(args.within, "draining", |counters| counters.closed >= opened);
    let finished = workers.finish()?;

    let mut report = Report::new("drain");
    report.set("connections", args.connections);
    report.count("open", opened, "open at the signal");
    report.connections(&finished, Failures::Closes);
    let endings = &finished.connections.endings;
    report_endings(&mut report, endings, signaled);
    if (opened as usize) < args.connections {
        report.void(format!("{opened} of {} connections were opened", args.connections));
    }
    if !all_closed {
        report.void(format!("{} connections were not closed in time", opened - endings.len() as u64));
    }
    Ok(report.finish(args.common.json, &args.common.files))
}

fn report_endings(report: &mut Report, endings: &[Ending], signaled: u64) {
    let first = endings.iter().map(|ending| ending.at).min().unwrap_or(signaled);
    let last = endings.iter().map(|ending| ending.at).max().unwrap_or(signaled);
    report.number("first_close_seconds", (first - signaled) as f64 / 1e9, "first close after", "s");
    report.number("span_seconds", (last - first) as f64 / 1e9, "from the first to the last", "s");
    let mut codes: BTreeMap<u16, u64> = BTreeMap::new();
    endings.iter().for_each(|ending| *codes.entry(ending.code).or_default() += 1);
    for (code, n) in codes.iter().filter(|(code, _)| **code != NO_CLOSE_FRAME) {
        report.row(&format!("closed with {code}"), format!("{n} connections"));
    }
    let without_frame = codes.get(&NO_CLOSE_FRAME).copied().unwrap_or(0);
    report.row("ended without a close frame", without_frame.to_string());
    report.fault("without_frame", without_frame, "connections were ended without a close frame");
    let seconds = by_second(endings);
    let with_frame: Vec<u64> = seconds.iter().map(|second| second.with_frame).collect();
    report.set("closes_by_second", json!(with_frame));
    report.set("cuts_by_second", json!(seconds.iter().map(|second| second.without_frame).collect::<Vec<_>>()));
    report.row("closes, second by second", format!("{with_frame:?}"));
    if let Some(share) = unevenness(&seconds) {
        report.set("unevenness", share);
        report.row("evenness", format!("whole seconds deviate from their mean by at most {:.1} %", share * 100.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_from_the_first_close_and_the_last_one_is_not_judged() {
        let at = |tenths: u64, code| Ending { at: 77 * SECOND + tenths * SECOND / 10, code };
        let endings = [at(15, 3001), at(0, 3001), at(9, 1006), at(10, 3001), at(12, 3001), at(29, 3001)];
        let seconds = by_second(&endings);
        let second = |with_frame, without_frame| Second { with_frame, without_frame };
        assert_eq!(seconds, [second(1, 1), second(3, 0), second(1, 0)]);
        assert!((unevenness(&seconds).unwrap() - 0.2).abs() < 1e-9, "2 and 3, with a mean of 2.5");
        assert_eq!(unevenness(&by_second(&endings[1..3])), None);
        assert_eq!(by_second(&[]), []);
    }
}
