//! The settings of TLS.

use super::{Item, item};
use crate::config::Tls;
use crate::config::typed::HttpTls;
use crate::config::value::Unit;

pub static TLS: &[Item<Tls>] = &[
    item(
        "cert_pem_file",
        Unit::Text,
        |t: &mut Tls| &mut t.cert_pem_file,
        "File (PEM) of the certificate and those between it and its authority, for listeners with \"tls:\". Whoever names no \
         host, or one that no certificate has, gets this one. ECDSA keys cost the least: a full hand-shake with RSA costs \
         several times one with P-256.",
    )
    .example("\"/etc/corecast/fullchain.pem\""),
    item(
        "key_pem_file",
        Unit::Text,
        |t: &mut Tls| &mut t.key_pem_file,
        "File (PEM) of its private key. Empty: the key is in the file of the certificate.",
    )
    .example("\"/etc/corecast/privkey.pem\""),
    item(
        "more_certificates",
        Unit::Paths,
        |t: &mut Tls| &mut t.more_certificates,
        "Files (PEM) with another certificate and its key each. A client gets the one with the host's name that he asked \
         for (SNI), a \"*\" in it stands for one label; of several with one name the first whose key he understands.",
    )
    .example("[\"/etc/corecast/example.org.pem\"]"),
    item(
        "min_version",
        Unit::Choice,
        |t| &mut t.min_version,
        "The oldest version that is spoken, \"1.2\" or \"1.3\". Older ones than 1.2 are not spoken at all.",
    ),
    item(
        "ticket_keys_file",
        Unit::Text,
        |t: &mut Tls| &mut t.ticket_keys_file,
        "File with the keys of session tickets, one a line, 32 random bytes or more in base64: the first makes tickets, all \
         are understood. Hosts with the same file take up each other's sessions, also after a restart. Whoever has a key \
         can read recorded sessions of TLS 1.2: replace them daily (new line in front, then SIGHUP). Empty: keys are made \
         here and forgotten with the process.",
    )
    .example("\"/etc/corecast/tickets\""),
    item(
        "ticket_lifetime",
        Unit::Time,
        |t| &mut t.ticket_lifetime,
        "How long a client may take up its session without a full hand-shake; keys made here are replaced after it, and \
         understood once as long.",
    ),
    item(
        "early_data",
        Unit::Switch,
        |t| &mut t.early_data,
        "Let clients that come back send their request with the first bytes (0-RTT), one round trip sooner. Early data may \
         be recorded and sent again by others (RFC 8446, section 8): each ticket is taken once by this process, and only a \
         request without a query is acted on before the hand-shake is complete, so that a replay opens a connection and \
         says nothing on it. Sessions are then kept in this process, and ticket_keys_file is of no use.",
    ),
    item(
        "admin",
        Unit::Switch,
        |t| &mut t.admin,
        "Speak TLS at admin.address too, with the same certificates.",
    ),
    item(
        "admin_client_ca_pem_file",
        Unit::Text,
        |t: &mut Tls| &mut t.admin_client_ca_pem_file,
        "File (PEM) of the authority from which clients of admin.address must have a certificate. Empty: none is asked for.",
    )
    .example("\"/etc/corecast/admins.pem\""),
];

/// The original's names for TLS at the clients' address.
pub static HTTP_TLS: &[Item<HttpTls>] = &[
    item("enabled", Unit::Switch, |t| &mut t.enabled, "Speak TLS at the address of http_server.port."),
    item("cert_pem_file", Unit::Text, |t| &mut t.cert_pem_file, "What tls.cert_pem_file is."),
    item("key_pem_file", Unit::Text, |t| &mut t.key_pem_file, "What tls.key_pem_file is."),
];
