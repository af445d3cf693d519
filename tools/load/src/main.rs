//! corecast-load: loads a WebSocket server and says what it did, what it cost, and whether anything was lost.
//!
//! The way of a run: `args` → `run`, `crowd`, `calm`, `strain`, `drain` or `restart` (the course of a subcommand) → `crew`
//! (workers, phases, progress) → `engine` (one worker's loop) → a scene (`echo`, `fanout`, `greet`, `storm`, `api`, `abuse`,
//! `slow`, `faithful`) → `harvest` → `report` → `show`. `series` runs several, `scenario` reads them from a file.
//! Beside them: `links`, `net`, `wire`, `frame`, `squeeze`, `clock` below the engine; `press`, `members`, `payload`, `check`, `verdict`,
//! `window`, `dialect`, `welcome`, `token` below fan-out;
//! `beside` is a fan-out that goes on while another load does, `herald` what comes before a storm, `courier` a publisher over
//! the API that minds no restart, `certificate` what a TLS server needs; `server` looks at the process under test.

mod args;
mod distributed;
mod engine;
mod measure;
mod net;
mod protocols;
mod report;
mod runs;
mod scenarios;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match args::Cli::parse().command {
        args::Command::Echo(args) => runs::run_echo(&args),
        args::Command::Fanout(args) => runs::fanout_runs::run_fanout(&args),
        args::Command::Chat(args) => runs::fanout_runs::run_chat(&args),
        args::Command::Notifications(args) => runs::fanout_runs::run_notifications(&args),
        args::Command::Slow(args) => runs::fanout_runs::run_slow(&args),
        args::Command::Mixed(args) => runs::series::run_mixed(&args),
        args::Command::Run(args) => runs::series::run_file(&args),
        args::Command::Scenarios(args) => runs::series::print_samples(&args),
        args::Command::Idle(args) => runs::idle_runs::run_idle(&args),
        args::Command::Connect(args) => runs::idle_runs::run_connect(&args),
        args::Command::Storm(args) => runs::publish_runs::run_storm(&args),
        args::Command::Publish(args) => runs::publish_runs::run_publish(&args),
        args::Command::Drain(args) => runs::drain::run(&args),
        args::Command::Restart(args) => runs::restart::run(&args),
        args::Command::Report(args) => report::commands::report(&args),
        args::Command::Compare(args) => report::commands::compare(&args),
        args::Command::Certificate(args) => runs::certificate::run(&args),
        args::Command::Search(args) => runs::search::run(args),
        args::Command::Agent(args) => distributed::agent::run(&args),
        args::Command::Part => distributed::worker_process::run(),
    };
    match result {
        Ok(code) => code.into(),
        Err(runs::Refusal(text)) => {
            eprintln!("corecast-load: {text}");
            2.into()
        }
    }
}
