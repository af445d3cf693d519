//! Arguments → checked config → `server::run`. Exit codes: 0 done, 1 failed while starting or running, 2 usage, 3 ended at
//! once by a second signal.

mod cli;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cli::doctor::Doctor;
use cli::log::{Log, say};
use cli::token::{self, Outcome};
use cli::{Cli, Flags, Task};
use corecast::config::{self, Faults};
use corecast::server::Ended;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const AT_ONCE: u8 = 3;

fn main() -> ExitCode {
    let log = Log::start();
    let code = match Cli::parse().command {
        Task::Serve { config, flags } => serve(config.as_deref(), flags),
        Task::Config { markdown } => print(&if markdown { config::markdown() } else { config::sample() }),
        Task::CheckConfig { file } => check(&file),
        Task::Doctor(task) => doctor(task),
        Task::Token(task) => tokens(*task),
    };
    log.end();
    code
}

fn serve(file: Option<&Path>, flags: Flags) -> ExitCode {
    let file = file.map(Path::to_owned);
    let load = move || config::load(file.as_deref(), environment(), flags.0.clone());
    let (config, remarks) = match load() {
        Ok(loaded) => loaded,
        Err(faults) => return usage(&faults),
    };
    for remark in remarks {
        log::warn!("{remark}");
    }
    match corecast::server::run(config, Box::new(load)) {
        Ok(Ended::InOrder) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::from(AT_ONCE),
        Err(error) => {
            say(format_args!("corecast: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

fn check(file: &Path) -> ExitCode {
    match config::load(Some(file), std::iter::empty(), Vec::new()) {
        Ok((_, remarks)) => {
            let remarks: String = remarks.iter().map(|remark| format!("  note: {remark}\n")).collect();
            print(&format!("{}: no faults\n{remarks}", file.display()))
        }
        Err(faults) => usage(&faults),
    }
}

fn doctor(task: Doctor) -> ExitCode {
    let config = match config::load(task.config.as_deref(), environment(), Vec::new()) {
        Ok((config, _)) => config,
        Err(faults) => return usage(&faults),
    };
    let (text, code) = task.run(&config);
    let printed = print(&text);
    if printed == ExitCode::SUCCESS { ExitCode::from(code) } else { printed }
}

fn tokens(task: token::TokenTask) -> ExitCode {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match token::run(task, now) {
        Outcome::Done(text) => print(&text),
        Outcome::Refused { report, why } => {
            print(&report);
            say(format_args!("refused: {why}"));
            ExitCode::from(FAILED)
        }
        Outcome::Usage(text) => {
            say(text);
            ExitCode::from(USAGE)
        }
        Outcome::Failed(text) => {
            say(format_args!("corecast: {text}"));
            ExitCode::from(FAILED)
        }
    }
}

fn usage(faults: &Faults) -> ExitCode {
    say(faults);
    ExitCode::from(USAGE)
}

/// Results go to stdout; a reader that left early (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(format_args!("corecast: cannot write to stdout: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The environment, less what is not UTF-8: no setting of ours could be.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
