//! `report` and `compare`: the commands that read saved runs.

use super::saved_run::SavedRun;
use super::{compare, page, table};
use crate::{RunError, files};
use clap::Args;

#[derive(Debug, Args)]
pub struct Report {
    /// A run that --out wrote
    pub run: String,
    /// Write an HTML page; by default the table is printed
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// A run that --out wrote, or several of one kind with commas between them: then medians are compared
    #[arg(value_name = "A.json[,A2.json…]")]
    pub a: String,
    /// The other side, likewise
    #[arg(value_name = "B.json[,B2.json…]")]
    pub b: String,
    /// Write an HTML page too
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Shows a saved run; the exit code is that of the run.
pub fn report(args: &Report) -> Result<u8, RunError> {
    let run = SavedRun::load(&args.run)?;
    match &args.html {
        Some(path) => write(path, &page::page(&run.value))?,
        None => print!("{}", table::table(&run.value)),
    }
    Ok(u8::from(!run.texts("void").is_empty()))
}

/// Compares two sides; the exit code is 1 if a run on either side is void.
pub fn compare(args: &Compare) -> Result<u8, RunError> {
    let side = |list: &str| list.split(',').map(SavedRun::load).collect::<Result<Vec<_>, _>>();
    let found = compare::Comparison::new(side(&args.a)?, side(&args.b)?);
    if args.json {
        println!("{}", found.json());
    } else {
        print!("{}", found.table());
    }
    if let Some(path) = &args.html {
        write(path, &page::comparison(&found))?;
    }
    Ok(u8::from(found.is_void()))
}

fn write(path: &str, text: &str) -> Result<(), RunError> {
    files::replace(path.as_ref(), text, files::READABLE)
        .map_err(|e| RunError(format!("{path} could not be written: {e}")))
}
