//! `corecast store`: the durable log of a directory. Results go to stdout; those of `dump` and `export` are JSON lines.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use corecast::server::store::{self, StoreError};

pub const HELP: &str = "\
Examples:
  corecast store check /var/lib/corecast             list corrupt files and torn batches
  corecast store export /var/lib/corecast > all.jsonl
  corecast store import /var/lib/corecast-new < all.jsonl

`check`, `dump` and `export` only read, and say so if a server uses the directory. `import` needs the
directory for itself; publications get new offsets, and keep their times.

Exit codes: 0 success, 1 `check` has found something, or an error, 2 wrong arguments.";

#[derive(Subcommand, Debug)]
pub enum StoreTask {
    /// Read every file, and list what is corrupt or torn; exits 1 if something is
    Check {
        /// One of `durable.data_dirs`
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print every record of the files, expired ones too, without its data
    Dump {
        /// One of `durable.data_dirs`
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print every publication of the histories, by time
    Export {
        /// One of `durable.data_dirs`
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Publish the lines of an export, which come on stdin
    Import {
        /// A new directory, or one of `durable.data_dirs` that no server uses
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// True: nothing is wrong. Notes go to stderr.
pub fn run(task: &StoreTask) -> Result<bool, StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = BufWriter::new(io::stdout().lock());
    let is_sound = match task {
        StoreTask::Check { directory } => {
            note_lock(directory)?;
            store::check(directory, &mut out)?
        }
        StoreTask::Dump { directory } => {
            note_lock(directory)?;
            store::dump(directory, &mut out).map(|()| true)?
        }
        StoreTask::Export { directory } => {
            note_lock(directory)?;
            store::export(directory, now.as_millis() as u64, &mut out).map(|()| true)?
        }
        StoreTask::Import { directory } => {
            let count = store::import(directory, &mut io::stdin().lock(), now.as_nanos() as u64)?;
            writeln!(out, "{count} publications imported")?;
            true
        }
    };
    out.flush()?;
    Ok(is_sound)
}

/// Says on stderr that a server uses the directory, if one does.
fn note_lock(directory: &Path) -> Result<(), StoreError> {
    if let Some(note) = store::lock_note(directory)? {
        super::log::report(format_args!("note: {note}"));
    }
    Ok(())
}
