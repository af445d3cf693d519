//! `report` and `compare`: the commands that read saved runs.

use super::saved_run::Run;
use super::{compare, compare_page, page};
use crate::runs::Refusal;
use clap::Args;

#[derive(Debug, Args)]
pub struct Report {
    /// A run that --out wrote
    pub run: String,
    /// Write the page here; without it the table is printed
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// A run that --out wrote, or several of one kind with commas between: then medians are compared
    #[arg(value_name = "A.json[,A2.json…]")]
    pub a: String,
    /// What it is compared with, likewise
    #[arg(value_name = "B.json[,B2.json…]")]
    pub b: String,
    /// Write a page here as well
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Shows a saved run anew; the exit code is the run's.
pub fn report(args: &Report) -> Result<u8, Refusal> {
    let run = Run::load(&args.run).map_err(Refusal)?;
    match &args.html {
        Some(path) => write(path, &page::page(&run.value))?,
        None => print!("{}", super::table::table(&run.value)),
    }
    Ok(u8::from(!run.texts("void").is_empty()))
}

/// Shows two sides beside each other; 1 if a run on either is void.
pub fn compare(args: &Compare) -> Result<u8, Refusal> {
    let side = |list: &str| list.split(',').map(Run::load).collect::<Result<Vec<_>, _>>().map_err(Refusal);
    let found = compare::Comparison::new(side(&args.a)?, side(&args.b)?);
    if args.json {
        println!("{}", found.json());
    } else {
        print!("{}", found.table());
    }
    if let Some(path) = &args.html {
        write(path, &compare_page::page(&found))?;
    }
    Ok(u8::from(found.void()))
}

fn write(path: &str, text: &str) -> Result<(), Refusal> {
    std::fs::write(path, text).map_err(|e| Refusal(format!("{path} could not be written: {e}")))
}
