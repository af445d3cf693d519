//! The subcommand `search`: the highest rate at which a latency bound holds, everything is delivered, and the generator is not the
//! bottleneck.
//!
//! Connections stay open; a probe is a warm-up, a measured time, and a pause until nothing is in flight. The rate doubles until a
//! probe fails, then the interval is halved on a logarithmic scale down to the precision. One hiccup decides nothing: a rate that
//! fails is probed again until two of three probes agree, and so is the rate that is found in the end.

use super::{BackgroundCpu, DELIVERY_FAULTS, echo_runs, fanout_runs, measure};
use crate::RunError;
use crate::args::options::{Common, Timing};
use crate::args::{Echo, Fanout};
use crate::distributed::coordinator::report_processes;
use crate::engine::Scenario;
use crate::engine::control::Phase;
use crate::engine::workers::{StartedWorkers, Workers};
use crate::measure::rate::{Rate, seconds};
use crate::measure::results::Results;
use crate::report::{GENERATOR_BUSY_MAX, Report, SERVER_BUSY_MIN, Window, figures::human};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// A latency of so many times its bound is not a hiccup: the rate is not probed again.
const CLEAR_FACTOR: f64 = 10.0;
/// How often the first rate is halved before the search gives up.
const HALVINGS_MAX: usize = 10;
/// The timeout for the results of a probe.
const RESULTS_SECONDS: f64 = 10.0;
/// How often a backlog is waited for before it counts as lost.
const DRAINS_MAX: usize = 3;
/// Background workers do not exist in a search.
const NO_BACKGROUND: BackgroundCpu<'static> = &|| 0;

#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    bounds: Bounds,
    #[command(subcommand)]
    pub scenario: Searched,
}

#[derive(Debug, Subcommand)]
pub enum Searched {
    /// Messages that the server sends back
    Echo(Box<Echo>),
    /// Publishers and subscribers, with every delivery checked
    Fanout(Box<Fanout>),
}

/// What must hold, and the range of the search.
#[derive(Clone, Debug, Args)]
pub struct Bounds {
    /// The bound for the latency of 50 % of the messages, such as 2ms
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    p50_max: Option<f64>,
    /// The bound for the latency of 99 % of the messages
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    p99_max: Option<f64>,
    /// The bound for the latency of 99.9 % of the messages
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    p999_max: Option<f64>,
    /// fanout: the bound for the time to the last subscriber, for 99 % of the publications
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    last_p99_max: Option<f64>,
    /// The first rate, per second
    #[arg(long, global = true, default_value_t = 100.0, value_name = "RATE")]
    from: f64,
    /// The highest rate
    #[arg(long, global = true, default_value_t = 10_000_000.0, value_name = "RATE")]
    to: f64,
    /// The precision of the result, such as 2%
    #[arg(long, global = true, default_value = "2%", value_name = "SHARE", value_parser = share)]
    precision: f64,
    /// The longest probe in seconds, if --duration has too few samples: 1,000 for p99, 10,000 for p99.9
    #[arg(long, global = true, default_value_t = 30.0)]
    probe_max: f64,
}

fn time(text: &str) -> Result<f64, String> {
    seconds(text).filter(|s| *s > 0.0).ok_or_else(|| format!("'{text}' is not a duration; try 10ms, 250us or 1s"))
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok().filter(|n| *n >= 0.1 && *n <= 100.0);
    number.map(|n| n / 100.0).ok_or_else(|| format!("'{text}' is not a precision; try 2%"))
}

impl Search {
    /// The scenario at the first rate: a search is in open loop.
    pub fn prepared(mut self) -> Result<Self, RunError> {
        let rate = match &mut self.scenario {
            Searched::Echo(args) => &mut args.rate.rate,
            Searched::Fanout(args) => &mut args.rate.rate,
        };
        if rate.is_some() {
            return Err(RunError("search finds the rate: use --from and --to instead of --rate".into()));
        }
        if !(self.bounds.from > 0.0 && self.bounds.from <= self.bounds.to && self.bounds.to.is_finite()) {
            return Err(RunError("--from must be above 0 and at most --to".into()));
        }
        *rate = Some(Rate::constant(self.bounds.from));
        Ok(self)
    }
}

impl Bounds {
    /// Each bound: its name, its quantile, its seconds, and whether it is about the last subscriber.
    fn list(&self) -> Vec<(&'static str, f64, f64, bool)> {
        let all = [
            ("p50", 0.5, self.p50_max, false),
            ("p99", 0.99, self.p99_max, false),
            ("p99.9", 0.999, self.p999_max, false),
            ("last p99", 0.99, self.last_p99_max, true),
        ];
        all.into_iter().filter_map(|(name, q, bound, last)| Some((name, q, bound?, last))).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.list().iter().map(|(name, _, bound, _)| format!("{name} ≤ {} ms", human(bound * 1e3))).collect()
    }

    /// The number of messages below which the highest quantile means nothing.
    fn samples_min(&self) -> u64 {
        let highest = self.list().iter().map(|bound| bound.1).fold(0.0, f64::max);
        (10.0 / (1.0 - highest)).round().max(100.0) as u64
    }
}

#[derive(Clone, Debug)]
struct Probe {
    rate: f64,
    /// Messages, or publications: the deliveries of one publication are not independent samples.
    samples: u64,
    /// Microseconds: p50, p99, p99.9, and p99 of the time to the last subscriber.
    latency: [f64; 4],
    server_busy: Option<f64>,
    own_busy: f64,
    /// Why it fails; `None`: the bounds hold.
    failure: Option<String>,
    /// The failure is clear enough without another probe.
    is_clear: bool,
    has_few_samples: bool,
}

impl Probe {
    fn text(&self) -> String {
        let [p50, p99, p999, last] = self.latency.map(human);
        let server = self.server_busy.map(|busy| format!("server {:.0} %, ", busy * 100.0)).unwrap_or_default();
        let last = if self.latency[3] > 0.0 { format!("   last p99 {last}") } else { String::new() };
        let few = if self.has_few_samples { " (too few for the percentile)" } else { "" };
        let verdict = self.failure.as_ref().map_or("holds".to_string(), |reason| format!("fails: {reason}"));
        let (samples, own) = (human(self.samples as f64), self.own_busy * 100.0);
        format!(
            "p50 {p50}   p99 {p99}   p99.9 {p999}{last}  µs, {samples} samples{few}, {server}generator {own:.0} %: {verdict}"
        )
    }

    fn value(&self) -> Value {
        let [p50, p99, p999, last] = self.latency;
        json!({
            "rate": self.rate, "holds": self.failure.is_none(), "why": self.failure, "samples": self.samples,
            "enough_samples": !self.has_few_samples, "server_busy": self.server_busy, "own_busy": self.own_busy,
            "latency_us": {"p50": p50, "p99": p99, "p99.9": p999}, "last_p99_us": last,
        })
    }

    /// What was saturated, and the text about it.
    fn bottleneck(&self) -> (&'static str, String) {
        let rate = human(self.rate);
        let own = self.own_busy * 100.0;
        match self.server_busy {
            _ if self.own_busy >= GENERATOR_BUSY_MAX => {
                ("generator", format!("the generator, {own:.0} % busy at {rate}/s: the server may do more"))
            }
            Some(busy) if busy >= SERVER_BUSY_MIN => {
                ("server", format!("the server, its busiest core {:.0} % busy at {rate}/s", busy * 100.0))
            }
            Some(_) => ("none", format!("neither server nor generator was saturated at {rate}/s")),
            None => ("unknown", "unknown: name the server's process (--server-pid)".into()),
        }
    }
}

/// Probes rates with workers whose connections are open.
struct Prober<'a, S> {
    workers: Workers<S>,
    bounds: &'a Bounds,
    timing: &'a Timing,
    common: &'a Common,
    /// Faults and missing messages before the next probe: they are counted over the whole run.
    faults: u64,
    missing: u64,
    probes: Vec<Probe>,
}

impl<S: Scenario + 'static> Prober<'_, S> {
    fn probe(&mut self, rate: f64) {
        let needed = self.bounds.samples_min() as f64 / rate * 1.02;
        let seconds = self.timing.duration.max(needed.min(self.bounds.probe_max));
        let workers = &mut self.workers;
        workers.set_rate(rate);
        workers.set_phase(Phase::Warmup);
        workers.wait(self.timing.warmup, "warm-up", |counters| counters.closed > 0);
        workers.set_phase(Phase::Measure);
        let (window, _) = measure(workers, self.common, NO_BACKGROUND, |workers| {
            workers.wait(seconds, "probe", |counters| counters.closed > 0)
        });
        workers.set_phase(Phase::Drain);
        let mut missing = 0;
        for _ in 0..DRAINS_MAX {
            workers.drain();
            missing = workers.totals().counters.in_flight;
            if missing <= self.missing {
                break;
            }
        }
        workers.set_phase(Phase::Pause);
        let results = workers.results(RESULTS_SECONDS);
        let probe = self.evaluate(rate, &window, &results, missing);
        self.probes.push(probe);
    }

    fn evaluate(&mut self, rate: f64, window: &Window, results: &Results, missing: u64) -> Probe {
        let latency = results.all_steps();
        let last = results.last().unwrap_or_default();
        let faults = DELIVERY_FAULTS.iter().map(|(name, _)| results.count(name)).sum::<u64>() + results.count("wrong");
        let (lost, wrong) = (missing.saturating_sub(self.missing), faults.saturating_sub(self.faults));
        (self.missing, self.faults) = (missing, faults);
        let (mut exceeded, mut is_clear) = (Vec::new(), false);
        for (name, q, bound, of_last) in self.bounds.list() {
            let found = if of_last { &last } else { &latency }.micros(q) / 1e6;
            if found > bound {
                exceeded.push(format!("{name} above {} ms", human(bound * 1e3)));
                is_clear |= found > bound * CLEAR_FACTOR;
            }
        }
        let (closed, own_busy) = (window.after.counters.closed, window.generator_busy());
        let failure = match () {
            () if closed > 0 => Some(format!("{closed} connections were ended by the server")),
            () if lost > 0 => Some(format!("{lost} messages never came")),
            () if wrong > 0 => Some(format!("{wrong} were lost, duplicated, reordered, rejected or held back")),
            () if latency.is_empty() => Some("nothing was received".into()),
            () if !exceeded.is_empty() => Some(exceeded.join(", ")),
            () if own_busy >= GENERATOR_BUSY_MAX => Some("the generator is the bottleneck".into()),
            () => None,
        };
        Probe {
            rate,
            samples: results.sent(),
            latency: [latency.micros(0.5), latency.micros(0.99), latency.micros(0.999), last.micros(0.99)],
            server_busy: window.has_server.then(|| window.server_busy()),
            own_busy,
            failure,
            is_clear,
            has_few_samples: results.sent() < self.bounds.samples_min(),
        }
    }

    fn is_over(&self) -> bool {
        self.workers.counters().closed > 0 || self.workers.control.is_broken()
    }

    /// Whether a rate holds: by two of three probes; at once if it clearly fails, or holds and need not be `confirmed`.
    fn holds(&mut self, rate: f64, confirmed: bool) -> bool {
        loop {
            let of_rate = self.probes.iter().filter(|probe| probe.rate == rate);
            let (held, failed): (Vec<&Probe>, Vec<&Probe>) = of_rate.partition(|probe| probe.failure.is_none());
            if held.len() >= 2 || (!confirmed && held.len() > failed.len()) {
                return true;
            }
            let is_clear = !confirmed && failed.last().is_some_and(|probe| probe.is_clear);
            let is_over = self.is_over() && held.len() + failed.len() > 0;
            if failed.len() >= 2 || is_clear || is_over {
                return false;
            }
            self.probe(rate);
        }
    }

    /// The highest rate that holds, and the lowest that does not.
    fn find(&mut self) -> (Option<f64>, Option<f64>) {
        let (mut held, mut limit) = (Vec::new(), None);
        let mut rate = self.bounds.from;
        for _ in 0..HALVINGS_MAX {
            if self.holds(rate, false) {
                held.push(rate);
                break;
            }
            limit = Some(rate);
            rate /= 2.0;
            if self.is_over() {
                break;
            }
        }
        while limit.is_none() && held.last().is_some_and(|rate| *rate < self.bounds.to) {
            rate = (rate * 2.0).min(self.bounds.to);
            if self.holds(rate, false) { held.push(rate) } else { limit = Some(rate) }
        }
        while let (Some(&low), Some(high), false) = (held.last(), limit, self.is_over()) {
            if high / low > 1.0 + self.bounds.precision {
                let middle = (low * high).sqrt();
                if self.holds(middle, false) { held.push(middle) } else { limit = Some(middle) }
            } else if self.holds(low, true) {
                break;
            } else {
                // It held by chance.
                held.pop();
                limit = Some(low);
            }
        }
        (held.last().copied(), limit)
    }
}

/// Opens all connections and searches.
pub fn run(args: Search) -> Result<u8, RunError> {
    let search = args.prepared()?;
    if search.bounds.list().is_empty() {
        return Err(RunError("a search needs a bound, such as --p99-max 10ms".into()));
    }
    match &search.scenario {
        Searched::Echo(args) => {
            run_search(&search.bounds, echo_runs::workers(args)?, &args.common, &args.timing, "echo")
        }
        Searched::Fanout(args) => {
            let load = &args.load;
            run_search(&search.bounds, fanout_runs::workers(args)?, &load.common, &load.timing, "fanout")
        }
    }
}

fn run_search<S: Scenario + 'static>(
    bounds: &Bounds,
    (mut workers, totals): StartedWorkers<S>,
    common: &Common,
    timing: &Timing,
    scenario: &str,
) -> Result<u8, RunError> {
    let all = totals.iter().sum::<usize>();
    let is_open = workers.open(&totals, common.open_timeout, "opening");
    let opened = workers.counters().ready;
    let mut prober = Prober { workers, bounds, timing, common, faults: 0, missing: 0, probes: Vec::new() };
    let (knee, limit) = if is_open { prober.find() } else { (None, None) };
    let probes = prober.probes;
    let finished = prober.workers.finish()?;

    let mut report = Report::new("search");
    report.set("scenario", scenario);
    report.set("connections", all);
    report.connections(&finished, true);
    if !is_open {
        report.void(format!("{opened} of {all} connections were opened, so nothing was searched"));
    }
    report_probes(&mut report, bounds, &probes, knee, limit);
    report_processes(&mut report, &finished.processes, None);
    Ok(report.finish(common.json, &common.files))
}

fn report_probes(report: &mut Report, bounds: &Bounds, probes: &[Probe], knee: Option<f64>, limit: Option<f64>) {
    for probe in probes {
        report.row(&format!("at {}/s", human(probe.rate)), probe.text());
    }
    report.set("probes", probes.iter().map(Probe::value).collect::<Vec<_>>());
    let texts = bounds.texts();
    report.set("bounds", json!(texts));
    report.set("knee", json!(knee));
    match knee {
        Some(knee) => report.row("knee", format!("{} per second: {}", human(knee), texts.join(", "))),
        None => report.void(format!("no rate was found at which {} holds", texts.join(", "))),
    }
    let failed = probes.iter().rfind(|probe| Some(probe.rate) == limit && probe.failure.is_some());
    let (bottleneck, text) = match failed {
        Some(probe) => probe.bottleneck(),
        None => ("none", format!("none found: the bounds hold up to --to {}", human(bounds.to))),
    };
    report.set("bottleneck", bottleneck);
    if failed.is_some() || knee.is_some() {
        report.row("bottleneck", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_needs_ten_samples_beyond_it() {
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
    fn precision_is_a_percentage() {
        assert_eq!((share("2%"), share("5")), (Ok(0.02), Ok(0.05)));
        assert!(share("0").is_err() && share("x").is_err());
    }
}
