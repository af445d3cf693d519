//! The command line. The help texts are the manual.

pub mod message_options;
pub mod options;
pub mod scenes;

use crate::args::message_options::{Pusher, Speech};
pub use crate::args::options::*;
use crate::measure::rate::{Arrivals, Rate};
use crate::protocols::Protocol;
use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  corecast-load echo ws://127.0.0.1:8000/echo --connections 100 --depth 16
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --subscribers 1000 --window 8
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --subscribers 1000 --rate 500
  corecast-load search fanout ws://127.0.0.1:8000/connection/websocket --subscribers 1000 --p99-max 10ms --server-pid PID
  corecast-load chat ws://127.0.0.1:8000/connection/websocket --connections 5000 --rooms 200 --talk-rate 0.2
  corecast-load notifications ws://127.0.0.1:8000/connection/websocket --rate 500 \\
      --api http://127.0.0.1:9000/api --key-env KEY
  corecast-load slow ws://127.0.0.1:8000/connection/websocket --slow 0.1 --slow-rate 4096 --rate 200 --size 1000
  corecast-load fanout ws://127.0.0.1:6001/app/KEY --protocol pusher --pusher-secret-env SECRET --rate 100 \\
      --api http://127.0.0.1:6001 --pusher-app ID
  corecast-load run evening.toml
  corecast-load idle ws://127.0.0.1:8000/connection/websocket --connections 10000 --hold 60
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --subscribers 1000000 --channels 1000 --own-channel own \\
      --rate 1 --processes 52 --open-timeout 600 --duration 60
  corecast-load connect ws://127.0.0.1:8000/echo --rate 2000 --total 10000
  corecast-load storm ws://127.0.0.1:8000/connection/websocket --total 50000 --token-secret-env SECRET
  corecast-load publish http://127.0.0.1:9000/api --key-env KEY --batch 10 \\
      --beside ws://127.0.0.1:8000/connection/websocket --beside-subscribers 1000
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --half-open 10000 --never-read 100
  corecast-load drain ws://127.0.0.1:8000/connection/websocket --connections 19000 --server-pid PID
  corecast-load connect wss://127.0.0.1:8443/connection/websocket --tls-ca cert.pem --tls-resume --close
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --rate 500 --out a.json --html a.html
  corecast-load compare a.json b.json --html both.html
  corecast-load restart ws://127.0.0.1:8000/connection/websocket --key-env KEY \\
      --api http://127.0.0.1:9000/api --api http://127.0.0.1:9001/api

Over several hosts: start `corecast-load agent --listen 0.0.0.0:7000 --key-env KEY` on each, then add
--hosts one:7000,two:7000 --hosts-key-env KEY to echo, fanout --rate, idle, connect or search. The first host publishes. Files
(--tls-ca) and variables (--token-secret-env) are those of each host. The key decides who may give orders; what is said is not
encrypted, so use a network that is yours.

Measure honestly: give the server one core and this tool another (--cores), name the server's process (--server-pid)
and its counters (--server-metrics http://127.0.0.1:9000/metrics). A throughput counts only if the server's core was at
least 97 % busy and this tool's below 90 %; otherwise the run says VOID. Latency under load is measured at a rate (--rate):
it counts from when a message should have been sent, so a stalled server cannot hide it.

Exit codes: 0 fine, 1 the run is VOID (something was lost, closed, or does not count), 2 wrong usage.";

/// Loads a WebSocket server and says what it did, what it cost, and whether anything was lost.
#[derive(Debug, Parser)]
#[command(name = "corecast-load", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages that the server sends back: throughput (closed loop) or latency (--rate)
    Echo(Echo),
    /// Publishers and subscribers, every delivery accounted for: throughput (--window) or latency (--rate)
    Fanout(Fanout),
    /// Rooms of very different sizes, talkers and lurkers: every message followed to everybody in its room
    Chat(scenes::Chat),
    /// A channel per user, publications to random ones: latency, every one accounted for
    Notifications(scenes::Notifications),
    /// A fan-out of which some read slowly: what becomes of them, and what the others notice
    Slow(scenes::Slow),
    /// Several of these beside each other, each with its share of the connections; `run` says more of each
    Mixed(scenes::Mixed),
    /// The runs of a TOML file, after and beside each other
    Run(scenes::Run),
    /// Samples of such files, commented
    Scenarios(scenes::Scenarios),
    /// Connections that do nothing: memory and processor time per connection, close codes
    Idle(Idle),
    /// A storm of connections: how long connect, upgrade and greeting take
    Connect(Connect),
    /// Clients that all come back: each connects, subscribes and recovers in one frame, while others are served
    Storm(Storm),
    /// Publications over the HTTP API, while subscribers of another channel are served
    Publish(Publish),
    /// A server that is told to end while it holds connections: when and how each is closed
    Drain(Drain),
    /// A server that is replaced: newcomers at a rate, subscribers that check every number, publications over the API of both
    Restart(Restart),
    /// A run that --out wrote, as a table or a page
    Report(crate::report::commands::Report),
    /// Runs that --out wrote beside one another: what differs, ratios, which is better
    Compare(crate::report::commands::Compare),
    /// A certificate and its key for localhost, for a server that is to be measured over TLS
    Certificate(Certificate),
    /// The highest rate at which a bound on latency holds: echo or fanout, probed until the knee is found
    Search(crate::runs::search::Search),
    /// Waits on this host for a coordinator (--hosts) and carries parts of its runs
    Agent(crate::distributed::agent::Agent),
    /// Carries a part of a run as its coordinator says on standard input
    #[command(hide = true)]
    Part,
}

#[derive(Debug, Args)]
pub struct Echo {
    /// ws://HOST:PORT/PATH
    pub url: String,
    #[arg(long, short, default_value_t = 100)]
    pub connections: usize,
    /// Messages that each connection keeps under way
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub depth: u16,
    /// Bytes of a message
    #[arg(long, short, default_value_t = 16)]
    pub size: usize,
    /// Text messages instead of binary ones
    #[arg(long)]
    pub text: bool,
    /// Messages per second over all connections, on a fixed schedule, instead of --depth: 500, 100..5000/30s or 1000:10s,2000:10s
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// How messages come within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// Do not compare contents: for servers that answer any frame of this size by a prepared one
    #[arg(long)]
    pub raw_frames: bool,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Fanout {
    /// ws://HOST:PORT/PATH of the subscribers
    pub url: String,
    #[arg(long, short = 'n', default_value_t = 1000)]
    pub subscribers: usize,
    /// The channel; with --channels a number is appended
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Channels; subscribers are dealt out to them in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: u16,
    /// Each subscriber also has a channel of its own, to which nobody publishes: its number is appended to this name
    #[arg(long, value_name = "NAME")]
    pub own_channel: Option<String>,
    /// Publications under way per channel: one leaves for each that has reached its last subscriber
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub window: u16,
    /// Publications per second over all channels, on a fixed schedule, instead of --window: 500, 100..5000/30s or
    /// 1000:10s,2000:10s
    #[arg(long, conflicts_with = "window", value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// How publications come within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    #[command(flatten)]
    pub speech: Speech,
    #[command(flatten)]
    pub abuse: Abuse,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Idle {
    /// ws://HOST:PORT/PATH
    pub url: String,
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    #[arg(long, value_enum, default_value_t = Protocol::Centrifuge)]
    pub protocol: Protocol,
    /// The same as --protocol plain: connections are upgraded and say nothing
    #[arg(long)]
    pub plain: bool,
    /// The channel that all subscribe to, where the protocol has channels; an empty name subscribes to none
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Each connection has a channel of its own: its number is appended
    #[arg(long)]
    pub own_channel: bool,
    /// Message protocol: subscriptions ask for a position
    #[arg(long)]
    pub positioned: bool,
    #[command(flatten)]
    pub pusher: Pusher,
    #[command(flatten)]
    pub identity: Identity,
    /// Seconds to hold the connections; less if the server closes them all
    #[arg(long, default_value_t = 10.0)]
    pub hold: f64,
    /// Hold until the server has closed them all, however long that takes
    #[arg(long)]
    pub on_close: bool,
    /// Counts of connections at which the server's memory is read, such as 2000,19000
    #[arg(long, value_delimiter = ',')]
    pub steps: Vec<usize>,
    /// Seconds of silence before the memory is read
    #[arg(long, default_value_t = 2.0)]
    pub settle: f64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Connect {
    /// ws://HOST:PORT/PATH
    pub url: String,
    /// Connections begun per second, on a fixed schedule, such as 500, 100..5000/30s or 1000:10s,2000:10s; without it as fast
    /// as --concurrency allows
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// How connections come within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// Connections in all; a --rate that ends says it by itself
    #[arg(long, default_value_t = 1000)]
    pub total: usize,
    /// What the storm includes beyond the upgrade: the connect command and its reply, or Pusher's greeting
    #[arg(long, value_enum, default_value_t = Protocol::Plain)]
    pub protocol: Protocol,
    /// Subscribe to this channel as well, where the protocol has channels
    #[arg(long)]
    pub channel: Option<String>,
    /// End each connection as soon as it is open, instead of keeping all until the end
    #[arg(long)]
    pub close: bool,
    #[command(flatten)]
    pub pusher: Pusher,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Storm {
    /// ws://HOST:PORT/PATH
    pub url: String,
    /// Reconnects in all
    #[arg(long, default_value_t = 50_000)]
    pub total: usize,
    /// Clients that are connected before the storm: each reconnect ends the oldest connection and begins another
    #[arg(long, default_value_t = 19_000)]
    pub sockets: usize,
    /// Channels of these clients, each of whom subscribes to one; a number is appended to the name
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub channels: u8,
    #[arg(long, default_value = "storm")]
    pub channel: String,
    /// Publications that each client has missed and gets in its recovery
    #[arg(long, default_value_t = 1)]
    pub missed: u16,
    /// Bytes of such a publication's data (a JSON string with its quotes)
    #[arg(long, short, default_value_t = 64)]
    pub size: usize,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub beside: Beside,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Publish {
    /// Where the API is: http://HOST:PORT/api
    pub url: String,
    /// The variable that holds the API's key
    #[arg(long, value_name = "VAR")]
    pub key_env: Option<String>,
    /// Keep-alive connections, each with one request under way
    #[arg(long, short, default_value_t = 64)]
    pub connections: usize,
    /// Publications in one request; more than 1 are sent as a batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub batch: u16,
    /// Commands of a batch may be carried out at the same time
    #[arg(long)]
    pub parallel: bool,
    /// Channels, taken in turn; a number is appended to the name
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: u16,
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Bytes of a publication's data (a JSON string with its quotes)
    #[arg(long, short, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub size: u32,
    /// Publications per second, on a fixed schedule, instead of as many as come back: 500, 100..5000/30s or 1000:10s,2000:10s
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// How requests come within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// ws://HOST:PORT/PATH of the others
    #[arg(long, value_name = "URL")]
    pub beside: Option<String>,
    #[command(flatten)]
    pub others: Beside,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Drain {
    /// ws://HOST:PORT/PATH
    pub url: String,
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    #[arg(long, value_enum, default_value_t = Protocol::Centrifuge)]
    pub protocol: Protocol,
    /// The channel that all subscribe to, where the protocol has channels; an empty name subscribes to none
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Seconds that the server may take; --server-pid is told to end (SIGTERM) once all are open
    #[arg(long, default_value_t = 60.0)]
    pub within: f64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Restart {
    /// ws://HOST:PORT/PATH, which the one and then the other process serves
    pub url: String,
    /// Connections begun per second by newcomers: connect, upgrade, connect command, subscribe, away again
    #[arg(long, default_value_t = 1000.0)]
    pub newcomers: f64,
    /// Subscribers that stay, come back when they are closed, and say then where they were
    #[arg(long, short = 'n', default_value_t = 200)]
    pub subscribers: usize,
    /// Where publications go: http://HOST:PORT/api, once for each process; one that does not answer is asked again
    #[arg(long, value_name = "URL", required = true)]
    pub api: Vec<String>,
    /// The variable that holds the API's key
    #[arg(long, value_name = "VAR")]
    pub key_env: Option<String>,
    /// Publications per second at each
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// The channel, which needs history and allow_recovery
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Seconds in which it all goes on; the processes are started and ended by others
    #[arg(long, default_value_t = 20.0)]
    pub duration: f64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Certificate {
    /// Where cert.pem and key.pem are written
    pub folder: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["x", "fanout", "ws://a", "--rate", "5", "--window", "2"]).is_err());
    }
}
