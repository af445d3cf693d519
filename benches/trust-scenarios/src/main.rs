//! corecast-trust: loads that test this server under attack and during shutdown. `benches/trust` runs it.
//!
//! The workers, the connections and the report are those of the load tool; the scenarios are specific to this server.

mod abuse;
mod drain;
mod reconnecting_subscriber;
mod replies;
mod reply_attack;
mod reply_server;
mod reply_socket;
mod restart;
mod restart_publisher;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "corecast-trust",
    version,
    about = "Tests the server under attack, during a drain and during a restart"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A fan-out together with clients that never finish their handshake or never read
    Abuse(Box<abuse::Args>),
    /// A server that gets SIGTERM while it has open connections: when and how each is closed
    Drain(Box<drain::Args>),
    /// Clients that ask for large replies, in every form: the peak memory of the server, and the p99 of an honest client
    Replies(Box<replies::Args>),
    /// A server that is replaced: new connections at a rate, subscribers that check every number, publications at both APIs
    Restart(Box<restart::Args>),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Abuse(args) => abuse::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Replies(args) => replies::run(&args),
        Command::Restart(args) => restart::run(&args),
    };
    corecast_load::exit_code("corecast-trust", result)
}
