//! Runs that begin together: each opens its connections and waits at the gate until all the others have theirs.
//!
//! Plan: the one who starts them listens on a socket in the file system; each run connects when it is ready and goes on when a
//! byte comes. One that ends before is waited for no longer; where the starter dies, all end.

use crate::runs::Refusal;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Time between two looks at who is waiting.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until all others are ready too; at once if there is no gate.
pub fn pass(gate: Option<&Path>) -> Result<(), Refusal> {
    let Some(path) = gate else { return Ok(()) };
    let mut stream = UnixStream::connect(path).map_err(|e| Refusal(format!("--gate: {e}")))?;
    match stream.read(&mut [0]) {
        Ok(0) => Err(Refusal("--gate: whoever began this run has gone".into())),
        Ok(_) => Ok(()),
        Err(e) => Err(Refusal(format!("--gate: {e}"))),
    }
}

#[derive(Debug)]
pub struct Gate {
    listener: UnixListener,
    pub path: PathBuf,
}

impl Gate {
    /// A gate of that number in this process.
    pub fn new(number: usize) -> Result<Self, Refusal> {
        let path = std::env::temp_dir().join(format!("corecast-load-{}-{number}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).map_err(|e| Refusal(format!("{}: {e}", path.display())))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Waits until as many have come as are still running, which `running` counts, and lets them go; gives how many they were.
    pub fn release(&self, mut running: impl FnMut() -> usize) -> Result<usize, Refusal> {
        let mut waiting = Vec::new();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => waiting.push(stream),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if waiting.len() >= running() {
                        break;
                    }
                    sleep(LOOK);
                }
                Err(e) => return Err(e.into()),
            }
        }
        for stream in &mut waiting {
            // One that has gone meanwhile needs no word.
            let _ = stream.write_all(&[1]);
        }
        Ok(waiting.len())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn nobody_passes_before_the_last_one_is_there_and_one_that_ended_is_not_waited_for() {
        let gate = Gate::new(77).unwrap();
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    pass(Some(&gate.path)).unwrap();
                    passed.fetch_add(1, SeqCst);
                });
            }
            // Three run at first; the third ends without having come.
            let mut looks = 0;
            let released = gate.release(|| {
                looks += 1;
                assert_eq!(passed.load(SeqCst), 0);
                if looks < 5 { 3 } else { 2 }
            });
            assert_eq!(released.unwrap(), 2);
        });
        assert_eq!(passed.load(SeqCst), 2);
        assert!(pass(None).is_ok());
    }
}
