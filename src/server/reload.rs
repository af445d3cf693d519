//! SIGHUP: the settings are read again from where they came from, and what is different holds from then on.
//!
//! All or nothing: where anything is wrong, in the settings or in a file that they name, everything stays as it was. Whoever
//! is connected keeps what he was granted; the next command, publication or connection is judged by what is new. What only
//! a start can change is named in the log.

use std::cell::{Ref, RefCell};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::backend_calls::Desk;
use super::memory_watch::Watch;
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

/// What a reload replaces, and whom it tells.
pub struct Reload {
    pub load: Load,
    pub shards: ShardClient,
    pub life: Arc<ProcessStats>,
    pub running: RefCell<Running>,
    pub control: watch::Sender<Arc<admin::Settings>>,
    pub door: Arc<Admission>,
    pub memory: Watch,
}

/// What holds now.
pub struct Running {
    pub config: Config,
    /// Of the start: what needs a restart is said as long as it is different from this.
    pub started: Config,
    pub desk: Desk,
    pub node: Arc<Settings>,
    pub limits: Arc<EngineConfig>,
    pub tls: Option<Tls>,
}

impl Reload {
    /// Reloads at each signal, for ever. Signals that come while one is handled are one.
    pub async fn run(&self, mut hup: Signal) {
        self.life.read_at_unix_s.store(unix_s(), Ordering::Relaxed);
        while hup.recv().await.is_some() {
            systemd::reloading();
            match self.reload().await {
                Ok(()) => {
                    self.life.reloads_applied.fetch_add(1, Ordering::Relaxed);
                    self.life.read_at_unix_s.store(unix_s(), Ordering::Relaxed);
                    self.life.reload_failed.store(false, Ordering::Relaxed);
                }
                Err(why) => {
                    self.life.reloads_refused.fetch_add(1, Ordering::Relaxed);
                    self.life.reload_failed.store(true, Ordering::Relaxed);
                    why.lines().for_each(|line| log::error!("{line}"));
                    log::error!("SIGHUP: nothing was changed: the settings have faults");
                }
            }
            systemd::ready();
        }
        // There is no such signal any more; the others are waited for elsewhere.
        std::future::pending().await
    }

    /// What holds now.
    pub fn config(&self) -> Ref<'_, Config> {
        Ref::map(self.running.borrow(), |running| &running.config)
    }

    /// Errors: why nothing was changed, a line for each reason.
    async fn reload(&self) -> Result<(), String> {
        let (mut wanted, warnings) = (self.load)().map_err(text)?;
        let changes = self.judge(&mut wanted)?;
        // What can fail comes first, and the certificates last of that, so that all is changed or nothing.
        let desk = self.running.borrow().desk.renewed(&wanted).map_err(text)?;
        let tls = match (&mut self.running.borrow_mut().tls, wanted.tls.cert_pem_file.is_empty()) {
            (Some(tls), false) => Some(tls.reload(&wanted.tls).map_err(text)?),
            _ => None,
        };
        let limits = config::engine_config(&wanted);
        let limits = Arc::new(self.running.borrow().limits.renewed(&limits));
        let node = Arc::new(self.running.borrow().node.renewed(&wanted, desk.entrance()));
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        self.door.limit_addresses(&limits);
        self.memory.set(&wanted);
        self.shards.tell_settings(&node, &limits).await;
        if let Some(tls) = &tls {
            self.shards.tell_tls(tls);
        }
        let renewed = self.control.borrow().reloaded(&wanted, desk.caller());
        self.control.send_replace(Arc::new(renewed));
        // The shards know by now of which endpoints they are to expect keys.
        desk.begin(&self.shards);
        say(&changes, tls.is_some());
        let mut running = self.running.borrow_mut();
        (running.config, running.node, running.limits, running.desk) = (wanted, node, limits, desk);
        Ok(())
    }

    /// What is different. Errors: why it cannot be taken over at all.
    fn judge(&self, wanted: &mut Config) -> Result<Changes, String> {
        let Running { config, started, .. } = &*self.running.borrow();
        // Defaults hang on it, among them who is let in.
        if config.dev != wanted.dev {
            return Err(format!("dev ({} -> {}) needs a restart", config.dev, wanted.dev));
        }
        if config.http_api.key_generated && wanted.http_api.key_generated {
            wanted.http_api.key.clone_from(&config.http_api.key);
        }
        let live = config::changes(config, wanted).live;
        Ok(Changes { live, at_start: config::changes(started, wanted).at_start })
    }
}

/// An error with its mend, of which each has a line.
fn text(error: impl Display) -> String {
    error.to_string()
}

/// Names alone where the value is a secret.
fn say(changes: &Changes, certificates: bool) {
    let Changes { live, at_start } = changes;
    let files = if certificates { ", and certificates and keys were read again" } else { "" };
    match live.is_empty() {
        true => log::info!("SIGHUP: no setting that can be changed now is different{files}"),
        false => log::info!("SIGHUP: these hold from now on{files}: {}", live.join(", ")),
    }
    if !at_start.is_empty() {
        log::warn!("SIGHUP: these need a restart, and are as before until then: {}", at_start.join(", "));
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
