//! The log on stderr, written by a thread of its own behind a bounded queue. A full disk, a closed pipe or a pipe without a reader
//! costs log lines, which are counted, and never blocks the server. It does not panic either, as `eprintln` would.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use env_logger::{Builder, Env, Target, WriteStyle};

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

/// The running log; `CORECAST_LOG` sets its level.
pub struct Log {
    queue: SyncSender<Entry>,
}

impl Log {
    pub fn start() -> Self {
        let (queue, lines) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread = std::thread::Builder::new().name("log".into());
        let started = thread.spawn(move || write(&lines, &counted, io::stderr()));
        let plain = std::env::var_os("NO_COLOR").is_some() || !io::stderr().is_terminal();
        let mut builder = Builder::from_env(Env::new().filter_or("CORECAST_LOG", "info"));
        // Without the thread, the logger writes to stderr itself.
        if started.is_ok() {
            builder.write_style(if plain { WriteStyle::Never } else { WriteStyle::Always });
            builder.target(Target::Pipe(Box::new(Lines { queue: queue.clone(), lost })));
        }
        builder.init();
        Self { queue }
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
