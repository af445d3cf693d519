//! Several runs, one after another or at once (`run FILE`, `mixed`).
//!
//! Every run is a process of its own, this program with the command line of that run, so that its processor time and verdict are
//! its own. Runs at once wait at a start barrier until all have their connections. The findings of each are printed as for a single
//! run; the verdict on all comes last.

use super::samples::SAMPLES;
use super::watch;
use crate::args::options::{Common, Files};
use crate::args::run_file::{self, PlannedRun};
use crate::distributed::start_barrier::StartBarrier;
use crate::engine::clock::{SECOND, now};
use crate::measure::server::{check_pid, memory, spent};
use crate::report::Report;
use crate::report::figures::{command, human};
use crate::{RunError, args, interrupt};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// The interval at which running processes are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The outcome of a run.
struct Outcome {
    name: String,
    /// 0 valid, 1 void, 2 rejected, 3 no exit code.
    code: u8,
    text: String,
}

impl Outcome {
    fn verdict(&self) -> &'static str {
        ["valid", "VOID", "rejected"].get(usize::from(self.code)).copied().unwrap_or("aborted")
    }

    fn value(&self) -> Value {
        let mut value: Value = serde_json::from_str(self.text.trim()).unwrap_or_else(|_| json!({"output": self.text}));
        (value["name"], value["exit_code"]) = (self.name.as_str().into(), self.code.into());
        value
    }
}

/// How runs show themselves.
#[derive(Clone, Copy)]
struct Output {
    json: bool,
    quiet: bool,
}

/// Starts a run. Its progress is shown unless it is one of several at once.
fn start(run: &PlannedRun, output: Output, barrier: Option<&StartBarrier>) -> Result<Child, RunError> {
    let mut process = Command::new(std::env::current_exe()?);
    process.args(&run.words).stdin(Stdio::null()).stdout(Stdio::piped());
    process.args(output.json.then_some("--json"));
    process.args((output.quiet || barrier.is_some()).then_some("--quiet"));
    if let Some(barrier) = barrier {
        process.arg("--gate").arg(&barrier.path);
    }
    process.spawn().map_err(|e| RunError(format!("{}: {e}", run.name)))
}

/// Runs all of `group` at once and calls `observe` repeatedly from when all have begun.
fn run_group(
    group: &[PlannedRun],
    number: usize,
    output: Output,
    mut observe: impl FnMut(),
) -> Result<Vec<Outcome>, RunError> {
    let barrier = (group.len() > 1).then(|| StartBarrier::new(number)).transpose()?;
    let mut readers = Vec::new();
    for run in group {
        let child = start(run, output, barrier.as_ref())?;
        // Its output is read while it runs, so that it never blocks.
        readers.push(spawn(move || child.wait_with_output()));
    }
    let running = |readers: &[JoinHandle<_>]| readers.iter().filter(|reader| !reader.is_finished()).count();
    if let Some(barrier) = &barrier {
        barrier.release(|| running(&readers))?;
    }
    let (begun, mut shown) = (now(), 0);
    while running(&readers) > 0 {
        observe();
        sleep(POLL_INTERVAL);
        let seconds = (now() - begun) / SECOND;
        if barrier.is_some() && !output.quiet && seconds > shown {
            shown = seconds;
            eprintln!("{seconds:>4} s  {} of {} are running", running(&readers), group.len());
        }
    }
    let mut outcomes = Vec::new();
    for (run, reader) in group.iter().zip(readers) {
        let output = reader.join().map_err(|_| RunError("a reader panicked".into()))??;
        let code = output.status.code().unwrap_or(3) as u8;
        outcomes.push(Outcome { name: run.name.clone(), code, text: String::from_utf8_lossy(&output.stdout).into() });
    }
    Ok(outcomes)
}

/// Prints the findings of runs, unless they go into one JSON object.
fn print(outcomes: &[Outcome], json: bool, is_single: bool) {
    for outcome in outcomes.iter().filter(|_| !json) {
        match is_single {
            true => println!("{}", outcome.text.trim_end()),
            false => println!("── {}\n{}\n", outcome.name, outcome.text.trim_end()),
        }
    }
}

/// The verdict on all runs: void if one of them is.
fn report_outcomes(report: &mut Report, key: &str, outcomes: &[Outcome]) {
    report.set(key, outcomes.iter().map(Outcome::value).collect::<Vec<_>>());
    for outcome in outcomes {
        report.row(&outcome.name, outcome.verdict());
        if outcome.code != 0 {
            report.void(format!("{}: {}", outcome.name, outcome.verdict()));
        }
    }
}

pub fn run_file(args: &args::RunFile) -> Result<u8, RunError> {
    let text = std::fs::read_to_string(&args.file).map_err(|e| RunError(format!("{}: {e}", args.file)))?;
    let mut planned = run_file::read(&args.file, &text)?;
    if !args.only.is_empty() {
        planned.retain(|run| args.only.contains(&run.name) || args.only.contains(&run.scenario));
    }
    let Some(first) = planned.first_mut() else {
        return Err(RunError(format!("--only: {} has no run {}", args.file, args.only.join(" or "))));
    };
    first.alongside = false;
    if args.dry_run {
        for run in &planned {
            let and = if run.alongside { "  and " } else { "" };
            println!("{and}{}: corecast-load {}", run.name, command(&run.words));
        }
        return Ok(0);
    }
    let groups: Vec<&[PlannedRun]> = planned.chunk_by(|_, next| next.alongside).collect();
    let (is_single, output) = (planned.len() == 1, Output { json: args.json, quiet: args.quiet });
    let mut outcomes = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        if interrupt::is_set() {
            break;
        }
        if !args.quiet {
            let names: Vec<&str> = group.iter().map(|run| run.name.as_str()).collect();
            eprintln!("── {} ({} of {})", names.join(" and "), number + 1, groups.len());
        }
        let of_group = run_group(group, number, output, || ())?;
        print(&of_group, args.json && !is_single, is_single);
        outcomes.extend(of_group);
    }
    if let (true, [one]) = (is_single, &outcomes[..]) {
        return Ok(one.code);
    }
    let mut report = Report::new("runs");
    report_outcomes(&mut report, "runs", &outcomes);
    let code = report.finish(args.json, &Files::default());
    Ok(outcomes.iter().map(|outcome| outcome.code).fold(code, u8::max))
}

/// The options of a mixed run that apply to every part.
fn common_words(common: &Common) -> Vec<String> {
    let transport = &common.transport;
    let mut words = vec![
        format!("--threads={}", common.threads),
        format!("--concurrency={}", common.concurrency),
        format!("--open-timeout={}", common.open_timeout),
    ];
    if let Some(cores) = &common.cores {
        words.push(format!("--cores={}", cores.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
    }
    words.extend(transport.tls_ca.as_ref().map(|file| format!("--tls-ca={file}")));
    let switches =
        [("--spin", common.spin), ("--tls-insecure", transport.tls_insecure), ("--tls-resume", transport.tls_resume)];
    words.extend(switches.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.to_string()));
    words
}

/// The run of one part with `n` connections.
fn plan_part(args: &args::Mixed, name: &str, n: usize) -> Result<PlannedRun, RunError> {
    let (rate, seconds) = (args.rate * n as f64, args.timing.warmup + args.timing.duration);
    let url =
        if name == "echo" { args.echo_url.as_ref().ok_or("mixed: the part echo needs --echo-url")? } else { &args.url };
    let mut words = match name {
        "echo" | "notifications" => vec![format!("--connections={n}"), format!("--rate={rate}")],
        "chat" => vec![format!("--connections={n}"), format!("--talk-rate={}", args.rate)],
        "idle" => vec![format!("--connections={n}"), format!("--hold={seconds}"), "--channel=idle".into()],
        "connect" => {
            let total = (rate * seconds).ceil().max(1.0);
            let switches = ["--close", "--protocol=centrifuge"].map(String::from);
            [vec![format!("--rate={rate}"), format!("--total={total}")], switches.into()].concat()
        }
        _ => vec![format!("--subscribers={n}"), format!("--channel={name}"), format!("--rate={}", args.rate)],
    };
    if !["idle", "connect"].contains(&name) {
        words.extend([format!("--warmup={}", args.timing.warmup), format!("--duration={}", args.timing.duration)]);
    }
    if args.common.transport.deflate.is_on() && name != "echo" {
        let mode = clap::ValueEnum::to_possible_value(&args.common.transport.deflate);
        words.extend(mode.map(|mode| format!("--deflate={}", mode.get_name())));
    }
    let words = [vec![name.to_string(), url.clone()], words, common_words(&args.common)].concat();
    Ok(PlannedRun { name: name.into(), scenario: name.into(), words, alongside: true })
}

pub fn run_mixed(args: &args::Mixed) -> Result<u8, RunError> {
    let (common, timing) = (&args.common, &args.timing);
    check_pid(common.server_pid)?;
    let sum: f64 = args.parts.iter().map(|(_, share)| share).sum();
    if sum > 1.0 + 1e-9 {
        return Err(RunError(format!("--parts: the shares add up to {}, more than 1", human(sum))));
    }
    let portion = |share: f64| (args.connections as f64 * share).round().max(1.0) as usize;
    let portions: Vec<(&str, usize)> =
        args.parts.iter().map(|(name, share)| (name.as_str(), portion(*share))).collect();
    let group = portions.iter().map(|(name, n)| plan_part(args, name, *n)).collect::<Result<Vec<_>, _>>()?;
    let watch = watch(common);
    let begun = now();
    let (mut opened, mut first, mut last) = (None, None, None);
    let outcomes = run_group(&group, 0, Output { json: common.json, quiet: common.quiet }, || {
        let at = now();
        // All parts begin with their warm-up, which is not measured.
        let since = (at - *opened.get_or_insert(at)) as f64 / 1e9;
        if since >= timing.warmup {
            first.get_or_insert_with(|| (at, watch.sample()));
        }
        if since >= timing.warmup + timing.duration {
            last.get_or_insert_with(|| (at, watch.sample()));
        }
    })?;
    print(&outcomes, common.json, false);
    let mut report = Report::new("mixed");
    report.set("connections", args.connections);
    let portions = portions.iter().map(|(name, n)| json!({"name": name, "connections": n}));
    report.set("portions", portions.collect::<Vec<_>>());
    report.number("opening_seconds", (opened.unwrap_or(begun) - begun) as f64 / 1e9, "until all had begun", "s");
    match (&first, &last) {
        (Some((from, before)), Some((to, after))) if common.server_pid.is_some() => {
            let (spent, seconds) = (spent(before, after), (to - from) as f64 / 1e9);
            let busy = spent.busiest as f64 / 1e9 / seconds;
            report.set("server_busy", busy);
            report.number("server_cores", spent.nanos as f64 / 1e9 / seconds, "server, all threads", "cores");
            report.row("server", format!("{:.1} % busy (its busiest core) while all were running", busy * 100.0));
        }
        (_, None) => report.void("the parts ended before the measured time was over"),
        _ => {}
    }
    if let Some(pid) = common.server_pid {
        let rss = memory(pid).rss as f64 / f64::from(1 << 20);
        report.number("server_rss", rss, "server memory at the end", "MiB resident");
    }
    report_outcomes(&mut report, "parts", &outcomes);
    Ok(report.finish(common.json, &common.files))
}

pub fn print_samples(args: &args::Samples) -> Result<u8, RunError> {
    let is_wanted = |name: &str| args.name.as_ref().is_none_or(|wanted| wanted == name);
    let texts = SAMPLES.iter().filter(|(name, _)| is_wanted(name));
    let texts: Vec<String> = texts.map(|(name, text)| format!("# ── {name}.toml\n{}\n", text.trim_end())).collect();
    if texts.is_empty() {
        return Err(RunError(format!("no such sample; there are {}", SAMPLES.map(|(name, _)| name).join(", "))));
    }
    print!("{}", texts.join("\n"));
    Ok(0)
}
