//! `tls`: certificates, and how clients resume sessions; and TLS towards brokers.

use std::fmt;
use std::time::Duration;

use super::section::section;
use crate::config::parse::broker::PemSource;
use crate::config::parse::enums::{Word, Words};
use crate::config::parse::scalar::{Bool, Files, Text, Time};

section! {
    /// The section `tls`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Tls {}

    /// PEM file with the certificate and its intermediate certificates, for listeners with "tls:". A client that sends no host
    /// name, or one that no certificate matches, gets this certificate. ECDSA keys cost the least: a full handshake with RSA
    /// costs several times one with P-256.
    cert_pem_file: String as Text = String::new(), example("\"/etc/corecast/fullchain.pem\"");

    /// PEM file with the private key of the certificate. Empty: the key is in the certificate's file.
    key_pem_file: String as Text = String::new(), example("\"/etc/corecast/privkey.pem\"");

    /// PEM files with one more certificate and its key each. A client gets the certificate for the host name it asks for (SNI);
    /// a "*" in a name matches one label. If several have the same name, the first whose key type the client supports is used.
    more_certificates: Vec<String> as Files = Vec::new(), example("[\"/etc/corecast/example.org.pem\"]");

    /// The oldest TLS version to accept, "1.2" or "1.3". Versions before 1.2 are never accepted.
    min_version: MinVersion as Word = MinVersion::V12;

    /// File with the keys of session tickets, one per line, each 32 or more random bytes in base64. The first key encrypts new
    /// tickets; all keys decrypt. Hosts with the same file resume each other's sessions, also after a restart. A key can decrypt
    /// recorded TLS 1.2 sessions: replace keys daily (add a line at the top, then send SIGHUP). Empty: the server makes its own
    /// keys and loses them when it ends.
    ticket_keys_file: String as Text = String::new(), example("\"/etc/corecast/tickets\"");

    /// Time in which a client may resume its session without a full handshake. The server replaces its own keys after this time
    /// and accepts the old ones once as long.
    ticket_lifetime: Duration as Time = Duration::from_secs(12 * 3600), restart;

    /// Accept the request of a returning client with its first bytes (0-RTT), which saves one round trip. An attacker can record
    /// early data and send it again (RFC 8446, section 8): this process accepts each ticket once, and acts on early data only if
    /// it is a request without a query, so a replay opens a connection and sends nothing on it. Sessions are then kept in this
    /// process, and ticket_keys_file has no effect.
    early_data: bool as Bool = false, restart;

    /// Serve admin.address over TLS too, with the same certificates.
    admin: bool as Bool = false, restart;

    /// PEM file with the certificate authority that must have signed the certificates of clients at admin.address. Empty: no
    /// client certificate is required.
    admin_client_ca_pem_file: String as Text = String::new(), example("\"/etc/corecast/admins.pem\"");
}

section! {
    /// TLS towards a broker: the section `tls` or `sentinel_tls` of a broker.
    #[derive(Clone, PartialEq, Eq)]
    pub struct BrokerTls {}

    /// Use TLS with the settings of this section. An address that begins with rediss:// or tls:// uses TLS also without it.
    enabled: bool as Bool = false, restart;

    /// The certificate of this server, if the broker asks for one: PEM, PEM in base64, or the path of a PEM file.
    cert_pem: String as PemSource = String::new(), restart;

    /// The key of the certificate, in the same forms.
    key_pem: String as PemSource = String::new(), restart;

    /// The certificate authorities that may have signed the broker's certificate, in the same forms. Empty: those of this machine.
    server_ca_pem: String as PemSource = String::new(), restart;

    /// Accept any certificate of the broker: an attacker on the network can then read and change everything. Only for tests.
    insecure_skip_verify: bool as Bool = false, restart;

    /// The name that the broker's certificate must have. Empty: the host of the address.
    server_name: String as Text = String::new(), restart;
}

/// Without the key.
impl fmt::Debug for BrokerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerTls").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// The oldest version that is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MinVersion {
    V12,
    V13,
}

impl Words for MinVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", Self::V12), ("1.3", Self::V13)];
}
