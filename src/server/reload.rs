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

use super::fleet::Shards;
use super::notify;
use super::tls::Tls;
use crate::config::{self, Changes, Config, Faults};
use crate::control;
use crate::control::life::Life;
use crate::limits::EngineLimits;
use crate::node::Settings;

/// Reads the settings from their sources, as at the start.
pub type Load = Box<dyn Fn() -> Result<(Config, Vec<String>), Faults>>;

/// What a reload replaces, and whom it tells.
pub struct Reload {
    pub load: Load,
    pub shards: Shards,
    pub life: Arc<Life>,
    pub running: RefCell<Running>,
    pub control: watch::Sender<Arc<control::Settings>>,
}

/// What holds now.
pub struct Running {
    pub config: Config,
    pub node: Arc<Settings>,
    pub limits: Arc<EngineLimits>,
    pub tls: Option<Tls>,
}

impl Reload {
    /// Reloads at each signal, for ever. Signals that come while one is handled are one.
    pub async fn run(&self, mut hup: Signal) {
        self.life.read_at_unix_s.store(unix_s(), Ordering::Relaxed);
        while hup.recv().await.is_some() {
            notify::reloading();
            match self.reload() {
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
            notify::ready();
        }
        // There is no such signal any more; the others are waited for elsewhere.
        std::future::pending().await
    }

    /// What holds now.
    pub fn config(&self) -> Ref<'_, Config> {
        Ref::map(self.running.borrow(), |running| &running.config)
    }

    /// Errors: why nothing was changed, a line for each reason.
    fn reload(&self) -> Result<(), String> {
        let (wanted, remarks) = (self.load)().map_err(text)?;
        let mut running = self.running.borrow_mut();
        let changes = config::changes(&running.config, &wanted);
        let names = |config: &Config| config.proxies.iter().map(|proxy| proxy.name.clone()).collect::<Vec<_>>();
        if names(&running.config) != names(&wanted) {
            return Err("backends came or went (proxies and the sections with proxy): that needs a restart".into());
        }
        let tls = match (&mut running.tls, wanted.tls.cert_pem_file.is_empty()) {
            (Some(tls), false) => Some(tls.reload(&wanted.tls).map_err(text)?),
            _ => None,
        };
        remarks.iter().for_each(|remark| log::warn!("{remark}"));
        let limits = EngineLimits { bytes_dry_run: wanted.client.rate_limit_dry_run, ..wanted.engine.clone() };
        running.limits = Arc::new(running.limits.renewed(&limits));
        running.node = Arc::new(running.node.renewed(&wanted));
        self.shards.tell_settings(&running.node, &running.limits);
        if let Some(tls) = &tls {
            self.shards.tell_tls(tls);
        }
        let renewed = self.control.borrow().renewed(&wanted);
        self.control.send_replace(Arc::new(renewed));
        say(&changes, tls.is_some());
        running.config = wanted;
        Ok(())
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
