//! Several runs: after each other, and beside each other where they are told to (`run FILE`, `mixed`).
//!
//! Plan: every run is a process of its own, this very program with the words of that run, so that a run's processor time and
//! verdict are its own. Those that go beside each other wait at a gate until all have their connections. What each found is
//! printed as it would have been alone; at the end stands the verdict on all.

use crate::args::Common;
use crate::args::scenes;
use crate::distributed::start_barrier::Gate;
use crate::engine::clock::{SECOND, now};
use crate::measure::server::{memory, spent};
use crate::report::{Report, human};
use crate::runs::run_file::{self, Planned};
use crate::runs::samples;
use crate::runs::{self, Refusal};
use serde_json::{Value, json};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// Time between two looks at the server while several runs go on.
const LOOK: Duration = Duration::from_millis(50);

/// How a run went.
struct Outcome {
    name: String,
    /// Exit code: 0, 1 void, 2 refused; 3 where there was none.
    code: i32,
    text: String,
}

impl Outcome {
    fn value(&self) -> Value {
        let mut value: Value = serde_json::from_str(self.text.trim()).unwrap_or_else(|_| json!({"output": self.text}));
        value["name"] = self.name.as_str().into();
        value["exit_code"] = self.code.into();
        value
    }
}

/// Starts a run; its progress goes where ours does, unless others are beside it.
fn start(run: &Planned, json: bool, quiet: bool, gate: Option<&Gate>) -> Result<Child, Refusal> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(&run.words).stdin(Stdio::null()).stdout(Stdio::piped());
    for (flag, is_set) in [("--json", json), ("--quiet", quiet || gate.is_some())] {
        command.args(is_set.then_some(flag));
    }
    if let Some(gate) = gate {
        command.arg("--gate").arg(&gate.path);
    }
    command.spawn().map_err(|e| Refusal(format!("{}: {e}", run.name)))
}

/// Reads what a run says while it runs, so that it never waits for us.
fn reader(child: Child) -> JoinHandle<std::io::Result<Output>> {
    spawn(move || child.wait_with_output())
}

fn outcome(run: &Planned, output: Output) -> Outcome {
    let code = output.status.code().unwrap_or(3);
    Outcome { name: run.name.clone(), code, text: String::from_utf8_lossy(&output.stdout).into() }
}

/// Runs all of `group` beside each other; `meanwhile` is called while they go on, from when all have begun.
fn together(
    group: &[Planned],
    number: usize,
    (json, quiet): (bool, bool),
    mut meanwhile: impl FnMut(),
) -> Result<Vec<Outcome>, Refusal> {
    let gate = (group.len() > 1).then(|| Gate::new(number)).transpose()?;
    let mut readers = Vec::new();
    for run in group {
        readers.push(reader(start(run, json, quiet, gate.as_ref())?));
    }
    let running = |readers: &[JoinHandle<_>]| readers.iter().filter(|reader| !reader.is_finished()).count();
    if let Some(gate) = &gate {
        gate.release(|| running(&readers))?;
    }
    let (begun, mut told) = (now(), 0);
    while running(&readers) > 0 {
        meanwhile();
        sleep(LOOK);
        // One that goes alone tells its own progress.
        let seconds = (now() - begun) / SECOND;
        if gate.is_some() && !quiet && seconds > told {
            told = seconds;
            eprintln!("{seconds:>4} s  {} of {} go on", running(&readers), group.len());
        }
    }
    let mut outcomes = Vec::new();
    for (run, reader) in group.iter().zip(readers) {
        let output = reader.join().map_err(|_| Refusal("a reader panicked".into()))??;
        outcomes.push(outcome(run, output));
    }
    Ok(outcomes)
}

/// Prints what runs found, unless it goes into one object.
fn show(outcomes: &[Outcome], json: bool, alone: bool) {
    for outcome in outcomes.iter().filter(|_| !json) {
        if !alone {
            println!("── {}", outcome.name);
        }
        println!("{}", outcome.text.trim_end());
        if !alone {
            println!();
        }
    }
}

/// The verdict on all: void if one is, and which; the exit code is the worst of theirs.
fn verdict(report: &mut Report, key: &str, outcomes: &[Outcome]) {
    report.set(key, outcomes.iter().map(Outcome::value).collect::<Vec<_>>().into());
    for outcome in outcomes {
        let how = match outcome.code {
            0 => "fine",
            1 => "VOID",
            2 => "refused",
            _ => "broken off",
        };
        report.row(&outcome.name, how.into());
        if outcome.code != 0 {
            report.void(format!("{}: {how}", outcome.name));
        }
    }
}

// ---- run FILE

pub fn run_file(args: &scenes::Run) -> Result<u8, Refusal> {
    let text = std::fs::read_to_string(&args.file).map_err(|e| Refusal(format!("{}: {e}", args.file)))?;
    let mut planned = run_file::read(&args.file, &text).map_err(Refusal)?;
    if !args.only.is_empty() {
        planned.retain(|run| args.only.contains(&run.name) || args.only.contains(&run.scenario));
    }
    let Some(first) = planned.first_mut() else {
        return Err(Refusal(format!("--only: no run of {} is called {}", args.file, args.only.join(" or "))));
    };
    first.alongside = false;
    let mut groups: Vec<Vec<Planned>> = Vec::new();
    for run in planned {
        match groups.last_mut().filter(|_| run.alongside) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    if args.dry_run {
        for run in groups.iter().flatten() {
            println!("{}{}: corecast-load {}", if run.alongside { "  and " } else { "" }, run.name, shell(&run.words));
        }
        return Ok(0);
    }
    let alone = groups.len() == 1 && groups[0].len() == 1;
    let mut outcomes = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        if !args.quiet {
            let names: Vec<&str> = group.iter().map(|run| run.name.as_str()).collect();
            eprintln!("── {} ({} of {})", names.join(" and "), number + 1, groups.len());
        }
        let of_group = together(group, number, (args.json, args.quiet), || ())?;
        show(&of_group, args.json, alone);
        outcomes.extend(of_group);
    }
    if let (true, [one]) = (alone, &outcomes[..]) {
        if args.json {
            println!("{}", one.text.trim_end());
        }
        return Ok(one.code as u8);
    }
    let mut report = Report::new("runs");
    verdict(&mut report, "runs", &outcomes);
    let code = report.finish(args.json);
    Ok(outcomes.iter().map(|outcome| outcome.code as u8).fold(code, u8::max))
}

/// Words as a shell takes them.
fn shell(words: &[String]) -> String {
    let plain = |word: &str| word.chars().all(|c| c.is_alphanumeric() || "-_=./:,@%+".contains(c));
    let quote = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

// ---- mixed

/// How every part is spoken with and where it runs, as words.
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

/// The words of one part that has `n` connections.
fn part(args: &scenes::Mixed, name: &str, n: usize) -> Result<Planned, Refusal> {
    let (total, seconds) = (args.rate * n as f64, args.timing.warmup + args.timing.duration);
    let timing = [format!("--warmup={}", args.timing.warmup), format!("--duration={}", args.timing.duration)];
    let mut words = vec![name.to_string(), args.url.clone()];
    match name {
        "echo" => {
            words[1] = args.echo_url.clone().ok_or("mixed: the part echo needs --echo-url")?;
            words.extend([format!("--connections={n}"), format!("--rate={total}")]);
        }
        "chat" => words.extend([format!("--connections={n}"), format!("--talk-rate={}", args.rate)]),
        "notifications" => words.extend([format!("--connections={n}"), format!("--rate={total}")]),
        "fanout" | "slow" => {
            words.extend([format!("--subscribers={n}"), format!("--channel={name}"), format!("--rate={}", args.rate)])
        }
        "idle" => words.extend([format!("--connections={n}"), format!("--hold={seconds}"), "--channel=idle".into()]),
        _ => {
            words.extend([format!("--rate={total}"), format!("--total={}", (total * seconds).ceil().max(1.0))]);
            words.extend(["--close", "--protocol=centrifuge"].map(String::from));
        }
    }
    if !["idle", "connect"].contains(&name) {
        words.extend(timing);
    }
    if args.common.transport.deflate.is_on() && name != "echo" {
        let mode = clap::ValueEnum::to_possible_value(&args.common.transport.deflate);
        words.extend(mode.map(|mode| format!("--deflate={}", mode.get_name())));
    }
    words.extend(common_words(&args.common));
    Ok(Planned { name: name.into(), scenario: name.into(), words, alongside: true })
}

/// How many connections each part has.
fn portions(args: &scenes::Mixed) -> Result<Vec<(&str, usize)>, Refusal> {
    let sum: f64 = args.parts.iter().map(|(_, share)| share).sum();
    if sum > 1.0 + 1e-9 {
        return Err(Refusal(format!("--parts: the shares are {} together, more than 1", human(sum))));
    }
    let portion = |share: &f64| (args.connections as f64 * share).round().max(1.0) as usize;
    Ok(args.parts.iter().map(|(name, share)| (name.as_str(), portion(share))).collect())
}

pub fn run_mixed(args: &scenes::Mixed) -> Result<u8, Refusal> {
    let common = &args.common;
    let portions = portions(args)?;
    let group = portions.iter().map(|(name, n)| part(args, name, *n)).collect::<Result<Vec<_>, _>>()?;
    let watch = runs::watch(common);
    let mut first = None;
    // All begin with their warm-up, which is not looked at.
    let begun = now();
    let mut opened = None;
    let mut last = None;
    let outcomes = together(&group, 0, (common.json, common.quiet), || {
        let at = now();
        let since = (at - *opened.get_or_insert(at)) as f64 / 1e9;
        if since >= args.timing.warmup && first.is_none() {
            first = Some((at, watch.sample()));
        }
        if since >= args.timing.warmup + args.timing.duration && last.is_none() {
            last = Some((at, watch.sample()));
        }
    })?;
    show(&outcomes, common.json, false);
    let mut report = Report::new("mixed");
    report.set("connections", args.connections.into());
    report.set(
        "portions",
        portions.iter().map(|(name, n)| json!({"name": name, "connections": n})).collect::<Vec<_>>().into(),
    );
    report.number("opening_seconds", (opened.unwrap_or(begun) - begun) as f64 / 1e9, "until all had begun", "s");
    match (&first, &last) {
        (Some((from, before)), Some((to, after))) if common.server_pid.is_some() => {
            let (spent, seconds) = (spent(before, after), (to - from) as f64 / 1e9);
            let busy = spent.busiest as f64 / 1e9 / seconds;
            report.set("server_busy", json!(busy));
            report.number("server_cores", spent.nanos as f64 / 1e9 / seconds, "server, all threads", "cores");
            report.row("server", format!("{:.1} % busy (its busiest core), while all went on", busy * 100.0));
        }
        (_, None) => report.void("the parts ended before the measured time was over".into()),
        _ => {}
    }
    if let Some(pid) = common.server_pid {
        report.number(
            "server_rss",
            memory(pid).rss as f64 / f64::from(1 << 20),
            "server memory at the end",
            "MiB resident",
        );
    }
    verdict(&mut report, "parts", &outcomes);
    Ok(report.finish(common))
}

// ---- scenarios

pub fn print_samples(args: &scenes::Scenarios) -> Result<u8, Refusal> {
    let found: Vec<_> =
        samples::SAMPLES.iter().filter(|(name, _)| args.name.as_ref().is_none_or(|wanted| wanted == name)).collect();
    if found.is_empty() {
        let names: Vec<&str> = samples::SAMPLES.iter().map(|(name, _)| *name).collect();
        return Err(Refusal(format!("no sample of that name; there are {}", names.join(", "))));
    }
    for (i, (name, text)) in found.iter().enumerate() {
        let gap = if i > 0 { "\n" } else { "" };
        println!("{gap}# ── {name}.toml\n{}", text.trim_end());
    }
    Ok(0)
}
