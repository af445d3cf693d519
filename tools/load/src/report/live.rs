//! What a run shows of itself on stderr while it goes on: a view that is drawn anew in place, or a plain line a second.
//!
//! Plan: the view is a block of lines below the cursor; each drawing goes up to its first line and writes over it, in one write.
//! When a phase ends, one line says how it went, and the next phase's block begins under it.
//! Invariant: the terminal is never put into another mode, no cursor is hidden, and the cursor rests below the block: so there is
//! nothing to restore, however the run ends.

use crate::engine::clock::{SECOND, now};
use crate::engine::counters::Tally;
use crate::measure::latency_series::{Counts, quantile};
use crate::report::human;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Write};

/// Seconds that a sparkline goes back.
const SPARK_SECONDS: usize = 60;
/// Nanoseconds between two drawings of the view.
const REDRAW: u64 = SECOND / 5;
const BAR_CELLS: usize = 30;
const WIDTH_DEFAULT: usize = 80;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Silent,
    /// One line a second.
    Lines,
    /// Drawn in place.
    Live,
}

impl Mode {
    /// What fits where stderr goes.
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
    pub tally: &'a Tally,
    /// How much of the phase is done, where that can be known.
    pub share: Option<f64>,
    /// The last whole second's latencies.
    pub latency: Option<&'a Counts>,
    pub errors: &'a BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub struct View {
    mode: Mode,
    what: &'static str,
    /// When the first phase and this one began.
    begun: u64,
    entered: u64,
    /// When the next second is over, and when the view is next drawn.
    next: u64,
    redraw: u64,
    last: Tally,
    last_at: u64,
    /// Messages per second in and out, and the latencies in microseconds, of the last second.
    rates: [f64; 2],
    times: Option<[f64; 3]>,
    throughput: VecDeque<f64>,
    p99: VecDeque<f64>,
    /// Lines of the block that stands on the screen.
    drawn: usize,
}

impl View {
    pub fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    pub fn enter(&mut self, what: &'static str) {
        (self.what, self.entered) = (what, now());
    }

    /// Whether there is something new to show.
    pub fn is_due(&self, at: u64) -> bool {
        match self.mode {
            Mode::Silent => false,
            Mode::Lines => at >= self.next,
            Mode::Live => at >= self.redraw,
        }
    }

    pub fn draw(&mut self, state: &State) {
        let at = state.at;
        if self.begun == 0 {
            (self.begun, self.next, self.last_at, self.last) = (at, at + SECOND, at, *state.tally);
        }
        if at >= self.next {
            self.second(state);
            if self.mode == Mode::Lines {
                let _ = writeln!(io::stderr(), "{}", self.line(state));
            }
        }
        if self.mode == Mode::Live {
            self.redraw = at + REDRAW;
            let lines = self.block(state);
            self.put(&lines, width());
        }
    }

    /// Takes in the second that is over.
    fn second(&mut self, state: &State) {
        let seconds = (state.at - self.last_at) as f64 / SECOND as f64;
        let delta = state.tally.since(&self.last);
        self.rates = [delta.received, delta.sent].map(|n| n as f64 / seconds);
        let micros = |counts, q| quantile(counts, q).map(|nanos| nanos as f64 / 1e3);
        let times = |counts| Some([micros(counts, 0.5)?, micros(counts, 0.99)?, micros(counts, 1.0)?]);
        self.times = state.latency.and_then(times);
        // Where nothing is sent or delivered, what happens is that connections come.
        let rate = if delta.received + delta.sent > 0 { delta.received } else { delta.ready } as f64 / seconds;
        for (row, value) in [(&mut self.throughput, rate), (&mut self.p99, self.times.map_or(0.0, |times| times[1]))] {
            row.push_back(value);
            row.drain(..row.len().saturating_sub(SPARK_SECONDS));
        }
        (self.next, self.last_at, self.last) = (state.at + SECOND, state.at, *state.tally);
    }

    fn line(&self, state: &State) -> String {
        let tally = state.tally;
        let mut line = format!("{:>4} s  {:<8} {} open", (state.at - self.begun) / SECOND, self.what, tally.open());
        if self.rates != [0.0; 2] {
            line += &format!(", {:.0}/s in, {:.0}/s out", self.rates[0], self.rates[1]);
        }
        if let Some([p50, p99, _]) = self.times {
            line += &format!(", p50 {} µs, p99 {} µs", human(p50), human(p99));
        }
        for (name, n) in faults(tally) {
            line += &format!(", {n} {name}");
        }
        line
    }

    fn block(&self, state: &State) -> Vec<String> {
        let seconds = (state.at - self.entered) as f64 / SECOND as f64;
        let bar = state.share.map_or_else(String::new, bar);
        let mut lines = vec![format!("{:<12}{bar}{seconds:.0} s", self.what)];
        let [received, sent] = self.rates.map(human);
        lines.push(format!("{:<12}{} open   {received}/s in   {sent}/s out", "now", human(state.tally.open() as f64)));
        if let Some(times) = self.times {
            let [p50, p99, max] = times.map(human);
            lines.push(format!("{:<12}p50 {p50}   p99 {p99}   max {max} µs", "latency"));
        }
        if !self.throughput.is_empty() {
            lines.push(format!("{:<12}{}", "per second", sparkline(&self.throughput)));
        }
        if self.p99.iter().any(|&value| value > 0.0) {
            lines.push(format!("{:<12}{} µs", "p99", sparkline(&self.p99)));
        }
        let mut errors: Vec<_> = faults(state.tally).map(|(name, n)| format!("{n} {name}")).collect();
        errors.extend(state.errors.iter().map(|(why, n)| format!("{n} × {why}")));
        if !errors.is_empty() {
            lines.push(format!("{:<12}{}", "errors", errors.join("   ")));
        }
        lines
    }

    /// Ends the phase: what is left of its block is one line.
    pub fn leave(&mut self, tally: &Tally) {
        if self.mode != Mode::Live {
            return;
        }
        let seconds = (now() - self.entered) as f64 / SECOND as f64;
        let faults: String = faults(tally).map(|(name, n)| format!(", {n} {name}")).collect();
        let line = format!("{:<12}{seconds:.1} s, {} open{faults}", self.what, human(tally.open() as f64));
        self.put(&[line], width());
        (self.drawn, self.redraw) = (0, 0);
    }

    fn put(&mut self, lines: &[String], width: usize) {
        let text = frame(lines, self.drawn, width);
        self.drawn = lines.len();
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

fn faults(tally: &Tally) -> impl Iterator<Item = (&'static str, u64)> {
    let named = [("failed", tally.failed), ("closed", tally.closed), ("faults", tally.faults)];
    named.into_iter().filter(|(_, n)| *n > 0)
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if size == 0 { WIDTH_DEFAULT } else { size }
}

/// Lines in place of `before` lines above the cursor; none is longer than the screen is wide, since a broken line would count
/// twice on the way back up.
fn frame(lines: &[String], before: usize, width: usize) -> String {
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

/// From nothing to the highest of them in eight steps.
fn sparkline(values: &VecDeque<f64>) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().fold(0.0, |a: f64, &b| a.max(b));
    let step = |&value: &f64| STEPS[((value / most.max(f64::MIN_POSITIVE) * 7.0).round() as usize).min(7)];
    let line: String = values.iter().map(step).collect();
    format!("{line}  {} (most {})", human(values.back().copied().unwrap_or(0.0)), human(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_spans_its_values() {
        let values: VecDeque<f64> = [0.0, 50.0, 100.0].into();
        assert_eq!(sparkline(&values), "▁▅█  100 (most 100)");
        assert_eq!(sparkline(&[0.0].into()), "▁  0 (most 0)");
    }

    #[test]
    fn a_frame_goes_up_as_far_as_it_came_down_and_breaks_no_line() {
        let lines = ["abcdefgh".to_string(), "x".into()];
        assert_eq!(frame(&lines, 0, 5), "\rabcd\x1b[K\nx\x1b[K\n\x1b[J");
        assert!(frame(&lines, 2, 80).starts_with("\r\x1b[2Aabcdefgh\x1b[K\n"));
    }

    #[test]
    fn a_bar_is_as_long_at_any_share() {
        let cells = |share| bar(share).chars().filter(|c| "█░".contains(*c)).count();
        assert!([0.0, 0.4, 1.0, 7.0, f64::NAN].map(cells).iter().all(|&n| n == BAR_CELLS));
    }
}
