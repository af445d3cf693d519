//! TLS towards brokers, from the settings.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::ClientTls;

/// The error is a sentence that names what is wrong with the certificates.
pub(crate) fn client_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(&tls.server_ca_pem)?)
    };
    let config = if tls.cert_pem.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain = certificates(&tls.cert_pem, "cert_pem")?;
        let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes())
            .map_err(|error| format!("key_pem has no private key: {error}"))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| format!("cert_pem and key_pem: {error}"))?
    };
    Ok(Arc::new(config))
}

/// What the server's certificate is checked against: the name in the settings, or the host of the address.
pub(crate) fn server_name(tls: &ClientTls, host: &str) -> Result<ServerName<'static>, String> {
    let name = if tls.server_name.is_empty() { host } else { &tls.server_name };
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is not a host name for TLS"))
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if pem.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        if roots.add_parsable_certificates(found.certs).0 == 0 {
            return Err("the machine has no root certificates to trust: set server_ca_pem".into());
        }
        return Ok(roots);
    }
    for certificate in certificates(pem, "server_ca_pem")? {
        roots.add(certificate).map_err(|error| format!("server_ca_pem: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &str, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{setting} has no certificate")),
        Err(error) => Err(format!("{setting}: {error}")),
    }
}

/// `insecure_skip_verify`: whose certificate it is does not matter; that the server has its key is still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_setting() {
        let error = |tls: ClientTls| client_config(&tls).expect_err("not PEM");
        let wrong = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        for pem in ["text", wrong] {
            assert!(error(ClientTls { server_ca_pem: pem.into(), ..ClientTls::default() }).contains("server_ca_pem"));
        }
        let insecure = ClientTls { insecure_skip_verify: true, ..ClientTls::default() };
        assert!(client_config(&insecure).is_ok());
        let pair = rcgen::generate_simple_self_signed(["broker".to_owned()]).expect("a certificate");
        let cert_pem = pair.cert.pem();
        assert!(error(ClientTls { cert_pem: cert_pem.clone(), ..insecure.clone() }).contains("key_pem"));
        let key_pem = pair.signing_key.serialize_pem();
        let whole = ClientTls { server_ca_pem: cert_pem.clone(), cert_pem, key_pem, ..ClientTls::default() };
        assert!(client_config(&whole).is_ok());
    }

    #[test]
    fn server_name_is_the_setting_or_the_host() {
        let named = ClientTls { server_name: "broker".into(), ..ClientTls::default() };
        let name = |tls: &ClientTls, host| server_name(tls, host).map(|name| name.to_str().into_owned());
        assert_eq!(name(&named, "127.0.0.1"), Ok("broker".into()));
        assert_eq!(name(&ClientTls::default(), "127.0.0.1"), Ok("127.0.0.1".into()));
        assert!(name(&ClientTls::default(), "not a name").is_err());
    }
}
