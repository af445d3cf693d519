//! The bytes below frames: a socket as it is, or TLS on one.
//!
//! Plan: `read` and `write` look like a socket's. Of TLS, what the peer must get goes out with the write that made it, and what
//! the socket did not take waits in the session (`pending`). Certificates are checked against a file or not at all: the tool
//! measures, and has no other secrets to lose than those it is given.
//! Sessions are kept by hand, since a storm holds more tickets than one browser would.

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
use std::sync::{Arc, Mutex};

/// Tickets that are kept; past it the oldest goes.
const TICKETS_MAX: usize = 20_000;

/// What TLS with one server needs.
#[derive(Clone, Debug)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secure {
    /// `host` may have a port behind it.
    pub fn new(host: &str, options: &Transport) -> Result<Self, String> {
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare).trim_matches(['[', ']']);
        let name = ServerName::try_from(bare.to_string()).map_err(|_| format!("{bare} is no host's name"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = versions.map_err(|e| e.to_string())?;
        let mut config = match &options.tls_ca {
            Some(file) => builder.with_root_certificates(roots(file)?).with_no_client_auth(),
            None if options.tls_insecure => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
            }
            None => return Err("wss:// needs --tls-ca FILE, or --tls-insecure to believe any certificate".into()),
        };
        config.resumption = match options.tls_resume {
            true => Resumption::store(Arc::new(Sessions::default())),
            false => Resumption::disabled(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    /// One more session, its hand-shake not begun.
    pub fn session(&self) -> Result<ClientConnection, String> {
        let session = ClientConnection::new(self.config.clone(), self.name.clone());
        let mut session = session.map_err(|e| e.to_string())?;
        // What a scene writes is bounded by the scene; half of a write taken would be worse.
        session.set_buffer_limit(None);
        Ok(session)
    }
}

fn roots(file: &str) -> Result<RootCertStore, String> {
    let text = |e: &dyn std::fmt::Display| format!("--tls-ca {file}: {e}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| text(&e))? {
        roots.add(certificate.map_err(|e| text(&e))?).map_err(|e| text(&e))?;
    }
    Ok(roots)
}

/// Believes any certificate, and any signature under it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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

/// The sessions of one server: each ticket of TLS 1.3 is used once.
#[derive(Debug, Default)]
struct Sessions {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder panics: it only moves values")
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        kept.tickets.push_back(value);
        if kept.tickets.len() > TICKETS_MAX {
            kept.tickets.pop_front();
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().tickets.pop_front()
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub enum Wire {
    Plain(TcpStream),
    Tls(TcpStream, Box<ClientConnection>),
}

impl Wire {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
        }
    }

    /// Whether a short read says that nothing more is there.
    pub fn short_is_drained(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Something waits until the socket is writable.
    pub fn pending(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.wants_write())
    }

    /// Steps the hand-shake as far as the socket lets it; how it was done, once it is.
    pub fn secure(&mut self) -> io::Result<Option<HandshakeKind>> {
        let Self::Tls(socket, session) = self else { return Ok(None) };
        loop {
            push(socket, session)?;
            if !session.is_handshaking() {
                return Ok(session.handshake_kind());
            }
            match session.read_tls(socket) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => take(socket, session)?,
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
            take(socket, session)?;
        }
    }

    /// Of TLS, all of it is taken.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(socket, session) => {
                session.writer().write_all(bytes)?;
                push(socket, session)?;
                Ok(bytes.len())
            }
        }
    }

    /// Writes what is pending, as far as the socket takes it.
    pub fn push(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(socket, session) => push(socket, session),
        }
    }
}

fn push(socket: &mut TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(socket) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Works on the records that were read; a fault of the peer is told to it.
fn take(socket: &mut TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    let state = session.process_new_packets();
    push(socket, session)?;
    state.map(drop).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
}
