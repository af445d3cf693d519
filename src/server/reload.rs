//! SIGHUP: the settings are read again from their sources, and changes apply from then on.
//!
//! A reload applies everything or nothing: if anything is wrong, in the settings or in a file that they name, nothing
//! changes. Connections keep what they were granted; the next command, publication or connection gets the new settings.
//! The log names the changes that need a restart.
//!
//! A file that is half written may still be valid, since any part of a TOML file is. Two rules protect from it: a reload
//! takes settings that were read twice with the same result, and it removes no keys (`lost_keys`).

use std::cell::{Ref, RefCell};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::backend_calls::BackendAccess;
use super::memory_watch::MemoryWatch;
use super::shard_client::ShardClient;
use super::systemd;
use super::tls_files::Tls;
use crate::admin;
use crate::admin::process_stats::ProcessStats;
use crate::auth::TokenSettings;
use crate::config::{self, Changes, Config, ConfigErrors};
use crate::engine::Admission;
use crate::engine::config::EngineConfig;
use crate::messaging::Settings;

/// Time between two readings of the settings.
const READING_PAUSE: Duration = Duration::from_millis(100);
/// Readings after the first one until two agree.
const READINGS_MAX: u32 = 20;

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
        let (mut config, remarks) = read_settled(&self.load).await?;
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
        if let Some(lost) = lost_keys(current, config) {
            return Err(format!(
                "{lost}\n  The file may be incomplete. A restart applies it, if that is what you want."
            ));
        }
        let live = config::changes(current, config).live;
        Ok(Changes { live, at_start: config::changes(started, config).at_start })
    }
}

/// Reads the settings until two readings have the same result, so that a file that is being written is read whole. Errors:
/// those of the settings, or they go on changing.
async fn read_settled(load: &Load) -> Result<(Config, Vec<String>), String> {
    let mut last = load().map_err(text);
    for _ in 0..READINGS_MAX {
        tokio::time::sleep(READING_PAUSE).await;
        let next = load().map_err(text);
        let is_same = match (&last, &next) {
            (Ok((one, _)), Ok((other, _))) => is_same(one, other),
            (Err(one), Err(other)) => one == other,
            _ => false,
        };
        if is_same {
            return next;
        }
        last = next;
    }
    Err("the settings go on changing while they are read\n  Send SIGHUP when the file is complete.".into())
}

/// Whether two readings differ in no setting. Each reading generates an API key of its own if none is set.
fn is_same(one: &Config, other: &Config) -> bool {
    let mut other = other.clone();
    if one.http_api.key_generated && other.http_api.key_generated {
        other.http_api.key.clone_from(&one.http_api.key);
    }
    config::changes(one, &other) == Changes::default()
}

/// What the new settings lack that a truncated file loses and that would refuse good clients for good: SDKs do not come back
/// from 3500 or 102.
fn lost_keys(current: &Config, new: &Config) -> Option<&'static str> {
    let has_keys = |token: Option<&TokenSettings>| token.is_some_and(|token| !token.is_empty());
    let subscription = |config: &Config| has_keys(config.client.subscription_token());
    let knows_clients = |config: &Config| {
        let client = &config.client;
        let is_open = client.insecure || client.allow_anonymous_connect_without_token;
        is_open || config.connect_proxy.is_some() || !client.token.is_empty()
    };
    let has_api_key = |config: &Config| config.http_api.key.is_some();
    [
        (
            has_keys(Some(&current.client.token)) && !has_keys(Some(&new.client.token)),
            "client.token has no key any more: every token would be refused",
        ),
        (
            knows_clients(current) && !knows_clients(new),
            "client.proxy.connect is off and there is no other way to connect: every client would be refused",
        ),
        (
            subscription(current) && !subscription(new),
            "client.subscription_token has no key any more: subscription tokens would be refused",
        ),
        (
            has_api_key(current) && !has_api_key(new) && !new.http_api.disabled,
            "http_api.key is not set any more: every call of the server API would be refused",
        ),
        (
            current.grpc_api.key.is_some() && new.grpc_api.key.is_none() && new.grpc_api.enabled,
            "grpc_api.key is not set any more: every call of the gRPC API would be refused",
        ),
        (
            !current.channel.namespaces.is_empty() && new.channel.namespaces.is_empty(),
            "channel.namespaces has no namespace any more: their channels would be unknown",
        ),
    ]
    .into_iter()
    .find_map(|(is_lost, what)| is_lost.then_some(what))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A file whose readings have these texts, the last one from then on.
    fn load(texts: &'static [&'static str]) -> (Load, std::rc::Rc<Cell<usize>>) {
        let readings = std::rc::Rc::new(Cell::new(0));
        let count = std::rc::Rc::clone(&readings);
        let load = move || {
            let text = texts[count.get().min(texts.len() - 1)];
            count.set(count.get() + 1);
            config::load_text(text, std::iter::empty())
        };
        (Box::new(load), readings)
    }

    fn config(text: &str) -> Config {
        config::load_text(text, std::iter::empty()).expect("valid settings").0
    }

    #[tokio::test(start_paused = true)]
    async fn settings_are_read_until_two_readings_agree() {
        let limit = |read: Result<(Config, Vec<String>), String>| read.map(|(config, _)| config.client.channel_limit);
        let (same, readings) = load(&["client.channel_limit = 1"]);
        assert_eq!((limit(read_settled(&same).await), readings.get()), (Ok(1), 2));
        // While a file is written, it is empty, then cut within a number, then whole.
        let (growing, readings) =
            load(&["client.channel_limit =", "client.channel_limit = 1", "client.channel_limit = 12"]);
        assert_eq!((limit(read_settled(&growing).await), readings.get()), (Ok(12), 4));
        let (wrong, _) = load(&["client.channel_limit = \"x\""]);
        assert!(read_settled(&wrong).await.is_err_and(|why| why.contains("client.channel_limit")));
        let (generated, _) = load(&["dev = true"]);
        assert!(read_settled(&generated).await.is_ok(), "each reading has an API key of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn settings_that_go_on_changing_are_refused() {
        let count = Cell::new(0);
        let load: Load = Box::new(move || {
            count.set(count.get() + 1);
            config::load_text(&format!("client.channel_limit = {}", count.get()), std::iter::empty())
        });
        assert!(read_settled(&load).await.is_err_and(|why| why.contains("go on changing")));
    }

    #[test]
    fn lost_keys_are_named_and_changed_ones_are_not() {
        let key = "\"0123456789abcdef0123456789abcdef\"";
        let all = format!(
            "[client.token]\nhmac_secret_key = {key}\n[client.subscription_token]\nenabled = true\n\
             hmac_secret_key = {key}\n[grpc_api]\nenabled = true\nkey = {key}\n[http_api]\nkey = {key}\n\
             [[channel.namespaces]]\nname = \"chat\"\n"
        );
        let current = config(&all);
        assert_eq!(lost_keys(&current, &current), None);
        let other = all.replace("0123", "9999").replace("chat", "news");
        assert_eq!(lost_keys(&current, &config(&other)), None, "they were replaced");
        let lost = |removed: &str| lost_keys(&current, &config(&all.replace(removed, ""))).unwrap_or_default();
        let section = |name: &str, rest: &str| format!("[{name}]\n{rest}");
        let hmac = format!("hmac_secret_key = {key}\n");
        assert!(lost(&section("client.token", &hmac)).starts_with("client.token"));
        let own = section("client.subscription_token", &format!("enabled = true\n{hmac}"));
        assert!(lost(&own).starts_with("client.subscription_token"));
        assert!(lost(&section("http_api", &format!("key = {key}\n"))).starts_with("http_api.key"));
        let no_grpc_key = all.replace(&format!("key = {key}\n[http_api]"), "[http_api]");
        assert!(lost_keys(&current, &config(&no_grpc_key)).is_some_and(|lost| lost.starts_with("grpc_api.key")));
        assert!(lost("[[channel.namespaces]]\nname = \"chat\"\n").starts_with("channel.namespaces"));
        let proxied = config("[client.proxy.connect]\nenabled = true\nendpoint = \"http://127.0.0.1:1/\"\n");
        assert!(lost_keys(&proxied, &config("shards = 1\n")).is_some_and(|lost| lost.contains("proxy.connect")));
        let disabled = config(&all.replace(&format!("[http_api]\nkey = {key}\n"), "[http_api]\ndisabled = true\n"));
        assert_eq!(lost_keys(&current, &disabled), None, "it is off on purpose");
    }

    #[test]
    fn every_part_of_a_settings_file_is_refused_or_keeps_the_keys() {
        let whole = "[client.token]\nhmac_secret_key = \"0123456789abcdef0123456789abcdef\"\n\
                     [http_api]\nkey = \"0123456789abcdef0123456789abcdef\"\n\
                     [[channel.namespaces]]\nname = \"chat\"\npresence = true\n";
        let current = config(whole);
        let end = whole.find("chat").expect("the name is there");
        for cut in 0..end {
            let read = config::load_text(&whole[..cut], std::iter::empty());
            assert!(read.map_or(true, |(config, _)| lost_keys(&current, &config).is_some()), "{:?}", &whole[..cut]);
        }
    }
}
