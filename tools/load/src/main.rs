//! corecast-load: generates load for a WebSocket server and reports what it did, what it cost, and whether anything was lost.

use clap::Parser;
use corecast_load::cli::{Cli, Command};
use corecast_load::distributed::{agent, worker_process};
use corecast_load::interrupt;
use corecast_load::report::commands;
use corecast_load::runs::{certificate, echo_runs, fanout_runs, idle_runs, publish_runs, search, series};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if command.is_run()
        && let Err(error) = interrupt::listen()
    {
        return corecast_load::exit_code("corecast-load", Err(error));
    }
    let result = match command {
        Command::Echo(args) => echo_runs::run_echo(&args),
        Command::Fanout(args) => fanout_runs::run_fanout(&args),
        Command::Chat(args) => fanout_runs::run_chat(&args),
        Command::Notifications(args) => fanout_runs::run_notifications(&args),
        Command::Slow(args) => fanout_runs::run_slow(&args),
        Command::Mixed(args) => series::run_mixed(&args),
        Command::Run(args) => series::run_file(&args),
        Command::Scenarios(args) => series::print_samples(&args),
        Command::Idle(args) => idle_runs::run_idle(&args),
        Command::Connect(args) => idle_runs::run_connect(&args),
        Command::Storm(args) => publish_runs::run_storm(&args),
        Command::Publish(args) => publish_runs::run_publish(&args),
        Command::Report(args) => commands::report(&args),
        Command::Compare(args) => commands::compare(&args),
        Command::Certificate(args) => certificate::run(&args),
        Command::Search(args) => search::run(args),
        Command::Agent(args) => agent::run(&args),
        Command::Part => worker_process::run(),
    };
    corecast_load::exit_code("corecast-load", result)
}
