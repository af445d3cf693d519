//! What the service manager is told (sd_notify(3)), where one listens: `Type=notify` in the unit.

use sd_notify::NotifyState; // a datagram in a dozen lines, kept and permissive: no library of the system is linked

/// Clients are let in. After a handover the process that was told of before is another.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
}

/// The settings are read again; `ready` says that it is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// No new clients.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
