//! corecast-load: loads a WebSocket server and says what it did, what it cost, and whether anything was lost.
//!
//! The way of a run: `args` → `run`, `crowd`, `calm`, `strain`, `drain` or `restart` (the course of a subcommand) → `crew`
//! (workers, phases, progress) → `engine` (one worker's loop) → a scene (`echo`, `fanout`, `greet`, `storm`, `api`, `abuse`,
//! `slow`, `faithful`) → `harvest` → `report` → `show`. `series` runs several, `scenario` reads them from a file.
//! Beside them: `links`, `net`, `wire`, `frame`, `squeeze`, `clock` below the engine; `press`, `members`, `payload`, `check`, `verdict`,
//! `window`, `dialect`, `welcome`, `token` below fan-out;
//! `beside` is a fan-out that goes on while another load does, `herald` what comes before a storm, `courier` a publisher over
//! the API that minds no restart, `certificate` what a TLS server needs; `server` looks at the process under test.

mod abuse;
mod api;
mod args;
mod beside;
mod calm;
mod certificate;
mod check;
mod clock;
mod courier;
mod crew;
mod crowd;
mod dialect;
mod drain;
mod echo;
mod engine;
mod faithful;
mod fanout;
mod far;
mod frame;
mod gate;
mod greet;
mod harvest;
mod herald;
mod host;
mod hosts;
mod kept;
mod lasts;
mod links;
mod members;
mod net;
mod options;
mod parley;
mod part;
mod payload;
mod press;
mod pulse;
mod rate;
mod report;
mod restart;
mod run;
mod samples;
mod scenario;
mod scene_args;
mod search;
mod series;
mod server;
mod show;
mod slow;
mod speech;
mod squeeze;
mod storm;
mod strain;
mod tally;
mod timeline;
mod token;
mod verdict;
mod welcome;
mod window;
mod wire;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match args::Cli::parse().command {
        args::Command::Echo(args) => run::run_echo(&args),
        args::Command::Fanout(args) => crowd::run_fanout(&args),
        args::Command::Chat(args) => crowd::run_chat(&args),
        args::Command::Notifications(args) => crowd::run_notifications(&args),
        args::Command::Slow(args) => crowd::run_slow(&args),
        args::Command::Mixed(args) => series::run_mixed(&args),
        args::Command::Run(args) => series::run_file(&args),
        args::Command::Scenarios(args) => series::print_samples(&args),
        args::Command::Idle(args) => calm::run_idle(&args),
        args::Command::Connect(args) => calm::run_connect(&args),
        args::Command::Storm(args) => strain::run_storm(&args),
        args::Command::Publish(args) => strain::run_publish(&args),
        args::Command::Drain(args) => drain::run(&args),
        args::Command::Restart(args) => restart::run(&args),
        args::Command::Report(args) => show::args::report(&args),
        args::Command::Compare(args) => show::args::compare(&args),
        args::Command::Certificate(args) => certificate::run(&args),
        args::Command::Search(args) => search::run(args),
        args::Command::Agent(args) => hosts::run(&args),
        args::Command::Part => part::run(),
    };
    match result {
        Ok(code) => code.into(),
        Err(run::Refusal(text)) => {
            eprintln!("corecast-load: {text}");
            2.into()
        }
    }
}
