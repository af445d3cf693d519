//! Notifies the service manager (sd_notify(3)) if there is one: `Type=notify` in the unit.

use sd_notify::NotifyState; // a datagram in a dozen lines, kept and permissive: no library of the system is linked

/// Clients are accepted. After a handover the main process is another one, so its id is sent too.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
}

/// A reload has begun; `ready` ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The shutdown has begun.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot notify the service manager: {error}; the server goes on");
    }
}
