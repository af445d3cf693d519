//! corecast-load: loads a WebSocket server and says what it did, what it cost, and whether anything was lost.
//!
//! The way of a run: `args` → `run` or `calm` (the course of a subcommand) → `crew` (workers, phases, progress) →
//! `engine` (one worker's loop) → a scene (`echo`, `fanout`, `greet`) → `report`.
//! Beside them: `net`, `frame`, `clock` below the engine; `payload`, `check`, `window`, `dialect` below fan-out; `server` looks
//! at the process under test.

mod args;
mod calm;
mod check;
mod clock;
mod crew;
mod dialect;
mod echo;
mod engine;
mod fanout;
mod frame;
mod greet;
mod net;
mod payload;
mod report;
mod run;
mod server;
mod tally;
mod window;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match args::Cli::parse().command {
        args::Command::Echo(args) => run::run_echo(&args),
        args::Command::Fanout(args) => run::run_fanout(&args),
        args::Command::Idle(args) => calm::run_idle(&args),
        args::Command::Connect(args) => calm::run_connect(&args),
    };
    match result {
        Ok(code) => code.into(),
        Err(run::Refusal(text)) => {
            eprintln!("corecast-load: {text}");
            2.into()
        }
    }
}
