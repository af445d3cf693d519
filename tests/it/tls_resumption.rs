//! Certificates by server name, session resumption, early data, and the admin address over TLS.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::common::tls::{Authority, handshake, kind, serve, wss};
use crate::common::{connect, raw};
use rcgen::KeyPair;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

/// Whether a client that requests `name` gets a certificate for it.
fn serves(server: &crate::common::Server, config: &Arc<ClientConfig>, name: &str) -> bool {
    handshake(server.client, config, name).is_ok()
}

#[test]
fn client_gets_the_certificate_of_the_requested_name() {
    let authority = Authority::new("names");
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let rsa = format!("{}{}", authority.signed(&["both.example"], &rsa), rsa.serialize_pem());
    let files = [
        authority.bundle("wild.pem", &["*.example.org", "example.org"]),
        authority.bundle("one.pem", &["one.example.org"]),
        authority.file("rsa.pem", &rsa),
        authority.bundle("ecdsa.pem", &["both.example"]),
    ];
    let server = authority.serve(&[("tls.more_certificates", &files.join(","))]);
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS));
    for name in ["localhost", "example.org", "any.example.org", "ONE.example.org", "both.example"] {
        assert!(serves(&server, &config, name), "{name}");
    }
    // A name without a certificate gets the first one, which does not match; `*` matches one label.
    for name in ["other.test", "a.b.example.org"] {
        assert!(!serves(&server, &config, name), "{name}");
    }
    let chain = |name: &str| {
        let stream = handshake(server.client, &config, name).expect("a handshake");
        stream.conn.peer_certificates().expect("the server sent a certificate").to_vec()
    };
    assert_ne!(chain("one.example.org"), chain("two.example.org"), "the exact name precedes the wildcard");
}

#[test]
fn sessions_resume_on_every_shard_and_after_a_restart_with_the_same_keys() {
    let authority = Authority::new("resumes");
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let older = authority.file("older", &format!("{key}\n"));
    let newer = authority.file("newer", &format!("# new\n{}\n{key}\n", data_encoding::BASE64.encode(&[8; 32])));
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client(&[version]));
        let server = authority.serve(&[("tls.ticket_keys_file", &older)]);
        assert_eq!(kind(&server, &config), HandshakeKind::Full);
        for _ in 0..12 {
            assert_eq!(kind(&server, &config), HandshakeKind::Resumed);
        }
        assert_eq!(server.metric("corecast_tls_handshakes_total", "resumed"), 12);
        drop(server);
        let server = authority.serve(&[("tls.ticket_keys_file", &newer)]);
        assert_eq!(kind(&server, &config), HandshakeKind::Resumed);
        drop(server);
        // Generated ticket keys are lost with the process.
        let server = authority.serve(&[]);
        assert_eq!(kind(&server, &config), HandshakeKind::Full);
        assert_eq!(kind(&server, &config), HandshakeKind::Resumed);
    }
}

/// Sends a request as early data. Returns whether the server accepted it as such, and the head of the response.
fn early(server: &crate::common::Server, config: &Arc<ClientConfig>, early: &[u8], behind: &[u8]) -> (bool, Vec<u8>) {
    let name = "localhost".try_into().expect("a name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let taken = session.early_data().map(|mut writer| writer.write(early).expect("it fits"));
    assert!(taken.is_none_or(|n| n == early.len()));
    let mut stream = StreamOwned::new(session, connect(server.client));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    }
    let accepted = stream.conn.is_early_data_accepted();
    if !accepted {
        stream.write_all(early).expect("the write succeeds");
    }
    stream.write_all(behind).expect("the write succeeds");
    let mut answer = vec![0; 1024];
    let mut n = 0;
    while !answer[..n].ends_with(b"here") {
        let got = stream.read(&mut answer[n..]).expect("an answer");
        assert!(got > 0, "{}", String::from_utf8_lossy(&answer[..n]));
        n += got;
    }
    answer.truncate(n);
    (accepted, answer)
}

#[test]
fn early_data_is_opt_in_and_only_opens_a_connection() {
    let authority = Authority::new("early");
    let eager = || {
        let mut config = authority.client(&[&TLS13]);
        config.enable_early_data = true;
        Arc::new(config)
    };
    let config = eager();
    let request = raw::upgrade_request("/echo").into_bytes();
    let message = raw::frame(raw::TEXT, b"here");

    let server = authority.serve(&[]);
    kind(&server, &config);
    assert!(!early(&server, &config, &request, &message).0, "early data is off by default");
    drop(server);

    let server = authority.serve(&[("tls.early_data", "true")]);
    let config = eager();
    kind(&server, &config);
    let (accepted, answer) = early(&server, &config, &request, &message);
    assert!(accepted && answer.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(server.metric("corecast_tls_early_requests_total", ""), 1);
    // A message after the head waits for the handshake and is not lost.
    kind(&server, &config);
    let both = [request.as_slice(), &message].concat();
    assert!(early(&server, &config, &both, b"").0);
    // So does a request with a query, which could contain more than the request to connect.
    kind(&server, &config);
    let query = raw::upgrade_request("/echo?x=1").into_bytes();
    assert!(early(&server, &config, &query, &message).0);
    server.wait_for_metric("corecast_tls_held_bytes", "", |bytes| bytes == 0);
}

#[test]
fn admin_address_requires_a_client_certificate_if_set() {
    let authority = Authority::new("admin");
    let bundle = authority.bundle("server.pem", &["localhost"]);
    let ask = |server: &crate::common::Server, config: ClientConfig| {
        let mut stream = handshake(server.admin, &Arc::new(config), "localhost")?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let settings = [("tls.cert_pem_file", bundle.as_str()), ("tls.admin", "true")];
    let server = serve(&settings);
    let answer = ask(&server, authority.client(rustls::ALL_VERSIONS)).expect("the server requests no certificate");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(server);

    let own = authority.own();
    let server = serve(&[settings[0], settings[1], ("tls.admin_client_ca_pem_file", &own)]);
    let known = authority.client_with(&authority.pair(&["client"]));
    assert!(ask(&server, known).expect("the certificate is accepted").starts_with("HTTP/1.1 200 "));
    ask(&server, authority.client(rustls::ALL_VERSIONS)).expect_err("the server requests a certificate");
    let other_authority = Authority::new("admin-stranger");
    let other = other_authority.pair(&["client"]);
    ask(&server, authority.client_with(&other)).expect_err("one of another authority");
    // Clients on the client address need no certificate.
    let _ = wss(&server, &Arc::new(authority.client(rustls::ALL_VERSIONS)), "/echo");
}
