//! The command line: every subcommand with its options. The help texts are the manual.

use crate::args::{
    Certificate, Chat, Connect, Echo, Fanout, Idle, Mixed, Notifications, Publish, RunFile, Samples, Slow, Storm,
};
use clap::{Parser, Subcommand};

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
  corecast-load fanout ws://10.0.0.1:8000/connection/websocket,ws://10.0.0.2:8000/connection/websocket \\
      --channels 100 --rate 200 --duration 2m --html nodes.html
  corecast-load run runs.toml
  corecast-load idle ws://127.0.0.1:8000/connection/websocket --connections 10000 --hold 60
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --subscribers 1000000 --channels 1000 --own-channel own \\
      --rate 1 --processes 52 --open-timeout 600 --duration 60
  corecast-load connect ws://127.0.0.1:8000/echo --rate 2000 --total 10000
  corecast-load storm ws://127.0.0.1:8000/connection/websocket --total 50000 --token-secret-env SECRET
  corecast-load publish http://127.0.0.1:9000/api --key-env KEY --batch 10 \\
      --beside ws://127.0.0.1:8000/connection/websocket --beside-subscribers 1000
  corecast-load connect wss://127.0.0.1:8443/connection/websocket --tls-ca cert.pem --tls-resume --close
  corecast-load fanout ws://127.0.0.1:8000/connection/websocket --rate 500 --out a.json --html a.html
  corecast-load compare a.json b.json --html both.html

Several nodes of a cluster: give their URLs with commas between them, or repeat --url. The connections use them in turn; the first
one (or --publish-url, --api) gets the publications. With a rate, a node may fail during the run: closed clients reconnect as SDKs
do and recover (--reconnect same or next), and the report says what each node lost of what was acknowledged.

Several hosts: start `corecast-load agent --listen 0.0.0.0:7000 --key-env KEY` on each, then add
--hosts one:7000,two:7000 --hosts-key-env KEY to echo, fanout --rate, idle, connect or search. The first host publishes. Each
host reads files (--tls-ca) and environment variables (--token-secret-env) of its own. The key authenticates coordinators; the
traffic is not encrypted, so use a private network.

Correct measurement: give the server one core and this tool another (--cores), name the server's process (--server-pid) and
its counters (--server-metrics http://127.0.0.1:9000/metrics). A throughput counts only if the server's core was at least 97 %
busy and this tool's below 90 %; otherwise the run is VOID. Measure latency under load at a rate (--rate): it counts from the
intended send time, so a server that stalls cannot hide it.

The first Ctrl-C ends the load: the run then ends with a report on what was measured until then, which is VOID. The second one
ends the tool at once. Files are replaced when the report is complete. Times are written as 500ms, 10s, 2m or 1h; a number without a unit is seconds.

Exit codes: 0 valid, 1 VOID (something was lost or closed, or the figures do not count), 2 wrong usage.";

/// Generates load for a WebSocket server and reports what the server did, what it cost, and whether anything was lost.
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
    /// Publishers and subscribers, with every delivery checked: throughput (--window) or latency (--rate)
    Fanout(Fanout),
    /// Rooms of very different sizes, a few talkers, many readers; every message is checked at every member of its room
    Chat(Chat),
    /// A channel per user and publications to random users: latency, with every delivery checked
    Notifications(Notifications),
    /// A fan-out with slow readers: what the server does with them, and how they affect the others
    Slow(Slow),
    /// Several scenarios at once, each with a share of the connections; `run` offers more settings
    Mixed(Mixed),
    /// The runs of a TOML file, one after another or at once
    Run(RunFile),
    /// Commented sample files for `run`
    Scenarios(Samples),
    /// Connections without traffic: memory and processor time per connection, close codes
    Idle(Idle),
    /// Many new connections: how long connect, upgrade and setup take
    Connect(Connect),
    /// A reconnect storm: each client connects, subscribes and recovers in one frame, while other subscribers are served
    Storm(Storm),
    /// Publications over the HTTP API, while subscribers of another channel are served
    Publish(Publish),
    /// A saved run (--out) as a table or a page
    Report(crate::report::commands::Report),
    /// Two saved runs side by side: differences, ratios, which one is better
    Compare(crate::report::commands::Compare),
    /// A certificate and its key for localhost, for a server that is measured over TLS
    Certificate(Certificate),
    /// The highest rate at which a latency bound holds (echo or fanout)
    Search(crate::args::search::Search),
    /// Waits on this host for a coordinator (--hosts) and carries parts of its runs
    Agent(crate::distributed::agent::Agent),
    /// Carries a part of a run; the coordinator sends commands on standard input
    #[command(hide = true)]
    Part,
}

impl Command {
    /// Whether it loads a server: then Ctrl-C ends the load first.
    pub fn is_run(&self) -> bool {
        !matches!(
            self,
            Self::Report(_)
                | Self::Compare(_)
                | Self::Certificate(_)
                | Self::Scenarios(_)
                | Self::Agent(_)
                | Self::Part
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["x", "fanout", "ws://a", "--rate", "5", "--window", "2"]).is_err());
        assert!(Cli::try_parse_from(["x", "fanout"]).is_err());
    }
}
