//! The command line of the scenes with people in them, and of files of runs. The help texts are the manual.

use crate::args::message_options::Speech;
use crate::args::{Abuse, Common, Fanout, Timing};
use crate::measure::rate::{Arrivals, Rate};
use clap::Args;

#[derive(Debug, Args)]
pub struct Chat {
    /// ws://HOST:PORT/PATH
    pub url: String,
    /// Users
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    /// Rooms; the r-th is chosen with a weight of 1 / r^ZIPF
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub rooms: u16,
    /// Rooms that a user is in at most; each is in 1 to so many
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub rooms_per_user: u8,
    /// How unequal the rooms are: 0 all alike, 1 as in most chats
    #[arg(long, default_value_t = 1.0)]
    pub zipf: f64,
    /// The share of users who talk; the others lurk. At most 256 talk in one room
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub talkers: f64,
    /// Messages a second of one talker, each into one of its rooms
    #[arg(long, default_value_t = 0.5, value_parser = rate)]
    pub talk_rate: f64,
    /// How messages come over all talkers
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// The rooms' channels; a number is appended
    #[arg(long, default_value = "room")]
    pub channel: String,
    /// Who is in which room follows from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub speech: Speech,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Notifications {
    /// ws://HOST:PORT/PATH
    pub url: String,
    /// Users, each with a channel of its own
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    /// Publications a second over all users, each to one of them at random, on a fixed schedule: 500, 100..5000/30s or
    /// 1000:10s,2000:10s
    #[arg(long, default_value = "100", value_parser = Rate::parse)]
    pub rate: Rate,
    /// How they come within --rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// The users' channels; a number is appended
    #[arg(long, default_value = "user")]
    pub channel: String,
    #[command(flatten)]
    pub speech: Speech,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Slow {
    /// The share of subscribers that read slowly; the others are honest and verified
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub slow: f64,
    /// Bytes that a slow one reads in a second
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub slow_rate: u32,
    /// Bytes of a slow one's receive buffer in the kernel: what does not fit stays with the server
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    pub slow_buffer: usize,
    #[command(flatten)]
    pub fanout: Fanout,
}

#[derive(Debug, Args)]
pub struct Mixed {
    /// ws://HOST:PORT/PATH
    pub url: String,
    /// Connections, of which each part has its share
    #[arg(long, short, default_value_t = 1000)]
    pub connections: usize,
    /// Parts and their shares: chat, notifications, fanout, slow, idle, connect (churn: each leaves at once), echo (needs --echo-url)
    #[arg(long, value_name = "NAME=SHARE,...", value_delimiter = ',', value_parser = part,
        default_value = "chat=0.5,notifications=0.3,idle=0.1,connect=0.1")]
    pub parts: Vec<(String, f64)>,
    /// Where echo connects
    #[arg(long, value_name = "URL")]
    pub echo_url: Option<String>,
    /// Messages a second of each part, per connection: echoes, what a talker says, notifications; churn: how often each comes anew
    #[arg(long, default_value_t = 0.5, value_parser = rate)]
    pub rate: f64,
    #[command(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct Run {
    /// A TOML file; `corecast-load scenarios` prints samples
    pub file: String,
    /// Only the runs of these names or scenarios
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Say what would be run, and check it, but run nothing
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
pub struct Scenarios {
    /// Just this one
    pub name: Option<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().map_err(|e| e.to_string())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is between 0 and 1".into()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|e| e.to_string())?;
    if rate > 0.0 && rate.is_finite() { Ok(rate) } else { Err("a rate is above 0".into()) }
}

/// The scenarios that a mixed run may have.
pub const PARTS: [&str; 7] = ["chat", "notifications", "fanout", "slow", "idle", "connect", "echo"];

fn part(text: &str) -> Result<(String, f64), String> {
    let (name, text) = text.split_once('=').ok_or("a part is NAME=SHARE")?;
    if !PARTS.contains(&name) {
        return Err(format!("no part is called {name}; there are {}", PARTS.join(", ")));
    }
    Ok((name.into(), share(text)?))
}

/// None of the abusers.
pub const PEACE: Abuse = Abuse { half_open: 0, never_read: 0 };

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
