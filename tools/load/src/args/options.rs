//! Groups of options that several subcommands share.

use crate::distributed::worker_process::Share;
use crate::measure::rate::Rate;
use crate::net::deflate::Deflate;
use crate::runs::Refusal;
use clap::Args;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Worker threads; each has its own share of the connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Cores to pin the workers to, such as 1 or 2,4-7
    #[arg(long, value_parser = cores)]
    pub cores: Option<Cores>,
    /// Connections that may be on their way at once
    #[arg(long, default_value_t = 128)]
    pub concurrency: usize,
    /// Seconds to wait until all connections are open
    #[arg(long, default_value_t = 60.0)]
    pub open_timeout: f64,
    /// Look for messages without sleeping: burns the cores, and the server pays no wake-ups
    #[arg(long)]
    pub spin: bool,
    /// The server's process: its processor time and memory are shown beside the figures
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The server's counters, http://HOST:PORT/metrics: shown as writes and reads per message
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
    /// Draw progress in place on stderr even where it is no terminal, instead of a line a second
    #[arg(long, conflicts_with = "quiet")]
    pub live: bool,
    #[command(flatten)]
    pub parts: Parts,
    /// Which part of the run this process carries.
    #[arg(skip)]
    pub share: Share,
    /// Where runs that begin together wait for each other
    #[arg(long, hide = true)]
    pub gate: Option<std::path::PathBuf>,
}

/// Files that a whole report goes to. With one of these the server's counters are read every second.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// Write everything (figures, the course of time, percentile curves, the host) as JSON, for `report` and `compare`
    #[arg(long, value_name = "FILE")]
    pub out: Option<String>,
    /// Write a page with plots, whole in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
}

impl Files {
    /// Whether anything is to be written.
    pub fn any(&self) -> bool {
        self.out.is_some() || self.html.is_some()
    }

    /// Refuses files that cannot be written, before a run and not after it.
    pub fn check(&self) -> Result<(), String> {
        for path in self.out.iter().chain(&self.html) {
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|e| format!("{path} cannot be written: {e}"))?;
        }
        Ok(())
    }
}

/// Other processes that carry the run together: echo, fanout --rate, idle and connect.
#[derive(Clone, Debug, Default, Args)]
pub struct Parts {
    /// Processes that share the connections, each with --threads workers and a limit of open files of its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub processes: Option<u16>,
    /// Hosts on which `corecast-load agent` waits; they carry the run, --processes on each
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', requires = "hosts_key_env")]
    pub hosts: Vec<String>,
    /// The variable that holds the key of their agents
    #[arg(long, value_name = "VAR", requires = "hosts")]
    pub hosts_key_env: Option<String>,
}

impl Parts {
    pub fn is_on(&self) -> bool {
        self.processes.is_some() || !self.hosts.is_empty()
    }

    /// Refuses what cannot be shared between processes.
    pub fn refuse(&self, what: &str) -> Result<(), Refusal> {
        match self.is_on() {
            true => Err(Refusal(format!(
                "--processes and --hosts: {what}; echo, fanout --rate, idle and connect have parts"
            ))),
            false => Ok(()),
        }
    }
}

/// How connections are spoken with.
#[derive(Clone, Debug, Default, Args)]
pub struct Transport {
    /// Addresses that connections come from, in turn, such as 10.0.0.2-10.0.0.9 or a list. Without it the system chooses, and
    /// on loopback 127.0.0.2, 127.0.0.3 and so on help out where connections are many
    #[arg(long, value_name = "ADDR,ADDR-ADDR", value_parser = sources)]
    pub source: Option<Sources>,
    /// wss://: the certificates (PEM) that the server's must come from
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<String>,
    /// wss://: believe any certificate
    #[arg(long, conflicts_with = "tls_ca")]
    pub tls_insecure: bool,
    /// wss://: take sessions up again by their tickets, instead of a full hand-shake each time
    #[arg(long)]
    pub tls_resume: bool,
    /// permessage-deflate: off, fresh (each message for itself) or takeover (contexts go on where the server lets them)
    #[arg(long, value_enum, default_value_t = Deflate::Off, hide_possible_values = true)]
    pub deflate: Deflate,
}

#[derive(Clone, Debug, Args)]
pub struct Timing {
    /// Seconds that are measured; a --rate that ends says it by itself
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
}

impl Timing {
    /// Seconds that are measured: as long as the rate goes on, if it ends.
    pub fn measured(&self, rate: Option<&Rate>) -> f64 {
        rate.and_then(Rate::seconds).unwrap_or(self.duration)
    }
}

/// Who the connections are.
#[derive(Clone, Debug, Args)]
pub struct Identity {
    /// The variable that holds the server's HMAC secret: every connection is a user and brings a token (HS256)
    #[arg(long, value_name = "VAR")]
    pub token_secret_env: Option<String>,
    /// Bytes of a user's id
    #[arg(long, default_value_t = 16, requires = "token_secret_env")]
    pub user_bytes: usize,
    /// Bytes of the client info in a token; 0: none
    #[arg(long, default_value_t = 64, requires = "token_secret_env")]
    pub info_bytes: usize,
    /// Subscriptions bring a token too
    #[arg(long, requires = "token_secret_env")]
    pub subscription_tokens: bool,
}

/// The others: subscribers who get publications at a fixed rate while the load proper is on.
#[derive(Clone, Debug, Args)]
pub struct Beside {
    /// Subscribers of a channel of their own, whose deliveries are timed before and during the load; 0: none
    #[arg(long, default_value_t = 100)]
    pub beside_subscribers: usize,
    /// Publications a second for them
    #[arg(long, default_value_t = 20.0)]
    pub beside_rate: f64,
    /// Their channel
    #[arg(long, default_value = "beside")]
    pub beside_channel: String,
    /// Bytes of such a publication's data
    #[arg(long, default_value_t = 64)]
    pub beside_size: usize,
    /// Seconds for which they are timed before the load begins
    #[arg(long, default_value_t = 5.0)]
    pub calm: f64,
}

/// Peers that do what no honest one does, while the load is on.
#[derive(Clone, Debug, Args)]
pub struct Abuse {
    /// Handshakes that are begun and never ended, every other one with half a head; those that the server cuts begin anew
    #[arg(long, default_value_t = 0)]
    pub half_open: usize,
    /// Subscribers of the same channel (the first of --channels) that never read; each gives up after 5 s and comes again
    #[arg(long, default_value_t = 0)]
    pub never_read: usize,
}

impl Abuse {
    pub fn connections(&self) -> usize {
        self.half_open + self.never_read
    }
}

/// Addresses that connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(pub Arc<[IpAddr]>);

/// Addresses in one range and in all: more help nobody.
const SOURCES_MAX: u32 = 65_536;

fn sources(text: &str) -> Result<Sources, String> {
    let wrong = |part: &str| format!("'{part}' is no address; try 10.0.0.2-10.0.0.9 or a list with commas");
    let mut list = Vec::new();
    for part in text.split(',') {
        let Some((from, to)) = part.split_once('-') else {
            list.push(part.trim().parse::<IpAddr>().map_err(|_| wrong(part))?);
            continue;
        };
        let v4 = |text: &str| text.trim().parse::<Ipv4Addr>().map(u32::from).map_err(|_| wrong(part));
        let (from, to) = (v4(from)?, v4(to)?);
        if from > to || to - from >= SOURCES_MAX {
            return Err(format!("'{part}' is no range of 1 to {SOURCES_MAX} addresses"));
        }
        list.extend((from..=to).map(|bits| IpAddr::V4(bits.into())));
    }
    Ok(Sources(list.into()))
}

/// A list of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

pub fn cores(text: &str) -> Result<Cores, String> {
    let number = |part: &str| part.trim().parse::<usize>().map_err(|_| format!("'{part}' is no core; try 1 or 2,4-7"));
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((from, to)) => list.extend(number(from)?..=number(to)?),
            None => list.push(number(part)?),
        }
    }
    Ok(Cores(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_single_or_in_rows() {
        let list = |text: &str| sources(text).map(|list| list.0.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        assert_eq!(list("10.0.0.255-10.0.1.1,::1").unwrap(), ["10.0.0.255", "10.0.1.0", "10.0.1.1", "::1"]);
        for text in ["", "x", "10.0.0.2-10.0.0.1", "0.0.0.0-255.255.255.255", "::1-::2"] {
            assert!(list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_single_or_in_rows() {
        assert_eq!(cores("0,2-4"), Ok(Cores(vec![0, 2, 3, 4])));
        assert!(cores("a").is_err());
    }
}
