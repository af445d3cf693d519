//! The progress of a run on stderr: a view that is redrawn in place, or a plain line per second.
//!
//! The view is a block of lines above the cursor. Each redraw moves up to its first line and writes over it, in one write. When a
//! phase ends, one line says how it went, and the block of the next phase begins below.
//! Invariant: the mode of the terminal is never changed, no cursor is hidden, and the cursor rests below the block. So there is
//! nothing to restore, however the run ends.

use super::human;
use crate::engine::clock::{SECOND, now};
use crate::engine::counters::Counters;
use crate::measure::latency_series::{Counts, quantile};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Write};

/// Seconds of a sparkline.
const SPARK_SECONDS: usize = 60;
/// Nanoseconds between two redraws.
const REDRAW_INTERVAL: u64 = SECOND / 5;
const BAR_CELLS: usize = 30;
const WIDTH_DEFAULT: usize = 80;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Silent,
    /// One line per second.
    Lines,
    /// Redrawn in place.
    Live,
}

impl Mode {
    pub fn choose(quiet: bool, live: bool) -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        match (quiet, live || (io::stderr().is_terminal() && !dumb)) {
            (true, _) => Self::Silent,
            (_, true) => Self::Live,
            _ => Self::Lines,
        }
    }
}

/// One moment of a run.
#[derive(Debug)]
pub struct State<'a> {
    pub at: u64,
    pub counters: &'a Counters,
    /// The share of the phase that is done, if it is known.
    pub done: Option<f64>,
    /// The latencies of the last second.
    pub latency: Option<&'a Counts>,
    pub errors: &'a BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub struct Progress {
    mode: Mode,
    phase: &'static str,
    /// When the first phase and the current one began.
    begun: u64,
    phase_begun: u64,
    next_second: u64,
    next_redraw: u64,
    last: Counters,
    last_at: u64,
    /// Messages per second in and out, and p50, p99 and maximum in microseconds, of the last second.
    rates: [f64; 2],
    latency: Option<[f64; 3]>,
    throughput: VecDeque<f64>,
    p99: VecDeque<f64>,
    /// Lines of the block on the screen.
    drawn: usize,
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

impl Progress {
    pub fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    pub fn begin_phase(&mut self, phase: &'static str) {
        (self.phase, self.phase_begun) = (phase, now());
    }

    /// Whether there is something new to show.
    pub fn is_due(&self, at: u64) -> bool {
        match self.mode {
            Mode::Silent => false,
            Mode::Lines => at >= self.next_second,
            Mode::Live => at >= self.next_redraw,
        }
    }

    pub fn show(&mut self, state: &State) {
        let at = state.at;
        if self.begun == 0 {
            (self.begun, self.next_second, self.last_at, self.last) = (at, at + SECOND, at, *state.counters);
        }
        if at >= self.next_second {
            self.end_second(state);
            if self.mode == Mode::Lines {
                let _ = writeln!(io::stderr(), "{}", self.line(state));
            }
        }
        if self.mode == Mode::Live {
            self.next_redraw = at + REDRAW_INTERVAL;
            self.write(&self.block(state));
        }
    }

    fn end_second(&mut self, state: &State) {
        let elapsed = seconds(state.at - self.last_at);
        let delta = state.counters.since(&self.last);
        self.rates = [delta.received, delta.sent].map(|n| n as f64 / elapsed);
        self.latency = state.latency.and_then(|counts| {
            let micros = |q| quantile(counts, q).map(|nanos| nanos as f64 / 1e3);
            Some([micros(0.5)?, micros(0.99)?, micros(1.0)?])
        });
        // Without messages, the rate is that of new connections.
        let rate = if delta.received + delta.sent > 0 { delta.received } else { delta.ready } as f64 / elapsed;
        for (row, value) in [(&mut self.throughput, rate), (&mut self.p99, self.latency.map_or(0.0, |times| times[1]))]
        {
            row.push_back(value);
            row.drain(..row.len().saturating_sub(SPARK_SECONDS));
        }
        (self.next_second, self.last_at, self.last) = (state.at + SECOND, state.at, *state.counters);
    }

    fn line(&self, state: &State) -> String {
        let (time, open) = ((state.at - self.begun) / SECOND, state.counters.open());
        let mut line = format!("{time:>4} s  {:<8} {open} open", self.phase);
        if self.rates != [0.0; 2] {
            line += &format!(", {:.0}/s in, {:.0}/s out", self.rates[0], self.rates[1]);
        }
        if let Some([p50, p99, _]) = self.latency {
            line += &format!(", p50 {} µs, p99 {} µs", human(p50), human(p99));
        }
        faults(state.counters).for_each(|fault| line += &format!(", {fault}"));
        line
    }

    fn block(&self, state: &State) -> Vec<String> {
        let [received, sent] = self.rates.map(human);
        let open = human(state.counters.open() as f64);
        let errors = state.errors.iter().map(|(reason, n)| format!("{n} × {reason}"));
        let errors: Vec<_> = faults(state.counters).chain(errors).collect();
        let latency = self.latency.map(|times| times.map(human));
        let bar = state.done.map(bar).unwrap_or_default();
        let lines = [
            Some((self.phase, format!("{bar}{:.0} s", seconds(state.at - self.phase_begun)))),
            Some(("now", format!("{open} open   {received}/s in   {sent}/s out"))),
            latency.map(|[p50, p99, max]| ("latency", format!("p50 {p50}   p99 {p99}   max {max} µs"))),
            (!self.throughput.is_empty()).then(|| ("per second", sparkline(&self.throughput))),
            self.p99.iter().any(|&value| value > 0.0).then(|| ("p99", format!("{} µs", sparkline(&self.p99)))),
            (!errors.is_empty()).then(|| ("errors", errors.join("   "))),
        ];
        lines.into_iter().flatten().map(|(name, text)| format!("{name:<12}{text}")).collect()
    }

    /// Ends the phase: one line remains of its block.
    pub fn end_phase(&mut self, counters: &Counters) {
        if self.mode != Mode::Live {
            return;
        }
        let faults: String = faults(counters).map(|fault| format!(", {fault}")).collect();
        let (time, open) = (seconds(now() - self.phase_begun), human(counters.open() as f64));
        self.write(&[format!("{:<12}{time:.1} s, {open} open{faults}", self.phase)]);
        (self.drawn, self.next_redraw) = (0, 0);
    }

    fn write(&mut self, lines: &[String]) {
        let size = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        let text = redraw(lines, self.drawn, if size == 0 { WIDTH_DEFAULT } else { size });
        self.drawn = lines.len();
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

fn faults(counters: &Counters) -> impl Iterator<Item = String> {
    let named = [("failed", counters.failed), ("closed", counters.closed), ("faults", counters.faults)];
    named.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}"))
}

/// Lines in place of `before` lines above the cursor. A line is cut at the width of the screen, because a wrapped line would count
/// twice on the way up.
fn redraw(lines: &[String], before: usize, width: usize) -> String {
    let mut text = if before > 0 { format!("\r\x1b[{before}A") } else { "\r".into() };
    for line in lines {
        text.extend(line.chars().take(width.saturating_sub(1)));
        text += "\x1b[K\n";
    }
    text + "\x1b[J"
}

fn bar(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * BAR_CELLS as f64) as usize;
    format!("{}{} {:>3.0} %  ", "█".repeat(full), "░".repeat(BAR_CELLS - full), share * 100.0)
}

/// Values from 0 to their maximum in eight steps.
fn sparkline(values: &VecDeque<f64>) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = values.iter().copied().fold(0.0, f64::max);
    let step = |&value: &f64| STEPS[((value / max.max(f64::MIN_POSITIVE) * 7.0).round() as usize).min(7)];
    let line: String = values.iter().map(step).collect();
    format!("{line}  {} (max {})", human(values.back().copied().unwrap_or(0.0)), human(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_spans_its_values() {
        let values: VecDeque<f64> = [0.0, 50.0, 100.0].into();
        assert_eq!(sparkline(&values), "▁▅█  100 (max 100)");
        assert_eq!(sparkline(&[0.0].into()), "▁  0 (max 0)");
    }

    #[test]
    fn redraw_moves_up_to_its_first_line_and_wraps_no_line() {
        let lines = ["abcdefgh".to_string(), "x".into()];
        assert_eq!(redraw(&lines, 0, 5), "\rabcd\x1b[K\nx\x1b[K\n\x1b[J");
        assert!(redraw(&lines, 2, 80).starts_with("\r\x1b[2Aabcdefgh\x1b[K\n"));
    }

    #[test]
    fn bar_has_the_same_length_for_every_share() {
        let cells = |share| bar(share).chars().filter(|c| "█░".contains(*c)).count();
        assert!([0.0, 0.4, 1.0, 7.0, f64::NAN].map(cells).iter().all(|&n| n == BAR_CELLS));
    }
}
