//! Chains and keys from their files, and which of them a client gets.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::config;

/// A remark comes so many days before a certificate expires.
const EXPIRES_SOON_DAYS: i64 = 7;

/// The certificates, by the names in them.
#[derive(Debug)]
pub struct Certificates {
    /// For whoever asks for no name, or for one that nobody has.
    first: Arc<CertifiedKey>,
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    pub fn read(config: &config::Tls, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let key_file = match config.key_pem_file.as_str() {
            "" => ("tls.cert_pem_file", config.cert_pem_file.as_str()),
            file => ("tls.key_pem_file", file),
        };
        let mut by_name = HashMap::new();
        let chain = ("tls.cert_pem_file", config.cert_pem_file.as_str());
        let first = read_pair(chain, key_file, provider, &mut by_name)?;
        for file in &config.more_certificates {
            let both = ("tls.more_certificates", file.as_str());
            read_pair(both, both, provider, &mut by_name)?;
        }
        Ok(Self { first, by_name })
    }

    /// Those with the name, or with a `*` in the place of its first label.
    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let exact = self.by_name.get(name);
        let wild = || self.by_name.get(format!("*.{}", name.split_once('.')?.1).as_str());
        exact.or_else(wild).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
        let understood = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(Arc::clone(self.named(&name).iter().find(understood).unwrap_or(&self.first)))
    }
}

/// A chain and its key, entered under the names in its first certificate.
fn read_pair(
    (chain_setting, chain_file): (&'static str, &str),
    (key_setting, key_file): (&'static str, &str),
    provider: &CryptoProvider,
    by_name: &mut HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let of_chain = |what: String| TlsError {
        setting: chain_setting,
        file: chain_file.to_owned(),
        what,
        mend: "It must hold a certificate in PEM, then those between it and its authority, as ACME clients write \
               fullchain.pem.",
    };
    let of_key = |what: String| TlsError {
        setting: key_setting,
        file: key_file.to_owned(),
        what,
        mend: "It must hold the certificate's private key in PEM, unencrypted, readable by this user.",
    };
    let chain = chain(chain_file).map_err(of_chain)?;
    let names = look_at(chain_file, &chain[0]).map_err(of_chain)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| of_key(told(&error, "private key")))?;
    warn_of_readers(key_setting, key_file);
    let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            of_key(format!("the key is not the one of the certificate in {chain_file}"))
        }
        error => of_key(format!("the key cannot be used: {error}")),
    })?;
    let pair = Arc::new(pair);
    for name in names {
        by_name.entry(name).or_default().push(Arc::clone(&pair));
    }
    Ok(pair)
}

/// The certificates of a file, at least one.
pub fn chain(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| told(&error, "certificate"))?;
    let chain = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| told(&error, "certificate"))?;
    if chain.is_empty() { Err("there is no certificate in it".into()) } else { Ok(chain) }
}

/// A certificate's names. Says where its time is over, or nearly.
fn look_at(file: &str, certificate: &CertificateDer<'_>) -> Result<Vec<Box<str>>, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("its first certificate cannot be read: {error}"))?;
    match certificate.validity().time_to_expiration() {
        None if certificate.validity().is_valid() => {}
        None => log::warn!("{file}: the certificate is not valid now: {}", valid(&certificate)),
        Some(left) if left.whole_days() < EXPIRES_SOON_DAYS => {
            log::warn!("{file}: the certificate expires soon: {}", valid(&certificate));
        }
        Some(_) => {}
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let names: Vec<Box<str>> = names
        .iter()
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name) } else { None })
        .map(|name| name.to_ascii_lowercase().into())
        .collect();
    log::info!(
        "{file}: certificate for {}, {}",
        if names.is_empty() { "no name".into() } else { names.join(", ") },
        valid(&certificate)
    );
    Ok(names)
}

fn valid(certificate: &X509Certificate<'_>) -> String {
    let validity = certificate.validity();
    format!("valid from {} to {}", validity.not_before, validity.not_after)
}

fn told(error: &rustls::pki_types::pem::Error, wanted: &str) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => format!("there is no {wanted} in it"),
        error => format!("it is not PEM: {error:?}"),
    }
}

/// A secret that every user of the host can read is none.
pub fn warn_of_readers(setting: &str, file: &str) {
    if std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o004 != 0) {
        log::warn!(
            "{setting}: {file} can be read by every user of this host: chmod 640, and the group of this process"
        );
    }
}
