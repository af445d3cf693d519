//! The subcommand `echo`.

use super::{Course, Traffic, check_open_files, report_traffic, run_traffic, start_workers};
use crate::RunError;
use crate::args;
use crate::distributed::coordinator::{lead, report_processes};
use crate::engine::Opening;
use crate::engine::workers::StartedWorkers;
use crate::net::{Target, frame};
use crate::protocols::Protocol;
use crate::report::{Failures, Report};
use crate::scenarios::echo::{Echo, Plan};

pub fn run_echo(args: &args::Echo) -> Result<u8, RunError> {
    if args.common.transport.deflate.is_on() {
        return Err(RunError("echo compares frames as they are: it does not support --deflate".into()));
    }
    let seconds = (args.timing.warmup, args.timing.measured(args.rate.rate.as_ref()));
    let course = Course { seconds, has_sinks: false, reconnects: false };
    let traffic = run_traffic(workers(args)?, &args.common, &course, &|| 0)?;
    Ok(report(args, &traffic).finish(args.common.json, &args.common.files))
}

/// The workers of this process, or those that carry the run.
pub fn workers(args: &args::Echo) -> Result<StartedWorkers<Echo>, RunError> {
    if let Some(remote) = lead(&args.common, args.connections, 0)? {
        return Ok(remote);
    }
    let (share, threads) = (args.common.share, usize::from(args.common.threads));
    check_open_files(share.split(args.connections, 1)[0].1)?;
    let plan = Plan {
        target: Target::new(Protocol::Plain, &args.url, &args.common.transport)?,
        depth: usize::from(args.depth),
        size: args.size,
        opcode: if args.text { frame::TEXT } else { frame::BINARY },
        raw: args.raw_frames,
        rate: args.rate.rate.clone(),
        arrivals: args.rate.arrivals,
        workers: threads * share.of,
    };
    start_workers(&args.common, args.connections, |worker, first, count| {
        let opening = Opening { total: count, concurrency: args.common.concurrency, schedule: None };
        (Echo::new(plan.clone(), share.part * threads + worker, first, count), opening)
    })
}

fn report(args: &args::Echo, traffic: &Traffic<Echo>) -> Report {
    let rate = args.rate.rate.as_ref();
    let mut report = Report::new("echo");
    report.set("connections", args.connections);
    report.set("size", args.size);
    match rate {
        Some(rate) => report.rate(rate),
        None => report.set("depth", args.depth),
    }
    report_traffic(&mut report, traffic, "messages", rate.is_none(), Failures::None);
    let results = &traffic.finished.results;
    if let Some(window) = traffic.window.as_ref().filter(|_| rate.is_some()) {
        report.rate_kept(window, results.sent(), "messages");
    }
    let label = if rate.is_some() { "latency (from the intended send time)" } else { "latency" };
    report.latency("latency_us", label, &results.all_steps());
    report.steps(rate, results, "messages");
    let wrong = results.count("wrong");
    report.set("lost", traffic.missing + wrong);
    if traffic.missing > 0 {
        report.void(format!("{} messages did not come back", traffic.missing));
    }
    if wrong > 0 {
        report.void(format!("{wrong} echoes were wrong"));
    }
    report_processes(&mut report, &traffic.finished.processes, None);
    report
}
