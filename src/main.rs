//! Arguments → checked settings → `server::run`. The exit codes are documented in `--help`.

mod cli;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use cli::doctor::Doctor;
use cli::environment;
use cli::log::{Log, report};
use cli::store::StoreTask;
use cli::token::{self, Outcome, TokenTask};
use cli::{Cli, Flags, Task};
use corecast::config;
use corecast::server::Ended;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const ENDED_AT_ONCE: u8 = 3;

fn main() -> ExitCode {
    let task = Cli::parse().command;
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let code = match task {
        Task::Serve { config, flags } => serve(config.as_deref(), flags),
        Task::Config { markdown } => print(&if markdown { config::markdown() } else { config::sample() }),
        Task::CheckConfig { file, skip_files } => check_config(&file, skip_files),
        Task::Doctor(doctor) => examine(doctor),
        Task::Token(task) => run_token(*task),
        Task::Store(task) => run_store(&task),
    };
    log.end();
    code
}

fn serve(file: Option<&Path>, flags: Flags) -> ExitCode {
    let file = named(file).map(Path::to_owned);
    let load = move || config::load(file.as_deref(), environment::variables(), flags.0.clone());
    let (config, warnings) = match load() {
        Ok(loaded) => loaded,
        Err(errors) => return fail(USAGE, errors),
    };
    for warning in warnings {
        log::warn!("{warning}");
    }
    match corecast::server::run(config, Box::new(load), None) {
        Ok(Ended::InOrder) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::from(ENDED_AT_ONCE),
        Err(error) if error.is_in_settings() => fail(USAGE, format_args!("corecast: {error}")),
        Err(error) => fail(FAILED, format_args!("corecast: {error}")),
    }
}

/// An empty CORECAST_CONFIG names no file.
fn named(file: Option<&Path>) -> Option<&Path> {
    file.filter(|path| !path.as_os_str().is_empty())
}

fn check_config(file: &Path, skip_files: bool) -> ExitCode {
    let (config, mut warnings) = match config::load(Some(file), environment::variables(), Vec::new()) {
        Ok(loaded) => loaded,
        Err(errors) => return fail(USAGE, errors),
    };
    if !skip_files {
        if let Err(error) = corecast::server::check_files(&config) {
            return fail(USAGE, format_args!("{}: {error}", file.display()));
        }
        warnings.extend(config::exposed_secret(file));
    }
    let warnings: String = warnings.iter().map(|warning| format!("  warning: {warning}\n")).collect();
    print(&format!("{}: no errors\n{warnings}", file.display()))
}

fn examine(doctor: Doctor) -> ExitCode {
    match config::load(named(doctor.config.as_deref()), environment::variables(), Vec::new()) {
        Ok((config, _)) => {
            let (text, code) = doctor.run(&config);
            let printed = print(&text);
            if printed == ExitCode::SUCCESS { ExitCode::from(code) } else { printed }
        }
        Err(errors) => fail(USAGE, errors),
    }
}

fn run_token(task: TokenTask) -> ExitCode {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match token::run(task, now_s) {
        Outcome::Done(text) => print(&text),
        Outcome::Rejected { report, why } => {
            print(&report);
            fail(FAILED, format_args!("rejected: {why}"))
        }
        Outcome::Usage(text) => fail(USAGE, text),
        Outcome::Failed(text) => fail(FAILED, format_args!("corecast: {text}")),
    }
}

fn run_store(task: &StoreTask) -> ExitCode {
    match cli::store::run(task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, format_args!("corecast: {error}")),
    }
}

/// Errors go to stderr.
fn fail(code: u8, error: impl std::fmt::Display) -> ExitCode {
    report(error);
    ExitCode::from(code)
}

/// Results go to stdout. A reader that stops early (`| head`) is not an error.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(FAILED, format_args!("corecast: cannot write to stdout: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}
