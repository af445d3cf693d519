//! Cores, listeners and TLS.

use std::net::SocketAddr;
use std::time::Duration;

use super::checks::Checks;
use crate::config::parse::scalar::show_duration;
use crate::config::schema::config::Config;
use crate::engine::mailbox::SHARDS_MAX;
use crate::engine::net::listener::Address;

pub(crate) fn cores(config: &Config, checks: &mut Checks) {
    if let Some(shards) = config.shards {
        let what = format!("{shards} is not within 1 and {SHARDS_MAX}");
        let fix = "write about as many as there are cores";
        checks.require((1..=SHARDS_MAX).contains(&shards), "shards", what, fix);
        if let Some(cores) = &config.cores {
            let what = format!("{shards} shards do not fit on {} cores", cores.len());
            let fits = shards <= cores.len() || config.oversubscribe;
            checks.require(fits, "shards", what, "list more cores, or set oversubscribe");
        }
    }
    if let Some(cores) = &config.cores {
        let what = format!("{} cores are more than the {SHARDS_MAX} shards of one process", cores.len());
        let fits = cores.len() <= SHARDS_MAX || config.shards.is_some();
        checks.require(fits, "cores", what, "list fewer, or set shards");
    }
}

pub(crate) fn listeners(config: &Config, checks: &mut Checks) {
    let listeners = &config.listeners;
    for (index, listen) in listeners.iter().enumerate() {
        let any_port = matches!(listen.address, Address::Tcp(address) if address.port() == 0);
        let repeated = !any_port && listeners[..index].iter().any(|other| other.address == listen.address);
        checks.require(!repeated, "listen", format!("{} is listed twice", listen.address), "list it once");
        let Address::Tcp(clients) = listen.address else { continue };
        let others = [("admin.address", config.admin.address, 9000), ("grpc_api.port", config.grpc_api.listen, 10000)];
        for (setting, other, port) in others {
            let Some(other) = other else { continue };
            let what = format!("{other} conflicts with the clients' address {clients}");
            checks.require(!conflict(clients, other), setting, what, format!("choose another port, such as {port}"));
        }
    }
    if let (Some(grpc), Some(admin)) = (config.grpc_api.listen, config.admin.address) {
        let what = format!("{grpc} conflicts with admin.address, {admin}");
        checks.require(!conflict(grpc, admin), "grpc_api.port", what, "choose another port, such as 10000");
    }
}

/// One process cannot listen on both. `[::]` is every address of both families.
fn conflict(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || (one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    one.port() == other.port() && one.port() != 0 && (covers(one, other) || covers(other, one))
}

/// TLS needs a certificate. The files themselves are checked when they are opened.
pub(crate) fn tls(config: &Config, checks: &mut Checks) {
    let tls = &config.tls;
    let has_certificate = !tls.cert_pem_file.is_empty();
    let fix = "set it to the file of your certificate, such as \"/etc/corecast/fullchain.pem\"";
    let listener = config.listeners.iter().find(|listen| listen.options.tls);
    let what = listener.map_or("tls.admin".into(), |listen| format!("the listener {listen}"));
    let is_needed = listener.is_some() || tls.admin;
    let what = format!("{what} needs a certificate");
    checks.require(!is_needed || has_certificate, "tls.cert_pem_file", what, fix);
    for (setting, is_set) in [
        ("tls.key_pem_file", !tls.key_pem_file.is_empty()),
        ("tls.more_certificates", !tls.more_certificates.is_empty()),
    ] {
        let fix = "set tls.cert_pem_file to the file of your certificate, such as \"/etc/corecast/fullchain.pem\"";
        checks.require(!is_set || has_certificate, setting, "tls.cert_pem_file is not set", fix);
    }
    let what = "client certificates are only requested over TLS, and tls.admin is false";
    let fits = tls.admin || tls.admin_client_ca_pem_file.is_empty();
    checks.require(fits, "tls.admin_client_ca_pem_file", what, "set tls.admin to true");
    let fix = "set admin.address, such as \"127.0.0.1:9000\"";
    checks.require(!tls.admin || config.admin.address.is_some(), "tls.admin", "admin.address is not set", fix);
    let (lifetime, week) = (tls.ticket_lifetime, Duration::from_secs(7 * 24 * 3600));
    let what = format!("{} is not between a minute and a week (RFC 8446, section 4.6.1)", show_duration(lifetime));
    let fits = lifetime >= Duration::from_secs(60) && lifetime <= week;
    checks.require(fits, "tls.ticket_lifetime", what, "write a time such as \"12h\"");
}
