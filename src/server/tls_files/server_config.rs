//! The TLS configuration of the clients' listeners and of the admin address.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;

use super::certificates::{self, Certificates};
use super::tickets::{self, Tickets};
use super::tls_error::TlsError;
use crate::config::{self, MinVersion};

/// Sessions kept for clients that may return with early data; past it the oldest are dropped.
const SESSIONS_MAX: usize = 65_536;
/// Bytes of early data of one connection: an HTTP request head.
const EARLY_BYTES_MAX: u32 = 16 * 1024;

/// How sessions are resumed. It outlives every reload.
enum Resumption {
    Tickets(Arc<Tickets>),
    /// Each session at most once, as early data requires.
    Cache(Arc<ServerSessionMemoryCache>),
}

pub(crate) struct Tls {
    resumption: Resumption,
    clients: Arc<ServerConfig>,
    admin: Option<watch::Sender<Arc<ServerConfig>>>,
}

impl Tls {
    /// `None` if the settings name no certificate.
    pub(crate) fn open(config: &config::Tls) -> Result<Option<Self>, TlsError> {
        if config.cert_pem_file.is_empty() {
            return Ok(None);
        }
        let resumption = match config.early_data {
            true => Resumption::Cache(ServerSessionMemoryCache::new(SESSIONS_MAX)),
            false => Resumption::Tickets(Arc::new(Tickets::new(&config.ticket_keys_file, config.ticket_lifetime)?)),
        };
        let (clients, admin) = build(config, &resumption)?;
        let admin = admin.map(|admin| watch::channel(admin).0);
        Ok(Some(Self { resumption, clients, admin }))
    }

    /// The configuration of the clients' listeners.
    pub(crate) fn clients(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.clients)
    }

    /// The configuration of the admin address, with its later changes. `None`: the admin address uses no TLS.
    pub(crate) fn admin(&self) -> Option<watch::Receiver<Arc<ServerConfig>>> {
        self.admin.as_ref().map(watch::Sender::subscribe)
    }

    /// Reads every file again and returns the new configuration of the clients' listeners. Errors: nothing was changed.
    pub(crate) fn reload(&mut self, config: &config::Tls) -> Result<Arc<ServerConfig>, TlsError> {
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
        if let (Some(sender), Some(admin)) = (&self.admin, admin) {
            sender.send_replace(admin);
        }
        self.clients = Arc::clone(&clients);
        Ok(clients)
    }
}

/// Of the clients' listeners, and of the admin address if that uses TLS.
type Configs = (Arc<ServerConfig>, Option<Arc<ServerConfig>>);

fn build(config: &config::Tls, resumption: &Resumption) -> Result<Configs, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Arc::new(Certificates::read(config, &provider)?);
    let mut clients =
        builder(config, &provider).with_no_client_auth().with_cert_resolver(Arc::clone(&certificates) as _);
    clients.alpn_protocols = vec![b"http/1.1".to_vec()];
    match resumption {
        Resumption::Tickets(tickets) => clients.ticketer = Arc::clone(tickets) as _,
        Resumption::Cache(sessions) => {
            clients.session_storage = Arc::clone(sessions) as _;
            clients.max_early_data_size = EARLY_BYTES_MAX;
            // The response is sent before the handshake is complete; otherwise early data would save no round trip.
            clients.send_half_rtt_data = true;
        }
    }
    if !config.admin {
        return Ok((Arc::new(clients), None));
    }
    let admin = builder(config, &provider);
    let admin = match config.admin_client_ca_pem_file.as_str() {
        "" => admin.with_no_client_auth(),
        file => admin.with_client_cert_verifier(client_verifier(file, &provider)?),
    };
    let mut admin = admin.with_cert_resolver(certificates);
    admin.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(clients), Some(Arc::new(admin))))
}

fn builder(
    config: &config::Tls,
    provider: &Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let versions: &[_] = if config.min_version == MinVersion::V13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions);
    builder.expect("the provider supports both versions")
}

/// Verifies the certificates of the admin address's clients against the authorities in a file.
fn client_verifier(
    file: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let wrong = |what: String| TlsError {
        setting: "tls.admin_client_ca_pem_file",
        file: file.to_owned(),
        what,
        fix: "It must hold, in PEM, the certificates of the authorities that sign the admin address's client certificates.",
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates::read_chain(file).map_err(wrong)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("it holds a certificate that is not an authority's: {error}")))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map_err(|error| wrong(error.to_string()))
}
