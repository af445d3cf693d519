//! Certificates, keys and tickets: from their files to what shards and the admin address speak TLS with. Read at the start,
//! and again when told to; whoever is connected keeps what he began with.

pub(crate) mod certificates;
pub(crate) mod tickets;

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;

use crate::config::{self, MinVersion};
use certificates::Certificates;
use tickets::Tickets;

/// Sessions that are kept for those who may come back with early data; past it the oldest are forgotten.
const SESSIONS_MAX: usize = 65_536;
/// Early data of one connection: a request's head.
const EARLY_BYTES_MAX: u32 = 16 * 1024;

/// A file that cannot be used, by the setting that names it.
#[derive(Debug)]
pub struct TlsError {
    pub setting: &'static str,
    pub file: String,
    pub what: String,
    pub mend: &'static str,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}\n  {}", self.setting, self.file, self.what, self.mend)
    }
}

impl std::error::Error for TlsError {}

/// How sessions are taken up again. It outlives every reload.
enum Resumption {
    Tickets(Arc<Tickets>),
    /// Each once: what early data asks for.
    Kept(Arc<ServerSessionMemoryCache>),
}

pub struct Tls {
    resumption: Resumption,
    clients: Arc<ServerConfig>,
    admin: Option<watch::Sender<Arc<ServerConfig>>>,
}

impl Tls {
    /// None where no certificate is named.
    pub fn open(config: &config::Tls) -> Result<Option<Self>, TlsError> {
        if config.cert_pem_file.is_empty() {
            return Ok(None);
        }
        let resumption = match config.early_data {
            true => Resumption::Kept(ServerSessionMemoryCache::new(SESSIONS_MAX)),
            false => Resumption::Tickets(Arc::new(Tickets::new(&config.ticket_keys_file, config.ticket_lifetime)?)),
        };
        let (clients, admin) = build(config, &resumption)?;
        let admin = admin.map(|admin| watch::channel(admin).0);
        Ok(Some(Self { resumption, clients, admin }))
    }

    /// What shards speak TLS with.
    pub fn clients(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.clients)
    }

    /// What the admin address speaks TLS with, from now on.
    pub fn admin(&self) -> Option<watch::Receiver<Arc<ServerConfig>>> {
        self.admin.as_ref().map(watch::Sender::subscribe)
    }

    /// Reads every file again: what shards speak TLS with from now on, or why all stays as it was.
    pub fn reload(&mut self, config: &config::Tls) -> Result<Arc<ServerConfig>, TlsError> {
        let keys = match &self.resumption {
            Resumption::Tickets(_) if !config.ticket_keys_file.is_empty() => {
                Some(tickets::read(&config.ticket_keys_file)?)
            }
            _ => None,
        };
        let (clients, admin) = build(config, &self.resumption)?;
        if let (Resumption::Tickets(tickets), Some(keys)) = (&self.resumption, keys) {
            tickets.replace(keys);
        }
        if let (Some(told), Some(admin)) = (&self.admin, admin) {
            told.send_replace(admin);
        }
        self.clients = Arc::clone(&clients);
        Ok(clients)
    }
}

type Built = (Arc<ServerConfig>, Option<Arc<ServerConfig>>);

/// For the clients' listeners, and for the admin address where that speaks TLS.
fn build(config: &config::Tls, resumption: &Resumption) -> Result<Built, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Arc::new(Certificates::read(config, &provider)?);
    let mut clients = begin(config, &provider).with_no_client_auth().with_cert_resolver(Arc::clone(&certificates) as _);
    clients.alpn_protocols = vec![b"http/1.1".to_vec()];
    match resumption {
        Resumption::Tickets(tickets) => clients.ticketer = Arc::clone(tickets) as _,
        Resumption::Kept(sessions) => {
            clients.session_storage = Arc::clone(sessions) as _;
            clients.max_early_data_size = EARLY_BYTES_MAX;
            // The answer goes before the hand-shake is complete, or the round trip would be saved for nothing.
            clients.send_half_rtt_data = true;
        }
    }
    if !config.admin {
        return Ok((Arc::new(clients), None));
    }
    let admin = begin(config, &provider);
    let admin = match config.admin_client_ca_pem_file.as_str() {
        "" => admin.with_no_client_auth(),
        file => admin.with_client_cert_verifier(authority(file, &provider)?),
    };
    let mut admin = admin.with_cert_resolver(certificates);
    admin.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(clients), Some(Arc::new(admin))))
}

fn begin(
    config: &config::Tls,
    provider: &Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let versions: &[_] = if config.min_version == MinVersion::V13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions);
    builder.expect("the provider speaks both versions")
}

/// Who must have signed the certificates of the admin address's clients.
fn authority(
    file: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let wrong = |what: String| TlsError {
        setting: "tls.admin_client_ca_pem_file",
        file: file.to_owned(),
        what,
        mend: "It must hold the certificates (PEM) of the authority that signs those of the admin address's clients.",
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates::chain(file).map_err(wrong)? {
        roots.add(certificate).map_err(|error| wrong(format!("no certificate of an authority: {error}")))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map_err(|error| wrong(error.to_string()))
}
