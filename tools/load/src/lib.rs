//! A load generator for WebSocket servers: it loads a server, checks every delivery, and reports what the run cost.
//!
//! The library exists for the program `corecast-load` and for the tests of the server under attack and restart (benches); its
//! interface is not stable. The way of a run: `cli` and `args` (command line) → `runs` (one function per subcommand: start workers, set
//! phases, report) → `engine` (workers, event loop) with a scenario from `scenarios` → `report`.

pub mod args;
pub mod cli;
pub mod distributed;
pub mod engine;
pub mod files;
pub mod interrupt;
pub mod measure;
pub mod net;
pub mod protocols;
pub mod report;
pub mod runs;
pub mod scenarios;

/// What ended a run before or during its measurement: wrong usage or a failed system call. The exit code is 2.
#[derive(Debug)]
pub struct RunError(pub String);

impl<E: std::fmt::Display> From<E> for RunError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// The exit code of a program: that of the run, or 2 after printing the error.
pub fn exit_code(program: &str, result: Result<u8, RunError>) -> std::process::ExitCode {
    let code = result.unwrap_or_else(|RunError(text)| {
        eprintln!("{program}: {text}");
        2
    });
    code.into()
}
