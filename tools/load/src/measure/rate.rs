//! A rate over time (constant, ramps, steps) and the send times that follow from it in open loop.
//!
//! A `Rate` is a row of segments, each linear in time. The number of arrivals up to a moment is a known function, and the time of
//! the n-th arrival is its inverse. Errors therefore do not add up, and a late message does not shift the ones after it. Poisson
//! arrivals use sums of exponential gaps in place of n.
//! Invariant: the times of a schedule never go back, through every change of the rate and from warm-up to measured time.

use std::fmt::{self, Display};

/// There is no further arrival.
pub const NEVER: u64 = u64::MAX;
/// The number of parts in which the figures of a ramp are reported.
const RAMP_PARTS: usize = 10;
/// Steps and parts of ramps together: each has a histogram of its own in every worker.
const SPANS_MAX: usize = 100;

/// A segment in which the rate goes linearly from `from` to `to`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    from: f64,
    to: f64,
    /// Infinite if the rate has no end.
    seconds: f64,
}

impl Segment {
    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// Seconds until the `n`-th arrival: the inverse of `from·t + (to-from)/(2·seconds)·t²`.
    fn time_of(&self, n: f64) -> f64 {
        let slope = if self.seconds.is_finite() { (self.to - self.from) / self.seconds } else { 0.0 };
        // This form of the root also holds for a slope of zero.
        let root = (self.from * self.from + 2.0 * slope * n).max(0.0).sqrt();
        if n == 0.0 { 0.0 } else { 2.0 * n / (self.from + root) }
    }
}

/// A rate over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate(Vec<Segment>);

/// How arrivals are distributed within a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// At equal intervals.
    #[default]
    Even,
    /// At random and independently (a Poisson process), like many independent users.
    Poisson,
}

/// A part of a rate with figures of its own; nanoseconds since the measured time began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub begin: u64,
    pub end: u64,
    /// Per second, at the beginning and at the end.
    pub from: f64,
    pub to: f64,
}

impl Rate {
    pub fn constant(per_second: f64) -> Self {
        Self(vec![Segment { from: per_second, to: per_second, seconds: f64::INFINITY }])
    }

    /// `500`; `100..5000/30s`; `1000:10s,2000:10s`; or steps and ramps mixed. Only the last segment may have no end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let segments = text.split(',').map(parse_segment).collect::<Result<Vec<_>, _>>()?;
        let last = segments.len() - 1;
        if let Some(i) = segments[..last].iter().position(|one| one.seconds.is_infinite()) {
            return Err(format!("step {} of {} needs a duration, such as 1000:10s", i + 1, last + 1));
        }
        if segments.iter().all(|one| one.from + one.to == 0.0) {
            return Err("a rate of 0 sends nothing".into());
        }
        let rate = Self(segments);
        if rate.spans().len() > SPANS_MAX {
            return Err(format!("more than {SPANS_MAX} steps (a ramp counts as {RAMP_PARTS})"));
        }
        Ok(rate)
    }

    /// The duration, if the rate has an end.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.0.iter().map(|one| one.seconds).sum()).filter(|sum: &f64| sum.is_finite())
    }

    /// The number of arrivals, if the rate has an end.
    pub fn arrivals(&self) -> Option<usize> {
        self.seconds().map(|_| self.0.iter().map(Segment::arrivals).sum::<f64>().floor() as usize)
    }

    /// The rate per second, if it is constant and has no end.
    pub fn fixed(&self) -> Option<f64> {
        self.0.first().filter(|one| one.seconds.is_infinite()).map(|one| one.from)
    }

    /// The share of one of `workers`.
    pub fn shared(&self, workers: usize) -> Self {
        let n = workers as f64;
        Self(self.0.iter().map(|one| Segment { from: one.from / n, to: one.to / n, ..*one }).collect())
    }

    /// The parts whose figures are reported: each step, and ten parts of each ramp.
    pub fn spans(&self) -> Vec<Span> {
        let (mut spans, mut begin) = (Vec::new(), 0.0);
        let nanos = |seconds: f64| (seconds * 1e9) as u64;
        for one in &self.0 {
            let parts = if one.from == one.to { 1 } else { RAMP_PARTS };
            for part in 0..parts {
                let at = |i: usize| i as f64 / parts as f64;
                let rate = |share: f64| one.from + (one.to - one.from) * share;
                // Zero times infinity is not a number.
                let start = if part == 0 { begin } else { begin + one.seconds * at(part) };
                let (begin, end) = (nanos(start), nanos(begin + one.seconds * at(part + 1)));
                spans.push(Span { begin, end, from: rate(at(part)), to: rate(at(part + 1)) });
            }
            begin += one.seconds;
        }
        spans
    }

    /// Seconds from the beginning to the `n`-th arrival; `None` if there are fewer.
    fn time_of(&self, n: f64) -> Option<f64> {
        let (mut left, mut begin) = (n, 0.0);
        for one in &self.0 {
            let arrivals = one.arrivals();
            // Not a number: a rate of zero without an end.
            if arrivals.is_nan() {
                return None;
            }
            if left < arrivals {
                return Some(begin + one.time_of(left));
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

fn parse_segment(text: &str) -> Result<Segment, String> {
    let parse = || {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let duration = |text: &str| seconds(text).filter(|s| *s > 0.0);
        if let Some((from, rest)) = text.split_once("..") {
            let (to, time) = rest.split_once('/')?;
            return Some(Segment { from: number(from)?, to: number(to)?, seconds: duration(time)? });
        }
        let (rate, seconds) = match text.split_once(':') {
            Some((rate, time)) => (number(rate)?, duration(time)?),
            None => (number(text)?, f64::INFINITY),
        };
        Some(Segment { from: rate, to: rate, seconds })
    };
    parse().ok_or_else(|| format!("'{text}' is not a rate; try 500, 100..5000/30s or 1000:10s,2000:10s"))
}

/// A time of the command line, in seconds.
pub fn duration(text: &str) -> Result<f64, String> {
    let known = seconds(text).filter(|seconds| seconds.is_finite());
    known.ok_or_else(|| format!("'{text}' is not a duration; try 500ms, 10s, 2m or 1h"))
}

/// `10ms`, `250us`, `1.5s`, `2m`, `1h`, or seconds without a unit.
pub fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let scale = match text[end..].trim() {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    text[..end].parse::<f64>().ok().map(|n| n * scale)
}

/// The times of arrivals. Until the measured time begins, they follow the initial rate.
#[derive(Clone, Debug)]
pub struct Schedule {
    warmup: Rate,
    rate: Rate,
    arrivals: Arrivals,
    rng: fastrand::Rng,
    /// The share of an interval by which the first arrival is delayed, so that workers do not all send at once.
    shift: f64,
    start: Option<u64>,
    /// When the measured time begins, and whether all arrivals before it are handled.
    measured: Option<(u64, bool)>,
    /// The position of the next arrival in the count of arrivals.
    position: f64,
    count: u64,
    /// The next time, once it was computed.
    next: Option<u64>,
}

impl Schedule {
    /// The share of worker number `worker` of `workers` in a rate.
    pub fn new(rate: &Rate, arrivals: Arrivals, worker: usize, workers: usize) -> Self {
        let rate = rate.shared(workers);
        let warmup = Rate::constant(rate.0.first().map_or(0.0, |one| one.from));
        let rng = fastrand::Rng::with_seed(worker as u64);
        let shift = worker as f64 / workers as f64;
        let (start, measured, next) = (None, None, None);
        let mut new = Self { warmup, rate, arrivals, rng, shift, start, measured, position: 0.0, count: 0, next };
        new.position = new.first();
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

    /// The measured time began at `from` (0: not yet). Arrivals due before it stay due, then steps and ramps begin. Only the first
    /// call with a time counts; its time is returned.
    pub fn measure(&mut self, from: u64) -> u64 {
        if from > 0 && self.measured.is_none() {
            self.measured = Some((from, false));
            self.next = None;
        }
        self.measured.map_or(0, |(from, _)| from)
    }

    /// The next arrival, which may be in the past; `NEVER` after the last one. Time begins with the first call.
    pub fn due(&mut self, now: u64) -> u64 {
        if let Some(next) = self.next {
            return next;
        }
        let start = *self.start.get_or_insert(now);
        let at = |rate: &Rate, start: u64, position: f64| {
            rate.time_of(position).map_or(NEVER, |seconds| start.saturating_add((seconds * 1e9) as u64))
        };
        let next = match self.measured {
            None => at(&self.warmup, start, self.position),
            Some((_, true)) => at(&self.rate, start, self.position),
            Some((from, false)) => match at(&self.warmup, start, self.position) {
                warmup if warmup < from => warmup,
                _ => {
                    (self.start, self.measured, self.position) = (Some(from), Some((from, true)), self.first());
                    at(&self.rate, from, self.position)
                }
            },
        };
        self.next = Some(next);
        next
    }

    /// Moves past the arrival that was due and returns its number.
    pub fn advance(&mut self) -> u64 {
        self.position += self.gap();
        self.next = None;
        self.count += 1;
        self.count - 1
    }

    /// Takes the next arrival, if it is due by now: its time and its number.
    pub fn pop(&mut self, now: u64) -> Option<(u64, u64)> {
        let at = self.due(now);
        (at <= now).then(|| (at, self.advance()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(text: &str, arrivals: Arrivals, n: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(&Rate::parse(text).unwrap(), arrivals, 0, 1);
        schedule.measure(1);
        std::iter::repeat_with(|| (schedule.due(1), schedule.advance()).0).take(n).collect()
    }

    #[test]
    fn invalid_rate_is_rejected_with_an_example() {
        for text in ["", "x", "-5", "5:", "5:0s", "1..2", "1..2/x", "1,2:3s", "0", "nan", "5:3d"] {
            let why = Rate::parse(text).expect_err(text);
            assert!(!why.is_empty());
        }
        assert!(Rate::parse("1..2/1s,".repeat(11).trim_end_matches(',')).is_err());
        for text in ["500", "100..5000/30s", "1000:10s,2000:10s", "10:1s,10..20/2s,20"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn late_message_does_not_shift_the_schedule() {
        let mut schedule = Schedule::new(&Rate::constant(1000.0), Arrivals::Even, 0, 1);
        assert_eq!(schedule.due(5_000_000), 5_000_000);
        assert_eq!(schedule.advance(), 0);
        assert_eq!(schedule.due(99_000_000), 6_000_000);
    }

    #[test]
    fn steps_follow_each_other_without_a_gap_and_end() {
        let at = moments("2:1s,4:1s", Arrivals::Even, 7);
        let half = 500_000_000;
        let expected = [0, half, 2 * half, 2 * half + half / 2, 3 * half, 3 * half + half / 2];
        assert_eq!(at[..6], expected.map(|at| at + 1));
        assert_eq!(at[6], NEVER);
        let rate = Rate::parse("2:1s,4:1s").unwrap();
        assert_eq!((rate.seconds(), rate.arrivals(), rate.fixed()), (Some(2.0), Some(6), None));
    }

    #[test]
    fn ramp_grows_linearly() {
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
    fn poisson_arrivals_have_the_mean_and_the_variance_of_the_distribution() {
        let at = moments("1000", Arrivals::Poisson, 20_000);
        let gaps: Vec<f64> = at.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.03 && (spread - 1.0).abs() < 0.1, "{mean} {spread}");
    }

    #[test]
    fn messages_due_in_the_warm_up_stay_due_when_the_measured_time_begins() {
        let mut schedule = Schedule::new(&Rate::parse("10:1s,20:1s").unwrap(), Arrivals::Even, 0, 1);
        assert_eq!(schedule.due(1000), 1000);
        schedule.advance();
        // After a stall, 0.1 s and 0.2 s are overdue when the measured time begins at 0.25 s.
        schedule.measure(250_001_000);
        let after: Vec<u64> = std::iter::repeat_with(|| (schedule.due(0), schedule.advance()).0).take(4).collect();
        assert_eq!(after, [100_001_000, 200_001_000, 250_001_000, 350_001_000]);
    }

    #[test]
    fn workers_interleave_their_messages() {
        let rate = Rate::constant(10.0);
        let mut at: Vec<u64> = (0..4).map(|worker| Schedule::new(&rate, Arrivals::Even, worker, 4).due(1)).collect();
        at.sort_unstable();
        assert_eq!(at, [0, 100_000_000, 200_000_000, 300_000_000].map(|at| at + 1));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(
            ["10ms", "250us", "1.5s", "2m", "1h", "3"].map(seconds),
            [0.01, 0.00025, 1.5, 120.0, 3600.0, 3.0].map(Some)
        );
        assert_eq!(seconds("x").or(seconds("3d")), None);
        assert!(duration("-1").is_err() && duration("5x").is_err_and(|why| why.contains("10s, 2m")));
    }
}
