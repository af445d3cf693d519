//! How often: a rate, a ramp, steps, and the moments that follow from them in open loop.
//!
//! Plan: a `Rate` is a row of stretches, each linear in time. How many arrivals there are by a moment is then a known function,
//! and the n-th arrival's moment is its inverse: no error adds up, and one that is late shifts none of those after it. Poisson
//! arrivals are the same with sums of exponential gaps in the place of n.
//! Invariant: a schedule's moments never go back, through every change of the rate and from warm-up to measured time.

use std::fmt::{self, Display};

/// No further arrival.
pub const NEVER: u64 = u64::MAX;
/// A ramp's figures are told in so many parts.
const RAMP_PARTS: usize = 10;
/// Steps and parts of ramps in all: each has a histogram of its own in every worker.
const SPANS_MAX: usize = 100;

/// A stretch of time in which the rate is `from` at its beginning, `to` at its end, and on a line between.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    from: f64,
    to: f64,
    /// Infinite if the rate stays so for ever.
    seconds: f64,
}

impl Stretch {
    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// Seconds until `n` arrivals have come: the inverse of `from·t + (to-from)/(2·seconds)·t²`.
    fn until(&self, n: f64) -> f64 {
        let bend = if self.seconds.is_finite() { (self.to - self.from) / self.seconds } else { 0.0 };
        // This form of the root also holds for a bend of nothing.
        let root = (self.from * self.from + 2.0 * bend * n).max(0.0).sqrt();
        if n == 0.0 { 0.0 } else { 2.0 * n / (self.from + root) }
    }
}

/// A rate over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate(Vec<Stretch>);

/// When arrivals come within a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Evenly, as by a clock.
    #[default]
    Even,
    /// At random and independent of one another, as many people together do.
    Poisson,
}

/// A part of a rate whose figures are told by themselves; nanoseconds from the beginning of the measured time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub begin: u64,
    pub end: u64,
    /// Per second, at its beginning and its end.
    pub from: f64,
    pub to: f64,
}

impl Rate {
    pub fn constant(per_second: f64) -> Self {
        Self(vec![Stretch { from: per_second, to: per_second, seconds: f64::INFINITY }])
    }

    /// `500`; `100..5000/30s`; `1000:10s,2000:10s`; or steps and ramps mixed. Only the last may be without an end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let stretches = text.split(',').map(stretch).collect::<Result<Vec<_>, _>>()?;
        let last = stretches.len() - 1;
        if let Some(i) = stretches[..last].iter().position(|one| one.seconds.is_infinite()) {
            return Err(format!("step {} of {} needs a duration, such as 1000:10s", i + 1, last + 1));
        }
        if stretches.iter().all(|one| one.from + one.to == 0.0) {
            return Err("a rate of nothing sends nothing".into());
        }
        let rate = Self(stretches);
        if rate.spans().len() > SPANS_MAX {
            return Err(format!("more than {SPANS_MAX} steps (a ramp counts as {RAMP_PARTS})"));
        }
        Ok(rate)
    }

    /// How long it goes on, if it has an end.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.0.iter().map(|one| one.seconds).sum()).filter(|sum: &f64| sum.is_finite())
    }

    /// Arrivals in all, if it has an end.
    pub fn arrivals(&self) -> Option<usize> {
        self.seconds().map(|_| self.0.iter().map(Stretch::arrivals).sum::<f64>().floor() as usize)
    }

    /// The rate itself, if it is one and the same for ever.
    pub fn fixed(&self) -> Option<f64> {
        self.0.first().filter(|one| one.seconds.is_infinite()).map(|one| one.from)
    }

    /// What one of `workers` has of it.
    pub fn shared(&self, workers: usize) -> Self {
        let n = workers as f64;
        Self(self.0.iter().map(|one| Stretch { from: one.from / n, to: one.to / n, ..*one }).collect())
    }

    /// The parts whose figures are told: each step, and each ramp in ten.
    pub fn spans(&self) -> Vec<Span> {
        let (mut spans, mut begin) = (Vec::new(), 0.0);
        let nanos = |seconds: f64| (seconds * 1e9) as u64;
        for one in &self.0 {
            let parts = if one.from == one.to { 1 } else { RAMP_PARTS };
            for part in 0..parts {
                let at = |i: usize| i as f64 / parts as f64;
                let rate = |share: f64| one.from + (one.to - one.from) * share;
                // Nothing of an infinite stretch is not a number.
                let start = if part == 0 { begin } else { begin + one.seconds * at(part) };
                let (begin, end) = (nanos(start), nanos(begin + one.seconds * at(part + 1)));
                spans.push(Span { begin, end, from: rate(at(part)), to: rate(at(part + 1)) });
            }
            begin += one.seconds;
        }
        spans
    }

    /// Seconds from the beginning to the `n`-th arrival; None if there are not that many.
    fn moment(&self, n: f64) -> Option<f64> {
        let (mut left, mut begin) = (n, 0.0);
        for one in &self.0 {
            let arrivals = one.arrivals();
            if arrivals.is_nan() {
                // Nothing for ever.
                return None;
            }
            if left < arrivals {
                return Some(begin + one.until(left));
            }
            left -= arrivals;
            begin += one.seconds;
        }
        None
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, one) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            match (one.from == one.to, one.seconds.is_finite()) {
                (true, false) => write!(f, "{}", one.from)?,
                (true, true) => write!(f, "{}:{}s", one.from, one.seconds)?,
                _ => write!(f, "{}..{}/{}s", one.from, one.to, one.seconds)?,
            }
        }
        Ok(())
    }
}

fn stretch(text: &str) -> Result<Stretch, String> {
    let wrong = || format!("'{text}' is no rate; try 500, 100..5000/30s or 1000:10s,2000:10s");
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(wrong);
    let long = |text: &str| seconds(text).filter(|s| *s > 0.0).ok_or_else(wrong);
    if let Some((from, rest)) = text.split_once("..") {
        let (to, time) = rest.split_once('/').ok_or_else(wrong)?;
        return Ok(Stretch { from: number(from)?, to: number(to)?, seconds: long(time)? });
    }
    let (rate, seconds) = match text.split_once(':') {
        Some((rate, time)) => (number(rate)?, long(time)?),
        None => (number(text)?, f64::INFINITY),
    };
    Ok(Stretch { from: rate, to: rate, seconds })
}

/// `10ms`, `250us`, `1.5s`, `2m`, or seconds without a unit.
pub fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let scale = match text[end..].trim() {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "m" | "min" => 60.0,
        _ => return None,
    };
    text[..end].parse::<f64>().ok().map(|n| n * scale)
}

/// The moments of arrivals. Until it is told when the measured time begins, they come at the first rate.
#[derive(Clone, Debug)]
pub struct Schedule {
    warm: Rate,
    rate: Rate,
    arrivals: Arrivals,
    rng: fastrand::Rng,
    /// What of an interval the first arrival is late by, so that workers do not all send at once.
    shift: f64,
    start: Option<u64>,
    /// When the measured time begins, and whether the arrivals before it are all dealt with.
    measured: Option<(u64, bool)>,
    /// Where the next arrival stands in the count of arrivals.
    place: f64,
    count: u64,
    /// The next moment, once it was asked for.
    next: Option<u64>,
}

impl Schedule {
    pub fn new(per_second: f64) -> Self {
        Self::of(&Rate::constant(per_second), Arrivals::Even, 0, 1)
    }

    /// The part that worker number `worker` of `workers` has of a rate.
    pub fn of(rate: &Rate, arrivals: Arrivals, worker: usize, workers: usize) -> Self {
        let rate = rate.shared(workers);
        let warm = Rate::constant(rate.0.first().map_or(0.0, |one| one.from));
        let rng = fastrand::Rng::with_seed(worker as u64);
        let shift = worker as f64 / workers as f64;
        let mut new =
            Self { warm, rate, arrivals, rng, shift, start: None, measured: None, place: 0.0, count: 0, next: None };
        new.place = new.first();
        new
    }

    fn first(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Even => self.shift,
            Arrivals::Poisson => self.gap(),
        }
    }

    fn gap(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Even => 1.0,
            Arrivals::Poisson => -(1.0 - self.rng.f64()).ln(),
        }
    }

    /// The measured time began at `from`: what was due before is still due, then steps and ramps begin. Only the first one
    /// counts, and is given back. 0: not yet.
    pub fn measure(&mut self, from: u64) -> u64 {
        if from > 0 && self.measured.is_none() {
            self.measured = Some((from, false));
            self.next = None;
        }
        self.measured.map_or(0, |(from, _)| from)
    }

    /// The next moment, which may have passed; `NEVER` after the last one. Time begins with the first call.
    pub fn due(&mut self, now: u64) -> u64 {
        if let Some(next) = self.next {
            return next;
        }
        let start = *self.start.get_or_insert(now);
        let at = |rate: &Rate, start: u64, place: f64| {
            rate.moment(place).map_or(NEVER, |seconds| start.saturating_add((seconds * 1e9) as u64))
        };
        let next = match self.measured {
            None => at(&self.warm, start, self.place),
            Some((_, true)) => at(&self.rate, start, self.place),
            Some((from, false)) => match at(&self.warm, start, self.place) {
                warm if warm < from => warm,
                _ => {
                    (self.start, self.measured, self.place) = (Some(from), Some((from, true)), self.first());
                    at(&self.rate, from, self.place)
                }
            },
        };
        self.next = Some(next);
        next
    }

    /// The one that was due was dealt with; gives its number.
    pub fn advance(&mut self) -> u64 {
        self.place += self.gap();
        self.next = None;
        self.count += 1;
        self.count - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(text: &str, arrivals: Arrivals, n: usize) -> Vec<u64> {
        let mut schedule = Schedule::of(&Rate::parse(text).unwrap(), arrivals, 0, 1);
        schedule.measure(1);
        std::iter::repeat_with(|| (schedule.due(1), schedule.advance()).0).take(n).collect()
    }

    #[test]
    fn what_is_no_rate_is_refused_with_an_example() {
        for text in ["", "x", "-5", "5:", "5:0s", "1..2", "1..2/x", "1,2:3s", "0", "nan", "5:3h"] {
            let why = Rate::parse(text).expect_err(text);
            assert!(!why.is_empty());
        }
        assert!(Rate::parse("1..2/1s,".repeat(11).trim_end_matches(',')).is_err());
        for text in ["500", "100..5000/30s", "1000:10s,2000:10s", "10:1s,10..20/2s,20"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_schedule_does_not_shift_when_one_is_late() {
        let mut schedule = Schedule::new(1000.0);
        assert_eq!(schedule.due(5_000_000), 5_000_000);
        assert_eq!(schedule.advance(), 0);
        assert_eq!(schedule.due(99_000_000), 6_000_000);
    }

    #[test]
    fn steps_follow_one_another_without_a_gap_and_end() {
        let at = moments("2:1s,4:1s", Arrivals::Even, 7);
        let half = 500_000_000;
        let expected = [0, half, 2 * half, 2 * half + half / 2, 3 * half, 3 * half + half / 2];
        assert_eq!(at[..6], expected.map(|at| at + 1));
        assert_eq!(at[6], NEVER);
        let rate = Rate::parse("2:1s,4:1s").unwrap();
        assert_eq!((rate.seconds(), rate.arrivals(), rate.fixed()), (Some(2.0), Some(6), None));
    }

    #[test]
    fn a_ramp_grows_evenly() {
        // n arrivals by t² when the rate is 2t.
        let at = moments("0..20/10s", Arrivals::Even, 100);
        for (n, at) in at.iter().enumerate() {
            let seconds = (at - 1) as f64 / 1e9;
            assert!((seconds * seconds - n as f64).abs() < 1e-6, "{n}: {seconds}");
        }
        let spans = Rate::parse("0..20/10s").unwrap().spans();
        assert_eq!((spans.len(), spans[9].begin, spans[9].to), (10, 9_000_000_000, 20.0));
        let falling = moments("20..0/10s", Arrivals::Even, 101);
        assert!(falling[..100].windows(2).all(|pair| pair[0] < pair[1]) && falling[100] == NEVER);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_chance() {
        let at = moments("1000", Arrivals::Poisson, 20_000);
        let gaps: Vec<f64> = at.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.03 && (spread - 1.0).abs() < 0.1, "{mean} {spread}");
    }

    #[test]
    fn what_was_due_in_the_warm_up_stays_due_when_the_measured_time_begins() {
        let mut schedule = Schedule::of(&Rate::parse("10:1s,20:1s").unwrap(), Arrivals::Even, 0, 1);
        assert_eq!(schedule.due(1000), 1000);
        schedule.advance();
        // Nobody looked for a while: 0.1 s and 0.2 s are overdue when the measured time begins at 0.25 s.
        schedule.measure(250_001_000);
        let after: Vec<u64> = std::iter::repeat_with(|| (schedule.due(0), schedule.advance()).0).take(4).collect();
        assert_eq!(after, [100_001_000, 200_001_000, 250_001_000, 350_001_000]);
    }

    #[test]
    fn workers_take_turns() {
        let rate = Rate::constant(10.0);
        let mut at: Vec<u64> = (0..4).map(|worker| Schedule::of(&rate, Arrivals::Even, worker, 4).due(1)).collect();
        at.sort_unstable();
        assert_eq!(at, [0, 100_000_000, 200_000_000, 300_000_000].map(|at| at + 1));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(["10ms", "250us", "1.5s", "2m", "3"].map(seconds), [0.01, 0.00025, 1.5, 120.0, 3.0].map(Some));
        assert_eq!(seconds("x").or(seconds("3h")), None);
    }
}
