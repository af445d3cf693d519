//! The one reader: every file that the doctor looks at is read here, below a root that is `/` in life and a made tree in
//! tests. Nothing is ever written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file told nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blind {
    /// It does not exist: this kernel, module or device has no such thing, or a container hides it.
    Absent,
    /// It is there and may not be read, or says what cannot be understood.
    Hidden,
}

pub type Seen<T> = Result<T, Blind>;

pub struct Host {
    root: PathBuf,
}

impl Host {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The file without the space around it.
    pub fn text(&self, path: &str) -> Seen<String> {
        let bytes = std::fs::read(self.path(path)).map_err(blind)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file of one number.
    pub fn number(&self, path: &str) -> Seen<u64> {
        self.text(path)?.parse().map_err(|_| Blind::Hidden)
    }

    /// What stands in a folder: `rx-2` before `rx-10`.
    pub fn names(&self, folder: &str) -> Seen<Vec<String>> {
        let entries = std::fs::read_dir(self.path(folder)).map_err(blind)?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        Ok(names)
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The last part of what a link points to, as `virtio2`.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// A setting of `/proc/sys` by its dotted name, its fields apart by one space.
    pub fn sysctl(&self, key: &str) -> Seen<String> {
        let text = self.text(&format!("/proc/sys/{}", key.replace('.', "/")))?;
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Whether a process of that name runs. Where processes of others are hidden, none is seen.
    pub fn runs(&self, name: &str) -> bool {
        let processes = self.names("/proc").unwrap_or_default();
        let mut numbers = processes.iter().filter(|entry| entry.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.any(|number| self.text(&format!("/proc/{number}/comm")).is_ok_and(|comm| comm == name))
    }
}

/// Devices answer questions that do not apply to them with errors of their own; only a refusal is one.
fn blind(error: io::Error) -> Blind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Blind::Hidden,
        _ => Blind::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_everything_is_read() {
        let root = std::env::temp_dir().join(format!("corecast-host-{}", std::process::id()));
        let folder = root.join("proc/sys/net/ipv4");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("tcp_rmem"), "4096\t131072\t6291456\n").expect("a file");
        let host = Host::new(&root);
        assert_eq!(host.sysctl("net.ipv4.tcp_rmem").as_deref(), Ok("4096 131072 6291456"));
        assert_eq!(host.number("/proc/sys/net/ipv4/tcp_rmem"), Err(Blind::Hidden));
        assert_eq!(host.text("/proc/version"), Err(Blind::Absent));
        assert_eq!(host.names("/proc/sys"), Ok(vec!["net".into()]));
        std::fs::remove_dir_all(root).expect("it was made");
    }
}
