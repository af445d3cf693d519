//! Groups of options that several subcommands share.

use crate::args::share::Share;
use crate::measure::rate::{Rate, duration};
use crate::net::deflate::Deflate;
use crate::{RunError, files};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Worker threads, each with a share of the connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Cores to pin the workers to, such as 1 or 2,4-7
    #[arg(long, value_parser = cores)]
    pub cores: Option<Cores>,
    /// Connections that may be opening at once
    #[arg(long, default_value_t = 128)]
    pub concurrency: usize,
    /// Time until all connections must be open, such as 60s or 2m; a number without a unit is seconds
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub open_timeout: f64,
    /// Poll for messages without sleeping: the cores stay busy, and the server has no wake-ups to pay for
    #[arg(long)]
    pub spin: bool,
    /// The server's process: its processor time and memory are reported
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The server's counters, http://HOST:PORT/metrics: reported as writes and reads per message
    #[arg(long, value_name = "URL")]
    pub server_metrics: Option<String>,
    #[command(flatten)]
    pub transport: Transport,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub files: Files,
    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
    /// Redraw the progress in place even if stderr is not a terminal, instead of a line per second
    #[arg(long, conflicts_with = "quiet")]
    pub live: bool,
    #[command(flatten)]
    pub processes: Processes,
    /// The part of the run that this process carries.
    #[arg(skip)]
    pub share: Share,
    /// The start barrier of runs that begin together
    #[arg(long, hide = true)]
    pub gate: Option<std::path::PathBuf>,
}

impl Common {
    /// The connections of each worker in this process, as the number of the first one and the count.
    pub fn split(&self, total: usize) -> Vec<(usize, usize)> {
        self.share.split(total, usize::from(self.threads))
    }
}

/// Files for the full report. With one of these, the server's counters are read every second.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// Write the full report (figures, time series, percentile curves, the host) as JSON, for `report` and `compare`
    #[arg(long, value_name = "FILE")]
    pub out: Option<String>,
    /// Write a self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
}

impl Files {
    pub fn any(&self) -> bool {
        self.out.is_some() || self.html.is_some()
    }

    /// Fails before the run, instead of after it, if a file cannot be written.
    pub fn check(&self) -> Result<(), String> {
        for path in self.out.iter().chain(&self.html) {
            files::check(path.as_ref()).map_err(|e| format!("{path} cannot be written: {e}"))?;
        }
        Ok(())
    }
}

/// Several processes that carry the run together: echo, fanout --rate, idle, connect and search.
#[derive(Clone, Debug, Default, Args)]
pub struct Processes {
    /// Processes that share the connections, each with --threads workers and its own limit of open files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub processes: Option<u16>,
    /// Hosts on which `corecast-load agent` waits; they carry the run, with --processes on each
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', requires = "hosts_key_env")]
    pub hosts: Vec<String>,
    /// The environment variable with the key of the agents
    #[arg(long, value_name = "VAR", requires = "hosts")]
    pub hosts_key_env: Option<String>,
}

impl Processes {
    pub fn is_on(&self) -> bool {
        self.processes.is_some() || !self.hosts.is_empty()
    }

    /// Rejects several processes for a run that needs one.
    pub fn reject(&self, reason: &str) -> Result<(), RunError> {
        match self.is_on() {
            true => Err(RunError(format!(
                "--processes and --hosts: {reason}; they work with echo, fanout --rate, idle and connect"
            ))),
            false => Ok(()),
        }
    }
}

/// The transport of all connections.
#[derive(Clone, Debug, Default, Args)]
pub struct Transport {
    /// Source addresses, used in turn, such as 10.0.0.2-10.0.0.9 or a list. By default the system chooses; on loopback, many
    /// connections also use 127.0.0.2, 127.0.0.3 and so on
    #[arg(long, value_name = "ADDR,ADDR-ADDR", value_parser = sources)]
    pub source: Option<Sources>,
    /// wss://: the root certificates (PEM) for the server's certificate
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<String>,
    /// wss://: accept any certificate
    #[arg(long, conflicts_with = "tls_ca")]
    pub tls_insecure: bool,
    /// wss://: resume sessions with tickets, instead of a full handshake for each connection
    #[arg(long)]
    pub tls_resume: bool,
    /// permessage-deflate: off, fresh (a new context for each message) or takeover (contexts go on if the server permits)
    #[arg(long, value_enum, default_value_t = Deflate::Off, hide_possible_values = true)]
    pub deflate: Deflate,
}

#[derive(Clone, Debug, Args)]
pub struct Timing {
    /// Time that is measured, such as 500ms, 5s or 2m; a --rate with an end determines it
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub duration: f64,
    /// Time of load before the measurement
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub warmup: f64,
}

impl Timing {
    /// Seconds that are measured: the duration of the rate, if it has an end.
    pub fn measured(&self, rate: Option<&Rate>) -> f64 {
        rate.and_then(Rate::seconds).unwrap_or(self.duration)
    }
}

/// The users of the connections.
#[derive(Clone, Debug, Args)]
pub struct Identity {
    /// The environment variable with the server's HMAC secret: every connection is a user with a token (HS256)
    #[arg(long, value_name = "VAR")]
    pub token_secret_env: Option<String>,
    /// Bytes of a user ID
    #[arg(long, default_value_t = 16, requires = "token_secret_env")]
    pub user_bytes: usize,
    /// Bytes of the client info in a token; 0: none
    #[arg(long, default_value_t = 64, requires = "token_secret_env")]
    pub info_bytes: usize,
    /// Subscriptions have a token too
    #[arg(long, requires = "token_secret_env")]
    pub subscription_tokens: bool,
}

/// Background subscribers, which get publications at a fixed rate before and during the load.
#[derive(Clone, Debug, Args)]
pub struct Background {
    /// Background subscribers of a channel of their own, whose deliveries are timed before and during the load; 0: none
    #[arg(id = "beside_subscribers", long = "beside-subscribers", default_value_t = 100)]
    pub subscribers: usize,
    /// Publications per second for them
    #[arg(id = "beside_rate", long = "beside-rate", default_value_t = 20.0)]
    pub rate: f64,
    /// Their channel
    #[arg(id = "beside_channel", long = "beside-channel", default_value = "beside")]
    pub channel: String,
    /// Bytes of such a publication's data
    #[arg(id = "beside_size", long = "beside-size", default_value_t = 64)]
    pub size: usize,
    /// Time for which they are timed before the load begins
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub calm: f64,
}

/// Source addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(pub Arc<[IpAddr]>);

/// The limit on the addresses of one range.
const SOURCES_MAX: u32 = 65_536;

fn sources(text: &str) -> Result<Sources, String> {
    let invalid = |part: &str| format!("'{part}' is not an address; try 10.0.0.2-10.0.0.9 or a list with commas");
    let mut list = Vec::new();
    for part in text.split(',') {
        let Some((from, to)) = part.split_once('-') else {
            list.push(part.trim().parse::<IpAddr>().map_err(|_| invalid(part))?);
            continue;
        };
        let v4 = |text: &str| text.trim().parse::<Ipv4Addr>().map(u32::from).map_err(|_| invalid(part));
        let (from, to) = (v4(from)?, v4(to)?);
        if from > to || to - from >= SOURCES_MAX {
            return Err(format!("'{part}' is not a range of 1 to {SOURCES_MAX} addresses"));
        }
        list.extend((from..=to).map(|bits| IpAddr::V4(bits.into())));
    }
    Ok(Sources(list.into()))
}

/// A list of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

pub fn cores(text: &str) -> Result<Cores, String> {
    let number =
        |part: &str| part.trim().parse::<usize>().map_err(|_| format!("'{part}' is not a core; try 1 or 2,4-7"));
    let mut list = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        list.extend(number(from)?..=number(to)?);
    }
    Ok(Cores(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_single_addresses_or_ranges() {
        let list = |text: &str| sources(text).map(|list| list.0.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        assert_eq!(list("10.0.0.255-10.0.1.1,::1").unwrap(), ["10.0.0.255", "10.0.1.0", "10.0.1.1", "::1"]);
        for text in ["", "x", "10.0.0.2-10.0.0.1", "0.0.0.0-255.255.255.255", "::1-::2"] {
            assert!(list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_single_numbers_or_ranges() {
        assert_eq!(cores("0,2-4"), Ok(Cores(vec![0, 2, 3, 4])));
        assert!(cores("a").is_err());
    }
}
