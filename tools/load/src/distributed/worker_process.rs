//! One process's part of a run that a coordinator leads: it does as it is told and says what it counted.
//!
//! Plan: a thread reads orders; the part's own thread carries them out and, in between, says its tally. When the coordinator is
//! gone the part ends, so that none is ever left over.

use crate::args::options;
use crate::args::options::Files;
use crate::args::{Cli, Command, Common};
use crate::distributed::coordinator_protocol::{self, Form, Job, MESSAGE_BYTES_MAX, Order, Rest, Word};
use crate::engine::Scene;
use crate::engine::clock::now;
use crate::engine::workers::{Crew, PHASES, Phase};
use crate::runs::search::Searched;
use crate::runs::{self, Refusal, shares};
use crate::runs::{fanout_runs, idle_runs};
use clap::Parser;
use std::io::{Stdout, stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often a tally is said unasked.
const TALLY_EVERY: Duration = Duration::from_millis(100);
/// How long the workers may take to hand over what they measured.
const HARVEST_SECONDS: f64 = 10.0;

/// Which part of a run a process carries.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub part: usize,
    pub of: usize,
    /// Nanoseconds that this machine's clock is ahead of the publishers'.
    pub ahead: i64,
    /// Where seconds are counted from; None: from when the crew is made.
    pub origin: Option<u64>,
}

impl Default for Share {
    fn default() -> Self {
        Self { part: 0, of: 1, ahead: 0, origin: None }
    }
}

impl Share {
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Splits this part of `total` over the workers: the first one's number in the whole run, and how many, for each.
    pub fn split(self, total: usize, workers: usize) -> Vec<(usize, usize)> {
        let (first, count) = shares(total, self.of)[self.part];
        shares(count, workers).into_iter().map(|(at, count)| (first + at, count)).collect()
    }
}

/// The part's end of the talk: its standard input and output, which may be a pipe or a connection.
struct Talk {
    orders: Receiver<Order>,
    out: Stdout,
    look: u64,
}

impl Talk {
    fn begin() -> Self {
        let (sender, orders) = channel();
        std::thread::spawn(move || {
            let mut input = stdin().lock();
            while let Ok(order) = coordinator_protocol::hear(&mut input, MESSAGE_BYTES_MAX) {
                if sender.send(order).is_err() {
                    return;
                }
            }
        });
        Self { orders, out: stdout(), look: 0 }
    }

    fn say(&mut self, word: &Word) -> Result<(), Refusal> {
        Ok(coordinator_protocol::say(&mut self.out.lock(), word)?)
    }
}

/// Carries a part until the coordinator ends it or is gone.
pub fn run() -> Result<u8, Refusal> {
    let mut talk = Talk::begin();
    let job = loop {
        match talk.orders.recv() {
            Ok(Order::Clock) => talk.say(&Word::Clock(now()))?,
            Ok(Order::Job(job)) => break job,
            Ok(_) => return Err(Refusal("a coordinator must give the job first".into())),
            Err(_) => return Ok(0),
        }
    };
    match carry(&mut talk, job) {
        Ok(()) => Ok(0),
        Err(Refusal(why)) => {
            // The coordinator may be the reason.
            let _ = talk.say(&Word::Refused(why));
            Ok(2)
        }
    }
}

fn carry(talk: &mut Talk, job: Job) -> Result<(), Refusal> {
    if job.version != env!("CARGO_PKG_VERSION") {
        let (theirs, ours) = (job.version, env!("CARGO_PKG_VERSION"));
        return Err(Refusal(format!("the coordinator is version {theirs} and this is {ours}")));
    }
    if job.part >= job.of {
        return Err(Refusal(format!("part {} of {} is none", job.part, job.of)));
    }
    let share = Share { part: job.part, of: job.of, ahead: job.ahead, origin: Some(job.origin) };
    let words = std::iter::once("corecast-load".into()).chain(job.args);
    follow(talk, Cli::try_parse_from(words).map_err(|e| Refusal(e.to_string()))?.command, share)
}

fn follow(talk: &mut Talk, command: Command, share: Share) -> Result<(), Refusal> {
    match command {
        Command::Echo(mut args) => {
            within(&mut args.common, share);
            obey(talk, runs::echo_crew(&args)?)
        }
        Command::Fanout(mut args) => {
            within(&mut args.common, share);
            obey(talk, fanout_runs::fanout_crew(&args)?)
        }
        Command::Idle(mut args) => {
            within(&mut args.common, share);
            obey(talk, idle_runs::idle_crew(&args)?)
        }
        Command::Connect(mut args) => {
            within(&mut args.common, share);
            obey(talk, idle_runs::connect_crew(&args)?)
        }
        Command::Search(search) => match search.prepared()?.scene {
            Searched::Echo(args) => follow(talk, Command::Echo(*args), share),
            Searched::Fanout(args) => follow(talk, Command::Fanout(*args), share),
        },
        _ => Err(Refusal("this subcommand has no parts".into())),
    }
}

/// What the command line says of the whole run, as it is for a part.
fn within(common: &mut Common, share: Share) {
    common.share = share;
    common.quiet = true;
    // The coordinator looks at the server and writes the report.
    (common.server_pid, common.server_metrics, common.files) = (None, None, Files::default());
    common.concurrency = common.concurrency.div_ceil(share.of);
    if let Some(options::Cores(cores)) = &mut common.cores {
        let turn = share.part * usize::from(common.threads) % cores.len();
        cores.rotate_left(turn);
    }
}

/// Connections of this part on their way, for the time that opening takes.
#[derive(Debug, Default)]
struct Opening {
    begun_at: u64,
    allowed: u64,
    nanos: u64,
}

/// `totals`: of each worker's connections.
fn obey<S: Scene + 'static>(talk: &mut Talk, (mut crew, totals): (Crew<S>, Vec<usize>)) -> Result<(), Refusal> {
    talk.say(&Word::Ready)?;
    let mut opening = Opening::default();
    loop {
        match talk.orders.recv_timeout(TALLY_EVERY) {
            Ok(Order::Clock) => talk.say(&Word::Clock(now()))?,
            Ok(Order::Allow(total)) => {
                let all = total >= totals.iter().sum();
                let split = shares(total, totals.len());
                (0..totals.len())
                    .for_each(|worker| crew.allow(worker, if all { totals[worker] } else { split[worker].1 }));
                (opening.begun_at, opening.allowed) = (now(), total as u64);
            }
            Ok(Order::Phase { phase, at, rate }) => {
                let phase = PHASES.get(usize::from(phase)).copied().unwrap_or(Phase::Stop);
                if phase == Phase::Measure {
                    crew.foretell(at);
                }
                std::thread::sleep(Duration::from_nanos(at.saturating_sub(now())));
                if phase == Phase::Stop {
                    break;
                }
                crew.enter(phase, at, rate);
                if phase == Phase::Pause {
                    talk.say(&Word::Harvest(Form::pack(crew.harvest(HARVEST_SECONDS))))?;
                }
            }
            Ok(Order::Look(look)) => {
                talk.look = look;
                tell(talk, &crew, &mut opening)?;
            }
            Ok(Order::Job(_)) => return Err(Refusal("a part has one job".into())),
            Err(RecvTimeoutError::Timeout) => tell(talk, &crew, &mut opening)?,
            // The coordinator is gone, and its run with it.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let opened = crew.tally().ready;
    let ended = crew.finish()?;
    let openings = &ended.openings;
    let histograms = [&openings.upgraded, &openings.connected, &openings.subscribed, &openings.ready, &ended.lag]
        .map(coordinator_protocol::pack);
    let rest = Rest {
        harvest: Form::pack(ended.harvest),
        closes: ended.closes,
        errors: ended.errors,
        handshakes: ended.handshakes,
        seconds: ended.timeline.seconds.into_vec(),
        histograms,
        opened,
        opening_nanos: opening.nanos,
    };
    talk.say(&Word::Ended(Box::new(rest)))
}

fn tell<S: Scene + 'static>(talk: &mut Talk, crew: &Crew<S>, opening: &mut Opening) -> Result<(), Refusal> {
    let totals = crew.totals();
    if opening.allowed > 0 && totals.tally.ready + totals.tally.failed >= opening.allowed {
        opening.nanos += totals.at - opening.begun_at;
        opening.allowed = 0;
    }
    let seconds = crew.control.new_seconds().into_vec();
    talk.say(&Word::Tally { look: talk.look, tally: totals.tally.array().to_vec(), cpu: totals.cpu, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_their_workers_cover_everything_once() {
        let mut next = 0;
        for part in 0..7 {
            for (first, count) in (Share { part, of: 7, ..Share::default() }).split(1000, 3) {
                assert_eq!(first, next);
                next += count;
            }
        }
        assert_eq!(next, 1000);
        assert_eq!(Share::default().split(10, 2), shares(10, 2));
    }
}
