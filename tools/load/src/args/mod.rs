//! The options of the subcommands. The help texts are the manual.

pub mod message_options;
pub mod options;
pub mod run_file;
pub mod search;
pub mod share;

use crate::args::message_options::{MessageOptions, Pusher};
use crate::args::options::{Background, Common, Identity, Timing};
use crate::measure::rate::{Arrivals, Rate, duration};
use crate::protocols::Protocol;
use clap::Args;

/// The servers of a run.
#[derive(Clone, Debug, Args)]
pub struct Nodes {
    /// ws://HOST:PORT/PATH; several URLs, with commas between them, are the nodes of a cluster: the connections use them in turn
    #[arg(value_name = "URL", required_unless_present = "more_urls", value_delimiter = ',')]
    pub url: Vec<String>,
    /// The URL of another node
    #[arg(id = "more_urls", long = "url", value_name = "URL", value_delimiter = ',')]
    pub more: Vec<String>,
}

impl Nodes {
    /// At least one.
    pub fn urls(&self) -> Vec<String> {
        self.url.iter().chain(&self.more).cloned().collect()
    }
}

/// What a client does when its connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reconnect {
    Off,
    Same,
    Next,
}

/// A rate and the distribution of arrivals within it.
#[derive(Clone, Debug, Args)]
pub struct RateOptions {
    /// Messages (connect: connections) per second in all, on a fixed schedule, instead of a closed loop: 500, 100..5000/30s or
    /// 1000:10s,2000:10s
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// The distribution of arrivals within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
}

#[derive(Debug, Args)]
pub struct Echo {
    /// ws://HOST:PORT/PATH
    pub url: String,
    #[arg(long, short, default_value_t = 100)]
    pub connections: usize,
    /// Messages in flight per connection
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub depth: u16,
    /// Bytes of a message
    #[arg(long, short, default_value_t = 16)]
    pub size: usize,
    /// Text messages instead of binary ones
    #[arg(long)]
    pub text: bool,
    #[command(flatten)]
    pub rate: RateOptions,
    /// Do not compare contents: for servers that answer every frame of this size with a prepared one
    #[arg(long)]
    pub raw_frames: bool,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

/// What all runs of the fan-out family share.
#[derive(Clone, Debug, Args)]
pub struct Load {
    #[command(flatten)]
    pub message: MessageOptions,
    /// How closed clients go on, after a random delay as in SDKs: they recover from their position at the same URL or at the next
    /// one. The run then fails only if an acknowledged publication was lost or duplicated, or a client did not come back. It needs
    /// a rate. Default: `same` with several URLs and a rate, else `off`
    #[arg(long, value_enum, hide_possible_values = true, value_name = "off|same|next")]
    pub reconnect: Option<Reconnect>,
    /// The longest delay before a closed client reconnects
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = duration)]
    pub reconnect_delay_max: f64,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Fanout {
    #[command(flatten)]
    pub nodes: Nodes,
    #[arg(long, short = 'n', default_value_t = 1000)]
    pub subscribers: usize,
    /// The channel; with --channels a number is appended
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Channels, assigned to the subscribers in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: u16,
    /// Each subscriber also has a channel of its own without publications: its number is appended to this name
    #[arg(long, value_name = "NAME")]
    pub own_channel: Option<String>,
    /// Publications in flight per channel: a new one leaves when one has reached its last subscriber
    #[arg(long, short, default_value_t = 1, conflicts_with = "rate",
        value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub window: u16,
    #[command(flatten)]
    pub rate: RateOptions,
    #[command(flatten)]
    pub load: Load,
}

#[derive(Debug, Args)]
pub struct Chat {
    #[command(flatten)]
    pub nodes: Nodes,
    /// Users
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    /// Rooms; the r-th is chosen with a weight of 1 / r^ZIPF
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub rooms: u16,
    /// Each user is in 1 to this many rooms
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub rooms_per_user: u8,
    /// How unequal the rooms are: 0 all alike, 1 as in most chats
    #[arg(long, default_value_t = 1.0)]
    pub zipf: f64,
    /// The share of users who send messages, at most 256 in one room
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub talkers: f64,
    /// Messages per second of one talker, each to one of its rooms
    #[arg(long, default_value_t = 0.5, value_parser = rate)]
    pub talk_rate: f64,
    /// The distribution of messages over all talkers
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// The channels of the rooms; a number is appended
    #[arg(long, default_value = "room")]
    pub channel: String,
    /// The seed of the assignment of users to rooms
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub load: Load,
}

#[derive(Debug, Args)]
pub struct Notifications {
    #[command(flatten)]
    pub nodes: Nodes,
    /// Users, each with a channel of its own
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    /// Publications per second in all, each to a random user, on a fixed schedule: 500, 100..5000/30s or 1000:10s,2000:10s
    #[arg(long, default_value = "100", value_parser = Rate::parse)]
    pub rate: Rate,
    /// The distribution of arrivals within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// The channels of the users; a number is appended
    #[arg(long, default_value = "user")]
    pub channel: String,
    #[command(flatten)]
    pub load: Load,
}

#[derive(Debug, Args)]
pub struct Slow {
    /// The share of subscribers that read slowly; the deliveries of the others are checked
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub slow: f64,
    /// Bytes per second that a slow subscriber reads
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub slow_rate: u32,
    /// The kernel's receive buffer of a slow subscriber in bytes; the rest stays with the server
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    pub slow_buffer: usize,
    #[command(flatten)]
    pub fanout: Fanout,
}

#[derive(Debug, Args)]
pub struct Mixed {
    /// ws://HOST:PORT/PATH
    pub url: String,
    /// Connections, shared by the parts
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    /// Parts and their shares: chat, notifications, fanout, slow, idle, connect (each connection leaves at once), echo (needs --echo-url)
    #[arg(long, value_name = "NAME=SHARE,...", value_delimiter = ',', value_parser = part,
        default_value = "chat=0.5,notifications=0.3,idle=0.1,connect=0.1")]
    pub parts: Vec<(String, f64)>,
    /// The URL of the part echo
    #[arg(long, value_name = "URL")]
    pub echo_url: Option<String>,
    /// Per second and connection: echoes, messages of a talker, notifications, new connections
    #[arg(long, default_value_t = 0.5, value_parser = rate)]
    pub rate: f64,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct RunFile {
    /// A TOML file; `corecast-load scenarios` prints samples
    pub file: String,
    /// Only the runs with these names or scenarios
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Check the file and print the runs, but run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Samples {
    /// Only this one
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    pub nodes: Nodes,
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    #[arg(long, value_enum, default_value_t = Protocol::Centrifuge)]
    pub protocol: Protocol,
    /// The same as --protocol plain: connections are upgraded and send nothing
    #[arg(long)]
    pub plain: bool,
    /// The channel of all connections, if the protocol has channels; an empty name: no subscription
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
    /// Time for which the connections are held; less if the server closes them all
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub hold: f64,
    /// Hold until the server has closed all connections, however long that takes
    #[arg(long)]
    pub on_close: bool,
    /// Numbers of connections at which the server's memory is read, such as 2000,19000
    #[arg(long, value_delimiter = ',')]
    pub steps: Vec<usize>,
    /// Time without a change before the memory is read
    #[arg(long = "settle", default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub memory_delay: f64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Connect {
    #[command(flatten)]
    pub nodes: Nodes,
    #[command(flatten)]
    pub rate: RateOptions,
    /// Connections in all; a --rate with an end determines it
    #[arg(long, default_value_t = 1000)]
    pub total: usize,
    /// What follows the upgrade: nothing, the connect command and its reply, or Pusher's connection_established
    #[arg(long, value_enum, default_value_t = Protocol::Plain)]
    pub protocol: Protocol,
    /// Subscribe to this channel too, if the protocol has channels
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
    /// Clients before the storm: each reconnect ends the oldest connection and opens another
    #[arg(long, default_value_t = 19_000)]
    pub sockets: usize,
    /// Channels of these clients, one for each client; a number is appended to the name
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub channels: u8,
    #[arg(long, default_value = "storm")]
    pub channel: String,
    /// Publications that each client has missed and recovers
    #[arg(long, default_value_t = 1)]
    pub missed: u16,
    /// Bytes of such a publication's data (a JSON string with its quotes)
    #[arg(long, short, default_value_t = 64)]
    pub size: usize,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub background: Background,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Publish {
    /// The URL of the API: http://HOST:PORT/api
    pub url: String,
    /// The environment variable with the API key
    #[arg(long, value_name = "VAR")]
    pub key_env: Option<String>,
    /// Keep-alive connections, each with one request in flight
    #[arg(long, short, default_value_t = 64)]
    pub connections: usize,
    /// Publications per request; more than 1 are sent as a batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub batch: u16,
    /// The server may execute the commands of a batch in parallel
    #[arg(long)]
    pub parallel: bool,
    /// Channels, used in turn; a number is appended to the name
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: u16,
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// Bytes of a publication's data (a JSON string with its quotes)
    #[arg(long, short, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub size: u32,
    #[command(flatten)]
    pub rate: RateOptions,
    /// ws://HOST:PORT/PATH of the background subscribers
    #[arg(long, value_name = "URL")]
    pub beside: Option<String>,
    #[command(flatten)]
    pub background: Background,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Certificate {
    /// The folder for cert.pem and key.pem
    pub folder: String,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().map_err(|e| e.to_string())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is between 0 and 1".into()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|e| e.to_string())?;
    if rate > 0.0 && rate.is_finite() { Ok(rate) } else { Err("a rate is above 0".into()) }
}

/// The scenarios that a mixed run may contain.
const PARTS: [&str; 7] = ["chat", "notifications", "fanout", "slow", "idle", "connect", "echo"];

fn part(text: &str) -> Result<(String, f64), String> {
    let (name, text) = text.split_once('=').ok_or("a part is NAME=SHARE")?;
    if !PARTS.contains(&name) {
        return Err(format!("there is no part {name}; valid parts: {}", PARTS.join(", ")));
    }
    Ok((name.into(), share(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rates_and_parts_are_checked() {
        assert_eq!((share("0.25"), share("1.5").is_err()), (Ok(0.25), true));
        assert!(rate("0").is_err() && rate("-1").is_err() && rate("inf").is_err());
        assert_eq!(part("chat=0.5"), Ok(("chat".into(), 0.5)));
        assert!(part("chatt=0.5").is_err_and(|why| why.contains("notifications")));
    }
}
