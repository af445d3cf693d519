//! Ctrl-C: the first one ends the load, so that the run ends with a report on what there is; the second one ends the process.

use crate::RunError;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// The exit code of a process that SIGINT ends, as shells report it.
const ABORTED: i32 = 130;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on, the first SIGINT sets a flag.
pub fn listen() -> Result<(), RunError> {
    let interrupted = INTERRUPTED.get_or_init(Arc::default);
    // The order counts: at the second signal, the flag is set when this is carried out.
    flag::register_conditional_shutdown(SIGINT, ABORTED, interrupted.clone())?;
    flag::register(SIGINT, interrupted.clone())?;
    Ok(())
}

/// Whether the load must end.
pub fn is_set() -> bool {
    INTERRUPTED.get().is_some_and(|interrupted| interrupted.load(Relaxed))
}
