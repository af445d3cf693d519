//! `tls`: certificates, and how sessions are taken up again.

use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Empty: nothing here speaks TLS.
    pub cert_pem_file: String,
    /// Empty: the key is in the certificate's file.
    pub key_pem_file: String,
    /// Each a file with a chain and its key.
    pub more_certificates: Vec<String>,
    pub min_version: MinVersion,
    /// Empty: keys of tickets are made here, and replaced in time.
    pub ticket_keys_file: String,
    pub ticket_lifetime: Duration,
    pub early_data: bool,
    /// The admin address speaks TLS too.
    pub admin: bool,
    /// Whose certificates its clients must have. Empty: none is asked for.
    pub admin_client_ca_pem_file: String,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MinVersion {
    V12,
    V13,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert_pem_file: String::new(),
            key_pem_file: String::new(),
            more_certificates: Vec::new(),
            min_version: MinVersion::V12,
            ticket_keys_file: String::new(),
            ticket_lifetime: Duration::from_secs(12 * 3600),
            early_data: false,
            admin: false,
            admin_client_ca_pem_file: String::new(),
        }
    }
}
