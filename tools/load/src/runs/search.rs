//! `search`: the highest rate at which a bound on latency holds, everything arrives, and the generator is not what limits it.
//!
//! Plan: connections stay open; a probe is warm-up, measured time, and a pause until nothing is under way. The rate doubles until
//! a probe fails, then the border is halved on the logarithm down to the precision. One hiccup decides nothing: what fails is
//! probed again until two of three agree, and so is the rate that is found in the end.

use crate::args::{Common, Echo, Fanout, Timing};
use crate::distributed::remote_workers;
use crate::engine::Scene;
use crate::engine::workers::{Crew, Manned, Phase};
use crate::measure::rate::{Rate, seconds};
use crate::measure::results::Harvest;
use crate::measure::server::{Watch, spent};
use crate::report::{Report, Window, human};
use crate::runs::fanout_runs;
use crate::runs::{self, Refusal};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// A core at least that busy was what limited the server.
const SERVER_BUSY_MIN: f64 = 0.97;
/// A generator's thread that busy measures itself.
const GENERATOR_BUSY_MAX: f64 = 0.90;
/// A latency so many times its bound is no hiccup: it is not probed again.
const CLEAR: f64 = 10.0;
/// How often the first rate is halved before the search gives up.
const HALVINGS_MAX: usize = 10;
/// How long scenes may take to hand over what they measured.
const HARVEST_SECONDS: f64 = 10.0;
/// How often a backlog is waited for before it counts as lost.
const DRAINS_MAX: usize = 3;

#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    bounds: Bounds,
    #[command(subcommand)]
    pub scene: Searched,
}

#[derive(Debug, Subcommand)]
pub enum Searched {
    /// Messages that the server sends back
    Echo(Box<Echo>),
    /// Publishers and subscribers, every delivery accounted for
    Fanout(Box<Fanout>),
}

/// What must hold, and where it is looked for.
#[derive(Clone, Debug, Args)]
pub struct Bounds {
    /// Latency that half of the messages must keep to, such as 2ms
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    p50_max: Option<f64>,
    /// Latency that 99 % of the messages must keep to
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    p99_max: Option<f64>,
    /// Latency that 99.9 % of the messages must keep to
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    p999_max: Option<f64>,
    /// fanout: time until the last subscriber has it, for 99 % of the publications
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    last_p99_max: Option<f64>,
    /// The rate to begin with, per second
    #[arg(long, global = true, default_value_t = 100.0, value_name = "RATE")]
    from: f64,
    /// The highest rate to try
    #[arg(long, global = true, default_value_t = 10_000_000.0, value_name = "RATE")]
    to: f64,
    /// How near to the border, such as 2%
    #[arg(long, global = true, default_value = "2%", value_name = "SHARE", value_parser = share)]
    precision: f64,
    /// Seconds to which a probe is extended at most, where --duration has too few samples: 1,000 for p99, 10,000 for p99.9
    #[arg(long, global = true, default_value_t = 30.0)]
    probe_max: f64,
}

fn time(text: &str) -> Result<f64, String> {
    seconds(text).filter(|s| *s > 0.0).ok_or_else(|| format!("'{text}' is no time; try 10ms, 250us or 1s"))
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok().filter(|n| *n >= 0.1 && *n <= 100.0);
    number.map(|n| n / 100.0).ok_or_else(|| format!("'{text}' is no precision; try 2%"))
}

impl Search {
    /// The scene at the first rate: a search is in open loop.
    pub fn prepared(mut self) -> Result<Self, Refusal> {
        let first = Some(Rate::constant(self.bounds.from));
        let rate = match &mut self.scene {
            Searched::Echo(args) => &mut args.rate,
            Searched::Fanout(args) => &mut args.rate,
        };
        if rate.is_some() {
            return Err(Refusal("a search finds the --rate; bound it by --from and --to".into()));
        }
        if !(self.bounds.from > 0.0 && self.bounds.from <= self.bounds.to && self.bounds.to.is_finite()) {
            return Err(Refusal("--from must be above 0 and at most --to".into()));
        }
        *rate = first;
        Ok(self)
    }
}

impl Bounds {
    /// Each bound: its name, its quantile, seconds, and whether it is about the last subscriber.
    fn list(&self) -> Vec<(&'static str, f64, f64, bool)> {
        [
            ("p50", 0.5, self.p50_max, false),
            ("p99", 0.99, self.p99_max, false),
            ("p99.9", 0.999, self.p999_max, false),
            ("last p99", 0.99, self.last_p99_max, true),
        ]
        .into_iter()
        .filter_map(|(name, q, bound, last)| Some((name, q, bound?, last)))
        .collect()
    }

    /// Messages below which the highest quantile asked for means nothing.
    fn samples_min(&self) -> u64 {
        let highest = self.list().iter().map(|bound| bound.1).fold(0.0, f64::max);
        (10.0 / (1.0 - highest)).round().max(100.0) as u64
    }
}

#[derive(Clone, Debug)]
struct Probe {
    rate: f64,
    /// Messages, or publications: deliveries of one publication are no samples apart.
    samples: u64,
    /// Microseconds: p50, p99, p99.9, and p99 of the time to the last subscriber.
    latency: [f64; 4],
    server_busy: Option<f64>,
    own_busy: f64,
    /// Why it fails, if it does.
    failure: Option<String>,
    /// There is no need to ask again.
    clear: bool,
    few: bool,
}

impl Probe {
    fn text(&self) -> String {
        let [p50, p99, p999, last] = self.latency.map(human);
        let server = self.server_busy.map(|busy| format!("server {:.0} %, ", busy * 100.0)).unwrap_or_default();
        let last = if self.latency[3] > 0.0 { format!("   last p99 {last}") } else { String::new() };
        let few = if self.few { " (too few for the percentile)" } else { "" };
        let verdict = self.failure.as_ref().map_or("holds".to_string(), |why| format!("fails: {why}"));
        format!(
            "p50 {p50}   p99 {p99}   p99.9 {p999}{last}  µs, {} samples{few}, {server}generator {:.0} %: {verdict}",
            human(self.samples as f64),
            self.own_busy * 100.0
        )
    }

    fn value(&self) -> Value {
        let [p50, p99, p999, last] = self.latency;
        json!({
            "rate": self.rate, "holds": self.failure.is_none(), "why": self.failure, "samples": self.samples,
            "enough_samples": !self.few, "server_busy": self.server_busy, "own_busy": self.own_busy,
            "latency_us": {"p50": p50, "p99": p99, "p99.9": p999}, "last_p99_us": last,
        })
    }

    /// What was at its end while this probe failed.
    fn bottleneck(&self) -> &'static str {
        match self.server_busy {
            _ if self.own_busy >= GENERATOR_BUSY_MAX => "generator",
            Some(busy) if busy >= SERVER_BUSY_MIN => "server",
            Some(_) => "none",
            None => "unknown",
        }
    }
}

/// Probes with a crew whose connections are open.
struct Prober<'a, S> {
    crew: Crew<S>,
    bounds: &'a Bounds,
    timing: &'a Timing,
    watch: Watch,
    /// Faults and missing ones before the next probe: they are counted over the whole run.
    faults: u64,
    missing: u64,
    probes: Vec<Probe>,
}

impl<S: Scene + 'static> Prober<'_, S> {
    fn probe(&mut self, rate: f64) -> &Probe {
        let wanted = self.bounds.samples_min();
        let needed = wanted as f64 / rate * 1.02;
        let seconds = self.timing.duration.max(needed.min(self.bounds.probe_max));
        self.crew.set_rate(rate);
        self.crew.set_phase(Phase::Warm);
        self.crew.wait(self.timing.warmup, "warm-up", |t| t.closed > 0);
        self.crew.set_phase(Phase::Measure);
        let (sample, before) = (self.watch.sample(), self.crew.totals());
        self.crew.wait(seconds, "probe", |t| t.closed > 0);
        let (after, last) = (self.crew.totals(), self.watch.sample());
        self.crew.set_phase(Phase::Drain);
        for _ in 0..DRAINS_MAX {
            runs::drain(&mut self.crew);
            if self.crew.totals().tally.in_flight <= self.missing {
                break;
            }
        }
        let missing = self.crew.totals().tally.in_flight;
        self.crew.set_phase(Phase::Pause);
        let harvest = self.crew.harvest(HARVEST_SECONDS);
        let (spent, spin) = (spent(&sample, &last), false);
        let window = Window { before, after, spent, has_server: self.watch.pid.is_some(), spin };
        let probe = self.judge(rate, &window, &harvest, missing);
        self.probes.push(probe);
        &self.probes[self.probes.len() - 1]
    }

    fn judge(&mut self, rate: f64, window: &Window, harvest: &Harvest, missing: u64) -> Probe {
        let latency = harvest.all_steps();
        let mut last = harvest.histogram("last");
        if let Some(over_processes) = harvest.lasts.histogram() {
            last.add(&over_processes).unwrap_or_default();
        }
        let faults: u64 =
            runs::FAULTS.iter().map(|(name, _)| harvest.count(name)).sum::<u64>() + harvest.count("wrong");
        let (lost, wrong) = (missing.saturating_sub(self.missing), faults.saturating_sub(self.faults));
        (self.missing, self.faults) = (missing, faults);
        let micros = |q: f64| latency.value_at_quantile(q) as f64 / 1e3;
        let mut probe = Probe {
            rate,
            samples: harvest.sent(),
            latency: [micros(0.5), micros(0.99), micros(0.999), last.value_at_quantile(0.99) as f64 / 1e3],
            server_busy: window.has_server.then(|| window.spent.busiest as f64 / 1e9 / window.seconds()),
            own_busy: window.generator_busy(),
            failure: None,
            clear: false,
            few: harvest.sent() < self.bounds.samples_min(),
        };
        let mut over = Vec::new();
        for (name, q, bound, of_last) in self.bounds.list() {
            let found = if of_last { &last } else { &latency }.value_at_quantile(q) as f64 / 1e9;
            if found > bound {
                over.push(format!("{name} above {} ms", human(bound * 1e3)));
                probe.clear |= found > bound * CLEAR;
            }
        }
        let closed = window.after.tally.closed;
        probe.failure = match () {
            () if closed > 0 => Some(format!("{closed} connections were ended by the server")),
            () if lost > 0 => Some(format!("{lost} never came")),
            () if wrong > 0 => Some(format!("{wrong} were skipped, doubled, swapped, refused or held back")),
            () if latency.is_empty() => Some("nothing came".into()),
            () if !over.is_empty() => Some(over.join(", ")),
            () if probe.own_busy >= GENERATOR_BUSY_MAX => Some("the generator is the bottleneck".into()),
            () => None,
        };
        probe
    }

    fn ended(&self) -> bool {
        self.crew.tally().closed > 0 || self.crew.control.is_broken()
    }

    /// Whether a rate holds: at once if it does, or if it clearly does not; else by two of three.
    fn holds(&mut self, rate: f64) -> bool {
        let mut failed = 0;
        for held in 0..2 {
            loop {
                let probe = self.probe(rate);
                let clear = probe.clear;
                if probe.failure.is_none() {
                    break;
                }
                failed += 1;
                if failed == 2 || clear || self.ended() {
                    return false;
                }
            }
            if failed == 0 || held == 1 {
                return true;
            }
        }
        true
    }

    /// The highest rate that holds, and the lowest that does not.
    fn find(&mut self) -> (Option<f64>, Option<f64>) {
        let (mut held, mut border) = (Vec::new(), None);
        let mut rate = self.bounds.from;
        for _ in 0..HALVINGS_MAX {
            if self.holds(rate) {
                held.push(rate);
                break;
            }
            border = Some(rate);
            rate /= 2.0;
            if self.ended() {
                break;
            }
        }
        while border.is_none() && held.last().is_some_and(|rate| *rate < self.bounds.to) {
            rate = (rate * 2.0).min(self.bounds.to);
            if self.holds(rate) { held.push(rate) } else { border = Some(rate) }
        }
        while let (Some(&low), Some(high), false) = (held.last(), border, self.ended()) {
            if high / low > 1.0 + self.bounds.precision {
                let middle = (low * high).sqrt();
                if self.holds(middle) { held.push(middle) } else { border = Some(middle) }
            } else if self.agreed(low) {
                break;
            } else {
                // It held by luck.
                held.pop();
                border = Some(low);
            }
        }
        (held.last().copied(), border)
    }

    /// Whether two probes of three agree that a rate holds that held once.
    fn agreed(&mut self, rate: f64) -> bool {
        let held = |probe: &&Probe| probe.rate == rate && probe.failure.is_none();
        while self.probes.iter().filter(held).count() < 2 {
            let failed = self.probes.iter().filter(|probe| probe.rate == rate && probe.failure.is_some()).count();
            if failed >= 2 || self.ended() {
                return false;
            }
            self.probe(rate);
        }
        true
    }
}

/// Opens all connections and searches.
pub fn run(args: Search) -> Result<u8, Refusal> {
    let search = args.prepared()?;
    if search.bounds.list().is_empty() {
        return Err(Refusal("a search needs a bound, such as --p99-max 10ms".into()));
    }
    match &search.scene {
        Searched::Echo(args) => {
            let manned = match remote_workers::hire(&args.common, args.connections, 0)? {
                Some(hired) => hired,
                None => runs::echo_crew(args)?,
            };
            lead(&search.bounds, manned, &args.common, &args.timing, "echo")
        }
        Searched::Fanout(args) => {
            let manned = fanout_runs::fanout_crew(args)?;
            lead(&search.bounds, manned, &args.common, &args.timing, "fanout")
        }
    }
}

fn lead<S: Scene + 'static>(
    bounds: &Bounds,
    (mut crew, totals): Manned<S>,
    common: &Common,
    timing: &Timing,
    scenario: &str,
) -> Result<u8, Refusal> {
    let all = totals.iter().sum::<usize>() as u64;
    totals.iter().enumerate().for_each(|(worker, &total)| crew.allow(worker, total));
    crew.wait(common.open_timeout, "opening", |t| t.ready + t.failed >= all);
    let opened = crew.tally().ready;
    let watch = Watch { metrics: None, ..runs::watch(common) };
    let mut prober = Prober { crew, bounds, timing, watch, faults: 0, missing: 0, probes: Vec::new() };
    let (knee, border) = if opened == all { prober.find() } else { (None, None) };
    let probes = prober.probes;
    let ended = prober.crew.finish()?;

    let mut report = Report::new("search");
    report.set("scenario", json!(scenario));
    report.set("connections", all.into());
    runs::endings(&mut report, &ended, true);
    if opened < all {
        report.void(format!("{opened} of {all} connections were opened, so nothing was searched"));
    }
    tell(&mut report, bounds, &probes, knee, border);
    remote_workers::tell(&mut report, &ended.together, None);
    Ok(report.finish(common))
}

fn tell(report: &mut Report, bounds: &Bounds, probes: &[Probe], knee: Option<f64>, border: Option<f64>) {
    for probe in probes {
        report.row(&format!("at {}/s", human(probe.rate)), probe.text());
    }
    report.set("probes", probes.iter().map(Probe::value).collect::<Vec<_>>().into());
    let asked =
        bounds.list().iter().map(|(name, _, s, _)| format!("{name} ≤ {} ms", human(s * 1e3))).collect::<Vec<_>>();
    report.set("bounds", json!(asked));
    report.set("knee", json!(knee));
    match knee {
        Some(knee) => report.row("knee", format!("{} per second: {}", human(knee), asked.join(", "))),
        None => report.void(format!("no rate was found at which {} holds", asked.join(", "))),
    }
    let failed = probes.iter().rfind(|probe| Some(probe.rate) == border && probe.failure.is_some());
    let bottleneck = failed.map_or("none", Probe::bottleneck);
    report.set("bottleneck", json!(bottleneck));
    let Some(failed) = failed else {
        if knee.is_none() {
            return;
        }
        let to = human(bounds.to);
        return report.row("bottleneck", format!("none found: the bounds hold up to --to {to}"));
    };
    let rate = human(failed.rate);
    let text = match bottleneck {
        "generator" => {
            format!("the generator, {:.0} % busy at {rate}/s: the server may do more", failed.own_busy * 100.0)
        }
        "server" => {
            format!("the server, its busiest core {:.0} % busy at {rate}/s", failed.server_busy.unwrap_or(0.0) * 100.0)
        }
        "none" => format!("neither server nor generator was saturated at {rate}/s: latency without saturation"),
        _ => "not known: name the server's process (--server-pid)".into(),
    };
    report.row("bottleneck", text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let bounds = |p50: Option<f64>, p99: Option<f64>, p999: Option<f64>| Bounds {
            p50_max: p50,
            p99_max: p99,
            p999_max: p999,
            last_p99_max: None,
            from: 1.0,
            to: 2.0,
            precision: 0.02,
            probe_max: 1.0,
        };
        let one = Some(1.0);
        assert_eq!(bounds(one, None, None).samples_min(), 100);
        assert_eq!(bounds(None, one, None).samples_min(), 1000);
        assert_eq!(bounds(one, one, one).samples_min(), 10_000);
    }

    #[test]
    fn a_precision_is_a_share() {
        assert_eq!((share("2%"), share("5")), (Ok(0.02), Ok(0.05)));
        assert!(share("0").is_err() && share("x").is_err());
    }
}
