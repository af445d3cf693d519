//! The way of the log to stderr: through a bounded ring to a thread of its own, so that a full disk, a closed pipe or one that
//! nobody reads costs lines, which are counted, and never the server's time. Nor does it panic, as `eprintln` would.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use env_logger::{Builder, Env, Target, WriteStyle};

/// Lines that may wait for stderr.
const LINES_MAX: usize = 4096;
/// How long the process waits at its end for a stderr that takes no more.
const END_TIMEOUT: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// To be answered when all before it is written.
    End(Sender<()>),
}

/// The logger's end of the ring.
struct Lines {
    ring: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    /// One record, whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.ring.try_send(Entry::Line(line.to_vec())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until nobody logs any more.
fn write(ring: &Receiver<Entry>, lost: &AtomicU64, mut out: impl Write) {
    while let Ok(entry) = ring.recv() {
        // Whoever took the other end away did not want it.
        let _ = match entry {
            Entry::Line(line) => out.write_all(&line),
            Entry::End(done) => out.flush().map(|()| _ = done.send(())),
        };
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} lines of this log were lost: stderr did not take them in time");
        }
    }
}

/// The log from here on; `CORECAST_LOG` chooses what.
pub struct Log {
    ring: SyncSender<Entry>,
}

impl Log {
    pub fn start() -> Self {
        let (ring, lines) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread = std::thread::Builder::new().name("log".into());
        let started = thread.spawn(move || write(&lines, &counted, io::stderr()));
        let plain = std::env::var_os("NO_COLOR").is_some() || !io::stderr().is_terminal();
        let mut builder = Builder::from_env(Env::new().filter_or("CORECAST_LOG", "info"));
        // Without a thread to spare lines go the old way.
        if started.is_ok() {
            builder.write_style(if plain { WriteStyle::Never } else { WriteStyle::Always });
            builder.target(Target::Pipe(Box::new(Lines { ring: ring.clone(), lost })));
        }
        builder.init();
        Self { ring }
    }

    /// Waits until what was logged is written, within a bound.
    pub fn end(self) {
        let (done, written) = channel();
        if self.ring.try_send(Entry::End(done)).is_ok() {
            let _ = written.recv_timeout(END_TIMEOUT);
        }
    }
}

/// A last word on stderr, if it takes one.
pub fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_no_room_are_counted_and_said() {
        let (ring, lines) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut logger = Lines { ring: ring.clone(), lost: Arc::clone(&lost) };
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            logger.write_all(line.as_bytes()).unwrap();
        }
        drop((logger, ring));
        let mut out = Vec::new();
        write(&lines, &lost, &mut out);
        let said = "one\n2 lines of this log were lost: stderr did not take them in time\ntwo\n";
        assert_eq!(String::from_utf8(out).unwrap(), said);
    }
}
