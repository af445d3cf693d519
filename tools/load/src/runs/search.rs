//! The subcommand `search`: the highest rate at which a latency bound holds, everything is delivered, and the generator is not the
//! bottleneck.
//!
//! Connections stay open; a probe is a warm-up, a measured time, and a pause until nothing is in flight. The rate doubles until a
//! probe fails, then the interval is halved on a logarithmic scale down to the precision. One hiccup decides nothing: a rate that
//! fails is probed again until two of three probes agree, and so is the rate that is found in the end. If probes of one rate
//! disagree, or the time for the search is over before it is complete, the run is void.

use super::{BackgroundCpu, DELIVERY_FAULTS, echo_runs, fanout_runs, measure};
use crate::args::options::{Common, Timing};
use crate::args::search::{Bounds, Search, Searched};
use crate::distributed::coordinator::report_processes;
use crate::engine::Scenario;
use crate::engine::clock::{SECOND, now};
use crate::engine::control::Phase;
use crate::engine::workers::{StartedWorkers, Workers};
use crate::measure::results::Results;
use crate::report::{Failures, GENERATOR_BUSY_MAX, Report, SERVER_BUSY_MIN, Window, figures::human};
use crate::{RunError, interrupt};
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
    /// When the search must end.
    end: u64,
    /// Faults and missing messages before the next probe: they are counted over the whole run.
    faults: u64,
    missing: u64,
    probes: Vec<Probe>,
}

impl<S: Scenario + 'static> Prober<'_, S> {
    fn probe(&mut self, rate: f64) {
        let seconds = self.probe_seconds(rate);
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
        if !self.common.quiet {
            eprintln!("at {}/s: {}", human(probe.rate), probe.text());
        }
        self.probes.push(probe);
    }

    /// The measured time of a probe.
    fn probe_seconds(&self, rate: f64) -> f64 {
        let needed = self.bounds.samples_min() as f64 / rate * 1.02;
        self.timing.duration.max(needed.min(self.bounds.probe_max))
    }

    /// Ctrl-C ended the search, or the time does not suffice for another probe.
    fn is_late(&self, rate: f64) -> bool {
        let probe = (self.timing.warmup + self.probe_seconds(rate)) * SECOND as f64;
        interrupt::is_set() || now() + probe as u64 > self.end
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

    /// No further probe can hold.
    fn is_broken(&self) -> bool {
        self.workers.counters().closed > 0 || self.workers.control.is_broken()
    }

    /// Whether a rate holds: by two of three probes; at once if it clearly fails, or holds and need not be `confirmed`. `None` if
    /// the time is over before that is known.
    fn holds(&mut self, rate: f64, confirmed: bool) -> Option<bool> {
        loop {
            let of_rate = self.probes.iter().filter(|probe| probe.rate == rate);
            let (held, failed): (Vec<&Probe>, Vec<&Probe>) = of_rate.partition(|probe| probe.failure.is_none());
            if held.len() >= 2 || (!confirmed && held.len() > failed.len()) {
                return Some(true);
            }
            let is_clear = !confirmed && failed.last().is_some_and(|probe| probe.is_clear);
            let is_broken = self.is_broken() && held.len() + failed.len() > 0;
            if failed.len() >= 2 || is_clear || is_broken {
                return Some(false);
            }
            if self.is_late(rate) {
                return None;
            }
            self.probe(rate);
        }
    }

    /// Searches; what is known so far is in `found` when the time is over, and `None` is returned.
    fn find(&mut self, found: &mut Found) -> Option<()> {
        let mut rate = self.bounds.from;
        for _ in 0..HALVINGS_MAX {
            if self.holds(rate, false)? {
                found.held.push(rate);
                break;
            }
            found.limit = Some(rate);
            rate /= 2.0;
            if self.is_broken() {
                break;
            }
        }
        while found.limit.is_none() && found.held.last().is_some_and(|rate| *rate < self.bounds.to) {
            rate = (rate * 2.0).min(self.bounds.to);
            let holds = self.holds(rate, false)?;
            found.add(rate, holds);
        }
        while let (Some(&low), Some(high), false) = (found.held.last(), found.limit, self.is_broken()) {
            if high / low > 1.0 + self.bounds.precision {
                let middle = (low * high).sqrt();
                let holds = self.holds(middle, false)?;
                found.add(middle, holds);
            } else if self.holds(low, true)? {
                break;
            } else {
                // It held by chance.
                found.held.pop();
                found.limit = Some(low);
            }
        }
        Some(())
    }
}

/// What a search knows.
#[derive(Debug, Default)]
struct Found {
    /// The rates that hold, in rising order.
    held: Vec<f64>,
    /// The lowest rate that does not.
    limit: Option<f64>,
    /// The time was over before the search was complete.
    is_incomplete: bool,
}

impl Found {
    fn add(&mut self, rate: f64, holds: bool) {
        if holds { self.held.push(rate) } else { self.limit = Some(rate) }
    }
}

/// The rates whose probes disagree, each with how many hold of how many.
fn disagreements(probes: &[Probe]) -> Vec<String> {
    let mut rates: Vec<f64> = probes.iter().map(|probe| probe.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let text = |rate: f64| {
        let of_rate = || probes.iter().filter(|probe| probe.rate == rate);
        let (held, all) = (of_rate().filter(|probe| probe.failure.is_none()).count(), of_rate().count());
        (held > 0 && held < all).then(|| format!("{}/s ({held} of {all} hold)", human(rate)))
    };
    rates.into_iter().filter_map(text).collect()
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
    if !common.quiet {
        let (from, bounds, time) = (human(bounds.from), bounds.texts().join(", "), bounds.time_max);
        eprintln!(
            "searching from {from}/s for the highest rate at which {bounds} holds, for at most {time} s (--time-max)"
        );
    }
    let is_open = workers.open(&totals, common.open_timeout, "opening");
    let opened = workers.counters().ready;
    let end = now() + (bounds.time_max * SECOND as f64) as u64;
    let mut prober = Prober { workers, bounds, timing, common, end, faults: 0, missing: 0, probes: Vec::new() };
    let mut found = Found::default();
    found.is_incomplete = is_open && prober.find(&mut found).is_none();
    let probes = prober.probes;
    let finished = prober.workers.finish()?;

    let mut report = Report::new("search");
    report.set("scenario", scenario);
    report.set("connections", all);
    report.connections(&finished, Failures::None);
    if !is_open {
        report.void(format!("{opened} of {all} connections were opened, so nothing was searched"));
    }
    report_probes(&mut report, bounds, &probes, &found);
    report_processes(&mut report, &finished.processes, None);
    Ok(report.finish(common.json, &common.files))
}

fn report_probes(report: &mut Report, bounds: &Bounds, probes: &[Probe], found: &Found) {
    let (knee, limit) = (found.held.last().copied(), found.limit);
    for probe in probes {
        report.row(&format!("at {}/s", human(probe.rate)), probe.text());
    }
    report.set("probes", probes.iter().map(Probe::value).collect::<Vec<_>>());
    let texts = bounds.texts();
    report.set("bounds", json!(texts));
    report.set("time_max_seconds", bounds.time_max);
    report.set("knee", json!(knee));
    match knee {
        Some(knee) => report.row("knee", format!("{} per second: {}", human(knee), texts.join(", "))),
        None => report.void(format!("no rate was found at which {} holds", texts.join(", "))),
    }
    let disagreements = disagreements(probes);
    if !disagreements.is_empty() {
        report.void(format!(
            "repeated probes disagree at {}: the server or this host was not steady; probe longer (--duration), use a wider \
             --precision, or a host without other work",
            disagreements.join(", ")
        ));
    }
    if found.is_incomplete && !interrupt::is_set() {
        let time = bounds.time_max;
        report.void(format!("the search was not complete after {time} s (--time-max): the knee is not confirmed"));
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
    fn probes_of_one_rate_that_disagree_are_named() {
        let probe = |rate: f64, holds: bool| Probe {
            rate,
            samples: 1000,
            latency: [1.0; 4],
            server_busy: None,
            own_busy: 0.1,
            failure: (!holds).then(|| "p99 above 1 ms".into()),
            is_clear: false,
            has_few_samples: false,
        };
        let steady = [probe(100.0, true), probe(200.0, false), probe(200.0, false), probe(100.0, true)];
        assert_eq!(disagreements(&steady), [""; 0]);
        let found = Found { held: vec![100.0], limit: Some(200.0), is_incomplete: false };
        let bounds = Bounds::example(None, Some(0.001), None);
        let void = |probes: &[Probe], found: &Found| {
            let mut report = Report::new("search");
            report_probes(&mut report, &bounds, probes, found);
            report.finish(true, &Default::default())
        };
        assert_eq!(void(&steady, &found), 0);
        let mixed = [&steady[..], &[probe(50.0, false), probe(50.0, true), probe(50.0, true)]].concat();
        assert_eq!(disagreements(&mixed), ["50.0/s (2 of 3 hold)"]);
        assert_eq!(void(&mixed, &found), 1);
        assert_eq!(void(&steady, &Found { is_incomplete: true, ..found }), 1, "the time was over");
    }
}
