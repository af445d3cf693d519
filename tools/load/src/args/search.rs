//! The options of `search`: the scenario, the bounds that must hold, and the range of the search.

use crate::RunError;
use crate::args::{Echo, Fanout};
use crate::measure::rate::{Rate, duration};
use crate::report::figures::human;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    pub bounds: Bounds,
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
    pub p50_max: Option<f64>,
    /// The bound for the latency of 99 % of the messages
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub p99_max: Option<f64>,
    /// The bound for the latency of 99.9 % of the messages
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub p999_max: Option<f64>,
    /// fanout: the bound for the time to the last subscriber, for 99 % of the publications
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub last_p99_max: Option<f64>,
    /// The first rate, per second
    #[arg(long, global = true, default_value_t = 100.0, value_name = "RATE")]
    pub from: f64,
    /// The highest rate
    #[arg(long, global = true, default_value_t = 10_000_000.0, value_name = "RATE")]
    pub to: f64,
    /// The precision of the result, such as 2%
    #[arg(long, global = true, default_value = "2%", value_name = "SHARE", value_parser = share)]
    pub precision: f64,
    /// The longest probe, if --duration has too few samples: 1,000 for p99, 10,000 for p99.9
    #[arg(long, global = true, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub probe_max: f64,
    /// The time for all probes together: no probe begins that would end later. The search is void if it is not complete by then
    #[arg(long, global = true, default_value = "5m", value_name = "TIME", value_parser = time)]
    pub time_max: f64,
}

fn time(text: &str) -> Result<f64, String> {
    duration(text).and_then(|s| if s > 0.0 { Ok(s) } else { Err("a time above 0 is needed".into()) })
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
    pub fn list(&self) -> Vec<(&'static str, f64, f64, bool)> {
        let all = [
            ("p50", 0.5, self.p50_max, false),
            ("p99", 0.99, self.p99_max, false),
            ("p99.9", 0.999, self.p999_max, false),
            ("last p99", 0.99, self.last_p99_max, true),
        ];
        all.into_iter().filter_map(|(name, q, bound, last)| Some((name, q, bound?, last))).collect()
    }

    pub fn texts(&self) -> Vec<String> {
        self.list().iter().map(|(name, _, bound, _)| format!("{name} ≤ {} ms", human(bound * 1e3))).collect()
    }

    /// The number of messages below which the highest quantile means nothing.
    pub fn samples_min(&self) -> u64 {
        let highest = self.list().iter().map(|bound| bound.1).fold(0.0, f64::max);
        (10.0 / (1.0 - highest)).round().max(100.0) as u64
    }

    /// Bounds for tests.
    #[cfg(test)]
    pub fn example(p50_max: Option<f64>, p99_max: Option<f64>, p999_max: Option<f64>) -> Self {
        let (last_p99_max, from, to, precision) = (None, 1.0, 2.0, 0.02);
        Self { p50_max, p99_max, p999_max, last_p99_max, from, to, precision, probe_max: 1.0, time_max: 60.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_needs_ten_samples_beyond_it() {
        let one = Some(1.0);
        assert_eq!(Bounds::example(one, None, None).samples_min(), 100);
        assert_eq!(Bounds::example(None, one, None).samples_min(), 1000);
        assert_eq!(Bounds::example(one, one, one).samples_min(), 10_000);
    }

    #[test]
    fn precision_is_a_percentage() {
        assert_eq!((share("2%"), share("5")), (Ok(0.02), Ok(0.05)));
        assert!(share("0").is_err() && share("x").is_err());
    }
}
