//! The byte stream of a connection: a socket, or TLS over one.
//!
//! `read` and `write` behave like those of a socket. With TLS, the records of a write leave at once; what the socket does not take
//! stays in the session (`is_pending`). Certificates are checked against a file or not at all: the tool measures, and its only
//! secrets are those that the user gives it.

use crate::args::options::Transport;
use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, RootCertStore,
    SignatureScheme,
};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// Stored tickets; past it the oldest is dropped. The store of rustls keeps 8, a reconnect storm needs more.
const TICKETS_MAX: usize = 20_000;

/// The TLS settings for one server.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// `host` may include a port.
    pub fn new(host: &str, options: &Transport) -> Result<Self, String> {
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare).trim_matches(['[', ']']);
        let name = ServerName::try_from(bare.to_string()).map_err(|_| format!("{bare} is not a host name"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = versions.map_err(|e| e.to_string())?;
        let mut config = match &options.tls_ca {
            Some(file) => {
                let roots = read_roots(file).map_err(|e| format!("--tls-ca {file}: {e}"))?;
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            None if options.tls_insecure => {
                let verifier = Arc::new(NoVerification(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            None => return Err("wss:// needs --tls-ca FILE, or --tls-insecure to accept any certificate".into()),
        };
        config.resumption = match options.tls_resume {
            true => Resumption::store(Arc::new(SessionStore::default())),
            false => Resumption::disabled(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    /// A new session before its handshake.
    pub fn session(&self) -> Result<ClientConnection, Error> {
        let mut session = ClientConnection::new(self.config.clone(), self.name.clone())?;
        // A scenario bounds what it writes; a partial write into the session would lose bytes.
        session.set_buffer_limit(None);
        Ok(session)
    }
}

fn read_roots(file: &str) -> Result<RootCertStore, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Accepts any certificate and any signature (`--tls-insecure`).
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The sessions of one server: the key exchange group, a TLS 1.2 session, and TLS 1.3 tickets that are used once each.
#[derive(Debug, Default)]
struct SessionStore(Mutex<Sessions>);

type Sessions = (Option<NamedGroup>, Option<Tls12ClientSessionValue>, VecDeque<Tls13ClientSessionValue>);

impl SessionStore {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().expect("never poisoned: no code panics while holding the lock")
    }
}

impl ClientSessionStore for SessionStore {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.lock().0 = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().0
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().1 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().1.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().1 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let tickets = &mut self.lock().2;
        tickets.truncate(TICKETS_MAX - 1);
        tickets.push_front(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().2.pop_back()
    }
}

#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(TcpStream, Box<ClientConnection>),
}

impl Stream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    /// Whether bytes wait until the socket is writable.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.wants_write())
    }

    /// Continues the TLS handshake as far as the socket permits; returns its kind once it is complete.
    pub fn handshake(&mut self) -> io::Result<Option<HandshakeKind>> {
        let Self::Tls(socket, session) = self else { return Ok(None) };
        loop {
            write_records(socket, session)?;
            if !session.is_handshaking() {
                return Ok(session.handshake_kind());
            }
            match session.read_tls(socket) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => process_records(socket, session)?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }

    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (socket, session) = match self {
            Self::Plain(socket) => return socket.read(into),
            Self::Tls(socket, session) => (socket, session),
        };
        loop {
            match session.reader().read(into) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if session.read_tls(socket)? == 0 {
                return Ok(0);
            }
            process_records(socket, session)?;
        }
    }

    /// With TLS, all bytes are taken.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(socket, session) => {
                session.writer().write_all(bytes)?;
                write_records(socket, session)?;
                Ok(bytes.len())
            }
        }
    }

    /// Writes pending records, as far as the socket takes them.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(socket, session) => write_records(socket, session),
        }
    }
}

fn write_records(socket: &mut TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(socket) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Processes the records that were read. If the peer broke the protocol, the alert is sent first.
fn process_records(socket: &mut TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    let state = session.process_new_packets();
    write_records(socket, session)?;
    state.map(drop).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
}
