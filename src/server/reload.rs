//! SIGHUP: the settings are read again from their sources, and changes apply from then on.
//!
//! A reload applies everything or nothing: if anything is wrong, in the settings or in a file that they name, nothing
//! changes. Connections keep what they were granted; the next command, publication or connection gets the new settings.
//! The log names the changes that need a restart.

use std::cell::{Ref, RefCell};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::backend_calls::BackendAccess;
use super::memory_watch::MemoryWatch;
use super::shard_client::ShardClient;
use super::systemd;
use super::tls_files::Tls;
use crate::admin;
use crate::admin::process_stats::ProcessStats;
use crate::config::{self, Changes, Config, ConfigErrors};
use crate::engine::Admission;
use crate::engine::config::EngineConfig;
use crate::messaging::Settings;

/// Reads the settings from their sources, as at the start.
pub type Load = Box<dyn Fn() -> Result<(Config, Vec<String>), ConfigErrors>>;

/// What a reload reads and what it updates.
pub(crate) struct Reload {
    pub load: Load,
    pub shards: ShardClient,
    pub stats: Arc<ProcessStats>,
    pub running: RefCell<Running>,
    pub control: watch::Sender<Arc<admin::Settings>>,
    pub admission: Arc<Admission>,
    pub memory: MemoryWatch,
}

/// The settings in force.
pub(crate) struct Running {
    pub config: Config,
    /// Those of the start. The log names a change that needs a restart as long as it differs from these.
    pub started: Config,
    pub backends: BackendAccess,
    pub messaging: Arc<Settings>,
    pub limits: Arc<EngineConfig>,
    pub tls: Option<Tls>,
}

/// Whether a reload has read certificates and keys again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsFiles {
    ReadAgain,
    NotInUse,
}

impl Reload {
    /// Reloads at each signal and never returns. Signals that arrive during a reload count as one.
    pub(crate) async fn run(&self, mut hangup: Signal) {
        self.stats.read_at_unix_s.store(unix_s(), Ordering::Relaxed);
        while hangup.recv().await.is_some() {
            systemd::reloading();
            match self.reload().await {
                Ok(()) => {
                    self.stats.reloads_applied.fetch_add(1, Ordering::Relaxed);
                    self.stats.read_at_unix_s.store(unix_s(), Ordering::Relaxed);
                    self.stats.reload_failed.store(false, Ordering::Relaxed);
                }
                Err(why) => {
                    self.stats.reloads_refused.fetch_add(1, Ordering::Relaxed);
                    self.stats.reload_failed.store(true, Ordering::Relaxed);
                    why.lines().for_each(|line| log::error!("{line}"));
                    log::error!("SIGHUP: reload rejected for the errors above; the server keeps its settings");
                }
            }
            systemd::ready();
        }
        // The signal handler is gone, and with it the source of reloads.
        std::future::pending().await
    }

    pub(crate) fn config(&self) -> Ref<'_, Config> {
        Ref::map(self.running.borrow(), |running| &running.config)
    }

    /// Errors: why nothing was changed, a line for each reason.
    async fn reload(&self) -> Result<(), String> {
        let (mut config, remarks) = (self.load)().map_err(text)?;
        let changes = self.compare(&mut config)?;
        // What can fail comes first, the certificates last of it, so that the reload applies everything or nothing.
        let backends = self.running.borrow().backends.reloaded(&config).map_err(text)?;
        let tls = match (&mut self.running.borrow_mut().tls, config.tls.cert_pem_file.is_empty()) {
            (Some(tls), false) => Some(tls.reload(&config.tls).map_err(text)?),
            _ => None,
        };
        let limits = config::engine_config(&config);
        let limits = Arc::new(self.running.borrow().limits.reloaded(&limits));
        let messaging = Arc::new(self.running.borrow().messaging.reloaded(&config, backends.sender()));
        remarks.iter().for_each(|remark| log::warn!("{remark}"));
        self.admission.limit_addresses(&limits);
        self.memory.set(&config);
        self.shards.send_settings(&messaging, &limits).await;
        if let Some(tls) = &tls {
            self.shards.send_tls(tls);
        }
        let control = self.control.borrow().reloaded(&config, backends.backend());
        self.control.send_replace(Arc::new(control));
        // Only now: the shards drop keys of an endpoint that their settings do not name.
        backends.start_key_fetches(&self.shards);
        log_changes(&changes, if tls.is_some() { TlsFiles::ReadAgain } else { TlsFiles::NotInUse });
        let mut running = self.running.borrow_mut();
        (running.config, running.messaging, running.limits, running.backends) = (config, messaging, limits, backends);
        Ok(())
    }

    /// The differences to the settings in force. Errors: a reload cannot apply these settings at all.
    fn compare(&self, config: &mut Config) -> Result<Changes, String> {
        let Running { config: current, started, .. } = &*self.running.borrow();
        // Defaults depend on it, such as the permission to connect.
        if current.dev != config.dev {
            return Err(format!("dev ({} -> {}) needs a restart", current.dev, config.dev));
        }
        if current.http_api.key_generated && config.http_api.key_generated {
            config.http_api.key.clone_from(&current.http_api.key);
        }
        let live = config::changes(current, config).live;
        Ok(Changes { live, at_start: config::changes(started, config).at_start })
    }
}

/// An error with its fix, each on a line of its own.
fn text(error: impl Display) -> String {
    error.to_string()
}

/// The names of the changed settings, with their values unless those are secret.
fn log_changes(changes: &Changes, tls_files: TlsFiles) {
    let Changes { live, at_start } = changes;
    let tls_files = match tls_files {
        TlsFiles::ReadAgain => "; certificates and keys were read again",
        TlsFiles::NotInUse => "",
    };
    match live.is_empty() {
        true => log::info!("SIGHUP: no setting that a reload can change has changed{tls_files}"),
        false => log::info!("SIGHUP: applied {}{tls_files}", live.join(", ")),
    }
    if !at_start.is_empty() {
        log::warn!("SIGHUP: not applied, since these need a restart: {}", at_start.join(", "));
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
