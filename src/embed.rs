//! The message server in a program of your own, with hooks that decide about its clients' subscriptions and publications.
//!
//! ```no_run
//! use corecast::embed::{Denied, HookClient, Hooks, MessageServer, load_text};
//!
//! struct MembersOnly;
//!
//! impl Hooks for MembersOnly {
//!     fn authorize_subscribe(&self, client: &HookClient<'_>, _channel: &str) -> Result<(), Denied> {
//!         if client.user.is_empty() { Err(Denied) } else { Ok(()) }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = || load_text("dev = true", std::env::vars());
//! MessageServer::new(settings)?.hooks(MembersOnly).run()?;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

use std::sync::Arc;

pub use crate::config::{Config, ConfigErrors, load, load_text};
pub use crate::messaging::{Denied, HookClient, Hooks, PublishDecision};
pub use crate::server::{Ended, StartError};

use crate::server::{self, Load};

/// A message server that is not started yet.
pub struct MessageServer {
    config: Config,
    load: Load,
    hooks: Option<Arc<dyn Hooks>>,
}

impl MessageServer {
    /// A server with the settings that `load` returns: those of [`load_text`] or [`load`]. It is called now, and again at each
    /// SIGHUP. Its warnings go to the log.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the settings.
    pub fn new(load: impl Fn() -> Result<(Config, Vec<String>), ConfigErrors> + 'static) -> Result<Self, ConfigErrors> {
        let (config, warnings) = load()?;
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        Ok(Self { config, load: Box::new(load), hooks: None })
    }

    /// Asks these hooks about subscriptions and publications of clients. They stay when the settings are reloaded.
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Runs the server until SIGTERM or SIGINT ends it.
    ///
    /// A process runs one server, since this handles the process's signals and raises its limit of open files. The calling
    /// thread becomes the control thread. What the server logs goes to the logger of the `log` crate that the program has installed.
    ///
    /// # Errors
    ///
    /// Why the server cannot start, with the setting to change. No client was accepted.
    pub fn run(self) -> Result<Ended, StartError> {
        server::run(self.config, self.load, self.hooks)
    }
}
