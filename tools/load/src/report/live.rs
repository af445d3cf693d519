//! The progress of a run on stderr: a line per second, or one line that is redrawn in place.
//!
//! Invariant: the mode of the terminal is never changed and no cursor is hidden, so there is nothing to restore, however the run
//! ends.

use super::figures::human;
use crate::engine::clock::{SECOND, now};
use crate::engine::counters::Counters;
use crate::measure::latency_series::{Counts, quantile};
use std::io::{self, IsTerminal, Write};

/// Nanoseconds between two redraws.
const REDRAW_INTERVAL: u64 = SECOND / 5;
const BAR_CELLS: usize = 20;
const WIDTH_DEFAULT: usize = 120;

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
}

#[derive(Debug, Default)]
pub struct Progress {
    mode: Mode,
    phase: &'static str,
    begun: u64,
    next_second: u64,
    next_redraw: u64,
    last: Counters,
    last_at: u64,
    /// Messages per second in and out, and percentiles, of the last second.
    rates: String,
}

impl Progress {
    pub fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    pub fn begin_phase(&mut self, phase: &'static str) {
        self.phase = phase;
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
        let is_full_second = at >= self.next_second;
        if is_full_second {
            self.end_second(state);
        }
        let line = self.line(at, state.counters);
        if self.mode == Mode::Live {
            self.next_redraw = at + REDRAW_INTERVAL;
            redraw(&format!("{}{line}", state.done.map(bar).unwrap_or_default()), "");
        } else if is_full_second {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn end_second(&mut self, state: &State) {
        let elapsed = (state.at - self.last_at) as f64 / SECOND as f64;
        let delta = state.counters.since(&self.last);
        let [received, sent] = [delta.received, delta.sent].map(|n| n as f64 / elapsed);
        self.rates.clear();
        if delta.received + delta.sent > 0 {
            self.rates = format!(", {received:.0}/s in, {sent:.0}/s out");
        }
        let micros = |q| state.latency.and_then(|counts| quantile(counts, q)).map(|nanos| human(nanos as f64 / 1e3));
        if let (Some(p50), Some(p99), Some(max)) = (micros(0.5), micros(0.99), micros(1.0)) {
            self.rates += &format!(", p50 {p50} µs, p99 {p99} µs, max {max} µs");
        }
        (self.next_second, self.last_at, self.last) = (state.at + SECOND, state.at, *state.counters);
    }

    fn line(&self, at: u64, counters: &Counters) -> String {
        let time = (at - self.begun.min(at)) / SECOND;
        let named = [
            ("failed", counters.failed),
            ("closed", counters.closed),
            ("away", counters.away),
            ("faults", counters.faults),
        ];
        let faults = named.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!(", {n} {name}"));
        format!("{time:>4} s  {:<8} {} open{}{}", self.phase, counters.open(), self.rates, faults.collect::<String>())
    }

    /// Ends the phase: its last line remains.
    pub fn end_phase(&mut self, counters: &Counters) {
        if self.mode == Mode::Live {
            redraw(&self.line(now(), counters), "\n");
            self.next_redraw = 0;
        }
    }
}

/// Replaces the line of the cursor. It is cut at the width of the screen, because a wrapped line would not be replaced.
fn redraw(line: &str, end: &str) {
    let size = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    let width = if size == 0 { WIDTH_DEFAULT } else { size };
    let line: String = line.chars().take(width.saturating_sub(1)).collect();
    let _ = write!(io::stderr().lock(), "\r{line}\x1b[K{end}");
}

fn bar(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * BAR_CELLS as f64) as usize;
    format!("{}{} {:>3.0} % ", "█".repeat(full), "░".repeat(BAR_CELLS - full), share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_the_same_length_for_every_share() {
        let cells = |share| bar(share).chars().filter(|c| "█░".contains(*c)).count();
        assert!([0.0, 0.4, 1.0, 7.0, f64::NAN].map(cells).iter().all(|&n| n == BAR_CELLS));
    }
}
