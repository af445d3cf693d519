//! `replies`: clients that ask for large replies, in every form, against a server of the run itself: its peak memory, and how long an
//! honest client of the same shard waits.
//!
//! Each form gets a fresh server. Before the attack the channel has its history, the channel of the presence its members, and the
//! honest client is subscribed. The bar of memory is what the process had then, `engine.backlog_bytes_max`, and 64 MiB.

use crate::reply_attack::{self, Attack, Encoding, Form};
use crate::reply_server::{Limits, ReplyServer};
use crate::reply_socket::{Socket, wait_for_time};
use clap::Args as ClapArgs;
use corecast_load::RunError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the process may take besides the bounds.
const SLACK_BYTES: u64 = 64 << 20;
/// The longest that an honest client may wait, at the 99th percentile.
const P99_MAX: Duration = Duration::from_millis(50);
/// The pause between two commands of the honest client.
const PAUSE: Duration = Duration::from_millis(2);
/// How often the memory is read.
const SAMPLE: Duration = Duration::from_millis(10);

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The program of the server
    #[arg(long, default_value = "target/release/corecast")]
    server: PathBuf,
    /// Only the forms whose name contains this, such as "history" or "300"
    #[arg(long, default_value = "")]
    only: String,
    /// Seconds of each attack
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Shards of the server
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// engine.backlog_bytes_max, in MiB
    #[arg(long, default_value_t = 1024)]
    backlog_mib: u64,
    /// Connections of the attacks with many
    #[arg(long, default_value_t = 300)]
    connections: usize,
    /// Publications of the history, and bytes of each
    #[arg(long, default_value_t = 300)]
    publications: usize,
    #[arg(long, default_value_t = 20_000)]
    payload_bytes: usize,
    /// Members of the channel whose presence is asked for
    #[arg(long, default_value_t = 1200)]
    members: usize,
}

/// What one attack showed.
struct Outcome {
    peak_bytes: u64,
    limit_bytes: u64,
    after_bytes: u64,
    p99: Duration,
    slowest: Duration,
    commands: usize,
    replies: u64,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.peak_bytes <= self.limit_bytes && self.p99 <= P99_MAX && self.commands > 0
    }
}

pub fn run(args: &Args) -> Result<u8, RunError> {
    println!(
        "| attack | peak MiB | may be | after MiB | honest p99 ms | slowest ms | honest commands | attack read MiB | verdict |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut all_hold = true;
    for attack in reply_attack::all(args.connections).into_iter().filter(|attack| attack.name().contains(&args.only)) {
        let outcome = one(args, &attack)?;
        let mib = |bytes: u64| bytes >> 20;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {} | {} | {} | {} | {:.1} | {:.1} | {} | {} | {} |",
            attack.name(),
            mib(outcome.peak_bytes),
            mib(outcome.limit_bytes),
            mib(outcome.after_bytes),
            ms(outcome.p99),
            ms(outcome.slowest),
            outcome.commands,
            mib(outcome.replies),
            if outcome.holds() { "holds" } else { "FAILED" },
        );
        all_hold &= outcome.holds();
    }
    Ok(u8::from(!all_hold))
}

fn one(args: &Args, attack: &Attack) -> Result<Outcome, RunError> {
    let limits = Limits { shards: args.shards, backlog_bytes: args.backlog_mib << 20 };
    let server = ReplyServer::start(&args.server, &limits)?;
    publish_history(args, server.client)?;
    let mut members = Vec::new();
    if attack.form == Form::Presence {
        for _ in 0..args.members {
            members.push(Socket::connect(server.client, Encoding::Json)?);
        }
        for member in &mut members {
            member.send_text(r#"{"id":2,"subscribe":{"channel":"hall"}}"#)?;
        }
        for member in &mut members {
            member.wait_for("\"id\":2")?;
        }
    }
    let mut honest = Socket::connect(server.client, Encoding::Json)?;
    honest.send_text(r#"{"id":2,"subscribe":{"channel":"honest"}}"#)?;
    honest.wait_for("\"id\":2")?;
    let before = server.memory_bytes()?;
    let stop = AtomicBool::new(false);
    let (peak_bytes, times, replies) = std::thread::scope(|scope| {
        let attackers = attack.start(scope, server.client, &stop);
        let watch = scope.spawn(|| watch_memory(&server, &stop));
        let times = serve_honest(&mut honest, Duration::from_secs_f64(args.seconds));
        stop.store(true, Ordering::Relaxed);
        let replies = attackers.into_iter().map(|attacker| attacker.join().unwrap_or(0)).sum::<u64>();
        (watch.join().unwrap_or(u64::MAX), times, replies)
    });
    drop(members);
    // A client that is not served at all is a failure of the form, and the others still run.
    let mut times = times.unwrap_or_else(|RunError(fault)| {
        eprintln!("{}: the honest client: {fault}", attack.name());
        Vec::new()
    });
    times.sort_unstable();
    let at =
        |share: f64| times.get((times.len() as f64 * share) as usize).or(times.last()).copied().unwrap_or_default();
    wait_for_time(Duration::from_secs(1));
    Ok(Outcome {
        peak_bytes,
        limit_bytes: before + limits.backlog_bytes + SLACK_BYTES,
        after_bytes: server.memory_bytes()?,
        p99: at(0.99),
        slowest: at(1.0),
        commands: times.len(),
        replies,
    })
}

fn publish_history(args: &Args, at: SocketAddr) -> Result<(), RunError> {
    let mut publisher = Socket::connect(at, Encoding::Json)?;
    let text = "x".repeat(args.payload_bytes);
    for n in 0..args.publications {
        publisher
            .send_text(&format!(r#"{{"id":2,"publish":{{"channel":"big","data":{{"n":{n},"text":"{text}"}}}}}}"#))?;
        publisher.wait_for("\"id\":2")?;
    }
    Ok(())
}

fn watch_memory(server: &ReplyServer, stop: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !stop.load(Ordering::Relaxed) {
        // A server that has ended has no memory to read: the worst outcome.
        peak = peak.max(server.memory_bytes().unwrap_or(u64::MAX));
        wait_for_time(SAMPLE);
    }
    peak
}

/// The honest client publishes and waits for its own publication, which passes through the home shard and its flush.
fn serve_honest(honest: &mut Socket, during: Duration) -> Result<Vec<Duration>, RunError> {
    let until = Instant::now() + during;
    let mut times = Vec::new();
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        let sent = Instant::now();
        honest.send_text(&format!(r#"{{"id":{n},"publish":{{"channel":"honest","data":"honest-{n}."}}}}"#))?;
        honest.wait_for(&format!("honest-{n}."))?;
        times.push(sent.elapsed());
        wait_for_time(PAUSE);
    }
    Ok(times)
}
