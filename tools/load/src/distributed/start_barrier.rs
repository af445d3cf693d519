//! Runs that start together: each opens its connections and then waits until all others have theirs.
//!
//! The process that starts the runs listens on a Unix socket. Each run connects when it is ready and continues when it receives a
//! byte. A run that ends earlier is not waited for; if the starting process ends, all runs end.

use crate::RunError;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until all other runs are ready too; returns at once without a barrier.
pub fn wait(barrier: Option<&Path>) -> Result<(), RunError> {
    let Some(path) = barrier else { return Ok(()) };
    let read = UnixStream::connect(path).and_then(|mut stream| stream.read(&mut [0]));
    match read.map_err(|e| RunError(format!("--gate: {e}")))? {
        0 => Err(RunError("--gate: the process that started this run has ended".into())),
        _ => Ok(()),
    }
}

#[derive(Debug)]
pub struct StartBarrier {
    listener: UnixListener,
    pub path: PathBuf,
}

impl StartBarrier {
    /// The barrier of that number in this process.
    pub fn new(number: usize) -> Result<Self, RunError> {
        let path = std::env::temp_dir().join(format!("corecast-load-{}-{number}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).map_err(|e| RunError(format!("{}: {e}", path.display())))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Waits until as many runs are ready as still run, which `running` counts, and lets them go; returns their number.
    pub fn release(&self, mut running: impl FnMut() -> usize) -> Result<usize, RunError> {
        let mut waiting = Vec::new();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => waiting.push(stream),
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e.into()),
                Err(_) if waiting.len() >= running() => break,
                Err(_) => sleep(POLL_INTERVAL),
            }
        }
        for stream in &mut waiting {
            // A run that has ended needs no byte.
            let _ = stream.write_all(&[1]);
        }
        Ok(waiting.len())
    }
}

impl Drop for StartBarrier {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn barrier_opens_when_all_running_processes_are_ready() {
        let barrier = StartBarrier::new(77).unwrap();
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    wait(Some(&barrier.path)).unwrap();
                    passed.fetch_add(1, SeqCst);
                });
            }
            // Three run at first; the third ends without reaching the barrier.
            let mut polls = 0;
            let released = barrier.release(|| {
                polls += 1;
                assert_eq!(passed.load(SeqCst), 0);
                if polls < 5 { 3 } else { 2 }
            });
            assert_eq!(released.unwrap(), 2);
        });
        assert_eq!(passed.load(SeqCst), 2);
        assert!(wait(None).is_ok());
    }
}
