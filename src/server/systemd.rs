//! Notifies the service manager (sd_notify(3)) if there is one: `Type=notify` in the unit.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState; // the names of the states and the clock that a reload names; no library of the system is linked

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
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, states) {
        log::warn!("cannot notify the service manager at {}: {error}; the server goes on", socket.display());
    }
}

/// One datagram with a line for each state.
fn send(socket: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    // `sd_notify::notify` takes a name with @ for a path.
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is neither a path nor @name")),
    };
    let mut text = String::new();
    for state in states {
        let _ = writeln!(text, "{state}");
    }
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let read = socket.recv(&mut bytes).expect("a datagram was sent");
        String::from_utf8(bytes[..read].to_vec()).expect("text")
    }

    #[test]
    fn manager_is_notified_at_a_path_and_at_an_abstract_name() {
        let name = format!("corecast-notify-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("it is free");
        send(OsStr::new(&format!("@{name}")), &[NotifyState::Ready, NotifyState::MainPid(7)]).expect("it listens");
        assert_eq!(received(&manager), "READY=1\nMAINPID=7\n");
        let path = std::env::temp_dir().join(&name);
        let manager = UnixDatagram::bind(&path).expect("the path is free");
        send(path.as_os_str(), &[NotifyState::Stopping]).expect("it listens");
        std::fs::remove_file(&path).expect("it was made");
        assert_eq!(received(&manager), "STOPPING=1\n");
        assert!(send(OsStr::new("vsock:2:1"), &[NotifyState::Ready]).is_err());
    }
}
