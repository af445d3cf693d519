//! The log on stderr, written by a thread of its own behind a bounded queue. A full disk, a closed pipe or a pipe without a reader
//! costs log lines, which are counted, and never blocks the server. It does not panic either, as `eprintln` would.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use env_logger::fmt::Formatter;
use env_logger::fmt::style::AnsiColor;
use env_logger::{Builder, Target, WriteStyle};
use log::{LevelFilter, Record};

use super::date::date;

/// Lines that may wait for stderr.
const LINES_MAX: usize = 4096;
/// Time that the process waits at its end for a blocked stderr.
const END_TIMEOUT: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Answered when every entry before it is written.
    End(Sender<()>),
}

/// The logger's end of the queue.
struct Lines {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    /// One whole record.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Entry::Line(line.to_vec())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until every logger is dropped.
fn write(queue: &Receiver<Entry>, lost: &AtomicU64, mut out: impl Write) {
    while let Ok(entry) = queue.recv() {
        // If stderr is closed, the line is lost.
        let _ = match entry {
            Entry::Line(line) => out.write_all(&line),
            Entry::End(done) => out.flush().map(|()| _ = done.send(())),
        };
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} log lines were lost: stderr did not accept them in time");
        }
    }
}

/// A line: `[2026-11-28T20:00:34Z INFO  corecast::server] text`. Further lines of the text are indented.
fn format(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (level, brackets) = (out.default_level_style(record.level()), AnsiColor::BrightBlack.on_default());
    write!(out, "{brackets}[{brackets:#}{} ", date(now).unwrap_or_default())?;
    write!(out, "{level}{:<5}{level:#} {}{brackets}]{brackets:#} ", record.level(), record.target())?;
    writeln!(out, "{}", record.args().to_string().replace('\n', "\n    "))
}

/// The levels by target, of a text such as `info,corecast::server=debug`. Errors: what is wrong, with the levels.
fn levels(text: &str) -> Result<Vec<(Option<&str>, LevelFilter)>, String> {
    let mut levels = Vec::new();
    // `docker run --env-file` keeps quotes.
    let text = text.trim().trim_matches(['"', '\'']);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) = part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        let filter = match level.to_ascii_lowercase().as_str() {
            // `none` is the original's word.
            "off" | "none" => Some(LevelFilter::Off),
            level => level.parse().ok(),
        };
        match filter.filter(|_| target.is_none_or(|target| !target.is_empty())) {
            Some(filter) => levels.push((target, filter)),
            None => {
                return Err(format!(
                    "CORECAST_LOG: \"{part}\" is not a log level; write one of off, error, warn, info, debug, trace, or a \
                     level for a module after it, such as info,corecast::server=debug (lines of the log are text only)"
                ));
            }
        }
    }
    Ok(levels)
}

/// The running log; `CORECAST_LOG` sets its level.
pub struct Log {
    queue: SyncSender<Entry>,
}

impl Log {
    /// Errors: `CORECAST_LOG` is no level.
    pub fn start() -> Result<Self, String> {
        let wanted = std::env::var_os("CORECAST_LOG").unwrap_or_default();
        let wanted = wanted.to_string_lossy();
        let levels = levels(&wanted)?;
        let (queue, lines) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread = std::thread::Builder::new().name("log".into());
        let started = thread.spawn(move || write(&lines, &counted, io::stderr()));
        let plain = std::env::var_os("NO_COLOR").is_some() || !io::stderr().is_terminal();
        let mut builder = Builder::new();
        builder.filter_level(LevelFilter::Info);
        for (target, level) in levels {
            builder.filter(target, level);
        }
        // Without the thread, the logger writes to stderr itself.
        if started.is_ok() {
            builder.write_style(if plain { WriteStyle::Never } else { WriteStyle::Always });
            builder.target(Target::Pipe(Box::new(Lines { queue: queue.clone(), lost })));
        }
        builder.format(format);
        builder.init();
        Ok(Self { queue })
    }

    /// Waits until every line is written, for a bounded time.
    pub fn end(self) {
        let (done, written) = channel();
        if self.queue.try_send(Entry::End(done)).is_ok() {
            let _ = written.recv_timeout(END_TIMEOUT);
        }
    }
}

/// Writes a line to stderr. A closed stderr is ignored.
pub fn report(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_alone_or_after_a_module() {
        use LevelFilter::{Debug, Info, Off, Warn};
        assert_eq!(levels("").unwrap(), []);
        assert_eq!(levels("WARN").unwrap(), [(None, Warn)]);
        assert_eq!(
            levels(" info, corecast::server=debug,").unwrap(),
            [(None, Info), (Some("corecast::server"), Debug)]
        );
        assert_eq!(levels("\"debug\"\n").unwrap(), [(None, Debug)]);
        assert_eq!(levels("none").unwrap(), [(None, Off)]);
        for text in ["verbose", "json", "5", "corecast", "=info", "a=b=info"] {
            assert!(levels(text).unwrap_err().contains("off, error, warn, info, debug, trace"), "{text}");
        }
    }

    #[test]
    fn lost_lines_are_counted_and_reported() {
        let (queue, lines) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut logger = Lines { queue: queue.clone(), lost: Arc::clone(&lost) };
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            logger.write_all(line.as_bytes()).unwrap();
        }
        drop((logger, queue));
        let mut out = Vec::new();
        write(&lines, &lost, &mut out);
        let expected = "one\n2 log lines were lost: stderr did not accept them in time\ntwo\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
