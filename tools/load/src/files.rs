//! Files that a run writes: complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The mode of a new file; the process's umask applies.
pub const READABLE: u32 = 0o666;
/// The mode of a new file with a secret.
pub const SECRET: u32 = 0o600;

/// Where the text is written before it is renamed. A device or a pipe is written in place: it cannot be replaced.
struct Destination {
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl Destination {
    fn new(path: &Path) -> Self {
        // The file behind a symbolic link is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let is_replaced = fs::metadata(&path).map_or(true, |known| known.is_file());
        let temporary = is_replaced.then(|| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!(".{name}.{}", std::process::id()))
        });
        Self { path, temporary }
    }

    fn open(&self, mode: u32) -> io::Result<File> {
        let Some(temporary) = &self.temporary else { return OpenOptions::new().write(true).open(&self.path) };
        // Of an earlier process with the same number.
        let _ = fs::remove_file(temporary);
        OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)
    }
}

/// Fails if `path` cannot be written. A file that exists stays as it is.
pub fn check(path: &Path) -> io::Result<()> {
    let destination = Destination::new(path);
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    destination.open(READABLE)?;
    destination.temporary.map_or(Ok(()), fs::remove_file)
}

/// Writes a file as a whole: a reader sees the old text or the new one. A file that exists keeps its permissions.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let destination = Destination::new(path);
    let mut file = destination.open(mode)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        let Some(temporary) = &destination.temporary else { return Ok(()) };
        if mode != SECRET
            && let Ok(known) = fs::metadata(&destination.path)
        {
            file.set_permissions(known.permissions())?;
        }
        file.sync_all()?;
        fs::rename(temporary, &destination.path)
    });
    if let (Err(_), Some(temporary)) = (&written, &destination.temporary) {
        let _ = fs::remove_file(temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("corecast-load-files-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn file_is_replaced_as_a_whole_behind_its_link_and_keeps_its_permissions() {
        let folder = folder("replace");
        let (file, link) = (folder.join("a.json"), folder.join("link.json"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        let mut reader = File::open(&file).unwrap();
        check(&link).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old", "a check changes nothing");
        replace(&link, "new", READABLE).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "old", "a reader of the old file keeps it");
        let secret = folder.join("key.pem");
        fs::write(&secret, "").unwrap();
        replace(&secret, "key", SECRET).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "no temporary file remains");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn device_is_written_in_place_and_a_folder_is_rejected() {
        replace(Path::new("/dev/null"), "text", READABLE).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let folder = folder("check");
        assert!(check(&folder).is_err() && check(&folder.join("no/a.json")).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }
}
