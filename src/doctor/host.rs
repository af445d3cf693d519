//! Reads the files of the host, below a root that is `/` in use and a made tree in tests. All reads of the doctor are here, and
//! nothing is ever written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    /// It does not exist: this kernel, module or device lacks it, or a container hides it.
    Absent,
    /// It exists but must not be read, or its content is not understood.
    Denied,
}

pub(crate) type Reading<T> = Result<T, Unreadable>;

pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of the file without the surrounding space.
    pub(crate) fn text(&self, path: &str) -> Reading<String> {
        let bytes = std::fs::read(self.path(path)).map_err(unreadable)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file with one number.
    pub(crate) fn number(&self, path: &str) -> Reading<u64> {
        self.text(path)?.parse().map_err(|_| Unreadable::Denied)
    }

    /// The entries of a folder: `rx-2` before `rx-10`.
    pub(crate) fn names(&self, folder: &str) -> Reading<Vec<String>> {
        let entries = std::fs::read_dir(self.path(folder)).map_err(unreadable)?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        Ok(names)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The last part of what a link points to, as `virtio2`.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// A setting of `/proc/sys` by its dotted name, with one space between its fields.
    pub(crate) fn sysctl(&self, key: &str) -> Reading<String> {
        let text = self.text(&format!("/proc/sys/{}", key.replace('.', "/")))?;
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Whether a process with this name runs. False if the processes of other users are hidden.
    pub(crate) fn runs(&self, name: &str) -> bool {
        let processes = self.names("/proc").unwrap_or_default();
        let mut numbers = processes.iter().filter(|entry| entry.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.any(|number| self.text(&format!("/proc/{number}/comm")).is_ok_and(|comm| comm == name))
    }
}

/// Devices return errors of their own for files that do not apply to them; only a denied permission counts as an error.
fn unreadable(error: io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Unreadable::Denied,
        _ => Unreadable::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_below_the_root() {
        let root = std::env::temp_dir().join(format!("corecast-host-{}", std::process::id()));
        let folder = root.join("proc/sys/net/ipv4");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("tcp_rmem"), "4096\t131072\t6291456\n").expect("a file");
        let host = Host::new(&root);
        assert_eq!(host.sysctl("net.ipv4.tcp_rmem").as_deref(), Ok("4096 131072 6291456"));
        assert_eq!(host.number("/proc/sys/net/ipv4/tcp_rmem"), Err(Unreadable::Denied));
        assert_eq!(host.text("/proc/version"), Err(Unreadable::Absent));
        assert_eq!(host.names("/proc/sys"), Ok(vec!["net".into()]));
        std::fs::remove_dir_all(root).expect("the folder exists");
    }
}
