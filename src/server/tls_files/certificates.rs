//! Certificate chains and keys from their files, and the choice of a certificate for a client.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};

use super::tls_error::TlsError;
use crate::config;

/// A certificate that expires sooner is warned about.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// The certificates, by the names in them.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// For a client that names no server, or one that no certificate is for.
    default: Arc<CertifiedKey>,
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

/// A file, and the setting that names it.
#[derive(Clone, Copy)]
struct File<'a> {
    setting: &'static str,
    path: &'a str,
}

impl Certificates {
    pub(crate) fn read(config: &config::Tls, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = File { setting: "tls.cert_pem_file", path: &config.cert_pem_file };
        let key = match config.key_pem_file.as_str() {
            "" => chain,
            path => File { setting: "tls.key_pem_file", path },
        };
        let mut by_name = HashMap::new();
        let default = read_pair(chain, key, provider, &mut by_name)?;
        for path in &config.more_certificates {
            let file = File { setting: "tls.more_certificates", path };
            read_pair(file, file, provider, &mut by_name)?;
        }
        Ok(Self { default, by_name })
    }

    /// The certificates for a server name, or for the name with `*` as its first label.
    fn for_name(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let exact = self.by_name.get(name);
        let wildcard = || self.by_name.get(format!("*.{}", name.split_once('.')?.1).as_str());
        exact.or_else(wildcard).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
        let is_supported = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(Arc::clone(self.for_name(&name).iter().find(is_supported).unwrap_or(&self.default)))
    }
}

/// Reads a chain and its key, and enters them under the names of the chain's first certificate.
fn read_pair(
    chain_file: File<'_>,
    key_file: File<'_>,
    provider: &CryptoProvider,
    by_name: &mut HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain_error = |what: String| TlsError {
        setting: chain_file.setting,
        file: chain_file.path.to_owned(),
        what,
        fix: "It must hold the certificate in PEM, followed by the intermediate certificates, as ACME clients write \
              fullchain.pem.",
    };
    let key_error = |what: String| TlsError {
        setting: key_file.setting,
        file: key_file.path.to_owned(),
        what,
        fix: "It must hold the certificate's private key in PEM, unencrypted and readable by this user: ECDSA, Ed25519, or RSA \
              of at least 2048 bits.",
    };
    let chain = read_chain(chain_file.path).map_err(chain_error)?;
    let names = log_certificate(chain_file.path, &chain[0]).map_err(chain_error)?;
    let key = read_pem(key_file.path).and_then(|pem| PrivateKeyDer::from_pem_slice(&pem));
    let key = key.map_err(|error| key_error(pem_error(&error, "private key")))?;
    warn_if_world_readable(key_file.setting, key_file.path);
    let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            key_error(format!("the key does not belong to the certificate in {}", chain_file.path))
        }
        error => key_error(format!("the key cannot be used: {error}")),
    })?;
    let pair = Arc::new(pair);
    for name in names {
        by_name.entry(name).or_default().push(Arc::clone(&pair));
    }
    Ok(pair)
}

/// The certificates of a file, at least one.
pub(crate) fn read_chain(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_pem(file).map_err(|error| pem_error(&error, "certificate"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem);
    let chain = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| pem_error(&error, "certificate"))?;
    if chain.is_empty() { Err("it holds no certificate".into()) } else { Ok(chain) }
}

/// The bytes of a file without a byte order mark, which some editors write and which would hide the first line.
fn read_pem(file: &str) -> Result<Vec<u8>, rustls::pki_types::pem::Error> {
    let bytes = std::fs::read(file).map_err(rustls::pki_types::pem::Error::Io)?;
    Ok(bytes.strip_prefix("\u{feff}".as_bytes()).map(<[u8]>::to_vec).unwrap_or(bytes))
}

/// Logs a certificate's names and validity, with a warning if it has expired or soon will. Returns the names.
fn log_certificate(file: &str, certificate: &CertificateDer<'_>) -> Result<Vec<Box<str>>, String> {
    let invalid = |error: webpki::Error| format!("its first certificate cannot be read: {error}");
    let certificate = EndEntityCert::try_from(certificate).map_err(invalid)?;
    let names: Vec<Box<str>> = certificate.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect();
    let (not_before, not_after) = validity(&certificate).map_err(invalid)?;
    let date = |seconds| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let valid = format!("valid from {} to {}", date(not_before), date(not_after));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < not_before || now > not_after {
        log::warn!("{file}: the certificate is not valid now ({valid}): clients will reject it");
    } else if not_after - now < EXPIRES_SOON.as_secs() {
        log::warn!("{file}: the certificate expires soon ({valid}): renew it and send SIGHUP");
    }
    let named = if names.is_empty() { "without a DNS name".into() } else { format!("for {}", names.join(", ")) };
    log::info!("{file}: read a certificate {named}, {valid}");
    Ok(names)
}

/// The first and the last second in which a certificate is valid, since 1970. `webpki` tells them only in the errors of a
/// check at another time; it makes that check before it looks for the issuer, so that no trust anchor is needed.
fn validity(certificate: &EndEntityCert<'_>) -> Result<(u64, u64), webpki::Error> {
    let check_at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
    };
    let not_before = match check_at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        Some(error @ (webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::InvalidCertValidity)) => {
            return Err(error);
        }
        _ => 0,
    };
    let not_after = match check_at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        Some(error) => return Err(error),
        None => u64::MAX,
    };
    Ok((not_before, not_after))
}

fn pem_error(error: &rustls::pki_types::pem::Error, wanted: &str) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => format!("it holds no {wanted}"),
        error => format!("it is not PEM: {error:?}"),
    }
}

/// A secret that every user of the host can read is not secret.
pub(crate) fn warn_if_world_readable(setting: &str, file: &str) {
    if std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o004 != 0) {
        log::warn!(
            "{setting}: every user of this host can read {file}: run chmod 640 and give it this process's group"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_validity_of_a_certificate_are_read() {
        let mut params = rcgen::CertificateParams::new(["A.example".to_owned(), "*.b.example".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 9, 9);
        params.not_after = rcgen::date_time_ymd(2033, 5, 18);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let certificate = EndEntityCert::try_from(&der).unwrap();
        assert_eq!(validity(&certificate), Ok((999_993_600, 1_999_987_200)));
        let names = log_certificate("file", &der).unwrap();
        assert_eq!(names, ["a.example", "*.b.example"].map(Box::<str>::from));
    }

    #[test]
    fn file_of_a_windows_editor_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let path = std::env::temp_dir().join(format!("corecast-mark-{}.pem", std::process::id()));
        std::fs::write(&path, format!("\u{feff}{}", pem.replace('\n', "\r\n"))).unwrap();
        let chain = read_chain(path.to_str().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(chain.unwrap().len(), 1);
    }

    #[test]
    fn longest_validity_has_a_date() {
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        assert_eq!(log_certificate("file", &der).unwrap(), [Box::<str>::from("a.example")]);
        assert!(log_certificate("file", &CertificateDer::from(vec![0x30, 0])).is_err());
    }
}
