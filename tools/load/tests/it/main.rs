//! The load tool as its users see it: the built program against the server of this repository, and against small servers in this
//! process that can also misbehave.

mod chat_and_run_files;
mod interrupts;
mod nodes;
mod processes;
mod pusher;
mod reports;
mod server;
mod sources;
mod subcommands;
mod verdicts;

/// The program under test.
const TOOL: &str = env!("CARGO_BIN_EXE_corecast-load");

impl server::Server {
    fn start(name: &str) -> Self {
        Self::start_with(name, &serde_json::json!({}), &[])
    }
}
